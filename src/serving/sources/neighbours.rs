//! Session neighbours: what people in sessions like this one watched next.

use std::cell::RefCell;

use crate::global::{ItemHandle, Neighbour, Scratch};
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Query, SourceKind, Why};

/// Newest items of the user that the neighbours are looked for with.
const QUERY_ITEMS: usize = 10;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// See the module.
pub struct Neighbours;

impl CandidateSource for Neighbours {
    fn kind(&self) -> SourceKind {
        SourceKind::Neighbours
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let global = query.world.global;
        let session = query_session(query);
        let Some(newest) = query.history.last() else {
            return context_only(query, &session);
        };
        let limit = query.proposals();
        let found = SCRATCH.with_borrow_mut(|scratch| {
            let own = Some(newest.session);
            // What the user has had is dropped again, unless it is wanted.
            let ranked = limit + query.known.len();
            global.neighbours().recommend(&session, newest.at, own, ranked, scratch)
        });
        let items = global.items();
        let wanted = found.iter().filter(|found| query.wants(items.hash(found.item)));
        Ok(proposals(query, wanted.take(limit)))
    }
}

/// A user without history who is watching something now.
fn context_only(query: &Query<'_>, session: &[ItemHandle]) -> Result<Vec<Proposal>, String> {
    if session.is_empty() {
        return Ok(Vec::new());
    }
    let global = query.world.global;
    let found = SCRATCH.with_borrow_mut(|scratch| {
        let limit = query.proposals();
        global.neighbours().recommend(session, global.watermark(), None, limit, scratch)
    });
    Ok(proposals(query, found.iter()))
}

/// The newest items that the user liked well enough, oldest first. A click and the watch that
/// follows it are one.
fn query_session(query: &Query<'_>) -> Vec<ItemHandle> {
    let items = query.world.global.items();
    let mut session: Vec<ItemHandle> = Vec::with_capacity(QUERY_ITEMS);
    let context = query.request.context_item.as_ref().map(|i| i.as_str());
    let liked = query.history.iter().rev().filter(|h| h.is_liked());
    for handle in context.into_iter().chain(liked.map(|h| h.item)).filter_map(|i| items.find(i)) {
        if session.last() != Some(&handle) {
            session.push(handle);
        }
        if session.len() == QUERY_ITEMS {
            break;
        }
    }
    session.reverse();
    session
}

fn proposals<'f>(query: &Query<'_>, found: impl Iterator<Item = &'f Neighbour>) -> Vec<Proposal> {
    let items = query.world.global.items();
    let proposal = |found: &Neighbour| Proposal {
        item: items.name(found.item).clone(),
        hash: items.hash(found.item),
        score: found.score,
        why: Why::BecauseYouWatched(items.name(found.because).clone()),
    };
    found.map(proposal).collect()
}

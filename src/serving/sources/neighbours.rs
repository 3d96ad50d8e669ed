//! Session neighbours: what people in sessions like this one watched next.

use std::cell::RefCell;

use crate::global::{ItemHandle, Neighbour, Scratch};
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Query, SourceKind, Why};

/// Newest items of the user that the neighbours are looked for with.
const QUERY_ITEMS: usize = 20;

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
        let found = SCRATCH.with_borrow_mut(|scratch| {
            let own = Some(newest.session);
            global.neighbours().recommend(&session, newest.at, own, query.proposals(), scratch)
        });
        // Items that the neighbours were looked for with come back, as domains that repeat want
        // it. To somebody who wants nothing seen they are no news.
        let wanted = |n: &&Neighbour| query.request.include_seen || !session.contains(&n.item);
        let found = found.iter().filter(wanted);
        Ok(found.map(|n| proposal(query, n.item, n.score, n.because)).collect())
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
    Ok(found.iter().map(|n| proposal(query, n.item, n.score, n.because)).collect())
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

fn proposal(query: &Query<'_>, item: ItemHandle, score: f32, because: ItemHandle) -> Proposal {
    let items = query.world.global.items();
    let why = Why::BecauseYouWatched(items.name(because).clone());
    Proposal { item: items.name(item).clone(), score, why }
}

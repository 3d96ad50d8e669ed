//! Next-item transitions: what follows a history like the user's, whoever had it.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::event::History;
use crate::global::{Follower, FollowerScratch};
use crate::ids::{Prehashed, stable_hash};
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Query, SourceKind, Why};

thread_local! {
    static SCRATCH: RefCell<FollowerScratch> = RefCell::default();
}

/// See the module.
pub struct Transitions;

impl CandidateSource for Transitions {
    fn kind(&self) -> SourceKind {
        SourceKind::Transitions
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let global = query.world.global;
        // As the histories that the map was learned from: what vectors learn from, each once.
        let mut history: Vec<u64> = Vec::with_capacity(History::MAX);
        let context =
            query.request.context_item.as_ref().map(|i| stable_hash(i.as_str().as_bytes()));
        let liked = query.liked().filter(|liked| liked.is_positive).map(|liked| liked.hash);
        let mut met: HashSet<u64, Prehashed> = HashSet::default();
        let newest_first = context.into_iter().chain(liked).filter(|hash| met.insert(*hash));
        history.extend(newest_first.take(History::MAX));
        let wanted = |hash| query.wants(hash);
        let found = SCRATCH.with_borrow_mut(|scratch| {
            global.transitions().map().followers(&history, query.proposals(), wanted, scratch)
        });
        let name =
            |hash| global.items().find_hash(hash).map(|item| global.items().name(item).clone());
        let proposal = |one: &Follower| {
            let because = name(one.because)?;
            Some(Proposal {
                item: name(one.item)?,
                hash: one.item,
                score: one.score,
                why: Why::BecauseYouWatched(because),
            })
        };
        Ok(found.iter().filter_map(proposal).collect())
    }
}

//! Co-watched: what goes together with the items that the user liked last, whoever watched them
//! and in whatever session: statistics of single items, which know of rare ones too.

use std::sync::Arc;

use super::content::{Sum, Sums};
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{HistoryItem, Query, SourceKind, Why};

/// Newest liked items that are looked at.
const LIKED: usize = 10;
/// What an item of the history counts next to the one after it.
const RATIO: f32 = 0.8;
/// Weight beyond what was seen together with an item: one that few watched says less.
const PRIOR: f32 = 2.0;

/// See the module.
pub struct CoWatched;

impl CandidateSource for CoWatched {
    fn kind(&self) -> SourceKind {
        SourceKind::CoWatched
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let items = query.world.items;
        let liked = query.liked().filter(|liked| liked.is_positive).take(LIKED);
        let causes: Vec<&HistoryItem<'_>> = liked.collect();
        let mut sums = Sums::default();
        let mut weight = 1.0;
        for (cause, liked) in causes.iter().enumerate() {
            let features = items.features(liked.hash);
            let together = features.as_deref().map_or(&[][..], |features| &features.co_watched);
            let total: f32 = together.iter().map(|one| one.1).sum::<f32>() + PRIOR;
            for &(hash, score) in together.iter().filter(|one| query.wants(one.0)) {
                sums.add(hash, hash, weight * score / total, cause);
            }
            weight *= RATIO;
        }
        let found = sums.best(query.proposals(), u64::cmp);
        let causes: Vec<Arc<str>> = causes.iter().map(|liked| liked.item.into()).collect();
        let names = items.names(found.iter().map(|found| found.item));
        let proposal = |(found, item): (&Sum<u64>, Option<Arc<str>>)| {
            let why = Why::BecauseYouWatched(Arc::clone(&causes[found.cause]));
            Some(Proposal { item: item?, hash: found.item, score: found.score, why })
        };
        Ok(found.iter().zip(names).filter_map(proposal).collect())
    }
}

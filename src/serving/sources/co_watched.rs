//! Co-watched: what goes together with the items that the user liked last, whoever watched them
//! and in whatever session: statistics of single items, which know of rare ones too.

use std::collections::HashMap;
use std::sync::Arc;

use super::content::keep_best;
use crate::ids::Prehashed;
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{HistoryItem, Query, SourceKind, Why};

/// Newest liked items that are looked at.
const LIKED: usize = 10;
/// What an item of the history counts next to the one after it.
const RATIO: f32 = 0.8;
/// Weight beyond what was seen together with an item: one that few watched says less.
const PRIOR: f32 = 2.0;

/// An item that goes together with some of those.
struct Found {
    hash: u64,
    score: f32,
    /// The most that one of them says for it, and which.
    most: f32,
    cause: usize,
}

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
        let mut places: HashMap<u64, usize, Prehashed> = HashMap::default();
        let mut found: Vec<Found> = Vec::new();
        let mut weight = 1.0;
        for (cause, liked) in causes.iter().enumerate() {
            let features = items.features(liked.hash);
            let together = features.as_deref().map_or(&[][..], |features| &features.co_watched);
            let total: f32 = together.iter().map(|one| one.1).sum::<f32>() + PRIOR;
            for &(hash, score) in together.iter().filter(|one| query.wants(one.0)) {
                let score = weight * score / total;
                let place = *places.entry(hash).or_insert_with(|| {
                    found.push(Found { hash, score: 0.0, most: 0.0, cause });
                    found.len() - 1
                });
                let found = &mut found[place];
                found.score += score;
                if score > found.most {
                    (found.most, found.cause) = (score, cause);
                }
            }
            weight *= RATIO;
        }
        keep_best(&mut found, query.proposals(), |a, b| {
            b.score.total_cmp(&a.score).then_with(|| a.hash.cmp(&b.hash))
        });
        let causes: Vec<Arc<str>> = causes.iter().map(|liked| liked.item.into()).collect();
        let names = items.names(found.iter().map(|found| found.hash));
        let proposal = |(found, item): (&Found, Option<Arc<str>>)| {
            let why = Why::BecauseYouWatched(Arc::clone(&causes[found.cause]));
            Some(Proposal { item: item?, hash: found.hash, score: found.score, why })
        };
        Ok(found.iter().zip(names).filter_map(proposal).collect())
    }
}

//! Co-watched: what goes together with the items that the user liked last, whoever watched them
//! and in whatever session: statistics of single items, which know of rare ones too.

use std::collections::HashMap;
use std::sync::Arc;

use crate::embedding::Nearest;
use crate::ids::Prehashed;
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Query, SourceKind, Why};

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
        let mut places: HashMap<u64, usize, Prehashed> = HashMap::default();
        let mut found: Vec<(Proposal, f32)> = Vec::new();
        let mut weight = 1.0;
        for liked in query.liked().filter(|liked| liked.is_positive).take(LIKED) {
            let cause: Arc<str> = liked.item.into();
            let together = query.world.items.co_watched(liked.hash);
            let total: f32 = together.iter().map(|one| one.score).sum::<f32>() + PRIOR;
            for Nearest { item, hash, score } in together {
                if !query.wants(hash) {
                    continue;
                }
                let score = weight * score / total;
                let place = *places.entry(hash).or_insert_with(|| {
                    let why = Why::BecauseYouWatched(Arc::clone(&cause));
                    found.push((Proposal { item, hash, score: 0.0, why }, score));
                    found.len() - 1
                });
                let (proposal, best) = &mut found[place];
                proposal.score += score;
                if score > *best {
                    *best = score;
                    proposal.why = Why::BecauseYouWatched(Arc::clone(&cause));
                }
            }
            weight *= RATIO;
        }
        let mut proposals: Vec<Proposal> = found.into_iter().map(|(one, _)| one).collect();
        proposals.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.item.cmp(&b.item)));
        proposals.truncate(query.proposals());
        Ok(proposals)
    }
}

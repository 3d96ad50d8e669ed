//! Trending: what many people watch now, on this surface and over all.

use std::collections::HashSet;

use crate::ids::Prehashed;
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Query, SourceKind, Why};

/// What the best of another list is worth next to the last of this one: less, so that the seed,
/// which orders equals, never puts it before.
const ELSEWHERE: f32 = 0.9;

/// See the module.
pub struct Trending;

impl CandidateSource for Trending {
    fn kind(&self) -> SourceKind {
        SourceKind::Trending
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let global = query.world.global;
        let surface = query.request.surface.as_str();
        let limit = query.proposals();
        let mut proposals = Vec::with_capacity(limit);
        let mut there = HashSet::<u64, Prehashed>::default();
        let mut least = 1.0 / ELSEWHERE;
        for place in if surface.is_empty() { vec![""] } else { vec![surface, ""] } {
            let top = global.trending().top(place);
            let best = top.first().map_or(1.0, |t| t.1).max(f32::MIN_POSITIVE);
            // Each list is scaled to its best. What is trending elsewhere comes after what is
            // trending here: it only fills up.
            let scale = least * ELSEWHERE / best;
            let why = Why::Trending { here: !place.is_empty() };
            for &(item, score) in top.iter() {
                if proposals.len() == limit {
                    break;
                }
                let hash = global.items().hash(item);
                if query.wants(hash) && there.insert(hash) {
                    least = score * scale;
                    let item = global.items().name(item).clone();
                    proposals.push(Proposal { item, hash, score: least, why: why.clone() });
                }
            }
        }
        if global.trending().top("").is_empty() {
            return Err("nothing has been watched yet".into());
        }
        Ok(proposals)
    }
}

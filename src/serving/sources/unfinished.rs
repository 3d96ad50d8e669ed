//! Unfinished: what the user began, and might like to go on with.

use std::collections::HashSet;

use crate::event::Source;
use crate::ids::Prehashed;
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Query, SourceKind, Why};

/// Shorter items are not gone back to, in seconds: a short video given up is a dislike.
const LONG_ENOUGH_S: u32 = 120;
/// Given up before this part, it was not liked; after the other, it is as good as finished.
const BEGUN: std::ops::Range<f32> = 0.15..0.9;
/// Items put forward at most: a reminder, not the list.
const LIMIT: usize = 3;

/// See the module.
pub struct Unfinished;

impl CandidateSource for Unfinished {
    fn kind(&self) -> SourceKind {
        SourceKind::Unfinished
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let mut looked_at = HashSet::<u64, Prehashed>::default();
        let newest_first = query.history.iter().rev().filter(|h| h.source == Source::Watch);
        Ok(newest_first
            .filter(|h| looked_at.insert(h.hash))
            .filter(|h| h.duration_s >= LONG_ENOUGH_S && BEGUN.contains(&h.fraction))
            .take(LIMIT)
            .enumerate()
            .map(|(rank, h)| Proposal {
                item: h.item.into(),
                hash: h.hash,
                score: 1.0 / (1.0 + rank as f32),
                why: Why::Unfinished((h.fraction * 100.0).round() as u8),
            })
            .collect())
    }
}

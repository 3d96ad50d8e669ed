//! Selectors: which candidates make the list, in which order.

use super::pipeline::{Scored, Selector};
use super::query::{Candidate, Query};
use crate::ids::stable_hash;

/// The best by score; the seed orders equals.
pub struct Top;

impl Selector for Top {
    fn name(&self) -> &'static str {
        "top"
    }

    fn select(&self, query: &Query<'_>, mut candidates: Vec<Candidate>) -> Vec<Scored> {
        let tie = |c: &Candidate| stable_hash(&(c.hash ^ query.seed).to_le_bytes());
        let better = |a: &Candidate, b: &Candidate| {
            b.score.total_cmp(&a.score).then_with(|| tie(a).cmp(&tie(b)))
        };
        let count = query.request.count;
        if candidates.len() > count {
            candidates.select_nth_unstable_by(count, better);
            candidates.truncate(count);
        }
        candidates.sort_unstable_by(better);
        // Nothing is drawn at random here, so everything is where it is with certainty.
        candidates.into_iter().map(|candidate| Scored { candidate, propensity: 1.0 }).collect()
    }
}

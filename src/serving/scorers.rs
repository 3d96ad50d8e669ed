//! Scorers: what candidates are ranked by.

use super::blend::Totals;
use super::pipeline::Scorer;
use super::query::{Candidate, Contribution, Query};

/// Until a ranker has been trained: the mixture of what the sources guess, see [`super::blend`]. A score
/// is the probability that the item is what the user chooses next.
pub struct Mixture;

impl Scorer for Mixture {
    fn name(&self) -> &'static str {
        "mixture"
    }

    fn score(&self, query: &Query<'_>, candidates: &mut [Candidate]) {
        let blend = query.world.blends.of(query);
        let totals = Totals::of(candidates);
        let share = |c: &Contribution| blend.share(c.source, c.score, &totals);
        for candidate in candidates {
            candidate.contributions.sort_by(|a, b| share(b).total_cmp(&share(a)));
            candidate.score = candidate.contributions.iter().map(share).sum();
        }
    }
}

//! Selectors: which candidates make the list, in which order.

mod diversity;
mod exploration;
#[cfg(test)]
mod tests;

pub use diversity::intra_list_diversity;

use super::pipeline::{Scored, Selector};
use super::query::{Candidate, Query};
use crate::ids::stable_hash;

/// What a list is made by, beside the scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ListRules {
    /// λ of maximal marginal relevance, 0 to 1: an item just like one that is on the list gives
    /// way to one unlike any, of at least 1 − λ of its score. 0: the scores alone count.
    pub diversity: f64,
    /// Items of one creator in a list at most, where there are others to fill it; at least 1. What is
    /// drawn at random is not counted.
    pub max_per_creator: usize,
    /// The probability that a place of the list is given to an item drawn at random, 0 to 1.
    pub exploration: f64,
}

impl Default for ListRules {
    fn default() -> Self {
        Self { diversity: 0.1, max_per_creator: 5, exploration: 0.02 }
    }
}

/// Candidates looked at for each item of the list: those that diversity may choose from.
const WINDOW: usize = 4;

/// The best by score that are unlike each other, with some places given to exploration.
pub struct Diverse(pub ListRules);

impl Selector for Diverse {
    fn name(&self) -> &'static str {
        "diverse"
    }

    fn select(&self, query: &Query<'_>, candidates: Vec<Candidate>) -> Vec<Scored> {
        let count = query.request.count;
        let (window, mut rest) = best(query, candidates, count.saturating_mul(WINDOW));
        let (list, passed_over) = diversity::diversify(&self.0, query, window, count);
        if self.0.exploration == 0.0 {
            return list.into_iter().map(Scored::certain).collect();
        }
        rest.extend(passed_over);
        let pool = exploration::pool(query, rest);
        exploration::explore(self.0.exploration, query.seed, list, pool)
    }
}

/// The best by score, best first, and the others in any order; the seed orders equals.
fn best(
    query: &Query<'_>,
    mut candidates: Vec<Candidate>,
    count: usize,
) -> (Vec<Candidate>, Vec<Candidate>) {
    let tie = |c: &Candidate| stable_hash(&(c.hash ^ query.seed).to_le_bytes());
    let better = |a: &Candidate, b: &Candidate| {
        b.score.total_cmp(&a.score).then_with(|| tie(a).cmp(&tie(b)))
    };
    let mut rest = Vec::new();
    if candidates.len() > count {
        candidates.select_nth_unstable_by(count, better);
        rest = candidates.split_off(count);
    }
    candidates.sort_unstable_by(better);
    (candidates, rest)
}

//! Scorers: what candidates are ranked by.

use super::blend::Totals;
use super::pipeline::Scorer;
use super::query::{Candidate, Query};

/// Until a ranker has been trained: the mixture of what the sources guess, see [`super::blend`]. A score
/// is the probability that the item is what the user chooses next.
pub struct Mixture;

impl Scorer for Mixture {
    fn name(&self) -> &'static str {
        "mixture"
    }

    fn score(&self, query: &Query<'_>, candidates: &mut [Candidate]) {
        let totals = Totals::of(candidates);
        query.world.blends.of(query).mix(candidates, &totals);
    }
}

/// Weighs once more what the mixture found, where there are several sources to weigh: see
/// [`super::blend::Refinement`]. Scores stay probabilities.
pub struct Refined;

impl Scorer for Refined {
    fn name(&self) -> &'static str {
        "refined"
    }

    fn score(&self, query: &Query<'_>, candidates: &mut [Candidate]) {
        let totals = Totals::of(candidates);
        query.world.blends.of(query).refinement().apply(query, candidates, &totals);
    }
}

/// What is left of a score each time that its item was shown in vain. 1 would be to show what did
/// not please until something pleases more; nearer to 0, good items get no second chance. Measured
/// in the simulated world, `docs/benchmarks.md`.
const DISCOUNT: f64 = 0.5;

/// Fatigue: a list must not show the same again and again in vain. A score is multiplied with
/// [`DISCOUNT`] for each time that its item was shown to the user and not taken, where a showing counts
/// as likely as its place is looked at (the position effect), and half after [`super::shown::HALF_LIFE_MS`].
pub struct Fatigue;

impl Scorer for Fatigue {
    fn name(&self) -> &'static str {
        "fatigue"
    }

    fn score(&self, query: &Query<'_>, candidates: &mut [Candidate]) {
        if query.world.shown.is_empty() {
            return;
        }
        for candidate in candidates {
            let times = times_shown(query, candidate);
            if times > 0.0 {
                candidate.score *= DISCOUNT.powf(times.into());
            }
        }
    }
}

/// How often a candidate was shown since the user last watched or clicked it, decayed.
pub(super) fn times_shown(query: &Query<'_>, candidate: &Candidate) -> f32 {
    let is_known = query.known.contains(&candidate.hash);
    let acted = is_known.then(|| {
        let of_it = query.history.iter().rev().find(|event| *event.item == *candidate.item);
        of_it.map(|event| event.at)
    });
    query.world.shown.times(candidate.hash, query.at, acted.flatten())
}

//! Scorers: what candidates are ranked by.

use super::pipeline::Scorer;
use super::query::{Candidate, Query, SourceKind};

/// Until a ranker has been trained: each source's scores divided by its best, weighted, added.
pub struct Blend;

/// Session neighbours decide; trending fills up and breaks near-ties; an unfinished watch comes
/// among the first.
fn weight(source: SourceKind) -> f64 {
    match source {
        SourceKind::Neighbours => 1.0,
        SourceKind::Unfinished => 0.5,
        SourceKind::Trending => 0.05,
    }
}

impl Scorer for Blend {
    fn name(&self) -> &'static str {
        "blend"
    }

    fn score(&self, _query: &Query<'_>, candidates: &mut [Candidate]) {
        let mut best = [f32::MIN_POSITIVE; 3];
        for contribution in candidates.iter().flat_map(|c| &c.contributions) {
            let of_source = &mut best[contribution.source as usize];
            *of_source = of_source.max(contribution.score);
        }
        let share = |c: &super::query::Contribution| {
            weight(c.source) * f64::from(c.score / best[c.source as usize])
        };
        for candidate in candidates {
            candidate.contributions.sort_by(|a, b| share(b).total_cmp(&share(a)));
            candidate.score = candidate.contributions.iter().map(share).sum();
        }
    }
}

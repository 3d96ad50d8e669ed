//! Nearest: items whose live vectors fit the user's, which is folded in from their history.

use crate::model::vector::dot;
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Query, SourceKind, Why};

/// Turns inner products, which are about 1 for what a user likes, into scores whose shares are
/// guesses: exp(SHARPNESS · u·v). The blend learns whether its square root says it better.
const SHARPNESS: f32 = 8.0;
/// Newest liked items among which the cause of a recommendation is looked for.
const CAUSES: usize = 12;

/// The cause is looked for of so many items for each that is wanted: further down hardly any is
/// served, and looking costs as much as finding.
const EXPLAINED: usize = 2;

/// See the module.
pub struct Nearest;

impl CandidateSource for Nearest {
    fn kind(&self) -> SourceKind {
        SourceKind::Nearest
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let Some(user) = &query.user_vector else { return Ok(Vec::new()) };
        let items = query.world.items;
        let wanted = |hash| query.request.include_seen || !query.known.contains(&hash);
        let found = items
            .nearest(user.basis, &user.vector, query.proposals(), wanted)
            .map_err(|error| error.to_string())?;
        let causes: Vec<(&str, Vec<f32>)> = query
            .liked()
            .filter(|liked| liked.is_positive)
            .take(CAUSES)
            .filter_map(|liked| Some((liked.item, items.vector(user.basis, liked.hash())?)))
            .collect();
        let because = |hash| {
            let vector = items.vector(user.basis, hash)?;
            let fit = |cause: &&(&str, Vec<f32>)| dot(&cause.1, &vector);
            let closest = causes.iter().max_by(|a, b| fit(a).total_cmp(&fit(b)))?;
            Some(Why::CloseTo(closest.0.into()))
        };
        let explained = EXPLAINED * query.request.count;
        let proposal = |(rank, near): (usize, crate::embedding::Nearest)| Proposal {
            score: (SHARPNESS * near.score).exp().min(f32::MAX),
            why: (rank < explained).then(|| because(near.hash)).flatten().unwrap_or(Why::Fitting),
            item: near.item,
        };
        Ok(found.into_iter().enumerate().map(proposal).collect())
    }
}

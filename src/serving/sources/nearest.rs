//! Nearest: items whose live vectors fit the user's, which is folded in from their history.

use std::sync::Arc;

use crate::embedding::Nearest as Found;
use crate::model::BasisVersion;
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
        let found = items
            .nearest(user.basis, &user.vector, query.proposals(), |hash| query.wants(hash))
            .map_err(|error| error.to_string())?;
        let causes = causes(query, user.basis);
        let explained = found.len().min(EXPLAINED * query.request.count);
        let hashes = found[..explained].iter().map(|near| near.hash);
        let vectors = items.vectors(user.basis, hashes);
        let because = |rank: usize| {
            let vector = vectors.get(rank)?.as_ref()?;
            let fit = |cause: &&(Arc<str>, Vec<f32>)| dot(&cause.1, vector);
            let closest = causes.iter().max_by(|a, b| fit(a).total_cmp(&fit(b)))?;
            Some(Why::CloseTo(Arc::clone(&closest.0)))
        };
        let proposal = |(rank, near): (usize, Found)| Proposal {
            score: (SHARPNESS * near.score).exp().min(f32::MAX),
            why: because(rank).unwrap_or(Why::Fitting),
            item: near.item,
            hash: near.hash,
        };
        Ok(found.into_iter().enumerate().map(proposal).collect())
    }
}

/// The items of the history that may be a cause, with their vectors.
fn causes(query: &Query<'_>, basis: BasisVersion) -> Vec<(Arc<str>, Vec<f32>)> {
    let liked: Vec<_> = query.liked().filter(|liked| liked.is_positive).take(CAUSES).collect();
    let vectors = query.world.items.vectors(basis, liked.iter().map(|liked| liked.hash));
    let with = liked.iter().zip(vectors);
    with.filter_map(|(liked, vector)| Some((liked.item.into(), vector?))).collect()
}

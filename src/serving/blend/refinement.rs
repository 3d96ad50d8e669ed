//! The refinement of the mixture: candidates weighed once more by what is known of all of them.
//!
//! ```text
//! q(i) ∝ p(i)^θ₀ · exp(θ₁ · 8 u·v_i) · (1 + n_i)^θ₂ · Π_s (1 + p_s(i) / FLOOR)^θ_s
//! ```
//!
//! p is the mixture, u·v the inner product of the user's and the item's live vectors, n the item's
//! decayed count on the surface, p_s the guess of a source: a logarithmic pool (Genest and Zidek,
//! 1986), as the conditional logit whose weights the choices of people teach. It begins as the
//! mixture (θ₀ = 1, all else 0) and leaves it as far as choices say. So an item that fits the user *and* is
//! popular comes before one that is one of both, which no mixture can say: on KuaiRand the mixture
//! was no better than two of its sources (docs/adr/0012).

use super::{LEARNED, POWERS, Totals, voices};
use crate::model::ConditionalLogit;
use crate::serving::query::{Candidate, Query, SourceKind};

/// Features beside those of sources: mixture, vectors, popularity.
const SHARED: usize = 3;
/// Features: of the sources, trending has its count itself.
const FEATURES: usize = SHARED + LEARNED.len() - 1;
/// What inner products, which are about 1 for what a user likes, are multiplied with, so that weights
/// are of one size: as in the scores of `nearest`.
const SHARPNESS: f64 = 8.0;
/// The guess of a source that says next to nothing.
const FLOOR: f64 = 0.01;
/// The mixture's guess that is as good as none.
const LEAST: f64 = 1e-6;
/// The weights are believed to be off by a third.
const BELIEF: f64 = 10.0;
/// Choices remembered. As many as a platform's weeks have: longer was no worse, shorter noisier.
const MEMORY: f64 = 10_000.0;

type Features = [f64; FEATURES];

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Refinement(ConditionalLogit<FEATURES>);

impl Default for Refinement {
    fn default() -> Self {
        let mut weights = [0.0; FEATURES];
        weights[0] = 1.0;
        Self(ConditionalLogit::new(weights, BELIEF, MEMORY))
    }
}

impl Refinement {
    /// Learns that of candidates that were scored by the mixture the one at `chosen` was.
    pub(super) fn learn(
        &mut self,
        query: &Query<'_>,
        candidates: &[Candidate],
        totals: &Totals,
        chosen: usize,
    ) {
        self.0.learn(&features(query, candidates, totals), chosen);
    }

    /// Shares out anew among the candidates what the mixture gave all of them together. What each
    /// source added to the mixture stays as it is.
    pub fn apply(&self, query: &Query<'_>, candidates: &mut [Candidate], totals: &Totals) {
        let all: f64 = candidates.iter().map(|candidate| candidate.score).sum();
        let probabilities = self.0.probabilities(&features(query, candidates, totals));
        for (candidate, probability) in candidates.iter_mut().zip(probabilities) {
            candidate.score = all * probability;
        }
    }
}

/// What is known of each candidate. An item without a vector has the inner product 0: it neither fits
/// nor does not.
fn features(query: &Query<'_>, candidates: &[Candidate], totals: &Totals) -> Vec<Features> {
    let hashes: Vec<u64> = candidates.iter().map(|candidate| candidate.hash).collect();
    let vectors = query.user_vector.as_ref().and_then(|user| {
        // A vector of another dimension than its basis' would be a fault that `nearest` reports.
        query.world.items.scores(user.basis, &user.vector, &hashes).ok()
    });
    let global = query.world.global;
    let surface = query.request.surface.as_str();
    let of_one = |(place, candidate): (usize, &Candidate)| {
        let mut features = [0.0; FEATURES];
        let fit = vectors.as_ref().and_then(|scores| scores[place]).unwrap_or_default();
        let handle = global.items().find_hash(candidate.hash);
        let count = handle.map_or(0.0, |item| global.trending().count(surface, item));
        features[0] = candidate.score.max(LEAST).ln();
        features[1] = SHARPNESS * f64::from(fit);
        features[2] = f64::from(count).ln_1p();
        for contribution in &candidate.contributions {
            if let Some(place) = place_of(contribution.source) {
                let [guess, ..]: [f64; POWERS.len()] =
                    voices(contribution.source, contribution.score, totals);
                features[place] = (guess / FLOOR).ln_1p();
            }
        }
        features
    };
    candidates.iter().enumerate().map(of_one).collect()
}

/// The place of a source's feature; none of those that have none.
fn place_of(source: SourceKind) -> Option<usize> {
    let others = LEARNED.iter().filter(|kind| **kind != SourceKind::Trending);
    others.zip(SHARED..).find(|(kind, _)| **kind == source).map(|(_, place)| place)
}

//! Logistic regression as an extended Kalman filter: a normal posterior of all weights with its full
//! covariance, one Gauss-Newton step an example (the decoupled form of Puskorius and Feldkamp, 1991, is
//! the same with blocks).
//!
//! With x, its probability p and outcome y: v = max(p(1−p), 0.02), h = Px, q = xᵀh;
//! w += h (y − p) / (v (1/v + q)); P −= hhᵀ / (1/v + q).

use crate::model::vector::dot;

/// Variance of a weight before anything is learnt. Larger learns faster and errs more at first.
const PRIOR: f32 = 0.003;
/// What the diagonal of P grows by, so that it never stops learning. A hundred times as much lets
/// directions that no example speaks of grow without bound.
const GROWTH: f32 = 1.000_001;
/// Variance of an outcome, at least: one surprise at p near 0 or 1 must not turn everything over.
const LEAST_VARIANCE: f32 = 0.02;

/// The covariance of the weights, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Covariance {
    pub values: Vec<f32>,
    along: Vec<f32>,
}

impl Covariance {
    pub fn new(dim: usize) -> Self {
        let mut values = vec![0.0; dim * dim];
        values.iter_mut().step_by(dim + 1).for_each(|variance| *variance = PRIOR);
        Self { values, along: vec![0.0; dim] }
    }

    pub fn of(values: Vec<f32>, dim: usize) -> Self {
        Self { values, along: vec![0.0; dim] }
    }

    /// Learns that `outcome` came of `x`, to which `weights` gave the probability `p`.
    pub fn learn(&mut self, weights: &mut [f32], x: &[f32], p: f32, outcome: f32) {
        let dim = weights.len();
        let variance = (p * (1.0 - p)).max(LEAST_VARIANCE);
        for (h, row) in self.along.iter_mut().zip(self.values.chunks_exact(dim)) {
            *h = dot(row, x);
        }
        let spread = 1.0 / variance + dot(&self.along, x);
        let step = (outcome - p) / (variance * spread);
        for (w, h) in weights.iter_mut().zip(&self.along) {
            *w += h * step;
        }
        for (place, row) in self.values.chunks_exact_mut(dim).enumerate() {
            let shrink = self.along[place] / spread;
            row.iter_mut().zip(&self.along).for_each(|(value, h)| *value -= shrink * h);
            row[place] *= GROWTH;
        }
    }
}

//! Random draws, named by their occasion. Enters: a seed, a purpose and the numbers that name
//! the occasion. Leaves: a generator whose draws are the same whenever the occasion is the same.
//! Never shared between occasions, and never seeded from outside the world.

use std::f64::consts::TAU;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ids::stable_hash;

/// What a draw is for. The number is hashed into the seed, so two purposes never share draws;
/// changing one changes every world, so new purposes get new numbers.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Categories = 1,
    Creator = 2,
    Item = 3,
    PopularityRank = 4,
    Person = 5,
    SessionStart = 6,
    Mood = 7,
    Page = 8,
    Examine = 9,
    Click = 10,
    Watch = 11,
    Organic = 12,
    Shift = 13,
}

/// The draws of one occasion.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of the occasion named by `purpose` and up to four numbers, in the world `seed`.
    pub(super) fn new(seed: u64, purpose: Purpose, occasion: [u64; 4]) -> Self {
        let mut name = [0u8; 48];
        let parts = [seed, purpose as u64].into_iter().chain(occasion);
        for (slot, part) in name.chunks_exact_mut(8).zip(parts) {
            slot.copy_from_slice(&part.to_le_bytes());
        }
        Self(ChaCha8Rng::seed_from_u64(stable_hash(&name)))
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// True with probability `p`; `p` outside [0, 1] is held at its ends.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform in `0..n`, and 0 where `n` is 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }

    /// Standard normal (Box–Muller).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    /// Exponential with the given mean.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Log-normal with the given median; `spread` is the standard deviation of the logarithm.
    pub(super) fn log_normal(&mut self, median: f64, spread: f64) -> f64 {
        median * (spread * self.normal()).exp()
    }

    /// An index into `cumulative` (ascending running sums of weights), with probability
    /// proportional to its weight; 0 where there is nothing to choose from.
    pub(super) fn weighted(&mut self, cumulative: &[f64]) -> usize {
        let total = cumulative.last().copied().unwrap_or(0.0);
        let point = self.unit() * total;
        let index = cumulative.partition_point(|&sum| sum <= point);
        index.min(cumulative.len().saturating_sub(1))
    }
}

/// Running sums of `weights`, as [`Dice::weighted`] wants them.
pub(super) fn cumulative(weights: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    weights
        .into_iter()
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect()
}

/// The logistic function.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

//! Kolmogorov–Smirnov windowing (Raab, Heusinger and Schleif, "Reactive soft prototype computing
//! for concept drift streams", Neurocomputing 2020): the newest r of the last n values against r
//! drawn from the others, without replacement, by the exact test for samples of equal size.
//!
//! The test is made at every value: with many values `alpha` has to be small. After drift the
//! newest r values are what is left of the window.

use std::collections::VecDeque;

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Refused, Rule, Verdict};

/// Differences of the distributions below this are no drift, however sure.
const MIN_DISTANCE: f64 = 0.1;

/// How it is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Probability of a false detection at one value, in (0, 1).
    pub alpha: f64,
    /// n: values in the window.
    pub window: u32,
    /// r: how many are the newest, at most half of the window.
    pub newest: u32,
    /// What the draws come from.
    pub seed: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { alpha: 0.005, window: 100, newest: 30, seed: 0 }
    }
}

/// The window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kswin {
    parameters: Parameters,
    /// The oldest first.
    window: VecDeque<f64>,
    n: u64,
}

impl Kswin {
    pub(super) fn new(parameters: &Parameters) -> Result<Self, Refused> {
        let Parameters { alpha, window, newest, .. } = *parameters;
        let rule = Rule("kswin");
        rule.probability("alpha", alpha)?;
        rule.at_least("newest", newest, 2)?;
        let fits = newest <= window / 2;
        rule.check("newest", f64::from(newest), fits, "at most half of window")?;
        Ok(Self { parameters: parameters.clone(), window: VecDeque::new(), n: 0 })
    }

    pub(super) fn update(&mut self, value: f64) -> Verdict {
        let (size, newest) = (self.parameters.window as usize, self.parameters.newest as usize);
        self.n += 1;
        self.window.push_back(value);
        if self.window.len() > size {
            self.window.pop_front();
        }
        if self.window.len() < size {
            return Verdict::Stable;
        }
        let older = size - newest;
        // Draws of their own for each value, so that the state needs no generator.
        let mut draws = ChaCha8Rng::seed_from_u64(self.parameters.seed.wrapping_add(self.n));
        let drawn = index::sample(&mut draws, older, newest);
        let mut drawn: Vec<f64> = drawn.into_iter().map(|place| self.window[place]).collect();
        let mut recent: Vec<f64> = self.window.range(older..).copied().collect();
        drawn.sort_by(f64::total_cmp);
        recent.sort_by(f64::total_cmp);
        let steps = greatest_step(&drawn, &recent);
        let distance = steps as f64 / newest as f64;
        if distance <= MIN_DISTANCE || p_value(newest, steps) > self.parameters.alpha {
            return Verdict::Stable;
        }
        self.window.drain(..older);
        Verdict::Drift
    }
}

/// Size times the Kolmogorov–Smirnov distance of two sorted samples of the same size.
fn greatest_step(a: &[f64], b: &[f64]) -> usize {
    let (mut i, mut j, mut greatest) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let at = a[i].min(b[j]);
        i += a[i..].iter().take_while(|value| **value <= at).count();
        j += b[j..].iter().take_while(|value| **value <= at).count();
        greatest = greatest.max(i.abs_diff(j));
    }
    greatest
}

/// Probability that two samples of `n` values of one continuous distribution are at least `steps` /
/// n apart (Gnedenko and Korolyuk, 1951): 2 Σ_{i≥1} (−1)^(i+1) C(2n, n−i·steps) / C(2n, n).
fn p_value(n: usize, steps: usize) -> f64 {
    if steps == 0 {
        return 1.0;
    }
    let share =
        |k: usize| -> f64 { (1..=k).map(|i| (n - k + i) as f64 / (n + i) as f64).product() };
    let signed = |i: usize| if i % 2 == 1 { share(i * steps) } else { -share(i * steps) };
    (1..=n / steps).map(signed).sum::<f64>() * 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ways to deal 2n ranks to two hands, each as likely as the other.
    fn p_by_counting(n: u32, steps: usize) -> f64 {
        let hands = (0u32..1 << (2 * n)).filter(|hand| hand.count_ones() == n);
        let apart = |hand: u32| {
            let ranks = |own: bool| -> Vec<f64> {
                let is_own = |rank: &u32| (hand >> rank & 1 == 1) == own;
                (0..2 * n).filter(is_own).map(f64::from).collect()
            };
            greatest_step(&ranks(true), &ranks(false))
        };
        let (far, all) = hands
            .fold((0, 0), |(far, all), hand| (far + usize::from(apart(hand) >= steps), all + 1));
        far as f64 / all as f64
    }

    #[test]
    fn the_exact_test_counts_all_ways_to_deal_the_ranks() {
        for n in 2..=6 {
            for steps in 0..=n as usize {
                let (formula, counted) = (p_value(n as usize, steps), p_by_counting(n, steps));
                assert!((formula - counted).abs() < 1e-12, "{n} {steps}: {formula} {counted}");
            }
        }
    }

    #[test]
    fn steps_of_samples_with_ties_are_counted_after_the_ties() {
        assert_eq!(greatest_step(&[1.0, 1.0, 2.0], &[1.0, 1.0, 2.0]), 0);
        assert_eq!(greatest_step(&[0.0, 0.0, 0.0], &[1.0, 1.0, 1.0]), 3);
        assert_eq!(greatest_step(&[0.0, 1.0, 1.0], &[1.0, 1.0, 2.0]), 1);
    }
}

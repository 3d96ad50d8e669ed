//! Conditional logit: which of several options is chosen, from what is known of each (McFadden,
//! "Conditional logit analysis of qualitative choice behavior", 1974), learned one choice at a time:
//!
//! ```text
//! p(i) = exp(θ·x_i) / Σ_j exp(θ·x_j)
//! J   ← (1 − 1/memory) J + Cov_p(x)
//! θ   ← θ + (J_0 + J)⁻¹ (x_chosen − E_p(x))
//! ```
//!
//! J is the Fisher information of the choices so far, J_0 that of the belief in the first weights: a
//! natural gradient with the steps of an extended Kalman filter (Ollivier, "Online natural gradient
//! as a Kalman filter", 2018). There is no learning rate to set, and a feature that never differs
//! among options never moves its weight.

/// Weights of N features.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionalLogit<const N: usize> {
    weights: [f64; N],
    belief: f64,
    memory: f64,
    information: [[f64; N]; N],
}

impl<const N: usize> ConditionalLogit<N> {
    /// First weights; `belief` in them is 1 / σ² of what they may be off, above 0; `memory` is in
    /// choices, above 1.
    pub fn new(weights: [f64; N], belief: f64, memory: f64) -> Self {
        Self { weights, belief, memory, information: [[0.0; N]; N] }
    }

    /// θ.
    pub fn weights(&self) -> &[f64; N] {
        &self.weights
    }

    /// The probability of each option; they add up to 1. Features are finite.
    pub fn probabilities(&self, options: &[[f64; N]]) -> Vec<f64> {
        let utility = |x: &[f64; N]| x.iter().zip(&self.weights).map(|(x, w)| x * w).sum::<f64>();
        let mut odds: Vec<f64> = options.iter().map(utility).collect();
        let highest = odds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        odds.iter_mut().for_each(|odds| *odds = (*odds - highest).exp());
        let sum: f64 = odds.iter().sum();
        odds.iter_mut().for_each(|odds| *odds /= sum);
        odds
    }

    /// Learns that the option at `chosen` was. Features are finite.
    pub fn learn(&mut self, options: &[[f64; N]], chosen: usize) {
        let Some(taken) = options.get(chosen) else { return };
        let probabilities = self.probabilities(options);
        let mut mean = [0.0; N];
        for (x, p) in options.iter().zip(&probabilities) {
            mean.iter_mut().zip(x).for_each(|(mean, x)| *mean += p * x);
        }
        let kept = 1.0 - 1.0 / self.memory;
        self.information.iter_mut().flatten().for_each(|sum| *sum *= kept);
        for (x, p) in options.iter().zip(&probabilities) {
            let off: [f64; N] = std::array::from_fn(|n| x[n] - mean[n]);
            for (row, a) in self.information.iter_mut().zip(off) {
                row.iter_mut().zip(off).for_each(|(sum, b)| *sum += p * a * b);
            }
        }
        let mut equations = self.information;
        (0..N).for_each(|n| equations[n][n] += self.belief);
        let step = solve(equations, std::array::from_fn(|n| taken[n] - mean[n]));
        self.weights.iter_mut().zip(step).for_each(|(weight, step)| *weight += step);
    }
}

/// x of A x = b by Gaussian elimination, A being positive definite, which needs no pivots.
fn solve<const N: usize>(mut a: [[f64; N]; N], mut b: [f64; N]) -> [f64; N] {
    for k in 0..N {
        let (pivot, right) = (a[k], b[k]);
        for row in k + 1..N {
            let factor = a[row][k] / pivot[k];
            a[row].iter_mut().zip(pivot).for_each(|(value, p)| *value -= factor * p);
            b[row] -= factor * right;
        }
    }
    for k in (0..N).rev() {
        let known: f64 = (k + 1..N).map(|j| a[k][j] * b[j]).sum();
        b[k] = (b[k] - known) / a[k][k];
    }
    b
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn choices(seed: u64, count: usize) -> Vec<(Vec<[f64; 3]>, usize)> {
        let truth = ConditionalLogit::new([1.5, -0.7, 0.0], 1.0, 1e9);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let choice = |_| {
            let options: Vec<[f64; 3]> =
                (0..20).map(|_| std::array::from_fn(|_| random.random_range(-1.0..1.0))).collect();
            let mut point: f64 = random.random();
            let chosen = truth.probabilities(&options).iter().position(|p| {
                point -= p;
                point < 0.0
            });
            (options, chosen.unwrap_or(19))
        };
        (0..count).map(choice).collect()
    }

    #[test]
    fn the_weights_that_decide_choices_are_found() {
        let mut logit = ConditionalLogit::new([0.0; 3], 10.0, 1e6);
        choices(1, 3_000).iter().for_each(|(options, chosen)| logit.learn(options, *chosen));
        for (found, wanted) in logit.weights().iter().zip([1.5, -0.7, 0.0]) {
            // Three standard errors: a choice among twenty tells a third of a unit of information.
            assert!((found - wanted).abs() < 0.1, "{:?}", logit.weights());
        }
    }

    #[test]
    fn weights_follow_where_choices_change() {
        let mut logit = ConditionalLogit::new([-1.5, 0.7, 0.0], 10.0, 300.0);
        choices(2, 3_000).iter().for_each(|(options, chosen)| logit.learn(options, *chosen));
        assert!(logit.weights()[0] > 1.0 && logit.weights()[1] < -0.3, "{:?}", logit.weights());
    }

    #[test]
    fn what_never_differs_is_not_learned_and_no_choice_changes_nothing() {
        let mut logit = ConditionalLogit::new([1.0, 0.5], 10.0, 1e3);
        let before = logit.clone();
        logit.learn(&[[1.0, 3.0], [2.0, 3.0]], 2);
        assert_eq!(logit, before);
        (0..100).for_each(|_| logit.learn(&[[1.0, 3.0], [2.0, 3.0]], 0));
        assert!(logit.weights()[0] < 0.0 && logit.weights()[1] == 0.5, "{:?}", logit.weights());
    }

    proptest! {
        #[test]
        fn elimination_solves_the_equations(
            rows in proptest::array::uniform6(proptest::array::uniform4(-2.0f64..2.0)),
            wanted in proptest::array::uniform4(-5.0f64..5.0),
        ) {
            // RᵀR + I is positive definite.
            let product = |i: usize, j: usize| rows.iter().map(|r| r[i] * r[j]).sum::<f64>();
            let a: [[f64; 4]; 4] = std::array::from_fn(|i| {
                std::array::from_fn(|j| product(i, j) + f64::from(u8::from(i == j)))
            });
            let b = std::array::from_fn(|i| (0..4).map(|j| a[i][j] * wanted[j]).sum());
            for (got, wanted) in solve(a, b).iter().zip(wanted) {
                prop_assert!((got - wanted).abs() < 1e-9);
            }
        }

        #[test]
        fn probabilities_add_up_to_one_however_large_utilities_are(
            options in proptest::collection::vec(proptest::array::uniform3(-500.0f64..500.0), 1..40),
        ) {
            let logit = ConditionalLogit::new([3.0, -2.0, 1.0], 1.0, 10.0);
            let probabilities = logit.probabilities(&options);
            prop_assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
        }
    }
}

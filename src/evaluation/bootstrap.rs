//! Paired bootstrap intervals (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
//! chapters 8 and 13: percentile intervals, whole clusters resampled). Pure; the seed decides.
//!
//! Enters: differences between two ways on the same targets. Leaves: an interval of their mean.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ids::stable_hash;

/// Resamples. More: ends of intervals that move less with the seed; a thousand puts them within
/// a few hundredths of the interval's length.
const RESAMPLES: usize = 1_000;
/// Groups that users are dealt into. Users are independent of each other, so are groups of them;
/// more cost time and narrow nothing.
const GROUPS: usize = 2_000;

/// A mean and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Of all.
    pub mean: f64,
    /// The 2.5th percentile of the resampled means.
    pub low: f64,
    /// The 97.5th.
    pub high: f64,
}

/// One difference: the user it is of, its weight in the mean, and its value. The targets of one
/// user say similar things, so users are drawn, not targets.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// The user's number.
    pub user: u32,
    /// Above 0.
    pub weight: f64,
    /// The difference.
    pub value: f64,
}

/// The weighted mean of the differences with its interval; none of nothing.
pub fn interval(differences: impl Iterator<Item = Difference>, seed: u64) -> Option<Interval> {
    let mut groups = vec![(0.0, 0.0); GROUPS];
    for one in differences {
        let group = &mut groups[stable_hash(&one.user.to_le_bytes()) as usize % GROUPS];
        group.0 += one.weight * one.value;
        group.1 += one.weight;
    }
    groups.retain(|group| group.1 > 0.0);
    if groups.is_empty() {
        return None;
    }
    let mean = |sums: (f64, f64)| sums.0 / sums.1;
    let add = |a: (f64, f64), b: &(f64, f64)| (a.0 + b.0, a.1 + b.1);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = (0..groups.len()).map(|_| &groups[random.random_range(0..groups.len())]);
            mean(drawn.fold((0.0, 0.0), add))
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[(share * (RESAMPLES - 1) as f64).round() as usize];
    let all = mean(groups.iter().fold((0.0, 0.0), add));
    Some(Interval { mean: all, low: at(0.025), high: at(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(values: impl Iterator<Item = f64>) -> impl Iterator<Item = Difference> {
        values.enumerate().map(|(user, value)| Difference { user: user as u32, weight: 1.0, value })
    }

    #[test]
    fn an_interval_of_independent_values_is_that_of_the_normal_approximation() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let values: Vec<f64> = (0..20_000).map(|_| random.random_range(-0.5..1.0)).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let found = interval(differences(values.into_iter()), 1).unwrap();
        let half = 1.96 * deviation / n.sqrt();
        assert!((found.mean - mean).abs() < 1e-9);
        assert!(((found.high - found.low) / 2.0 / half - 1.0).abs() < 0.1, "{found:?} {half}");
    }

    #[test]
    fn a_seed_repeats_itself_and_nothing_has_no_interval() {
        let values = || differences((0..500).map(|n| f64::from(n % 7)));
        assert_eq!(interval(values(), 5), interval(values(), 5));
        assert_ne!(interval(values(), 5), interval(values(), 6));
        assert_eq!(interval(std::iter::empty(), 5), None);
    }

    #[test]
    fn many_targets_of_few_users_are_few_observations() {
        let apart = interval(differences((0..1_000).map(|n| f64::from(n % 2))), 1).unwrap();
        let one = |n: u32| Difference { user: n % 2, weight: 1.0, value: f64::from(n % 2) };
        let together = interval((0..1_000).map(one), 1).unwrap();
        assert!(apart.high - apart.low < 0.1);
        assert_eq!((together.low, together.high), (0.0, 1.0));
    }
}

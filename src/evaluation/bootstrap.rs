//! Paired bootstrap intervals (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
//! chapters 8 and 13: percentile intervals, whole clusters resampled). Pure; the seed decides.
//!
//! Enters: differences between two ways on the same targets, or any statistic of resampled users.
//! Leaves: an interval of the mean, or of the statistic.

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

/// The group that a user is dealt into, below [`GROUPS`].
pub fn group_of(user: u32) -> usize {
    stable_hash(&user.to_le_bytes()) as usize % GROUPS
}

/// The weighted mean of the differences with its interval; none of nothing.
pub fn interval(differences: impl Iterator<Item = Difference>, seed: u64) -> Option<Interval> {
    let mut groups = vec![(0.0, 0.0); GROUPS];
    let mut users = Vec::new();
    for one in differences {
        let group = &mut groups[group_of(one.user)];
        group.0 += one.weight * one.value;
        group.1 += one.weight;
        users.push(one.user);
    }
    resample(users.into_iter(), seed, |times| {
        let (sum, weight) = groups.iter().zip(times).fold((0.0, 0.0), |sums, (group, &times)| {
            (sums.0 + f64::from(times) * group.0, sums.1 + f64::from(times) * group.1)
        });
        (weight > 0.0).then(|| sum / weight)
    })
}

/// A statistic of the targets of these users with its interval. `statistic` is given how often each
/// group of [`group_of`] was drawn, first each once; resamples of which it says nothing are left
/// out. None where it says nothing of all.
pub fn resample(
    users: impl Iterator<Item = u32>,
    seed: u64,
    mut statistic: impl FnMut(&[u32]) -> Option<f64>,
) -> Option<Interval> {
    let mut times = vec![0; GROUPS];
    users.for_each(|user| times[group_of(user)] = 1);
    let there: Vec<usize> = (0..GROUPS).filter(|&group| times[group] > 0).collect();
    let mean = statistic(&times)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut found: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            times.fill(0);
            for _ in 0..there.len() {
                times[there[random.random_range(0..there.len())]] += 1;
            }
            statistic(&times)
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let at = |share: f64| {
        found.get((share * found.len().saturating_sub(1) as f64).round() as usize).copied()
    };
    Some(Interval { mean, low: at(0.025)?, high: at(0.975)? })
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

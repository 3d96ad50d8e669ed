//! Sample-ratio mismatch: arms whose sizes are not the shares that were asked for.
//!
//! Something then decides who is counted that is not the assignment: requests that one arm loses,
//! records dropped, a share changed in the midst. No comparison of such arms can be believed, whatever
//! its interval. An arm that makes people come more often shows here too: then too, what it shows
//! is not what the other arm's users would have seen.
//!
//! Lists of one user land together, so Pearson's χ² over lists would find a mismatch wherever
//! users differ in how much they watch. Here the spread is that between groups of users, and
//! the evidence is an e-value, so it may be looked at again and again.

use super::sequential::{LEAST_UNITS, Rule, mixture};

/// Probability below which sizes are no chance: small, as it stops an experiment. Larger: false
/// stops. Smaller: small losses are found later.
pub const MISMATCH: f64 = 0.001;

/// The probability that arms ever look as uneven as they do now, though users landed in them by their
/// shares. `units` are groups of users, with how many lists each arm had of them; `shares` need not sum
/// up to 1. `tuning` is how many lists it is to be most sensitive at.
///
/// `None` where it cannot be said: fewer than two arms with a share, or an arm with
/// fewer than [`LEAST_UNITS`] units by what its share lets expect.
pub fn probability<'a>(
    units: impl Iterator<Item = &'a [u64]> + Clone,
    shares: &[f64],
    tuning: f64,
) -> Option<f64> {
    let arms: Vec<usize> = (0..shares.len()).filter(|arm| shares[*arm] > 0.0).collect();
    let whole: f64 = shares.iter().sum();
    let of = |unit: &[u64], arm: usize| unit.get(arm).copied().unwrap_or(0) as f64;
    let size = |unit: &[u64]| arms.iter().map(|arm| of(unit, *arm)).sum::<f64>();
    let (filled, lists) = units
        .clone()
        .map(size)
        .filter(|size| *size > 0.0)
        .fold((0u64, 0.0), |(units, lists), size| (units + 1, lists + size));
    if arms.len() < 2 || filled < LEAST_UNITS {
        return None;
    }
    let time = lists * mixture(Rule { alpha: MISMATCH, tuning });
    let mut evidence = 0.0;
    for arm in &arms {
        let share = shares[*arm] / whole;
        let residuals = units.clone().map(|unit| of(unit, *arm) - share * size(unit));
        // Around what the share lets expect, not around their mean: one busy group then counts for
        // as much in the spread as in the sum.
        let (sum, squares) = residuals.fold((0.0, 0.0), |(s, q), r| (s + r, q + r * r));
        if squares <= 0.0 {
            continue;
        }
        let chi_square = sum * sum / squares;
        evidence += (chi_square / 2.0 * time / (time + 1.0) - (time + 1.0).ln() / 2.0).exp();
    }
    // A mean of e-values is one.
    Some((arms.len() as f64 / evidence).min(1.0))
}

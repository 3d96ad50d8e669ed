//! Exponential decay without the C library, whose `exp2` differs from one to the next by a last
//! bit: only products and sums, which IEEE 754 fixes.

use std::f64::consts::LN_2;

/// 2^(−`half_lives`), to about 1e-15; 0 below the smallest normal number. `half_lives` ≥ 0; NaN
/// gives NaN.
pub fn decayed(half_lives: f64) -> f64 {
    if half_lives >= 1_022.0 {
        return 0.0;
    }
    let whole = half_lives.floor();
    let exponent = (whole - half_lives) * LN_2;
    // Taylor series of e^x on (−ln 2, 0]: the 17th term is below 1e-17.
    let series = (1..=17).rev().fold(1.0, |sum, k| 1.0 + sum * exponent / f64::from(k));
    series * f64::from_bits((1_023 - whole as u64) << 52)
}

/// Weights of a history by recency: `newest · ratio^gap`, where gap 0 is the newest entry, for the
/// newest `limit` entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryWeights {
    /// Weight of the newest entry.
    pub newest: f32,
    /// What each older one has of the next newer one's.
    pub ratio: f32,
    /// Entries used.
    pub limit: u32,
}

impl HistoryWeights {
    /// For sessions of clicks: what was just looked at says most.
    pub const SESSIONS: Self = Self { newest: 0.3, ratio: 0.7, limit: 20 };
    /// For videos watched over days: taste changes slowly.
    pub const VIDEOS: Self = Self { newest: 1.0, ratio: 0.95, limit: 50 };

    /// The weights, the newest entry's first.
    pub fn iter(self) -> impl Iterator<Item = f32> {
        let next = move |weight: &f32| Some(weight * self.ratio);
        std::iter::successors(Some(self.newest), next).take(self.limit as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decay_is_a_power_of_two(x in 0.0f64..1_000.0) {
            prop_assert!((decayed(x) / (-x).exp2() - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn decay_is_exact_at_whole_half_lives_and_ends_at_zero() {
        for n in 0..1_022 {
            assert_eq!(decayed(f64::from(n)), 0.5f64.powi(n));
        }
        assert_eq!([1_022.0, 1e300, f64::INFINITY].map(decayed), [0.0; 3]);
        assert!(decayed(f64::NAN).is_nan());
    }

    #[test]
    fn weights_fall_from_the_newest() {
        let weights: Vec<f32> = HistoryWeights::SESSIONS.iter().collect();
        assert_eq!(weights.len(), 20);
        assert_eq!(weights[..2], [0.3, 0.3 * 0.7]);
    }
}

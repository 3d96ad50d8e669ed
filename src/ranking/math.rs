//! Logarithms and exponentials of f32 from products and sums alone, which IEEE 754 fixes: the C
//! library's differ by a last bit from one machine to the next, and features are learnt from on
//! another than they were served by. They are also several times as fast.

use std::f32::consts::{LN_2, LOG2_E, SQRT_2};

/// ln x to about 1e-7 of itself, for finite x > 0; what is below the smallest normal number counts
/// as that.
pub(super) fn ln(x: f32) -> f32 {
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let (mut exponent, mut mantissa) =
        ((bits >> 23) as i32 - 127, f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000));
    if mantissa > SQRT_2 {
        (exponent, mantissa) = (exponent + 1, mantissa / 2.0);
    }
    // ln m = 2 artanh((m − 1)/(m + 1)), whose argument is below 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    exponent as f32 * LN_2 + 2.0 * s * series
}

/// 2^x to about 1e-7 of itself; 0 from −126 down, 2^127 from 127 up.
pub(super) fn exp2(x: f32) -> f32 {
    if x <= -126.0 {
        return 0.0;
    }
    let x = x.min(127.0);
    let whole = (x + 0.5).floor();
    let y = (x - whole) * LN_2;
    // Taylor series of e^y on [−0.35, 0.35].
    let series = 1.0
        + y * (1.0
            + y * (1.0 / 2.0
                + y * (1.0 / 6.0
                    + y * (1.0 / 24.0 + y * (1.0 / 120.0 + y * (1.0 / 720.0 + y / 5040.0))))));
    series * f32::from_bits(((whole as i32 + 127) as u32) << 23)
}

/// 1 / (1 + e^−x).
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp2(-x.clamp(-80.0, 80.0) * LOG2_E))
}

/// ln(p / (1 − p)), where p is kept in [0.005, 0.995]: a rate of few trials says no more.
pub(super) fn logit(p: f32) -> f32 {
    let p = p.clamp(0.005, 0.995);
    ln(p / (1.0 - p))
}

/// What is left of a decayed sum after so many milliseconds; all of it where time went back.
pub(super) fn left(elapsed_ms: i64, half_life_ms: i64) -> f32 {
    if half_life_ms == i64::MAX || elapsed_ms <= 0 {
        return 1.0;
    }
    exp2(-((elapsed_ms as f64 / half_life_ms as f64) as f32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_the_libraries_functions(x in -100f32..100.0, y in 1e-30f32..1e30) {
            prop_assert!((exp2(x) / x.exp2() - 1.0).abs() < 3e-7);
            prop_assert!((ln(y) - y.ln()).abs() <= 3e-7 * y.ln().abs().max(1.0));
            prop_assert!((sigmoid(x) - 1.0 / (1.0 + (-x).exp())).abs() < 3e-7);
        }
    }

    #[test]
    fn ends_of_the_range_stay_finite() {
        assert_eq!(exp2(f32::NEG_INFINITY), 0.0);
        for x in [ln(0.0), ln(f32::MAX), exp2(1e9), sigmoid(-1e9), sigmoid(1e9), logit(0.0)] {
            assert!(x.is_finite(), "{x}");
        }
        assert_eq!([left(0, 1), left(-5, 1), left(5, i64::MAX)], [1.0; 3]);
        assert_eq!(left(2, 1), 0.25);
    }
}

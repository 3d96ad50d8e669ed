//! The χ² distribution: what statistics of bins follow where nothing has changed.

use std::f64::consts::PI;

/// Terms of a series or a fraction: far more than half-integers up to thousands need.
const TERMS: usize = 10_000;
/// Steps of a bisection: an interval is halved down to neighbouring floats.
const HALVINGS: usize = 200;

/// ln Γ(k / 2), by Γ(a + 1) = a Γ(a) from Γ(1) = 1 and Γ(½) = √π.
fn ln_gamma_half(k: u32) -> f64 {
    let begin = if k.is_multiple_of(2) { 0.0 } else { PI.sqrt().ln() };
    let first = if k.is_multiple_of(2) { 2 } else { 1 };
    begin + (first..k).step_by(2).map(|j| (f64::from(j) / 2.0).ln()).sum::<f64>()
}

/// Probability that χ² of `degrees` of freedom (at least 1) exceeds `x`: the regularised upper
/// incomplete gamma function Q(degrees/2, x/2), by its series below degrees/2 + 1 and by its
/// continued fraction (Lentz's method) above.
pub(super) fn exceeds(degrees: u32, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let (a, z) = (f64::from(degrees) / 2.0, x / 2.0);
    let front = (a * z.ln() - z - ln_gamma_half(degrees)).exp();
    if z < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for n in 1..TERMS {
            term *= z / (a + n as f64);
            sum += term;
            if term < sum * f64::EPSILON {
                break;
            }
        }
        return 1.0 - front * sum;
    }
    let tiny = f64::MIN_POSITIVE / f64::EPSILON;
    let mut b = z + 1.0 - a;
    let (mut c, mut d) = (1.0 / tiny, 1.0 / b);
    let mut fraction = d;
    for n in 1..TERMS {
        let numerator = -(n as f64) * (n as f64 - a);
        b += 2.0;
        d = 1.0 / away_from_zero(numerator * d + b, tiny);
        c = away_from_zero(b + numerator / c, tiny);
        fraction *= c * d;
        if (c * d - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    front * fraction
}

fn away_from_zero(value: f64, tiny: f64) -> f64 {
    if value.abs() < tiny { tiny } else { value }
}

/// What χ² of `degrees` of freedom exceeds with a probability in (0, 1).
pub(super) fn quantile(degrees: u32, probability: f64) -> f64 {
    let (mut low, mut high) = (0.0, f64::from(degrees));
    while exceeds(degrees, high) > probability {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if exceeds(degrees, middle) > probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

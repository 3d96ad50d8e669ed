//! Two arms compared as often as one likes: an interval around the uplift that holds at all looks
//! together.
//!
//! What an arm is known by is a ratio of two sums over independent units: clicks by impressions over
//! groups of users. A mean is a ratio whose denominators are 1. The variance of a ratio is by
//! the delta method, from the units' squares and products, that of the uplift by the delta method
//! once more (GrowthBook's formulas). The interval is the asymptotic confidence sequence of
//! Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and
//! asymptotic confidence sequences" (2021), with a normal mixture.
//!
//! With s the standard error, n what has been observed and ρ the mixture's width, it is
//! s √(2 (nρ² + 1) / (nρ²) · ln(√(nρ² + 1) / α)) to either side. It is wider than one that is made for
//! a single look: by half where n is what it is tuned for, and more elsewhere.

/// Fewest units of an arm with something in their denominators. Fewer say too little about their own
/// spread, and the interval would be too narrow. More: nothing is said for longer.
pub const LEAST_UNITS: u64 = 30;

/// Sums over the units of an arm, each with a numerator and a denominator.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Units.
    pub units: u64,
    /// Sum of numerators.
    pub numerator: f64,
    /// Sum of denominators.
    pub denominator: f64,
    /// Sum of the squares of numerators.
    pub numerator_squares: f64,
    /// Sum of the squares of denominators.
    pub denominator_squares: f64,
    /// Sum of numerator times denominator.
    pub products: f64,
}

impl Moments {
    /// Adds a unit.
    pub fn add(&mut self, numerator: f64, denominator: f64) {
        self.units += 1;
        self.numerator += numerator;
        self.denominator += denominator;
        self.numerator_squares += numerator * numerator;
        self.denominator_squares += denominator * denominator;
        self.products += numerator * denominator;
    }

    /// The ratio of the sums. `None` where there is no denominator.
    pub fn ratio(&self) -> Option<f64> {
        (self.denominator > 0.0).then(|| self.numerator / self.denominator)
    }

    /// Variance of the ratio: that of the residuals, numerator − ratio × denominator, over the units.
    /// Residuals sum up to 0, so there is no mean to subtract.
    fn variance(&self, ratio: f64) -> f64 {
        let squares = self.numerator_squares - 2.0 * ratio * self.products
            + ratio * ratio * self.denominator_squares;
        let units = self.units as f64;
        squares.max(0.0) * units / (units - 1.0) / (self.denominator * self.denominator)
    }
}

/// What is known of an arm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arm {
    /// What has been observed, on the clock of [`Rule::tuning`].
    pub observations: u64,
    /// Sums over its units.
    pub moments: Moments,
}

/// What an interval promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Probability that the interval ever leaves out the truth, in (0, 1).
    pub alpha: f64,
    /// Observations of both arms at which the interval is narrowest for what is known.
    pub tuning: f64,
}

/// How the treatment does, next to the control.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The treatment's ratio.
    pub treatment: f64,
    /// The control's ratio.
    pub control: f64,
    /// Treatment / control − 1.
    pub uplift: f64,
    /// Its standard error: one look's.
    pub error: f64,
    /// Where the interval begins.
    pub lower: f64,
    /// Where it ends.
    pub upper: f64,
    /// The largest alpha at which 0 was still within: a p-value that holds at any number of looks.
    pub p_value: f64,
}

impl Comparison {
    /// Whether the interval leaves out 0.
    pub fn is_decided(&self) -> bool {
        self.lower > 0.0 || self.upper < 0.0
    }
}

/// Compares two arms. `None` where there is too little to say anything: fewer than [`LEAST_UNITS`] units
/// of either, nothing that the control could be compared to, or no spread at all.
pub fn compare(treatment: &Arm, control: &Arm, rule: Rule) -> Option<Comparison> {
    let enough = |arm: &Arm| arm.moments.units >= LEAST_UNITS;
    if !(enough(treatment) && enough(control)) {
        return None;
    }
    let (t, c) = (treatment.moments.ratio()?, control.moments.ratio()?);
    if c <= 0.0 {
        return None;
    }
    let relative = t / c;
    let of_control = control.moments.variance(c);
    // A handful of clicks tells little of its own spread, none at all that there is none: it is taken
    // to be no less than the control's would be at the treatment's size.
    let at_its_size = of_control * control.moments.denominator / treatment.moments.denominator;
    let of_treatment = treatment.moments.variance(t).max(at_its_size);
    let variance = (of_treatment + relative * relative * of_control) / (c * c);
    let n = (treatment.observations + control.observations) as f64;
    if variance <= 0.0 || n <= 0.0 {
        return None;
    }
    let (uplift, error) = (relative - 1.0, variance.sqrt());
    let time = n * mixture(rule);
    let half = error * (2.0 * (time + 1.0) / time * ((time + 1.0).sqrt() / rule.alpha).ln()).sqrt();
    let z = uplift / error;
    let ln_e = z * z / 2.0 * time / (time + 1.0) - (time + 1.0).ln() / 2.0;
    Some(Comparison {
        treatment: t,
        control: c,
        uplift,
        error,
        lower: uplift - half,
        upper: uplift + half,
        p_value: (-ln_e).exp().min(1.0),
    })
}

/// ρ² of the mixture that is narrowest after `tuning` observations, to the second order.
pub(super) fn mixture(rule: Rule) -> f64 {
    let twice = -2.0 * rule.alpha.ln();
    (twice + (twice + 1.0).ln()) / rule.tuning
}

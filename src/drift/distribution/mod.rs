//! Data drift: a feature's or a score's distribution now, against that of the reference window that
//! is stored with the model.
//!
//! Enters: two histograms over the same bins, or counts of the same categories. Leaves: a
//! statistic, what it may be by chance, and a verdict. Counts are integers, so that histograms of
//! workers and windows add up exactly.
//!
//! Two conditions make drift, and both have to hold: the statistic is beyond what chance explains
//! with as many values ([`Check::false_alarm`]), and the effect, which does not grow with their
//! number, is one that matters ([`Check::min_effect`]). With few values the first alone would be
//! passed by folklore thresholds (PSI above 0.1), with many the second would be passed by anything.
//!
//! Under no drift, with n and m values in B bins, c = 1/n + 1/m and α the probability of a false
//! alarm:
//!
//! | statistic | threshold | effect |
//! |---|---|---|
//! | PSI | c χ²(B−1, α) | itself |
//! | Kolmogorov–Smirnov | √(c ln(2/α) / 2) | itself: largest difference of shares |
//! | Jensen–Shannon distance, √(JS / ln 2) | √(c χ²(B−1, α) / (8 ln 2)) | itself, in [0, 1] |
//! | χ² | χ²(B−1, α) | √(c χ²) / 2: Cramér's V of samples of equal size |
//! | Wasserstein | √c (√(2/π) ∫√(F(1−F)) + s √(2 ln(1/α))) | in standard deviations of the reference |
//!
//! B counts bins as they are compared: those in which fewer than five of the smaller sample are
//! expected are one together, as Cochran advises. Fewer values than five a bin give no verdict at
//! all.
//!
//! PSI and 8 JS are χ² to the second order. Smirnov's tail is taken by its first term, which is
//! above it. That of Wasserstein is the mean of ∫|Brownian bridge ∘ F| and Borell's inequality
//! around it: the largest variance of ∫ g B(F) over |g| ≤ 1 is that of the values, s² (Hoeffding's
//! formula), so it too holds for every F.

mod chi_square;
mod histogram;
mod statistics;
#[cfg(test)]
mod tests;

use std::f64::consts::{LN_2, PI};

use serde::{Deserialize, Serialize};

pub use histogram::{BadBins, Bins, Histogram, MIN_BINS};
use statistics::Pair;
pub use statistics::ZERO_FILL;

/// How distributions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// Population stability index.
    Psi,
    /// Largest difference of the cumulative distributions. Not for categories.
    KolmogorovSmirnov,
    /// Square root of the Jensen–Shannon divergence in bits.
    JensenShannon,
    /// Area between the cumulative distributions. Not for categories.
    Wasserstein,
    /// Pearson's χ².
    ChiSquare,
}

impl Statistic {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Psi,
        Self::KolmogorovSmirnov,
        Self::JensenShannon,
        Self::Wasserstein,
        Self::ChiSquare,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Psi => "psi",
            Self::KolmogorovSmirnov => "kolmogorov_smirnov",
            Self::JensenShannon => "jensen_shannon",
            Self::Wasserstein => "wasserstein",
            Self::ChiSquare => "chi_square",
        }
    }

    /// A least effect that is worth a look, where nothing else is known: for PSI the usual 0.1,
    /// else about what a shift by a quarter of a standard deviation makes of a normal distribution.
    pub fn usual_effect(self) -> f64 {
        match self {
            Self::Psi | Self::KolmogorovSmirnov | Self::JensenShannon | Self::ChiSquare => 0.1,
            Self::Wasserstein => 0.25,
        }
    }
}

/// When a difference is drift.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is compared.
    pub statistic: Statistic,
    /// Probability at most of drift being told where there is none, in (0, 1). Asymptotic.
    pub false_alarm: f64,
    /// Least effect that is drift, above 0.
    pub min_effect: f64,
}

impl Check {
    /// One that errs once in a thousand comparisons, with the usual effect.
    pub fn usual(statistic: Statistic) -> Self {
        Self { statistic, false_alarm: 0.001, min_effect: statistic.usual_effect() }
    }
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoVerdict {
    /// A parameter out of its range.
    #[error("{parameter} is {value}, and must be {rule}")]
    Refused {
        /// Its name.
        parameter: &'static str,
        /// What it was set to.
        value: f64,
        /// What is allowed.
        rule: &'static str,
    },
    /// Other bins.
    #[error(transparent)]
    Bins(#[from] BadBins),
    /// A statistic of an order that categories do not have.
    #[error(
        "{statistic} needs an order of values; categories have none: take psi, jensen_shannon or chi_square"
    )]
    Unordered {
        /// The statistic's name.
        statistic: &'static str,
    },
    /// Too few values.
    #[error("{n} and {m} values are too few for {bins} bins: wait for {least} of each")]
    TooFew {
        /// Of the reference.
        n: u64,
        /// Live.
        m: u64,
        /// Bins with values.
        bins: usize,
        /// Least that either needs.
        least: u64,
    },
}

/// What is said of two distributions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What was compared.
    pub statistic: Statistic,
    /// The statistic.
    pub value: f64,
    /// What it may be by chance.
    pub threshold: f64,
    /// The effect, whose size does not depend on how many values there are.
    pub effect: f64,
    /// The least that is drift.
    pub min_effect: f64,
    /// Values of the reference.
    pub n: u64,
    /// Live values.
    pub m: u64,
    /// Whether value and effect are both beyond.
    pub drift: bool,
}

/// Compares a reference with what is live, both counted in the bins of the reference.
pub fn compare(
    check: &Check,
    reference: &Histogram,
    live: &Histogram,
) -> Result<Comparison, NoVerdict> {
    if reference.bins() != live.bins() {
        return Err(BadBins::Other.into());
    }
    judge(check, reference.counts(), live.counts(), Some(reference.bins()))
}

/// Compares counts of the same categories, in the same order.
pub fn compare_categories(
    check: &Check,
    reference: &[u64],
    live: &[u64],
) -> Result<Comparison, NoVerdict> {
    if reference.len() != live.len() {
        return Err(BadBins::Other.into());
    }
    judge(check, reference, live, None)
}

fn judge(
    check: &Check,
    reference: &[u64],
    live: &[u64],
    bins: Option<&Bins>,
) -> Result<Comparison, NoVerdict> {
    let refused = |parameter, value, rule| Err(NoVerdict::Refused { parameter, value, rule });
    let Check { statistic, false_alarm, min_effect } = *check;
    if !(false_alarm > 0.0 && false_alarm < 1.0) {
        return refused("false_alarm", false_alarm, "above 0 and below 1");
    }
    if !(min_effect > 0.0 && min_effect.is_finite()) {
        return refused("min_effect", min_effect, "above 0 and finite");
    }
    let (n, m): (u64, u64) = (reference.iter().sum(), live.iter().sum());
    let bins_filled = reference.iter().zip(live).filter(|(a, b)| **a + **b > 0).count();
    let least = (statistics::LEAST_BY_BIN * bins_filled.max(1) as f64) as u64;
    if n.min(m) < least {
        return Err(NoVerdict::TooFew { n, m, bins: bins_filled, least });
    }
    let pair = Pair::new(reference, live);
    let c = 1.0 / n as f64 + 1.0 / m as f64;
    let degrees = u32::try_from(pair.counts.len() - 1).unwrap_or(u32::MAX);
    // One bin that holds all of both is no difference, whatever the statistic.
    let chance = if degrees == 0 { 0.0 } else { chi_square::quantile(degrees, false_alarm) };
    let (value, threshold, effect) = match (statistic, bins) {
        (Statistic::Psi, _) => (pair.psi(), c * chance, pair.psi()),
        (Statistic::JensenShannon, _) => {
            let distance = (pair.jensen_shannon() / LN_2).sqrt();
            (distance, (c * chance / (8.0 * LN_2)).sqrt(), distance)
        }
        (Statistic::ChiSquare, _) => {
            let value = pair.chi_square();
            (value, chance, (c * value).sqrt() / 2.0)
        }
        (Statistic::KolmogorovSmirnov, Some(_)) => {
            let distance = statistics::kolmogorov_smirnov(reference, live);
            (distance, (c * (2.0 / false_alarm).ln() / 2.0).sqrt(), distance)
        }
        (Statistic::Wasserstein, Some(bins)) => {
            let distance = statistics::wasserstein(bins, reference, live);
            let both: Vec<u64> = reference.iter().zip(live).map(|(a, b)| a + b).collect();
            let (deviation, area) = statistics::spread(bins, &both);
            let tail = deviation * (2.0 * (1.0 / false_alarm).ln()).sqrt();
            let threshold = c.sqrt() * ((2.0 / PI).sqrt() * area + tail);
            let (own, _) = statistics::spread(bins, reference);
            (distance, threshold, if own > 0.0 { distance / own } else { 0.0 })
        }
        (_, None) => return Err(NoVerdict::Unordered { statistic: statistic.name() }),
    };
    let drift = value > threshold && effect >= min_effect;
    Ok(Comparison { statistic, value, threshold, effect, min_effect, n, m, drift })
}

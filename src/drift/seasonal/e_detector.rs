//! A Shiryaev–Roberts e-detector of a mean that has left a band (Shin, Ramdas and Rinaldo,
//! "E-detectors: a nonparametric framework for sequential change detection", 2023).
//!
//! For values x in [0, 1] whose mean, given those before, is at most m′, and an odds ratio θ > 1,
//!
//! ```text
//! L = Π (1 + λ (x − m′)),  λ = (θ − 1) / (1 + (θ − 1) m′)
//! ```
//!
//! is at most 1 on average: a bet at fair odds that they are more. With θ < 1, and m′ what the mean
//! is at least, it bets that they are less. Of a window only the sum k of n values is known, so
//! what is reckoned with is
//!
//! ```text
//! ln L ≥ k ln θ − n ln(1 + (θ − 1) m′)
//! ```
//!
//! exact where values are 0 or 1 (then it is the likelihood ratio of two Bernoulli rates), a lower
//! bound by weighted means elsewhere. With bets j of weights w_j that add up to 1,
//!
//! ```text
//! M_j ← (M_j + w_j) L_j,  E = Σ M_j
//! ```
//!
//! While nothing has changed, E grows by at most 1 a window on average. So the mean number of
//! windows until E ≥ A is at least A, whatever the distribution and however windows depend on each
//! other. All is reckoned in logarithms: M grows beyond what a float holds.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::Window;
use crate::time::EventTime;

/// ln 0, finite, so that a state can be written as JSON.
pub(super) const LOG_ZERO: f64 = -1e300;

/// Odds ratios of what is bet on, beyond the band, and their weights. Mostly on what a platform
/// would act on: losses of a tenth to a third. The outer ones find what is slight, after long, and
/// what is drastic, at once.
pub(super) const BETS: [(f64, f64); 5] =
    [(0.96, 0.2), (0.91, 0.3), (0.86, 0.3), (0.75, 0.15), (0.5, 0.05)];

/// What of a bet does not change.
#[derive(Clone, Copy)]
struct Terms {
    /// θ − 1 and ln θ, for falls.
    down: (f64, f64),
    /// The same for rises, of 1 / θ.
    up: (f64, f64),
    log_weight: f64,
}

static TERMS: LazyLock<[Terms; BETS.len()]> = LazyLock::new(|| {
    BETS.map(|(odds, weight)| Terms {
        down: (odds - 1.0, odds.ln()),
        up: (1.0 / odds - 1.0, -odds.ln()),
        log_weight: weight.ln(),
    })
});

/// Which way a metric went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More than the band allows.
    Up,
    /// Less.
    Down,
}

/// What was seen since a bet began to win: where its CUSUM, max(G, 1) L, last stood at 1. That is
/// the likeliest time of the change, by that bet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    /// Start of its first window.
    pub since: EventTime,
    /// Windows in it.
    pub windows: u64,
    /// Those of them that lay outside of the band.
    pub breached: u64,
    /// Values in them.
    pub n: u64,
    /// Their sum.
    pub sum: f64,
    /// What it would have been by the baseline.
    pub expected: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bet {
    log_m: f64,
    log_cusum: f64,
    run: Run,
}

/// Bets on one direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct EDetector {
    direction: Direction,
    bets: [Bet; BETS.len()],
}

/// ln(e^a + e^b).
fn log_add(a: f64, b: f64) -> f64 {
    let (less, more) = if a < b { (a, b) } else { (b, a) };
    more + (less - more).exp().ln_1p()
}

/// ln Σ e^x; [`LOG_ZERO`] of nothing.
pub(super) fn log_sum(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = logs.clone().fold(LOG_ZERO, f64::max);
    if most == LOG_ZERO {
        return LOG_ZERO;
    }
    most + logs.map(|log| (log - most).exp()).sum::<f64>().ln()
}

impl EDetector {
    pub(super) fn new(direction: Direction) -> Self {
        let since = EventTime::from_millis(0);
        let run = Run { since, windows: 0, breached: 0, n: 0, sum: 0.0, expected: 0.0 };
        let bet = Bet { log_m: LOG_ZERO, log_cusum: 0.0, run };
        Self { direction, bets: [bet; BETS.len()] }
    }

    /// Takes in a window. `mean` is what the baseline says, `band` the relative width that is let
    /// pass, `ceiling` what ln M is held below, so that an alarm ends soon after its cause. A band
    /// that leaves nothing between it and 0 (or 1) leaves nothing to bet on either.
    pub(super) fn update(&mut self, window: &Window, mean: f64, band: f64, ceiling: f64) {
        let edge = match self.direction {
            Direction::Up => mean * (1.0 + band),
            Direction::Down => mean * (1.0 - band),
        };
        if edge <= 0.0 || edge >= 1.0 {
            return;
        }
        let (n, expected) = (window.n as f64, window.n as f64 * mean);
        let is_outside = match self.direction {
            Direction::Up => window.sum > n * edge,
            Direction::Down => window.sum < n * edge,
        };
        for (bet, terms) in self.bets.iter_mut().zip(TERMS.iter()) {
            let (more, log_odds) = match self.direction {
                Direction::Up => terms.up,
                Direction::Down => terms.down,
            };
            let log_l = window.sum * log_odds - n * (more * edge).ln_1p();
            bet.log_m = (log_add(bet.log_m, terms.log_weight) + log_l).min(ceiling);
            if bet.log_cusum <= 0.0 {
                bet.run = Run {
                    since: window.start,
                    windows: 0,
                    breached: 0,
                    n: 0,
                    sum: 0.0,
                    expected: 0.0,
                };
            }
            bet.log_cusum = bet.log_cusum.max(0.0) + log_l;
            let run = &mut bet.run;
            run.windows += 1;
            run.breached += u64::from(is_outside);
            run.n += window.n;
            run.sum += window.sum;
            run.expected += expected;
        }
    }

    /// ln E.
    pub(super) fn log_e(&self) -> f64 {
        log_sum(self.bets.iter().map(|bet| bet.log_m))
    }

    /// What the bet saw that has won most.
    pub(super) fn run(&self) -> Run {
        let [mut best, ..] = self.bets;
        for bet in self.bets {
            if bet.log_m > best.log_m {
                best = bet;
            }
        }
        best.run
    }
}

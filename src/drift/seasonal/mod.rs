//! The main alarm: windows of a rate or of a bounded mean, against a seasonal baseline with a dead
//! band, by e-detectors up and down.
//!
//! Enters: one window a minute, in order. Leaves: what is foretold, the evidence against it as the
//! logarithm of an e-value, gaps.
//!
//! The band is three standard deviations of what lies between windows beside sampling, noise
//! between hours and the baseline's own error, and not less than [`Config::min_effect`]. So a
//! metric of which little is known yet has a wide band. While the truth is within it, false alarms
//! of all metrics of a pool together come no more often than once in
//! [`Config::windows_to_false_alarm`] windows on average. That is for metrics that stand at its
//! very edge all the time; at rest they are far rarer (`docs/adr/0018-drift-detection.md`).
//!
//! Hours in which something is suspected are not learnt. What is accepted as the new normal is told
//! by [`Seasonal::begin_reference`].

mod baseline;
mod e_detector;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::time::{EventTime, HOUR_MS, MINUTE_MS};
use baseline::{Baseline, Estimate};
use e_detector::{EDetector, LOG_ZERO, log_sum};

pub use e_detector::Direction;

/// By how many nats evidence may exceed its threshold: what an alarm has to lose again before it
/// ends.
const HEADROOM: f64 = 3.0;

/// A configuration that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{parameter} is {value}, and must be {rule}")]
pub struct Refused {
    parameter: &'static str,
    value: f64,
    rule: &'static str,
}

fn check(
    parameter: &'static str,
    value: f64,
    holds: bool,
    rule: &'static str,
) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused { parameter, value, rule }) }
}

/// How a metric is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Length of a window.
    pub window_ms: i64,
    /// Mean number of windows from one false alarm to the next, at least, over the pool, with
    /// everything at the edge of its band.
    pub windows_to_false_alarm: f64,
    /// The metric's share in the pool, in (0, 1]; 1 where it is alone. Shares add up to 1 at most.
    /// One with twice the share of another is sooner believed, by ln 2 of evidence.
    pub share: f64,
    /// Of that, what goes to falls; the rest goes to rises. In [0, 1].
    pub down_share: f64,
    /// Relative change that is never told, in (0, 1).
    pub min_effect: f64,
    /// Standard deviations, of noise between hours and of the baseline's error, that the band
    /// spans.
    pub band_sigmas: f64,
    /// Windows in which is learnt and nothing told: at first, and after a new reference.
    pub warm_up_windows: u64,
    /// The season's time: minutes east of Greenwich.
    pub offset_minutes: i32,
}

impl Default for Config {
    /// One false alarm in a day of minutes at the edge of the band, which is 5 % at least; a day of
    /// warm-up.
    fn default() -> Self {
        Self {
            window_ms: MINUTE_MS,
            windows_to_false_alarm: 1_440.0,
            share: 1.0,
            down_share: 0.5,
            min_effect: 0.05,
            band_sigmas: 3.0,
            warm_up_windows: 1_440,
            offset_minutes: 0,
        }
    }
}

impl Config {
    fn check(&self) -> Result<(), Refused> {
        let ms = self.window_ms;
        let divides = ms > 0 && HOUR_MS % ms.max(1) == 0;
        check("window_ms", ms as f64, divides, "a length that an hour is a multiple of")?;
        let windows = self.windows_to_false_alarm;
        let known = windows.is_finite() && windows > 1.0;
        check("windows_to_false_alarm", windows, known, "more than 1, and finite")?;
        let is_share = self.share > 0.0 && self.share <= 1.0;
        check("share", self.share, is_share, "above 0 and at most 1")?;
        let down = (0.0..=1.0).contains(&self.down_share);
        check("down_share", self.down_share, down, "from 0 to 1")?;
        let effect = self.min_effect > 0.0 && self.min_effect < 1.0;
        check("min_effect", self.min_effect, effect, "above 0 and below 1")?;
        let (sigmas, known) = (self.band_sigmas, self.band_sigmas.is_finite());
        check("band_sigmas", sigmas, known && sigmas >= 0.0, "at least 0, and finite")?;
        let offset = self.offset_minutes;
        let offset_fits = offset.abs() <= 24 * 60;
        check("offset_minutes", f64::from(offset), offset_fits, "within a day")
    }

    /// ln E from which this metric alone makes the pool's alarm.
    pub fn threshold(&self) -> f64 {
        (self.windows_to_false_alarm / self.share).ln()
    }
}

/// What was counted in a window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    start: EventTime,
    n: u64,
    sum: f64,
}

/// A window that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum BadWindow {
    /// Values out of [0, 1].
    #[error(
        "a window of {n} values cannot sum up to {sum}: values are in [0, 1]; divide by what they can be at most"
    )]
    Sum {
        /// Values.
        n: u64,
        /// Their sum.
        sum: f64,
    },
    /// Not at a multiple of the windows' length.
    #[error("a window that begins at {start:?} is none of {window_ms} ms since the epoch")]
    Start {
        /// Its start.
        start: EventTime,
        /// What it should be a multiple of.
        window_ms: i64,
    },
    /// Judged before, as far as its time goes: a replay, or late.
    #[error("the window at {start:?} comes after that at {last:?}; windows are judged in order")]
    Old {
        /// Its start.
        start: EventTime,
        /// The newest that was judged.
        last: EventTime,
    },
}

impl Window {
    /// `successes` of `trials`.
    pub fn rate(start: EventTime, successes: u64, trials: u64) -> Result<Self, BadWindow> {
        Self::mean(start, successes as f64, trials)
    }

    /// The sum of `n` values in [0, 1], such as seconds watched over the most that count.
    pub fn mean(start: EventTime, sum: f64, n: u64) -> Result<Self, BadWindow> {
        let fits = sum >= 0.0 && sum <= n as f64;
        if fits { Ok(Self { start, n, sum }) } else { Err(BadWindow::Sum { n, sum }) }
    }
}

/// Windows that never came, or came empty. They are no evidence of a fall: that nothing was counted
/// is a finding of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Start of the first.
    pub from: EventTime,
    /// How many.
    pub windows: u64,
}

/// What is said of a window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Nothing is told yet: the baseline is being learnt.
    pub warm_up: bool,
    /// What the metric was foretold to be; none before an hour was learnt.
    pub baseline: Option<f64>,
    /// Relative width of the band around it.
    pub band: f64,
    /// ln E of both directions together.
    pub log_e: f64,
    /// Whether it makes the pool's alarm by itself.
    pub fires: bool,
    /// What was missing before this window.
    pub gap: Option<Gap>,
}

/// Why something is told, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Which way.
    pub direction: Direction,
    /// ln E of this direction, at its share.
    pub log_e: f64,
    /// ln E from which the metric makes an alarm by itself.
    pub threshold: f64,
    /// Mean of the values since.
    pub observed: f64,
    /// What was foretold of them.
    pub baseline: f64,
    /// observed / baseline − 1.
    pub effect: f64,
    /// Start of the first window that is likely changed.
    pub since: EventTime,
    /// Windows since.
    pub windows: u64,
    /// Those of them that lie outside of the band.
    pub windows_breached: u64,
    /// Values since.
    pub n: u64,
}

/// What a new reference has shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct WarmUp {
    windows_left: u64,
    /// Whether only the level is learnt: not at the very first.
    keeps_shape: bool,
    n: u64,
    sum: f64,
    expected: f64,
    windows: u64,
}

/// One metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seasonal {
    config: Config,
    baseline: Baseline,
    up: EDetector,
    down: EDetector,
    /// Start of the newest window; and of the one after the newest that held values.
    last: Option<EventTime>,
    filled_to: Option<EventTime>,
    warm_up: Option<WarmUp>,
}

impl Seasonal {
    /// One that has seen nothing.
    pub fn new(config: Config) -> Result<Self, Refused> {
        config.check()?;
        let windows_left = config.warm_up_windows;
        Ok(Self {
            baseline: Baseline::new(config.offset_minutes),
            up: EDetector::new(Direction::Up),
            down: EDetector::new(Direction::Down),
            last: None,
            filled_to: None,
            warm_up: Some(WarmUp { windows_left, ..WarmUp::default() }),
            config,
        })
    }

    /// How it is watched.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Judges the next window. Windows come in order, each once; those that do not are refused, and
    /// change nothing.
    pub fn update(&mut self, window: &Window) -> Result<Judgement, BadWindow> {
        let (start, window_ms) = (window.start, self.config.window_ms);
        if start.millis().rem_euclid(window_ms) != 0 {
            return Err(BadWindow::Start { start, window_ms });
        }
        if let Some(last) = self.last.filter(|last| start <= *last) {
            return Err(BadWindow::Old { start, last });
        }
        self.last = Some(start);
        if self.baseline.is_over(start) {
            self.baseline.end_hour(!self.is_suspicious());
        }
        let foretold = self.baseline.at(start);
        if window.n == 0 {
            return Ok(self.judgement(foretold, None));
        }
        let gap = self.gap(start);
        self.filled_to = Some(start.plus_millis(window_ms));
        match (self.warm_up, foretold) {
            (Some(warm_up), _) => self.warm(warm_up, window, foretold),
            (None, Some(foretold)) => {
                let (band, ceiling) = (self.band(foretold), self.config.threshold() + HEADROOM);
                let [up, down] = self.direction_shares().map(|share| ceiling - share.ln());
                self.up.update(window, foretold.rate, band, up);
                self.down.update(window, foretold.rate, band, down);
            }
            (None, None) => {}
        }
        let is_of_the_shape = self.warm_up.is_none_or(|warm_up| !warm_up.keeps_shape);
        if is_of_the_shape {
            self.baseline.add(start, window.n, window.sum, foretold);
        }
        Ok(self.judgement(foretold, gap))
    }

    /// A new reference: what is served, or what is asked of it, is another from here on, such as
    /// after a promotion. What spoke for a change is forgotten. The shape of the week stays; the
    /// level is learnt anew, over the warm-up, in which nothing is told.
    pub fn begin_reference(&mut self) {
        self.up = EDetector::new(Direction::Up);
        self.down = EDetector::new(Direction::Down);
        // Of two references, and so of neither.
        self.baseline.forget_hour();
        let (windows_left, keeps_shape) = (self.config.warm_up_windows, self.baseline.has_learnt());
        self.warm_up = Some(WarmUp { windows_left, keeps_shape, ..WarmUp::default() });
    }

    fn judgement(&self, foretold: Option<Estimate>, gap: Option<Gap>) -> Judgement {
        let log_e = self.log_e();
        Judgement {
            warm_up: self.warm_up.is_some(),
            baseline: foretold.map(|foretold| foretold.rate),
            band: foretold.map_or(1.0, |foretold| self.band(foretold)),
            log_e,
            fires: log_e >= self.config.threshold(),
            gap,
        }
    }

    fn band(&self, foretold: Estimate) -> f64 {
        let noise = (self.baseline.noise2() + foretold.error2).sqrt();
        (self.config.band_sigmas * noise).max(self.config.min_effect)
    }

    /// Half of the way to an alarm, in nats: hours like that are not learnt.
    fn is_suspicious(&self) -> bool {
        self.log_e() >= self.config.threshold() / 2.0
    }

    fn warm(&mut self, mut warm_up: WarmUp, window: &Window, foretold: Option<Estimate>) {
        warm_up.windows_left = warm_up.windows_left.saturating_sub(1);
        if let Some(foretold) = foretold {
            warm_up.windows += 1;
            warm_up.n += window.n;
            warm_up.sum += window.sum;
            warm_up.expected += window.n as f64 * foretold.rate;
        }
        self.warm_up = Some(warm_up).filter(|warm_up| warm_up.windows_left > 0);
        if self.warm_up.is_none() && warm_up.keeps_shape {
            let hours = (warm_up.windows as f64 * self.config.window_ms as f64) / HOUR_MS as f64;
            self.baseline.set_level(warm_up.n, warm_up.sum, warm_up.expected, hours);
        }
    }

    /// ln E over both directions: an e-detector for windows of this metric.
    pub fn log_e(&self) -> f64 {
        log_sum(self.by_direction().into_iter())
    }

    /// ln E up and down, each at its share.
    fn by_direction(&self) -> [f64; 2] {
        let [up, down] = self.direction_shares();
        let at_share = |share: f64, log_e: f64| share.ln().max(LOG_ZERO) + log_e;
        [at_share(up, self.up.log_e()), at_share(down, self.down.log_e())]
    }

    fn direction_shares(&self) -> [f64; 2] {
        [1.0 - self.config.down_share, self.config.down_share]
    }

    /// What speaks for a change, of the direction for which more does; none where nothing was
    /// judged.
    pub fn evidence(&self) -> Option<Evidence> {
        let [up, down] = self.by_direction();
        let (direction, log_e, run) = if up > down {
            (Direction::Up, up, self.up.run())
        } else {
            (Direction::Down, down, self.down.run())
        };
        if run.n == 0 || run.expected <= 0.0 {
            return None;
        }
        let n = run.n as f64;
        Some(Evidence {
            direction,
            log_e,
            threshold: self.config.threshold(),
            observed: run.sum / n,
            baseline: run.expected / n,
            effect: run.sum / run.expected - 1.0,
            since: run.since,
            windows: run.windows,
            windows_breached: run.breached,
            n: run.n,
        })
    }

    /// What is missing up to a clock, which says that all windows that ended before it are known.
    /// None before the first window with values.
    pub fn gap(&self, clock: EventTime) -> Option<Gap> {
        let from = self.filled_to?;
        let windows = u64::try_from(clock.since(from).div_euclid(self.config.window_ms)).ok()?;
        (windows > 0).then_some(Gap { from, windows })
    }
}

/// What is said of a pool of metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pooled {
    /// ln Σ share E.
    pub log_e: f64,
    /// ln of the windows to a false alarm.
    pub threshold: f64,
    /// Whether it is an alarm.
    pub fires: bool,
}

/// Judges metrics together. A mean of e-detectors is one, so false alarms of all of them are as
/// rare as is asked of one; and what several metrics show a little adds up. Windows of all are as
/// long, and judged up to the same time. Refuses shares that add up to more than 1, and metrics
/// that are watched for another number of windows to a false alarm.
pub fn pool<'a>(
    windows_to_false_alarm: f64,
    metrics: impl Iterator<Item = &'a Seasonal>,
) -> Result<Pooled, Refused> {
    let (mut shares, mut logs) = (0.0, Vec::new());
    for metric in metrics {
        let Config { share, windows_to_false_alarm: own, .. } = metric.config;
        let same = own == windows_to_false_alarm;
        check("windows_to_false_alarm", own, same, "that of the pool")?;
        shares += share;
        logs.push(share.ln() + metric.log_e());
    }
    // Shares such as 1/49 add up to 1 but for rounding.
    check("share", shares, shares <= 1.0 + 1e-9, "shares of a pool that add up to 1 at most")?;
    let (log_e, threshold) = (log_sum(logs.into_iter()), windows_to_false_alarm.ln());
    Ok(Pooled { log_e, threshold, fires: log_e >= threshold })
}

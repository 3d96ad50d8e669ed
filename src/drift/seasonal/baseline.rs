//! What a metric is at each hour of the week, learnt from windows, and how sure that is.
//!
//! Sums by cell (day of week × hour) fade, so that about eight weeks count. A cell is drawn to its
//! hour of the day, over all days, and that to the mean of all, by as much as chance explains of
//! how they differ (empirical Bayes). With relative variances: v of a cell's own sums, τ² between
//! days of the same hour,
//!
//! ```text
//! v = (1 − p) / (p n) + σ² Σn_i² / n²        sampling of [0, 1] values, and noise between hours
//! B = τ² / (τ² + v),  rate = B r_cell + (1 − B) r_hour
//! error² = B² v + (1 − B)² (τ² + error²_hour)
//! ```
//!
//! σ² is how far hours lay from what was foretold of them, beyond sampling and the baseline's own
//! error (one step ahead, so that whatever the model misses counts as noise); τ² is how far cells
//! lie from their hour of the day. Between the middles of hours it is interpolated.

use serde::{Deserialize, Serialize};

use crate::time::{EventTime, HOUR_MS};

/// Hours of a day, days of a week.
const DAY: usize = 24;
const WEEK: usize = 7;
/// 1970-01-01 was a Thursday: hours from the Monday before it.
const EPOCH_HOUR: i64 = 72;
/// What is left of a cell's sums a week later: about eight weeks count.
const KEPT_BY_CELL: f64 = 7.0 / 8.0;
/// What is left of what is known of noise an hour later: four weeks count.
const KEPT_BY_NOISE: f64 = 1.0 - 1.0 / 672.0;
/// Standard deviation of noise that is supposed before anything is known: a false alarm is worse on
/// the first days than one that comes late.
const NOISE_SUPPOSED: f64 = 0.05;
/// For how many hours that counts.
const NOISE_HOURS: f64 = 12.0;
/// How far an hour of the day may lie from the mean of all.
const HOUR_SPREAD: f64 = 0.3;
/// How far a cell that was never seen may lie from its hour of the day: what weekdays show says
/// little of the first Saturday.
const UNSEEN_SPREAD: f64 = 0.15;
/// How far days of the same hour are supposed to lie apart, and for how many cells that counts.
const DAY_SPREAD: f64 = 0.05;
const DAY_CELLS: f64 = 2.0;
/// Errors beyond so many standard deviations count as if they were so large: an outage is no noise.
const WINSOR: f64 = 3.0;

/// A rate and its relative standard error, squared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Estimate {
    pub rate: f64,
    pub error2: f64,
}

/// Faded sums of hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    n: f64,
    sum: f64,
    /// Of the numbers of values, by hour.
    squares: f64,
}

impl Sums {
    fn plus(self, other: &Self) -> Self {
        Self {
            n: self.n + other.n,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
        }
    }
}

/// An hour that is not over, or not yet learnt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Hour {
    /// Hours since the epoch, in the season's time.
    number: i64,
    n: f64,
    sum: f64,
    /// What the sum would be by the baseline, as it was foretold.
    expected: f64,
    /// n times the relative error of that, squared.
    error2: f64,
}

/// What is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// Minutes east of Greenwich of the day that people live by.
    offset_minutes: i32,
    /// By day, from Monday, and hour.
    cells: [[Sums; DAY]; WEEK],
    /// Over all days, drawn to the mean of all; none before the first hour was learnt.
    hours: Option<[Estimate; DAY]>,
    /// τ².
    day_spread2: f64,
    /// Σ w and Σ w (error² beyond sampling): σ² is their ratio.
    noise_weight: f64,
    noise_sum: f64,
    /// By what the level of the newest reference differs from that of the cells.
    level: Estimate,
    hour: Option<Hour>,
}

/// Relative variance by sampling of n values in [0, 1] of a mean: largest where all are 0 or 1.
fn sampling(rate: f64, n: f64) -> f64 {
    (1.0 - rate).max(0.0) / (rate * n)
}

/// Day of the week, from Monday, and hour of the day, of an hour since the epoch.
fn day_and_hour(hour: i64) -> (usize, usize) {
    let place = (hour + EPOCH_HOUR).rem_euclid((WEEK * DAY) as i64) as usize;
    (place / DAY, place % DAY)
}

impl Baseline {
    pub(super) fn new(offset_minutes: i32) -> Self {
        Self {
            offset_minutes,
            cells: [[Sums::default(); DAY]; WEEK],
            hours: None,
            day_spread2: DAY_SPREAD.powi(2),
            noise_weight: NOISE_HOURS,
            noise_sum: NOISE_HOURS * NOISE_SUPPOSED.powi(2),
            level: Estimate { rate: 1.0, error2: 0.0 },
            hour: None,
        }
    }

    /// σ²: relative variance between hours, beyond what sampling explains.
    pub(super) fn noise2(&self) -> f64 {
        (self.noise_sum / self.noise_weight).max(0.0)
    }

    fn local_ms(&self, at: EventTime) -> i64 {
        at.millis() + i64::from(self.offset_minutes) * crate::time::MINUTE_MS
    }

    /// What is foretold of a time; none before an hour was learnt.
    pub(super) fn at(&self, at: EventTime) -> Option<Estimate> {
        let after_middle = self.local_ms(at) - HOUR_MS / 2;
        let hour = after_middle.div_euclid(HOUR_MS);
        let share = after_middle.rem_euclid(HOUR_MS) as f64 / HOUR_MS as f64;
        let (a, b) = (self.cell(hour)?, self.cell(hour + 1)?);
        let between = |a: f64, b: f64| a + share * (b - a);
        Some(Estimate {
            rate: between(a.rate, b.rate) * self.level.rate,
            error2: between(a.error2, b.error2) + self.level.error2,
        })
    }

    /// A cell, drawn to its hour of the day.
    fn cell(&self, hour: i64) -> Option<Estimate> {
        let (day, hour) = day_and_hour(hour);
        let (own, of_day) = (self.cells[day][hour], self.hours?[hour]);
        if own.n == 0.0 || of_day.rate == 0.0 {
            let error2 = self.day_spread2.max(UNSEEN_SPREAD.powi(2)) + of_day.error2;
            return Some(Estimate { rate: of_day.rate, error2 });
        }
        let beyond = self.day_spread2 + of_day.error2;
        let v = self.variance(own, of_day.rate);
        let weight = self.day_spread2 / (self.day_spread2 + v);
        Some(Estimate {
            rate: weight * (own.sum / own.n) + (1.0 - weight) * of_day.rate,
            error2: weight.powi(2) * v + (1.0 - weight).powi(2) * beyond,
        })
    }

    /// Relative variance of a mean over hours, around a rate above 0.
    fn variance(&self, sums: Sums, rate: f64) -> f64 {
        sampling(rate, sums.n) + self.noise2() * sums.squares / sums.n.powi(2)
    }

    /// Adds a window of the hour, with what was foretold of it.
    pub(super) fn add(&mut self, at: EventTime, n: u64, sum: f64, foretold: Option<Estimate>) {
        let n = n as f64;
        let foretold = foretold.unwrap_or(Estimate { rate: 0.0, error2: 0.0 });
        let number = self.local_ms(at).div_euclid(HOUR_MS);
        let none = Hour { number, n: 0.0, sum: 0.0, expected: 0.0, error2: 0.0 };
        let hour = self.hour.get_or_insert(none);
        hour.n += n;
        hour.sum += sum;
        hour.expected += n * foretold.rate;
        hour.error2 += n * foretold.error2;
    }

    /// Whether the hour that windows were added to is another than that of `at`.
    pub(super) fn is_over(&self, at: EventTime) -> bool {
        let number = self.local_ms(at).div_euclid(HOUR_MS);
        self.hour.is_some_and(|hour| hour.number != number)
    }

    /// Takes leave of the hour; learns it if `learn`.
    pub(super) fn end_hour(&mut self, learn: bool) {
        if let Some(hour) = self.hour.take().filter(|hour| learn && hour.n > 0.0) {
            self.learn(&hour);
        }
    }

    /// Whether an hour was learnt.
    pub(super) fn has_learnt(&self) -> bool {
        self.hours.is_some()
    }

    fn learn(&mut self, hour: &Hour) {
        self.learn_noise(hour);
        let (day, of_day) = day_and_hour(hour.number);
        let cell = &mut self.cells[day][of_day];
        cell.n = cell.n * KEPT_BY_CELL + hour.n;
        cell.sum = cell.sum * KEPT_BY_CELL + hour.sum / self.level.rate;
        cell.squares = cell.squares * KEPT_BY_CELL.powi(2) + hour.n.powi(2);
        // What is learnt from now on has the new level.
        self.level.error2 *= KEPT_BY_NOISE.powi(2);
        self.fit();
    }

    /// One step ahead: what was foretold of this hour before it was known.
    fn learn_noise(&mut self, hour: &Hour) {
        if hour.expected <= 0.0 {
            return;
        }
        let known = sampling(hour.expected / hour.n, hour.n) + hour.error2 / hour.n;
        let noise2 = self.noise2();
        let error2 = (hour.sum / hour.expected - 1.0).powi(2);
        let error2 = error2.min(WINSOR.powi(2) * (noise2 + known));
        // Hours of which sampling or the baseline leave little known tell little of noise.
        let floor = NOISE_SUPPOSED.powi(2) / 4.0;
        let weight = ((noise2 + floor) / (noise2 + floor + known)).powi(2);
        self.noise_weight = self.noise_weight * KEPT_BY_NOISE + weight;
        self.noise_sum = self.noise_sum * KEPT_BY_NOISE + weight * (error2 - known);
    }

    /// Hours of the day, and the spread of days, from the cells.
    fn fit(&mut self) {
        let all = self.cells.as_flattened().iter().fold(Sums::default(), Sums::plus);
        if all.sum <= 0.0 {
            return;
        }
        let mean = all.sum / all.n;
        let (mut spread_sum, mut spread_cells) = (DAY_CELLS * DAY_SPREAD.powi(2), DAY_CELLS);
        let hours = std::array::from_fn(|hour| {
            let days = || self.cells.iter().map(move |day| &day[hour]).filter(|cell| cell.n > 0.0);
            let of_day = days().fold(Sums::default(), Sums::plus);
            if of_day.sum <= 0.0 {
                return Estimate { rate: mean, error2: HOUR_SPREAD.powi(2) };
            }
            let rate = of_day.sum / of_day.n;
            for cell in days() {
                // Of a cell that is all there is, nothing lies apart.
                let others = 1.0 - cell.n / of_day.n;
                if others > 0.0 {
                    let apart = (cell.sum / cell.n / rate - 1.0).powi(2);
                    spread_sum += apart / others - self.variance(*cell, rate);
                    spread_cells += 1.0;
                }
            }
            let uneven = days().map(|cell| (cell.n / of_day.n).powi(2)).sum::<f64>();
            let v = self.variance(of_day, rate) + self.day_spread2 * uneven;
            let weight = HOUR_SPREAD.powi(2) / (HOUR_SPREAD.powi(2) + v);
            Estimate {
                rate: weight * rate + (1.0 - weight) * mean,
                error2: weight.powi(2) * v + ((1.0 - weight) * HOUR_SPREAD).powi(2),
            }
        });
        self.hours = Some(hours);
        self.day_spread2 = (spread_sum / spread_cells).max(0.0);
    }

    /// The shape stays, the level is what a new reference's windows say: `sum` where the baseline
    /// said `expected`, of `n` values in `hours` hours. Without any, it stays as it was.
    pub(super) fn set_level(&mut self, n: u64, sum: f64, expected: f64, hours: f64) {
        if sum <= 0.0 || expected <= 0.0 {
            return;
        }
        let n = n as f64;
        self.level = Estimate {
            rate: self.level.rate * (sum / expected),
            error2: sampling(sum / n, n) + self.noise2() / hours.max(1.0),
        };
    }

    /// The hour that is not over, forgotten: it is of two references.
    pub(super) fn forget_hour(&mut self) {
        self.hour = None;
    }
}

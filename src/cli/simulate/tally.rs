//! What is counted while a world runs. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::time::EventTime;

/// Round trips are counted in bins that grow by this factor from [`LEAST_MS`].
const BIN_GROWTH: f64 = 1.1;
/// Upper end of the first bin, in milliseconds.
const LEAST_MS: f64 = 0.1;
/// `0.1 ms · 1.1^128` is 20 s: longer than any request is waited for.
const BINS: usize = 128;

/// Counts of one run, or of a part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// Event time of the last visit.
    pub now: EventTime,
    /// Pages that people asked for, searches of their own included.
    pub visits: u64,
    /// Lists shown.
    pub lists: u64,
    /// Items on them.
    pub shown: u64,
    /// Clicks on them.
    pub clicks: u64,
    /// Watch and click events sent.
    pub events: u64,
    /// Lists that said a part was missing.
    pub degraded: u64,
    /// Requests without a list: errors and no reply.
    pub errors: u64,
    /// Lists that did not know the user's own last events.
    pub stale: u64,
    /// Items on lists that are not of this world, or not yet published.
    pub unknown: u64,
    round_trips: [u64; BINS],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            now: EventTime::default(),
            visits: 0,
            lists: 0,
            shown: 0,
            clicks: 0,
            events: 0,
            degraded: 0,
            errors: 0,
            stale: 0,
            unknown: 0,
            round_trips: [0; BINS],
        }
    }
}

impl Tally {
    /// Clicks on an item shown, 0 where none was.
    pub fn ctr(&self) -> f64 {
        ratio(self.clicks, self.shown)
    }

    /// Clicks on a list shown, 0 where none was.
    pub fn clicks_per_list(&self) -> f64 {
        ratio(self.clicks, self.lists)
    }

    /// Share of lists with a part missing.
    pub fn degraded_share(&self) -> f64 {
        ratio(self.degraded, self.lists)
    }

    /// Counts a request's way there and back.
    pub fn round_trip(&mut self, took: Duration) {
        let bin = (took.as_secs_f64() * 1_000.0 / LEAST_MS).ln() / BIN_GROWTH.ln();
        // A cast of a negative number or of NaN gives 0, the first bin.
        self.round_trips[(bin.ceil() as usize).min(BINS - 1)] += 1;
    }

    /// The round trip that a share of requests did not exceed, in milliseconds; 0 without any.
    pub fn round_trip_ms(&self, share: f64) -> f64 {
        let total: u64 = self.round_trips.iter().sum();
        let wanted = (total as f64 * share).ceil().max(1.0) as u64;
        let mut sum = 0;
        let bin = self.round_trips.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        bin.map_or(0.0, |bin| LEAST_MS * BIN_GROWTH.powi(bin as i32))
    }

    /// What was counted after `earlier`, an older copy of this.
    pub fn since(&self, earlier: &Tally) -> Tally {
        Tally {
            now: self.now,
            visits: self.visits - earlier.visits,
            lists: self.lists - earlier.lists,
            shown: self.shown - earlier.shown,
            clicks: self.clicks - earlier.clicks,
            events: self.events - earlier.events,
            degraded: self.degraded - earlier.degraded,
            errors: self.errors - earlier.errors,
            stale: self.stale - earlier.stale,
            unknown: self.unknown - earlier.unknown,
            round_trips: std::array::from_fn(|i| self.round_trips[i] - earlier.round_trips[i]),
        }
    }

    /// All of it, for `--json`.
    pub fn to_json(&self) -> Value {
        json!({
            "event_time": self.now.millis(),
            "visits": self.visits,
            "lists": self.lists,
            "shown": self.shown,
            "clicks": self.clicks,
            "ctr": self.ctr(),
            "clicks_per_list": self.clicks_per_list(),
            "events": self.events,
            "degraded": self.degraded,
            "errors": self.errors,
            "stale": self.stale,
            "unknown_items": self.unknown,
            "round_trip_ms_p50": self.round_trip_ms(0.5),
            "round_trip_ms_p99": self.round_trip_ms(0.99),
        })
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_nothing_are_zero() {
        let tally = Tally::default();
        assert_eq!((tally.ctr(), tally.degraded_share(), tally.round_trip_ms(0.5)), (0., 0., 0.));
    }

    #[test]
    fn a_window_is_what_came_since_its_begin() {
        let earlier = Tally { shown: 100, clicks: 10, ..Tally::default() };
        let mut later = Tally { shown: 150, clicks: 30, ..earlier.clone() };
        later.round_trip(Duration::from_millis(3));
        let window = later.since(&earlier);
        assert_eq!((window.shown, window.clicks), (50, 20));
        assert!((window.ctr() - 0.4).abs() < 1e-9);
        assert!((2.7..3.4).contains(&window.round_trip_ms(0.5)));
    }

    #[test]
    fn percentiles_are_right_within_a_tenth() {
        let mut tally = Tally::default();
        (1..=100).for_each(|ms| tally.round_trip(Duration::from_millis(ms)));
        assert!((50.0..=55.5).contains(&tally.round_trip_ms(0.5)));
        assert!((99.0..=110.0).contains(&tally.round_trip_ms(0.99)));
        tally.round_trip(Duration::ZERO);
        tally.round_trip(Duration::from_secs(1_000));
    }
}

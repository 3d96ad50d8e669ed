//! Event time against wall time: how fast a simulation or a replay runs.

use std::fmt;
use std::time::{Duration, Instant};

use crate::time::EventTime;

/// How many seconds of event time pass in one second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As many as it can.
    Max,
    /// So many.
    Times(f64),
}

impl Speed {
    /// Reads `max`, `1x`, `1000x` or `0.5`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let number = text.strip_suffix('x').unwrap_or(text);
        match number.parse::<f64>() {
            Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Self::Times(factor)),
            _ => Err(format!("{text:?} is no speed: max, or a factor such as 1x or 1000x")),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Times(factor) => write!(f, "{factor}x"),
        }
    }
}

/// Says when an event time is due. Its clock starts with the first time asked about.
pub struct Pacer {
    speed: Speed,
    started: Option<(Instant, EventTime)>,
}

impl Pacer {
    /// A pacer that has not started.
    pub fn new(speed: Speed) -> Self {
        Self { speed, started: None }
    }

    /// How long it is until `at` is due; zero where it is.
    pub fn until(&mut self, at: EventTime) -> Duration {
        self.until_from(at, Instant::now())
    }

    fn until_from(&mut self, at: EventTime, now: Instant) -> Duration {
        let Speed::Times(factor) = self.speed else { return Duration::ZERO };
        let (begun, first) = *self.started.get_or_insert((now, at));
        let wanted_s = at.since(first).max(0) as f64 / 1_000.0 / factor;
        // A year is longer than any run, and keeps the sum in range.
        let wanted = Duration::from_secs_f64(wanted_s.min(31_557_600.0));
        (begun + wanted).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_factors_or_max() {
        assert_eq!(Speed::parse("max"), Ok(Speed::Max));
        assert_eq!(Speed::parse("1000x"), Ok(Speed::Times(1000.0)));
        assert_eq!(Speed::parse("0.5"), Ok(Speed::Times(0.5)));
        for bad in ["", "x", "0x", "-1x", "fast", "infx", "NaN"] {
            assert!(Speed::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ten_minutes_take_six_seconds_at_a_hundred_times() {
        let mut pacer = Pacer::new(Speed::Times(100.0));
        let (now, first) = (Instant::now(), EventTime::from_millis(5_000));
        assert_eq!(pacer.until_from(first, now), Duration::ZERO);
        let later = first.plus_millis(600_000);
        assert_eq!(pacer.until_from(later, now), Duration::from_secs(6));
        assert_eq!(pacer.until_from(later, now + Duration::from_secs(6)), Duration::ZERO);
        assert_eq!(pacer.until_from(EventTime::from_millis(0), now), Duration::ZERO);
    }

    #[test]
    fn at_full_speed_everything_is_due() {
        let mut pacer = Pacer::new(Speed::Max);
        assert_eq!(pacer.until(EventTime::from_millis(0)), Duration::ZERO);
        assert_eq!(pacer.until(EventTime::from_millis(i64::MAX)), Duration::ZERO);
    }
}

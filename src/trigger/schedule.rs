//! A timer that runs in event time.

use chrono::{DateTime, FixedOffset};
use croner::Cron;
use serde::{Deserialize, Serialize};

use crate::time::{EventTime, MINUTE_MS, SECOND_MS};

/// A timer that is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadSchedule {
    /// No cron expression.
    #[error("{text:?} is no cron expression such as \"0 4 * * *\": {why}")]
    Pattern {
        /// What was given.
        text: String,
        /// Why not.
        why: String,
    },
    /// No place on Earth.
    #[error("{0} minutes east of Greenwich: -1440 to 1440, without the ends, are allowed")]
    Offset(i32),
}

/// When a cron expression is due, by the clock of a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "(String, i32)", into = "(String, i32)")]
pub struct Schedule {
    text: String,
    cron: Cron,
    offset_minutes: i32,
    zone: FixedOffset,
}

impl Schedule {
    /// Reads `minute hour day month weekday`, at so many minutes east of Greenwich.
    ///
    /// # Errors
    /// [`BadSchedule`] that says what is allowed.
    pub fn new(text: &str, offset_minutes: i32) -> Result<Self, BadSchedule> {
        let cron = text.parse::<Cron>().map_err(|error| BadSchedule::Pattern {
            text: text.to_owned(),
            why: error.to_string(),
        })?;
        let zone = FixedOffset::east_opt(offset_minutes.saturating_mul(60))
            .ok_or(BadSchedule::Offset(offset_minutes))?;
        Ok(Self { text: text.to_owned(), cron, offset_minutes, zone })
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When it is due next after a time; none where never, as on 30 February.
    pub fn next(&self, after: EventTime) -> Option<EventTime> {
        let after = DateTime::from_timestamp_millis(after.millis())?.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        let whole_minute = next.timestamp().div_euclid(MINUTE_MS / SECOND_MS);
        Some(EventTime::from_millis(whole_minute * MINUTE_MS))
    }
}

impl TryFrom<(String, i32)> for Schedule {
    type Error = BadSchedule;

    fn try_from((text, offset_minutes): (String, i32)) -> Result<Self, BadSchedule> {
        Self::new(&text, offset_minutes)
    }
}

impl From<Schedule> for (String, i32) {
    fn from(schedule: Schedule) -> Self {
        (schedule.text, schedule.offset_minutes)
    }
}

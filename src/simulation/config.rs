//! What a world is made of. Enters: sizes and shares. Leaves: the same, checked. Never defaults
//! a wrong value into a right one.

use crate::time::{DAY_MS, EventTime};

/// The most users, items or creators a world may have. Names have seven digits; more would make
/// ids of unequal width, and a world is held in memory whole.
pub const MAX_MEMBERS: usize = 9_999_999;

/// The sizes of a world, and the seed everything random comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldConfig {
    /// Two worlds of the same configuration and seed are the same in every byte.
    pub seed: u64,
    /// People, at least 1.
    pub users: usize,
    /// Items, at least 1, including those published during the run.
    pub items: usize,
    /// Creators, at least 1; each makes items of one or two categories.
    pub creators: usize,
    /// Categories, at least 2.
    pub categories: usize,
    /// Event time of the first visit.
    pub start: EventTime,
    /// Length of the run in days, at least 1; visits end after it.
    pub days: u32,
    /// Share of items published during the run rather than before it, 0 to 1.
    pub new_item_share: f64,
    /// Share of people whose first visit falls anywhere in the run rather than at its start.
    pub new_user_share: f64,
    /// Share of sessions that begin with a search of one's own, 0 to 1: traffic that needs no
    /// recommender.
    pub organic_share: f64,
    /// Median sessions a day of a person, above 0 and at most 48.
    pub sessions_per_day: f64,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            users: 2_000,
            items: 3_000,
            creators: 300,
            categories: 12,
            // 2025-06-02T00:00:00Z, a Monday: weeks of a run are calendar weeks.
            start: EventTime::from_millis(1_748_822_400_000),
            days: 14,
            new_item_share: 0.2,
            new_user_share: 0.1,
            organic_share: 0.3,
            sessions_per_day: 2.0,
        }
    }
}

/// A configuration no world can be made of.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WorldError {
    /// A size is outside its range.
    #[error("{name} is {value}; set it between {least} and {most}")]
    Size {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The smallest value that works.
        least: usize,
        /// The largest.
        most: usize,
    },
    /// A share or rate is not a number in its range.
    #[error("{name} is {value}; set it to a number above or equal to {least}, at most {most}")]
    Share {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The smallest value that works.
        least: f64,
        /// The largest.
        most: f64,
    },
}

impl WorldConfig {
    /// Checks every setting against its range; the first that is wrong is named.
    pub fn validate(&self) -> Result<(), WorldError> {
        let size = |name, value: usize, least, most| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(WorldError::Size { name, value, least, most })
            }
        };
        size("users", self.users, 1, MAX_MEMBERS)?;
        size("items", self.items, 1, MAX_MEMBERS)?;
        size("creators", self.creators, 1, MAX_MEMBERS)?;
        // Above this, categories crowd each other out of the taste space.
        size("categories", self.categories, 2, 1_000)?;
        size("days", self.days as usize, 1, 3_650)?;
        let share = |name, value: f64, least, most| {
            if value >= least && value <= most {
                Ok(())
            } else {
                Err(WorldError::Share { name, value, least, most })
            }
        };
        share("new_item_share", self.new_item_share, 0.0, 1.0)?;
        share("new_user_share", self.new_user_share, 0.0, 1.0)?;
        share("organic_share", self.organic_share, 0.0, 1.0)?;
        share("sessions_per_day", self.sessions_per_day, 0.01, 48.0)
    }

    /// Event time at which visits end.
    pub fn end(&self) -> EventTime {
        self.start.plus_millis(i64::from(self.days) * DAY_MS)
    }

    /// Length of the run in milliseconds.
    pub(super) fn length_ms(&self) -> f64 {
        self.end().since(self.start) as f64
    }
}

//! Whether data is fit to be trained on: before anything is, and against the last run.

use serde::{Deserialize, Serialize};

use super::{TrainingError, text_of};
use crate::config::TrainingConfig;
use crate::time::{DAY_MS, EventTime};

/// The share of interactions that may lack something.
const MOST_WITHOUT: f64 = 0.01;

/// What data looks like; kept with the model for the next run to compare with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataFacts {
    /// Interactions read.
    pub interactions: u64,
    /// Those of them that were liked, each once.
    pub liked: u64,
    /// Liked ones that were in the topic more than once.
    pub sent_again: u64,
    /// Users who liked something.
    pub users: u64,
    /// Items that were liked.
    pub items: u64,
    /// Interactions that name no item.
    pub without_item: u64,
    /// Interactions without an event time.
    pub without_time: u64,
    /// The oldest like, milliseconds since the epoch.
    pub from_ms: i64,
    /// The newest.
    pub to_ms: i64,
    /// From when on is held out.
    pub split_ms: i64,
    /// Oldest files that memory had no room for.
    pub files_left_out: u64,
}

impl DataFacts {
    /// The share of interactions that were liked.
    pub fn like_rate(&self) -> f64 {
        self.liked as f64 / self.interactions.max(1) as f64
    }

    /// Likes a day.
    pub fn likes_a_day(&self) -> f64 {
        let days = (self.to_ms - self.from_ms) as f64 / DAY_MS as f64;
        self.liked as f64 / days.max(1.0 / 24.0)
    }
}

/// Checks volume, gaps, ranges, and rates against the last run's.
///
/// # Errors
/// [`TrainingError::Data`] with all that is wrong.
pub fn check(
    facts: &DataFacts,
    last: Option<&DataFacts>,
    rules: &TrainingConfig,
) -> Result<(), TrainingError> {
    let mut wrong = Vec::new();
    let least = rules.min_positives as u64;
    if facts.liked < least {
        wrong.push(format!(
            "{} of {} interactions in the lake were liked, and training.min_positives is {least}: \
             let `driftline archive` run longer, with `interactions` among lake.topics",
            facts.liked, facts.interactions
        ));
    }
    let share = |count: u64| count as f64 / facts.interactions.max(1) as f64;
    for (count, what) in [(facts.without_item, "item"), (facts.without_time, "event time")] {
        if share(count) > MOST_WITHOUT {
            wrong.push(format!(
                "{count} of {} interactions have no {what}: whoever writes `interactions` is broken",
                facts.interactions
            ));
        }
    }
    if facts.liked > 0 && facts.split_ms <= facts.from_ms {
        let at = text_of(EventTime::from_millis(facts.from_ms));
        wrong.push(format!(
            "most likes are of one moment, {at}: nothing can be held out; is event_time set?"
        ));
    }
    if let Some(last) = last {
        wrong.extend(against(facts, last, rules.max_rate_change));
    }
    if wrong.is_empty() { Ok(()) } else { Err(TrainingError::Data(wrong)) }
}

fn against(facts: &DataFacts, last: &DataFacts, most: f64) -> Vec<String> {
    let mut wrong = Vec::new();
    if facts.to_ms < last.to_ms {
        wrong.push(format!(
            "the newest like is of {}, and the champion was trained on data up to {}: this lake lacks \
             what came since",
            text_of(EventTime::from_millis(facts.to_ms)),
            text_of(EventTime::from_millis(last.to_ms))
        ));
    }
    let rates = [
        ("liked share", facts.like_rate(), last.like_rate()),
        ("likes a day", facts.likes_a_day(), last.likes_a_day()),
    ];
    for (what, now, then) in rates {
        let change = now / then;
        if then > 0.0 && !(1.0 / most..=most).contains(&change) {
            wrong.push(format!(
                "{what}: {now:.3} now and {then:.3} in the champion's data, more than the factor \
                 training.max_rate_change = {most}: look at what produces events; raise it where the \
                 change is real"
            ));
        }
    }
    wrong
}

//! What came of the lists of a candidate and of the champion beside it, over the same minutes.

use crate::event::MetricsWindow;
use crate::experiment::running::is_of;
use crate::experiment::sequential::{Comparison, Rule, compare};
use crate::experiment::tallies::{Metric, Tallies, Tally};
use crate::serving::CANARY_ARM;
use crate::time::MINUTE_MS;

/// What a candidate must not spoil.
pub const GUARDED: [&str; 3] = ["click_rate", "long_view_rate", "watch_seconds_per_impression"];

/// Windows of two versions from one event time on.
#[derive(Debug, Default)]
pub struct Outcomes {
    champion: String,
    candidate: String,
    since: i64,
    newest: i64,
    tallies: Tallies,
}

impl Outcomes {
    /// None yet, of versions as windows name them, of lists of `since` or later.
    pub fn new(champion: &str, candidate: &str, since: i64) -> Self {
        Self {
            champion: champion.to_owned(),
            candidate: candidate.to_owned(),
            since,
            newest: since,
            tallies: Tallies::new(since, i64::MAX),
        }
    }

    /// Takes in a window: those of other versions and times are passed over.
    pub fn take(&mut self, window: &MetricsWindow) {
        let is_ours = [&self.champion, &self.candidate].contains(&&window.model_version);
        if window.start >= self.since && is_ours {
            // Where no event time was known, the first minute is where it begins.
            if self.since == 0 {
                self.since = window.start;
            }
            self.newest = self.newest.max(window.start);
            self.tallies.take(window);
        }
    }

    /// Minutes of event time of which something is told.
    pub fn minutes(&self) -> i64 {
        ((self.newest - self.since) / MINUTE_MS).max(0)
    }

    /// Items that the candidate's lists showed.
    pub fn impressions(&self) -> i64 {
        self.of(&self.candidate, true).total().impressions
    }

    /// How the candidate does next to the champion, by metric; none of those of which too little is
    /// known. Units are groups of users, the clock is lists.
    pub fn compare(&self, rule: Rule) -> Vec<(&'static str, Option<Comparison>)> {
        let (candidate, champion) =
            (self.of(&self.candidate, true), self.of(&self.champion, false));
        let of = |name: &'static str| {
            let metric = Metric::by_name(name)?;
            compare(&candidate.arm(metric), &champion.arm(metric), rule)
        };
        GUARDED.into_iter().map(|name| (name, of(name))).collect()
    }

    /// Lists of a version, in the canary or beside it. Experiments run in both alike, and name their arms
    /// beside the canary's.
    fn of(&self, version: &str, in_canary: bool) -> Tally {
        self.tallies.of(|(own, arms)| own == version && is_of(arms, CANARY_ARM) == in_canary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guarded_is_a_metric() {
        assert!(GUARDED.iter().all(|name| Metric::by_name(name).is_some()));
    }
}

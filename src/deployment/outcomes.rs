//! What came of the lists of a candidate and of the champion beside it, over the same minutes.

use crate::event::MetricsWindow;
use crate::experiment::running;
use crate::experiment::sequential::{Comparison, Rule, compare};
use crate::experiment::tallies::{Metric, Segment, Tallies, Tally};
use crate::time::MINUTE_MS;

/// What a candidate must not spoil.
pub const GUARDED: [&str; 3] = ["click_rate", "long_view_rate", "watch_seconds"];

/// The arm of lists that a candidate made, as workers name it.
const CANARY: &str = crate::serving::CANARY_ARM;

/// Windows of two versions from one event time on.
#[derive(Debug, Default)]
pub struct Outcomes {
    champion: Segment,
    candidate: Segment,
    since: i64,
    newest: i64,
    tallies: Tallies,
}

impl Outcomes {
    /// None yet, of versions and the arms by which they serve, of lists of `since` or later.
    pub fn new(champion: (&str, &str), candidate: (&str, &str), since: i64) -> Self {
        let segment = |(version, arm): (&str, &str)| (version.to_owned(), arm.to_owned());
        Self {
            champion: segment(champion),
            candidate: segment(candidate),
            since,
            newest: since,
            tallies: Tallies::new(since, i64::MAX),
        }
    }

    /// Takes in a window: those of other versions and times are passed over.
    pub fn take(&mut self, window: &MetricsWindow) {
        let is = |segment: &Segment| window.model_version == segment.0 && window.arm == segment.1;
        if window.start >= self.since && (is(&self.champion) || is(&self.candidate)) {
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
        self.of(&self.candidate).total().impressions
    }

    /// How the candidate does next to the champion, by metric; none of those of which too little is
    /// known. Units are groups of users, the clock is lists.
    pub fn compare(&self, rule: Rule) -> Vec<(&'static str, Option<Comparison>)> {
        let (candidate, champion) = (self.of(&self.candidate), self.of(&self.champion));
        let of = |name: &'static str| {
            let metric = Metric::by_name(name)?;
            compare(&candidate.arm(metric), &champion.arm(metric), rule)
        };
        GUARDED.into_iter().map(|name| (name, of(name))).collect()
    }

    fn of(&self, wanted: &Segment) -> Tally {
        self.tallies.of(|segment| is_of(segment, wanted))
    }
}

/// Whether lists of a version are of a rollout's arm. Experiments run in both alike, and name theirs beside
/// it.
fn is_of((version, arms): &Segment, wanted: &Segment) -> bool {
    let is_canary = running::is_of(arms, CANARY);
    *version == wanted.0 && is_canary == (wanted.1 == CANARY)
}

//! Whether the data can be believed: gaps, what is missing, what comes late, what is degraded.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Settings;
use super::limit::Limit;
use super::merging::Minute;
use super::pairing::Pairing;
use crate::event::MetricKind;
use crate::time::EventTime;
use crate::trigger::Finding;

/// Minutes that are looked at together. More: what is missing is found later.
const MINUTES: usize = 10;
/// Lists from which their shares are judged.
const LEAST_LISTS: i64 = 20;
/// Watches and clicks from which the share of those that come late is judged.
const LEAST_OUTCOMES: i64 = 100;
/// Clicks or watches that have to be expected before none is a finding: by chance once in three million
/// times. Fewer than it takes to call the same a drop, so that this is known first.
const LEAST_EXPECTED: f64 = 15.0;
/// Share of minutes that has to have had lists before a minute without one is missing.
const DENSE: f64 = 0.9;
/// What is left a minute later of how dense minutes were, and of what was usual.
const KEPT_DENSITY: f64 = 1.0 - 1.0 / 120.0;
const KEPT_USUAL: f64 = 1.0 - 1.0 / 1_440.0;

/// Sums of a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sums {
    lists: i64,
    degraded: i64,
    impressions: i64,
    clicks: i64,
    watches: i64,
    late: i64,
}

/// What was usual per impression, faded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Usual {
    impressions: f64,
    clicks: f64,
    watches: f64,
}

/// The last minutes, and what was usual before them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    settings: Settings,
    minutes: VecDeque<Sums>,
    usual: Usual,
    pairing: Pairing,
    /// The version that the pairing is of: another one may be clicked otherwise.
    version: String,
    /// Items shown since the newest minute with a click, and with a watch.
    without_clicks: i64,
    without_watches: i64,
    /// Minutes in a row without a list, and how dense they were before.
    empty: u64,
    density: f64,
    density_before: f64,
}

impl Checks {
    /// Of nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            minutes: VecDeque::new(),
            usual: Usual::default(),
            pairing: Pairing::default(),
            version: String::new(),
            without_clicks: 0,
            without_watches: 0,
            empty: 0,
            density: 0.0,
            density_before: 0.0,
        }
    }

    /// Takes in a minute; says what is true after it.
    pub fn update(&mut self, minute: &Minute) -> Vec<Finding> {
        let mut sums = Sums { late: minute.late_outcomes, ..Sums::default() };
        for window in minute.segments.values() {
            sums.lists += window.lists;
            sums.degraded += window.degraded_lists;
            sums.impressions += window.impressions;
            sums.clicks += window.clicks;
            sums.watches += window.watches;
        }
        self.count_gap(sums.lists);
        let since = |before: i64, seen: i64| if seen > 0 { 0 } else { before + sums.impressions };
        self.without_clicks = since(self.without_clicks, sums.clicks);
        self.without_watches = since(self.without_watches, sums.watches);
        let (version, most) = serves_most(minute);
        if 2 * most > sums.impressions && version != self.version {
            self.pairing = Pairing::default();
            self.version = version.to_owned();
        }
        self.pairing.update(sums.clicks, sums.watches);
        self.minutes.push_back(sums);
        if self.minutes.len() > MINUTES
            && let Some(oldest) = self.minutes.pop_front()
        {
            let usual = &mut self.usual;
            usual.impressions = usual.impressions * KEPT_USUAL + oldest.impressions as f64;
            usual.clicks = usual.clicks * KEPT_USUAL + oldest.clicks as f64;
            usual.watches = usual.watches * KEPT_USUAL + oldest.watches as f64;
        }
        self.judge(minute.start)
    }

    fn count_gap(&mut self, lists: i64) {
        if lists > 0 {
            self.empty = 0;
        } else {
            if self.empty == 0 {
                self.density_before = self.density;
            }
            self.empty += 1;
        }
        let filled = if lists > 0 { 1.0 } else { 0.0 };
        self.density = self.density * KEPT_DENSITY + (1.0 - KEPT_DENSITY) * filled;
    }

    fn judge(&self, now: EventTime) -> Vec<Finding> {
        let mut all = Sums::default();
        for sums in &self.minutes {
            all.lists += sums.lists;
            all.degraded += sums.degraded;
            all.impressions += sums.impressions;
            all.clicks += sums.clicks;
            all.watches += sums.watches;
            all.late += sums.late;
        }
        let quality = |name, unit, observed, limit, n, reason| {
            let kind = MetricKind::Quality;
            Limit { name, unit, kind, observed, limit, n, minutes: MINUTES, reason }.finding(now)
        };
        let mut findings = Vec::new();
        if self.empty >= self.settings.gap_minutes && self.density_before >= DENSE {
            let reason = format!("No list is told of {} minutes in a row.", self.empty);
            let limit = self.settings.gap_minutes as f64;
            let mut gap =
                quality("missing_minutes", "minutes", self.empty as f64, limit, 0, reason);
            gap.window.start = gap.window.end - self.empty as i64 * crate::time::MINUTE_MS;
            gap.windows_breached = self.empty as i64;
            findings.push(gap);
        }
        if all.lists >= LEAST_LISTS && all.impressions == 0 {
            let reason = format!("{} lists showed nothing.", all.lists);
            findings.push(quality("empty_lists", "ratio", 1.0, 1.0, all.lists, reason));
        }
        let usual = [
            ("missing_clicks", "clicks", self.without_clicks, self.usual.clicks),
            ("missing_watches", "watches", self.without_watches, self.usual.watches),
        ];
        for (name, what, shown, usual) in usual {
            let expected = usual / self.usual.impressions.max(1.0) * shown as f64;
            if expected >= LEAST_EXPECTED {
                let reason = format!(
                    "{shown} items had no {what}, where {expected:.0} are usual of as many."
                );
                findings.push(quality(name, what, 0.0, expected, shown, reason));
            }
        }
        if let Some(missing) = self.pairing.missing() {
            let (observed, usual) = (missing.observed, missing.usual);
            let reason = format!(
                "There were {observed:.2} clicks for a watch, where {usual:.2} are usual: some \
                 clients send only one of both."
            );
            let unit = "clicks per watch";
            findings.push(quality("clicks_per_watch", unit, observed, usual, missing.n, reason));
        }
        let degraded = all.degraded as f64 / all.lists.max(1) as f64;
        let limit = self.settings.max_degraded_share;
        if all.lists >= LEAST_LISTS && degraded > limit {
            let reason = format!("A part was missing from {:.0} % of lists.", 100.0 * degraded);
            findings.push(quality("degraded_share", "ratio", degraded, limit, all.lists, reason));
        }
        let outcomes = all.clicks + all.watches + all.late;
        let late = all.late as f64 / outcomes.max(1) as f64;
        let limit = self.settings.max_late_share;
        if outcomes >= LEAST_OUTCOMES && late > limit {
            let reason = format!("{:.0} % of watches and clicks came too late.", 100.0 * late);
            findings.push(quality("late_share", "ratio", late, limit, outcomes, reason));
        }
        findings
    }
}

/// The version that shows most items in a minute, and how many.
fn serves_most(minute: &Minute) -> (&str, i64) {
    let mut shown: BTreeMap<&str, i64> = BTreeMap::new();
    for ((version, _, _), window) in &minute.segments {
        *shown.entry(version).or_default() += window.impressions;
    }
    shown.into_iter().max_by_key(|(_, impressions)| *impressions).unwrap_or_default()
}

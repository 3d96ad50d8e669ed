//! What came of the lists of a candidate and of the champion beside it, over the same minutes.

use std::collections::BTreeMap;

use crate::event::MetricsWindow;
use crate::experiment::sequential::{Arm, Comparison, Moments, Rule, compare};
use crate::time::MINUTE_MS;

/// What a candidate must not spoil: ratios of sums in windows, more of each being better.
pub const GUARDED: [Guarded; 3] = [
    Guarded { name: "click_rate", numerator: |window| window.clicks as f64 },
    Guarded { name: "long_view_rate", numerator: |window| window.long_views as f64 },
    Guarded {
        name: "watch_seconds_per_impression",
        numerator: |window| window.watched_ms as f64 / 1_000.0,
    },
];

/// A metric per impression.
pub struct Guarded {
    /// As `driftline metrics` names it.
    pub name: &'static str,
    numerator: fn(&MetricsWindow) -> f64,
}

/// By shard, minute and surface, the newest revision of what was told.
type Windows = BTreeMap<(i32, i64, String), MetricsWindow>;

/// Windows of two versions from one event time on.
#[derive(Debug, Default)]
pub struct Outcomes {
    champion: String,
    candidate: String,
    arms: (String, String),
    since: i64,
    of_champion: Windows,
    of_candidate: Windows,
    newest: i64,
}

impl Outcomes {
    /// None yet, of versions and the arms by which they serve, of lists of `since` or later.
    pub fn new(champion: (&str, &str), candidate: (&str, &str), since: i64) -> Self {
        Self {
            champion: champion.0.to_owned(),
            candidate: candidate.0.to_owned(),
            arms: (champion.1.to_owned(), candidate.1.to_owned()),
            since,
            ..Self::default()
        }
    }

    /// Takes in a window: those of other versions and times are passed over.
    pub fn take(&mut self, mut window: MetricsWindow) {
        if window.start < self.since {
            return;
        }
        self.newest = self.newest.max(window.start);
        let (version, arm) = (&window.model_version, &window.arm);
        let windows = if *version == self.candidate && *arm == self.arms.1 {
            &mut self.of_candidate
        } else if *version == self.champion && *arm == self.arms.0 {
            &mut self.of_champion
        } else {
            return;
        };
        // Only sums are asked for here, and these are most of a window.
        window.items = Vec::new();
        window.feature_counts = Vec::new();
        let key = (window.shard, window.start, window.surface.clone());
        let known = windows.entry(key).or_default();
        if known.revision < window.revision {
            *known = window;
        }
    }

    /// Minutes of event time of which something is told, from `since` on.
    pub fn minutes(&self) -> i64 {
        ((self.newest - self.since) / MINUTE_MS).max(0)
    }

    /// Items that the candidate's lists showed.
    pub fn impressions(&self) -> i64 {
        self.of_candidate.values().map(|window| window.impressions).sum()
    }

    /// How the candidate does next to the champion, by metric; none of those of which too little is
    /// known.
    pub fn compare(&self, rule: Rule) -> Vec<(&'static str, Option<Comparison>)> {
        let of = |guarded: &Guarded| {
            let candidate = arm(&self.of_candidate, guarded.numerator);
            let champion = arm(&self.of_champion, guarded.numerator);
            (guarded.name, compare(&candidate, &champion, rule))
        };
        GUARDED.iter().map(of).collect()
    }
}

/// Sums over minutes of shards: a list's items, and what a user asks for in a minute, are not
/// independent of each other.
fn arm(windows: &Windows, numerator: fn(&MetricsWindow) -> f64) -> Arm {
    let mut units: BTreeMap<(i32, i64), (f64, f64)> = BTreeMap::new();
    for ((shard, start, _), window) in windows {
        let unit = units.entry((*shard, *start)).or_default();
        unit.0 += numerator(window);
        unit.1 += window.impressions as f64;
    }
    let mut moments = Moments::default();
    units.values().for_each(|(numerator, impressions)| moments.add(*numerator, *impressions));
    Arm { observations: moments.denominator as u64, moments }
}

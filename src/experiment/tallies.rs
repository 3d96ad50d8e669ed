//! What came of arms' lists, from windows of `metrics`, as what comparisons are made of.
//!
//! The independent units are groups of users: a shard's users of one group. Lists of one user are
//! not independent of each other, whatever minute they are of.

use std::collections::{BTreeMap, BTreeSet};

use super::sequential::{Arm, Moments};
use crate::event::{MetricsWindow, UserGroup};
use crate::time::HOUR_MS;

/// How far a window may be behind its shard's newest to be counted. Shards tell windows in order, but
/// for what is told again: of the older ones it is no longer known what was counted.
/// Longer: more memory.
const REVISED_MS: i64 = 6 * HOUR_MS;

/// What arms are compared by: a sum by another.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, as experiments and reports have it.
    pub name: &'static str,
    /// What it is in words.
    pub title: &'static str,
    numerator: fn(&UserGroup) -> f64,
    denominator: fn(&UserGroup) -> f64,
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Metric {
    /// All of them. More of each is better.
    pub const ALL: [Self; 5] = [
        Self {
            name: "click_rate",
            title: "clicks by impression",
            numerator: |sums| sums.clicks as f64,
            denominator: |sums| sums.impressions as f64,
        },
        Self {
            name: "long_view_rate",
            title: "long views by impression",
            numerator: |sums| sums.long_views as f64,
            denominator: |sums| sums.impressions as f64,
        },
        Self {
            name: "completion_rate",
            title: "completed views by impression",
            numerator: |sums| sums.completions as f64,
            denominator: |sums| sums.impressions as f64,
        },
        Self {
            name: "watch_seconds_per_impression",
            title: "seconds watched by impression",
            numerator: |sums| sums.watched_ms as f64 / 1e3,
            denominator: |sums| sums.impressions as f64,
        },
        Self {
            name: "watch_seconds_per_list",
            title: "seconds watched by list",
            numerator: |sums| sums.watched_ms as f64 / 1e3,
            denominator: |sums| sums.lists as f64,
        },
    ];

    /// That of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name == name)
    }
}

/// A shard and a group of its users.
pub type Unit = (i32, i32);

/// What came of the lists of an arm, or of a part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    units: BTreeMap<Unit, UserGroup>,
}

impl Tally {
    fn count(&mut self, shard: i32, group: &UserGroup) {
        let sums = self.units.entry((shard, group.group)).or_default();
        sums.group = group.group;
        sums.add(group);
    }

    fn take_back(&mut self, shard: i32, group: &UserGroup) {
        let back = UserGroup {
            lists: -group.lists,
            impressions: -group.impressions,
            clicks: -group.clicks,
            long_views: -group.long_views,
            completions: -group.completions,
            watched_ms: -group.watched_ms,
            ..*group
        };
        self.count(shard, &back);
    }

    /// Adds another part of the arm.
    pub fn merge(&mut self, other: &Self) {
        for ((shard, _), group) in &other.units {
            self.count(*shard, group);
        }
    }

    /// All its sums.
    pub fn total(&self) -> UserGroup {
        let mut total = UserGroup::default();
        self.units.values().for_each(|group| total.add(group));
        total
    }

    /// What is known of a metric. Lists are the clock.
    pub fn arm(&self, metric: Metric) -> Arm {
        let mut moments = Moments::default();
        let filled = self.units.values().filter(|sums| sums.lists > 0);
        filled.for_each(|sums| moments.add((metric.numerator)(sums), (metric.denominator)(sums)));
        Arm { observations: u64::try_from(self.total().lists).unwrap_or(0), moments }
    }
}

/// Lists of several arms by unit, as [`super::ratio_mismatch::probability`] wants them.
pub fn lists_by_unit(arms: &[&Tally]) -> Vec<Vec<u64>> {
    let units: BTreeSet<Unit> = arms.iter().flat_map(|arm| arm.units.keys().copied()).collect();
    let lists = |unit: &Unit| {
        let of = |arm: &&Tally| arm.units.get(unit).map_or(0, |sums| sums.lists);
        arms.iter().map(|arm| u64::try_from(of(arm)).unwrap_or(0)).collect()
    };
    units.iter().map(lists).collect()
}

/// A model version and an arm, as windows name them.
pub type Segment = (String, String);

/// A window's place: shard, begin, model version, arm and surface.
type Key = (i32, i64, String, String, String);

/// The tallies of all segments, over windows that begin in a span of event time. Each window counts once,
/// by its highest revision, however often it is told.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    from: i64,
    until: i64,
    segments: BTreeMap<Segment, Tally>,
    /// What is counted of windows that may be told again.
    counted: BTreeMap<Key, (i32, Vec<UserGroup>)>,
    /// Begin of the newest window of each shard.
    newest: BTreeMap<i32, i64>,
}

impl Tallies {
    /// Of windows that begin in `from..until`, milliseconds.
    pub fn new(from: i64, until: i64) -> Self {
        Self { from, until, ..Self::default() }
    }

    /// Takes a window. Returns whether it said anything new.
    pub fn take(&mut self, window: &MetricsWindow) -> bool {
        let newest = self.newest.entry(window.shard).or_insert(window.start);
        *newest = (*newest).max(window.start);
        let oldest = *newest - REVISED_MS;
        if !(self.from..self.until).contains(&window.start) || window.start < oldest {
            return false;
        }
        let MetricsWindow { shard, start, model_version, arm, surface, .. } = window;
        let key = (*shard, *start, model_version.clone(), arm.clone(), surface.clone());
        let tally = self.segments.entry((model_version.clone(), arm.clone())).or_default();
        if let Some((revision, before)) = self.counted.get(&key) {
            if *revision >= window.revision {
                return false;
            }
            before.iter().for_each(|group| tally.take_back(*shard, group));
        }
        window.user_groups.iter().for_each(|group| tally.count(*shard, group));
        self.counted.insert(key, (window.revision, window.user_groups.clone()));
        let of_shard = (*shard, i64::MIN, String::new(), String::new(), String::new());
        while let Some((old, _)) = self.counted.range(of_shard.clone()..).next()
            && old.0 == *shard
            && old.1 < oldest
        {
            let old = old.clone();
            self.counted.remove(&old);
        }
        true
    }

    /// All segments.
    pub fn segments(&self) -> impl Iterator<Item = (&Segment, &Tally)> {
        self.segments.iter()
    }

    /// Those segments together that are asked for.
    pub fn of(&self, wanted: impl Fn(&Segment) -> bool) -> Tally {
        let mut whole = Tally::default();
        let parts = self.segments.iter().filter(|(segment, _)| wanted(segment));
        parts.for_each(|(_, tally)| whole.merge(tally));
        whole
    }
}

//! The windows of all shards become minutes, each once, in order.
//!
//! A minute is final when every shard that told anything has passed it: a shard tells its windows in
//! order, but for revisions. A shard that is further behind the newest than `idle_ms` is not waited
//! for, and neither is any before there was time to hear of all: `idle_ms` after the first minute.
//! Clocks are kept by partition of the topic too, so that how partitions are read next to each other
//! does not decide what is final.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::MetricsWindow;
use crate::quality::windows::merge;
use crate::time::{EventTime, HOUR_MS, MINUTE_MS};

/// How long what was told of a final minute is known, to tell what comes late from what is repeated.
/// Longer: more memory. Shorter: late revisions are counted as told for the first time.
const REMEMBERED_MS: i64 = 6 * HOUR_MS;
/// Longest stretch of minutes without a window that is gone through minute by minute. Longer ones are
/// another time: seasons would not know what to make of their ends either.
const LONGEST_GAP_MS: i64 = 7 * 24 * HOUR_MS;

/// What became of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the first of its key.
    New,
    /// It replaces an earlier revision.
    Replaced,
    /// It says nothing new.
    Repeated,
    /// Its minute is final: it is only counted.
    Late,
}

impl Taken {
    /// All of them, by name.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Replaced => "replaced",
            Self::Repeated => "repeated",
            Self::Late => "late",
        }
    }
}

/// A final minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Minute {
    /// Its begin.
    pub start: EventTime,
    /// What was counted in it, by model version, arm and surface. Empty where nothing was told.
    pub segments: BTreeMap<(String, String, String), MetricsWindow>,
    /// Watches and clicks of final minutes that were told late since the minute before.
    pub late_outcomes: i64,
}

/// A revision of a final minute, and the outcomes that it says came late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Final {
    revision: i32,
    late: i64,
}

/// Windows of minutes that are not final.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merger {
    idle_ms: i64,
    /// Newest start by partition and shard.
    clocks: BTreeMap<String, i64>,
    first: Option<i64>,
    /// The next minute to become final.
    next: Option<i64>,
    open: BTreeMap<i64, BTreeMap<String, MetricsWindow>>,
    done: BTreeMap<i64, BTreeMap<String, Final>>,
    late_outcomes: i64,
}

impl Merger {
    /// Of nothing yet.
    pub fn new(idle_ms: i64) -> Self {
        Self {
            idle_ms,
            clocks: BTreeMap::new(),
            first: None,
            next: None,
            open: BTreeMap::new(),
            done: BTreeMap::new(),
            late_outcomes: 0,
        }
    }

    /// Takes in what a partition of the topic brings.
    pub fn take(&mut self, partition: i32, mut window: MetricsWindow) -> Taken {
        let start = window.start.div_euclid(MINUTE_MS) * MINUTE_MS;
        window.start = start;
        // Of single items and groups of users nothing is asked here, and they are most of a window.
        window.items = Vec::new();
        window.user_groups = Vec::new();
        let clock = self.clocks.entry(format!("{partition}/{}", window.shard)).or_insert(start);
        *clock = start.max(*clock);
        self.first.get_or_insert(start);
        let MetricsWindow { shard, model_version, arm, surface, .. } = &window;
        let key = format!("{shard}\0{model_version}\0{arm}\0{surface}");
        if self.next.is_some_and(|next| start < next) {
            return self.take_late(start, key, &window);
        }
        let minute = self.open.entry(start).or_default();
        match minute.get(&key) {
            Some(known) if known.revision >= window.revision => Taken::Repeated,
            Some(_) => {
                minute.insert(key, window);
                Taken::Replaced
            }
            None => {
                minute.insert(key, window);
                Taken::New
            }
        }
    }

    fn take_late(&mut self, start: i64, key: String, window: &MetricsWindow) -> Taken {
        let late = window.late_clicks + window.late_watches;
        let now = Final { revision: window.revision, late };
        let minute = self.done.entry(start).or_default();
        let before = minute.get(&key).copied();
        if before.is_some_and(|before| before.revision >= now.revision) {
            return Taken::Repeated;
        }
        minute.insert(key, now);
        self.late_outcomes += (late - before.map_or(0, |before| before.late)).max(0);
        Taken::Late
    }

    /// Begin of the newest minute that something was told of.
    pub fn newest(&self) -> Option<i64> {
        self.clocks.values().max().copied()
    }

    /// All minutes before it are final.
    fn final_before(&self) -> Option<i64> {
        let (newest, first) = (self.newest()?, self.first?);
        if newest - first < self.idle_ms {
            return None;
        }
        self.clocks.values().filter(|clock| **clock + self.idle_ms >= newest).min().copied()
    }

    /// The next minute that is final, with those in which nothing was told.
    pub fn next(&mut self) -> Option<Minute> {
        let limit = self.final_before()?;
        let mut start = match (self.next, self.open.keys().next()) {
            (Some(next), _) => next,
            (None, Some(first)) => *first,
            (None, None) => return None,
        };
        if start >= limit {
            return None;
        }
        if let Some(filled) = self.open.keys().next()
            && filled - start > LONGEST_GAP_MS
        {
            start = *filled;
        }
        self.next = Some(start + MINUTE_MS);
        let mut minute = Minute {
            start: EventTime::from_millis(start),
            late_outcomes: std::mem::take(&mut self.late_outcomes),
            ..Minute::default()
        };
        let mut done = BTreeMap::new();
        for (key, window) in self.open.remove(&start).unwrap_or_default() {
            let late = window.late_clicks + window.late_watches;
            done.insert(key, Final { revision: window.revision, late });
            minute.late_outcomes += late;
            let MetricsWindow { model_version, arm, surface, .. } = &window;
            let segment = (model_version.clone(), arm.clone(), surface.clone());
            merge(minute.segments.entry(segment).or_default(), &window);
        }
        if !done.is_empty() {
            self.done.insert(start, done);
        }
        while self.done.first_key_value().is_some_and(|(at, _)| at + REMEMBERED_MS < start) {
            self.done.pop_first();
        }
        Some(minute)
    }
}

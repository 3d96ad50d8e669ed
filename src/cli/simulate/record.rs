//! What is written down of a world by event time: the ground truth that whoever judges compares with.
//! Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::ids::ItemId;
use crate::simulation::{Response, Truth, Visit, World};
use crate::time::{EventTime, HOUR_MS};

/// One list in this many is compared with the best there is: that takes a pass over all items.
const SAMPLED: u64 = 8;

/// An hour of event time, by when visits began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Hour {
    lists: u64,
    shown: u64,
    clicks: u64,
    /// Visits without a list.
    failed: u64,
    /// Lists compared with the best, and what both would get: sums of expected click rates.
    sampled: u64,
    served: f64,
    best: f64,
}

/// What happened, and how good lists were.
#[derive(Clone, Debug, Default)]
pub struct Record {
    hours: BTreeMap<i64, Hour>,
    truths: Vec<Truth>,
    /// Lists by a version that the person's session had left for another one.
    mixed: u64,
}

impl Record {
    /// A scenario began.
    pub fn begin(&mut self, truth: Truth) {
        self.truths.push(truth);
    }

    fn hour(&mut self, at: EventTime) -> &mut Hour {
        self.hours.entry(at.millis().div_euclid(HOUR_MS) * HOUR_MS).or_default()
    }

    /// A list that is about to be shown.
    pub fn compare(&mut self, world: &World, visit: &Visit, list: &[ItemId]) {
        let hour = self.hour(visit.at);
        hour.lists += 1;
        hour.shown += list.len() as u64;
        if !hour.lists.is_multiple_of(SAMPLED) {
            return;
        }
        let best = world.best_items(&visit.user, list.len(), visit.at);
        let rate = |list: &[ItemId]| world.expected_click_rate(&visit.user, list, visit.at);
        if let (Some(served), Some(best)) = (rate(list), rate(&best)) {
            hour.sampled += 1;
            hour.served += served;
            hour.best += best;
        }
    }

    /// What came of it.
    pub fn respond(&mut self, visit: &Visit, response: &Response) {
        self.hour(visit.at).clicks += response.clicks as u64;
    }

    /// A visit got no list.
    pub fn fail(&mut self, visit: &Visit) {
        self.hour(visit.at).failed += 1;
    }

    /// A session was answered by a version that it had left.
    pub fn mix(&mut self) {
        self.mixed += 1;
    }

    /// All of it, for `--json`: `scenarios`, `hours` and `mixed_versions`.
    pub fn to_json(&self) -> Value {
        let truth = |truth: &Truth| {
            json!({
                "scenario": truth.scenario.name(),
                "about": truth.scenario.about(),
                "at": truth.at.millis(),
                "until": truth.until.map(EventTime::millis),
                "wanted": truth.scenario.wanted().map(|asked| asked.name()),
            })
        };
        let mean = |sum: f64, n: u64| if n > 0 { sum / n as f64 } else { 0.0 };
        let hour = |(start, hour): (&i64, &Hour)| {
            json!({
                "start": start,
                "lists": hour.lists,
                "shown": hour.shown,
                "clicks": hour.clicks,
                "failed": hour.failed,
                "sampled": hour.sampled,
                "expected_click_rate": mean(hour.served, hour.sampled),
                "best_click_rate": mean(hour.best, hour.sampled),
            })
        };
        json!({
            "scenarios": self.truths.iter().map(truth).collect::<Vec<_>>(),
            "mixed_versions": self.mixed,
            "hours": self.hours.iter().map(hour).collect::<Vec<_>>(),
        })
    }
}

/// The versions of the model that a person's session was answered by.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    session: String,
    now: String,
    left: Vec<String>,
}

impl Versions {
    /// Takes in which version answered; whether the session had left it before.
    pub fn answer(&mut self, session: &str, version: &str) -> bool {
        if self.session != session {
            *self = Self { session: session.into(), now: version.into(), left: Vec::new() };
        }
        if self.now == version {
            return false;
        }
        self.left.push(std::mem::replace(&mut self.now, version.into()));
        self.left.iter().any(|left| left == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{Intent, Scenario, WorldConfig};

    #[test]
    fn an_hour_knows_how_its_lists_compare_with_the_best() {
        let config = WorldConfig { users: 60, items: 200, days: 1, ..WorldConfig::default() };
        let start = config.start;
        let mut world = World::new(config).unwrap();
        let mut record = Record::default();
        record.begin(Scenario::FlashCrowd.plan(start, start).truth);
        while let Some(visit) = world.next_visit() {
            if visit.intent == Intent::Search {
                record.fail(&visit);
                continue;
            }
            let list = world.best_items(&visit.user, 10, visit.at);
            record.compare(&world, &visit, &list);
            let response = world.respond(&visit, &list, visit.at);
            record.respond(&visit, &response);
        }
        let told = record.to_json();
        let hours = told["hours"].as_array().unwrap();
        let sum = |name: &str| hours.iter().map(|hour| hour[name].as_f64().unwrap()).sum::<f64>();
        assert!(sum("lists") > 100.0 && sum("failed") > 10.0 && sum("clicks") > 100.0);
        assert!(hours.windows(2).all(|pair| pair[0]["start"].as_i64() < pair[1]["start"].as_i64()));
        for hour in hours {
            assert_eq!(hour["expected_click_rate"], hour["best_click_rate"], "{hour}");
        }
        let truth = &told["scenarios"][0];
        assert_eq!(truth["scenario"], "flash-crowd");
        assert_eq!(truth["until"].as_i64(), Some(start.millis() + HOUR_MS));
        assert_eq!(truth["wanted"], Value::Null);
    }

    #[test]
    fn a_session_is_mixed_where_a_version_that_it_left_comes_back() {
        let mut versions = Versions::default();
        let told = ["a", "a", "b", "b", "a", "b"].map(|version| versions.answer("s1", version));
        assert_eq!(told, [false, false, false, false, true, true]);
        assert!(!versions.answer("s2", "a"), "another session");
    }
}

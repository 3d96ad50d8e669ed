//! What a closed loop made of a scenario. Enters: the world's own record, what was told on
//! `retrain-triggers`, which versions answered. Leaves: one row of a table. Pure.

use serde::{Deserialize, Serialize};

use crate::event::{MetricKind, RetrainTrigger, TriggerAction, TriggerType};
use crate::simulation::{Asked, Scenario};
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};

/// What a rate is taken over: a day, so that the hour does not count.
const SPAN_MS: i64 = DAY_MS;
/// What is told of the beginning of a world, when lists have nothing to show yet, counts for nothing.
const BEGINNING_MS: i64 = DAY_MS;

/// The parts of the JSON that `driftline simulate --json` ends with, as far as they are judged by.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct World {
    pub scenarios: Vec<Began>,
    pub hours: Vec<Hour>,
    #[serde(default)]
    pub mixed_versions: u64,
}

/// A scenario that began.
#[derive(Clone, Debug, Deserialize)]
pub struct Began {
    pub scenario: String,
    pub at: i64,
}

/// An hour of event time.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Hour {
    pub start: i64,
    pub shown: u64,
    pub clicks: u64,
    pub failed: u64,
    pub sampled: u64,
    pub expected_click_rate: f64,
    pub best_click_rate: f64,
}

/// When a version of the model answered, by event time of lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    pub version: String,
    pub first: i64,
    pub last: i64,
    pub lists: i64,
    /// Begin of the first hour in which it made most lists.
    pub most: Option<i64>,
}

/// Something that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Event time.
    pub at: i64,
    pub action: String,
    pub metric: String,
    pub reason: String,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub scenario: String,
    /// Event time at which it began.
    pub at: i64,
    pub wanted: Option<String>,
    /// Whether what was wanted was asked for, and nothing that was not.
    pub met: bool,
    /// What was asked for first that the scenario allows.
    pub detected: Option<Alarm>,
    /// Asked for without a reason in the world: before it began, or not what it calls for.
    pub false_alarms: Vec<Alarm>,
    /// Asked for by the clock of workers, on which event time has no place: errors and latency.
    pub system_alarms: Vec<Alarm>,
    pub versions: Vec<Served>,
    /// From the beginning to the first list of a version that is new since.
    pub tried_after_minutes: Option<f64>,
    /// To the end of the first hour in which such a version made most lists.
    pub served_after_minutes: Option<f64>,
    /// From the beginning to the last list of such a version, where an older one serves again.
    pub rolled_back_after_minutes: Option<f64>,
    /// Click rate of the day before it began, or of the fourth where it begins with the world; and of
    /// the last day.
    pub before: f64,
    pub after: f64,
    /// The lowest of six hours in between.
    pub lowest: f64,
    /// What lists get of what the best lists would, the day before and the last day.
    pub share_before: f64,
    pub share_after: f64,
    /// Click rate of the last day over the oracle's; where there is none, the share of the last day
    /// over that of the day before.
    pub recovered: f64,
    pub has_oracle: bool,
    pub failed: u64,
    pub mixed_versions: u64,
}

impl Hour {
    fn is_in(&self, from: i64, to: i64) -> bool {
        self.start >= from && self.start + HOUR_MS <= to
    }
}

/// Clicks on an item shown in hours that lie in a span; 0 of nothing.
fn click_rate(hours: &[Hour], from: i64, to: i64) -> f64 {
    let within = hours.iter().filter(|hour| hour.is_in(from, to));
    let (clicks, shown) =
        within.fold((0, 0), |sums, hour| (sums.0 + hour.clicks, sums.1 + hour.shown));
    ratio(clicks as f64, shown as f64)
}

/// What lists get of what the best lists would, by the world's true tastes.
fn share(hours: &[Hour], from: i64, to: i64) -> f64 {
    let within = hours.iter().filter(|hour| hour.is_in(from, to));
    let (served, best) = within.fold((0.0, 0.0), |sums, hour| {
        let n = hour.sampled as f64;
        (sums.0 + n * hour.expected_click_rate, sums.1 + n * hour.best_click_rate)
    });
    ratio(served, best)
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn asked(action: TriggerAction) -> Option<Asked> {
    match action {
        TriggerAction::Retrain => Some(Asked::Retrain),
        TriggerAction::Rollback => Some(Asked::Rollback),
        TriggerAction::Investigate => Some(Asked::Investigate),
        TriggerAction::None => None,
    }
}

fn alarm(trigger: &RetrainTrigger) -> Alarm {
    Alarm {
        at: trigger.emitted_at,
        action: trigger.action.name().into(),
        metric: trigger.metric.name.clone(),
        reason: trigger.reason.clone(),
    }
}

/// Judges. The oracle is the record of another world, for the same hours.
///
/// # Errors
/// Where nothing began in the world, or something that is no scenario.
pub fn judge(
    world: &World,
    triggers: &[RetrainTrigger],
    versions: Vec<Served>,
    oracle: Option<&World>,
) -> Result<Verdict, String> {
    let began = world.scenarios.first().ok_or("no scenario began in this world")?;
    let scenario: Scenario = began.scenario.parse()?;
    let (begin, end) = match (world.hours.first(), world.hours.last()) {
        (Some(first), Some(last)) => (first.start, last.start + HOUR_MS),
        _ => return Err("the world has no hours".into()),
    };
    let at = began.at;
    let mut found = Found::default();
    for trigger in triggers {
        found.take(trigger, scenario, at, begin..end + DAY_MS);
    }
    // What begins with the world has no day before: its fourth, when it is warm.
    let was = if at == begin { at + 4 * SPAN_MS } else { at };
    let minutes = |to: i64| (to - at) as f64 / MINUTE_MS as f64;
    let is_new = |served: &&Served| served.first >= was;
    let newest = versions.iter().map(|served| served.last).max().unwrap_or(end);
    let goes_on = |served: &Served| served.last + HOUR_MS >= newest;
    let tried = versions.iter().filter(is_new).map(|served| served.first).min();
    let most = |served: &Served| Some(served.most? + HOUR_MS);
    let served = versions.iter().filter(is_new).filter_map(most).min();
    let left = versions.iter().filter(is_new).filter(|served| !goes_on(served));
    let returned = versions.iter().any(|served| !is_new(&served) && goes_on(served));
    let left = left.map(|served| served.last).max().filter(|_| returned);
    let spans = (0..).map(|n| was + n * 6 * HOUR_MS).take_while(|from| from + 6 * HOUR_MS <= end);
    let (from, hours) = ((end - SPAN_MS).max(at), &world.hours);
    let after = click_rate(hours, from, end);
    let (share_before, share_after) = (share(hours, was - SPAN_MS, was), share(hours, from, end));
    let wanted = scenario.wanted();
    let is_rolled_back = wanted == Some(Asked::Rollback) && left.is_some();
    let is_met = wanted.is_none()
        || is_rolled_back
        || found.detected.as_ref().map(|alarm| alarm.action.as_str()) == wanted.map(Asked::name);
    Ok(Verdict {
        scenario: scenario.name().into(),
        at,
        wanted: wanted.map(|asked| asked.name().into()),
        met: is_met && found.false_alarms.is_empty(),
        detected: found.detected,
        false_alarms: found.false_alarms,
        system_alarms: found.system_alarms,
        tried_after_minutes: tried.map(minutes),
        served_after_minutes: served.map(minutes),
        rolled_back_after_minutes: left.map(minutes),
        before: click_rate(hours, was - SPAN_MS, was),
        after,
        lowest: spans.map(|s| click_rate(hours, s, s + 6 * HOUR_MS)).fold(f64::INFINITY, f64::min),
        share_before,
        share_after,
        recovered: match oracle {
            Some(oracle) => ratio(after, click_rate(&oracle.hours, from, end)),
            None => ratio(share_after, share_before),
        },
        has_oracle: oracle.is_some(),
        failed: hours.iter().map(|hour| hour.failed).sum(),
        mixed_versions: world.mixed_versions,
        versions,
    })
}

/// What triggers come to.
#[derive(Default)]
struct Found {
    detected: Option<Alarm>,
    false_alarms: Vec<Alarm>,
    system_alarms: Vec<Alarm>,
}

impl Found {
    fn take(
        &mut self,
        trigger: &RetrainTrigger,
        scenario: Scenario,
        at: i64,
        event_time: std::ops::Range<i64>,
    ) {
        let by_people =
            [TriggerType::Schedule, TriggerType::Manual].contains(&trigger.trigger_type);
        let Some(action) = asked(trigger.action).filter(|_| !by_people) else { return };
        // Two clocks: what workers tell of their answers has the minute of the wall.
        let is_system =
            trigger.metric.kind == MetricKind::System || !event_time.contains(&trigger.emitted_at);
        if !is_system && trigger.emitted_at < event_time.start + BEGINNING_MS {
            return;
        }
        let allowed = scenario.allows(action);
        if is_system && !allowed {
            self.system_alarms.push(alarm(trigger));
        } else if !allowed || (!is_system && trigger.emitted_at < at) {
            self.false_alarms.push(alarm(trigger));
        } else if self.detected.is_none() {
            self.detected = Some(alarm(trigger));
        }
    }
}

/// The header of the table.
pub const HEADER: [&str; 10] = [
    "scenario",
    "wanted",
    "found after",
    "asked for",
    "false alarms",
    "new version tried, serves after",
    "click rate before, lowest, after",
    "recovered to",
    "failed / mixed",
    "as wanted",
];

impl Verdict {
    /// Its row.
    pub fn row(&self) -> Vec<String> {
        let dash = || "–".to_owned();
        let hours = |minutes: f64| format!("{:.1} h", minutes / 60.0);
        let found = self.detected.as_ref();
        let since = |alarm: &Alarm| (alarm.at - self.at) as f64 / MINUTE_MS as f64;
        let is_event_time =
            |alarm: &&Alarm| self.versions.iter().any(|v| alarm.at < v.last + 2 * DAY_MS);
        let percent = |rate: f64| format!("{:.1}", 100.0 * rate);
        let rolled_back = self.rolled_back_after_minutes;
        let lowest = if self.lowest.is_finite() { self.lowest } else { self.after };
        vec![
            self.scenario.clone(),
            self.wanted.clone().unwrap_or_else(dash),
            found.filter(is_event_time).map_or_else(dash, |alarm| hours(since(alarm))),
            match (found, rolled_back) {
                (Some(alarm), _) => format!("{} ({})", alarm.action, alarm.metric),
                (None, Some(after)) => format!("rolled back after {}", hours(after)),
                (None, None) => dash(),
            },
            self.false_alarms.len().to_string(),
            format!(
                "{}, {}",
                self.tried_after_minutes.map_or_else(dash, hours),
                self.served_after_minutes.map_or_else(dash, hours)
            ),
            format!("{}, {}, {} %", percent(self.before), percent(lowest), percent(self.after)),
            format!(
                "{:.0} % of {}",
                100.0 * self.recovered,
                if self.has_oracle { "the oracle" } else { "before" }
            ),
            format!("{} / {}", self.failed, self.mixed_versions),
            if self.met { "yes" } else { "NO" }.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TriggerMetric;

    const START: i64 = 1_748_822_400_000;

    /// Six days: ten clicks on a hundred items an hour, fewer from the fourth on until hour 120.
    fn world(scenario: &str) -> World {
        let hour = |n: i64| Hour {
            start: START + n * HOUR_MS,
            shown: 100,
            clicks: if (72..120).contains(&n) { 5 } else { 10 },
            failed: u64::from(n == 80),
            sampled: 1,
            expected_click_rate: 0.1,
            best_click_rate: if n < 72 { 0.2 } else { 0.25 },
        };
        World {
            scenarios: vec![Began { scenario: scenario.into(), at: START + 72 * HOUR_MS }],
            hours: (0..144).map(hour).collect(),
            mixed_versions: 2,
        }
    }

    fn trigger(hour: i64, action: TriggerAction, kind: MetricKind) -> RetrainTrigger {
        RetrainTrigger {
            emitted_at: START + hour * HOUR_MS,
            trigger_type: TriggerType::Performance,
            action,
            metric: TriggerMetric { name: "m".into(), kind, ..TriggerMetric::default() },
            ..RetrainTrigger::default()
        }
    }

    fn served(version: &str, first: i64, last: i64) -> Served {
        let at = |hour: i64| START + hour * HOUR_MS;
        let most = Some(at(first + 4)).filter(|_| last - first > 24);
        Served { version: version.into(), first: at(first), last: at(last), lists: 100, most }
    }

    #[test]
    fn a_shift_that_is_found_and_mended_is_told_with_when_and_how_far() {
        let triggers = [
            trigger(73, TriggerAction::None, MetricKind::Business),
            trigger(75, TriggerAction::Retrain, MetricKind::Business),
            trigger(81, TriggerAction::Retrain, MetricKind::Business),
            trigger(900_000, TriggerAction::Investigate, MetricKind::System),
        ];
        let versions = vec![served("a", 0, 84), served("b", 83, 143)];
        let verdict = judge(&world("taste-shift"), &triggers, versions, None).unwrap();
        assert!(verdict.met, "{verdict:?}");
        assert_eq!(verdict.detected.as_ref().map(|a| a.at), Some(START + 75 * HOUR_MS));
        assert_eq!((verdict.false_alarms.len(), verdict.system_alarms.len()), (0, 1));
        assert_eq!(verdict.tried_after_minutes, Some(660.0));
        assert_eq!(verdict.served_after_minutes, Some(960.0));
        assert_eq!(verdict.rolled_back_after_minutes, None);
        assert_eq!((verdict.before, verdict.lowest, verdict.after), (0.1, 0.05, 0.1));
        assert!((verdict.recovered - 0.8).abs() < 1e-9);
        assert_eq!((verdict.failed, verdict.mixed_versions), (1, 2));
        assert_eq!(verdict.row()[2], "3.0 h");
        let mut oracle = world("taste-shift");
        oracle.hours.iter_mut().for_each(|hour| hour.clicks = 20);
        let verdict = judge(&world("taste-shift"), &triggers, Vec::new(), Some(&oracle)).unwrap();
        assert!(verdict.has_oracle && (verdict.recovered - 0.5).abs() < 1e-9);
    }

    #[test]
    fn what_comes_before_or_is_not_called_for_is_a_false_alarm() {
        let retrain = |hour| trigger(hour, TriggerAction::Retrain, MetricKind::Business);
        let judged = |name: &str, triggers: &[RetrainTrigger]| {
            judge(&world(name), triggers, Vec::new(), None).unwrap()
        };
        let early = judged("taste-shift", &[retrain(60), retrain(75)]);
        assert!(!early.met && early.detected.is_some() && early.false_alarms.len() == 1);
        for calm in ["seasonal-only", "flash-crowd", "data-loss"] {
            assert_eq!(judged(calm, &[retrain(75)]).false_alarms.len(), 1);
        }
        assert!(judged("seasonal-only", &[]).met);
        assert!(!judged("taste-shift", &[]).met && !judged("data-loss", &[]).met);
        let looked = trigger(75, TriggerAction::Investigate, MetricKind::Quality);
        assert!(judged("data-loss", &[looked]).met);
        assert!(judged("taste-shift", &[retrain(20), retrain(75)]).met, "the world's first day");
        let timer = RetrainTrigger { trigger_type: TriggerType::Schedule, ..retrain(75) };
        assert!(judged("flash-crowd", &[timer]).met);
    }

    #[test]
    fn a_version_that_came_and_went_was_rolled_back() {
        let bad = |last| vec![served("a", 0, 143), served("b", 72, last)];
        let verdict = judge(&world("bad-model"), &[], bad(75), None).unwrap();
        assert!(verdict.met && verdict.rolled_back_after_minutes == Some(180.0), "{verdict:?}");
        let stays = judge(&world("bad-model"), &[], bad(143), None).unwrap();
        assert!(!stays.met && stays.rolled_back_after_minutes.is_none());
    }

    #[test]
    fn a_world_in_which_nothing_began_is_refused() {
        assert!(judge(&World::default(), &[], Vec::new(), None).is_err());
        let rain = World {
            scenarios: vec![Began { scenario: "rain".into(), at: 0 }],
            ..world("taste-shift")
        };
        assert!(judge(&rain, &[], Vec::new(), None).unwrap_err().contains("rain"));
    }
}

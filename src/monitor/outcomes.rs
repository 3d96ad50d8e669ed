//! What came of lists, watched: rates against their season, for all traffic and its busiest segments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::merging::Minute;
use crate::drift::seasonal::{self, Direction, Judgement, Pooled, Seasonal, Window, pool};
use crate::event::{
    MetricKind, MetricsWindow, TriggerDetector, TriggerDirection, TriggerMetric, TriggerReference,
    TriggerWindow,
};
use crate::quality::windows::merge;
use crate::time::{DAY_MS, EventTime, MINUTE_MS};
use crate::trigger::{ALL, Finding};

/// The detector's name in triggers.
pub const DETECTOR: &str = "seasonal_e_detector";
/// Seconds of a watch that count, as windows have them.
const WATCH_CAP_SECONDS: f64 = 1_800.0;
/// A little more than −ln of the least probability that windows know, a millionth.
const LOSS_CAP: f64 = 13.9;
/// What of a metric's share goes to where it is worse: what is better is only told.
const WORSE_SHARE: f64 = 0.8;
/// What of the pool goes to all traffic; the rest to segments.
const SHARE_OF_ALL: f64 = 0.6;
/// Share of a minute below which a champion is about to be another.
const LEAST_OF_CHAMPION: f64 = 0.25;
/// A segment with more of the impressions than that is all traffic.
const NEARLY_ALL: f64 = 0.95;

/// A metric of windows: a mean of values in [0, 1], times a scale.
#[derive(Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// Unit of the mean times the scale.
    pub unit: &'static str,
    kind: MetricKind,
    /// What 1 is, in the unit.
    pub scale: f64,
    /// Whether more of it is what is wanted.
    pub more_is_better: bool,
    /// Part of what goes to all traffic.
    share: f64,
    /// Part of what goes to segments; 0 where it is not watched there.
    segment_share: f64,
    /// Sum of values, scaled to [0, 1], and their number.
    pub of: fn(&MetricsWindow) -> (f64, i64),
}

/// What is watched. Those that matter most have the most of the pool.
pub const METRICS: &[Definition] = &[
    Definition {
        name: "click_rate",
        unit: "ratio",
        kind: MetricKind::Business,
        scale: 1.0,
        more_is_better: true,
        share: 0.4,
        segment_share: 0.6,
        of: |window| (window.clicks as f64, window.impressions),
    },
    Definition {
        name: "long_view_rate",
        unit: "ratio",
        kind: MetricKind::Business,
        scale: 1.0,
        more_is_better: true,
        share: 0.25,
        segment_share: 0.4,
        of: |window| (window.long_views as f64, window.impressions),
    },
    Definition {
        name: "completion_rate",
        unit: "ratio",
        kind: MetricKind::Business,
        scale: 1.0,
        more_is_better: true,
        share: 0.1,
        segment_share: 0.0,
        of: |window| (window.completions as f64, window.impressions),
    },
    Definition {
        name: "watch_seconds_per_impression",
        unit: "seconds",
        kind: MetricKind::Business,
        scale: WATCH_CAP_SECONDS,
        more_is_better: true,
        share: 0.1,
        segment_share: 0.0,
        of: |window| (window.watched_ms as f64 / 1e3 / WATCH_CAP_SECONDS, window.impressions),
    },
    Definition {
        name: "click_log_loss",
        unit: "nats",
        kind: MetricKind::Score,
        scale: LOSS_CAP,
        more_is_better: false,
        share: 0.1,
        segment_share: 0.0,
        of: |window| (window.click_log_loss_e6 as f64 / 1e6 / LOSS_CAP, window.predicted),
    },
    Definition {
        name: "long_view_log_loss",
        unit: "nats",
        kind: MetricKind::Score,
        scale: LOSS_CAP,
        more_is_better: false,
        share: 0.05,
        segment_share: 0.0,
        of: |window| (window.long_view_log_loss_e6 as f64 / 1e6 / LOSS_CAP, window.predicted),
    },
];

/// The version that serves most, and since when it is the reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Champion {
    /// The version.
    pub version: String,
    /// When its reference began.
    pub since: EventTime,
    /// Whether another came before it.
    pub is_new: bool,
}

impl Champion {
    /// Names the reference.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.version, self.since.millis())
    }
}

/// What is watched of a segment, by metric.
type Watched = BTreeMap<String, Seasonal>;

/// All that is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    settings: Settings,
    champion: Option<Champion>,
    /// Impressions by version, an older minute counting a tenth less.
    versions: BTreeMap<String, f64>,
    /// Whether another version than the champion has most of the newest minute: until it is elected,
    /// what is seen is of two references.
    is_changing: bool,
    /// By segment.
    watched: BTreeMap<String, Watched>,
    /// Impressions of the day by segment, and the day.
    today: BTreeMap<String, i64>,
    day: Option<i64>,
    /// Whether segments were chosen at all.
    has_chosen: bool,
}

impl Outcomes {
    /// Of nothing yet.
    ///
    /// # Errors
    /// Where a setting makes no sense.
    pub fn new(settings: Settings) -> Result<Self, seasonal::Refused> {
        let mut new = Self {
            champion: None,
            versions: BTreeMap::new(),
            is_changing: false,
            watched: BTreeMap::new(),
            today: BTreeMap::new(),
            day: None,
            has_chosen: false,
            settings,
        };
        let all = new.watch(ALL)?;
        new.watched.insert(ALL.to_owned(), all);
        Ok(new)
    }

    /// Which version serves most.
    pub fn champion(&self) -> Option<&Champion> {
        self.champion.as_ref()
    }

    /// Takes in a minute; says what is true after it. Returns whether a new reference began, too.
    /// `tell` hears how each metric of all traffic was judged.
    ///
    /// # Errors
    /// Where a window cannot be, which tells of a fault in what wrote it.
    pub fn update(
        &mut self,
        minute: &Minute,
        tell: &mut dyn FnMut(&'static Definition, Judgement),
    ) -> Result<bool, String> {
        let parts = parts(minute);
        let all = parts.get(ALL).cloned().unwrap_or_default();
        let has_changed = self.elect(minute);
        if has_changed {
            self.watched.values_mut().flat_map(BTreeMap::values_mut).for_each(|metric| {
                metric.begin_reference();
            });
        }
        self.choose(minute.start, &parts, all.impressions)?;
        for (segment, watched) in &mut self.watched {
            let empty = MetricsWindow::default();
            let window = parts.get(segment).unwrap_or(&empty);
            for definition in METRICS {
                let Some(metric) = watched.get_mut(definition.name) else { continue };
                let (sum, n) = (definition.of)(window);
                let window = Window::mean(minute.start, sum, n.max(0) as u64);
                let judged = window.and_then(|window| metric.update(&window));
                let judged =
                    judged.map_err(|error| format!("{} of {segment}: {error}", definition.name))?;
                if segment == ALL {
                    tell(definition, judged);
                }
            }
        }
        Ok(has_changed)
    }

    /// What all metrics show together.
    ///
    /// # Errors
    /// Where shares add up to more than 1: a fault of ours.
    pub fn pooled(&self) -> Result<Pooled, seasonal::Refused> {
        let all = self.watched.values().flat_map(BTreeMap::values);
        pool(self.settings.minutes_to_false_alarm, all)
    }

    /// What is true now.
    ///
    /// # Errors
    /// As [`Outcomes::pooled`].
    pub fn findings(&self, now: EventTime) -> Result<Vec<Finding>, seasonal::Refused> {
        let pooled = self.pooled()?;
        if !pooled.fires || self.is_changing {
            return Ok(Vec::new());
        }
        let weight = |metric: &Seasonal| metric.config().share.ln() + metric.log_e();
        let all = self.watched.values().flat_map(BTreeMap::values);
        let most = all.map(weight).fold(f64::NEG_INFINITY, f64::max);
        let mut findings = Vec::new();
        for (segment, watched) in &self.watched {
            for definition in METRICS {
                let Some(metric) = watched.get(definition.name) else { continue };
                // Where none makes the alarm by itself, it is of the one that says most.
                let is_told = metric.log_e() >= metric.config().threshold()
                    || (weight(metric) == most && most < pooled.threshold);
                if is_told {
                    findings.extend(self.finding(now, segment, definition, metric));
                }
            }
        }
        Ok(findings)
    }

    /// Evidence by segment and metric, as part of what makes an alarm.
    pub fn evidence(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.watched.iter().flat_map(|(segment, watched)| {
            watched.iter().map(move |(name, metric)| {
                let share = (metric.log_e() / metric.config().threshold()).max(0.0);
                (segment.as_str(), name.as_str(), share)
            })
        })
    }

    /// Whether nothing is told yet of all traffic.
    pub fn is_warming_up(&self, now: EventTime) -> bool {
        let since = self.champion.as_ref().map(|champion| now.since(champion.since));
        since.is_none_or(|since| since < self.settings.warm_up_minutes as i64 * MINUTE_MS)
    }

    fn watch(&self, segment: &str) -> Result<Watched, seasonal::Refused> {
        let slots = self.settings.segments.max(1) as f64;
        let of = |definition: &Definition| match segment {
            ALL => definition.share * SHARE_OF_ALL,
            _ => definition.segment_share * (1.0 - SHARE_OF_ALL) / slots,
        };
        let watched = METRICS.iter().filter(|definition| of(definition) > 0.0).map(|definition| {
            let falls = if definition.more_is_better { WORSE_SHARE } else { 1.0 - WORSE_SHARE };
            let config = seasonal::Config {
                window_ms: MINUTE_MS,
                windows_to_false_alarm: self.settings.minutes_to_false_alarm,
                share: of(definition),
                down_share: falls,
                min_effect: self.settings.min_effect,
                warm_up_windows: self.settings.warm_up_minutes,
                offset_minutes: self.settings.utc_offset_minutes,
                ..seasonal::Config::default()
            };
            Ok((definition.name.to_owned(), Seasonal::new(config)?))
        });
        watched.collect()
    }

    /// Whether another version serves most now. It has to serve clearly more than half: a canary
    /// does not, and two halves of an experiment do not take turns.
    fn elect(&mut self, minute: &Minute) -> bool {
        self.versions.values_mut().for_each(|count| *count *= 0.9);
        self.versions.retain(|_, count| *count > 0.5);
        for ((version, ..), window) in &minute.segments {
            *self.versions.entry(version.clone()).or_default() += window.impressions as f64;
        }
        if let Some(known) = &self.champion {
            let count = |of: &dyn Fn(&str) -> bool| -> i64 {
                let parts = minute.segments.iter().filter(|((version, ..), _)| of(version));
                parts.map(|(_, window)| window.impressions).sum()
            };
            let (own, all) = (count(&|version| version == known.version), count(&|_| true));
            self.is_changing = all > 0 && (own as f64) < LEAST_OF_CHAMPION * all as f64;
        }
        let all: f64 = self.versions.values().sum();
        let leader = self.versions.iter().find(|(_, count)| **count > 0.6 * all);
        let Some((leader, _)) = leader else { return false };
        let is_known = self.champion.as_ref().is_some_and(|known| known.version == *leader);
        if is_known {
            return false;
        }
        let is_new = self.champion.is_some();
        self.is_changing = false;
        self.champion = Some(Champion { version: leader.clone(), since: minute.start, is_new });
        is_new
    }

    /// Chooses segments when a day is over, and first after an hour: the busiest, without those that
    /// are all traffic. One that was watched stays while it is among the busiest.
    fn choose(
        &mut self,
        now: EventTime,
        parts: &BTreeMap<String, MetricsWindow>,
        impressions: i64,
    ) -> Result<(), String> {
        let day = now.millis().div_euclid(DAY_MS);
        let since = self.day.get_or_insert(day);
        let is_over = *since != day;
        let first_hour_over = !self.has_chosen
            && self
                .champion
                .as_ref()
                .is_some_and(|champion| now.since(champion.since) >= 60 * MINUTE_MS);
        if is_over || first_hour_over {
            *since = day;
            self.has_chosen = true;
            let today = std::mem::take(&mut self.today);
            let all = today.get(ALL).copied().unwrap_or(0) as f64;
            let mut busiest: Vec<(&String, i64)> = today
                .iter()
                .filter(|(segment, n)| *segment != ALL && **n > 0 && **n as f64 <= NEARLY_ALL * all)
                .map(|(segment, n)| (segment, *n))
                .collect();
            busiest.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            busiest.truncate(self.settings.segments);
            let is_chosen = |segment: &str| busiest.iter().any(|(chosen, _)| *chosen == segment);
            self.watched.retain(|segment, _| segment == ALL || is_chosen(segment));
            for (segment, _) in &busiest {
                if !self.watched.contains_key(*segment) {
                    let watched = self.watch(segment).map_err(|error| error.to_string())?;
                    self.watched.insert((*segment).clone(), watched);
                }
            }
        }
        *self.today.entry(ALL.to_owned()).or_default() += impressions;
        for (segment, window) in parts.iter().filter(|(segment, _)| *segment != ALL) {
            // Segments of a day are bounded as those of its minutes are, by what tells them; what
            // comes beyond is not among the busiest.
            if self.today.len() < 1_024 || self.today.contains_key(segment) {
                *self.today.entry(segment.clone()).or_default() += window.impressions;
            }
        }
        Ok(())
    }

    fn finding(
        &self,
        now: EventTime,
        segment: &str,
        definition: &Definition,
        metric: &Seasonal,
    ) -> Option<Finding> {
        let told = metric.evidence()?;
        let Definition { name, unit, scale, kind, more_is_better, .. } = *definition;
        let champion = self.champion.as_ref();
        let fell = told.direction == Direction::Down;
        let direction = if fell { TriggerDirection::Down } else { TriggerDirection::Up };
        let (observed, baseline) = (told.observed * scale, told.baseline * scale);
        let config = metric.config();
        let parameters = [
            ("minutes_to_false_alarm", config.windows_to_false_alarm),
            ("share", config.share),
            ("min_effect", config.min_effect),
            ("band_sigmas", config.band_sigmas),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_string()));
        let begun = champion.map_or(0, |champion| champion.since.millis());
        Some(Finding {
            segment: segment.to_owned(),
            metric: TriggerMetric { name: name.into(), kind, unit: unit.into(), direction },
            detector: TriggerDetector {
                name: DETECTOR.into(),
                version: env!("CARGO_PKG_VERSION").into(),
                parameters: parameters.into(),
            },
            statistic: told.log_e,
            threshold: told.threshold,
            // What no float holds is told as the most that one does.
            e_value: told.log_e.min(700.0).exp(),
            observed,
            baseline,
            effect: told.effect,
            window: TriggerWindow {
                start: told.since.millis(),
                end: now.millis() + MINUTE_MS,
                n: i64::try_from(told.n).unwrap_or(i64::MAX),
                offsets: Vec::new(),
            },
            reference: TriggerReference {
                id: champion.map_or_else(String::new, Champion::reference),
                kind: "seasonal".into(),
                start: begun,
                end: told.since.millis(),
                n: 0,
            },
            windows_breached: i64::try_from(told.windows_breached).unwrap_or(i64::MAX),
            by_outcome: true,
            harmful: fell == more_is_better,
            reason: format!(
                "{name} of {segment} {} by {:.1} %: {observed:.5} {unit} where {baseline:.5} was \
                 expected, over {} minutes.",
                if fell { "fell" } else { "rose" },
                100.0 * told.effect.abs(),
                told.windows
            ),
        })
    }
}

/// A minute by segment: all traffic, and by surface, arm and version.
fn parts(minute: &Minute) -> BTreeMap<String, MetricsWindow> {
    let mut parts: BTreeMap<String, MetricsWindow> = BTreeMap::new();
    for ((version, arm, surface), window) in &minute.segments {
        let names = [
            ALL.to_owned(),
            format!("surface={surface}"),
            format!("arm={arm}"),
            format!("model_version={version}"),
        ];
        for name in names {
            merge(parts.entry(name).or_default(), window);
        }
    }
    parts
}

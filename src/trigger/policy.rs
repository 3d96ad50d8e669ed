//! Hysteresis, single flight, cooldown and suppression.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::finding::{ALL, Finding, dedup_key};
use super::schedule::Schedule;
use crate::event::{
    MetricKind, RetrainTrigger, TriggerAction, TriggerDataQuality, TriggerDetector, TriggerMetric,
    TriggerSeverity, TriggerState, TriggerType, TriggerWindow,
};
use crate::ids::stable_hash;
use crate::time::EventTime;

/// How findings become triggers. All times in milliseconds of event time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Name of the model that triggers are about.
    pub model: String,
    /// How long a finding has to be true before it fires.
    pub pending_ms: i64,
    /// How long it has to be untrue before it is resolved.
    pub keep_firing_ms: i64,
    /// How long after a RETRAIN no other is asked for: as long as training and canary take.
    pub cooldown_ms: i64,
    /// How often one finding asks for a RETRAIN before it asks for people.
    pub attempts: u32,
    /// How long after a change of version a system metric asks for ROLLBACK.
    pub rollback_ms: i64,
    /// The timer.
    pub schedule: Option<Schedule>,
}

/// When findings are true, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Event time. Each step is later than the one before.
    pub now: EventTime,
    /// The version that serves most.
    pub model_version: &'a str,
    /// Since when; none where it has always been.
    pub version_since: Option<EventTime>,
    /// By partition of `metrics`: the next offset to read.
    pub offsets: &'a [i64],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Pending,
    Firing,
}

/// A finding over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Alert {
    finding: Finding,
    phase: Phase,
    since: EventTime,
    last_true: EventTime,
    /// What it asked for last, without being suppressed.
    asked: TriggerAction,
    /// How often it asked for RETRAIN.
    retrains: u32,
}

/// The newest RETRAIN that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    event_id: String,
    cooldown_until: EventTime,
}

/// Findings over time, by key, and what was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    rules: Rules,
    alerts: BTreeMap<String, Alert>,
    asked: Option<Asked>,
    /// When the timer rings next.
    next_due: Option<EventTime>,
    /// Since when a ring waits for the data to be in order.
    due_since: Option<EventTime>,
    last: Option<EventTime>,
}

impl Policy {
    /// Nothing found yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            alerts: BTreeMap::new(),
            asked: None,
            next_due: None,
            due_since: None,
            last: None,
        }
    }

    /// By which rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Findings that fire.
    pub fn firing(&self) -> impl Iterator<Item = &Finding> {
        let firing = self.alerts.values().filter(|alert| alert.phase == Phase::Firing);
        firing.map(|alert| &alert.finding)
    }

    /// Takes in all that is true at a moment; returns what is to be told, in order. A moment that is
    /// not later than the last is a replay, and changes nothing.
    pub fn step(&mut self, at: &Moment<'_>, findings: Vec<Finding>) -> Vec<RetrainTrigger> {
        if self.last.is_some_and(|last| at.now <= last) {
            return Vec::new();
        }
        self.last = Some(at.now);
        let mut found: Vec<(String, Finding)> =
            findings.into_iter().map(|finding| (finding.key(&self.rules.model), finding)).collect();
        // The strongest word about all traffic asks first; it starts the cooldown for the others.
        found.sort_by(|(a_key, a), (b_key, b)| {
            let rank = |finding: &Finding| u8::from(finding.segment != ALL);
            let by_strength = b.strength().total_cmp(&a.strength());
            rank(a).cmp(&rank(b)).then(by_strength).then(a_key.cmp(b_key))
        });
        found.dedup_by(|b, a| a.0 == b.0);
        let over = self.end(at.now, &found);
        let mut changed = Vec::new();
        for (key, finding) in found {
            let began = self.observe(at.now, &key, finding);
            changed.push((key, began));
        }
        // All is known before anything is told: each trigger says which checks fail now.
        let mut told: Vec<RetrainTrigger> = over
            .iter()
            .map(|(key, alert)| self.trigger(at, key, &alert.finding, TriggerState::Resolved))
            .collect();
        for (key, began) in changed {
            told.extend(self.tell(at, &key, began));
        }
        told.extend(self.ring(at));
        told
    }

    /// Drops what was pending and is untrue; returns what fired and has been untrue for long enough.
    fn end(&mut self, now: EventTime, found: &[(String, Finding)]) -> Vec<(String, Alert)> {
        let keep = self.rules.keep_firing_ms;
        let is_true = |key: &str| found.iter().any(|(other, _)| other == key);
        let is_over = |key: &str, alert: &Alert| {
            let lasts = alert.phase == Phase::Firing && now.since(alert.last_true) < keep;
            !is_true(key) && !lasts
        };
        let all = std::mem::take(&mut self.alerts).into_iter();
        let (over, going_on): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.partition(|(key, alert)| is_over(key, alert));
        self.alerts = going_on;
        over.into_iter().filter(|(_, alert)| alert.phase == Phase::Firing).collect()
    }

    /// Whether the finding begins to be pending, or to fire.
    fn observe(&mut self, now: EventTime, key: &str, finding: Finding) -> bool {
        let mut began = false;
        let alert = self.alerts.entry(key.to_owned()).or_insert_with(|| {
            began = true;
            Alert {
                finding: finding.clone(),
                phase: Phase::Pending,
                since: now,
                last_true: now,
                asked: TriggerAction::None,
                retrains: 0,
            }
        });
        alert.finding = finding;
        alert.last_true = now;
        if alert.phase == Phase::Pending && now.since(alert.since) >= self.rules.pending_ms {
            alert.phase = Phase::Firing;
            began = true;
        }
        began
    }

    fn tell(&mut self, at: &Moment<'_>, key: &str, began: bool) -> Option<RetrainTrigger> {
        let alert = self.alerts.get(key)?;
        if alert.phase == Phase::Pending {
            return began.then(|| self.trigger(at, key, &alert.finding, TriggerState::Pending));
        }
        let wanted = self.wanted(at, alert);
        let held = if wanted == TriggerAction::Retrain { self.held_back(at.now) } else { None };
        let again = wanted == TriggerAction::Retrain || wanted != alert.asked;
        if !began && (wanted == TriggerAction::None || held.is_some() || !again) {
            return None;
        }
        let mut trigger = self.trigger(at, key, &alert.finding, TriggerState::Firing);
        trigger.wanted_action = wanted;
        trigger.severity = severity(&alert.finding, wanted);
        self.ask(&mut trigger, at.now, held);
        if let Some(alert) = self.alerts.get_mut(key)
            && trigger.action != TriggerAction::None
        {
            alert.asked = trigger.action;
            alert.retrains += u32::from(trigger.action == TriggerAction::Retrain);
        }
        Some(trigger)
    }

    /// Rings the timer where it is due. What was held back for the data's sake rings later; what
    /// falls into a cooldown is one with what started it.
    fn ring(&mut self, at: &Moment<'_>) -> Option<RetrainTrigger> {
        let schedule = self.rules.schedule.as_ref()?;
        let is_due = self.next_due.is_some_and(|due| due <= at.now);
        if is_due || self.next_due.is_none() {
            self.next_due = schedule.next(at.now);
        }
        let held = self.held_back(at.now);
        if !is_due && (self.due_since.is_none() || held.is_some()) {
            return None;
        }
        let timer = schedule.text().to_owned();
        let waits = held.as_ref().is_some_and(|reason| reason.starts_with(QUALITY));
        self.due_since = waits.then(|| self.due_since.unwrap_or(at.now));
        let model = &self.rules.model;
        let mut trigger = RetrainTrigger {
            trigger_type: TriggerType::Schedule,
            metric: TriggerMetric { name: "schedule".into(), ..TriggerMetric::default() },
            detector: TriggerDetector {
                name: "cron".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                parameters: BTreeMap::from([("schedule".into(), timer.clone())]),
            },
            reason: format!("The timer {timer} is due."),
            ..self.blank(at, &dedup_key(model, ALL, "schedule", "cron", &timer))
        };
        trigger.wanted_action = TriggerAction::Retrain;
        self.ask(&mut trigger, at.now, held);
        Some(trigger)
    }

    /// Asks for what a trigger wants, or says what holds it back.
    fn ask(&mut self, trigger: &mut RetrainTrigger, now: EventTime, held: Option<String>) {
        match held {
            Some(reason) => trigger.suppressed_by = reason,
            None => trigger.action = trigger.wanted_action,
        }
        if trigger.action == TriggerAction::Retrain {
            let cooldown_until = now.plus_millis(self.rules.cooldown_ms);
            self.asked = Some(Asked { event_id: trigger.event_id.clone(), cooldown_until });
            self.due_since = None;
        }
        trigger.cooldown_until = self.cooldown_until();
    }

    /// Why no RETRAIN is asked for now.
    fn held_back(&self, now: EventTime) -> Option<String> {
        let of_data = |alert: &&Alert| alert.finding.metric.kind == MetricKind::Quality;
        if let Some((key, _)) = self.alerts.iter().find(|(_, alert)| of_data(alert)) {
            return Some(format!("{QUALITY}{key}"));
        }
        let asked = self.asked.as_ref().filter(|asked| now < asked.cooldown_until)?;
        Some(format!("cooldown:{}", asked.event_id))
    }

    /// The table of the module's documentation.
    fn wanted(&self, at: &Moment<'_>, alert: &Alert) -> TriggerAction {
        let finding = &alert.finding;
        let asks = match finding.metric.kind {
            MetricKind::Quality => return TriggerAction::Investigate,
            MetricKind::System => {
                let is_new = at.version_since.is_some_and(|since| {
                    (0..self.rules.rollback_ms).contains(&at.now.since(since))
                });
                let asked =
                    if is_new { TriggerAction::Rollback } else { TriggerAction::Investigate };
                return asked;
            }
            MetricKind::Business => finding.harmful,
            MetricKind::Score if finding.by_outcome => finding.harmful,
            MetricKind::Score => self.agrees(&[MetricKind::Feature, MetricKind::Business]),
            MetricKind::Feature => self.agrees(&[MetricKind::Score, MetricKind::Business]),
            MetricKind::Unknown => false,
        };
        match asks {
            false => TriggerAction::None,
            true if alert.retrains >= self.rules.attempts => TriggerAction::Investigate,
            true => TriggerAction::Retrain,
        }
    }

    /// Whether something of these kinds fires, for the worse.
    fn agrees(&self, kinds: &[MetricKind]) -> bool {
        self.firing().any(|finding| finding.harmful && kinds.contains(&finding.metric.kind))
    }

    fn cooldown_until(&self) -> i64 {
        self.asked.as_ref().map_or(0, |asked| asked.cooldown_until.millis())
    }

    fn blank(&self, at: &Moment<'_>, key: &str) -> RetrainTrigger {
        let failing = self.alerts.values().map(|alert| &alert.finding.metric);
        let failing: Vec<String> = failing
            .filter(|metric| metric.kind == MetricKind::Quality)
            .map(|metric| metric.name.clone())
            .collect();
        let state = TriggerState::Firing;
        RetrainTrigger {
            event_id: event_id(key, state, at.now),
            emitted_at: at.now.millis(),
            model: self.rules.model.clone(),
            model_version: at.model_version.to_owned(),
            segment: ALL.into(),
            window: TriggerWindow {
                start: at.now.millis(),
                end: at.now.millis(),
                n: 0,
                offsets: at.offsets.to_vec(),
            },
            state,
            dedup_key: key.to_owned(),
            cooldown_until: self.cooldown_until(),
            data_quality: TriggerDataQuality { passed: failing.is_empty(), failing },
            ..RetrainTrigger::default()
        }
    }

    fn trigger(
        &self,
        at: &Moment<'_>,
        key: &str,
        finding: &Finding,
        state: TriggerState,
    ) -> RetrainTrigger {
        let finding = finding.clone();
        RetrainTrigger {
            event_id: event_id(key, state, at.now),
            trigger_type: finding.trigger_type(),
            segment: finding.segment,
            metric: finding.metric,
            detector: finding.detector,
            statistic: finding.statistic,
            threshold: finding.threshold,
            e_value: finding.e_value,
            observed: finding.observed,
            baseline: finding.baseline,
            effect: finding.effect,
            window: TriggerWindow { offsets: at.offsets.to_vec(), ..finding.window },
            reference: finding.reference,
            state,
            windows_breached: finding.windows_breached,
            reason: finding.reason,
            ..self.blank(at, key)
        }
    }
}

/// What suppression for the data's sake begins with.
const QUALITY: &str = "data_quality:";

/// What happened to a finding, and when: the same however often it is decided.
fn event_id(key: &str, state: TriggerState, at: EventTime) -> String {
    format!("{key}-{}-{}", state.name().to_ascii_lowercase(), at.millis())
}

fn severity(finding: &Finding, wanted: TriggerAction) -> TriggerSeverity {
    match wanted {
        TriggerAction::Rollback => TriggerSeverity::Critical,
        TriggerAction::Retrain if finding.segment == ALL => TriggerSeverity::Critical,
        TriggerAction::None if !finding.harmful => TriggerSeverity::Info,
        _ => TriggerSeverity::Warning,
    }
}

/// What a person asks for. It is asked for whatever fires or cools down: a person has decided.
/// `wish` tells two wishes apart, such as an id of the call.
pub fn manual(model: &str, reason: &str, wish: &str, now: EventTime) -> RetrainTrigger {
    let key = dedup_key(model, ALL, "manual", "person", wish);
    RetrainTrigger {
        event_id: format!("{key}-manual-{:08x}", stable_hash(reason.as_bytes()) as u32),
        emitted_at: now.millis(),
        trigger_type: TriggerType::Manual,
        action: TriggerAction::Retrain,
        wanted_action: TriggerAction::Retrain,
        model: model.to_owned(),
        segment: ALL.into(),
        metric: TriggerMetric { name: "manual".into(), ..TriggerMetric::default() },
        detector: TriggerDetector {
            name: "person".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            parameters: BTreeMap::new(),
        },
        window: TriggerWindow { start: now.millis(), end: now.millis(), n: 0, offsets: vec![] },
        state: TriggerState::Firing,
        severity: TriggerSeverity::Info,
        dedup_key: key,
        reason: reason.to_owned(),
        ..RetrainTrigger::default()
    }
}

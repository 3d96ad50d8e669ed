use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::event::{
    MetricKind, RetrainTrigger, TriggerAction, TriggerDetector, TriggerDirection, TriggerMetric,
    TriggerReference, TriggerSeverity, TriggerState, TriggerType, TriggerWindow,
};
use crate::time::{EventTime, HOUR_MS, MINUTE_MS};

/// A Monday.
const BEGIN: i64 = 1_775_433_600_000;

fn at(minute: i64) -> EventTime {
    EventTime::from_millis(BEGIN + minute * MINUTE_MS)
}

fn rules() -> Rules {
    Rules {
        model: "m".into(),
        pending_ms: 2 * MINUTE_MS,
        keep_firing_ms: 5 * MINUTE_MS,
        cooldown_ms: HOUR_MS,
        attempts: 2,
        rollback_ms: HOUR_MS,
        schedule: None,
    }
}

fn finding(name: &str, kind: MetricKind) -> Finding {
    Finding {
        segment: ALL.into(),
        metric: TriggerMetric {
            name: name.into(),
            kind,
            unit: "ratio".into(),
            direction: TriggerDirection::Down,
        },
        detector: TriggerDetector { name: "test".into(), ..TriggerDetector::default() },
        statistic: 8.0,
        threshold: 7.0,
        e_value: 8f64.exp(),
        observed: 0.04,
        baseline: 0.05,
        effect: -0.2,
        window: TriggerWindow { start: BEGIN, end: BEGIN + MINUTE_MS, n: 10, offsets: vec![] },
        reference: TriggerReference { id: "r1".into(), ..TriggerReference::default() },
        windows_breached: 1,
        by_outcome: kind != MetricKind::Feature,
        harmful: true,
        reason: "It fell.".into(),
    }
}

struct Run {
    policy: Policy,
    version_since: Option<EventTime>,
}

impl Run {
    fn new(rules: Rules) -> Self {
        Self { policy: Policy::new(rules), version_since: None }
    }

    fn step(&mut self, minute: i64, findings: &[Finding]) -> Vec<RetrainTrigger> {
        let moment = Moment {
            now: at(minute),
            model_version: "v1",
            version_since: self.version_since,
            offsets: &[7, 9],
        };
        self.policy.step(&moment, findings.to_vec())
    }

    /// What is told from one minute up to, and without, another.
    fn hold(&mut self, minutes: std::ops::Range<i64>, findings: &[Finding]) -> Vec<RetrainTrigger> {
        minutes.flat_map(|minute| self.step(minute, findings)).collect()
    }
}

fn actions(told: &[RetrainTrigger]) -> Vec<(TriggerState, TriggerAction)> {
    told.iter().map(|trigger| (trigger.state, trigger.action)).collect()
}

use TriggerAction::{Investigate, None as Nothing, Retrain, Rollback};
use TriggerState::{Firing, Pending, Resolved};

#[test]
fn a_finding_is_pending_fires_when_it_lasts_and_is_resolved_when_it_is_over() {
    let mut run = Run::new(rules());
    let low = finding("click_rate", MetricKind::Business);
    let told = run.hold(0..10, std::slice::from_ref(&low));
    assert_eq!(actions(&told), [(Pending, Nothing), (Firing, Retrain)]);
    assert_eq!((told[0].emitted_at, told[1].emitted_at), (at(0).millis(), at(2).millis()));
    let fired = &told[1];
    assert_eq!(
        (fired.trigger_type, fired.severity),
        (TriggerType::Performance, TriggerSeverity::Critical)
    );
    assert_eq!(
        (fired.window.offsets.as_slice(), fired.model_version.as_str()),
        (&[7, 9][..], "v1")
    );
    assert_eq!(fired.cooldown_until, at(62).millis());
    assert_eq!((fired.effect, fired.reason.as_str()), (-0.2, "It fell."));
    assert_eq!(run.policy.firing().count(), 1);
    // It keeps firing for five minutes after it was true last.
    assert_eq!(run.hold(10..14, &[]), []);
    let over = run.hold(14..20, &[]);
    assert_eq!(actions(&over), [(Resolved, Nothing)]);
    assert_eq!(over[0].emitted_at, at(14).millis());
    assert_eq!(over[0].dedup_key, fired.dedup_key);
    assert_ne!(over[0].event_id, fired.event_id);
    // What does not last is dropped without another word.
    let told = run.hold(20..21, &[low]);
    assert_eq!(actions(&told), [(Pending, Nothing)]);
    assert_eq!(run.hold(21..40, &[]), []);
}

#[test]
fn what_the_data_themselves_show_asks_for_people_and_holds_back_what_they_seem_to_say() {
    let mut run = Run::new(Rules { pending_ms: 0, ..rules() });
    let gap = finding("missing_minutes", MetricKind::Quality);
    let low = finding("click_rate", MetricKind::Business);
    let told = run.step(0, &[low.clone(), gap.clone()]);
    let by_name: BTreeMap<_, _> = told.iter().map(|t| (t.metric.name.as_str(), t)).collect();
    let (gap_told, low_told) = (by_name["missing_minutes"], by_name["click_rate"]);
    assert_eq!((gap_told.action, gap_told.severity), (Investigate, TriggerSeverity::Warning));
    assert_eq!((low_told.action, low_told.wanted_action), (Nothing, Retrain));
    assert_eq!(low_told.suppressed_by, format!("data_quality:{}", gap_told.dedup_key));
    assert_eq!(low_told.data_quality.failing, ["missing_minutes"]);
    assert!(!low_told.data_quality.passed && low_told.cooldown_until == 0);
    // Not before it is resolved is the drop believed.
    assert_eq!(run.hold(1..5, std::slice::from_ref(&low)), []);
    let told = run.step(5, &[low]);
    assert_eq!(actions(&told), [(Resolved, Nothing), (Firing, Retrain)]);
    assert!(told[1].data_quality.passed);
}

#[test]
fn errors_ask_for_a_rollback_where_the_version_is_new_and_else_for_people() {
    for (since, expected) in [(None, Investigate), (Some(-30), Rollback), (Some(-90), Investigate)]
    {
        let mut run = Run::new(rules());
        run.version_since = since.map(at);
        let told = run.hold(0..5, &[finding("error_share", MetricKind::System)]);
        assert_eq!(actions(&told), [(Pending, Nothing), (Firing, expected)], "{since:?}");
    }
}

#[test]
fn drift_of_one_kind_is_a_warning_until_another_kind_agrees() {
    let feature = finding("age", MetricKind::Feature);
    let scores = Finding { by_outcome: false, ..finding("scores", MetricKind::Score) };
    for other in [scores.clone(), finding("click_rate", MetricKind::Business)] {
        let mut run = Run::new(Rules { pending_ms: 0, ..rules() });
        let told = run.step(0, std::slice::from_ref(&feature));
        assert_eq!(actions(&told), [(Firing, Nothing)]);
        assert_eq!(
            (told[0].trigger_type, told[0].severity),
            (TriggerType::Drift, TriggerSeverity::Warning)
        );
        let told = run.step(1, &[feature.clone(), other]);
        let asked = told.iter().filter(|t| t.action == Retrain).count();
        let held = told.iter().filter(|t| t.suppressed_by.starts_with("cooldown:")).count();
        assert_eq!(asked, 1, "{told:#?}");
        assert!(held <= 1);
    }
    let mut run = Run::new(Rules { pending_ms: 0, ..rules() });
    assert_eq!(actions(&run.step(0, &[scores])), [(Firing, Nothing)]);
}

#[test]
fn a_change_for_the_better_is_only_told() {
    let mut run = Run::new(rules());
    let high = Finding { harmful: false, ..finding("click_rate", MetricKind::Business) };
    let told = run.hold(0..200, &[high]);
    assert_eq!(actions(&told), [(Pending, Nothing), (Firing, Nothing)]);
    assert_eq!(told[1].severity, TriggerSeverity::Info);
}

#[test]
fn what_still_fires_after_the_cooldown_asks_again_and_in_the_end_for_people() {
    let mut run = Run::new(Rules { pending_ms: 0, ..rules() });
    let told = run.hold(0..1_000, &[finding("click_rate", MetricKind::Business)]);
    assert_eq!(actions(&told), [(Firing, Retrain), (Firing, Retrain), (Firing, Investigate)]);
    assert_eq!(told[1].emitted_at, at(60).millis());
}

#[test]
fn the_strongest_word_about_all_traffic_asks_and_the_others_are_told_as_held_back() {
    let mut run = Run::new(Rules { pending_ms: 0, ..rules() });
    let part = Finding {
        segment: "surface=home".into(),
        statistic: 100.0,
        ..finding("click_rate", MetricKind::Business)
    };
    let weak = finding("completion_rate", MetricKind::Business);
    let strong = Finding { statistic: 9.0, ..finding("click_rate", MetricKind::Business) };
    let told = run.step(0, &[part, weak, strong]);
    let order: Vec<_> = told.iter().map(|t| (t.metric.name.as_str(), t.action)).collect();
    assert_eq!(
        order,
        [("click_rate", Retrain), ("completion_rate", Nothing), ("click_rate", Nothing)]
    );
    let held = format!("cooldown:{}", told[0].event_id);
    assert!(told[1..].iter().all(|t| t.suppressed_by == held && t.wanted_action == Retrain));
}

#[test]
fn the_timer_rings_in_event_time_once_and_is_one_with_what_asked_before_it() {
    let schedule = Some(Schedule::new("0 4 * * *", 60).unwrap());
    let mut run = Run::new(Rules { schedule, ..rules() });
    let told = run.hold(0..3 * 1_440, &[]);
    // Four o'clock an hour east of Greenwich is three there.
    let times: Vec<_> = told.iter().map(|t| (t.emitted_at - BEGIN) / MINUTE_MS).collect();
    assert_eq!(times, [180, 180 + 1_440, 180 + 2_880]);
    assert!(told.iter().all(|t| t.trigger_type == TriggerType::Schedule && t.action == Retrain));
    let ids: BTreeSet<_> = told.iter().map(|t| &t.event_id).collect();
    assert_eq!(ids.len(), 3);
    // Several rings that were slept through are one.
    let told = run.step(10 * 1_440, &[]);
    assert_eq!(actions(&told), [(Firing, Retrain)]);
    // Just after another RETRAIN it is held back, and does not come later.
    let before_ring = 10 * 1_440 + 170;
    let low = finding("click_rate", MetricKind::Business);
    let told = run.hold(before_ring..before_ring + 8, std::slice::from_ref(&low));
    assert_eq!(actions(&told), [(Pending, Nothing), (Firing, Retrain)]);
    let told = run.hold(before_ring + 8..before_ring + 400, &[]);
    let ring = told.iter().find(|t| t.trigger_type == TriggerType::Schedule).unwrap();
    assert!(ring.suppressed_by.starts_with("cooldown:") && ring.action == Nothing);
    assert_eq!(told.iter().filter(|t| t.action == Retrain).count(), 0);
}

#[test]
fn a_ring_that_falls_into_bad_data_waits_for_better_ones() {
    let schedule = Some(Schedule::new("0 4 * * *", 0).unwrap());
    let mut run = Run::new(Rules { schedule, pending_ms: 0, ..rules() });
    let gap = finding("missing_minutes", MetricKind::Quality);
    run.hold(0..230, &[]);
    let told = run.hold(230..250, std::slice::from_ref(&gap));
    assert_eq!(actions(&told), [(Firing, Investigate), (Firing, Nothing)]);
    assert!(told[1].suppressed_by.starts_with("data_quality:"));
    let told = run.hold(250..300, &[]);
    assert_eq!(actions(&told), [(Resolved, Nothing), (Firing, Retrain)]);
    assert_eq!(told[1].trigger_type, TriggerType::Schedule);
}

#[test]
fn a_timer_that_is_none_is_refused_with_an_example() {
    let refused = Schedule::new("every day", 0).unwrap_err().to_string();
    assert!(refused.contains("\"0 4 * * *\""), "{refused}");
    assert!(Schedule::new("0 4 * * *", 1_440).is_err());
    let never = Schedule::new("0 0 30 2 *", 0).map(|schedule| schedule.next(at(0)));
    assert!(matches!(never, Err(_) | Ok(None)));
    let next = Schedule::new("30 4 * * *", -120).unwrap().next(at(0));
    assert_eq!(next, Some(EventTime::from_millis(BEGIN + 6 * HOUR_MS + 30 * MINUTE_MS)));
}

#[test]
fn keys_tell_findings_apart_by_what_they_are_about() {
    let one = finding("click_rate", MetricKind::Business);
    let mut others = vec![one.clone(); 5];
    others[0].segment = "surface=home".into();
    others[1].metric.name = "long_view_rate".into();
    others[2].detector.name = "psi".into();
    others[3].reference.id = "r2".into();
    others[4].metric.direction = TriggerDirection::Up;
    let keys: BTreeSet<_> =
        others.iter().map(|f| f.key("m")).chain([one.key("m"), one.key("n")]).collect();
    assert_eq!(keys.len(), 7);
    // Evidence is no part of it; and it does not change between versions of the program.
    assert_eq!(Finding { statistic: 99.0, ..one.clone() }.key("m"), one.key("m"));
    assert_eq!(one.key("m"), dedup_key("m", "all", "click_rate/DOWN", "test", "r1"));
    assert_eq!(one.key("m").len(), 16);
}

#[test]
fn a_person_is_not_held_back_and_the_same_wish_is_one_event() {
    let now = at(0);
    let (a, b) = (manual("m", "why", "wish-1", now), manual("m", "why", "wish-1", now));
    assert_eq!((a.event_id.as_str(), a.action), (b.event_id.as_str(), Retrain));
    assert_eq!(a.trigger_type, TriggerType::Manual);
    assert_ne!(a.event_id, manual("m", "why", "wish-2", now).event_id);
}

// --- Against a naive oracle ------------------------------------------------------------------

/// Kinds of the findings of random sequences.
const KINDS: [(&str, MetricKind); 5] = [
    ("click_rate", MetricKind::Business),
    ("long_view_rate", MetricKind::Business),
    ("missing_minutes", MetricKind::Quality),
    ("error_share", MetricKind::System),
    ("age", MetricKind::Feature),
];

/// Which findings are true at each step, and when steps are.
#[derive(Debug)]
struct History {
    times: Vec<i64>,
    present: Vec<Vec<bool>>,
    pending: i64,
    keep: i64,
}

impl History {
    fn is_present(&self, step: usize, key: usize) -> bool {
        self.present[step][key]
    }

    /// Whether it has been true without a break, for as long as it takes.
    fn has_lasted(&self, step: usize, key: usize) -> bool {
        (0..=step)
            .rev()
            .take_while(|s| self.is_present(*s, key))
            .any(|since| self.times[step] - self.times[since] >= self.pending)
    }

    /// Whether it fires: it has lasted once, and has never been untrue for too long since.
    fn fires(&self, step: usize, key: usize) -> bool {
        (0..=step).any(|begun| {
            self.has_lasted(begun, key)
                && (begun..=step).all(|s| {
                    let last = (begun..=s).rev().find(|v| self.is_present(*v, key));
                    last.is_some_and(|v| v == s || self.times[s] - self.times[v] < self.keep)
                })
        })
    }

    fn is_pending(&self, step: usize, key: usize) -> bool {
        self.is_present(step, key) && !self.fires(step, key)
    }
}

fn history() -> impl Strategy<Value = History> {
    // Each finding is true in stretches.
    let stretches = prop::collection::vec((1usize..9, any::<bool>()), 1..14);
    let tracks = prop::collection::vec(stretches, KINDS.len());
    (tracks, prop::collection::vec(1i64..4, 60), 0i64..4, 0i64..6).prop_map(
        |(tracks, steps, pending, keep)| {
            let flat: Vec<Vec<bool>> = tracks
                .iter()
                .map(|track| {
                    track.iter().flat_map(|(n, on)| std::iter::repeat_n(*on, *n)).collect()
                })
                .collect();
            let mut now = 0;
            let times = steps.iter().map(|step| {
                now += step;
                now
            });
            let times: Vec<i64> = times.collect();
            let of = |step: usize| {
                flat.iter().map(|track| track.get(step).copied().unwrap_or(false)).collect()
            };
            let present = (0..times.len()).map(of).collect();
            History { times, present, pending, keep }
        },
    )
}

fn play(history: &History, cooldown: i64, cut: Option<usize>) -> Vec<Vec<RetrainTrigger>> {
    let mut run = Run::new(Rules {
        pending_ms: history.pending * MINUTE_MS,
        keep_firing_ms: history.keep * MINUTE_MS,
        cooldown_ms: cooldown * MINUTE_MS,
        attempts: 1_000,
        schedule: Some(Schedule::new("*/20 * * * *", 0).unwrap()),
        ..rules()
    });
    let steps = history.times.iter().zip(&history.present).enumerate();
    steps
        .map(|(step, (minute, present))| {
            if cut == Some(step) {
                let written = serde_json::to_string(&run.policy).unwrap();
                run.policy = serde_json::from_str(&written).unwrap();
            }
            let kinds = KINDS.iter().zip(present).filter(|(_, is_true)| **is_true);
            let findings: Vec<_> = kinds.map(|((name, kind), _)| finding(name, *kind)).collect();
            let told = run.step(*minute, &findings);
            assert_eq!(run.step(*minute, &findings), [], "a moment that was is no new one");
            told
        })
        .collect()
}

proptest! {
    #[test]
    fn states_are_told_when_a_naive_look_at_all_that_was_says_so(history in history()) {
        let played = play(&history, 15, None);
        for (step, told) in played.iter().enumerate() {
            for (key, (name, _)) in KINDS.iter().enumerate() {
                let states: Vec<_> = told
                    .iter()
                    .filter(|t| t.metric.name == *name)
                    .map(|t| t.state)
                    .collect();
                let before = |of: &dyn Fn(usize) -> bool| step > 0 && of(step - 1);
                let fires = history.fires(step, key);
                let fired = before(&|s| history.fires(s, key));
                let pends = history.is_pending(step, key);
                let pended = before(&|s| history.is_pending(s, key));
                prop_assert_eq!(states.contains(&Pending), pends && !pended, "{} at {}", name, step);
                prop_assert_eq!(states.contains(&Resolved), fired && !fires, "{} at {}", name, step);
                if fires && !fired {
                    prop_assert!(states.contains(&Firing), "{} at {}", name, step);
                }
                prop_assert!(!states.contains(&Firing) || fires, "{} at {}", name, step);
                prop_assert!(states.len() <= 2);
            }
        }
    }

    #[test]
    fn a_retrain_is_asked_for_when_it_may_be_and_one_is_wanted_and_else_never(
        history in history(),
        cooldown in 1i64..40,
    ) {
        let played = play(&history, cooldown, None);
        let mut last: Option<i64> = None;
        let mut ids = BTreeSet::new();
        for (step, told) in played.iter().enumerate() {
            let now = history.times[step];
            let asked: Vec<_> = told.iter().filter(|t| t.action == Retrain).collect();
            let bad_data = history.fires(step, 2) || history.is_pending(step, 2);
            let cools = last.is_some_and(|last| now - last < cooldown);
            prop_assert!(asked.len() <= 1);
            prop_assert!(asked.is_empty() || !bad_data, "never on data that cannot be believed");
            prop_assert!(asked.is_empty() || !cools, "never within a cooldown");
            let is_wanted = (0..2).any(|k| history.is_present(step, k) && history.fires(step, k));
            prop_assert!(!is_wanted || bad_data || cools || asked.len() == 1, "at {}", step);
            for trigger in told {
                prop_assert!(ids.insert(trigger.event_id.clone()), "{} twice", trigger.event_id);
                let held = trigger.wanted_action != trigger.action;
                prop_assert_eq!(held, !trigger.suppressed_by.is_empty());
                prop_assert!(!held || trigger.action == Nothing);
                prop_assert_eq!(trigger.data_quality.passed, !bad_data);
            }
            if !asked.is_empty() {
                last = Some(now);
            }
        }
    }

    #[test]
    fn a_replay_tells_the_same_wherever_the_state_was_written(
        history in history(),
        cut in 0usize..60,
    ) {
        prop_assert_eq!(play(&history, 15, None), play(&history, 15, Some(cut)));
    }
}

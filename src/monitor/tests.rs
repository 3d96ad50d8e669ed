use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::merging::{Merger, Minute, Taken};
use super::{Settings, Watch, checkpoint};
use crate::config::MonitorConfig;
use crate::event::{
    MetricsWindow, NamedCount, RetrainTrigger, ServingWindow, TriggerAction, TriggerState,
};
use crate::time::MINUTE_MS;

/// A Monday.
const BEGIN: i64 = 1_775_433_600_000;
const DAY: i64 = 1_440;

fn settings() -> Settings {
    Settings::of(&MonitorConfig { schedule: String::new(), ..MonitorConfig::default() }).unwrap()
}

fn window(minute: i64, shard: i32, revision: i32) -> MetricsWindow {
    MetricsWindow {
        shard,
        start: BEGIN + minute * MINUTE_MS,
        length_ms: MINUTE_MS,
        model_version: "m1".into(),
        arm: "a".into(),
        surface: "home".into(),
        revision,
        lists: 50,
        impressions: 1_000,
        ..MetricsWindow::default()
    }
}

fn all_of(merger: &mut Merger) -> Vec<Minute> {
    std::iter::from_fn(|| merger.next()).collect()
}

#[test]
fn a_minute_is_final_when_all_shards_have_passed_it() {
    let mut merger = Merger::new(10 * MINUTE_MS);
    for minute in 0..12 {
        assert_eq!(merger.take(0, window(minute, 0, 1)), Taken::New);
        merger.take(0, window(minute, 1, 1));
    }
    let minutes = all_of(&mut merger);
    assert_eq!(minutes.len(), 11, "the newest may still be told of");
    let sums: Vec<_> = minutes.iter().flat_map(|m| m.segments.values()).map(|w| w.lists).collect();
    assert_eq!(sums, [100; 11]);
    // One that says nothing more is waited for, and in the end is not.
    for minute in 12..22 {
        merger.take(0, window(minute, 0, 1));
    }
    assert_eq!(all_of(&mut merger).len(), 0);
    for minute in 22..24 {
        merger.take(0, window(minute, 0, 1));
    }
    assert!(all_of(&mut merger).len() > 8);
}

#[test]
fn a_later_revision_replaces_and_one_of_a_final_minute_is_counted() {
    let mut merger = Merger::new(MINUTE_MS);
    merger.take(0, window(0, 0, 1));
    let more = MetricsWindow { lists: 60, ..window(0, 0, 2) };
    assert_eq!(merger.take(0, more.clone()), Taken::Replaced);
    assert_eq!(merger.take(0, window(0, 0, 1)), Taken::Repeated);
    assert_eq!(merger.take(0, more), Taken::Repeated);
    merger.take(0, window(1, 0, 1));
    let minutes = all_of(&mut merger);
    assert_eq!(minutes[0].segments.values().map(|w| w.lists).sum::<i64>(), 60);
    let late = MetricsWindow { late_clicks: 3, late_watches: 4, ..window(0, 0, 3) };
    assert_eq!(merger.take(0, late.clone()), Taken::Late);
    assert_eq!(merger.take(0, late), Taken::Repeated);
    merger.take(0, window(2, 0, 1));
    assert_eq!(all_of(&mut merger)[0].late_outcomes, 7);
}

#[test]
fn minutes_in_which_nothing_was_told_are_gone_through_and_ages_are_not() {
    let mut merger = Merger::new(MINUTE_MS);
    for minute in [0, 1, 2, 40, 41] {
        merger.take(0, window(minute, 0, 1));
    }
    let minutes = all_of(&mut merger);
    assert_eq!(minutes.len(), 41);
    assert_eq!(minutes.iter().filter(|minute| minute.segments.is_empty()).count(), 37);
    merger.take(0, window(400 * DAY, 0, 1));
    merger.take(0, window(400 * DAY + 1, 0, 1));
    let minutes = all_of(&mut merger);
    assert!(minutes.len() < 3, "{} minutes", minutes.len());
}

proptest! {
    #[test]
    fn minutes_are_the_sums_of_what_shards_told_however_shards_are_read_next_to_each_other(
        seed in any::<u64>(),
        shards in 1i32..5,
        partitions in 1i32..3,
    ) {
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        // Each shard tells its minutes in order, with revisions of the last one right after.
        let mut queues: Vec<Vec<(i32, MetricsWindow)>> = (0..shards).map(|shard| {
            let mut told = Vec::new();
            for minute in 0..40 {
                let partition = shard % partitions;
                let lists = draws.random_range(1..100);
                told.push((partition, MetricsWindow { lists, ..window(minute, shard, 1) }));
                if draws.random_range(0..4) == 0 {
                    told.push((partition, MetricsWindow { lists: lists + 1, ..window(minute, shard, 2) }));
                }
            }
            told.reverse();
            told
        }).collect();
        let mut expected = vec![0i64; 40];
        for queue in &queues {
            for (minute, sum) in expected.iter_mut().enumerate() {
                let of = |w: &&(i32, MetricsWindow)| w.1.start == BEGIN + minute as i64 * MINUTE_MS;
                *sum += queue.iter().filter(of).max_by_key(|w| w.1.revision).map_or(0, |w| w.1.lists);
            }
        }
        let mut merger = Merger::new(60 * MINUTE_MS);
        let mut minutes = Vec::new();
        while queues.iter().any(|queue| !queue.is_empty()) {
            let mut order: Vec<usize> = (0..queues.len()).collect();
            order.shuffle(&mut draws);
            let Some(next) = order.into_iter().find_map(|q| queues[q].pop()) else { break };
            merger.take(next.0, next.1);
            minutes.extend(all_of(&mut merger));
        }
        prop_assert_eq!(minutes.len(), 0, "an hour is waited for shards that are not known");
        for shard in 0..shards {
        merger.take(shard % partitions, window(61, shard, 1));
    }
        minutes.extend(all_of(&mut merger));
        let sums: Vec<i64> =
            minutes.iter().take(40).map(|m| m.segments.values().map(|w| w.lists).sum()).collect();
        prop_assert_eq!(sums, expected);
    }
}

/// A world of which minutes are drawn.
struct World {
    draws: ChaCha8Rng,
    now: i64,
    /// What the click rate is times what is usual.
    factor: f64,
    change: Box<dyn Fn(&mut MetricsWindow)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let draws = ChaCha8Rng::seed_from_u64(seed);
        Self { draws, now: 0, factor: 1.0, change: Box::new(|_| {}) }
    }

    fn draw(&mut self, n: i64, rate: f64) -> i64 {
        let (mean, deviation) = (n as f64 * rate, (n as f64 * rate * (1.0 - rate)).sqrt());
        let normal: f64 = (0..12).map(|_| self.draws.random::<f64>()).sum::<f64>() - 6.0;
        (mean + deviation * normal).round().max(0.0) as i64
    }

    fn minute(&mut self) -> MetricsWindow {
        let minute = self.now;
        self.now += 1;
        let day = (minute % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
        let rate = 0.05 * (1.0 + 0.2 * day.sin());
        let n = 2_000;
        let mut window = window(minute, 0, 1);
        window.impressions = n;
        window.clicks = self.draw(n, rate * self.factor);
        window.long_views = self.draw(n, 2.0 * rate);
        window.watches = self.draw(n, 4.0 * rate);
        window.completions = window.long_views / 2;
        window.watched_ms = window.long_views * 30_000;
        window.surface = if minute % 3 == 0 { "search".into() } else { "home".into() };
        (self.change)(&mut window);
        window
    }

    fn play(&mut self, watch: &mut Watch, minutes: i64) -> Vec<RetrainTrigger> {
        let windows: Vec<_> = (0..minutes).map(|_| self.minute()).collect();
        windows.into_iter().flat_map(|w| watch.take_outcomes(0, w).unwrap().1).collect()
    }
}

fn asked(told: &[RetrainTrigger]) -> Vec<TriggerAction> {
    let asking = told.iter().filter(|trigger| trigger.action != TriggerAction::None);
    asking.map(|trigger| trigger.action).collect()
}

fn learnt(seed: u64) -> (World, Watch) {
    let mut world = World::new(seed);
    let mut watch = Watch::new(settings()).unwrap();
    let told = world.play(&mut watch, 8 * DAY);
    assert_eq!(told, [], "a week like any other");
    (world, watch)
}

#[test]
fn a_drop_asks_for_a_retrain_once_and_a_rise_is_only_told() {
    let (mut world, mut watch) = learnt(1);
    world.factor = 0.8;
    let told = world.play(&mut watch, 180);
    assert_eq!(asked(&told), [TriggerAction::Retrain], "{told:#?}");
    let (mut world, mut watch) = learnt(2);
    world.factor = 1.3;
    let told = world.play(&mut watch, 180);
    assert_eq!(asked(&told), [], "{told:#?}");
    assert!(told.iter().any(|t| t.state == TriggerState::Firing && t.metric.name == "click_rate"));
}

#[test]
fn a_gap_asks_for_people_and_is_resolved_when_minutes_come_again() {
    let (mut world, mut watch) = learnt(3);
    world.now += 30;
    let told = world.play(&mut watch, 60);
    assert_eq!(asked(&told), [TriggerAction::Investigate], "{told:#?}");
    let gap = told.iter().find(|t| t.action != TriggerAction::None).unwrap();
    assert_eq!(gap.metric.name, "missing_minutes");
    assert_eq!(told.last().map(|t| t.state), Some(TriggerState::Resolved));
}

#[test]
fn a_client_that_sends_no_clicks_asks_for_people_and_not_for_a_retrain() {
    let (mut world, mut watch) = learnt(4);
    world.change = Box::new(|window| window.clicks = 0);
    let told = world.play(&mut watch, 120);
    let names: BTreeSet<_> =
        told.iter().filter(|t| t.action != TriggerAction::None).map(|t| &t.metric.name).collect();
    assert!(!asked(&told).contains(&TriggerAction::Retrain), "{told:#?}");
    assert!(names.contains(&"missing_clicks".to_owned()), "{names:?}");
    let held = told.iter().filter(|t| t.wanted_action == TriggerAction::Retrain);
    assert!(held.clone().count() > 0, "the drop is told too");
    assert!(held.clone().all(|t| t.suppressed_by.starts_with("data_quality:")));
}

#[test]
fn most_clients_that_send_no_clicks_ask_for_people_before_they_are_taken_for_a_drop() {
    let (mut world, mut watch) = learnt(4);
    world.change = Box::new(|window| window.clicks /= 3);
    let told = world.play(&mut watch, 120);
    assert!(!asked(&told).contains(&TriggerAction::Retrain), "{told:#?}");
    let first = told.iter().find(|t| t.action != TriggerAction::None).unwrap();
    assert_eq!(first.metric.name, "clicks_per_watch");
}

#[test]
fn degraded_lists_and_late_outcomes_are_found() {
    let (mut world, mut watch) = learnt(5);
    world.change = Box::new(|window| window.degraded_lists = 40);
    let told = world.play(&mut watch, 60);
    assert_eq!(asked(&told), [TriggerAction::Investigate]);
    assert!(told.iter().any(|t| t.metric.name == "degraded_share"));
    let (mut world, mut watch) = learnt(5);
    world.change = Box::new(|window| window.late_clicks = 500);
    let told = world.play(&mut watch, 60);
    assert!(told.iter().any(|t| t.metric.name == "late_share"), "{told:#?}");
}

#[test]
fn another_champion_is_another_reference_with_a_warm_up() {
    let (mut world, mut watch) = learnt(6);
    world.factor = 0.7;
    world.change = Box::new(|window| window.model_version = "m2".into());
    assert_eq!(world.play(&mut watch, DAY), [], "another model is no drift");
    let champion = watch.outcomes().champion().unwrap();
    assert_eq!((champion.version.as_str(), champion.is_new), ("m2", true));
    world.factor = 0.45;
    world.play(&mut watch, DAY);
    let told = world.play(&mut watch, 10);
    assert!(
        watch.outcomes().evidence().any(|(_, name, share)| name == "click_rate" && share >= 1.0)
    );
    assert!(told.iter().all(|t| t.reference.id.starts_with("m2@")));
}

#[test]
fn a_distribution_that_moved_is_a_warning_by_itself() {
    let mut world = World::new(7);
    let mut watch = Watch::new(settings()).unwrap();
    let with = |bin: usize| {
        move |window: &mut MetricsWindow| {
            window.scores = vec![0; 20];
            window.scores[bin] = 500;
            window.scores[bin + 1] = 500;
        }
    };
    world.change = Box::new(with(8));
    assert_eq!(world.play(&mut watch, 3 * DAY), []);
    world.change = Box::new(with(9));
    let told = world.play(&mut watch, 2 * DAY);
    assert_eq!(asked(&told), []);
    let fired = told.iter().find(|t| t.state == TriggerState::Firing).unwrap();
    assert_eq!(
        (fired.metric.name.as_str(), fired.detector.name.as_str()),
        ("predicted_clicks", "psi")
    );
    assert!(fired.statistic > fired.threshold && fired.reference.n > 0 && fired.window.n > 0);
}

fn answers(minute: i64, version: &str, errors: i64, latency_bin: usize) -> ServingWindow {
    let mut latency = vec![0; 48];
    latency[latency_bin] = 1_000;
    ServingWindow {
        worker: "w".into(),
        start: BEGIN + minute * MINUTE_MS,
        length_ms: MINUTE_MS,
        model_version: version.into(),
        requests: 1_000,
        errors: vec![NamedCount { name: "internal".into(), count: errors }],
        latency,
        ..ServingWindow::default()
    }
}

#[test]
fn errors_and_latency_ask_for_a_rollback_of_what_is_new_and_else_for_people() {
    let mut watch = Watch::new(settings()).unwrap();
    let mut play = |minutes: std::ops::Range<i64>, version: &str, errors: i64, bin: usize| {
        let all = minutes.flat_map(|m| watch.take_answers(&answers(m, version, errors, bin)).1);
        all.collect::<Vec<_>>()
    };
    assert_eq!(play(0..100, "m1", 10, 20), []);
    let told = play(100..110, "m1", 200, 20);
    assert_eq!(asked(&told), [TriggerAction::Investigate]);
    assert_eq!(told.last().unwrap().metric.name, "error_share");
    play(110..300, "m1", 0, 20);
    let told = play(300..310, "m2", 0, 40);
    assert_eq!(asked(&told), [TriggerAction::Rollback]);
    assert_eq!(told.last().unwrap().metric.name, "p99_latency");
    assert_eq!(told.last().unwrap().model_version, "m2");
}

#[test]
fn answers_without_news_of_lists_are_a_finding() {
    let mut watch = Watch::new(settings()).unwrap();
    let mut world = World::new(8);
    let told = |watch: &mut Watch, minutes: std::ops::Range<i64>| {
        let all = minutes.flat_map(|m| watch.take_answers(&answers(m, "m1", 0, 20)).1);
        all.collect::<Vec<_>>()
    };
    assert_eq!(told(&mut watch, 0..200), [], "nothing was ever told of lists");
    world.play(&mut watch, 20);
    assert_eq!(told(&mut watch, 200..250), []);
    let told = told(&mut watch, 250..280);
    assert_eq!(asked(&told), [TriggerAction::Investigate], "{told:#?}");
    assert_eq!(told[0].metric.name, "silent_minutes");
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let (mut world, mut watch) = learnt(9);
    let before = watch.clone();
    let more = MetricsWindow { clicks: 3_000, ..world.minute() };
    let refused = watch.take_outcomes(0, more).unwrap_err().to_string();
    assert_eq!(refused, "click_rate is out of its range: 3000 of 2000");
    let less = MetricsWindow { late_clicks: -1, ..world.minute() };
    assert!(watch.take_outcomes(0, less).is_err());
    assert_eq!(watch, before);
}

#[test]
fn a_state_that_was_written_goes_on_with_the_same_triggers_and_ids() {
    let folder = tempfile::tempdir().unwrap();
    let (mut world, mut watch) = learnt(10);
    world.factor = 0.8;
    let windows: Vec<_> = (0..300).map(|_| world.minute()).collect();
    let play = |watch: &mut Watch, windows: &[MetricsWindow]| {
        let all = windows.iter().flat_map(|w| watch.take_outcomes(0, w.clone()).unwrap().1);
        all.collect::<Vec<_>>()
    };
    let mut whole = watch.clone();
    let expected = play(&mut whole, &windows);
    assert!(!asked(&expected).is_empty());
    let mut found = play(&mut watch, &windows[..7]);
    for part in windows[7..].chunks(41) {
        watch.pass(0, 12);
        checkpoint::write(folder.path(), "metrics", &watch).unwrap();
        let read = checkpoint::read(folder.path(), "metrics", &settings()).unwrap();
        assert_eq!(read, watch);
        watch = read;
        found.extend(play(&mut watch, part));
    }
    let ids = |told: &[RetrainTrigger]| told.iter().map(|t| t.event_id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&found), ids(&expected));
    let other = checkpoint::read(folder.path(), "other", &settings()).unwrap_err().to_string();
    assert_eq!(other, "the state is of topic metrics, not other");
    let config = MonitorConfig { min_effect: 0.2, ..MonitorConfig::default() };
    let other = Settings::of(&config).unwrap();
    let refused = checkpoint::read(folder.path(), "metrics", &other).unwrap_err().to_string();
    assert_eq!(refused, "the state was made with other settings");
    std::fs::write(folder.path().join("state.json"), "{").unwrap();
    let refused = checkpoint::read(folder.path(), "metrics", &settings()).unwrap_err().to_string();
    assert!(refused.contains("damaged"), "{refused}");
    checkpoint::set_aside(folder.path()).unwrap();
    let none = checkpoint::read(folder.path(), "metrics", &settings()).unwrap_err();
    assert!(matches!(none, checkpoint::NoState::None));
}

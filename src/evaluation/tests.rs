//! Plans on small logs, and a run through the product's own components.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::metrics::Metric;
use super::*;
use crate::catalog::Catalog;
use crate::config::{GlobalConfig, ItemsConfig};
use crate::dataset::{Row, RowKind};
use crate::ids::{ItemId, UserId};
use crate::serving::SourceKind;

/// A log of (user, item, second), one click or watch each; of equal numbers a click and a watch
/// are one exposure.
fn log(events: &[(u8, u8, i64)], exposures: bool) -> Log {
    let mut log = Log::default();
    for (number, &(user, item, second)) in events.iter().enumerate() {
        let row = |kind| Row {
            user: UserId::new(format!("u{user}")),
            item: ItemId::new(format!("i{item}")),
            at: EventTime::from_millis(second * 1_000),
            surface: None,
            session: None,
            kind,
            source: Arc::from("test"),
            number: number as u64,
        };
        log.push(&row(RowKind::Click));
        if exposures {
            log.push(&row(RowKind::Watch { watched_ms: 30_000, duration_ms: Some(60_000) }));
        }
    }
    log.finish(None);
    log
}

const ALL: Selection =
    Selection { target: Target::NextClick, repeats: true, newcomers: true, sample: 1.0, seed: 1 };

fn places(plan: &Plan, of: impl Fn(&Step) -> Option<u32>) -> Vec<u32> {
    plan.steps.iter().filter_map(of).collect()
}

fn scored(plan: &Plan) -> Vec<u32> {
    places(plan, |step| if let Step::Score(place) = step { Some(*place) } else { None })
}

fn learnt(plan: &Plan) -> Vec<u32> {
    places(plan, |step| if let Step::Learn(place) = step { Some(*place) } else { None })
}

/// They are off by default.
fn with_transitions() -> GlobalConfig {
    GlobalConfig { transition_items: 3_000, ..GlobalConfig::default() }
}

#[test]
fn periods_leave_out_new_items_then_users_with_one_event() {
    let week = 604_800;
    let log = log(
        &[(1, 1, 0), (1, 2, 1), (2, 1, week), (2, 3, week + 1), (3, 1, week + 2), (3, 2, week + 3)],
        false,
    );
    let protocol = Protocol::Periods { length_ms: week * 1_000, per_event: false };
    let plan = plan(&log, &protocol, &Selection { newcomers: false, ..ALL }).unwrap();
    // Item 3 is new, which leaves user 2 with one event; of user 3 the second has a history.
    assert_eq!((scored(&plan), plan.periods.clone()), (vec![5], vec![1]));
    assert_eq!((plan.left_out.by_protocol, plan.left_out.newcomers), (2, 1));
    let last_score = plan.steps.iter().rposition(|s| matches!(s, Step::Score(_)));
    let first_learnt = plan.steps.iter().position(|s| *s == Step::Learn(2));
    assert!(last_score < first_learnt, "a period is learnt at its end: {:?}", plan.steps);
}

#[test]
fn the_last_target_of_each_user_and_what_comes_after_it_are_held_out() {
    let log = log(&[(1, 1, 0), (2, 2, 1), (1, 2, 2), (2, 1, 3)], true);
    let plan = plan(&log, &Protocol::LeaveLastOut, &ALL).unwrap();
    // Clicks are even places, the watches of the same exposures odd.
    assert_eq!((scored(&plan), learnt(&plan)), (vec![4, 6], vec![0, 1, 2, 3]));
}

#[test]
fn a_time_split_learns_nothing_after_it_but_folds() {
    let log = log(&[(1, 1, 0), (1, 2, 1), (1, 3, 2), (1, 4, 3)], false);
    let plan = plan(&log, &Protocol::TimeSplit { train_share: 0.5 }, &ALL).unwrap();
    assert_eq!((scored(&plan), learnt(&plan)), (vec![2, 3], vec![0, 1]));
    assert!(plan.steps.contains(&Step::Fold(3)));
}

#[test]
fn given_targets_that_are_not_in_the_data_are_refused_with_their_line() {
    let log = log(&[(1, 1, 0), (1, 2, 1)], false);
    let one = |item: &str| GivenTarget {
        user: "u1".into(),
        item: item.into(),
        negatives: vec!["i9".into()],
    };
    let plan_of = |given| plan(&log, &Protocol::Negatives(given), &ALL);
    let error = plan_of(vec![one("i2"), one("i7")]).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("i7"), "{error}");
    let plan = plan_of(vec![one("i2")]).unwrap();
    assert_eq!((scored(&plan), learnt(&plan), plan.given), (vec![1], vec![0], vec![0]));
}

#[test]
fn nothing_to_score_is_an_error_that_says_what_to_try() {
    let log = log(&[(1, 1, 0), (1, 1, 1)], false);
    let masked = Selection { repeats: false, newcomers: false, ..ALL };
    let error = plan(&log, &Protocol::Prequential, &masked).unwrap_err().to_string();
    assert!(error.contains("--repeats keep") && error.contains("repeats: 1"), "{error}");
    assert!(plan(&Log::default(), &Protocol::LeaveLastOut, &ALL).is_err());
}

#[test]
fn a_long_view_is_a_share_of_a_film_and_seconds_of_a_clip() {
    let log = log(&[(1, 1, 0)], true);
    let watch = log.events()[1];
    let long = |watched_ms, duration_ms| {
        let mut lasting = watch;
        (lasting.watched_ms, lasting.duration_ms) = (watched_ms, duration_ms);
        lasting.is(Target::LongView)
    };
    assert!(long(18_000, 60_000) && !long(17_999, 60_000));
    assert!(long(9_000, 9_000) && !long(8_999, 9_000) && long(18_000, 0));
    let film = crate::dataset::FILM_MS;
    assert!(long(film * 4 / 5, film) && !long(film * 3 / 5, film));
    assert!(!log.events()[0].is(Target::LongView));
}

fn run(log: &Log, arms: Vec<Arm>) -> Evaluation {
    run_as(log, &Protocol::Prequential, arms, 5)
}

fn run_as(log: &Log, protocol: &Protocol, arms: Vec<Arm>, top: usize) -> Evaluation {
    let plan = plan(log, protocol, &ALL).unwrap();
    let lists = ListRules { exploration: 0.0, ..ListRules::default() };
    let (target, repeats) = (ALL.target, ALL.repeats);
    let run = Run { log, plan: &plan, given: &[], arms, top, lists, repeats, target, basis: None };
    let (rules, global, items) = (FoldRules::default(), with_transitions(), ItemsConfig::default());
    run.evaluate(rules, &global, Catalog::default(), &items, |_| true).unwrap().unwrap()
}

/// Rows of what was shown, a minute apart for a user, and of the clicks on what was taken.
fn shown_log(shown: &[(u8, u8, i64, bool)]) -> Log {
    let mut log = Log::with_exposures();
    for (number, &(user, item, second, taken)) in shown.iter().enumerate() {
        let row = |kind| Row {
            user: UserId::new(format!("u{user}")),
            item: ItemId::new(format!("i{item}")),
            at: EventTime::from_millis(second * 1_000),
            surface: None,
            session: None,
            kind,
            source: Arc::from("test"),
            number: number as u64,
        };
        log.push(&row(RowKind::Impression));
        if taken {
            log.push(&row(RowKind::Click));
        }
    }
    log.finish(None);
    log
}

#[test]
fn scores_tell_what_people_take_of_what_they_are_shown() {
    // One half of the people takes even items, the other odd ones; item 0 and 1 are shown most.
    let one = |n: u64| {
        let hash = |salt: u64| crate::ids::stable_hash(&(n * 7 + salt).to_le_bytes());
        let (user, item) = ((hash(0) % 60) as u8, (hash(1) % 40 * (hash(2) % 40) / 40) as u8);
        let likes = user % 2 == item % 2;
        (user, item, n as i64 * 10, likes == (hash(3) % 10 != 0))
    };
    let log = shown_log(&(0..6_000).map(one).collect::<Vec<_>>());
    let found = run(&log, Arm::all(&SourceKind::ALL, false));
    assert_eq!(found.impressions.shown.len(), 6_000);
    let taken = log.outcomes(Target::NextClick);
    assert_eq!(found.impressions.taken(), taken.iter().filter(|taken| **taken).count());
    let [blend, floor] = [0, 1].map(|arm| found.impressions.verdict(arm));
    // What is popular says nothing of who likes what.
    assert!(blend.gauc.unwrap() > 0.55, "{blend:?}");
    assert!((floor.gauc.unwrap() - 0.5).abs() < 0.05, "{floor:?}");
    assert!(blend.log_loss < floor.log_loss && blend.platt.a > 0.1, "{blend:?} {floor:?}");
    assert!((blend.calibration.unwrap() - 1.0).abs() < 0.05, "{blend:?}");
    let gains = found.impressions.gains(0, 1, 1);
    assert!(gains.gauc.unwrap().low > 0.0 && gains.log_loss.unwrap().high < 0.0, "{gains:?}");
}

#[test]
fn only_moving_vectors_find_items_that_training_did_not_know() {
    // Two kinds of people and items; a fifth of the items comes when a basis has long been trained.
    let one = |n: u64| {
        let hash = |salt: u64| crate::ids::stable_hash(&(n * 5 + salt).to_le_bytes());
        let items = if n < 5_200 { 40 } else { 50 };
        let user = (hash(0) % 120) as u8;
        (user, ((hash(1) % items / 2) * 2) as u8 + user % 2, n as i64 * 60)
    };
    let log = log(&(0..7_500).map(one).collect::<Vec<_>>(), false);
    let mut arms = vec![Arm::new("blend", &[SourceKind::Nearest, SourceKind::Trending])];
    Arm::add_controls(&mut arms, Controls { frozen: true, off: true });
    let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
    let alone = names.iter().position(|name| *name == "nearest").unwrap();
    let frozen = names.iter().position(|name| *name == "nearest, frozen").unwrap();
    // As many as are of one kind: only what has no vector is not on the list.
    let top = 30;
    let found = run_as(&log, &Protocol::Prequential, arms, top);
    let placed = |arm: usize| found.arms[arm].placed.iter().zip(&found.scored);
    assert!(found.standing(Standing::New) > 100 && found.standing(Standing::Trained) > 1_000);
    for ((online, one), (control, _)) in placed(alone).zip(placed(frozen)) {
        match one.standing {
            // Where nothing is trained nothing is found by vectors.
            Standing::Untrained => assert_eq!((online.rank, control.rank), (None, None)),
            Standing::New | Standing::Unseen => assert_eq!(control.rank, None),
            Standing::Trained => {}
        }
    }
    let recall = |arm| found.mean_of(arm, Metric::Recall(top), Standing::New).unwrap();
    assert!(recall(alone) > 0.8, "{}", recall(alone));
    let new = Some(Standing::New);
    let gain = found.gain_between(alone, frozen, Metric::Recall(top), new, 1).unwrap();
    assert!((gain.mean - recall(alone)).abs() < 1e-9 && gain.low > 0.0, "{gain:?}");
}

#[test]
fn what_follows_a_history_is_known_when_the_first_list_is_wanted_though_none_was_before() {
    let arms = vec![Arm::new("blend", &[SourceKind::Transitions])];
    let found = run_as(&markov_log(), &Protocol::LeaveLastOut, arms, 5);
    let recall = found.mean(0, Metric::Recall(5));
    assert!(recall > 0.5, "{recall}");
}

/// Fifty items and people who choose, three times in four, what belongs after one of the three
/// items that they chose last, else what is popular.
fn markov_log() -> Log {
    let mut state = 7u64;
    let mut draw = |below: u64| {
        // Knuth's multiplier; the high bits are the random ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut last = vec![[0u8; 3]; 200];
    let mut events = Vec::new();
    for second in 0..12_000 {
        let user = draw(200) as usize;
        let popular = (draw(50) * draw(50) / 50) as u8;
        let after = last[user][[0, 0, 0, 1, 1, 2][draw(6) as usize]];
        let item = if draw(4) < 3 { (after * 7 + 3) % 50 } else { popular };
        last[user] = [item, last[user][0], last[user][1]];
        events.push((user as u8, item, second));
    }
    log(&events, false)
}

#[test]
fn where_several_items_decide_what_follows_transitions_find_more_than_neighbours() {
    let kinds = [SourceKind::Neighbours, SourceKind::Transitions];
    let arms =
        vec![Arm::new("blend", &kinds), Arm::new("n", &kinds[..1]), Arm::new("t", &kinds[1..])];
    let found = run(&markov_log(), arms);
    let [blend, neighbours, transitions] = [0, 1, 2].map(|arm| found.mean(arm, Metric::Mrr(5)));
    println!("MRR@5: blend {blend:.4}, neighbours {neighbours:.4}, transitions {transitions:.4}");
    assert!(transitions > neighbours + 0.03, "{transitions} {neighbours}");
    assert!(blend > neighbours + 0.02, "{blend} {neighbours}");
}

#[test]
fn a_pattern_in_the_data_is_found_by_neighbours_and_not_by_trending() {
    // Everybody watches three items that follow each other, of twenty such chains.
    let chain = |n: i64| {
        let (user, first) = (n as u8, (n % 20 * 3) as u8);
        (0..3).map(move |k| (user, first + k as u8, n * 10 + k))
    };
    let events: Vec<_> = (0..200).flat_map(chain).collect();
    let log = log(&events, false);
    let found = run(&log, Arm::all(&SourceKind::ALL, true));
    let names: Vec<&str> = found.arms.iter().map(|arm| arm.arm.name.as_str()).collect();
    let others = SourceKind::ALL.into_iter().filter(|kind| *kind != SourceKind::Trending);
    let expected: Vec<String> = ["blend".to_owned(), "trending (floor)".to_owned()]
        .into_iter()
        .chain(others.map(|kind| kind.name().to_owned()))
        .chain(SourceKind::ALL.map(|kind| format!("without {}", kind.name())))
        .collect();
    assert_eq!(names, expected);
    let recall = |arm| found.mean(arm, Metric::Recall(5));
    assert!(recall(0) > recall(1) + 0.3, "{} {}", recall(0), recall(1));
    let gain = found.gain_over(1, Metric::Recall(5), 1).unwrap();
    assert!(gain.low > 0.0 && (gain.mean - (recall(0) - recall(1))).abs() < 1e-9, "{gain:?}");
    assert_eq!(found.gain_over(0, Metric::Mpr, 1).unwrap().high, 0.0);
}

#[test]
fn a_run_ends_where_it_is_told_to_stop() {
    let log = log(&[(1, 1, 0), (1, 2, 1)], false);
    let plan = plan(&log, &Protocol::Prequential, &ALL).unwrap();
    let arms = Arm::all(&SourceKind::ALL, false);
    let lists = ListRules { exploration: 0.0, ..ListRules::default() };
    let (target, repeats) = (ALL.target, ALL.repeats);
    let run = Run {
        log: &log,
        plan: &plan,
        given: &[],
        arms,
        top: 5,
        lists,
        repeats,
        target,
        basis: None,
    };
    assert!(
        run.evaluate(
            FoldRules::default(),
            &with_transitions(),
            Catalog::default(),
            &ItemsConfig::default(),
            |_| false
        )
        .unwrap()
        .is_none()
    );
}

proptest! {
    #[test]
    fn what_was_shown_is_judged_once_and_before_what_came_of_it(
        shown in prop::collection::vec((0u8..4, 0u8..9, 0i64..20, any::<bool>()), 1..60),
    ) {
        let log = shown_log(&shown);
        let Ok(plan) = plan(&log, &Protocol::Prequential, &ALL) else { return Ok(()) };
        let mut judged = Vec::new();
        let mut learnt = HashSet::new();
        for step in &plan.steps {
            match *step {
                Step::Judge(place) => {
                    let exposure = &log.exposures()[place as usize];
                    let is_later = |row: &&u32| **row >= exposure.row;
                    let later = learnt.iter().filter(is_later).any(|row| {
                        log.events().iter().any(|e| e.row == *row && e.at >= exposure.at)
                    });
                    prop_assert!(!later && !learnt.contains(&exposure.row));
                    judged.push(place);
                }
                Step::Learn(place) => {
                    learnt.insert(log.events()[place as usize].row);
                }
                Step::Fold(_) | Step::Score(_) => {}
            }
        }
        prop_assert_eq!(judged, (0..shown.len() as u32).collect::<Vec<_>>());
        let taken = log.outcomes(Target::NextClick).iter().filter(|taken| **taken).count();
        prop_assert_eq!(taken, shown.iter().filter(|one| one.3).count());
    }

    #[test]
    fn no_target_is_folded_or_learnt_before_it_is_scored(
        events in prop::collection::vec((0u8..6, 0u8..9, 0i64..40), 1..60),
        exposures in any::<bool>(),
        which in 0..5,
    ) {
        let log = log(&events, exposures);
        let protocol = match which {
            0 => Protocol::Prequential,
            1 => Protocol::Periods { length_ms: 10_000, per_event: true },
            2 => Protocol::Periods { length_ms: 10_000, per_event: false },
            3 => Protocol::LeaveLastOut,
            _ => Protocol::TimeSplit { train_share: 0.5 },
        };
        let Ok(plan) = plan(&log, &protocol, &ALL) else { return Ok(()) };
        let (mut folded, mut learnt) = (HashSet::new(), HashSet::new());
        for step in &plan.steps {
            match *step {
                Step::Fold(place) => prop_assert!(folded.insert(place)),
                Step::Learn(place) => prop_assert!(learnt.insert(place)),
                Step::Judge(_) => prop_assert!(false, "nothing was shown"),
                Step::Score(place) => {
                    let own = &log.events()[place as usize];
                    for (other, event) in log.events().iter().enumerate() {
                        let other = other as u32;
                        let after = other >= place;
                        if event.row == own.row {
                            prop_assert!(!folded.contains(&other) && !learnt.contains(&other));
                        }
                        if after && event.user == own.user {
                            prop_assert!(!folded.contains(&other), "the user's future");
                        }
                        // Only leaving the last out learns what others do later.
                        if after && which != 3 {
                            prop_assert!(!learnt.contains(&other), "the future");
                        }
                    }
                }
            }
        }
    }
}

//! Against the definition: features, weights and sums worked out row by row, solved by elimination.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::event::History;

/// Items of a history and the next one, by small numbers.
type Row = (Vec<u64>, u64);

const NO_MORE: TransitionsConfig =
    TransitionsConfig { items: 50, rows: 10_000, lambda: 2.0, rarity_power: 0.3, kept: 50 };

fn rows(items: u64, count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Row>> {
    let history = vec(0..items, 0..45).prop_map(|all| {
        let mut met = BTreeSet::new();
        all.into_iter().filter(|item| met.insert(*item)).collect()
    });
    vec((history, 0..items), count)
}

/// Takes rows in through the tables' part, as the feed does; `order` says which when.
fn learner(config: &TransitionsConfig, rows: &[Row], order: &[usize]) -> TransitionLearner {
    let mut learner = TransitionLearner::new(config.clone());
    let mut transitions = Transitions::default();
    transitions.follow();
    let mut taken = Waiting::default();
    for (n, &at) in order.iter().enumerate() {
        let (history, item) = &rows[at];
        let one = Interaction {
            event: at as i64 * 7 % 64,
            // Several at one time: those are told apart by the event.
            event_time: at as i64 / 64,
            history: Some(History::of(history.iter().copied())),
            ..Interaction::default()
        };
        transitions.observe(&one, *item);
        if n % 5 == 0 {
            transitions.take(&mut taken);
            learner.learn(&taken);
        }
    }
    transitions.take(&mut taken);
    learner.learn(&taken);
    learner
}

fn in_order(rows: &[Row]) -> Vec<usize> {
    (0..rows.len()).collect()
}

fn map(mut learner: TransitionLearner) -> TransitionMap {
    learner.begin().solve(|| true).unwrap()
}

fn followers(map: &TransitionMap, history: &[u64]) -> Vec<Follower> {
    map.followers(history, usize::MAX, |_| true, &mut FollowerScratch::default())
}

/// x by its definition: (item, scale) → weight.
fn features(history: &[u64], head: &[u64]) -> BTreeMap<(u64, usize), f64> {
    let newest = history.iter().take(History::MAX).enumerate();
    let known = newest.filter(|(_, item)| head.contains(item));
    let mut x = BTreeMap::new();
    for (place, item) in known {
        if place < 5 {
            x.insert((*item, 0), 0.4f64.powi(place as i32));
        }
        x.insert((*item, 1), 0.9f64.powi(place as i32));
    }
    x
}

/// The items that may be predicted.
fn head(rows: &[Row], most: usize) -> Vec<u64> {
    let mut counts: BTreeMap<u64, i64> = BTreeMap::new();
    rows.iter().for_each(|(_, item)| *counts.entry(*item).or_default() += 1);
    let mut head: Vec<(i64, u64)> = counts.into_iter().map(|(item, n)| (-n, item)).collect();
    head.sort_unstable();
    head.into_iter().filter(|(n, _)| *n <= -5).take(most).map(|(_, item)| item).collect()
}

/// What each item of a history says for each of the head: B = (G + λI)⁻¹C by elimination.
fn naive(rows: &[Row], history: &[u64], config: &TransitionsConfig) -> Vec<Vec<f64>> {
    let head = head(rows, config.items);
    let size = 2 * head.len();
    let place = |item: u64| head.iter().position(|one| *one == item);
    let number = |key: &(u64, usize)| 2 * place(key.0).unwrap() + key.1;
    let count = |item: u64| rows.iter().filter(|row| row.1 == item).count() as f64;
    let power = f64::from(config.rarity_power);
    let weights: Vec<f64> = rows.iter().map(|row| count(row.1).powf(-power)).collect();
    let mean = weights.iter().sum::<f64>() / rows.len() as f64;
    let mut all = vec![vec![0.0; size + head.len()]; size];
    (0..size).for_each(|i| all[i][i] = f64::from(config.lambda));
    for ((before, item), weight) in rows.iter().zip(weights) {
        let x = features(before, &head);
        for (one, a) in &x {
            let scaled = a * weight / mean;
            x.iter().for_each(|(other, b)| all[number(one)][number(other)] += scaled * b);
            place(*item).iter().for_each(|target| all[number(one)][size + target] += scaled);
        }
    }
    for k in 0..size {
        let pivot = all[k][k];
        all[k].iter_mut().for_each(|value| *value /= pivot);
        let row = all[k].clone();
        for other in (0..size).filter(|other| *other != k) {
            let by = all[other][k];
            all[other].iter_mut().zip(&row).for_each(|(value, own)| *value -= by * own);
        }
    }
    let x = features(history, &head);
    let said = |item: &u64| {
        let own = x.iter().filter(|(key, _)| key.0 == *item);
        let own: Vec<(usize, f64)> = own.map(|(key, weight)| (number(key), *weight)).collect();
        (0..head.len()).map(|t| own.iter().map(|(row, w)| w * all[*row][size + t]).sum()).collect()
    };
    history.iter().take(History::MAX).map(said).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn scores_and_causes_are_those_of_the_definition(
        rows in rows(20, 1..200),
        most in 1..20usize,
        query in 0..200usize,
    ) {
        let config = TransitionsConfig { items: most, ..NO_MORE };
        let map = map(learner(&config, &rows, &in_order(&rows)));
        let head = head(&rows, most);
        prop_assert_eq!(map.len(), head.len());
        let history = &rows[query % rows.len()].0;
        let said = naive(&rows, history, &config);
        let found = followers(&map, history);
        for (place, item) in head.iter().enumerate() {
            let expected: f64 = said.iter().map(|row: &Vec<f64>| row[place]).sum();
            let Some(one) = found.iter().find(|one| one.item == *item) else {
                prop_assert!(expected < 1e-4, "{expected} is missing");
                continue;
            };
            prop_assert!((f64::from(one.score) - expected).abs() < 1e-4, "{one:?} {expected}");
            let by = |item: u64| said[history.iter().position(|h| *h == item).unwrap()][place];
            let most = said.iter().map(|row| row[place]).fold(f64::MIN, f64::max);
            prop_assert!(by(one.because) >= most - 1e-4, "{one:?}");
        }
        prop_assert!(found.is_sorted_by(|a, b| a.score >= b.score));
        prop_assert!(found.iter().all(|one| one.score > 0.0));
    }

    #[test]
    fn the_newest_rows_count_in_whatever_order_they_came(
        rows in rows(12, 150..250),
        shuffled in Just((0..250usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let config = TransitionsConfig { rows: 100, ..NO_MORE };
        let order: Vec<usize> = shuffled.into_iter().filter(|at| *at < rows.len()).collect();
        let mut newest = in_order(&rows);
        newest.sort_by_key(|at| (at / 64, at * 7 % 64));
        let newest = &newest[rows.len() - 100..];
        let expected = map(learner(&config, &rows, newest));
        let learner = learner(&config, &rows, &order);
        prop_assert!(learner.rows() <= 110);
        let found = map(learner);
        for (history, _) in &rows {
            prop_assert_eq!(followers(&found, history), followers(&expected, history));
        }
    }

    #[test]
    fn limits_and_wishes_only_leave_out(rows in rows(15, 100..200), limit in 0..10usize) {
        let map = map(learner(&NO_MORE, &rows, &in_order(&rows)));
        let mut scratch = FollowerScratch::default();
        for (history, _) in rows.iter().take(20) {
            let even = |item: u64| item.is_multiple_of(2);
            let found = map.followers(history, limit, even, &mut scratch);
            let all = followers(&map, history).into_iter().filter(|one| even(one.item));
            prop_assert_eq!(found, all.take(limit).collect::<Vec<_>>());
        }
    }
}

/// Item n is followed by n + 1, of ten.
fn circle(count: usize) -> Vec<Row> {
    (0..count as u64).map(|n| (vec![n % 10, (n + 7) % 10], (n + 1) % 10)).collect()
}

#[test]
fn a_cut_map_keeps_what_says_most() {
    let rows = circle(2_000);
    let config = TransitionsConfig { kept: 1, ..NO_MORE };
    let map = map(learner(&config, &rows, &in_order(&rows)));
    for item in 0..10 {
        let found = followers(&map, &[item]);
        assert_eq!((found[0].item, found[0].because), ((item + 1) % 10, item));
        assert!(found.len() <= 2, "one item on each scale: {found:?}");
    }
}

#[test]
fn a_map_is_due_when_a_fifth_is_new_and_never_when_nothing_is() {
    let rows = circle(3_000);
    let order = in_order(&rows);
    let mut learner = learner(&NO_MORE, &rows, &order[..249]);
    assert_eq!((learner.missing(), learner.has_new()), (1, false), "too few for a first one");
    let mut waiting = Waiting::default();
    let mut more = |learner: &mut TransitionLearner, from: usize, to: usize| {
        let mut transitions = Transitions::default();
        transitions.follow();
        for event in from..to {
            let history = Some(History::of([1]));
            let one = Interaction {
                event: event as i64,
                event_time: 1_000,
                history,
                ..Default::default()
            };
            transitions.observe(&one, 2);
        }
        transitions.take(&mut waiting);
        learner.learn(&waiting);
    };
    more(&mut learner, 0, 4_751);
    assert_eq!((learner.missing(), learner.has_new()), (0, true));
    drop(learner.begin());
    assert_eq!((learner.missing(), learner.has_new()), (1_000, false));
    more(&mut learner, 5_000, 5_999);
    assert_eq!((learner.missing(), learner.has_new()), (1, true));
    more(&mut learner, 6_000, 10_001);
    drop(learner.begin());
    assert_eq!(learner.missing(), 2_000, "a fifth of what is held");
}

#[test]
fn interactions_wait_in_bounds_and_only_for_somebody() {
    let liked = Interaction { history: Some(History::of([1, 2])), ..Default::default() };
    let mut transitions = Transitions::default();
    transitions.observe(&liked, 3);
    assert_eq!(transitions.waiting(), 0, "nobody follows");
    transitions.follow();
    transitions.observe(&Interaction::default(), 3);
    assert_eq!(transitions.waiting(), 0, "it was not liked");
    (0..WAITING + 7).for_each(|_| transitions.observe(&liked, 3));
    assert_eq!(transitions.waiting(), WAITING);
    let mut taken = Waiting::default();
    transitions.take(&mut taken);
    assert_eq!((taken.len(), taken.left_out()), (WAITING, 7));
    transitions.take(&mut taken);
    assert_eq!((taken.len(), taken.left_out()), (0, 0));
}

#[test]
fn solving_can_be_broken_off_and_an_empty_map_says_nothing() {
    let rows = circle(1_500);
    let mut learner = learner(&NO_MORE, &rows, &in_order(&rows));
    assert!(learner.begin().solve(|| false).is_err());
    assert_eq!(learner.begin().items().len(), 10);
    let empty = map(TransitionLearner::new(NO_MORE));
    assert!(empty.is_empty() && followers(&empty, &[1, 2]).is_empty());
    assert!(followers(&TransitionMap::default(), &[1]).is_empty());
}

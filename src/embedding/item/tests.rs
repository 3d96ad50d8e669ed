use std::collections::HashMap;
use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::embedding::online::{EmbeddingError, LmsConfig, Origin};
use crate::event::History;
use crate::ids::{ItemId, stable_hash};
use crate::model::ials::{IalsConfig, Interactions, train};
use crate::model::{Basis, Dim, HistoryWeights, Hyperparameters, Position, Training};
use crate::time::{DAY_MS, HOUR_MS};

/// Some day in 2023.
pub const BASE: i64 = 1_700_000_000_000;
pub const LMS: LmsConfig = LmsConfig { min_gain: 0.2, ..LmsConfig::VIDEOS };

pub fn hash(item: u64) -> u64 {
    stable_hash(format!("v{item}").as_bytes())
}

/// A basis of `items` items in two groups, trained with a seed.
pub fn basis(items: u32, seed: u64) -> Basis {
    let pairs = (0..40u32).flat_map(|user| {
        let liked =
            move |item: &u32| (item % 2 == user % 2) && !(item / 2 + user / 2).is_multiple_of(3);
        (0..items).filter(liked).map(move |item| (user, item))
    });
    let data = Interactions::new(40, items as usize, pairs.collect()).unwrap();
    let dim = Dim::new(8).unwrap();
    let config = IalsConfig { dim, unobserved: 0.05, regularization: 0.02, epochs: 3, seed };
    let factors = train(&data, &config, 1, |_| ControlFlow::Continue(())).unwrap();
    let training = Training {
        items: (0..items).map(|item| ItemId::new(format!("v{item}"))).collect(),
        counts: (0..items as usize).map(|item| data.count(item)).collect(),
        vectors: factors.items,
        hyperparameters: Hyperparameters::new(&config, HistoryWeights::VIDEOS),
        watermark: EventTime::from_millis(BASE + seed as i64),
    };
    Basis::seal(training, [[Position(0), Position(2)], [Position(1), Position(3)]], 1).unwrap()
}

pub fn live(basis: Basis) -> LiveBasis {
    LiveBasis::new(basis, LMS).unwrap()
}

/// Click or watch, fraction, minutes, what was liked before, the newest first.
pub type Row = (bool, f32, i64, Option<Vec<u64>>);

pub fn rows() -> impl Strategy<Value = Vec<Row>> {
    let minutes = prop_oneof![3 => 0..3_000i64, 1 => 0..120_000i64];
    let history = proptest::option::of(vec((0u64..60).prop_map(hash), 0..8));
    vec((any::<bool>(), 0.0..1.2f32, minutes, history), 0..60)
}

pub fn interaction(row: &Row) -> Interaction<'static> {
    let &(click, fraction, minutes, ref history) = row;
    Interaction {
        source: Source::ALL[usize::from(click)],
        fraction: if click { 0.0 } else { fraction },
        event_time: BASE + minutes * 60_000,
        history: history.clone().map(History::of),
        ..Interaction::default()
    }
}

fn folded(bases: &[std::sync::Arc<LiveBasis>], rows: &[Row]) -> ItemState {
    let mut fold = ItemFold::default();
    bases.iter().for_each(|basis| fold.add_basis(basis.clone()));
    let mut state = ItemState::default();
    rows.iter().for_each(|row| fold.learn(&mut state, hash(7), &interaction(row)));
    state
}

proptest! {
    #[test]
    fn counts_are_those_of_the_events_of_eight_weeks_in_whatever_order(rows in rows()) {
        let mut state = folded(&[], &rows);
        let newest = rows.iter().map(|row| row.2).max();
        let week = 7 * DAY_MS;
        let floor = newest.map(|at| ((BASE + at * 60_000) / week - 8) * week);
        let kept = || rows.iter().filter(|row| Some(BASE + row.2 * 60_000) >= floor);
        let count = |of: &dyn Fn(&Row) -> bool| kept().filter(|row| of(row)).count() as u64;
        let totals = state.features().totals;
        prop_assert_eq!(totals.clicks, count(&|row| row.0));
        prop_assert_eq!(totals.watches, count(&|row| !row.0));
        prop_assert_eq!(totals.long_views, count(&|row| !row.0 && row.1 >= 0.5));

        let backwards: Vec<Row> = rows.iter().rev().cloned().collect();
        let mut other = folded(&[], &backwards);
        state.co_watched = CoWatched::default();
        other.co_watched = CoWatched::default();
        prop_assert_eq!(state.encode(), other.encode());
    }

    #[test]
    fn decayed_counts_halve_once_a_half_life(rows in rows()) {
        let features = folded(&[], &rows).features();
        for decayed in &features.decayed {
            // By the beginnings of the hours, days and weeks in which they are kept.
            let newest = features.newest.millis();
            let begin = |row: &&Row| {
                let at = BASE + row.2 * 60_000;
                let (hours, days) =
                    (newest / HOUR_MS - at / HOUR_MS, newest / DAY_MS - at / DAY_MS);
                let width = match (hours, days) {
                    (..48, _) => HOUR_MS,
                    (_, ..14) => DAY_MS,
                    _ => 7 * DAY_MS,
                };
                at / width * width
            };
            let floor = (newest / (7 * DAY_MS) - 8) * 7 * DAY_MS;
            let exact: f64 = rows
                .iter()
                .filter(|row| row.0 && BASE + row.2 * 60_000 >= floor)
                .map(|row| newest - begin(&row))
                .map(|age| (-(age as f64) / decayed.half_life_ms as f64).exp2())
                .sum();
            prop_assert!((f64::from(decayed.clicks) - exact).abs() <= 1e-5 * exact);
        }
    }

    #[test]
    fn co_watched_items_are_those_of_all_events_while_they_fit(rows in rows()) {
        // 20 different items at most: all are held, and nothing is uncertain.
        let few = |history: &Vec<u64>| history.iter().map(|h| hash(h % 20)).collect();
        let rows: Vec<Row> =
            rows.into_iter().map(|(c, f, at, h)| (c, f, at, h.as_ref().map(few))).collect();
        let state = folded(&[], &rows);
        let mut naive: HashMap<u64, f64> = HashMap::new();
        let mut step = None;
        for (_, _, minutes, history) in &rows {
            let Some(history) = history else { continue };
            let now = (BASE + minutes * 60_000) / (6 * HOUR_MS);
            let gap = if naive.is_empty() { 0 } else { (now - step.unwrap_or(now)).max(0) };
            naive.values_mut().for_each(|w| *w *= (-(gap as f64) / 28.0).exp2());
            step = Some(if naive.is_empty() { now } else { step.unwrap_or(now).max(now) });
            let others = history.iter().filter(|item| **item != hash(7)).take(5);
            for (place, item) in others.enumerate() {
                *naive.entry(*item).or_default() += 0.7f64.powi(place as i32);
            }
        }
        let top = state.features().co_watched;
        prop_assert_eq!(top.len(), naive.len().min(20));
        for (item, weight) in &top {
            prop_assert!((f64::from(*weight) / naive[item] - 1.0).abs() < 1e-3);
        }
        prop_assert!(top.windows(2).all(|two| two[0].1 >= two[1].1));
    }

    #[test]
    fn vectors_are_those_of_the_update_rule_over_the_folded_history(rows in rows()) {
        let basis = std::sync::Arc::new(live(basis(20, 1)));
        let state = folded(std::slice::from_ref(&basis), &rows);
        let Origin::Trained(trained) = basis.origin(hash(7)) else { panic!("it was trained") };
        let origin = Origin::Trained(trained);
        let mut expected = None;
        for row in &rows {
            let Some(history) = &row.3 else { continue };
            let positions = history.iter().map(|hash| {
                let known = (0..20).find(|item| super::tests::hash(u64::from(*item)) == *hash);
                known.map(Position)
            });
            let mut solver = basis.basis().solver();
            let Some(user) = basis.basis().fold_in(&mut solver, positions) else { continue };
            let dim = basis.basis().dim();
            let vector = expected.get_or_insert_with(|| ItemVector::new(dim, origin));
            vector.learn(basis.lms(), origin, user, EventTime::from_millis(BASE + row.2 * 60_000));
        }
        prop_assert_eq!(state.vector(basis.version()), expected.as_ref());
    }

    #[test]
    fn a_vector_that_catches_up_is_the_one_that_learnt_along(rows in rows(), from in 0usize..60) {
        let (old, new) = (std::sync::Arc::new(live(basis(20, 1))), std::sync::Arc::new(live(basis(20, 2))));
        let along = folded(&[old.clone(), new.clone()], &rows[from.min(rows.len())..]);

        let mut fold = ItemFold::default();
        fold.add_basis(old.clone());
        let mut state = ItemState::default();
        rows.iter().for_each(|row| fold.learn(&mut state, hash(7), &interaction(row)));
        let alone = state.clone();
        fold.add_basis(new.clone());
        for row in &rows[from.min(rows.len())..] {
            fold.learn_vector(new.version(), &mut state, hash(7), &interaction(row));
        }
        prop_assert_eq!(state.vector(new.version()), along.vector(new.version()));
        state.retain_vectors(|version| version != new.version());
        prop_assert_eq!(state, alone);
    }

    #[test]
    fn states_read_back_from_their_bytes_and_damage_never_panics(
        rows in rows(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let bases = [1, 2].map(|seed| std::sync::Arc::new(live(basis(20, seed))));
        let state = folded(&bases, &rows);
        let bytes = state.encode();
        let read = ItemState::decode(&bytes).unwrap();
        prop_assert_eq!(&read, &state);
        prop_assert_eq!(read.encode(), bytes.clone());
        for cut in [0, bytes.len() / 2, bytes.len() - 1] {
            prop_assert!(ItemState::decode(&bytes[..cut]).is_err());
        }
        let mut damaged = bytes;
        for (place, byte) in damage {
            let place = place.index(damaged.len());
            damaged[place] = byte;
        }
        let _ = ItemState::decode(&damaged);
    }

    #[test]
    fn features_read_back_from_their_record(rows in rows()) {
        let features = folded(&[], &rows).features();
        prop_assert_eq!(ItemFeatures::from_record(&features.to_record()), features);
    }
}

#[test]
fn heavy_neighbours_are_found_in_a_stream_of_many() {
    let mut state = ItemState::default();
    for n in 0..5_000u64 {
        // Every fourth user liked v1 just before, every sixth v2; the rest are all different.
        let before = match n % 12 {
            0 | 4 | 8 => 1,
            2 | 6 => 2,
            _ => 1_000 + n,
        };
        let row = (true, 0.0, n as i64 / 100, Some(vec![hash(before)]));
        state.learn_statistics(hash(7), &interaction(&row));
    }
    let top = state.features().co_watched;
    assert_eq!([top[0].0, top[1].0], [hash(1), hash(2)]);
    assert!(top[0].1 > 900.0 && top[0].1 <= 1_250.0, "{}", top[0].1);
    assert!(state.encode().len() < 700, "{} bytes", state.encode().len());
}

#[test]
fn an_item_does_not_go_together_with_itself_and_unliked_watches_say_nothing() {
    let mut state = ItemState::default();
    state.learn_statistics(hash(7), &interaction(&(true, 0.0, 0, Some(vec![hash(7), hash(3)]))));
    state.learn_statistics(hash(7), &interaction(&(false, 0.2, 1, None)));
    assert_eq!(state.features().co_watched, [(hash(3), 1.0)]);
}

#[test]
fn rates_begin_at_their_priors_and_follow_the_counts() {
    let none = ItemFeatures::default();
    assert_eq!((none.long_view_rate(), none.click_rate()), (0.35, 0.5));
    let totals = ItemCounts { watches: 180, long_views: 173, clicks: 20 };
    let many = ItemFeatures { totals, ..none };
    assert_eq!(many.long_view_rate(), 180.0 / 200.0);
    assert_eq!(many.click_rate(), 30.0 / 220.0);
}

#[test]
fn item_states_that_version_1_wrote_are_still_read() {
    let state = || {
        let rows: Vec<Row> = (0..30i64)
            .map(|n| {
                (n % 3 == 0, 0.7, n * 600, (n % 2 == 0).then(|| vec![hash(1), hash(n as u64)]))
            })
            .collect();
        folded(&[std::sync::Arc::new(live(basis(20, 1)))], &rows)
    };
    let bytes = crate::fixtures::bytes("item-state.v1.bin", || state().encode());
    let read = ItemState::decode(&bytes).unwrap();
    assert_eq!(read.features().totals, state().features().totals);
    assert_eq!(read.encode(), bytes);
    let mut other = bytes.clone();
    other[0] += 1;
    let refused = ItemState::decode(&other);
    assert_eq!(refused, Err(EmbeddingError::Corrupt("it is of another format version")));
}

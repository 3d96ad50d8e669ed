use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::embedding::item::ItemFold;
use crate::embedding::item::tests::{BASE, LMS, basis, hash, interaction, rows};
use crate::ids::stable_hash;
use crate::model::vector::dot;
use crate::time::{DAY_MS, HOUR_MS};

fn tables() -> ItemTables {
    ItemTables::new(TablesConfig { max_items: 100, lms: LMS })
}

fn name(item: u64) -> String {
    format!("v{item}")
}

/// States of a few items, folded over the bases.
fn states(
    bases: &[Arc<LiveBasis>],
    rows: &[Vec<super::super::item::tests::Row>],
) -> Vec<ItemState> {
    let mut fold = ItemFold::default();
    bases.iter().for_each(|basis| fold.add_basis(basis.clone()));
    let state = |(item, rows): (u64, &Vec<_>)| {
        let mut state = ItemState::default();
        rows.iter().for_each(|row| fold.learn(&mut state, hash(item), &interaction(row)));
        state
    };
    (0..).zip(rows).map(state).collect()
}

/// Hash, vectors by basis, statistics.
type Content = (u64, Vec<Option<Vec<f32>>>, Option<Arc<ItemFeatures>>);

/// Everything that can be read of tables, by item.
fn content(tables: &ItemTables) -> Vec<Content> {
    let versions = tables.versions();
    let mut items = tables.items();
    items.sort();
    let of = |(hash, _): (u64, Arc<str>)| {
        let vectors = versions.iter().map(|v| tables.vector(*v, hash)).collect();
        (hash, vectors, tables.features(hash))
    };
    items.into_iter().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn tables_hold_every_vector_as_of_the_newest_time_in_whatever_order_records_come(
        rows in proptest::collection::vec(rows(), 1..6),
        order in any::<u64>(),
    ) {
        // Items 0 to 3 were trained; the others are new.
        let bases = || [basis(4, 1), basis(4, 2)];
        let (one, two) = (tables(), tables());
        let live = bases().map(|b| one.set_basis(b).unwrap());
        bases().into_iter().rev().for_each(|b| drop(two.set_basis(b).unwrap()));
        let states = states(&live, &rows);
        let mut ordered: Vec<usize> = (0..states.len()).collect();
        for place in &ordered {
            one.apply_state(&name(*place as u64), &states[*place]).unwrap();
        }
        ordered.sort_by_key(|place| stable_hash(&[*place as u8, order as u8]));
        for place in ordered {
            // Once with an older record before, which must leave nothing.
            two.apply_state(&name(place as u64), &states[0]).unwrap();
            two.advance().unwrap();
            two.apply_state(&name(place as u64), &states[place]).unwrap();
        }
        one.advance().unwrap();
        two.advance().unwrap();
        prop_assert_eq!(one.versions(), two.versions());
        prop_assert_eq!(one.versions().len(), 2);
        // An older record that was replaced may have moved time on, but for its own item it has
        // not: states[0] is in both.
        prop_assert_eq!(content(&one), content(&two));

        let now = one.watermark();
        for (place, state) in states.iter().enumerate() {
            for basis in &live {
                let shown = one.vector(basis.version(), hash(place as u64));
                let origin = basis.origin(hash(place as u64));
                let expected = match (state.vector(basis.version()), origin) {
                    (Some(vector), _) => {
                        let mut out = vec![0.0; 8];
                        vector.at(basis.lms(), origin, now, &mut out);
                        Some(out)
                    }
                    (None, crate::embedding::Origin::Trained(t)) => Some(t.vector.to_vec()),
                    (None, _) => None,
                };
                prop_assert_eq!(shown.is_some(), expected.is_some());
                let pairs = shown.iter().flatten().zip(expected.iter().flatten());
                for (shown, expected) in pairs {
                    prop_assert!((shown - expected).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn the_nearest_are_those_of_a_scan(
        rows in proptest::collection::vec(rows(), 1..6),
        user in proptest::collection::vec(-1.0f32..1.0, 8),
        without in 0u64..6,
    ) {
        let tables = tables();
        let live = tables.set_basis(basis(6, 1)).unwrap();
        for (item, state) in (4..).zip(states(std::slice::from_ref(&live), &rows)) {
            tables.apply_state(&name(item), &state).unwrap();
        }
        let keep = |item: u64| item != hash(without);
        let found = tables.nearest(live.version(), &user, 4, keep).unwrap();
        let mut all: Vec<(f32, u64)> = tables
            .items()
            .into_iter()
            .filter(|(item, _)| keep(*item))
            .filter_map(|(item, _)| Some((dot(&tables.vector(live.version(), item)?, &user), item)))
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        prop_assert_eq!(found.len(), all.len().min(4));
        for (found, (score, _)) in found.iter().zip(&all) {
            prop_assert!((found.score - score).abs() < 1e-4);
            prop_assert_eq!(stable_hash(found.item.as_bytes()), found.hash);
            let scores = tables.scores(live.version(), &user, &[found.hash, 1]).unwrap();
            prop_assert_eq!(scores, [Some(found.score), None]);
        }
    }
}

#[test]
fn items_that_are_taken_out_are_found_by_nothing_until_they_come_back() {
    let tables = tables();
    let first = tables.set_basis(basis(6, 1)).unwrap();
    let user = tables.fold_in(first.version(), [hash(0), hash(2)]).unwrap();
    let nearest = || -> Vec<String> {
        let found = tables.nearest(first.version(), &user, 10, |_| true).unwrap();
        found.iter().map(|n| n.item.to_string()).collect()
    };
    assert_eq!(nearest().len(), 6);
    assert!(tables.remove("v2") && !tables.remove("v2"));
    assert!(!tables.remove("never seen"));
    assert!(!nearest().contains(&"v2".to_owned()));
    assert_eq!((tables.name(hash(2)), tables.len()), (None, 5));
    // Neither an item that was taken out before its basis came is brought back by it.
    let second = tables.set_basis(basis(6, 2)).unwrap();
    assert_eq!(tables.vector(second.version(), hash(2)), None);
    // Its vector is still what histories are folded in over: it is in the basis.
    assert!(tables.fold_in(second.version(), [hash(2)]).is_some());

    tables.apply_features("v2", ItemFeatures::default()).unwrap();
    assert!(nearest().contains(&"v2".to_owned()));
    assert!(tables.vector(second.version(), hash(2)).is_some());
    assert_eq!(tables.name(hash(2)).as_deref(), Some("v2"));
}

#[test]
fn records_over_a_basis_that_is_not_live_say_which_one_is_missing() {
    let tables = tables();
    let live = Arc::new(LiveBasis::new(basis(6, 1), LMS).unwrap());
    let row = (true, 0.0, 5, Some(vec![hash(1)]));
    let state = states(std::slice::from_ref(&live), &[vec![row]]).remove(0);
    let record = state.embedding();
    assert_eq!(tables.apply_embedding("v0", &record).unwrap(), [live.version()]);
    tables.set_basis(basis(6, 1)).unwrap();
    assert_eq!(tables.apply_embedding("v0", &record).unwrap(), []);
    let vector = tables.vector(live.version(), hash(0)).unwrap();
    assert_eq!(vector, state.vector(live.version()).unwrap().live());
    assert!(tables.drop_basis(live.version()) && !tables.drop_basis(live.version()));
    assert!(tables.nearest(live.version(), &vector, 3, |_| true).unwrap().is_empty());
}

#[test]
fn vectors_leak_as_event_time_passes_though_their_items_are_quiet() {
    let tables = tables();
    let live = tables.set_basis(basis(6, 1)).unwrap();
    let row = (true, 0.0, 5, Some(vec![hash(1)]));
    let state = states(std::slice::from_ref(&live), &[vec![row]]).remove(0);
    tables.apply_state("v0", &state).unwrap();
    let version = live.version();
    let trained = live.basis().trained(live.position(hash(0)).unwrap()).vector.to_vec();
    let distance = || {
        let vector = tables.vector(version, hash(0)).unwrap();
        vector.iter().zip(&trained).map(|(v, t)| (v - t).powi(2)).sum::<f32>().sqrt()
    };
    let before = distance();
    assert!(before > 0.0);
    let later =
        |ms| ItemFeatures { newest: EventTime::from_millis(BASE + ms), ..Default::default() };
    tables.apply_features("v5", later(DAY_MS + HOUR_MS)).unwrap();
    tables.advance().unwrap();
    assert!((0.4..0.6).contains(&(distance() / before)), "{}", distance() / before);
}

#[test]
fn items_are_named_as_far_as_they_are_known_and_there() {
    let tables = tables();
    for item in [1, 2, 3] {
        tables.apply_features(&name(item), ItemFeatures::default()).unwrap();
    }
    assert!(tables.remove("v3"));
    let names = tables.names([hash(1), hash(99), hash(3), hash(2)]);
    let names: Vec<Option<&str>> = names.iter().map(Option::as_deref).collect();
    assert_eq!(names, [Some("v1"), None, None, Some("v2")]);
}

#[test]
fn tables_are_bounded_and_say_what_they_hold() {
    let tables = ItemTables::new(TablesConfig { max_items: 3, lms: LMS });
    let empty = tables.bytes();
    for item in 0..3 {
        tables.apply_features(&name(item), ItemFeatures::default()).unwrap();
    }
    assert!(tables.bytes() > empty);
    let refused = tables.apply_features("v3", ItemFeatures::default()).unwrap_err();
    assert_eq!(refused, TablesError::Full(3));
    assert!(refused.to_string().contains("items.max_items"));
    assert_eq!(tables.set_basis(basis(6, 1)).map(drop).unwrap_err(), TablesError::Full(3));
    assert!(tables.versions().is_empty());
    tables.apply_features("v2", ItemFeatures::default()).unwrap();
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::code::{Buffer, CodedQuery, Codes};
use super::*;

const DIMENSION: usize = 64;

/// Every item scored, best first, equals by handle.
fn oracle(
    items: &BTreeMap<u32, Vec<f32>>,
    query: &[f32],
    k: usize,
    keep: impl Fn(ItemHandle) -> bool,
) -> Vec<Found> {
    let kept = items.iter().filter(|(item, _)| keep(ItemHandle(**item)));
    let mut all: Vec<Found> = kept
        .map(|(item, vector)| Found { item: ItemHandle(*item), score: score(vector, query) })
        .collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
    all.truncate(k);
    all
}

/// The inner product as the index adds it up.
fn score(vector: &[f32], query: &[f32]) -> f32 {
    let pad = |v: &[f32]| {
        let mut v = v.to_vec();
        v.resize(kernel::padded(v.len()), 0.0);
        v
    };
    kernel::dot(&pad(vector), &pad(query))
}

/// A number around zero: a sum of uniform ones, close enough to normal.
fn normal(dice: &mut ChaCha8Rng) -> f32 {
    (0..6).map(|_| dice.random::<f32>() - 0.5).sum::<f32>() * 2f32.sqrt()
}

/// Vectors around `centres`, of which the first have the most, with lengths that differ.
fn clustered(dice: &mut ChaCha8Rng, centres: &[Vec<f32>], count: usize) -> Vec<Vec<f32>> {
    let one = |dice: &mut ChaCha8Rng| {
        let centre = &centres[(dice.random::<f32>().powi(2) * centres.len() as f32) as usize];
        let length = (0.2 * normal(dice)).exp();
        centre.iter().map(|x| length * (x + 0.06 * normal(dice))).collect()
    };
    (0..count).map(|_| one(dice)).collect()
}

fn centres(dice: &mut ChaCha8Rng, count: usize) -> Vec<Vec<f32>> {
    (0..count).map(|_| (0..DIMENSION).map(|_| normal(dice) / 8.0).collect()).collect()
}

/// The part of the oracle's items that the index finds.
fn recall(
    index: &ItemIndex,
    items: &BTreeMap<u32, Vec<f32>>,
    queries: &[Vec<f32>],
    keep: impl Fn(ItemHandle) -> bool + Copy,
) -> f64 {
    let mut hits = 0;
    for query in queries {
        let found = index.search(query, 100, Reach::default(), keep).unwrap();
        let found: BTreeSet<ItemHandle> = found.into_iter().map(|f| f.item).collect();
        hits += oracle(items, query, 100, keep).iter().filter(|f| found.contains(&f.item)).count();
    }
    hits as f64 / (100 * queries.len()) as f64
}

#[derive(Clone, Debug)]
enum Write {
    Upsert(u32, Vec<f32>),
    Remove(u32),
}

/// Writes to 200 items; components are few small numbers, so that scores are often equal.
fn writes() -> impl Strategy<Value = Vec<Write>> {
    let component = prop_oneof![Just(0.0f32), Just(1.0), Just(-1.0), Just(0.5), -2.0f32..2.0];
    let vector = proptest::collection::vec(component, 5);
    let write = prop_oneof![
        4 => (0u32..200, vector).prop_map(|(item, vector)| Write::Upsert(item, vector)),
        1 => (0u32..200).prop_map(Write::Remove),
    ];
    proptest::collection::vec(write, 0..800)
}

proptest! {
    #[test]
    fn a_search_that_looks_everywhere_finds_what_a_naive_scan_finds(
        writes in writes(),
        query in proptest::collection::vec(-1.0f32..1.0, 5),
        k in 0usize..60,
        modulus in 1u32..5,
    ) {
        let index = ItemIndex::with_cells(5, 16).unwrap();
        let mut items = BTreeMap::new();
        for write in writes {
            match write {
                Write::Upsert(item, vector) => {
                    index.upsert(ItemHandle(item), &vector).unwrap();
                    items.insert(item, vector);
                }
                Write::Remove(item) => {
                    let was_there = items.remove(&item).is_some();
                    prop_assert_eq!(index.remove(ItemHandle(item)), was_there);
                }
            }
        }
        let keep = |item: ItemHandle| item.0.is_multiple_of(modulus);
        let found = index.search(&query, k, Reach::EXACT, keep).unwrap();
        prop_assert_eq!(found, oracle(&items, &query, k, keep));
        prop_assert_eq!(index.stats().items, items.len());
        let handles: Vec<ItemHandle> = (0..200).map(ItemHandle).collect();
        let scores = index.scores(&query, &handles).unwrap();
        for (item, found) in handles.iter().zip(scores) {
            prop_assert_eq!(found, items.get(&item.0).map(|vector| score(vector, &query)));
            prop_assert_eq!(index.vector(*item), items.get(&item.0).cloned());
        }
    }

    #[test]
    fn a_code_never_promises_less_than_the_score(
        seed in any::<u64>(),
        dimension in 1usize..200,
        (small, large) in (-15i32..15, -15i32..15),
    ) {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |power: i32| {
            let length = 10f32.powi(power);
            let mut vector: Vec<f32> = (0..dimension).map(|_| length * normal(&mut dice)).collect();
            vector.resize(kernel::padded(dimension), 0.0);
            vector
        };
        let (vector, query) = (draw(small), draw(large));
        let mut codes = Codes::default();
        codes.push(&vector);
        let mut buffer = Buffer::default();
        let bound = codes.upper_bounds(&CodedQuery::new(&query), &mut buffer)[0];
        prop_assert!(bound >= kernel::dot(&vector, &query));
        let norm = |v: &[f32]| kernel::norm(v.iter().copied());
        let most = norm(&vector) * norm(&query);
        prop_assert!(bound <= kernel::dot(&vector, &query) + 0.05 * most);
    }

    #[test]
    fn fixed_lanes_add_up_to_the_inner_product(
        pairs in proptest::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 1..300),
    ) {
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        prop_assert!((f64::from(score(&a, &b)) - exact).abs() < 1e-4);
    }
}

#[test]
fn nearly_all_of_the_best_hundred_of_50_000_are_found() {
    let mut dice = ChaCha8Rng::seed_from_u64(11);
    let centres = centres(&mut dice, 500);
    let vectors = clustered(&mut dice, &centres, 50_000);
    let index = ItemIndex::new(DIMENSION).unwrap();
    let mut items: BTreeMap<u32, Vec<f32>> = (0..).zip(vectors).collect();
    for (item, vector) in &items {
        index.upsert(ItemHandle(*item), vector).unwrap();
    }
    let queries = clustered(&mut dice, &centres, 50);
    let all = recall(&index, &items, &queries, |_| true);
    assert!(all >= 0.95, "recall@100 {all}");

    // A filter that lets one in fifty through makes a search look further, not find less.
    let few = recall(&index, &items, &queries, |item| item.0.is_multiple_of(50));
    assert!(few >= 0.95, "recall@100 with a filter {few}");

    // A third go, a third drift, half of those far.
    for item in 0..50_000 {
        if item % 3 == 0 {
            assert!(index.remove(ItemHandle(item)));
            items.remove(&item);
        } else if item % 3 == 1 {
            let mut vector = clustered(&mut dice, &centres, 1).remove(0);
            if item % 2 == 0 {
                let old = items[&item].iter().zip(vector);
                vector = old.map(|(old, new)| 0.95 * old + 0.05 * new).collect();
            }
            index.upsert(ItemHandle(item), &vector).unwrap();
            items.insert(item, vector);
        }
    }
    let later = recall(&index, &items, &queries, |_| true);
    assert!(later >= 0.95, "recall@100 after removals and moves {later}");
    let stats = index.stats();
    assert_eq!(stats.items, items.len());
    assert!(stats.bytes < items.len() * 600, "{stats:?}: more than 600 bytes an item of 64 floats");
}

#[test]
fn an_emptied_index_holds_little_and_fills_again() {
    let mut dice = ChaCha8Rng::seed_from_u64(3);
    let index = ItemIndex::new(DIMENSION).unwrap();
    let centres = centres(&mut dice, 50);
    for round in 0..3 {
        for (item, vector) in (0..).zip(clustered(&mut dice, &centres, 20_000)) {
            index.upsert(ItemHandle(item), &vector).unwrap();
        }
        let full = index.stats();
        for item in 0..20_000 {
            assert!(index.remove(ItemHandle(item)), "{item} in round {round}");
        }
        let empty = index.stats();
        assert_eq!(empty.items, 0);
        assert!(empty.cells <= 1 + full.cells / 10, "{empty:?} of {full:?}");
        assert!(empty.bytes < full.bytes / 10, "{empty:?} of {full:?}");
        assert_eq!(index.search(&[1.0; DIMENSION], 5, Reach::EXACT, |_| true).unwrap(), []);
    }
}

#[test]
fn items_of_one_and_the_same_vector_come_by_handle() {
    for vector in [[0.0; DIMENSION], [0.3; DIMENSION]] {
        let index = ItemIndex::new(DIMENSION).unwrap();
        for item in (0..5_000).rev() {
            index.upsert(ItemHandle(item), &vector).unwrap();
        }
        let found = index.search(&[0.1; DIMENSION], 10, Reach::default(), |_| true).unwrap();
        let first: Vec<u32> = found.iter().map(|found| found.item.0).collect();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_not_written_stays_found_while_others_write_and_cells_are_cut() {
    let mut dice = ChaCha8Rng::seed_from_u64(5);
    let index = ItemIndex::with_cells(DIMENSION, 32).unwrap();
    let centres = centres(&mut dice, 20);
    let still = clustered(&mut dice, &centres, 500);
    for (item, vector) in (0..).zip(&still) {
        index.upsert(ItemHandle(item), vector).unwrap();
    }
    let moving = clustered(&mut dice, &centres, 20_000);
    let removed_up_to = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for (round, vector) in (0u32..).zip(&moving) {
                index.upsert(ItemHandle(1_000 + round % 3_000), vector).unwrap();
                if round % 2 == 1 {
                    // Handles above a million come once, and are gone when the counter says so.
                    index.upsert(ItemHandle(1_000_000 + round), vector).unwrap();
                    assert!(index.remove(ItemHandle(1_000_000 + round)));
                    removed_up_to.store(round, Ordering::SeqCst);
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut searches = 0;
        while !done.load(Ordering::SeqCst) || searches == 0 {
            let gone = 1_000_000 + removed_up_to.load(Ordering::SeqCst);
            let found = index.search(&moving[searches], 10_000, Reach::EXACT, |_| true).unwrap();
            let items: BTreeSet<ItemHandle> = found.iter().map(|found| found.item).collect();
            assert_eq!(items.len(), found.len(), "an item was found twice");
            assert_eq!(items.range(..ItemHandle(500)).count(), 500);
            assert_eq!(items.range(ItemHandle(1_000_000)..=ItemHandle(gone)).next(), None);
            searches = (searches + 1) % moving.len();
        }
    });
}

#[test]
fn bad_vectors_are_refused_and_change_nothing() {
    assert_eq!(ItemIndex::new(0).err(), Some(IndexError::Dimension(0)));
    assert_eq!(ItemIndex::new(5_000).err(), Some(IndexError::Dimension(5_000)));
    let index = ItemIndex::new(3).unwrap();
    index.upsert(ItemHandle(1), &[1.0, 2.0, 3.0]).unwrap();
    let refused = |vector: &[f32]| {
        let error = index.upsert(ItemHandle(1), vector).unwrap_err();
        assert_eq!(index.search(vector, 1, Reach::EXACT, |_| true), Err(error.clone()));
        assert_eq!(index.scores(vector, &[ItemHandle(1)]), Err(error.clone()));
        error
    };
    assert_eq!(refused(&[1.0]), IndexError::Length { expected: 3, given: 1 });
    assert_eq!(refused(&[1.0, f32::NAN, 0.0]), IndexError::NotFinite);
    assert_eq!(refused(&[1.0, f32::INFINITY, 0.0]), IndexError::NotFinite);
    assert_eq!(refused(&[f32::MAX, 0.0, 0.0]), IndexError::NotFinite);
    assert_eq!(index.vector(ItemHandle(1)), Some(vec![1.0, 2.0, 3.0]));
    assert_eq!(index.dimension(), 3);
}

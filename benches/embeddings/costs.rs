//! What training, folding in and updating cost.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Instant;

use driftline::embedding::{ItemVector, Lms, LmsConfig, Origin};
use driftline::ids::ItemId;
use driftline::model::ials::{self, IalsConfig, Interactions};
use driftline::model::{Basis, HistoryWeights, Hyperparameters, Position, Training};
use driftline::time::EventTime;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Users and interactions by item: about what DIGINETICA has.
const USERS_PER_ITEM: usize = 5;
const INTERACTIONS_PER_USER: usize = 8;
const ROUNDS: usize = 5;

pub fn print() {
    println!("\n### Costs, 64 components\n\n| what | figure |\n|---|---|");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut last = None;
    for items in [10_000, 40_000] {
        let (basis, train, turn, bytes, decode) = first_basis(items, threads);
        let rows = items * USERS_PER_ITEM * INTERACTIONS_PER_USER;
        println!(
            "| basis of {items} items from {rows} interactions, 4 epochs, {threads} threads | {train:.2} s + {turn:.2} s to seal |"
        );
        println!(
            "| its bytes; reading them back | {:.1} MB; {:.0} ms |",
            bytes as f64 / 1e6,
            decode * 1e3
        );
        last = Some(basis);
    }
    let Some(basis) = last else { return };
    for length in [5, 20, 50] {
        println!("| fold-in of {length} items | {:.2} µs |", fold_in(&basis, length) * 1e6);
    }
    println!("| update of an item, in cache | {:.0} ns |", update(&basis, 64) * 1e9);
    println!("| update of an item, 40,000 in turn | {:.0} ns |", update(&basis, 40_000) * 1e9);
    let size = ItemVector::new(basis.dim(), Origin::Unknown).to_bytes().len();
    println!("| bytes of an item's state | {size} |");
}

fn first_basis(items: usize, threads: usize) -> (Basis, f64, f64, usize, f64) {
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let users = items * USERS_PER_ITEM;
    let pairs = (0..users as u32).flat_map(|user| (0..INTERACTIONS_PER_USER).map(move |_| user));
    // The square of a uniform number: a few items are popular, most are not.
    let item = |u: f64| (u * u * items as f64) as u32;
    let pairs = pairs.map(|user| (user, item(dice.random::<f64>()))).collect();
    let data = Interactions::new(users, items, pairs).expect("in range");
    let begun = Instant::now();
    let config = IalsConfig::SESSIONS;
    let factors = ials::train(&data, &config, threads, |_| ControlFlow::Continue(()));
    let train = begun.elapsed().as_secs_f64();
    let training = Training {
        items: (0..items).map(|i| ItemId::new(format!("item-{i}"))).collect(),
        counts: (0..items).map(|i| data.count(i)).collect(),
        vectors: factors.expect("trained").items,
        hyperparameters: Hyperparameters::new(&config, HistoryWeights::VIDEOS),
        watermark: EventTime::default(),
    };
    let histories = (0..1_000).map(|i| (i..i + 5).map(Position));
    let begun = Instant::now();
    let basis = Basis::seal(training, histories, threads).expect("a basis");
    let turn = begun.elapsed().as_secs_f64();
    let bytes = basis.to_bytes();
    let begun = Instant::now();
    let read = Basis::from_bytes(&bytes).expect("read back");
    let decode = begun.elapsed().as_secs_f64();
    (read, train, turn, bytes.len(), decode)
}

/// Seconds a fold-in, histories at random; the best of a few rounds.
fn fold_in(basis: &Basis, length: usize) -> f64 {
    let mut dice = ChaCha8Rng::seed_from_u64(2);
    let items = basis.items().len() as u32;
    let histories: Vec<Vec<Option<Position>>> = (0..5_000)
        .map(|_| (0..length).map(|_| Some(Position(dice.random_range(0..items)))).collect())
        .collect();
    let mut solver = basis.solver();
    best(histories.len(), || {
        for history in &histories {
            black_box(basis.fold_in(&mut solver, history.iter().copied()));
        }
    })
}

/// Seconds an update, over `items` items in turn.
fn update(basis: &Basis, items: u32) -> f64 {
    let lms = Lms::new(LmsConfig::SESSIONS, basis.mean_user_norm()).expect("settings");
    let origin = |item: u32| Origin::Trained(basis.trained(Position(item)));
    let mut vectors: Vec<ItemVector> =
        (0..items).map(|item| ItemVector::new(basis.dim(), origin(item))).collect();
    let mut solver = basis.solver();
    let user = basis.fold_in(&mut solver, [Some(Position(1))]).expect("a user").to_vec();
    let updates = 400_000;
    best(updates, || {
        for i in 0..updates as u32 {
            let item = i % items;
            let at = EventTime::from_millis(i64::from(i));
            vectors[item as usize].learn(&lms, origin(item), black_box(&user), at);
        }
    })
}

fn best(count: usize, mut run: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed().as_secs_f64() / count as f64
    });
    times.fold(f64::MAX, f64::min)
}

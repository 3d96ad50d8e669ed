//! Next-item transitions: what the feed pays for an event, and how long a map takes.
//!
//! `cargo bench --bench transitions -- [rows]`. Items by a power law, histories of 32.

use std::hint::black_box;
use std::time::Instant;

use driftline::config::GlobalConfig;
use driftline::event::{History, Interaction};
use driftline::global::{FollowerScratch, TransitionLearner, TransitionsConfig, Waiting};
use driftline::ids::stable_hash;
use driftline::model::ridge::NormalEquations;

/// Items there are: more than are predicted.
const ITEMS: u64 = 20_000;
/// Taken from the tables together.
const TAKEN: usize = 10_000;

/// A 64-bit generator (SplitMix64).
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// An item's number: low ones often.
fn number(state: &mut u64) -> u64 {
    let share = (draw(state) >> 11) as f64 / (1u64 << 53) as f64;
    (ITEMS as f64 * share.powi(3)) as u64
}

fn main() {
    let rows = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let rows: usize = rows.unwrap_or(1_000_000);
    let (without, with) = feed();
    println!("An event in the feed: {without:.0} ns, {with:.0} ns with rows for transitions.\n");
    println!("{rows} rows with histories of {}:\n", History::MAX);
    println!(
        "| items | taking in, µs a row | summing up, s | solving, s | MB for that | MB of rows | MB of the map | query, µs |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for items in [500, 1_500, 3_000] {
        measure(items, rows);
    }
}

/// Seconds for `work`, and what it gave.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begun = Instant::now();
    let done = work();
    (begun.elapsed().as_secs_f64(), done)
}

/// Positive interactions of [`TAKEN`] histories, whose `round` this is.
fn batch<'a>(
    names: &'a [String],
    histories: &'a [History<'a>],
    round: usize,
) -> Vec<Interaction<'a>> {
    let one = |(n, history): (usize, &History<'a>)| {
        let event = (round * TAKEN + n) as i64;
        Interaction {
            event,
            session: event / 5,
            item: &names[n],
            event_time: event * 10,
            history: Some(history.clone()),
            ..Interaction::default()
        }
    };
    histories.iter().enumerate().map(one).collect()
}

fn names(state: &mut u64) -> Vec<String> {
    (0..TAKEN).map(|_| format!("item-{}", number(state))).collect()
}

fn histories(state: &mut u64) -> Vec<History<'static>> {
    let hash = |number: u64| stable_hash(format!("item-{number}").as_bytes());
    (0..TAKEN).map(|_| History::of((0..History::MAX).map(|_| hash(number(state))))).collect()
}

/// Nanoseconds that the global tables take for an event, without and with rows for transitions;
/// the middle of five rounds each, in turn.
fn feed() -> (f64, f64) {
    let mut state = 1;
    let (names, histories) = (names(&mut state), histories(&mut state));
    let mut tables = [GlobalConfig::default().tables(), GlobalConfig::default().tables()];
    tables[1].transitions().follow();
    let mut waiting = Waiting::default();
    let mut found = [Vec::new(), Vec::new()];
    for round in 0..25 {
        let batch = batch(&names, &histories, round);
        for (table, found) in tables.iter_mut().zip(&mut found) {
            let (took, ()) = timed(|| batch.iter().for_each(|one| table.learn_one(one)));
            found.push(took * 1e9 / TAKEN as f64);
            table.transitions().take(&mut waiting);
        }
    }
    let [without, with] = found.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    });
    (without, with)
}

fn measure(items: usize, rows: usize) {
    let mut state = 2;
    let config = TransitionsConfig { items, rows, ..TransitionsConfig::default() };
    let mut learner = TransitionLearner::new(config);
    let mut waiting = Waiting::default();
    let mut taking = 0.0;
    for round in 0..rows.div_ceil(TAKEN) {
        let (names, histories) = (names(&mut state), histories(&mut state));
        let mut table = GlobalConfig::default().tables();
        table.transitions().follow();
        batch(&names, &histories, round).iter().for_each(|one| table.learn_one(one));
        table.transitions().take(&mut waiting);
        taking += timed(|| learner.learn(&waiting)).0;
    }
    let (summing, begun) = timed(|| learner.begin());
    let known = begun.items().len();
    let (solving, solved) = timed(|| begun.solve(|| true));
    let map = solved.expect("λ is above 0");
    let mut scratch = FollowerScratch::default();
    let queries: Vec<Vec<u64>> =
        histories(&mut state).iter().map(|history| history.iter().collect()).collect();
    let (asking, ()) = timed(|| {
        for query in &queries {
            black_box(map.followers(query, 100, |_| true, &mut scratch));
        }
    });
    let mb = |bytes: usize| bytes as f64 / 1e6;
    println!(
        "| {known} | {:.2} | {summing:.1} | {solving:.1} | {:.0} | {:.0} | {:.1} | {:.0} |",
        taking * 1e6 / rows as f64,
        mb(NormalEquations::bytes(2 * known, known)),
        mb(learner.bytes()),
        mb(map.bytes()),
        asking * 1e6 / queries.len() as f64,
    );
}

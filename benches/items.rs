//! Items: how long from an event until every worker's index has moved, and what a fold costs.
//!
//! `cargo bench --bench items -- [events for latency, default 200]`

mod common;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Dice;
use driftline::client::EventSender;
use driftline::config::Config;
use driftline::embedding::{ItemFold, ItemState, ItemTables, LiveBasis, TablesConfig};
use driftline::event::{EventKind, History, Interaction, Source, UserEvent};
use driftline::ids::{ItemId, stable_hash};
use driftline::kafka::{Delivery, ProducerKind};
use driftline::model::ials::{IalsConfig, Interactions, train};
use driftline::model::{Basis, HistoryWeights, Hyperparameters, Position, Training};
use driftline::time::{EventTime, wall_now};
use driftline::worker::Worker;

const PARTITIONS: i32 = 8;
const ITEMS: u32 = 20_000;

fn main() {
    let events = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(200);
    folds();
    latency(events);
}

fn basis() -> Basis {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let pairs = (0..200_000).map(|_| (dice.below(10_000) as u32, dice.below(ITEMS.into()) as u32));
    let data = Interactions::new(10_000, ITEMS as usize, pairs.collect()).expect("interactions");
    let config = IalsConfig { epochs: 1, ..IalsConfig::VIDEOS };
    let trained = train(&data, &config, 2, |_| ControlFlow::Continue(())).expect("factors");
    let training = Training {
        items: (0..ITEMS).map(|item| ItemId::new(format!("v{item}"))).collect(),
        counts: (0..ITEMS as usize).map(|item| data.count(item)).collect(),
        vectors: trained.items,
        hyperparameters: Hyperparameters::new(&config, HistoryWeights::VIDEOS),
        watermark: EventTime::from_millis(wall_now()),
    };
    Basis::seal(training, [[Position(0), Position(1)]], 2).expect("a basis")
}

/// Micro-benchmarks without Kafka: a fold, an item's bytes, a record into the tables.
fn folds() {
    let tables = ItemTables::new(TablesConfig::default());
    let basis: Arc<LiveBasis> = tables.set_basis(basis()).expect("a basis");
    let mut rows = Vec::new();
    for history in [0, 8, 32] {
        let mut fold = ItemFold::default();
        fold.add_basis(Arc::clone(&basis));
        let mut states = vec![ItemState::default(); 1_000];
        let mut dice = Dice(7);
        let count = 50_000;
        let interactions: Vec<(usize, Interaction<'_>)> = (0..count)
            .map(|n| {
                let liked = (0..history).map(|_| hash(dice.below(ITEMS.into())));
                let one = Interaction {
                    source: Source::Click,
                    event_time: wall_now() + n,
                    history: Some(History::of(liked.collect::<Vec<_>>())),
                    ..Interaction::default()
                };
                (dice.below(1_000) as usize, one)
            })
            .collect();
        let begun = Instant::now();
        for (item, one) in &interactions {
            fold.learn(&mut states[*item], hash(*item as u64), one);
        }
        let folded = begun.elapsed().as_secs_f64() * 1e6 / count as f64;
        let begun = Instant::now();
        let bytes: Vec<Vec<u8>> = states.iter().map(ItemState::encode).collect();
        let encoded = begun.elapsed().as_secs_f64() * 1e6 / 1_000.0;
        let begun = Instant::now();
        bytes.iter().for_each(|bytes| drop(black_box(ItemState::decode(bytes))));
        let decoded = begun.elapsed().as_secs_f64() * 1e6 / 1_000.0;
        let begun = Instant::now();
        for (item, state) in states.iter().enumerate() {
            tables.apply_state(&format!("v{item}"), state).expect("applied");
        }
        let applied = begun.elapsed().as_secs_f64() * 1e6 / 1_000.0;
        let size = bytes.iter().map(Vec::len).sum::<usize>() / 1_000;
        let cells = [folded, encoded, decoded, applied].map(|micros| format!("{micros:.1}"));
        let mut row = vec![history.to_string(), format!("{:.0}k", 1e3 / folded)];
        row.extend(cells);
        row.push(size.to_string());
        rows.push(row);
    }
    common::table(
        "One interaction into an item's state, d = 64, one basis",
        &[
            "liked before",
            "folds/s",
            "fold, µs",
            "encode, µs",
            "decode, µs",
            "into the tables, µs",
            "bytes",
        ],
        &rows,
    );
    let bytes = tables.bytes() as f64 / tables.len() as f64;
    println!(
        "\n{bytes:.0} bytes an item in the tables: basis, index, live vector, statistics, name."
    );
}

fn hash(item: u64) -> u64 {
    stable_hash(format!("v{item}").as_bytes())
}

fn click(user: u64, item: &str, n: u64) -> UserEvent<'static> {
    UserEvent {
        id: format!("e{n}-{}", wall_now()).into(),
        user: format!("u{user}").into(),
        item: item.to_owned().into(),
        at: EventTime::from_millis(wall_now()),
        kind: EventKind::Click { position: None },
        surface: "home".into(),
        session: String::new().into(),
        request: None,
        value: 0.0,
        device: None,
    }
}

/// From sending a click on an item that nobody knows until two workers find it by its vector.
fn latency(events: u64) {
    let broker = common::Broker::find();
    let mut rows = Vec::new();
    for interval in [100, 1_000] {
        let folders =
            [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let settings = ["log.level=error", &format!("items.publish_interval_ms={interval}")];
        let config = common::config(&broker, "items", folders[0].path(), &settings);
        let topics = common::make_topics(&config, PARTITIONS);
        let mut other = config.clone();
        other.worker.data_dir = folders[1].path().into();
        let workers = [config.clone(), other].map(|own| Worker::start(own).expect("a worker"));
        let mut took = moved(&config, &workers, events, interval);
        rows.push(vec![
            interval.to_string(),
            format!("{:.0}", common::quantile(&mut took, 0.5)),
            format!("{:.0}", common::quantile(&mut took, 0.99)),
            format!("{:.0}", common::quantile(&mut took, 1.0)),
        ]);
        for worker in workers {
            worker.shutdown().expect("a clean end");
        }
        common::delete_topics(&config, &topics);
    }
    common::table(
        &format!(
            "From a click on a new item to its vector in the indexes of two workers, ms, {events} clicks"
        ),
        &["items.publish_interval_ms", "p50", "p99", "max"],
        &rows,
    );
}

fn moved(config: &Config, workers: &[Worker; 2], events: u64, interval: u64) -> Vec<f64> {
    let sender = EventSender::new(config, ProducerKind::LowLatency).expect("a producer");
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for n in 0..4_000 {
        let user = dice.below(100);
        let item = format!("v{}", (user % 2) * 50 + dice.below(50));
        sender.send(&click(user, &item, n), Delivery::Ignored).expect("sent");
    }
    sender.flush(Duration::from_secs(60)).expect("flushed");
    let is_ready = |worker: &Worker| worker.health().ready && !worker.items().versions().is_empty();
    while !workers.iter().all(is_ready) {
        std::thread::sleep(Duration::from_millis(50));
    }
    // A first basis that is trained again meanwhile would be measured too.
    std::thread::sleep(Duration::from_secs(5));
    let mut took = Vec::new();
    for n in 0..events {
        let item = format!("new-{n}");
        let found = |worker: &Worker| {
            let versions = worker.items().versions();
            let item = stable_hash(item.as_bytes());
            versions.last().is_some_and(|v| worker.items().vector(*v, item).is_some())
        };
        let begun = Instant::now();
        sender.send(&click(n % 100, &item, n), Delivery::Ignored).expect("sent");
        while !workers.iter().all(found) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{item} never came");
            std::thread::sleep(Duration::from_millis(1));
        }
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        // At all points of the interval: what was found has just been published.
        std::thread::sleep(Duration::from_millis(dice.below(interval)));
    }
    took
}

//! Snapshots: restoring a shard beside copying the same files, what a second snapshot sends, and
//! what requests notice of one that is being sent.
//!
//! `cargo bench --bench snapshot -- [users, default 200000] [rounds, default 3] [requests, default 2000]`
//! Without users, or without requests, that part is left out.

mod common;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use driftline::client::{Asking, EventSender, RequestClient};
use driftline::config::Config;
use driftline::event::{Request, UserEvent};
use driftline::feature::{FoldEvent, FoldRules};
use driftline::ids::{UserId, stable_hash};
use driftline::kafka::{Delivery, ProducerKind};
use driftline::objects::{Objects, ObjectsSettings};
use driftline::state::snapshots::{Checkpoint, Depot, Known, ShardKind, ShardName, Uploaded};
use driftline::state::{Access, Anchor, Origin, Shard, ShardStore, StoreResources};
use driftline::time::wall_now;
use driftline::worker::Worker;

const EVENTS_PER_USER: u64 = 30;
/// Users of the worker that is asked.
const USERS: u64 = 20_000;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let number = |n: usize, default| numbers.get(n).copied().unwrap_or(default);
    let (users, rounds, samples) = (number(0, 200_000), number(1, 3), number(2, 2_000));
    if users > 0 {
        restoring(users, rounds);
    }
    if samples > 0 {
        requests(samples, rounds);
    }
}

/// Folds events of `users` from the `first`-th on.
fn fold(shard: &Shard, dice: &mut common::Dice, users: u64, first: u64, count: u64) {
    let start = wall_now() - 30 * 86_400_000;
    for i in first..first + count {
        let event: UserEvent<'_> = common::watch_event(dice, i, users, start);
        let user = stable_hash(event.user.as_bytes());
        let one = FoldEvent::from_event(&event, user).into();
        let anchor = Anchor { offset: i as i64, hash: 0 };
        shard.fold(&event.user, user, &one, Origin::default(), anchor);
        if i % 200_000 == 199_999 || i + 1 == first + count {
            let frozen = shard.freeze().expect("events");
            shard.commit(&frozen, &[]).expect("committed");
        }
    }
}

fn restoring(users: u64, rounds: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let resources = StoreResources::new(64 << 20, 64 << 20);
    let access = Access::Owner { identity: "bench" };
    let store = ShardStore::open(&path("store"), FoldRules::default(), &resources, &access);
    let shard = Shard::new(0, store.expect("a store")).expect("a shard");
    let mut dice = common::Dice(1);
    fold(&shard, &mut dice, users, 0, users * EVENTS_PER_USER);
    shard.store().compact().expect("compacted");

    let uri = format!("file://{}", path("objects").display());
    let objects = Objects::open(&ObjectsSettings { uri, ..ObjectsSettings::default() });
    let name = ShardName { kind: ShardKind::User, partition: 0 };
    let depot = Depot::new(Arc::new(objects.expect("a folder")), "", name, "bench");
    let mut known = Known::default();
    let mut upload = |attempt: u64| -> (Uploaded, f64) {
        let checkpoint = path(&format!("checkpoint-{attempt}"));
        shard.store().checkpoint(&checkpoint).expect("a checkpoint");
        let begun = Instant::now();
        let what = Checkpoint { folder: &checkpoint, sources: Vec::new() };
        let sent = depot.upload(what, ("bench", attempt), &mut known, &mut |_| true);
        (sent.expect("sent"), begun.elapsed().as_secs_f64())
    };
    let (first, took) = upload(1);
    let (mut copies, mut restores, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let manifest = depot.read(&first.key).expect("a manifest");
    let megabytes = first.bytes as f64 / 1e6;
    for round in 0..rounds {
        let copied = timed(&path("copy"), |to| copy(&path("checkpoint-1"), to));
        let restored = timed(&path("restored"), |to| {
            depot.download(&manifest, to, &mut |_| true).expect("it is whole");
        });
        println!("round {round}: copy {copied:.2} s, restore {restored:.2} s");
        copies.push(megabytes / copied);
        restores.push(megabytes / restored);
        ratios.push(copied / restored);
    }
    let row = vec![
        format!("{megabytes:.0} MB"),
        format!("{:.0} MB/s", megabytes / took),
        format!("{:.0} MB/s", common::median(&mut copies)),
        format!("{:.0} MB/s", common::median(&mut restores)),
        format!("{:.2}", common::median(&mut ratios)),
        format!("{:.2} to {:.2}", ratios[0], ratios[ratios.len() - 1]),
    ];
    common::table(
        &format!("A shard of {users} users in a folder of the same disk, median of {rounds}"),
        &["store", "first upload", "copy", "restore", "ratio", "range"],
        &[row],
    );

    let mut rows = Vec::new();
    let mut next = users * EVENTS_PER_USER;
    for (attempt, share) in [(2, 0.001), (3, 0.01), (4, 0.1)] {
        let events = (users as f64 * share) as u64;
        fold(&shard, &mut dice, users, next, events);
        next += events;
        let (sent, _) = upload(attempt);
        rows.push(vec![
            format!("{:.1} %", share * 100.0),
            format!("{:.1} MB", sent.new_bytes as f64 / 1e6),
            format!("{:.1} %", sent.new_bytes as f64 / sent.bytes as f64 * 100.0),
        ]);
    }
    common::table(
        "The next snapshot, where so many of the users have had an event",
        &["users", "sent", "of the store"],
        &rows,
    );
}

fn timed(to: &Path, work: impl FnOnce(&Path)) -> f64 {
    std::fs::create_dir(to).expect("a folder");
    let begun = Instant::now();
    work(to);
    let took = begun.elapsed().as_secs_f64();
    std::fs::remove_dir_all(to).expect("it was there");
    took
}

/// Copies a folder's files and makes them durable, as restoring does.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let copied = to.join(entry.file_name());
        std::fs::copy(entry.path(), &copied).expect("copied");
        File::open(&copied).expect("a file").sync_all().expect("durable");
    }
    File::open(to).expect("a folder").sync_all().expect("durable");
}

fn requests(samples: u64, rounds: u64) {
    let broker = common::Broker::find();
    let data = tempfile::tempdir().expect("a folder");
    let uri = format!("objects.uri=file://{}/objects", data.path().display());
    let base = ["log.level=error", uri.as_str()];
    let without = common::config(&broker, "snapshot", data.path(), &base);
    let mut with = without.clone();
    with.snapshots.enabled = true;
    // One after the other, without a pause.
    with.snapshots.interval_seconds = 1;
    let topics = common::make_topics(&without, 8);
    common::produce(&without, 400_000, USERS);
    let stop = Arc::new(AtomicBool::new(false));
    let load = steady_load(&without, 5_000, Arc::clone(&stop));
    let (mut bare, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let [mut a, mut b] = [&without, &with].map(|config| ask(config, samples));
        let [a, b] = [&mut a, &mut b]
            .map(|times| (common::median(times) * 1e3, common::quantile(times, 0.99) * 1e3));
        println!("round {round}: without {a:.2?} ms, with {b:.2?} ms");
        ratios.push(b.1 / a.1);
        bare.push(a);
        beside.push(b);
    }
    stop.store(true, Ordering::Relaxed);
    load.join().expect("a clean end");
    let middle = |all: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        format!("{:.2} ms", common::median(&mut all.iter().map(of).collect::<Vec<_>>()))
    };
    let row = |name: &str, all: &[(f64, f64)]| {
        vec![name.to_owned(), middle(all, |one| one.0), middle(all, |one| one.1)]
    };
    common::table(
        &format!("{samples} requests beside 5k events/s, median of {rounds}"),
        &["", "p50", "p99"],
        &[row("no snapshots", &bare), row("snapshots all the time", &beside)],
    );
    println!("ratio of p99, by round: {ratios:.2?}");
    common::delete_topics(&without, &topics);
}

/// Seconds that each of so many requests took, one at a time.
fn ask(config: &Config, samples: u64) -> Vec<f64> {
    let worker = Worker::start(config.clone()).expect("a worker");
    while !worker.health().ready {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(3));
    let client = RequestClient::connect(config).expect("a client");
    let asking = Asking { deadline_ms: None, after: Vec::new() };
    let mut took = Vec::new();
    for number in 0..samples + 100 {
        let user = UserId::new(format!("u{:07}", number * 7_919 % USERS));
        let request = Request::new(format!("r{number}"), user, 20);
        let begun = Instant::now();
        client.ask(&request, &asking, Duration::from_secs(10)).expect("a reply");
        if number >= 100 {
            took.push(begun.elapsed().as_secs_f64());
        }
    }
    worker.shutdown().expect("a clean end");
    took
}

fn steady_load(config: &Config, per_second: u64, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    let sender = EventSender::new(config, ProducerKind::Durable).expect("a producer");
    std::thread::spawn(move || {
        let mut dice = common::Dice(42);
        let (begun, start) = (Instant::now(), wall_now());
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            let due = (begun.elapsed().as_secs_f64() * per_second as f64) as u64;
            while sent < due {
                let number = 10_000_000 + sent;
                let event = common::watch_event(&mut dice, number, USERS, start - 10_000_000);
                sender.send(&event, Delivery::Ignored).expect("sent");
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        sender.flush(Duration::from_secs(60)).expect("flushed");
    })
}

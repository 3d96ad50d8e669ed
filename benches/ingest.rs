//! Ingest: Kafka → durable fold, beside a bare consumer that only counts the same records.
//!
//! `cargo bench --bench ingest -- [events in millions, default 3] [rounds, default 3]`
//!
//! With `hot` among the arguments: the same fold with and without a Redis that it writes through
//! to, in turn. With `join`: with and without the quality join, of events alone.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use driftline::config::Config;
use driftline::event::EventTopic;
use driftline::worker::Worker;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

const PARTITIONS: i32 = 8;

fn main() {
    let numbers: Vec<f64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let events = (numbers.first().unwrap_or(&3.0) * 1e6) as u64;
    let rounds = numbers.get(1).map_or(3, |n| *n as usize);
    let broker = common::Broker::find();
    if std::env::args().any(|argument| argument == "hot") {
        return with_and_without_redis(&broker, events, rounds);
    }
    if std::env::args().any(|argument| argument == "join") {
        return with_and_without_join(&broker, events, rounds);
    }
    let mut rows = Vec::new();
    let mut profile = Vec::new();
    for users in [100_000, 1_000_000, 5_000_000] {
        let data = tempfile::tempdir().expect("a folder");
        let config = common::config(&broker, "ingest", data.path(), &["log.level=error"]);
        let topics = common::make_topics(&config, PARTITIONS);
        let size = common::produce(&config, events, users);
        let mut bare = Vec::new();
        let mut fold = Vec::new();
        let mut plain = Vec::new();
        let mut ratios = Vec::new();
        let mut without = config.clone();
        without.items.learn_vectors = false;
        let mut cpu = BTreeMap::new();
        if rows.is_empty() {
            // The broker is compiled while it runs: a young one takes a core for itself.
            bare_consumer(&config, events);
            worker(&config, events, &mut BTreeMap::new());
        }
        // In turn, so that a noisy neighbour hits both.
        for _ in 0..rounds {
            let counted = events as f64 / bare_consumer(&config, events).as_secs_f64();
            let folded = events as f64 / worker(&config, events, &mut cpu).as_secs_f64();
            let unlearnt = worker(&without, events, &mut BTreeMap::new());
            plain.push(events as f64 / unlearnt.as_secs_f64());
            bare.push(counted);
            fold.push(folded);
            ratios.push(folded / counted);
        }
        rows.push(vec![
            users.to_string(),
            format!("{size:.0}"),
            format!("{:.2}M", common::median(&mut bare) / 1e6),
            format!("{:.2}M", common::median(&mut fold) / 1e6),
            format!("{:.2}M", common::median(&mut plain) / 1e6),
            format!("{:.2}", common::median(&mut ratios)),
            format!("{:.2} to {:.2}", ratios[0], ratios[ratios.len() - 1]),
        ]);
        println!("{:?}", rows.last());
        for (name, micros) in cpu.into_iter().filter(|(_, micros)| *micros >= 0.01) {
            let micros = format!("{:.2}", micros / rounds as f64);
            profile.push(vec![users.to_string(), name, micros]);
        }
        common::delete_topics(&config, &topics);
    }
    common::table(
        &format!("Ingest, {:.1}M watch events, median of {rounds}", events as f64 / 1e6),
        &[
            "users",
            "bytes/event",
            "bare consumer, events/s",
            "worker, events/s",
            "without histories",
            "ratio",
            "range",
        ],
        &rows,
    );
    common::table(
        "Where the worker's CPU time goes, µs an event",
        &["users", "thread", "µs"],
        &profile,
    );
}

fn with_and_without_redis(broker: &common::Broker, events: u64, rounds: usize) {
    let redis = common::Redis::start();
    let mut rows = Vec::new();
    let mut profile = Vec::new();
    for users in [10_000, 1_000_000] {
        let data = tempfile::tempdir().expect("a folder");
        let plain = common::config(broker, "hot", data.path(), &["log.level=error"]);
        let mut hot = plain.clone();
        hot.hot.address.clone_from(&redis.address);
        // Its events are of the last day: all users count as active.
        hot.hot.ttl_seconds = 2 * 86_400;
        let topics = common::make_topics(&plain, PARTITIONS);
        common::produce(&plain, events, users);
        let (mut without, mut with, mut ratios) = (vec![], vec![], vec![]);
        let (mut keys, mut bytes) = (vec![], vec![]);
        let mut cpu = BTreeMap::new();
        worker(&plain, events, &mut BTreeMap::new());
        for _ in 0..rounds {
            let bare = events as f64 / worker(&plain, events, &mut BTreeMap::new()).as_secs_f64();
            redis.run(&["FLUSHALL"]);
            let empty = redis.used_bytes();
            let through = events as f64 / worker(&hot, events, &mut cpu).as_secs_f64();
            let users: f64 = redis.run(&["DBSIZE"]).parse().expect("a number of keys");
            bytes.push((redis.used_bytes() - empty) / users);
            keys.push(users);
            without.push(bare);
            with.push(through);
            ratios.push(through / bare);
        }
        rows.push(vec![
            users.to_string(),
            format!("{:.2}M", common::median(&mut without) / 1e6),
            format!("{:.2}M", common::median(&mut with) / 1e6),
            format!("{:.2}", common::median(&mut ratios)),
            format!("{:.2} to {:.2}", ratios[0], ratios[ratios.len() - 1]),
            format!("{:.0}", common::median(&mut keys)),
            format!("{:.0}", common::median(&mut bytes)),
        ]);
        println!("{:?}", rows.last());
        for (name, micros) in cpu.into_iter().filter(|(_, micros)| *micros >= 0.01) {
            let micros = format!("{:.2}", micros / rounds as f64);
            profile.push(vec![users.to_string(), name, micros]);
        }
        common::delete_topics(&plain, &topics);
    }
    common::table(
        &format!(
            "Ingest with the hot tier, {:.1}M watch events, median of {rounds}",
            events as f64 / 1e6
        ),
        &[
            "users",
            "without, events/s",
            "with, events/s",
            "ratio",
            "range",
            "users in Redis",
            "bytes each",
        ],
        &rows,
    );
    common::table(
        "Where the worker's CPU time goes with it, µs an event",
        &["users", "thread", "µs"],
        &profile,
    );
}

fn with_and_without_join(broker: &common::Broker, events: u64, rounds: usize) {
    let mut rows = Vec::new();
    let mut profile = Vec::new();
    for users in [100_000, 1_000_000] {
        let data = tempfile::tempdir().expect("a folder");
        let joined = common::config(broker, "join", data.path(), &["log.level=error"]);
        let mut plain = joined.clone();
        plain.quality.enabled = false;
        let topics = common::make_topics(&joined, PARTITIONS);
        common::produce(&joined, events, users);
        let (mut without, mut with, mut ratios) = (vec![], vec![], vec![]);
        let mut cpu = [BTreeMap::new(), BTreeMap::new()];
        worker(&plain, events, &mut BTreeMap::new());
        for _ in 0..rounds {
            let [plain_cpu, joined_cpu] = &mut cpu;
            let bare = events as f64 / worker(&plain, events, plain_cpu).as_secs_f64();
            let through = events as f64 / worker(&joined, events, joined_cpu).as_secs_f64();
            without.push(bare);
            with.push(through);
            ratios.push(through / bare);
        }
        rows.push(vec![
            users.to_string(),
            format!("{:.2}M", common::median(&mut without) / 1e6),
            format!("{:.2}M", common::median(&mut with) / 1e6),
            format!("{:.2}", common::median(&mut ratios)),
            format!("{:.2} to {:.2}", ratios[0], ratios[ratios.len() - 1]),
        ]);
        println!("{:?}", rows.last());
        for (how, cpu) in ["without", "with"].into_iter().zip(cpu) {
            for (name, micros) in cpu.into_iter().filter(|(_, micros)| *micros >= 0.01) {
                let micros = format!("{:.2}", micros / rounds as f64);
                profile.push(vec![users.to_string(), how.to_owned(), name, micros]);
            }
        }
        common::delete_topics(&joined, &topics);
    }
    common::table(
        &format!(
            "Ingest with the quality join, {:.1}M watch events, median of {rounds}",
            events as f64 / 1e6
        ),
        &["users", "without, events/s", "with, events/s", "ratio", "range"],
        &rows,
    );
    common::table(
        "Where the worker's CPU time goes, µs an event",
        &["users", "join", "thread", "µs"],
        &profile,
    );
}

/// Time from the first record to the last, counting only.
fn bare_consumer(config: &Config, events: u64) -> Duration {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.kafka.bootstrap)
        .set("group.id", "bench-bare")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "10")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(&config.topics.watch_events(), partition, Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let mut begun = None;
    let mut count = 0;
    while count < events {
        if let Some(Ok(_)) = consumer.poll(Duration::from_millis(100)) {
            begun.get_or_insert_with(Instant::now);
            count += 1;
        }
    }
    begun.expect("records").elapsed()
}

/// CPU time of this process by thread name, in clock ticks of 10 ms.
fn cpu_by_thread() -> BTreeMap<String, u64> {
    let mut ticks = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name));
        let (Ok(name), Ok(stat)) = (read("comm"), read("stat")) else { continue };
        // After the name in parentheses: fields 14 and 15 of proc(5) are user and system time.
        let after = stat.rsplit(')').next().unwrap_or_default();
        let used: u64 =
            after.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        let name =
            name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == ':');
        *ticks.entry(name.to_owned()).or_default() += used;
    }
    ticks
}

/// Time from the first event folded until all are committed, in a fresh worker, and the CPU time
/// of each kind of thread.
fn worker(config: &Config, events: u64, cpu: &mut BTreeMap<String, f64>) -> Duration {
    let before = cpu_by_thread();
    let data = tempfile::tempdir().expect("a folder");
    let mut own = config.clone();
    own.worker.data_dir = data.path().into();
    own.kafka.group = format!("{}-{}", config.kafka.group, driftline::time::wall_now());
    let worker = Worker::start(own).expect("a worker");
    let mut begun = None;
    loop {
        let shards = worker.shards().all();
        if begun.is_none() && shards.iter().any(|s| s.shard.position(EventTopic::Watch) > 0) {
            begun = Some(Instant::now());
        }
        let committed: i64 = shards
            .iter()
            .filter_map(|s| s.shard.store().progress().ok())
            .map(|p| p.watch.next_offset)
            .sum();
        if committed as u64 >= events {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = begun.expect("events").elapsed();
    for (name, ticks) in cpu_by_thread() {
        let used = ticks.saturating_sub(before.get(&name).copied().unwrap_or(0));
        *cpu.entry(name).or_default() += used as f64 * 0.01 * 1e6 / events as f64;
    }
    worker.shutdown().expect("a clean end");
    // The next worker would warm its tables with what this one published.
    let topics = &config.topics;
    for topic in [topics.interactions(), topics.item_embeddings(), topics.item_features()] {
        common::remake_topic(config, &topic, PARTITIONS);
    }
    common::remake_topic(config, &topics.models(), 1);
    took
}

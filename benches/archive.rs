//! Archive: Kafka → Parquet files in a folder, beside a bare consumer that only counts the same
//! records.
//!
//! `cargo bench --bench archive -- [events in millions, default 2] [rounds, default 3]`

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::config::Config;
use driftline::kafka::WholeTopic;
use driftline::lake::{Archiver, Lake, Sink, TopicWriter, subject_of};
use driftline::objects::Objects;
use driftline::runtime::Stop;

const PARTITIONS: i32 = 8;

fn main() {
    let numbers: Vec<f64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let events = (numbers.first().unwrap_or(&2.0) * 1e6) as u64;
    let rounds = numbers.get(1).map_or(3, |n| *n as usize);
    let broker = common::Broker::find();
    let data = tempfile::tempdir().expect("a folder");
    let config = common::config(&broker, "archive", data.path(), &["log.level=error"]);
    let topics = common::make_topics(&config, PARTITIONS);
    let size = common::produce(&config, events, 1_000_000);
    let (mut bare, mut archived, mut ratios, mut bytes) = (vec![], vec![], vec![], vec![]);
    // The broker is compiled while it runs: a young one takes a core for itself.
    read(&config, events);
    for _ in 0..rounds {
        let counted = events as f64 / read(&config, events).as_secs_f64();
        let (took, written) = archive(&config, events);
        let rate = events as f64 / took.as_secs_f64();
        bare.push(counted);
        archived.push(rate);
        ratios.push(rate / counted);
        bytes.push(written as f64 / events as f64);
        println!("bare {counted:.0}/s, archived {rate:.0}/s");
    }
    let row = vec![
        format!("{size:.0}"),
        format!("{:.0}", common::median(&mut bytes)),
        format!("{:.2}M", common::median(&mut bare) / 1e6),
        format!("{:.2}M", common::median(&mut archived) / 1e6),
        format!("{:.2}", common::median(&mut ratios)),
        format!("{:.2} to {:.2}", ratios[0], ratios[ratios.len() - 1]),
    ];
    common::table(
        &format!("Archive, {:.1}M watch events, median of {rounds}", events as f64 / 1e6),
        &["bytes/event", "in the lake", "bare, events/s", "archive, events/s", "ratio", "range"],
        &[row],
    );
    common::delete_topics(&config, &topics);
}

fn open(config: &Config) -> (String, WholeTopic) {
    let name = config.topics.watch_events();
    let topic = WholeTopic::open(&config.kafka.client(), &name, "driftline-bench");
    (name, topic.expect("the topic"))
}

/// Time to read all records and count them.
fn read(config: &Config, events: u64) -> Duration {
    let (_, mut topic) = open(config);
    let begun = Instant::now();
    topic.mark_end().expect("the ends");
    let mut count = 0;
    while !topic.is_at_mark() {
        count += u64::from(topic.poll(Duration::from_millis(20)).is_some());
    }
    assert_eq!(count, events);
    begun.elapsed()
}

/// Time to archive them into an empty folder, and the bytes of the files.
fn archive(config: &Config, events: u64) -> (Duration, u64) {
    let (name, mut topic) = open(config);
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = config.objects.settings();
    settings.uri = format!("file://{}", folder.path().display());
    let begun = Instant::now();
    let lake = Lake::new(Arc::new(Objects::open(&settings).expect("a folder")));
    let stop = Stop::default();
    let sink = Sink::start(&lake, config.lake.threads, stop.clone()).expect("threads");
    let subject = subject_of("watch-events").expect("a topic that is archived");
    let writer = Arc::new(TopicWriter::new(subject).expect("columns"));
    let writers = HashMap::from([(name.clone(), writer)]);
    let mut archiver = Archiver::new(lake, writers, config.lake.rules(), sink);
    archiver.catch_up(&mut topic, &name, || false, |_, _| {}).expect("it is archived");
    let took = begun.elapsed();
    stop.request();
    let tally = archiver.end().expect("its threads end");
    assert_eq!(tally[&name].rows, events);
    (took, tally[&name].bytes)
}

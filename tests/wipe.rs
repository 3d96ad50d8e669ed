//! Stores that no longer fit: set aside, and rebuilt from the log.

mod common;

use std::path::{Path, PathBuf};

use common::dice::Dice;
use common::events::{Event, Source, Stream};
use common::installation::Installation;
use common::oracle::{self, DEFAULT_RULES, Rules};
use common::worker::Worker;

fn events(name: &str, count: u64) -> Vec<Event> {
    let mut stream = Stream::new(Dice::printed(name), 120, count);
    (0..count).map(|_| stream.draw()).collect()
}

/// An installation whose worker has folded `events` and left.
fn folded(name: &str, events: &[Event]) -> Installation {
    let site = Installation::new(name, &[]);
    site.deliver(events);
    let mut worker = site.worker("a");
    site.wait_folded(&mut worker);
    worker.drain();
    site
}

fn assert_rebuilt(site: &Installation, mut worker: Worker, rules: Rules, shards: &[i32]) {
    // The old store may say that everything is folded: first it must be gone.
    worker.wait_ready();
    site.wait_folded(&mut worker);
    assert_eq!(worker.metric("driftline_state_rebuilt_total"), shards.len() as f64);
    worker.drain();
    let data_dir = site.data_dir("a");
    for shard in shards {
        let aside = data_dir.join(format!("user-{shard}.set-aside"));
        assert!(aside.is_dir(), "the old store is kept: {}", aside.display());
    }
    let expected = oracle::fold(&site.read_events(|_| true), rules);
    oracle::assert_same(&site.dump(&data_dir), &expected);
}

/// Deletes a topic and makes it anew.
fn make_anew(site: &Installation, source: Source) {
    site.kafka.delete_topic(&site.topic(source.topic()));
    site.expect_ok(&["topics", "apply", "--partitions", &site.partitions.to_string()]);
}

const ALL: [i32; 4] = [0, 1, 2, 3];

#[test]
fn a_state_beyond_the_end_of_the_log_is_rebuilt_from_what_is_there() {
    let site = folded("beyond", &events("beyond", 4_000));
    make_anew(&site, Source::Watch);
    // Clicks stay as they were: the shard is folded from both again.
    site.deliver(&events("fewer", 400).into_iter().filter(is_watch).collect::<Vec<_>>());
    let worker = site.worker("a");
    assert_rebuilt(&site, worker, DEFAULT_RULES, &ALL);
}

fn is_watch(event: &Event) -> bool {
    event.source == Source::Watch
}

#[test]
fn a_topic_made_anew_with_as_many_records_is_known_by_its_records() {
    let site = folded("anew", &events("anew", 2_000));
    make_anew(&site, Source::Click);
    let more: Vec<_> = events("more", 6_000).into_iter().filter(|e| !is_watch(e)).collect();
    site.deliver(&more);
    let worker = site.worker("a");
    assert_rebuilt(&site, worker, DEFAULT_RULES, &ALL);
}

#[test]
fn other_rules_of_the_fold_make_another_state() {
    let site = folded("rules", &events("rules", 3_000));
    let worker = site.worker_with("a", &[("state.history_limit", "7")]);
    let rules = Rules { history_limit: 7, ttl_days: 180 };
    assert_rebuilt(&site, worker, rules, &ALL);
}

fn files(store: &Path, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store).expect("a store");
    let all = entries.map(|e| e.expect("an entry").path());
    let found: Vec<_> =
        all.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(&fits)).collect();
    assert!(!found.is_empty(), "no such file in {}", store.display());
    found
}

fn tables(store: &Path) -> Vec<PathBuf> {
    files(store, |name| name.ends_with(".sst"))
}

fn overwrite(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("a file of the store");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("a file of the store");
}

/// An installation with its events in table files: reopening a store writes them.
fn folded_to_tables(name: &str) -> Installation {
    let site = folded(name, &events(name, 4_000));
    let worker = site.ready_worker("a");
    worker.drain();
    site
}

#[test]
fn damaged_files_are_set_aside_with_their_store() {
    let site = folded_to_tables("damaged");
    let store = |shard: i32| site.data_dir("a").join(format!("user-{shard}"));
    for manifest in files(&store(0), |name| name.starts_with("MANIFEST")) {
        overwrite(&manifest, |bytes| bytes.iter_mut().for_each(|b| *b ^= 0x5A));
    }
    for table in tables(&store(1)) {
        overwrite(&table, |bytes| bytes.truncate(bytes.len() / 2));
    }
    for table in tables(&store(2)) {
        overwrite(&table, |bytes| bytes.iter_mut().for_each(|b| *b ^= 0x5A));
    }
    std::fs::write(store(3).join("CURRENT"), "MANIFEST-999999\n").expect("CURRENT");
    site.deliver(&events("later", 500));
    let worker = site.worker("a");
    assert_rebuilt(&site, worker, DEFAULT_RULES, &ALL);
}

#[test]
fn a_damaged_block_that_opening_reads_costs_only_its_own_store() {
    let site = folded_to_tables("block");
    let store = site.data_dir("a").join("user-1");
    for table in tables(&store) {
        // The first block holds data; index and footer stay whole.
        overwrite(&table, |bytes| {
            let end = bytes.len().min(200);
            bytes[50..end].iter_mut().for_each(|b| *b ^= 0x5A);
        });
    }
    site.deliver(&events("after", 500));
    let worker = site.worker("a");
    assert_rebuilt(&site, worker, DEFAULT_RULES, &[1]);
}

#[test]
fn a_damaged_block_that_compaction_comes_upon_costs_only_its_own_store() {
    let site = folded_to_tables("compaction");
    let store = site.data_dir("a").join("user-2");
    let size = |path: &PathBuf| std::fs::metadata(path).expect("a file").len();
    // The users' table; the other holds only how far they are folded.
    let users = tables(&store).into_iter().max_by_key(size).expect("a table");
    overwrite(&users, |bytes| {
        let middle = bytes.len() / 4;
        bytes[middle..middle + 100].iter_mut().for_each(|b| *b ^= 0x5A);
    });
    // Each start writes one more table; with the fourth they are compacted.
    let mut rebuilt = 0.0;
    for round in 0..6 {
        site.deliver(&events(&format!("round {round}"), 1_000));
        let mut worker = site.ready_worker("a");
        site.wait_folded(&mut worker);
        rebuilt += worker.metric("driftline_state_rebuilt_total");
        worker.drain();
    }
    assert_eq!(rebuilt, 1.0);
    assert!(site.data_dir("a").join("user-2.set-aside").is_dir());
    let expected = oracle::fold(&site.read_events(|_| true), DEFAULT_RULES);
    oracle::assert_same(&site.dump(&site.data_dir("a")), &expected);
}

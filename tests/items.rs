//! Items: what users do moves vectors and statistics, in every worker and through every crash.
//!
//! The tables of a worker have no door but the library's, so workers of two of these tests run in
//! this process.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::dice::Dice;
use common::events::Event;
use common::eventually;
use common::installation::Installation;
use common::kafka::Out;
use driftline::config::{Config, Sources, load};
use driftline::embedding::{ItemFold, ItemState, ItemTables, LiveBasis, LmsConfig};
use driftline::event::{Interactions, ModelManifest};
use driftline::ids::stable_hash;
use driftline::model::{Basis, BasisVersion};
use driftline::worker::Worker;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const SETTINGS: &[(&str, &str)] = &[
    ("state.commit_interval_ms", "50"),
    ("state.backlog_commit_interval_ms", "50"),
    ("items.publish_interval_ms", "200"),
    ("items.first_basis.min_positives", "700"),
    ("items.first_basis.min_users", "20"),
    ("items.first_basis.min_items", "10"),
];

/// The `n`-th event: users of two groups like the items of their own half.
fn event(dice: &mut Dice) -> Event {
    let user = dice.below(60);
    let item = (user % 2) * 30 + dice.below(30);
    let (user, item) = (format!("u{user}"), format!("v{item}"));
    match dice.below(5) {
        0 => Event::watch(&user, &item).lasting(5_000, 60_000),
        1 | 2 => Event::click(&user, &item),
        _ => Event::watch(&user, &item),
    }
}

fn hash(item: &str) -> u64 {
    stable_hash(item.as_bytes())
}

/// A basis of the topic that is not retired, and from where vectors over it learn.
struct Published {
    basis: Arc<LiveBasis>,
    manifest: ModelManifest,
}

fn published(site: &Installation) -> Vec<Published> {
    let mut last: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    for seen in site.kafka.read_all(&site.topic("models")) {
        last.insert(String::from_utf8(seen.key.expect("a key")).expect("UTF-8"), seen.value);
    }
    let manifests = last.iter().filter(|(key, value)| !key.contains('/') && value.is_some());
    let mut published = Vec::new();
    for (key, value) in manifests {
        let manifest = ModelManifest::decode(value.as_deref().unwrap_or_default()).expect("one");
        let chunk = |n: i32| last[&format!("{key}/{n}")].clone().expect("a chunk");
        let bytes: Vec<u8> = (0..manifest.chunks).flat_map(chunk).collect();
        let basis = Basis::from_bytes(&bytes).expect("a basis");
        assert_eq!(format!("{:016x}", basis.version().0), *key);
        let lms = LmsConfig { half_life_ms: 86_400_000, ..LmsConfig::VIDEOS };
        let basis = Arc::new(LiveBasis::new(basis, lms).expect("live"));
        published.push(Published { basis, manifest });
    }
    published
}

/// What one fold of a partition of `interactions` gives, replays dropped: item states by name.
fn folded(
    site: &Installation,
    partition: i32,
    published: &[Published],
) -> BTreeMap<String, ItemState> {
    let mut states: BTreeMap<String, ItemState> = BTreeMap::new();
    let records = site.kafka.read_all(&site.topic("interactions"));
    let records: Vec<_> = records.into_iter().filter(|r| r.partition == partition).collect();
    // Each fold on its own, one after the other: statistics, then the vectors over each basis.
    let each = std::iter::once(None).chain(published.iter().map(Some));
    for learning in each {
        let mut fold = ItemFold::default();
        if let Some(Published { basis, .. }) = learning {
            fold.add_basis(Arc::clone(basis));
        }
        let from = learning.map_or(0, |l| l.manifest.offsets[partition as usize]);
        let mut highest: BTreeMap<(i32, bool), i64> = BTreeMap::new();
        for record in records.iter().filter(|record| record.offset >= from) {
            let value = record.value.as_deref().unwrap_or_default();
            let batch = Interactions::decode(value).expect("interactions");
            for one in &batch.interactions {
                let is_click = one.source == driftline::event::Source::Click;
                let highest = highest.entry((batch.shard, is_click)).or_insert(-1);
                if one.offset <= *highest {
                    continue;
                }
                *highest = one.offset;
                let state = states.entry(one.item.to_owned()).or_default();
                match learning {
                    None => state.learn_statistics(hash(one.item), one),
                    Some(l) => fold.learn_vector(l.basis.version(), state, hash(one.item), one),
                }
            }
        }
    }
    states
}

fn digest(states: &BTreeMap<String, ItemState>) -> String {
    let mut sha = Sha256::new();
    for (item, state) in states {
        for part in [item.as_bytes(), &state.encode()] {
            sha.update((part.len() as u64).to_le_bytes());
            sha.update(part);
        }
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The stores' own answer to `state ACTION --items --json`, a JSON value a line.
fn ask(site: &Installation, folder: &str, action: &str) -> Vec<Value> {
    let output = site.run_over(&site.data_dir(folder), &["state", action, "--items", "--json"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Waits until item shards have folded `interactions` to its end, over every basis.
fn wait_items_folded(site: &Installation, folder: &str) {
    eventually("item shards have folded everything", || {
        let ends = site.kafka.bounds(&site.topic("interactions"));
        let shards = ask(site, folder, "stats");
        let bases = published(site).len();
        let is_done = |shard: &Value| {
            let end = ends[shard["shard"].as_u64()? as usize].1;
            let parts = shard["progress"]["vectors"].as_object()?;
            let vectors = parts.values().all(|part| part["next"] == end);
            // A partition without records commits nothing.
            let all = shard["progress"]["statistics"]["next"] == end && vectors;
            Some(end == 0 || (all && parts.len() == bases))
        };
        let done = shards.len() == site.partitions as usize
            && shards.iter().all(|shard| is_done(shard) == Some(true));
        done.then_some(())
    });
}

#[test]
fn killed_workers_leave_the_item_states_that_one_fold_of_the_interactions_gives() {
    let mut dice = Dice::printed("items");
    let site = Installation::new("items", SETTINGS);
    let mut sent = 0;
    let mut folded_at_kills = Vec::new();
    for kill in 0..6 {
        let mut worker = site.worker("a");
        worker.wait_ready();
        for _ in 0..10 {
            let batch: Vec<Event> = (0..40).map(|_| event(&mut dice)).collect();
            sent += batch.len();
            site.deliver(&batch);
            std::thread::sleep(Duration::from_millis(dice.below(60)));
        }
        if kill == 4 {
            eventually("a first basis is published", || {
                (!published(&site).is_empty()).then_some(())
            });
        }
        worker.kill();
        let next = |shard: &Value| shard["progress"]["statistics"]["next"].as_i64();
        let reached: i64 = ask(&site, "a", "stats").iter().filter_map(next).sum();
        folded_at_kills.push(reached);
    }
    eprintln!("{sent} events; records of interactions folded at each kill: {folded_at_kills:?}");
    assert!(folded_at_kills.is_sorted(), "committed progress was lost: {folded_at_kills:?}");
    assert!(folded_at_kills[0] < folded_at_kills[5], "the kills hit item shards that were folding");

    let mut worker = site.worker("a");
    site.wait_folded(&mut worker);
    wait_items_folded(&site, "a");
    worker.drain();
    let bases = published(&site);
    assert!(!bases.is_empty() && bases.len() <= 2);
    let digests = ask(&site, "a", "digest");
    let mut items = 0;
    for shard in digests[0]["shards"].as_array().expect("shards") {
        let partition = shard["shard"].as_i64().expect("a number") as i32;
        let expected = folded(&site, partition, &bases);
        items += expected.len();
        assert_eq!(shard["items"], expected.len(), "shard {partition}");
        assert_eq!(shard["sha256"], digest(&expected), "shard {partition}");
    }
    assert_eq!(items, 60);
}

fn config(site: &Installation, folder: &str) -> Config {
    let own = [
        ("kafka.bootstrap", site.kafka.bootstrap.clone()),
        ("topics.prefix", site.prefix.clone()),
        ("kafka.group", site.group.clone()),
        ("worker.data_dir", site.data_dir(folder).display().to_string()),
        ("http.listen", String::new()),
    ];
    let given = SETTINGS.iter().map(|(key, value)| (*key, (*value).to_owned()));
    let overrides = own.into_iter().chain(given).map(|(k, v)| format!("{k}={v}")).collect();
    load(&Sources { overrides, ..Sources::default() }).expect("a valid configuration")
}

/// Everything that can be read of a worker's tables, by item.
fn content(tables: &ItemTables) -> BTreeMap<String, String> {
    let versions = tables.versions();
    let of = |(hash, name): (u64, Arc<str>)| {
        let vectors: Vec<_> = versions.iter().map(|v| tables.vector(*v, hash)).collect();
        (name.to_string(), format!("{vectors:?} {:?}", tables.features(hash)))
    };
    tables.items().into_iter().map(of).collect()
}

fn newest(worker: &Worker) -> Option<BasisVersion> {
    worker.items().versions().last().copied()
}

#[test]
fn what_users_like_reaches_the_tables_of_every_worker_and_what_is_delisted_leaves_them() {
    let mut dice = Dice::printed("items-tables");
    let site = Installation::new("items-tables", SETTINGS);
    let workers = ["a", "b"].map(|folder| Worker::start(config(&site, folder)).expect("a worker"));
    for worker in &workers {
        eventually("the worker is ready", || worker.health().ready.then_some(()));
    }
    let events: Vec<Event> = (0..1_500).map(|_| event(&mut dice)).collect();
    site.deliver(&events);
    for worker in &workers {
        eventually("a first basis is live", || newest(worker));
    }
    // An item that no basis knows, liked by users whose histories it does.
    let fresh: Vec<Event> =
        (0..10).map(|n| Event::click(&format!("u{}", 2 * n), "fresh")).collect();
    site.deliver(&fresh);
    for worker in &workers {
        eventually("the new item has a vector over the newest basis", || {
            worker.items().vector(newest(worker)?, hash("fresh"))
        });
    }
    let tables: Vec<&ItemTables> = workers.iter().map(Worker::items).collect();
    let version = newest(&workers[0]).expect("a basis");
    let own = [hash("v0"), hash("v1"), hash("v2")];
    let user = tables[0].fold_in(version, own).expect("a user");
    let near = tables[0].nearest(version, &user, 10, |_| true).expect("a search");
    assert_eq!(near.len(), 10);
    eventually("co-watched items have names", || {
        let features = tables[1].features(hash("fresh"))?;
        let names = tables[1].names(features.co_watched.iter().map(|one| one.0));
        names.iter().any(Option::is_some).then_some(())
    });
    eventually("all tables are alike", || {
        let [one, two] = [content(tables[0]), content(tables[1])];
        (one.len() == 61 && one == two).then_some(())
    });

    let catalog = site.topic("item-catalog");
    let key = Some(b"fresh".to_vec());
    site.kafka.deliver(&[Out { topic: catalog, key: key.clone(), ..Out::default() }]);
    for tables in &tables {
        eventually("the delisted item is gone", || {
            tables.name(hash("fresh")).is_none().then_some(())
        });
    }
    for topic in ["item-embeddings", "item-features"] {
        eventually("its record is taken out", || {
            let records = site.kafka.read_all(&site.topic(topic));
            let last = records.into_iter().rfind(|record| record.key == key)?;
            last.value.is_none().then_some(())
        });
    }
    for worker in workers {
        worker.shutdown().expect("a clean end");
    }
}

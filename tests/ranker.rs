//! The ranker in workers: learns from what came of lists, is the same on every worker, and learns
//! each example once whoever dies.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::events::{Event, HOUR, SECOND};
use common::installation::Installation;
use common::kafka::Out;
use common::requests::{Ask, Client};
use common::worker::Worker;
use common::{avro, eventually};
use serde_json::{Value, json};

const MINUTE: i64 = 60 * SECOND;
const USERS: usize = 24;
const LIST: usize = 10;
/// Examples that the ranker of a worker had learnt from.
const LEARNT: &str = "driftline_ranker_version_examples";
const SETTINGS: &[(&str, &str)] = &[
    ("ranker.min_examples", "400"),
    ("ranker.publish_seconds", "1"),
    ("serving.exploration", "0"),
    // Groups alone decide what is shown: no label says more than another but by clicks.
    ("serving.diversity", "0"),
];

/// Forty videos of two groups: people like "good" ones, and what trends says nothing of it.
fn catalog(site: &Installation) {
    let record = |n: usize| {
        let item = json!({"item": name(n), "categories": [group(n)],
            "creator": format!("creator{n}"), "duration_ms": 60 * SECOND});
        Out {
            topic: site.topic("item-catalog"),
            key: Some(name(n).into_bytes()),
            value: Some(item.to_string().into_bytes()),
            ..Out::default()
        }
    };
    site.kafka.deliver(&(0..40).map(record).collect::<Vec<_>>());
}

fn name(n: usize) -> String {
    format!("v{n}")
}

fn group(n: usize) -> &'static str {
    if n.is_multiple_of(2) { "good" } else { "bad" }
}

fn is_good(item: &str) -> bool {
    group(item[1..].parse().expect("one of ours")) == "good"
}

/// Everybody watches everything, so that all of it trends alike.
fn everything_trends(site: &Installation, at: i64) {
    let watch = |user: usize, n: usize| Event::watch(&format!("crowd{user}"), &name(n)).at(at);
    let events: Vec<Event> = (0..8).flat_map(|user| (0..40).map(move |n| watch(user, n))).collect();
    site.deliver(&events);
}

/// Every user asks for a list and clicks what is good in it.
fn round(site: &Installation, client: &Client, at: i64) {
    let mut events = Vec::new();
    for user in 0..USERS {
        let user = format!("u{user}");
        let ask = Ask::of(&user).with("count", LIST as i64).with("event_time", at);
        for item in client.ask(&ask.with("surface", "home").json()).items() {
            if is_good(&item) {
                events.push(Event::click(&user, &item).at(at + MINUTE));
            }
        }
    }
    site.deliver(&events);
}

/// Moves the time of every partition, so that lists close, by everything alike.
fn pass(site: &Installation, at: i64) {
    let both = |n: usize| {
        let (user, item) = (format!("clock{n}"), name(n % 40));
        [Event::watch(&user, &item).at(at), Event::click(&user, &item).at(at)]
    };
    let events: Vec<Event> = (0..80).flat_map(both).collect();
    site.deliver(&events);
}

/// Examples that a ranker looked at, each once.
fn examples(site: &Installation) -> u64 {
    let mut places = BTreeSet::new();
    for seen in site.kafka.read_all(&site.topic("training-examples")) {
        let example = avro::EXAMPLE.decode(seen.value.as_deref().unwrap_or_default());
        if example["ranked"].as_array().is_some_and(|ranked| !ranked.is_empty()) {
            places.insert((example["list"].as_i64(), example["position"].as_i64()));
        }
    }
    places.len() as u64
}

/// The newest version that is announced.
fn newest(site: &Installation) -> Option<Value> {
    let all = site.kafka.read_all(&site.topic("models"));
    let of_rankers = all.iter().filter(|seen| {
        let key = seen.key.as_deref().unwrap_or_default();
        [&b"ranker/0"[..], b"ranker/1"].contains(&key)
    });
    let manifests = of_rankers.map(|seen| avro::RANKER.decode(seen.value.as_deref().unwrap()));
    manifests.max_by_key(|manifest| manifest["version"].as_i64())
}

/// Waits until what is announced, and what ranks on these workers, has learnt all examples.
fn wait_learnt(site: &Installation, workers: &[&Worker]) -> u64 {
    eventually("every example is learnt, and known to all workers", || {
        let examples = examples(site);
        let learnt = newest(site).and_then(|newest| newest["examples"].as_u64());
        let ranks = |worker: &&Worker| worker.metric(LEARNT) == examples as f64;
        (examples > 0 && learnt == Some(examples) && workers.iter().all(ranks)).then_some(examples)
    })
}

#[test]
fn what_people_click_comes_first_on_every_worker_and_each_example_is_learnt_once() {
    let site = Installation::new("ranker", SETTINGS);
    catalog(&site);
    let first = site.ready_worker("a");
    let client = Client::new(&site);
    let base = common::now_ms() - 48 * HOUR;
    everything_trends(&site, base - HOUR);
    eventually("there is something to show", || {
        let ask = Ask::of_a_stranger().with("count", LIST as i64).with("event_time", base).json();
        (client.ask(&ask).items().len() == LIST).then_some(())
    });
    // Who never did anything has no counters; these have.
    let had: Vec<Event> =
        (0..USERS).map(|n| Event::watch(&format!("u{n}"), "v0").at(base - HOUR)).collect();
    site.deliver(&had);
    for hour in [0, 4, 8] {
        round(&site, &client, base + hour * HOUR);
        pass(&site, base + (hour + 3) * HOUR);
    }
    let learnt = wait_learnt(&site, &[&first]);
    assert!(learnt >= 400, "{learnt}");

    // Another worker knows it too, and a newcomer gets what people like.
    let second = site.ready_worker("b");
    wait_learnt(&site, &[&first, &second]);
    let lists: Vec<Vec<String>> = (0..12)
        .map(|n| {
            let ask = Ask::of(&format!("new{n}")).with("event_time", base + 11 * HOUR);
            client.ask(&ask.with("surface", "home").json()).items()
        })
        .collect();
    let good = |list: &Vec<String>| list.iter().filter(|item| is_good(item)).count();
    assert!(lists.iter().all(|list| good(list) >= 8), "{lists:?}");
    let told: BTreeMap<String, Value> = site
        .kafka
        .read_all(&site.topic("impressions"))
        .iter()
        .map(|seen| avro::IMPRESSION.decode(seen.value.as_deref().unwrap()))
        .map(|list| (list["user"].as_str().expect("a user").to_owned(), list))
        .collect();
    let list = &told["new0"];
    assert_eq!(list["ranker_examples"].as_u64(), newest(&site).unwrap()["examples"].as_u64());
    let item = &list["items"][0];
    assert_eq!(item["category"], "good");
    assert!(item["creator"].as_str().unwrap().starts_with("creator"));
    assert_eq!(item["duration_ms"], 60 * SECOND);
    assert!(item["ranked"].as_array().unwrap().len() > 92);

    // Whoever learns dies; the other goes on where it was.
    first.kill();
    round(&site, &client, base + 12 * HOUR);
    pass(&site, base + 15 * HOUR);
    eventually("the lists of the last round close", || {
        (examples(&site) >= learnt + (USERS * LIST) as u64).then_some(())
    });
    let more = wait_learnt(&site, &[&second]);
    second.drain();
    let third = site.ready_worker("b");
    assert_eq!(wait_learnt(&site, &[&third]), more);
    third.drain();
}

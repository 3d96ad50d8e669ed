//! Impressions: what was answered is told, and what was shown in vain is not shown again and again.

mod common;

use std::collections::BTreeSet;

use common::events::{Event, HOUR};
use common::installation::Installation;
use common::kafka::Seen;
use common::requests::{Ask, Client};
use common::{avro, eventually};
use serde_json::Value;

/// Items that are all watched by somebody, the first by most.
fn popular(site: &Installation) {
    let at = common::now_ms() - HOUR;
    let watch = |user: usize, item: usize| Event::watch(&format!("u{user}"), &format!("v{item}"));
    let events = (0..60).flat_map(|item| (0..1 + (60 - item) / 6).map(move |user| (user, item)));
    let events: Vec<Event> = events.map(|(user, item)| watch(user, item).at(at)).collect();
    site.deliver(&events);
}

/// The impressions of a request, decoded.
fn impressions(site: &Installation, request: &str) -> Vec<(Seen, Value)> {
    let all = site.kafka.read_all(&site.topic("impressions"));
    let decoded = all.into_iter().map(|seen| {
        let value = avro::IMPRESSION.decode(seen.value.as_deref().unwrap_or_default());
        (seen, value)
    });
    decoded.filter(|(_, value)| value["request_id"] == request).collect()
}

fn wait_known(client: &Client) {
    eventually("all items are known", || {
        let ask = Ask::of_a_stranger().with("count", 60);
        (client.ask(&ask).items().len() == 60).then_some(())
    });
}

#[test]
fn a_list_is_told_as_it_was_answered() {
    let site = Installation::new("impressions", &[]);
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    popular(&site);
    wait_known(&client);
    let mine = Event::click("me", "v50");
    let (partition, offset) = site.deliver(std::slice::from_ref(&mine))[0];
    let after = format!("{}-{partition}@{offset}", site.topic("click-events"));
    let ask = Ask::of("me").with("request_id", "mine").with("surface", "home");
    let ask = ask.with("event_time", mine.at + 1).with("count", 70).json();
    let answer = client.ask(&ask.header("after", &after));
    let (record, told) = eventually("the list is told", || impressions(&site, "mine").pop());

    assert_eq!(record.key.as_deref(), Some(&b"me"[..]));
    assert_eq!(record.partition, partition, "where the user's events are");
    for (field, expected) in [
        ("user", "me".into()),
        ("surface", "home".into()),
        ("event_time", Value::from(mine.at + 1)),
        ("context_item", Value::Null),
        ("blend", "unseen".into()),
        ("feature_schema", "mixture.v3".into()),
        ("model_version", answer.body["model_version"].clone()),
        ("arm", answer.body["arm"].clone()),
    ] {
        assert_eq!(told[field], expected, "{field}");
    }
    assert!((told["answered_at"].as_i64().expect("a time") - common::now_ms()).abs() < HOUR);
    assert_eq!(told["degraded"], serde_json::json!(answer.degraded()), "no more than 59 fit");
    assert_eq!(answer.degraded(), ["count"]);

    let served = answer.body["items"].as_array().expect("a list");
    let shown = told["items"].as_array().expect("a list");
    assert_eq!(shown.len(), served.len());
    assert_eq!(shown.len(), 59);
    let (mut shares, mut scores) = (0.0, 0.0);
    for (position, (shown, served)) in shown.iter().zip(served).enumerate() {
        assert_eq!(shown["position"], position);
        for field in ["item", "score", "propensity"] {
            assert_eq!(shown[field], served[field], "{field}");
        }
        assert_eq!(shown["sources"][0]["source"], served["source"]);
        let features = shown["features"].as_array().expect("features");
        assert_eq!(features.len(), 13);
        shares += features[..9].iter().filter_map(Value::as_f64).sum::<f64>();
        scores += served["score"].as_f64().expect("a score");
        assert_eq!(features[9], 1.0, "events of the history");
        assert_eq!(features[12], 0.0, "times shown");
    }
    // Nothing was shown before, and the list holds all that was found: what the sources add is shared
    // out among the items anew, and none of it is lost.
    assert!((shares - scores).abs() <= 1e-5 * scores, "{shares} instead of {scores}");
    let weights = told["weights"].as_array().expect("weights");
    assert_eq!(weights.len(), 9);

    // An error is no list.
    let bad = client.ask(&Ask::of("me").with("request_id", "bad").with("count", 0));
    assert_eq!(bad.error(), "BAD_REQUEST");
    let late = client.ask(&Ask::of("me").with("request_id", "late").deadline_in(-1_000));
    assert_eq!(late.error(), "EXPIRED");
    worker.drain();
    assert!(impressions(&site, "bad").is_empty() && impressions(&site, "late").is_empty());
    assert_eq!(impressions(&site, "mine").len(), 1);
}

/// The lists that a user gets one after the other.
fn lists(client: &Client, user: &str, count: usize) -> Vec<Vec<String>> {
    (0..count).map(|_| client.ask(&Ask::of(user)).items()).collect()
}

fn distinct(lists: &[Vec<String>]) -> usize {
    lists.iter().flatten().collect::<BTreeSet<_>>().len()
}

/// How likely a place is looked at next to the first, as long as nothing was learnt of it.
fn looked(place: usize) -> f64 {
    (1.0 + place as f64).powf(-0.5)
}

#[test]
fn who_does_not_click_is_shown_something_else_also_after_a_crash() {
    let site = Installation::new("fatigue", &[]);
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    popular(&site);
    wait_known(&client);
    let first = lists(&client, "me", 3);
    assert_eq!(first[0].len(), 10);
    assert!(distinct(&first) > 15, "three lists move on: {first:?}");
    let elsewhere = client.ask(&Ask::of("you")).items();
    let again = |list: &[String]| list.iter().filter(|item| first[0].contains(item)).count();
    assert!(again(&elsewhere) > again(&first[1]), "others are shown what is best: {elsewhere:?}");

    eventually("impressions are written", || {
        let all = site.kafka.read_all(&site.topic("impressions"));
        let mine = all.iter().filter(|seen| seen.key.as_deref() == Some(b"me"));
        (mine.count() == 3).then_some(())
    });
    worker.kill();
    let mut worker = site.worker("b");
    worker.wait_ready();
    let next = client.ask(&Ask::of("me").with("request_id", "next")).items();
    assert!(again(&elsewhere) > again(&next), "a worker that starts knows what was shown");
    // By its name: requests of before the crash may be answered, and told, twice.
    let (_, told) = eventually("the list is told", || impressions(&site, "next").pop());
    // As often as it was likely looked at, and no list twice.
    for shown in told["items"].as_array().expect("items") {
        let item = shown["item"].as_str().expect("an item");
        let places = first.iter().filter_map(|list| list.iter().position(|i| i == item));
        let before: f64 = places.map(looked).sum();
        let times = shown["features"][12].as_f64().expect("times shown");
        assert!((times - before).abs() < 0.05, "{item}: {times} instead of {before}");
    }
    eventually("the memory of what was shown is measured", || {
        (worker.metric("driftline_shown_bytes") > 0.0).then_some(())
    });
}

#[test]
fn what_was_clicked_after_it_was_shown_is_not_held_against_it() {
    let site = Installation::new("clicked", &[]);
    let mut worker = site.ready_worker("a");
    let client = Client::new(&site);
    popular(&site);
    wait_known(&client);
    let ask = |id: &str| Ask::of("me").with("request_id", id).with("include_seen", true);
    let list = client.ask(&ask("one")).items();
    site.deliver(&[Event::click("me", &list[0]).at(common::now_ms() + 2_000)]);
    site.wait_folded(&mut worker);
    client.ask(&ask("two").with("count", 60));
    let (_, told) = eventually("the list is told", || impressions(&site, "two").pop());
    let times = |item: &str| {
        let items = told["items"].as_array().expect("items");
        let found = items.iter().find(|shown| shown["item"] == item).expect("it is on the list");
        found["features"][12].as_f64().expect("times shown")
    };
    assert_eq!(times(&list[0]), 0.0);
    for (place, item) in list.iter().enumerate().skip(1) {
        assert!((times(item) - looked(place)).abs() < 0.05, "place {place}: {}", times(item));
    }
}

#[test]
fn without_impressions_nothing_is_written_and_lists_move_on_until_the_worker_ends() {
    let site = Installation::new("silent", &[("serving.impressions", "false")]);
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    popular(&site);
    wait_known(&client);
    let before = lists(&client, "me", 3);
    assert!(distinct(&before) > 15, "{before:?}");
    worker.drain();
    assert!(site.kafka.read_all(&site.topic("impressions")).is_empty());
}

//! The quality join: what was shown, item by item, and what came of it, in event time.

mod common;

use std::collections::BTreeMap;

use common::events::{Event, HOUR, SECOND};
use common::installation::Installation;
use common::kafka::{Out, Seen};
use common::requests::{Ask, Client};
use common::{avro, eventually};
use serde_json::{Value, json};

const MINUTE: i64 = 60 * SECOND;

/// All records of a topic, decoded.
fn records(site: &Installation, topic: &str, codec: &avro::Codec) -> Vec<(Seen, Value)> {
    let all = site.kafka.read_all(&site.topic(topic));
    let decoded = all.into_iter().map(|seen| {
        let value = codec.decode(seen.value.as_deref().unwrap_or_default());
        (seen, value)
    });
    decoded.collect()
}

/// The examples as a reader has them: without those that do not ascend in their partition.
fn examples(site: &Installation) -> Vec<(Seen, Value)> {
    let mut last = BTreeMap::new();
    let mut all = records(site, "training-examples", &avro::EXAMPLE);
    all.retain(|(seen, value)| {
        let number = |field: &str| value[field].as_i64().expect("a number");
        assert_eq!(number("shard"), i64::from(seen.partition));
        let stamp = (number("event_time"), number("list") as u64, number("position"));
        let is_new = last.get(&seen.partition).is_none_or(|last| *last < stamp);
        if is_new {
            last.insert(seen.partition, stamp);
        }
        is_new
    });
    all
}

fn examples_of(site: &Installation, request: &str) -> Vec<Value> {
    let all = examples(site).into_iter().map(|(_, value)| value);
    all.filter(|value| value["request_id"] == request).collect()
}

fn corrections(site: &Installation) -> Vec<Value> {
    let all = records(site, "label-corrections", &avro::CORRECTION);
    all.into_iter().map(|(_, value)| value).collect()
}

/// Moves the time of every partition: events of users that nothing is shown to.
fn pass(site: &Installation, at: i64) {
    let users = (0..60).map(|n| format!("clock{n}"));
    let both = |user: String| [Event::watch(&user, "time"), Event::click(&user, "time")];
    let events: Vec<Event> = users.flat_map(both).map(|event| event.at(at)).collect();
    site.deliver(&events);
}

/// A list as a worker would have told it.
fn show(user: &str, request: &str, at: i64, items: &[&str], site: &Installation) -> Out {
    let shown = items.iter().enumerate();
    let items: Vec<Value> =
        shown.map(|(n, item)| json!({"item": item, "position": n, "propensity": 0.5})).collect();
    let list = json!({"user": user, "request_id": request, "event_time": at, "items": items});
    Out {
        topic: site.topic("impressions"),
        key: Some(user.into()),
        value: Some(avro::IMPRESSION.encode(&list)),
        ..Out::default()
    }
}

#[test]
fn every_item_shown_becomes_one_example_with_what_came_of_it() {
    let site = Installation::new("quality", &[]);
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    let base = common::now_ms() - 8 * HOUR;
    let popular = (0..10).map(|n| Event::watch(&format!("u{n}"), &format!("v{n}")).at(base - HOUR));
    site.deliver(&popular.collect::<Vec<_>>());
    let ask = Ask::of("me").with("request_id", "mine").with("event_time", base).with("count", 4);
    let ask = ask.with("surface", "home").json();
    let list = eventually("there is something to show", || {
        let probe =
            client.ask(&Ask::of_a_stranger().with("count", 4).with("event_time", base).json());
        (probe.items().len() == 4).then(|| client.ask(&ask).items())
    });
    let click = Event::click("me", &list[1]).at(base + MINUTE);
    let mut named = Event::click("me", &list[0]).at(base + 2 * MINUTE).to_json();
    named["request"] = "another".into();
    site.deliver(&[
        click.clone(),
        click,
        Event::click("me", &list[1]).at(base + 2 * MINUTE),
        Event::click("me", "never shown").at(base + MINUTE),
        Event::click("me", &list[3]).at(base + 31 * MINUTE),
        Event::click("me", &list[3]).at(base - 1),
        Event::watch("me", &list[2]).lasting(12 * SECOND, 60 * SECOND).at(base + MINUTE),
        Event::watch("me", &list[2]).lasting(8 * SECOND, 60 * SECOND).at(base + 31 * MINUTE),
    ]);
    let another = site.out(&Event::click("me", &list[0]));
    site.kafka.deliver(&[Out { value: Some(named.to_string().into_bytes()), ..another }]);
    assert!(examples_of(&site, "mine").is_empty(), "its windows have not passed");
    pass(&site, base + 3 * HOUR);
    let told = eventually("the list closes", || {
        let told = examples_of(&site, "mine");
        (told.len() == 4).then_some(told)
    });
    let impressions = records(&site, "impressions", &avro::IMPRESSION);
    let shown = impressions.iter().find(|(_, list)| list["request_id"] == "mine").expect("told");
    for (position, (example, shown)) in
        told.iter().zip(shown.1["items"].as_array().expect("items")).enumerate()
    {
        assert_eq!(example["user"], "me");
        assert_eq!(example["position"], position);
        assert_eq!((&example["surface"], &example["event_time"]), (&json!("home"), &json!(base)));
        for field in ["item", "score", "propensity", "features"] {
            assert_eq!(example[field], shown[field], "{field}");
        }
    }
    let labels = |n: usize| {
        let fields =
            ["clicked", "click_delay_ms", "watches", "watched_ms", "duration_ms", "long_view"];
        Value::from(fields.map(|field| told[n][field].clone()).to_vec())
    };
    assert_eq!(labels(0), json!([false, null, 0, 0, 0, false]), "the click names another list");
    assert_eq!(labels(1), json!([true, MINUTE, 0, 0, 0, false]));
    assert_eq!(labels(2), json!([false, null, 2, 20 * SECOND, 60 * SECOND, true]));
    assert_eq!(labels(3), json!([false, null, 0, 0, 0, false]), "too late and too early");

    // The example stays; what comes late corrects it, once.
    let late = Event::click("me", &list[0]).at(base + 3 * MINUTE);
    site.deliver(&[late.clone(), late]);
    let told = eventually("it is corrected", || corrections(&site).pop());
    assert_eq!((&told["item"], &told["request_id"]), (&json!(list[0]), &json!("mine")));
    assert_eq!(
        (&told["source"], &told["outcome_time"]),
        (&json!("CLICK"), &json!(base + 3 * MINUTE))
    );
    eventually("outcomes are counted", || {
        let count = |outcome: &str| {
            let (_, metrics) = worker.get("/metrics").expect("metrics");
            let name = format!("driftline_quality_outcomes_total{{outcome=\"{outcome}\"}}");
            let line = metrics.lines().find(|line| line.starts_with(&name)).expect("a counter");
            line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number")
        };
        let expected = count("joined") == 4 && count("corrected") == 1 && count("duplicate") == 2;
        (expected && count("orphan") >= 4).then_some(())
    });
    worker.drain();
    assert_eq!(corrections(&site).len(), 1);
}

#[test]
fn what_comes_before_its_list_is_read_waits_for_it_over_a_crash() {
    let site = Installation::new("early", &[]);
    let mut worker = site.ready_worker("a");
    let base = common::now_ms() - 8 * HOUR;
    site.deliver(&[Event::click("me", "v1").at(base + MINUTE)]);
    eventually("it is held", || {
        (worker.metric("driftline_quality_held_outcomes") == 1.0).then_some(())
    });
    site.wait_folded(&mut worker);
    worker.kill();
    let worker = site.ready_worker("a");
    site.kafka.deliver(&[show("me", "one", base, &["v0", "v1"], &site)]);
    pass(&site, base + 3 * HOUR);
    let told = eventually("the list closes", || {
        let told = examples_of(&site, "one");
        (told.len() == 2).then_some(told)
    });
    assert_eq!((&told[0]["clicked"], &told[1]["clicked"]), (&json!(false), &json!(true)));
    assert_eq!(told[1]["propensity"], 0.5);
    worker.drain();
}

#[test]
fn workers_that_are_killed_lose_no_example_and_tell_none_twice() {
    let site = Installation::new("killed", &[]);
    let base = common::now_ms() - 24 * HOUR;
    let mut expected = BTreeMap::new();
    for round in 0..4 {
        let worker = site.ready_worker("a");
        let from = base + round * 4 * HOUR;
        for user in 0..40 {
            let (user, request) = (format!("u{user}"), format!("{round}-{user}"));
            let at = from + user.len() as i64 * MINUTE;
            site.kafka.send(&show(&user, &request, at, &["v0", "v1", "v2"], &site));
            for item in 0..3 {
                let is_clicked = (round + item) % 3 == 0;
                if is_clicked {
                    let click = Event::click(&user, &format!("v{item}")).at(at + MINUTE);
                    site.kafka.send(&site.out(&click));
                }
                expected.insert((request.clone(), item), is_clicked);
            }
        }
        site.kafka.flush();
        pass(&site, from + 3 * HOUR);
        let before = (round * 120) as usize;
        eventually("examples come", || (examples(&site).len() > before).then_some(()));
        match round {
            3 => eventually("all of them", || (examples(&site).len() >= 480).then_some(())),
            // Whatever it is about to commit.
            _ => worker.kill(),
        }
    }
    let told: Vec<_> = examples(&site)
        .into_iter()
        .map(|(_, value)| {
            let request = value["request_id"].as_str().expect("a text").to_owned();
            let clicked = value["clicked"].as_bool().expect("a label");
            ((request, value["position"].as_i64().expect("a number")), clicked)
        })
        .collect();
    assert_eq!(told.len(), expected.len());
    assert_eq!(told.into_iter().collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn who_wants_no_examples_gets_none_and_who_wants_them_later_begins_then() {
    let site = Installation::new("switched", &[]);
    let base = common::now_ms() - 8 * HOUR;
    let mut worker = site.worker_with("a", &[("quality.enabled", "false")]);
    worker.wait_ready();
    site.kafka.deliver(&[show("me", "before", base, &["v0"], &site)]);
    site.deliver(&[Event::click("me", "v0").at(base + MINUTE)]);
    site.wait_folded(&mut worker);
    worker.drain();
    let worker = site.ready_worker("a");
    let later = base + HOUR;
    site.kafka.deliver(&[show("me", "after", later, &["v0"], &site)]);
    site.deliver(&[Event::click("me", "v0").at(later + MINUTE)]);
    pass(&site, later + 3 * HOUR);
    let told = eventually("the list closes", || examples_of(&site, "after").pop());
    assert_eq!(told["clicked"], true);
    worker.drain();
    assert!(examples_of(&site, "before").is_empty(), "its clicks are not known");
}

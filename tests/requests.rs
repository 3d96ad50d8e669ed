//! Requests and replies, as clients of the topics see them.

mod common;

use std::collections::BTreeSet;

use common::avro;
use common::dice::Dice;
use common::events::{Event, HOUR, SECOND};
use common::eventually;
use common::installation::Installation;
use common::kafka::{Kafka, Out};
use common::requests::{Answer, Ask, CORRELATION, Client, REPLY_PARTITION, REPLY_TOPIC};
use common::worker::Worker;
use serde_json::json;

fn ready(name: &str, settings: &[(&str, &str)]) -> (Installation, Worker, Client) {
    // Nothing is drawn: these tests know what a list holds.
    let settings: Vec<_> = settings.iter().copied().chain([("serving.exploration", "0")]).collect();
    let site = Installation::new(name, &settings);
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    (site, worker, client)
}

/// The next offset of a user's watch events, as the `after` header names it.
fn position(site: &Installation, partition: i32, offset: i64) -> String {
    format!("{}-{partition}@{offset}", site.topic("watch-events"))
}

fn kinds_of(answer: &Answer, item: &str) -> Vec<String> {
    let items = answer.body["items"].as_array().expect("items");
    let reasons = items.iter().filter(|i| i["item"] == item).flat_map(|i| {
        i["reasons"].as_array().expect("reasons").iter().map(|r| r["kind"].as_str().expect("kind"))
    });
    reasons.map(str::to_owned).collect()
}

#[test]
fn an_answer_knows_the_events_that_its_after_header_names() {
    // Nothing is committed within the test: reads must see what is only folded.
    let (site, _worker, client) = ready("after", common::NEVER_COMMIT);
    for round in 0..20 {
        let (user, item) = (format!("u{}", round % 3), format!("film-{round}"));
        let begun = Event::watch(&user, &item).lasting(180 * SECOND, 600 * SECOND);
        let (partition, offset) = site.deliver(&[begun])[0];
        let ask = Ask::of(&user).header("after", position(&site, partition, offset));
        let answer = client.ask(&ask);
        assert_eq!((answer.error(), answer.after()), ("", "SATISFIED"));
        assert_eq!(kinds_of(&answer, &item), ["continue_watching"], "{answer:?}");
    }
}

#[test]
fn a_request_may_come_before_the_events_that_it_asks_for() {
    let (site, _worker, client) = ready("before", &[]);
    let (partition, offset) = site.deliver(&[Event::watch("u", "first")])[0];
    let [watch, click] = ["watch-events", "click-events"].map(|t| site.topic(t));
    let clicks = site.kafka.bounds(&click)[partition as usize].1;
    let next = format!("{watch}-{partition}@{}, {click}-{partition}@{clicks}", offset + 1);
    let ask = Ask::of("u").header("after", next).deadline_in(100 * SECOND);
    client.send(&ask);
    let unrelated = client.ask(&Ask::of("u"));
    assert_eq!((unrelated.error(), unrelated.after()), ("", "NOT_ASKED"));
    site.deliver(&[Event::watch("u", "film").lasting(300 * SECOND, 600 * SECOND)]);
    assert_eq!(client.ask(&Ask::of("u")).error(), "");
    assert!(client.heard(&ask.correlation).is_empty(), "one of the two events is still missing");
    site.deliver(&[Event::click("u", "other")]);
    let answer = client.reply(&ask.correlation);
    assert_eq!(answer.after(), "SATISFIED");
    assert_eq!(kinds_of(&answer, "film"), ["continue_watching"]);
}

#[test]
fn events_that_never_come_are_missed_at_the_deadline_and_the_answer_says_so() {
    let (site, _worker, client) = ready("missed", &[]);
    let (partition, offset) = site.deliver(&[Event::watch("u", "item")])[0];
    let ask = Ask::of("u").header("after", position(&site, partition, offset + 1_000));
    let answer = client.ask(&ask.clone().correlated(b"short").deadline_in(1_000));
    assert_eq!((answer.error(), answer.after()), ("", "MISSED"));
    assert!(answer.degraded().contains(&"read_your_writes"), "{answer:?}");

    let other = (partition + 1) % site.partitions;
    for (number, bad) in [
        position(&site, other, 0),
        format!("{}-{partition}@0", site.topic("interactions")),
        "watch-events".to_owned(),
        format!("{}-{partition}@soon", site.topic("watch-events")),
    ]
    .into_iter()
    .enumerate()
    {
        let ask = Ask::of("u").correlated(format!("bad-{number}").as_bytes()).header("after", &bad);
        let answer = client.ask(&ask);
        assert_eq!(answer.error(), "BAD_REQUEST", "{bad}");
        assert!(answer.message().contains("after"), "{}", answer.message());
    }
}

#[test]
fn a_deadline_that_has_passed_is_answered_as_expired() {
    let (_site, _worker, client) = ready("expired", &[]);
    let answer = client.ask(&Ask::of("u").deadline_in(-1_000));
    assert_eq!(answer.error(), "EXPIRED");
    assert!(answer.items().is_empty());
    let answer = client.ask(&Ask::of("u").header("deadline", "soon"));
    assert_eq!(answer.error(), "BAD_REQUEST");
    assert!(answer.message().contains("deadline"), "{}", answer.message());
    assert_eq!(client.ask(&Ask::of("u").deadline_in(60_000)).error(), "");
}

#[test]
fn overload_is_answered_and_never_met_with_silence() {
    let limits = [("serving.queue_limit", "4"), ("serving.serving_threads", "1")];
    let limits = [limits[0], ("worker.serving_threads", limits[1].1)];
    let (site, _worker, client) = ready("overload", &limits);
    let (partition, offset) = site.deliver(&[Event::watch("u", "item")])[0];
    let waiting: Vec<Ask> = (0..20)
        .map(|_| {
            let next = position(&site, partition, offset + 1);
            Ask::of("u").header("after", next).deadline_in(100 * SECOND)
        })
        .collect();
    waiting.iter().for_each(|ask| client.send(ask));
    // Four wait for their event; the others hear at once that there is no room.
    for ask in &waiting[4..] {
        let answer = client.reply(&ask.correlation);
        assert_eq!(answer.error(), "OVERLOADED");
        assert!(answer.message().contains("try again"), "{}", answer.message());
    }
    assert_eq!(client.ask(&Ask::of("u")).error(), "", "who waits for nothing is answered");
    site.deliver(&[Event::watch("u", "next")]);
    for ask in &waiting[..4] {
        let answer = client.reply(&ask.correlation);
        assert_eq!((answer.error(), answer.after()), ("", "SATISFIED"));
    }

    let burst: Vec<Ask> = (0..3_000).map(|i| Ask::of(&format!("u{}", i % 50))).collect();
    burst.iter().for_each(|ask| client.send(ask));
    let mut refused = 0;
    for ask in &burst {
        let answer = client.reply(&ask.correlation);
        assert!(["", "OVERLOADED"].contains(&answer.error()), "{answer:?}");
        refused += usize::from(answer.error() == "OVERLOADED");
    }
    eprintln!("{refused} of {} were refused", burst.len());
    assert_eq!(client.ask(&Ask::of("u")).error(), "", "and it goes on");
}

#[test]
fn a_foreign_reply_topic_is_refused_on_the_default_one_and_gets_nothing() {
    let (site, _worker, client) = ready("foreign", &[]);
    let foreign = site.topic("foreign");
    site.kafka.create_topic(&foreign, 1);
    let events = site.topic("watch-events");
    let unprefixed = "recommendation-replies";
    for named in [foreign.as_str(), &events, unprefixed, "", "\u{fffd}"] {
        let answer = client.ask(&Ask::of("u").header(REPLY_TOPIC, named));
        assert_eq!(answer.error(), "BAD_REQUEST", "{named}");
        assert_eq!(answer.record.topic, site.topic("recommendation-replies"));
        assert!(answer.message().contains("reply topic"), "{}", answer.message());
    }
    let no_text = client.ask(&Ask::of("u").header(REPLY_TOPIC, [0xFF, 0xFE]));
    assert_eq!(no_text.error(), "BAD_REQUEST");
    for topic in [&foreign, &events] {
        assert!(site.kafka.read_all(topic).is_empty(), "{topic} was written to");
    }
}

#[test]
fn a_reply_goes_to_the_topic_and_partition_that_were_asked_for() {
    let site = Installation::new("partition", &[]);
    site.kafka.create_topic(&site.topic("recommendation-replies-app"), 3);
    let _worker = site.ready_worker("a");
    let client =
        Client::listening(&site, &["recommendation-replies", "recommendation-replies-app"]);
    let app = site.topic("recommendation-replies-app");
    for partition in [2i32, 0, 1, 2] {
        let bytes = partition.to_be_bytes();
        let ask = Ask::of("u").header(REPLY_TOPIC, &app).header(REPLY_PARTITION, bytes);
        let answer = client.ask(&ask);
        assert_eq!(answer.error(), "");
        assert_eq!((&answer.record.topic, answer.record.partition), (&app, partition));
        assert_eq!(answer.record.header(REPLY_PARTITION), Some(&bytes[..]));
    }
    let answer = client.ask(&Ask::of("u").header(REPLY_TOPIC, &app));
    assert_eq!((answer.error(), &answer.record.topic), ("", &app));
    assert_eq!(answer.record.header(REPLY_PARTITION), None);

    for bad in [&[0u8, 0, 2][..], b"2", &(-1i32).to_be_bytes(), &[0; 8]] {
        let ask = Ask::of("u").header(REPLY_TOPIC, &app).header(REPLY_PARTITION, bad);
        let answer = client.ask(&ask);
        assert_eq!(answer.error(), "BAD_REQUEST", "{bad:02x?}");
        assert!(answer.message().contains(REPLY_PARTITION), "{}", answer.message());
    }
    // The last of a header that occurs twice counts, as Kafka's own clients read it.
    let twice = Ask::of("u").header(REPLY_TOPIC, "elsewhere").header(REPLY_TOPIC, &app);
    assert_eq!((client.ask(&twice).error(), client.ask(&twice).record.topic), ("", app));
}

#[test]
fn a_reply_address_that_does_not_exist_is_answered_on_the_default_topic() {
    let (site, _worker, client) = ready("nowhere", &[]);
    let replies = site.topic("recommendation-replies");
    let partition = 99i32.to_be_bytes();
    let ask = Ask::of("u").header(REPLY_TOPIC, &replies).header(REPLY_PARTITION, partition);
    assert_eq!(client.ask(&ask).error(), "BAD_REQUEST");
    let ask = Ask::of("u").header(REPLY_TOPIC, site.topic("recommendation-replies-nobody-made"));
    assert_eq!(client.ask(&ask).error(), "BAD_REQUEST");
}

#[test]
fn correlation_ids_keys_and_encodings_come_back_untouched_and_other_headers_are_ignored() {
    let (_site, _worker, client) = ready("echo", &[]);
    let mut dice = Dice::printed("echo");
    for length in [1, 2, 15, 16, 17, 36, 255, 4_096] {
        let correlation = dice.bytes(length);
        let ask = Ask::of("u").correlated(&correlation).with("request_id", "mine");
        let ask = ask.header("ce_id", "1").header("ce_specversion", "1.0").header("x", [0xFF]);
        let ask = if length % 2 == 0 { ask.json() } else { ask };
        let mut twice = ask.header("traceparent", "");
        twice.headers.insert(0, ("empty".into(), None));
        let answer = client.ask(&twice);
        assert_eq!(answer.error(), "", "{answer:?}");
        assert_eq!(answer.body["request_id"], "mine");
        assert_eq!(answer.body["user"], "u");
        assert_eq!(answer.record.key.as_deref(), Some(&b"u"[..]));
        let names: Vec<_> = answer.record.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [CORRELATION], "no header of the client's comes back");
        let first = answer.record.value.as_ref().expect("a value")[0];
        assert_eq!(first, if length % 2 == 0 { b'{' } else { 0xC3 }, "the request's encoding");
    }
    let empty = client.ask(&Ask::of("u").correlated(&[]));
    assert_eq!(empty.error(), "", "an empty correlation id is one too");
    let id = client.ask(&Ask::of("u"));
    assert_ne!(id.body["request_id"], "", "the worker makes an id where there is none");
}

#[test]
fn a_bad_request_is_answered_with_what_to_mend() {
    let (_site, _worker, client) = ready("bad", &[]);
    let good = avro::REQUEST.encode(&json!({"user": "u", "count": 3}));
    let mut unknown = good.clone();
    unknown[5] ^= 1;
    let long = "x".repeat(257);
    let of = || Ask::of("u");
    let cases = [
        (of().with("user", ""), "user"),
        (of().with("user", long.as_str()), "user"),
        (of().with("count", 0), "count"),
        (of().with("count", -5), "count"),
        (of().with("count", 501), "count"),
        (of().with("request_id", long.as_str()), "request_id"),
        (of().with("surface", long.as_str()), "surface"),
        (of().with("context_item", ""), "context_item"),
        (of().with("exclude", vec!["x"; 1_001]), "exclude"),
        (of().with("exclude", json!(["a", ""])), "exclude"),
        (of().raw(b""), "no value"),
        (of().raw(b"{\"user\": \"u\""), "JSON"),
        (of().raw(b"{\"user\": 7}"), "JSON"),
        (of().raw(b"hello"), "first byte"),
        (of().raw(b"\0\0\0\0\x01abc"), "Confluent"),
        (of().raw(&good[..9]), "header"),
        (of().raw(&good[..good.len() - 3]), "datum"),
        (of().raw(&unknown), "fingerprint"),
    ];
    for (ask, word) in cases {
        let answer = client.ask(&ask);
        assert_eq!(answer.error(), "BAD_REQUEST", "{word}: {answer:?}");
        assert!(answer.message().contains(word), "{word}: {}", answer.message());
        assert!(answer.items().is_empty());
    }
    assert_eq!(client.ask(&of().with("count", 500)).error(), "", "the shard goes on");
}

#[test]
fn a_request_without_a_key_or_on_the_wrong_partition_reaches_its_shard() {
    let (site, _worker, client) = ready("keyless", &[]);
    let (home, _) =
        site.deliver(&[Event::watch("u", "film").lasting(200 * SECOND, 600 * SECOND)])[0];
    eventually("the event shows", || {
        (!kinds_of(&client.ask(&Ask::of("u")), "film").is_empty()).then_some(())
    });
    let body = json!({"user": "u", "count": 5}).to_string().into_bytes();
    for partition in 0..site.partitions {
        for key in [None, Some(b"not the user".to_vec())] {
            let correlation = format!("{partition}-{key:?}").into_bytes();
            client.send_raw(Out {
                partition: Some(partition),
                key,
                value: Some(body.clone()),
                headers: vec![
                    (CORRELATION.into(), Some(correlation.clone())),
                    ("mine".into(), Some(b"kept".to_vec())),
                ],
                ..Out::default()
            });
            let answer = client.reply(&correlation);
            let kinds = kinds_of(&answer, "film");
            assert!(kinds.contains(&"continue_watching".into()), "home is {home}: {answer:?}");
        }
    }
}

/// Users who watch so that every place has its own list: item n of a list by n users.
fn trends(site: &Installation, lists: &[(&str, &[&str])]) {
    let mut events = Vec::new();
    for (surface, items) in lists {
        for (place, item) in items.iter().enumerate() {
            for user in 0..3 * (items.len() - place) {
                events.push(Event::watch(&format!("{surface}-fan-{user}"), item).on(surface));
            }
        }
    }
    site.deliver(&events);
}

const HOME: [&str; 4] = ["h1", "h2", "h3", "h4"];
const SEARCH: [&str; 3] = ["s1", "s2", "s3"];

#[test]
fn a_new_user_gets_what_is_trending_on_the_surface() {
    let (site, _worker, client) = ready("trending", &[]);
    let nothing = client.ask(&Ask::of("new"));
    assert_eq!((nothing.error(), nothing.items().len()), ("", 0));
    assert!(nothing.degraded().contains(&"trending"), "{nothing:?}");
    trends(&site, &[("home", &HOME), ("search", &SEARCH)]);
    let on =
        |surface: &str, count| Ask::of_a_stranger().with("surface", surface).with("count", count);
    eventually("all trends are known", || {
        let lists = [on("home", 4), on("search", 3)].map(|ask| client.ask(&ask).items());
        (lists[0] == HOME && lists[1] == SEARCH).then_some(())
    });
    let home = client.ask(&on("home", 4));
    for item in home.body["items"].as_array().expect("items") {
        assert_eq!(item["source"], "trending");
        assert_eq!(item["reasons"][0]["text"], "Trending on home");
        assert_eq!(item["propensity"], 1.0);
    }
    assert!(home.degraded().is_empty() && home.body["took_us"].as_i64() > Some(0));
    assert_eq!(home.body["model_version"], "untrained");
    assert_eq!(client.ask(&on("home", 2)).items(), HOME[..2], "the count is kept");
    let all = client.ask(&on("home", 20));
    assert_eq!(all.items()[..4], HOME, "what trends here comes first");
    let everything: BTreeSet<_> = all.items().into_iter().collect();
    assert_eq!(everything, HOME.iter().chain(&SEARCH).map(|i| (*i).into()).collect());
    assert!(all.degraded().contains(&"count"), "fewer than asked for, and it says so");
    let elsewhere = client.ask(&on("a surface nobody uses", 3));
    assert_eq!(elsewhere.items()[0], "h1", "what trends everywhere fills up");
}

#[test]
fn what_is_excluded_seen_or_playing_is_not_in_the_list() {
    let (site, _worker, client) = ready("filters", &[("state.history_limit", "2")]);
    trends(&site, &[("home", &HOME), ("search", &SEARCH)]);
    // Two items leave the history of two: they are remembered all the same.
    let seen = ["h1", "s1", "x1", "x2"];
    let events: Vec<_> =
        (0i64..).zip(seen).map(|(i, item)| Event::watch("u", item).at(past(9 - i))).collect();
    let (partition, offset) = site.deliver(&events)[3];
    let after = position(&site, partition, offset);
    let items = |ask: Ask| -> BTreeSet<String> {
        let answer = client.ask(&ask.header("after", &after));
        assert_eq!((answer.error(), answer.after()), ("", "SATISFIED"));
        answer.items().into_iter().collect()
    };
    let set = |all: &[&str]| all.iter().map(|i| (*i).to_owned()).collect::<BTreeSet<String>>();
    let ask = || Ask::of("u").with("count", 50);
    let everything = set(&["h1", "h2", "h3", "h4", "s1", "s2", "s3", "x1", "x2"]);
    eventually("everything trends", || {
        (items(ask().with("include_seen", true)) == everything).then_some(())
    });
    assert_eq!(items(ask()), set(&["h2", "h3", "h4", "s2", "s3"]));
    assert_eq!(
        items(ask().with("exclude", json!(["h2", "s3", "unheard-of"]))),
        set(&["h3", "h4", "s2"])
    );
    let both = ask().with("include_seen", true).with("exclude", json!(["h1", "h2", "h3", "h4"]));
    assert_eq!(items(both), set(&["s1", "s2", "s3", "x1", "x2"]));
    assert_eq!(items(ask().with("context_item", "h3")), set(&["h2", "h4", "s2", "s3"]));
    assert_eq!(items(Ask::of("u").with("count", 1)).len(), 1);
}

fn past(hours: i64) -> i64 {
    common::now_ms() - hours * HOUR
}

#[test]
fn the_same_seed_gives_the_same_list_and_another_seed_orders_equals_otherwise() {
    let (site, _worker, client) = ready("seed", &[]);
    let at = past(2);
    let equals: Vec<Event> =
        (0..40).map(|i| Event::watch(&format!("u{i}"), &format!("equal-{i}")).at(at)).collect();
    site.deliver(&equals);
    let ask = |seed: i64| Ask::of_a_stranger().with("count", 40).with("seed", seed);
    eventually("all are known", || (client.ask(&ask(1)).items().len() == 40).then_some(()));
    let list = |ask: Ask| client.ask(&ask).body["items"].clone();
    let first = list(ask(1));
    for _ in 0..10 {
        assert_eq!(list(ask(1)), first, "scores, sources and reasons too");
    }
    let orders: BTreeSet<String> = (1..6).map(|seed| list(ask(seed)).to_string()).collect();
    assert_eq!(orders.len(), 5, "each seed has its own order of equals");
    let named = |id: &str| list(Ask::of_a_stranger().with("count", 40).with("request_id", id));
    assert_eq!(named("a"), named("a"), "without a seed the request's id is it");
    assert_ne!(named("a"), named("b"));
}

#[test]
fn a_backlog_of_events_delays_no_answer() {
    // One record a batch and a fetch: the backlog lasts, however fast the machine.
    let slow = [("kafka.properties.max.partition.fetch.bytes", "1")];
    let (site, worker, client) = ready("backlog", &slow);
    let one_by_one = Kafka::with(
        &site.kafka.bootstrap,
        &[("batch.num.messages", "1"), ("linger.ms", "0"), ("enable.idempotence", "false")],
    );
    let backlog = 20_000;
    for i in 0..backlog {
        let event = Event::watch("busy", &format!("item-{i}")).at(past(1));
        drop(one_by_one.send(&site.out(&event)));
    }
    let folded = |worker: &Worker| worker.metric("driftline_events_folded_total");
    for _ in 0..50 {
        let answer = client.ask(&Ask::of("busy"));
        assert_eq!(answer.error(), "");
        assert!(!answer.degraded().contains(&"user_state"), "{answer:?}");
    }
    let done = folded(&worker);
    assert!(done < f64::from(backlog), "the backlog was gone before the answers came: {done}");
    one_by_one.flush();

    // A worker that starts into the backlog answers too: once it has folded what there was, or
    // at the deadline, and then it says what it lacks.
    worker.kill();
    let worker = site.worker("b");
    eventually("the shards are assigned", || worker.log_text().contains("assigned").then_some(()));
    for _ in 0..3 {
        let answer = client.ask(&Ask::of("busy").deadline_in(500));
        assert!(["", "EXPIRED", "NOT_READY"].contains(&answer.error()), "{answer:?}");
        let whole = answer.error().is_empty() && !answer.degraded().contains(&"user_state");
        assert!(!whole || folded(&worker) >= f64::from(backlog), "it lacks events: {answer:?}");
    }
}

//! What users say that they do not want to see, and take back: as their clients meet it.

mod common;

use common::events::{Event, SECOND};
use common::eventually;
use common::installation::Installation;
use common::kafka::Out;
use common::requests::{Ask, Client};
use common::{avro, now_ms};
use serde_json::{Value, json};

const ITEMS: [&str; 6] = ["v0", "v1", "v2", "v3", "v4", "v5"];

/// Feedback as JSON; Avro of the same where the subject is an item.
fn feedback(site: &Installation, kind: &str, subject: [&str; 2], at: i64) -> Out {
    let event = json!({
        "event_id": format!("{kind}-{}-{at}", subject[1]),
        "user": "me",
        "event_time": at,
        "kind": kind,
        "subject_kind": subject[0],
        "subject": subject[1],
    });
    let value = match subject[0] {
        "ITEM" => avro::FEEDBACK.encode(&event),
        _ => event.to_string().into_bytes(),
    };
    let topic = site.topic("feedback-events");
    Out { topic, key: Some(b"me".to_vec()), value: Some(value), ..Out::default() }
}

/// Of every item two are by a creator, and three in a category.
fn catalog(site: &Installation) -> Vec<Out> {
    let record = |(n, item): (usize, &&str)| {
        let record = json!({
            "creator": format!("c{}", n / 2),
            "categories": [format!("k{}", n / 3)],
        });
        let value = Some(record.to_string().into_bytes());
        let (topic, key) = (site.topic("item-catalog"), Some(item.as_bytes().to_vec()));
        Out { topic, key, value, ..Out::default() }
    };
    ITEMS.iter().enumerate().map(record).collect()
}

/// What a user is served, sorted; of a list that knows all that was said until now.
fn served(site: &Installation, client: &Client, ask: Ask, said: &[(i32, i64)]) -> Vec<String> {
    let topic = site.topic("feedback-events");
    let after: Vec<String> = said.iter().map(|(p, o)| format!("{topic}-{p}@{o}")).collect();
    let ask = match after.is_empty() {
        true => ask,
        false => ask.header("after", after.join(",")).deadline_in(100 * SECOND),
    };
    let answer = client.ask(&ask.with("count", 10));
    assert_eq!(answer.error(), "", "{answer:?}");
    assert!(said.is_empty() || answer.after() == "SATISFIED", "{answer:?}");
    let mut items = answer.items();
    items.sort();
    items
}

fn refused(user: &Value) -> Vec<String> {
    let all = user["refused"].as_array().expect("a list").iter();
    all.map(|one| one["subject"].as_str().expect("a subject").to_owned()).collect()
}

#[test]
fn what_is_refused_is_served_no_more_until_it_is_taken_back_whatever_becomes_of_the_worker() {
    let site = Installation::new("feedback", &[("serving.exploration", "0")]);
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    site.kafka.deliver(&catalog(&site));
    let fans = ITEMS.iter().flat_map(|item| (0..3).map(move |n| (n, item)));
    let clicks = fans.map(|(n, item)| Event::click(&format!("fan-{n}-{item}"), item));
    site.deliver(&clicks.collect::<Vec<_>>());
    eventually("all items trend", || {
        (served(&site, &client, Ask::of("me"), &[]) == ITEMS).then_some(())
    });

    let start = now_ms();
    let say = |kind: &str, subject: [&str; 2], at: i64| {
        site.kafka.deliver(&[feedback(&site, kind, subject, start + at)])
    };
    let ask = || Ask::of("me");
    // One item, then all of a creator, then all of a category.
    let said = say("NOT_INTERESTED", ["ITEM", "v5"], 1);
    assert_eq!(served(&site, &client, ask(), &said), ["v0", "v1", "v2", "v3", "v4"]);
    let said = say("NOT_INTERESTED", ["CREATOR", "c1"], 2);
    assert_eq!(served(&site, &client, ask(), &said), ["v0", "v1", "v4"]);
    let said = say("NOT_INTERESTED", ["CATEGORY", "k0"], 3);
    assert_eq!(served(&site, &client, ask(), &said), ["v4"]);
    assert_eq!(served(&site, &client, Ask::of("other"), &[]), ITEMS, "others may want it");

    // An anonymous session whose user is named, and what goes with an item.
    let session = ask().json().with("recent_items", json!(["x"]));
    assert_eq!(served(&site, &client, session, &said), ["v4"]);
    let related = ask().json().with("kind", "related").with("context_item", "v0");
    assert!(served(&site, &client, related, &said).iter().all(|item| item == "v4"));

    // Taken back; and what is taken back before the refusal arrives stays so.
    let said = say("UNDO", ["CREATOR", "c1"], 4);
    assert_eq!(served(&site, &client, ask(), &said), ["v3", "v4"]);
    say("UNDO", ["ITEM", "v4"], 6);
    let said = say("NOT_INTERESTED", ["ITEM", "v4"], 5);
    assert_eq!(served(&site, &client, ask(), &said), ["v3", "v4"]);
    // Sent again, it says nothing new.
    let said = say("NOT_INTERESTED", ["CREATOR", "c1"], 2);
    assert_eq!(served(&site, &client, ask(), &said), ["v3", "v4"]);

    // What is no feedback is a dead letter with its reason, and nothing stops.
    say("LOVED", ["CREATOR", "c2"], 7);
    let said = say("NOT_INTERESTED", ["CREATOR", ""], 8);
    assert_eq!(served(&site, &client, ask(), &said), ["v3", "v4"]);
    eventually("both are dead letters", || {
        let letters = site.dead_letters();
        let reason = "__connect.errors.exception.class.name";
        let mut reasons: Vec<&str> = letters.iter().map(|letter| letter.text(reason)).collect();
        reasons.sort_unstable();
        (reasons == ["driftline.event.EmptyId", "driftline.event.UnknownKind"]).then_some(())
    });

    // As it was after a crash, and folded anew from the log.
    worker.kill();
    let worker = site.ready_worker("a");
    assert_eq!(served(&site, &client, ask(), &[]), ["v3", "v4"]);
    worker.drain();
    let worker = site.ready_worker("b");
    assert_eq!(served(&site, &client, ask(), &[]), ["v3", "v4"]);
    worker.drain();
    let [a, b] = ["a", "b"].map(|name| site.data_dir(name));
    assert_eq!(site.digest(&a), site.digest(&b));
    assert_eq!(refused(&site.dump(&b)["me"]), ["v5", "k0"]);
}

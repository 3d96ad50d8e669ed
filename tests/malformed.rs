//! Records that are no events: each becomes a dead letter with its reason, and nothing stops.

mod common;

use std::collections::HashMap;

use apache_avro::types::Value as Avro;
use common::avro::{self, Codec};
use common::dice::Dice;
use common::events::{DAY, Event, HOUR, Source};
use common::installation::Installation;
use common::kafka::{Headers, Kafka, Out, Seen};
use common::oracle::{self, Rules};
use common::requests::{Ask, Client};
use serde_json::{Value, json};

const BAD: usize = 10_000;
const GOOD: usize = 4_000;
const RULES: Rules = Rules { history_limit: 100, ttl_days: 30 };
const PREFIX: &str = "__connect.errors.";

/// A value that is no event, and the class of its refusal.
struct Bad {
    value: Option<Vec<u8>>,
    class: &'static str,
    /// To this user's partition, where the newest event is known.
    user: Option<String>,
}

fn bad(value: impl Into<Vec<u8>>, class: &'static str) -> Bad {
    Bad { value: Some(value.into()), class, user: None }
}

fn codec(source: Source) -> &'static Codec {
    if source == Source::Watch { &avro::WATCH } else { &avro::CLICK }
}

/// An event that is right but for one field, in either encoding.
fn with_field(event: &Event, dice: &mut Dice, field: &str, value: Value) -> Vec<u8> {
    let mut object = event.to_json();
    object[field] = value;
    if dice.one_in(2) {
        return object.to_string().into_bytes();
    }
    codec(event.source).encode(&object)
}

fn with_value(event: &Event, value: f64) -> Vec<u8> {
    let codec = codec(event.source);
    let Ok(Avro::Map(mut fields)) = Avro::try_from(event.to_json()) else { panic!("an object") };
    fields.insert("value".into(), Avro::Double(value));
    codec.encode_avro(Avro::Map(fields))
}

fn random_bytes(dice: &mut Dice) -> Bad {
    let length = dice.below(200) as usize;
    let bytes = dice.bytes(length);
    let class = match bytes.first() {
        None => "Empty",
        Some(0x00) => "NoRegistry",
        Some(0xC3) => "BadHeader",
        Some(b'{') => "Json",
        Some(_) => "UnknownEncoding",
    };
    bad(bytes, class)
}

/// Bytes that cannot be decoded.
fn undecodable(event: &Event, dice: &mut Dice, kind: u64) -> Bad {
    let good = codec(event.source).encode(&event.to_json());
    let text = event.to_json().to_string();
    match kind {
        0 => random_bytes(dice),
        1 => {
            let cut = dice.between(10, good.len() as i64) as usize;
            bad(&good[..cut], "Avro")
        }
        2 => bad(&good[..dice.between(1, 10) as usize], "BadHeader"),
        3 => {
            let mut other = good;
            other[2 + dice.below(8) as usize] ^= 1 << dice.below(8);
            bad(other, "UnknownSchema")
        }
        4 => {
            // The other topic's schema, or that of a request.
            let foreign = *dice.pick(&[
                codec(if event.source == Source::Watch { Source::Click } else { Source::Watch }),
                &avro::REQUEST,
            ]);
            bad([foreign.header(), &good[10..]].concat(), "UnknownSchema")
        }
        5 => {
            let id = dice.bytes(4);
            bad([&[0], &id[..], &good[10..]].concat(), "NoRegistry")
        }
        6 => {
            // A text of negative length.
            bad([codec(event.source).header(), &[0x01, 0x00, 0x00]].concat(), "Avro")
        }
        7 => bad(&text.as_bytes()[..dice.between(1, text.len() as i64) as usize], "Json"),
        8 => {
            let broken = *dice.pick(&[
                r#"{"event_id": 7}"#,
                r#"{"value": NaN}"#,
                r#"{"user": null}"#,
                r#"{"event_time": "today"}"#,
                r#"{"event_time": 1e400}"#,
                r#"{"device": 3}"#,
                "{]",
                "{\"user\": \"\u{1}\"}",
            ]);
            bad(broken, "Json")
        }
        9 => bad(text.replace("user-", "\\ud800").into_bytes(), "Json"),
        10 => bad([text.as_bytes(), b"\xFF"].concat(), "Json"),
        11 => bad("{\"x\":".repeat(40_000), "Json"),
        12 => Bad { value: None, class: "Empty", user: None },
        _ => bad(format!("[{text}]"), "UnknownEncoding"),
    }
}

/// Events that cannot be.
fn impossible(event: &Event, dice: &mut Dice, kind: u64) -> Bad {
    let now = common::now_ms();
    let mut field =
        |name: &str, value: Value, class| bad(with_field(event, dice, name, value), class);
    let long = "x".repeat(257);
    match kind {
        0 => field("event_id", "".into(), "EmptyId"),
        1 => field("user", "".into(), "EmptyId"),
        2 => field("item", "".into(), "EmptyId"),
        3 => field("event_id", long.into(), "OversizedId"),
        4 => field("user", long.into(), "OversizedId"),
        5 => field("item", "é".repeat(129).into(), "OversizedId"),
        6 => field("surface", long.into(), "OversizedId"),
        7 => field("session", long.repeat(100).into(), "OversizedId"),
        8 => field("request", long.into(), "OversizedId"),
        9 => field("event_time", 0.into(), "AbsurdTime"),
        10 => field("event_time", (now / 1_000).into(), "AbsurdTime"),
        11 => field("event_time", (-now).into(), "AbsurdTime"),
        12 => field("event_time", i64::MIN.into(), "AbsurdTime"),
        13 => field("event_time", (now + 2 * HOUR).into(), "FutureTime"),
        14 => field("event_time", (now * 1_000).into(), "FutureTime"),
        15 => field("event_time", i64::MAX.into(), "FutureTime"),
        16 => field("value", json!(-0.01), "BadNumber"),
        17 => bad(with_value(event, f64::NAN), "BadNumber"),
        18 => bad(with_value(event, f64::INFINITY), "BadNumber"),
        19 => bad("{}", "EmptyId"),
        20 => Bad {
            user: Some(event.user.clone()),
            ..field("event_time", (now - 40 * DAY).into(), "TooLate")
        },
        _ if event.source == Source::Click => field("position", (-1).into(), "BadNumber"),
        21 => field("watched_ms", (-1).into(), "NegativeTime"),
        22 => field("duration_ms", i64::MIN.into(), "NegativeTime"),
        23 => field("watched_ms", (31 * DAY).into(), "AbsurdTime"),
        _ => field("duration_ms", i64::MAX.into(), "AbsurdTime"),
    }
}

fn good(dice: &mut Dice) -> Event {
    let user = format!("user-{}", dice.below(300));
    let item = format!("item-{}", dice.below(500));
    let at = common::now_ms() - dice.between(0, 20 * DAY);
    let event =
        if dice.one_in(3) { Event::click(&user, &item) } else { Event::watch(&user, &item) };
    event.at(at)
}

/// Whatever a producer may send along.
fn headers(dice: &mut Dice, number: usize) -> Headers {
    let mut all: Headers = vec![("number".into(), Some(number.to_string().into_bytes()))];
    for _ in 0..dice.below(3) {
        let length = dice.below(40) as usize;
        all.push(("repeated".into(), Some(dice.bytes(length))));
    }
    if dice.one_in(4) {
        all.push(("without value".into(), None));
    }
    all
}

fn out_of(site: &Installation, dice: &mut Dice, number: usize) -> (Out, &'static str) {
    let event = good(dice);
    let kind = dice.below(39);
    let bad = if kind < 14 {
        undecodable(&event, dice, kind)
    } else {
        impossible(&event, dice, kind - 14)
    };
    let random = (!dice.one_in(3)).then(|| dice.bytes(12));
    let out = Out {
        topic: site.topic(event.source.topic()),
        key: bad.user.map(String::into_bytes).or(random),
        value: bad.value,
        headers: headers(dice, number),
        partition: None,
    };
    (out, bad.class)
}

fn number_of(record: &Seen) -> Option<usize> {
    record.header("number").map(|_| record.text("number").parse().expect("a number"))
}

/// Every dead letter is the record that it was, with the reasons of its refusal.
fn assert_dead_letters(site: &Installation, classes: &[&'static str]) {
    let mut originals = HashMap::new();
    for source in Source::ALL {
        let all = site.kafka.read_all(&site.topic(source.topic()));
        originals.extend(all.into_iter().filter_map(|seen| Some((number_of(&seen)?, seen))));
    }
    let mut found = vec![0; classes.len()];
    for letter in site.dead_letters() {
        let number = number_of(&letter).expect("none of the good records");
        let (original, class) = (&originals[&number], classes[number]);
        found[number] += 1;
        assert_eq!(letter.key, original.key, "{class}");
        assert!(letter.value == original.value, "another value: {class}, record {number}");
        assert_eq!(letter.timestamp, original.timestamp);
        let (reasons, own): (Headers, Headers) =
            letter.headers.iter().cloned().partition(|(name, _)| name.starts_with(PREFIX));
        assert_eq!(own, original.headers);
        assert_eq!(reasons.len(), 10, "{reasons:?}");
        let reason = |name: &str| letter.text(&format!("{PREFIX}{name}")).to_owned();
        assert_eq!(reason("topic"), original.topic);
        assert_eq!(reason("partition"), original.partition.to_string());
        assert_eq!(reason("offset"), original.offset.to_string());
        let message = reason("exception.message");
        let expected = format!("driftline.event.{class}");
        assert_eq!(reason("exception.class.name"), expected, "{message}: {original:?}");
        assert!(message.len() > 10 && message.len() <= 2_048);
        for name in ["connector.name", "task.id", "stage", "class.name", "exception.stacktrace"] {
            assert!(!reason(name).is_empty(), "{name}");
        }
    }
    let wrong: Vec<_> =
        found.iter().zip(classes).enumerate().filter(|(_, (n, _))| **n != 1).collect();
    assert!(wrong.is_empty(), "not exactly one dead letter: {wrong:?}");
}

#[test]
fn ten_thousand_malformed_records_become_dead_letters_and_the_good_ones_are_folded() {
    let mut dice = Dice::printed("malformed");
    let site = Installation::new("malformed", &[("state.ttl_days", "30")]);
    let mut worker = site.ready_worker("a");
    let client = Client::new(&site);
    // Now is known on every partition, so that what is too old for it can be told.
    let newest: Vec<Event> = (0..40)
        .flat_map(|i| {
            [Event::watch(&format!("now-{i}"), "i"), Event::click(&format!("now-{i}"), "i")]
        })
        .collect();
    site.deliver(&newest);

    let mut outs = Vec::new();
    let mut classes = Vec::new();
    for number in 0..BAD {
        let (out, class) = out_of(&site, &mut dice, number);
        outs.push(out);
        classes.push(class);
    }
    outs.extend((0..GOOD).map(|_| site.out(&good(&mut dice))));
    dice.shuffle(&mut outs);
    site.kafka.deliver(&outs);

    site.wait_folded(&mut worker);
    assert_eq!(client.ask(&Ask::of("user-1")).error(), "", "it still answers");
    assert!(worker.is_ready());
    assert_eq!(worker.metric("driftline_dead_letters_total"), BAD as f64);
    worker.drain();
    assert_dead_letters(&site, &classes);
    let events = site.read_events(|seen| number_of(seen).is_none());
    assert_eq!(events.len(), GOOD + newest.len());
    oracle::assert_same(&site.dump(&site.data_dir("a")), &oracle::fold(&events, RULES));
}

#[test]
fn records_as_large_as_a_broker_takes_become_dead_letters_too() {
    let mut dice = Dice::printed("huge");
    let site = Installation::new("huge", &[]);
    let mut worker = site.ready_worker("a");
    // Compressed, a record of any size passes a broker's limit; uncompressed, one of a megabyte.
    let compressing = Kafka::with(&site.kafka.bootstrap, &[("compression.type", "lz4")]);
    let huge = [
        (vec![b'x'; 5 << 20], "TooLarge"),
        (vec![0; (1 << 20) + 1], "TooLarge"),
        (dice.bytes(1_048_300), ""),
        (dice.bytes(999_000), ""),
    ];
    let mut classes = Vec::new();
    for (number, (mut value, class)) in huge.into_iter().enumerate() {
        if class.is_empty() {
            value[0] = b'?';
        }
        classes.push(if class.is_empty() { "UnknownEncoding" } else { class });
        let sender = if class.is_empty() { &site.kafka } else { &compressing };
        let headers = vec![("number".into(), Some(number.to_string().into_bytes()))];
        let topic = site.topic("watch-events");
        sender.deliver(&[Out { topic, value: Some(value), headers, ..Out::default() }]);
    }
    let good: Vec<Event> = (0..100).map(|_| good(&mut dice)).collect();
    site.deliver(&good);
    site.wait_folded(&mut worker);
    worker.drain();
    assert_dead_letters(&site, &classes);
    let expected = oracle::fold(&good, oracle::DEFAULT_RULES);
    oracle::assert_same(&site.dump(&site.data_dir("a")), &expected);
}

mod catalog_item;
mod evolution;
mod feedback;
mod items;
mod positional;
mod requests;

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::schema::{SCHEMAS, all_subjects};
use super::*;
use crate::ids::{ItemId, MAX_ID_BYTES, Surface, UserId};
use crate::time::{DAY_MS, EventTime};

/// Some day in 2023.
const APPENDED: i64 = 1_700_000_000_000;
const RULES: ValidityRules =
    ValidityRules { appended: EventTime::from_millis(APPENDED), max_ahead_ms: 3_600_000 };
/// 1 January 1990.
const EARLIEST: i64 = 631_152_000_000;

fn id() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z0-9:_-]{1,12}", 1 => "\\PC{1,30}", 1 => "[\"\\\\/\n\u{1}é]{1,9}"]
}

fn optional() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), id()]
}

fn language() -> impl Strategy<Value = String> {
    "[a-z]{2,3}(-[a-z0-9]{1,8}){0,2}"
}

fn device() -> impl Strategy<Value = Option<Device<'static>>> {
    proptest::option::of(vec(optional(), 5).prop_map(|mut parts| {
        let mut part = || Cow::Owned(parts.pop().unwrap());
        Device {
            platform: part(),
            os_version: part(),
            app_version: part(),
            locale: part(),
            country: part(),
        }
    }))
}

fn kind() -> impl Strategy<Value = EventKind> {
    let ms = || prop_oneof![Just(0u64), 0..10_000_000u64, Just(30 * DAY_MS as u64)];
    prop_oneof![
        (ms(), ms())
            .prop_map(|(watched_ms, duration_ms)| EventKind::Watch { watched_ms, duration_ms }),
        proptest::option::of(prop_oneof![0..50u32, Just(i32::MAX as u32)])
            .prop_map(|position| EventKind::Click { position }),
    ]
}

fn event() -> impl Strategy<Value = UserEvent<'static>> {
    let at = prop_oneof![Just(EARLIEST), Just(APPENDED + 3_600_000), EARLIEST..APPENDED];
    let value =
        prop_oneof![Just(0.0), 0.0..1e6f64, prop::num::f64::POSITIVE | prop::num::f64::SUBNORMAL];
    let names = (id(), id(), id(), optional(), optional(), proptest::option::of(optional()));
    (names, at, kind(), value, device()).prop_map(|(names, at, kind, value, device)| {
        let (event_id, user, item, surface, session, request) = names;
        UserEvent {
            id: event_id.into(),
            user: user.into(),
            item: item.into(),
            at: EventTime::from_millis(at),
            kind,
            surface: surface.into(),
            session: session.into(),
            request: request.map(Into::into),
            value,
            device,
        }
    })
}

fn wishes() -> impl Strategy<Value = Request> {
    let at = proptest::option::of((EARLIEST..APPENDED).prop_map(EventTime::from_millis));
    let days = proptest::option::of(prop_oneof![Just(0), Just(i32::MAX as u32), 1..400u32]);
    let names = || vec(id(), 0..3);
    (at, vec(language(), 0..3), days, names(), names(), names(), names()).prop_map(
        |(
            at,
            languages,
            max_age_days,
            blocked_creators,
            blocked_categories,
            creators,
            categories,
        )| {
            Request {
                at,
                languages,
                max_age_days,
                blocked_creators,
                blocked_categories,
                creators,
                categories,
                ..Request::new("", UserId::from("user"), 1)
            }
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let seed = proptest::option::of(any::<i64>());
    let context = proptest::option::of(id());
    let exclude = vec(id(), 0..6);
    let names = (optional(), id(), 1..=MAX_COUNT, optional());
    (names, context, exclude, any::<bool>(), seed, device(), wishes()).prop_map(
        |((request_id, user, count, surface), context, exclude, seen, seed, device, wishes)| {
            Request {
                request_id,
                user: UserId::new(user),
                count,
                surface: Surface::new(surface),
                context_item: context.map(ItemId::new),
                exclude: exclude.into_iter().map(ItemId::new).collect(),
                include_seen: seen,
                seed,
                device,
                ..wishes
            }
        },
    )
}

fn reply() -> impl Strategy<Value = Reply> {
    let number = || prop::num::f64::NORMAL | prop::num::f64::ZERO;
    let reason = (optional(), proptest::option::of(id()), optional())
        .prop_map(|(kind, item, text)| Reason { kind, item, text });
    let item = (id(), number(), optional(), number(), vec(reason, 0..3)).prop_map(
        |(item, score, source, propensity, reasons)| RecommendedItem {
            item,
            score,
            source,
            propensity,
            reasons,
        },
    );
    let degraded = (optional(), optional()).prop_map(|(part, reason)| Degradation { part, reason });
    let after = prop_oneof![Just(After::NotAsked), Just(After::Satisfied), Just(After::Missed)];
    let kind = prop_oneof![
        Just(ErrorKind::BadRequest),
        Just(ErrorKind::Overloaded),
        Just(ErrorKind::Expired),
        Just(ErrorKind::NotReady),
        Just(ErrorKind::Internal),
    ];
    let error = proptest::option::of(
        (kind, optional()).prop_map(|(kind, message)| RequestError { kind, message }),
    );
    let names = (optional(), optional(), optional(), optional());
    (names, vec(item, 0..4), vec(degraded, 0..3), after, any::<i64>(), error).prop_map(
        |((request_id, user, model_version, arm), items, degraded, after, took_us, error)| Reply {
            request_id,
            user,
            model_version,
            arm,
            items,
            degraded,
            after,
            took_us,
            error,
        },
    )
}

/// Every decoder on the same bytes.
fn decode_all(bytes: &[u8]) {
    for source in Source::ALL {
        let _ = UserEvent::decode(source, bytes, &RULES);
    }
    let _ = decode_request(bytes);
    let _ = decode_reply(bytes);
    let _ = Interactions::decode(bytes);
    let _ = EmbeddingRecord::decode(bytes);
    let _ = FeaturesRecord::decode(bytes);
    let _ = ModelManifest::decode(bytes);
    let _ = RankerManifest::decode(bytes);
    let _ = MetricsWindow::decode(bytes);
    let _ = ServingWindow::decode(bytes);
    let _ = CatalogItem::decode(Some(b"item"), bytes);
}

fn damaged(mut bytes: Vec<u8>, damage: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    for (place, byte, how) in damage {
        let at = place.index(bytes.len().max(1));
        match how {
            0 if at < bytes.len() => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..200),
        text in "\\PC{0,80}",
        subject in 0..SCHEMAS.len(),
    ) {
        decode_all(&bytes);
        decode_all(format!("{{{text}").as_bytes());
        let subject = all_subjects().into_iter().find(|s| s.name == SCHEMAS[subject].subject);
        let mut framed = vec![0xC3, 0x01];
        framed.extend_from_slice(&subject.unwrap().newest().fingerprint);
        framed.extend_from_slice(&bytes);
        decode_all(&framed);
    }

    #[test]
    fn damaged_records_never_panic(
        event in event(),
        request in requests::any_request(),
        reply in reply(),
        damage in damage(),
    ) {
        for encoding in [Encoding::AvroSingleObject, Encoding::Json] {
            decode_all(&damaged(event.encode(encoding).unwrap(), &damage));
            decode_all(&damaged(encode_request(&request, encoding).unwrap(), &damage));
            decode_all(&damaged(encode_reply(&reply, encoding).unwrap(), &damage));
        }
    }

    #[test]
    fn events_read_back_alike_from_both_encodings(event in event()) {
        for encoding in [Encoding::AvroSingleObject, Encoding::Json] {
            let bytes = event.encode(encoding).unwrap();
            let read = UserEvent::decode(event.source(), &bytes, &RULES);
            prop_assert_eq!(read.as_ref(), Ok(&event), "{:?}", encoding);
        }
    }

    #[test]
    fn requests_read_back_alike_from_both_encodings(request in requests::any_request()) {
        for encoding in [Encoding::AvroSingleObject, Encoding::Json] {
            let bytes = encode_request(&request, encoding).unwrap();
            prop_assert_eq!(decode_request(&bytes), (encoding, Ok(request.clone())));
        }
    }

    #[test]
    fn replies_read_back_alike_from_both_encodings(reply in reply()) {
        for encoding in [Encoding::AvroSingleObject, Encoding::Json] {
            let bytes = encode_reply(&reply, encoding).unwrap();
            prop_assert_eq!(decode_reply(&bytes), Ok(reply.clone()));
        }
    }

    #[test]
    fn interactions_read_back_as_they_were_written(
        shard in any::<i32>(),
        numbers in vec((any::<bool>(), any::<[i64; 5]>(), 0.0..2.0f32, id(), optional()), 0..6),
        history in proptest::option::of(vec(any::<u64>(), 0..40)),
    ) {
        let interactions = numbers.iter().map(|(click, n, fraction, item, surface)| Interaction {
            history: history.clone().map(History::of),
            source: Source::ALL[usize::from(*click)],
            offset: n[0],
            user: n[1],
            session: n[2],
            event: n[3],
            item,
            event_time: n[4],
            fraction: *fraction,
            surface,
        });
        let batch = Interactions { shard, interactions: interactions.collect() };
        let bytes = batch.encode().unwrap();
        let read = Interactions::decode(&bytes).unwrap();
        prop_assert_eq!(read.shard, batch.shard);
        for one in &read.interactions {
            let read: Option<Vec<u64>> = one.history.as_ref().map(|h| h.iter().collect());
            let newest = history.as_ref().map(|h| h[..h.len().min(History::MAX)].to_vec());
            prop_assert_eq!(read, newest);
        }
        prop_assert_eq!(read.interactions, batch.interactions);
    }

    #[test]
    fn apache_avro_reads_what_is_written(event in event()) {
        let subject = match event.source() {
            Source::Watch => "watch-event",
            Source::Click => "click-event",
        };
        let bytes = event.encode(Encoding::AvroSingleObject).unwrap();
        let read = evolution::resolve(&evolution::newest(subject), &evolution::newest(subject), &bytes[10..]);
        prop_assert_eq!(read["event_id"].as_str(), Some(&*event.id));
        prop_assert_eq!(read["event_time"].as_i64(), Some(event.at.millis()));
        prop_assert_eq!(read["value"].as_f64(), Some(event.value));
    }
}

/// A valid event of `source` as JSON, with some fields put in place of its own.
fn with(source: Source, fields: &Value) -> Vec<u8> {
    let mut event = json!({
        "event_id": "e1", "user": "u1", "item": "v1", "event_time": APPENDED,
    });
    if source == Source::Watch {
        event["watched_ms"] = json!(30_000);
        event["duration_ms"] = json!(60_000);
    }
    for (key, value) in fields.as_object().unwrap() {
        event[key] = value.clone();
    }
    event.to_string().into_bytes()
}

fn refused(source: Source, bytes: &[u8]) -> Option<(Stage, &'static str)> {
    UserEvent::decode(source, bytes, &RULES).err().map(|r| {
        assert!(!r.message.is_empty());
        (r.stage, r.class)
    })
}

#[test]
fn events_that_cannot_be_are_refused_by_class() {
    let long = "x".repeat(MAX_ID_BYTES + 1);
    let full = "x".repeat(MAX_ID_BYTES);
    let ahead = APPENDED + RULES.max_ahead_ms;
    let both = [
        (json!({"event_id": ""}), Some("EmptyId")),
        (json!({"user": ""}), Some("EmptyId")),
        (json!({"item": ""}), Some("EmptyId")),
        (json!({"event_id": long}), Some("OversizedId")),
        (json!({"user": long}), Some("OversizedId")),
        (json!({"item": long}), Some("OversizedId")),
        (json!({"surface": long}), Some("OversizedId")),
        (json!({"session": long}), Some("OversizedId")),
        (json!({"request": long}), Some("OversizedId")),
        (json!({"event_id": full, "user": full, "item": full, "session": full}), None),
        (json!({"event_time": 0}), Some("AbsurdTime")),
        (json!({"event_time": -5}), Some("AbsurdTime")),
        (json!({"event_time": i64::MIN}), Some("AbsurdTime")),
        (json!({"event_time": APPENDED / 1_000}), Some("AbsurdTime")),
        (json!({"event_time": EARLIEST - 1}), Some("AbsurdTime")),
        (json!({"event_time": EARLIEST}), None),
        (json!({"event_time": ahead + 1}), Some("FutureTime")),
        (json!({"event_time": i64::MAX}), Some("FutureTime")),
        (json!({"event_time": ahead}), None),
        (json!({"value": -0.5}), Some("BadNumber")),
        (json!({"value": 2}), None),
    ];
    for source in Source::ALL {
        for (fields, class) in &both {
            let expected = class.map(|class| (Stage::Validate, class));
            assert_eq!(refused(source, &with(source, fields)), expected, "{source:?} {fields}");
        }
    }
    let month = 30 * DAY_MS;
    let watches = [
        (json!({"watched_ms": -1}), Some("NegativeTime")),
        (json!({"duration_ms": -1}), Some("NegativeTime")),
        (json!({"watched_ms": month + 1}), Some("AbsurdTime")),
        (json!({"duration_ms": i64::MAX}), Some("AbsurdTime")),
        (json!({"watched_ms": month, "duration_ms": 0}), None),
    ];
    for (fields, class) in watches {
        let expected = class.map(|class| (Stage::Validate, class));
        assert_eq!(refused(Source::Watch, &with(Source::Watch, &fields)), expected, "{fields}");
    }
    let negative = with(Source::Click, &json!({"position": -1}));
    assert_eq!(refused(Source::Click, &negative), Some((Stage::Validate, "BadNumber")));
}

#[test]
fn numbers_that_are_none_are_refused_in_avro() {
    let event = event_one(EventKind::Click { position: None });
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let bytes = UserEvent { value, ..event.clone() }.encode(Encoding::AvroSingleObject);
        let found = refused(Source::Click, &bytes.unwrap());
        assert_eq!(found, Some((Stage::Validate, "BadNumber")), "{value}");
    }
}

#[test]
fn records_that_cannot_be_decoded_are_refused_by_class() {
    let avro = event_one(EventKind::Click { position: None }).encode(Encoding::AvroSingleObject);
    let avro = avro.unwrap();
    let mut unknown = avro.clone();
    unknown[5] ^= 1;
    let longer = [&avro[..], b"x"].concat();
    let large = format!("{{\"event_id\":\"{}\"}}", "x".repeat(MAX_RECORD_BYTES));
    let cases: [(&[u8], &str); 15] = [
        (b"", "Empty"),
        (b"\x00\x00\x00\x00\x01abc", "NoRegistry"),
        (b"hello", "UnknownEncoding"),
        (b" {}", "UnknownEncoding"),
        (b"[]", "UnknownEncoding"),
        (b"\xC3", "BadHeader"),
        (b"\xC3\x02aaaaaaaaa", "BadHeader"),
        (&avro[..9], "BadHeader"),
        (&unknown, "UnknownSchema"),
        (&avro[..10], "Avro"),
        (&avro[..avro.len() - 1], "Avro"),
        (&longer, "Avro"),
        (b"{", "Json"),
        (b"{\"event_time\":\"soon\"}", "Json"),
        (large.as_bytes(), "TooLarge"),
    ];
    for (bytes, class) in cases {
        assert_eq!(refused(Source::Click, bytes), Some((Stage::Decode, class)), "{class}");
    }
    // A watch on the topic of clicks has another schema.
    let watch = event_one(EventKind::Watch { watched_ms: 1, duration_ms: 2 });
    let watch = watch.encode(Encoding::AvroSingleObject).unwrap();
    assert_eq!(refused(Source::Click, &watch), Some((Stage::Decode, "UnknownSchema")));
    assert_eq!(refused(Source::Watch, b"{} trailing"), Some((Stage::Decode, "Json")));
}

#[test]
fn requests_that_cannot_be_are_refused_by_class_in_the_encoding_they_came_in() {
    let class = |fields: &Value| {
        let mut request = json!({"user": "u1"});
        for (key, value) in fields.as_object().unwrap() {
            request[key] = value.clone();
        }
        let (encoding, result) = decode_request(request.to_string().as_bytes());
        assert_eq!(encoding, Encoding::Json);
        result.err().map(|r| r.class)
    };
    let long = "x".repeat(MAX_ID_BYTES + 1);
    let many = vec!["v"; 1_001];
    assert_eq!(class(&json!({"user": ""})), Some("EmptyId"));
    assert_eq!(class(&json!({"user": long})), Some("OversizedId"));
    assert_eq!(class(&json!({"request_id": long})), Some("OversizedId"));
    assert_eq!(class(&json!({"surface": long})), Some("OversizedId"));
    assert_eq!(class(&json!({"context_item": ""})), Some("EmptyId"));
    assert_eq!(class(&json!({"exclude": ["v", ""]})), Some("EmptyId"));
    assert_eq!(class(&json!({"exclude": many})), Some("TooManyExcluded"));
    assert_eq!(class(&json!({"exclude": many[1..]})), None);
    for count in [0, -1, MAX_COUNT as i64 + 1] {
        assert_eq!(class(&json!({"count": count})), Some("BadCount"));
    }
    assert_eq!(class(&json!({"count": 1i64 << 40})), Some("Json"));
    assert_eq!(class(&json!({"count": MAX_COUNT})), None);
    let (encoding, result) = decode_request(b"\xC3\x01garbage");
    assert_eq!(encoding, Encoding::AvroSingleObject);
    assert_eq!(result.unwrap_err().class, "BadHeader");
}

#[test]
fn unknown_fields_are_ignored_in_json_and_missing_ones_take_their_defaults() {
    let fields = json!({"mood": "good", "device": {"platform": "tv", "battery": 3}});
    let bytes = with(Source::Watch, &fields);
    let event = UserEvent::decode(Source::Watch, &bytes, &RULES).unwrap();
    let device = Device { platform: "tv".into(), ..Device::default() };
    assert_eq!(event.device, Some(device));
    assert_eq!((&*event.surface, &*event.session, event.value), ("", "", 0.0));
    assert_eq!(event.request, None);
    let (_, request) = decode_request(br#"{"user":"u1","colour":"blue"}"#);
    assert_eq!(request, Ok(Request::new("", UserId::from("u1"), 20)));
}

#[test]
fn a_number_that_does_not_fit_the_schema_is_not_written_in_silence() {
    let click = event_one(EventKind::Click { position: Some(1 << 31) });
    assert_eq!(click.encode(Encoding::Json).unwrap_err().class, "BadNumber");
    let watch = event_one(EventKind::Watch { watched_ms: 1 << 63, duration_ms: 0 });
    assert_eq!(watch.encode(Encoding::Json).unwrap_err().class, "BadNumber");
}

#[test]
fn an_array_that_claims_to_be_endless_is_refused_without_the_memory_it_asks_for() {
    let mut framed = vec![0xC3, 0x01];
    framed.extend_from_slice(&schema::INTERACTIONS.newest().fingerprint);
    framed.push(0);
    // 2^62 items, then none of them; and 2^40 of them that end early.
    for count in [vec![0xFE; 8], vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x40]] {
        let bytes = [&framed[..], &count, &[0x7F, 0, 0, 0]].concat();
        assert!(Interactions::decode(&bytes).is_err());
    }
}

fn event_one(kind: EventKind) -> UserEvent<'static> {
    UserEvent {
        id: "event-1".into(),
        user: "user-1".into(),
        item: "video-é".into(),
        at: EventTime::from_millis(1_650_000_000_123),
        kind,
        surface: "home".into(),
        session: "session-1".into(),
        request: Some("request-1".into()),
        value: 1.25,
        device: Some(Device {
            platform: "tv".into(),
            os_version: "12".into(),
            app_version: "3.4".into(),
            locale: "de-CH".into(),
            country: "CH".into(),
        }),
    }
}

#[test]
fn events_that_version_1_wrote_are_still_read() {
    let watch = event_one(EventKind::Watch { watched_ms: 90_000, duration_ms: 120_000 });
    let click = event_one(EventKind::Click { position: Some(4) });
    for (name, event) in [("watch-event.v1.avro", watch), ("click-event.v1.avro", click)] {
        let bytes =
            crate::fixtures::bytes(name, || event.encode(Encoding::AvroSingleObject).unwrap());
        assert_eq!(UserEvent::decode(event.source(), &bytes, &RULES), Ok(event));
    }
}

#[test]
fn requests_and_replies_that_version_1_wrote_are_still_read() {
    let request = Request {
        surface: Surface::from("home"),
        context_item: Some(ItemId::from("video-1")),
        exclude: vec![ItemId::from("video-2"), ItemId::from("video-3")],
        include_seen: true,
        seed: Some(-7),
        device: event_one(EventKind::Click { position: None }).device,
        ..Request::new("request-1", UserId::from("user-1"), 50)
    };
    let bytes = crate::fixtures::bytes("recommendation-request.v1.avro", || {
        encode_request(&request, Encoding::AvroSingleObject).unwrap()
    });
    assert_eq!(decode_request(&bytes).1, Ok(request));
    let reason = Reason {
        kind: "because_you_watched".into(),
        item: Some("video-1".into()),
        text: "Because you watched video-1".into(),
    };
    let reply = Reply {
        request_id: "request-1".into(),
        user: "user-1".into(),
        model_version: "untrained".into(),
        arm: "default".into(),
        items: vec![RecommendedItem {
            item: "video-4".into(),
            score: 0.75,
            source: "neighbours".into(),
            propensity: 1.0,
            reasons: vec![reason],
        }],
        degraded: vec![Degradation { part: "count".into(), reason: "1 of 50".into() }],
        after: After::Missed,
        took_us: 1_234,
        error: Some(RequestError { kind: ErrorKind::NotReady, message: "restoring".into() }),
    };
    let bytes = crate::fixtures::bytes("recommendation-reply.v1.avro", || {
        encode_reply(&reply, Encoding::AvroSingleObject).unwrap()
    });
    assert_eq!(decode_reply(&bytes), Ok(reply));
}

#[test]
fn a_number_reads_back_from_json_to_the_last_bit() {
    let value = 917_609.453_108_558_7;
    let event = UserEvent { value, ..event_one(EventKind::Click { position: None }) };
    let bytes = event.encode(Encoding::Json).unwrap();
    let read = UserEvent::decode(Source::Click, &bytes, &RULES).unwrap();
    assert_eq!(read.value.to_bits(), value.to_bits());
}

//! Records of `item-catalog`: what is read back, and what is refused.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::{APPENDED, EARLIEST, id, language, optional};
use crate::ids::{ItemId, MAX_ID_BYTES};
use crate::time::{DAY_MS, EventTime};

fn item() -> impl Strategy<Value = CatalogItem> {
    let time = || proptest::option::of((EARLIEST..APPENDED).prop_map(EventTime::from_millis));
    let country = "[A-Z]{2}";
    let texts = (id(), "\\PC{0,40}", optional(), vec(id(), 0..4), vec(id(), 0..4));
    let places = (vec(language(), 0..3), vec(country, 0..3));
    let attributes = proptest::collection::btree_map(id(), "\\PC{0,40}", 0..3);
    let times = (time(), time(), proptest::option::of(1..DAY_MS));
    (texts, 0..30 * DAY_MS as u64, places, times, any::<bool>(), attributes).prop_map(
        |(texts, duration_ms, (languages, available_countries), times, blocked, attributes)| {
            let (item, title, creator, categories, tags) = texts;
            let (published, available_from, length) = times;
            let after =
                |ms| available_from.unwrap_or(EventTime::from_millis(EARLIEST)).plus_millis(ms);
            CatalogItem {
                item: ItemId::new(item),
                title,
                creator,
                categories,
                tags,
                duration_ms,
                published,
                languages,
                available_countries,
                available_from,
                available_until: length.map(after),
                blocked,
                attributes,
            }
        },
    )
}

proptest! {
    #[test]
    fn items_read_back_alike_from_both_encodings(item in item()) {
        for encoding in [Encoding::AvroSingleObject, Encoding::Json] {
            let bytes = item.encode(encoding).unwrap();
            let read = CatalogItem::decode(Some(item.item.as_str().as_bytes()), &bytes);
            prop_assert_eq!(read.as_ref(), Ok(&item), "{:?}", encoding);
        }
    }
}

fn decode(value: &Value) -> Result<CatalogItem, Rejection> {
    CatalogItem::decode(Some(b"v1"), value.to_string().as_bytes())
}

#[test]
fn the_key_names_an_item_that_the_value_does_not_name() {
    assert_eq!(decode(&json!({})), Ok(CatalogItem::new(ItemId::from("v1"))));
    assert_eq!(decode(&json!({"item": "v1"})), Ok(CatalogItem::new(ItemId::from("v1"))));
    assert_eq!(decode(&json!({"item": "v2"})).unwrap_err().class, "KeyMismatch");
    let without = |key| CatalogItem::decode(key, b"{}").unwrap_err().class;
    assert_eq!(without(None), "EmptyId");
    assert_eq!(without(Some(b"")), "EmptyId");
    assert_eq!(without(Some(b"\xff")), "BadKey");
    assert_eq!(without(Some(&[b'a'; MAX_ID_BYTES + 1])), "OversizedId");
}

#[test]
fn countries_and_languages_are_taken_in_any_case() {
    let item = decode(&json!({"available_countries": ["ch"], "languages": ["de-CH"]})).unwrap();
    assert_eq!(item.available_countries, ["CH"]);
    assert_eq!(item.languages, ["de-ch"]);
}

#[test]
fn items_that_cannot_be_are_refused_by_class() {
    let many = |n: usize| vec!["a"; n];
    let attributes = |n: usize| (0..n).map(|n| (n.to_string(), "")).collect::<BTreeMap<_, _>>();
    let long = "a".repeat(MAX_ID_BYTES + 1);
    for (field, value, class) in [
        ("title", json!("a".repeat(1_025)), "TooLong"),
        ("creator", json!(long), "OversizedId"),
        ("categories", json!([""]), "EmptyId"),
        ("categories", json!([long]), "OversizedId"),
        ("categories", json!(many(65)), "TooMany"),
        ("tags", json!(many(257)), "TooMany"),
        ("duration_ms", json!(-1), "NegativeTime"),
        ("duration_ms", json!(30 * DAY_MS + 1), "AbsurdTime"),
        ("published", json!(1_700_000_000), "AbsurdTime"),
        ("published", json!(1_700_000_000_000_000i64), "AbsurdTime"),
        ("available_from", json!(0), "AbsurdTime"),
        ("available_until", json!(i64::MAX), "AbsurdTime"),
        ("languages", json!(["deutsch!"]), "BadLanguage"),
        ("languages", json!(["d"]), "BadLanguage"),
        ("languages", json!(["de-"]), "BadLanguage"),
        ("languages", json!(["de-muchtoolong"]), "BadLanguage"),
        ("languages", json!([""]), "BadLanguage"),
        ("available_countries", json!(["CHE"]), "BadCountry"),
        ("available_countries", json!(["C1"]), "BadCountry"),
        ("available_countries", json!(vec!["CH"; 301]), "TooMany"),
        ("attributes", json!({"": "a"}), "EmptyId"),
        ("attributes", json!({"a": "a".repeat(4_097)}), "TooLong"),
        ("attributes", json!(attributes(257)), "TooMany"),
        ("blocked", json!("perhaps"), "Json"),
    ] {
        let refused = decode(&json!({ field: value })).unwrap_err();
        assert_eq!(refused.class, class, "{field}: {refused}");
    }
    let window = json!({"available_from": APPENDED, "available_until": APPENDED});
    assert_eq!(decode(&window).unwrap_err().class, "EmptyWindow");
    for tag in ["de", "zh-Hans-CN", "es-419", "x-klingon", "i-default", "sl-rozaj-1994"] {
        assert!(decode(&json!({"languages": [tag]})).is_ok(), "{tag}");
    }
}

#[test]
fn items_that_version_1_wrote_are_still_read() {
    let time = |ms| Some(EventTime::from_millis(ms));
    let item = CatalogItem {
        title: "Über den Gotthard".into(),
        creator: "c7".into(),
        categories: vec!["travel".into(), "trains".into()],
        tags: vec!["alps".into()],
        duration_ms: 61_500,
        published: time(APPENDED),
        languages: vec!["de-ch".into(), "rm".into()],
        available_countries: vec!["CH".into(), "AT".into()],
        available_from: time(APPENDED + 1),
        available_until: time(APPENDED + 2),
        blocked: true,
        attributes: [("licence".to_owned(), "cc-by".to_owned())].into(),
        ..CatalogItem::new(ItemId::from("v7"))
    };
    let bytes = crate::fixtures::bytes("catalog-item.v1.avro", || {
        item.encode(Encoding::AvroSingleObject).unwrap()
    });
    assert_eq!(CatalogItem::decode(Some(b"v7"), &bytes), Ok(item));
}

#[test]
fn wishes_that_cannot_be_are_refused_by_class() {
    for (field, value, class) in [
        ("event_time", json!(5), "AbsurdTime"),
        ("languages", json!(["!"]), "BadLanguage"),
        ("max_age_days", json!(-1), "BadNumber"),
        ("blocked_creators", json!(vec!["a"; 1_001]), "TooMany"),
        ("blocked_categories", json!([""]), "EmptyId"),
        ("creators", json!([""]), "EmptyId"),
        ("categories", json!(vec!["a"; 1_001]), "TooMany"),
    ] {
        let request = json!({"user": "u", field: value}).to_string();
        let refused = decode_request(request.as_bytes()).1.unwrap_err();
        assert_eq!(refused.class, class, "{field}: {refused}");
    }
}

#[test]
fn requests_that_version_2_wrote_are_still_read() {
    let names = |name: &str| vec![name.to_owned()];
    let request = Request {
        at: Some(EventTime::from_millis(APPENDED)),
        languages: names("de-ch"),
        max_age_days: Some(30),
        blocked_creators: names("c1"),
        blocked_categories: names("politics"),
        creators: names("c2"),
        categories: names("travel"),
        ..Request::new("request-1", crate::ids::UserId::from("user-1"), 50)
    };
    let bytes = crate::fixtures::bytes("recommendation-request.v2.avro", || {
        encode_request(&request, Encoding::AvroSingleObject).unwrap()
    });
    assert_eq!(decode_request(&bytes).1, Ok(request));
}

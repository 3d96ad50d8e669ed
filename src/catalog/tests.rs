use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::ids::ItemId;
use crate::time::{DAY_MS, EventTime};

/// Some day in 2023.
const BASE: i64 = 1_700_000_000_000;

fn time() -> impl Strategy<Value = Option<EventTime>> {
    let at = (-3..3i64).prop_map(|days| EventTime::from_millis(BASE + days * DAY_MS));
    proptest::option::of(at)
}

fn few(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    vec(prop::sample::select(texts).prop_map(str::to_owned), 0..3)
}

fn item(n: u8) -> impl Strategy<Value = CatalogItem> {
    let creator = prop::sample::select(&["", "c1", "c2"][..]);
    let lists = (few(&["a", "b"]), few(&["de", "de-ch", "fr"]), few(&["CH", "DE"]), few(&["t"]));
    let attributes = btree_map("[ab]", "[ab]", 0..2);
    (creator, lists, time(), time(), time(), any::<bool>(), 0..3u64, attributes).prop_map(
        move |(creator, lists, published, from, until, blocked, duration_ms, attributes)| {
            let (categories, languages, available_countries, tags) = lists;
            CatalogItem {
                creator: creator.into(),
                categories,
                tags,
                duration_ms,
                published,
                languages,
                available_countries,
                available_from: from,
                available_until: until,
                blocked,
                attributes,
                ..CatalogItem::new(ItemId::new(format!("v{n}")))
            }
        },
    )
}

/// A record of the topic: an item, or the tombstone of one.
fn records() -> impl Strategy<Value = Vec<Result<CatalogItem, String>>> {
    let upsert = (0..6u8).prop_flat_map(item).prop_map(Ok);
    let tombstone = (0..6u8).prop_map(|n| Err(format!("v{n}")));
    vec(prop_oneof![3 => upsert, 1 => tombstone], 0..30)
}

fn fold(records: &[Result<CatalogItem, String>]) -> Catalog {
    let mut catalog = Catalog::default();
    for record in records {
        match record {
            Ok(item) => catalog.upsert(item),
            Err(item) => catalog.delist(item),
        }
    }
    catalog
}

/// The last record of each item.
fn last(records: &[Result<CatalogItem, String>]) -> BTreeMap<String, Option<CatalogItem>> {
    let mut last = BTreeMap::new();
    for record in records {
        match record {
            Ok(item) => last.insert(item.item.to_string(), Some(item.clone())),
            Err(item) => last.insert(item.clone(), None),
        };
    }
    last
}

/// Languages match where their subtags agree as far as both go.
fn alike(a: &str, b: &str) -> bool {
    a.split('-').zip(b.split('-')).all(|(a, b)| a == b)
}

proptest! {
    #[test]
    fn the_last_record_of_an_item_answers_for_it(
        records in records(),
        country in prop::sample::select(&["", "CH", "FR"][..]),
        wanted in few(&["de", "de-ch", "de-at", "fr"]),
        at in time(),
        days in 0..4u32,
    ) {
        let (catalog, last) = (fold(&records), last(&records));
        let at = at.unwrap_or(EventTime::from_millis(BASE));
        prop_assert_eq!(catalog.len(), last.values().flatten().count());
        prop_assert_eq!(catalog.delisted(), last.values().filter(|item| item.is_none()).count());
        for n in 0..6u8 {
            let name = format!("v{n}");
            let item = match (catalog.find(stable_hash(name.as_bytes())), last.get(&name)) {
                (Standing::Unknown, None) | (Standing::Delisted, Some(None)) => continue,
                (Standing::Listed(listing), Some(Some(item))) => (listing, item),
                _ => return Err(TestCaseError::fail(format!("{name} stands otherwise"))),
            };
            let (listing, item) = item;
            prop_assert_eq!(listing.is_blocked(), item.blocked);
            prop_assert_eq!(listing.creator(), &item.creator);
            prop_assert!(listing.categories().eq(item.categories.iter().map(String::as_str)));
            prop_assert!(listing.languages().eq(item.languages.iter().map(String::as_str)));
            prop_assert_eq!(listing.published(), item.published);
            let begins = [item.available_from, item.published];
            let begun = begins.into_iter().flatten().all(|from| from <= at);
            let open = item.available_until.is_none_or(|until| until > at);
            let countries = &item.available_countries;
            let here = countries.is_empty() || countries.iter().any(|c| c == country);
            prop_assert_eq!(listing.is_available(country, at), begun && open && here);
            let mut pairs = item.languages.iter().flat_map(|own| wanted.iter().map(move |w| (own, w)));
            let followed = pairs.any(|(own, wanted)| alike(own, wanted));
            let any = item.languages.is_empty() || wanted.is_empty();
            prop_assert_eq!(listing.speaks(&wanted), followed || any);
            let age = item.published.map(|published| at.since(published));
            let young = age.is_some_and(|age| age <= i64::from(days) * DAY_MS);
            prop_assert_eq!(listing.is_younger(days, at), young);
        }
    }

    #[test]
    fn a_compacted_log_makes_the_same_catalog(records in records()) {
        let compacted: Vec<_> = last(&records)
            .into_iter()
            .map(|(name, item)| item.ok_or(name))
            .collect();
        let (whole, short) = (fold(&records), fold(&compacted));
        prop_assert_eq!((whole.len(), whole.delisted()), (short.len(), short.delisted()));
        for n in 0..6u8 {
            let hash = stable_hash(format!("v{n}").as_bytes());
            let seen = |catalog: &Catalog| match catalog.find(hash) {
                Standing::Listed(l) => Some((l.creator().to_owned(), l.categories().len())),
                Standing::Delisted => Some(("delisted".to_owned(), 0)),
                Standing::Unknown => None,
            };
            prop_assert_eq!(seen(&whole), seen(&short));
        }
    }

    #[test]
    fn publishing_a_difference_leaves_none(
        published in records(),
        source in vec((0..6u8).prop_flat_map(item), 0..12),
        refused in vec(0..6u8, 0..3),
    ) {
        let mut log = published.clone();
        let mut difference = Difference::default();
        for record in &published {
            match record {
                Ok(item) => difference.published(item).unwrap(),
                Err(item) => difference.delisted(item),
            }
        }
        let before = last(&published);
        let mut observed: BTreeMap<String, CatalogItem> = BTreeMap::new();
        difference.begin_pass();
        let refused: Vec<String> = refused.iter().map(|n| format!("v{n}")).collect();
        refused.iter().for_each(|name| difference.keep(name));
        for item in &source {
            let name = item.item.to_string();
            let old = before.get(&name).cloned().flatten();
            let known = old.is_some() && refused.contains(&name) || observed.contains_key(&name);
            let change = difference.observe(item).unwrap();
            match &change {
                Change::Repeated => prop_assert!(known),
                Change::Added => prop_assert_eq!(&old, &None),
                Change::Same => prop_assert_eq!(old.as_ref(), Some(item)),
                Change::Changed(fields) => {
                    prop_assert!(!fields.is_empty());
                    prop_assert_ne!(old.as_ref(), Some(item));
                }
            }
            if matches!(change, Change::Added | Change::Changed(_)) {
                log.push(Ok(item.clone()));
            }
            if change != Change::Repeated {
                observed.insert(name, item.clone());
            }
        }
        for name in difference.missing() {
            log.push(Err(name.to_string()));
        }
        let listed = |log: &[_]| -> BTreeMap<String, CatalogItem> {
            last(log).into_iter().filter_map(|(name, item)| Some((name, item?))).collect()
        };
        let kept = listed(&published).into_iter().filter(|(name, _)| refused.contains(name));
        let mut expected: BTreeMap<_, _> = kept.collect();
        expected.extend(observed);
        prop_assert_eq!(listed(&log), expected);
    }
}

#[test]
fn a_change_names_the_fields_that_differ() {
    let old = CatalogItem::new(ItemId::from("v"));
    let new = CatalogItem { title: "new".into(), blocked: true, ..old.clone() };
    let mut difference = Difference::default();
    difference.published(&old).unwrap();
    difference.begin_pass();
    let changed = Change::Changed(vec![Field::Title, Field::Blocked]);
    assert_eq!(difference.observe(&new).unwrap(), changed);
    assert_eq!(difference.observe(&new).unwrap(), Change::Repeated);
    difference.begin_pass();
    assert_eq!(difference.observe(&old).unwrap(), Change::Same);
}

#[test]
fn an_item_that_comes_back_is_listed_again() {
    let mut catalog = Catalog::default();
    let item = CatalogItem::new(ItemId::from("v"));
    catalog.upsert(&item);
    catalog.delist("v");
    assert_eq!((catalog.len(), catalog.delisted()), (0, 1));
    catalog.upsert(&item);
    assert_eq!((catalog.len(), catalog.delisted()), (1, 0));
}

#[test]
fn a_million_items_take_less_than_two_hundred_bytes_each() {
    let mut catalog = Catalog::default();
    for n in 0..1_000_000u32 {
        catalog.upsert(&CatalogItem {
            title: "a title that is not held".into(),
            creator: format!("creator-{}", n % 50_000),
            categories: vec![format!("category-{}", n % 40)],
            languages: vec!["de".into()],
            ..CatalogItem::new(ItemId::new(format!("video-{n}")))
        });
    }
    let each = catalog.bytes() as f64 / 1e6;
    assert!(each < 200.0, "{each} bytes an item");
}

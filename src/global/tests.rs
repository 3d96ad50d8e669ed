use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::time::HOUR_MS;

/// Some day in 2023.
const BASE: i64 = 1_700_000_000_000;

fn half_lives() -> HalfLives {
    HalfLives { default_hours: 24.0, by_surface: HashMap::from([("search".to_owned(), 6.0)]) }
}

/// Surface, item, time, weight.
type Observation = (&'static str, u32, i64, u32);

fn observations() -> impl Strategy<Value = Vec<Observation>> {
    let at = prop_oneof![3 => 0..30 * HOUR_MS, 1 => 0..500 * HOUR_MS];
    let surface = prop_oneof![Just(""), Just("home"), Just("search")];
    vec((surface, 0..12u32, at.prop_map(|ms| BASE + ms), 1..3u32), 0..80)
}

fn trending(observations: &[Observation]) -> Trending {
    let mut table = Trending::new(half_lives());
    for &(surface, item, at, weight) in observations {
        table.observe(surface, ItemHandle(item), EventTime::from_millis(at), weight);
    }
    refresh(&mut table);
    table
}

fn refresh(table: &mut Trending) {
    let mut items = Items::default();
    for item in 0..1_500 {
        items.handle(&format!("v{item}"));
    }
    let ranking = table.rank(&items);
    table.show(ranking);
}

/// The decayed counts of a surface, or over all where it is empty, from all observations.
fn decayed(observations: &[Observation], surface: &str) -> BTreeMap<u32, f64> {
    let hours = if surface == "search" { 6 } else { 24 };
    let bucket_ms = hours * HOUR_MS / 8;
    let of_surface = || observations.iter().filter(|o| surface.is_empty() || o.0 == surface);
    let newest = of_surface().map(|o| o.2 / bucket_ms).max();
    let mut counts = BTreeMap::new();
    for &(_, item, at, weight) in of_surface() {
        let age = newest.unwrap() - at / bucket_ms;
        if age < 64 {
            *counts.entry(item).or_default() += f64::from(weight) * 0.5f64.powf(age as f64 / 8.0);
        }
    }
    counts
}

fn names(table: &Trending, surface: &str) -> Vec<u32> {
    table.top(surface).iter().map(|t| t.0.0).collect()
}

proptest! {
    #[test]
    fn trending_lists_are_decayed_counts_best_first(observations in observations()) {
        let table = trending(&observations);
        for surface in ["", "home", "search", "nowhere"] {
            let expected = decayed(&observations, surface);
            let top = table.top(surface);
            prop_assert_eq!(top.len(), expected.len());
            for (item, score) in top.iter() {
                let expected = expected[&item.0];
                prop_assert!((f64::from(*score) - expected).abs() <= 1e-5 * expected);
            }
            prop_assert!(top.windows(2).all(|w| (w[1].1, w[0].0) <= (w[0].1, w[1].0)));
        }
    }

    #[test]
    fn the_order_of_observations_changes_no_trending_list(
        (one, other) in observations().prop_flat_map(|o| (Just(o.clone()), Just(o).prop_shuffle())),
        refresh_at in any::<prop::sample::Index>(),
    ) {
        let mut second = Trending::new(half_lives());
        for (n, &(surface, item, at, weight)) in other.iter().enumerate() {
            // A list that is brought up to date half-way forgets only what has decayed away.
            if n == refresh_at.index(other.len()) {
                refresh(&mut second);
            }
            second.observe(surface, ItemHandle(item), EventTime::from_millis(at), weight);
        }
        refresh(&mut second);
        let first = trending(&one);
        for surface in ["", "home", "search"] {
            prop_assert_eq!(first.top(surface), second.top(surface));
        }
    }

    #[test]
    fn an_interaction_is_new_once_whatever_is_replayed(
        log in vec((0..2i32, 0..2i32, any::<bool>(), 0..12i64, 0..30i64), 0..80),
    ) {
        let mut guard = ReplayGuard::default();
        let mut seen = HashSet::new();
        let mut highest = HashMap::new();
        for (partition, shard, is_click, offset, event) in log {
            let source = Source::ALL[usize::from(is_click)];
            let one = Interaction { source, offset, event, ..Interaction::default() };
            let passed = highest.entry((partition, shard, is_click)).or_insert(-1);
            let is_new = offset > *passed && seen.insert(event);
            *passed = offset.max(*passed);
            prop_assert_eq!(guard.is_new(partition, shard, &one), is_new);
        }
    }

    #[test]
    fn items_keep_their_numbers_and_names(texts in vec("[a-c]{0,3}", 0..60)) {
        let mut items = Items::default();
        let mut naive: Vec<String> = Vec::new();
        for text in &texts {
            let known = naive.iter().position(|n| n == text);
            prop_assert_eq!(items.find(text).map(|h| h.0 as usize), known);
            let handle = items.handle(text);
            if known.is_none() {
                naive.push(text.clone());
            }
            prop_assert_eq!(handle.0 as usize, known.unwrap_or(naive.len() - 1));
            prop_assert_eq!(&**items.name(handle), text.as_str());
            prop_assert_eq!(items.len(), naive.len());
        }
        prop_assert_eq!(items.is_empty(), texts.is_empty());
    }
}

fn interaction(item: &'static str, offset: i64) -> Interaction<'static> {
    Interaction {
        offset,
        user: 1,
        session: 1,
        event: offset,
        item,
        event_time: BASE,
        surface: "home",
        ..Interaction::default()
    }
}

fn learn(table: &mut GlobalTables, interactions: Vec<Interaction<'_>>) -> usize {
    table.learn(0, 3, &interactions)
}

#[test]
fn a_replayed_record_teaches_nothing() {
    let mut table = GlobalTables::new(NeighboursConfig::default(), half_lives());
    let batch = || vec![interaction("v1", 5), interaction("v2", 6)];
    assert_eq!(learn(&mut table, batch()), 2);
    table.refresh();
    let before = table.trending().top("home");
    assert_eq!(learn(&mut table, batch()), 0);
    table.refresh();
    assert_eq!(table.trending().top("home"), before);
    // A producer's duplicate: another offset, the same event.
    let again = Interaction { event: 5, ..interaction("v1", 7) };
    assert_eq!(learn(&mut table, vec![again]), 0);
}

#[test]
fn long_watches_count_double_and_skips_not_at_all() {
    let watch = |item, offset, fraction| Interaction { fraction, ..interaction(item, offset) };
    let mut table = GlobalTables::new(NeighboursConfig::default(), half_lives());
    let click = Interaction { source: Source::Click, ..interaction("clicked", 4) };
    let batch = vec![
        watch("skipped", 0, 0.05),
        watch("begun", 1, 0.1),
        watch("watched", 2, 0.5),
        watch("live", 3, 0.0),
        click,
    ];
    assert_eq!(learn(&mut table, batch), 5);
    table.refresh();
    let top = table.trending().top("home");
    let score = |item: &str| {
        let handle = table.items().find(item)?;
        top.iter().find(|t| t.0 == handle).map(|t| t.1)
    };
    assert_eq!(score("skipped"), None);
    assert_eq!([score("begun"), score("live"), score("clicked")], [Some(1.0); 3]);
    assert_eq!(score("watched"), Some(2.0));
    assert_eq!(table.watermark(), EventTime::from_millis(BASE));
}

#[test]
fn what_was_watched_on_one_surface_trends_there_and_over_all() {
    let table = trending(&[("home", 1, BASE, 1), ("search", 2, BASE, 2), ("", 3, BASE, 3)]);
    assert_eq!(names(&table, "home"), [1]);
    assert_eq!(names(&table, "search"), [2]);
    assert_eq!(names(&table, ""), [3, 2, 1]);
    assert!(names(&table, "nowhere").is_empty());
}

#[test]
fn a_list_holds_the_best_thousand() {
    let all: Vec<Observation> = (0..1_500).map(|n| ("home", n, BASE, 1 + n)).collect();
    let expected: Vec<u32> = (500..1_500).rev().collect();
    assert_eq!(names(&trending(&all), "home"), expected);
}

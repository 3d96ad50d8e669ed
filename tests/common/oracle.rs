//! A naive fold of all events of all users, written from the documented rules: what
//! `state dump` must show.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Value, json};

use super::events::{DAY, Event, HOUR, Source};

/// The configured part of the rules.
#[derive(Clone, Copy)]
pub struct Rules {
    pub history_limit: usize,
    pub ttl_days: i64,
}

pub const DEFAULT_RULES: Rules = Rules { history_limit: 100, ttl_days: 180 };

const WEEK: i64 = 7 * DAY;
/// Habits and items seen are kept by four weeks, and forgotten by them.
const PERIOD: i64 = 28 * DAY;

/// Folds events in any order; an id that a user sent twice on a topic counts once.
pub fn fold(events: &[Event], rules: Rules) -> BTreeMap<String, Value> {
    let mut known = HashSet::new();
    let mut by_user: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        if known.insert((event.source, &event.user, &event.id)) {
            by_user.entry(&event.user).or_default().push(event);
        }
    }
    by_user.into_iter().map(|(user, all)| (user.to_owned(), fold_user(user, all, rules))).collect()
}

fn fold_user(user: &str, mut events: Vec<&Event>, rules: Rules) -> Value {
    let newest = events.iter().map(|e| e.at).max().expect("a user has events");
    let floor = (newest - rules.ttl_days * DAY).div_euclid(PERIOD) * PERIOD;
    events.retain(|e| e.at >= floor);
    let of = |source| events.iter().copied().filter(move |e| e.source == source);
    let totals = count(events.iter().copied());
    let (watches, left_watches) = newest_of(of(Source::Watch), rules.history_limit);
    let (clicks, left_clicks) = newest_of(of(Source::Click), rules.history_limit);
    let left: Vec<&Event> = left_watches.into_iter().chain(left_clicks).collect();
    let mut user = json!({
        "user": user,
        "last_seen": newest,
        "recent_watches": watches.iter().map(|e| entry(e)).collect::<Vec<_>>(),
        "recent_clicks": clicks.iter().map(|e| entry(e)).collect::<Vec<_>>(),
        "buckets": buckets(&events, newest),
        "periods": periods(&events, &left),
    });
    add(&mut user, totals);
    user
}

/// The newest by (event time, id hash), oldest first, and the rest.
fn newest_of<'a>(
    events: impl Iterator<Item = &'a Event>,
    limit: usize,
) -> (Vec<&'a Event>, Vec<&'a Event>) {
    let mut all: Vec<&Event> = events.collect();
    all.sort_by_key(|e| (e.at, id_hash(&e.id)));
    let kept = all.split_off(all.len().saturating_sub(limit));
    (kept, all)
}

/// The low 24 bits of the XXH3-64 of the event id.
fn id_hash(id: &str) -> u32 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes()) as u32 & 0xFF_FFFF
}

fn entry(event: &Event) -> Value {
    let fraction = match event.duration_ms {
        0 => 0,
        duration => (event.watched_ms * 200 / duration).min(255),
    };
    json!({
        "item": event.item,
        "event_time": event.at,
        "id_hash": id_hash(&event.id),
        "fraction": fraction,
        "duration_s": (event.duration_ms + 999) / 1_000,
        "surface": event.surface,
    })
}

fn count<'a>(events: impl Iterator<Item = &'a Event>) -> [(&'static str, i64); 5] {
    let [mut watches, mut clicks, mut watched_ms, mut completions, mut skips] = [0; 5];
    for event in events {
        if event.source == Source::Click {
            clicks += 1;
            continue;
        }
        let (watched, duration) = (event.watched_ms, event.duration_ms);
        watches += 1;
        watched_ms += watched;
        completions += i64::from(duration > 0 && watched * 100 >= duration * 95);
        let less_than_half = duration == 0 || watched * 2 < duration;
        skips += i64::from(watched < 3_000 && less_than_half);
    }
    [
        ("watches", watches),
        ("clicks", clicks),
        ("watched_ms", watched_ms),
        ("completions", completions),
        ("skips", skips),
    ]
}

fn add(object: &mut Value, counts: [(&'static str, i64); 5]) {
    for (name, value) in counts {
        object[name] = value.into();
    }
}

/// By hour for the last 48 hours before the newest event, by day for the last 14 days, by week
/// before.
fn buckets(events: &[&Event], newest: i64) -> Vec<Value> {
    let width = |at: i64| {
        if newest.div_euclid(HOUR) - at.div_euclid(HOUR) < 48 {
            HOUR
        } else if newest.div_euclid(DAY) - at.div_euclid(DAY) < 14 {
            DAY
        } else {
            WEEK
        }
    };
    let mut all: BTreeMap<(i64, i64), Vec<&Event>> = BTreeMap::new();
    for event in events {
        let width = width(event.at);
        all.entry((event.at.div_euclid(width) * width, width)).or_default().push(event);
    }
    let bucket = |((start, width), events): ((i64, i64), Vec<&Event>)| {
        let mut bucket = json!({"start": start, "width_ms": width});
        add(&mut bucket, count(events.into_iter()));
        bucket
    };
    all.into_iter().map(bucket).collect()
}

fn periods(events: &[&Event], left: &[&Event]) -> Vec<Value> {
    let mut all: BTreeMap<i64, ([i64; 24], BTreeSet<u64>)> = BTreeMap::new();
    for event in events {
        let hour = event.at.rem_euclid(DAY) / HOUR;
        all.entry(event.at.div_euclid(PERIOD)).or_default().0[hour as usize] += 1;
    }
    for event in left {
        // An item beyond the history is remembered by 24 bits.
        let fingerprint = xxhash_rust::xxh3::xxh3_64(event.item.as_bytes()) >> 40;
        all.entry(event.at.div_euclid(PERIOD)).or_default().1.insert(fingerprint);
    }
    let period = |(index, (by_hour, seen)): (i64, ([i64; 24], BTreeSet<u64>))| json!({"index": index, "by_hour": by_hour, "seen_beyond_history": seen.len()});
    all.into_iter().map(period).collect()
}

/// Fails with the first user that differs.
pub fn assert_same(found: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) {
    for (user, expected) in expected {
        let found = found.get(user).unwrap_or_else(|| panic!("{user} is missing"));
        let found = in_units(found.clone());
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(&found[key], value, "{key} of {user}");
        }
    }
    let more: Vec<_> = found.keys().filter(|user| !expected.contains_key(*user)).collect();
    assert!(more.is_empty(), "users that never sent an event: {more:?}");
}

/// The watched fraction in the 200ths that it is kept in.
fn in_units(mut user: Value) -> Value {
    for list in ["recent_watches", "recent_clicks"] {
        for entry in user[list].as_array_mut().expect("a list") {
            let fraction = entry["fraction"].as_f64().expect("a number");
            entry["fraction"] = ((fraction * 200.0).round() as i64).into();
        }
    }
    user
}

mod refusals;

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::event::Source;
use crate::ids::stable_hash;
use crate::time::{DAY_MS, EventTime, HOUR_MS, MINUTE_MS};

const PERIOD_MS: i64 = 28 * DAY_MS;
/// Some day in 2023, in the middle of a period.
const BASE: i64 = 1_700_000_000_000;

#[derive(Clone, Debug)]
struct Event {
    at: i64,
    id: u32,
    item: u8,
    session: u64,
    surface: u8,
    watched_ms: u64,
    duration_ms: u64,
}

impl Event {
    fn item(&self) -> String {
        format!("item-{}", self.item)
    }

    fn surface(&self) -> &'static str {
        ["", "home", "search"][usize::from(self.surface) % 3]
    }

    fn operand(&self, source: Source, out: &mut Vec<u8>) {
        let item = self.item();
        let is_watch = source == Source::Watch;
        let event = FoldEvent {
            source,
            at: EventTime::from_millis(self.at),
            id: self.id,
            session: self.session,
            watched_ms: if is_watch { self.watched_ms } else { 0 },
            duration_ms: if is_watch { self.duration_ms } else { 0 },
            item: &item,
            surface: self.surface(),
        };
        event.encode(out);
    }
}

/// The logs of one user: watches, clicks, each in its topic's order.
type Logs = [Vec<Event>; 2];

/// Times over a few hours, days or years: the same millisecond, aged buckets, forgotten periods.
fn at() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => (0..4i64).prop_map(|ms| BASE + ms),
        3 => (0..200i64).prop_map(|h| BASE + h * HOUR_MS / 2),
        3 => (-80..80i64).prop_map(|d| BASE + d * DAY_MS),
        2 => (-800..800i64).prop_map(|d| BASE + d * DAY_MS),
        1 => (-30..30i64, -2..3i64)
            .prop_map(|(n, ms)| (BASE / PERIOD_MS + n) * PERIOD_MS + ms),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let lengths = prop_oneof![Just(0u64), 1..10_000u64, 60_000..4_000_000u64];
    (at(), 0..4u32, 0..12u8, 0..3u64, 0..3u8, lengths.clone(), lengths).prop_map(
        |(at, id, item, session, surface, watched_ms, duration_ms)| Event {
            at,
            id,
            item,
            session,
            surface,
            watched_ms,
            duration_ms,
        },
    )
}

/// A log with events sent again later: at once, or long after.
fn log() -> impl Strategy<Value = Vec<Event>> {
    (vec(event(), 0..24), vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6))
        .prop_map(|(mut log, again)| {
            for (which, to) in again {
                if !log.is_empty() {
                    let event = log[which.index(log.len())].clone();
                    log.insert(to.index(log.len() + 1), event);
                }
            }
            log
        })
}

fn rules() -> impl Strategy<Value = FoldRules> {
    (1..8usize, prop_oneof![1..40u32, 40..400u32])
        .prop_map(|(history_limit, ttl_days)| FoldRules { history_limit, ttl_days })
}

/// Merges two logs, taking from the first where a flag is set, each in its own order.
fn interleave(logs: &Logs, flags: &[bool]) -> Vec<(Source, Event)> {
    let mut rest = [logs[0].iter(), logs[1].iter()];
    let mut flags = flags.iter().cycle();
    let mut merged = Vec::new();
    while merged.len() < logs[0].len() + logs[1].len() {
        let first = usize::from(!*flags.next().unwrap());
        for which in [first, 1 - first] {
            if let Some(event) = rest[which].next() {
                merged.push((Source::ALL[which], event.clone()));
                break;
            }
        }
    }
    merged
}

/// Folds in operands of the given sizes; every state but the last is written and read again.
fn fold(merged: &[(Source, Event)], sizes: &[usize], rules: &FoldRules) -> Vec<u8> {
    let mut bytes = UserState::default().encode();
    let mut sizes = sizes.iter().cycle();
    let mut rest = merged;
    while !rest.is_empty() {
        let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        let mut operand = Vec::new();
        now.iter().for_each(|(source, event)| event.operand(*source, &mut operand));
        let mut user = UserState::decode(&bytes).unwrap();
        user.fold(&operand, rules).unwrap();
        let next = user.encode();
        bytes = next;
        rest = later;
    }
    bytes
}

/// Folds everything at once, one topic after the other.
fn fold_plainly(logs: &Logs, rules: &FoldRules) -> Vec<u8> {
    fold(&interleave(logs, &[true]), &[usize::MAX], rules)
}

/// Time, id, item, fraction, duration, surface, session.
type OracleEntry = (i64, u32, String, u8, u32, String, u64);

/// What a user's state should be, computed from all events at once.
#[derive(Debug, PartialEq)]
struct Expected {
    /// By topic: time, id, item, fraction in 1/200, seconds, surface, session.
    recent: [Vec<OracleEntry>; 2],
    /// By start and width: watches, clicks, watched ms, completions, skips.
    buckets: BTreeMap<(i64, i64), [u64; 5]>,
    /// By index: events by hour of day, fingerprints of items beyond the history.
    periods: BTreeMap<i64, ([u64; 24], BTreeSet<u32>)>,
}

fn expected(logs: &Logs, rules: &FoldRules) -> Expected {
    let newest = logs.iter().flatten().map(|e| e.at).max();
    let floor = newest
        .map_or(0, |n| (n - i64::from(rules.ttl_days) * DAY_MS).div_euclid(PERIOD_MS) * PERIOD_MS);
    let mut it =
        Expected { recent: [vec![], vec![]], buckets: BTreeMap::new(), periods: BTreeMap::new() };
    for (which, log) in logs.iter().enumerate() {
        // The window of ids: the newest by (time, id) of what the topic has had so far.
        let mut all: BTreeMap<(i64, u32), &Event> = BTreeMap::new();
        let mut counted: Vec<&Event> = Vec::new();
        for event in log {
            let key = (event.at, event.id);
            if !all.keys().rev().take(rules.history_limit).any(|k| *k == key) {
                counted.push(event);
                all.entry(key).or_insert(event);
            }
        }
        let window: Vec<_> =
            all.iter().rev().take(rules.history_limit).filter(|(k, _)| k.0 >= floor).collect();
        let oldest = window.last().map(|(k, _)| **k);
        for event in counted.into_iter().filter(|e| e.at >= floor) {
            count(&mut it, Source::ALL[which], event, newest.unwrap());
            if Some((event.at, event.id)) < oldest {
                let fingerprint = (stable_hash(event.item().as_bytes()) >> 40) as u32;
                it.periods.entry(event.at / PERIOD_MS).or_default().1.insert(fingerprint);
            }
        }
        it.recent[which] = window.into_iter().rev().map(|(_, e)| entry(which, e)).collect();
    }
    it
}

fn count(it: &mut Expected, source: Source, event: &Event, newest: i64) {
    let width = if newest / HOUR_MS - event.at / HOUR_MS < 48 {
        HOUR_MS
    } else if newest / DAY_MS - event.at / DAY_MS < 14 {
        DAY_MS
    } else {
        7 * DAY_MS
    };
    let bucket = it.buckets.entry((event.at / width * width, width)).or_default();
    if source == Source::Click {
        bucket[1] += 1;
    } else {
        let (watched, duration) = (event.watched_ms, event.duration_ms);
        bucket[0] += 1;
        bucket[2] += watched;
        bucket[3] += u64::from(duration > 0 && watched * 100 >= duration * 95);
        bucket[4] += u64::from(watched < 3_000 && (duration == 0 || watched * 2 < duration));
    }
    let period = it.periods.entry(event.at / PERIOD_MS).or_default();
    period.0[(event.at % DAY_MS / HOUR_MS) as usize] += 1;
}

fn entry(which: usize, e: &Event) -> (i64, u32, String, u8, u32, String, u64) {
    let (fraction, seconds) = if which == 1 || e.duration_ms == 0 {
        (0, 0)
    } else {
        let part = u128::from(e.watched_ms) * 200 / u128::from(e.duration_ms);
        (part.min(255) as u8, e.duration_ms.div_ceil(1_000) as u32)
    };
    (e.at, e.id, e.item(), fraction, seconds, e.surface().to_owned(), e.session)
}

fn found(bytes: &[u8]) -> Expected {
    let user = UserState::decode(bytes).unwrap();
    let recent = Source::ALL.map(|source| {
        let entries = user.recent(source).iter();
        entries
            .map(|e| {
                let (item, surface) = (e.item.to_owned(), e.surface.to_owned());
                (e.at.millis(), e.id, item, e.fraction, e.duration_s, surface, e.session)
            })
            .collect()
    });
    let buckets = user.buckets().iter().map(|b| {
        let c = &b.counts;
        let counts = [c.watches, c.clicks, c.watched_ms, c.completions, c.skips];
        ((b.start.millis(), b.resolution.width_ms()), counts)
    });
    let periods = user.periods().iter();
    Expected {
        recent,
        buckets: buckets.collect(),
        periods: periods
            .map(|p| (p.index, (p.by_hour, p.seen.iter().copied().collect())))
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_state_is_what_its_events_say(logs in [log(), log()], rules in rules()) {
        prop_assert_eq!(found(&fold_plainly(&logs, &rules)), expected(&logs, &rules));
    }

    #[test]
    fn neither_interleaving_nor_grouping_changes_a_byte(
        logs in [log(), log()],
        flags in vec(any::<bool>(), 1..40),
        sizes in vec(prop_oneof![Just(1usize), 1..6usize, 1..60usize], 1..12),
        rules in rules(),
    ) {
        let merged = interleave(&logs, &flags);
        prop_assert_eq!(fold(&merged, &sizes, &rules), fold_plainly(&logs, &rules));
    }

    /// Within a topic the order counts only for what cannot be told from a new event: one that
    /// is sent again when `history_limit` newer ones of its topic have been seen.
    #[test]
    fn order_within_a_topic_changes_nothing_while_duplicates_fall_inside_the_window(
        logs in [log(), log()],
        shuffled in any::<u64>(),
        ttl_days in 1..400u32,
    ) {
        // One event per id and time, and a window that holds them all.
        let rules = FoldRules { history_limit: 64, ttl_days };
        let logs = logs.map(|log| {
            let mut first: BTreeMap<(i64, u32), Event> = BTreeMap::new();
            log.iter()
                .map(|e| first.entry((e.at, e.id)).or_insert_with(|| e.clone()).clone())
                .collect::<Vec<_>>()
        });
        let mut other = logs.clone();
        for (which, log) in other.iter_mut().enumerate() {
            let mut n = 0u64;
            log.sort_by_cached_key(|_| {
                n += 1;
                stable_hash(&[shuffled, n, which as u64].map(u64::to_le_bytes).concat())
            });
        }
        prop_assert_eq!(fold_plainly(&logs, &rules), fold_plainly(&other, &rules));
    }

    #[test]
    fn order_within_a_topic_changes_nothing_without_duplicates(
        events in vec((event(), any::<u64>()), 0..40),
        rules in rules(),
    ) {
        let mut events = events;
        for (n, (event, _)) in events.iter_mut().enumerate() {
            event.id = n as u32;
        }
        let mut logs: Logs = [vec![], vec![]];
        events.iter().for_each(|(e, _)| logs[usize::from(e.surface == 1)].push(e.clone()));
        events.sort_by_key(|(_, place)| *place);
        let mut other: Logs = [vec![], vec![]];
        events.iter().for_each(|(e, _)| other[usize::from(e.surface == 1)].push(e.clone()));
        prop_assert_eq!(fold_plainly(&logs, &rules), fold_plainly(&other, &rules));
    }

    #[test]
    fn a_state_reads_back_as_it_was_written(logs in [log(), log()], rules in rules()) {
        let bytes = fold_plainly(&logs, &rules);
        let user = UserState::decode(&bytes).unwrap();
        prop_assert_eq!(user.encode(), bytes.clone());
        prop_assert_eq!(UserState::last_heard(&bytes).unwrap().event, user.newest());
    }

    #[test]
    fn operands_read_back_as_they_were_written(logs in [log(), log()]) {
        let mut operand = Vec::new();
        let merged = interleave(&logs, &[true, false]);
        merged.iter().for_each(|(source, event)| event.operand(*source, &mut operand));
        let read: Vec<_> = fold_records(&operand).map(Result::unwrap).collect();
        prop_assert_eq!(read.len(), merged.len());
        let mut again = Vec::new();
        read.iter().for_each(|e| e.encode(&mut again));
        prop_assert_eq!(again, operand);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic(
        bytes in vec(any::<u8>(), 0..200),
        rules in rules(),
    ) {
        let _ = UserState::last_heard(&bytes);
        let _ = UserState::decode(&bytes).map(|u| u.encode());
        for version in [STATE_VERSION, STATE_VERSION + 1] {
            let versioned = [&[version], &bytes[..]].concat();
            let _ = UserState::last_heard(&versioned);
            let _ = UserState::decode(&versioned).map(|u| u.encode());
        }
        let _ = UserState::default().fold(&bytes, &rules);
    }

    #[test]
    fn damaged_states_are_refused_or_read_but_never_panic(
        logs in [log(), log()],
        rules in rules(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..4),
    ) {
        let mut bytes = fold_plainly(&logs, &rules);
        for (place, byte, how) in damage {
            let at = place.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mut operand = Vec::new();
        logs[0].iter().for_each(|e| e.operand(Source::Watch, &mut operand));
        if let Ok(mut user) = UserState::decode(&bytes) {
            let _ = user.fold(&operand, &rules);
            user.encode();
        }
    }

    /// What `FoldRules::is_aged_out` promises: by then it makes no difference whether a user's
    /// bytes are still there.
    #[test]
    fn an_aged_out_user_leaves_no_trace_in_what_comes_later(
        old in [log(), log()],
        later in [log(), log()],
        beyond in prop_oneof![1..3i64, 1..2_000_000_000i64],
        lateness in vec(prop_oneof![Just(0.0), Just(1.0), 0.0..1.0f64], 1..8),
        flags in vec(any::<bool>(), 1..20),
        rules in rules(),
    ) {
        let newest = old.iter().flatten().map(|e| e.at).max().unwrap_or(BASE);
        let ttl = i64::from(rules.ttl_days) * DAY_MS;
        let watermark = newest + 2 * ttl + PERIOD_MS + beyond;
        let (n, w) = (EventTime::from_millis(newest), EventTime::from_millis(watermark));
        prop_assert!(rules.is_aged_out(n, w));
        // As late as is allowed, or less.
        let mut late = lateness.iter().cycle();
        let later = later.map(|log| {
            let moved = log.into_iter().map(|e| {
                let at = watermark - (late.next().unwrap() * ttl as f64) as i64;
                Event { at, ..e }
            });
            moved.collect::<Vec<_>>()
        });
        for event in later.iter().flatten() {
            prop_assert!(!rules.is_too_late(EventTime::from_millis(event.at), w));
        }
        prop_assume!(later.iter().any(|log| !log.is_empty()));
        let mut merged = interleave(&old, &flags);
        let tail = interleave(&later, &flags);
        let without = fold(&tail, &[1], &rules);
        merged.extend(tail);
        prop_assert_eq!(fold(&merged, &[1], &rules), without);
    }
}

fn watch(at: i64, id: u32, item: u8) -> Event {
    Event { at, id, item, session: 1, surface: 1, watched_ms: 90_000, duration_ms: 100_000 }
}

#[test]
fn a_duplicate_beyond_the_window_counts_again_and_one_within_does_not() {
    let rules = FoldRules { history_limit: 2, ttl_days: 30 };
    let log: Vec<_> = (0..3).map(|n| watch(BASE + n, n as u32, n as u8)).collect();
    let watches = |again: usize| {
        let mut log = log.clone();
        log.push(log[again].clone());
        let bytes = fold_plainly(&[log, vec![]], &rules);
        UserState::decode(&bytes).unwrap().totals().watches
    };
    assert_eq!(watches(2), 3);
    assert_eq!(watches(1), 3);
    assert_eq!(watches(0), 4, "it has left the window and cannot be told from a new one");
}

#[test]
fn items_beyond_the_history_are_still_known_as_seen() {
    let rules = FoldRules { history_limit: 2, ttl_days: 30 };
    let log: Vec<_> = (0..9).map(|n| watch(BASE + n, n as u32, n as u8)).collect();
    let bytes = fold_plainly(&[log, vec![]], &rules);
    let user = UserState::decode(&bytes).unwrap();
    assert!((0..9).all(|n| user.has_seen(&format!("item-{n}"))));
    assert!(!user.has_seen("item-9"));
    assert!(user.has_seen_before("item-6") && !user.has_seen_before("item-7"));
}

#[test]
fn the_sketch_of_seen_items_is_bounded_and_the_same_in_any_order() {
    let rules = FoldRules { history_limit: 1, ttl_days: 30 };
    let operand = |n: u32| {
        let mut bytes = Vec::new();
        let item = format!("v{n}");
        let at = EventTime::from_millis(BASE + i64::from(n % 7));
        let event = FoldEvent {
            source: Source::Click,
            at,
            id: n,
            session: 0,
            watched_ms: 0,
            duration_ms: 0,
            item: &item,
            surface: "",
        };
        event.encode(&mut bytes);
        bytes
    };
    let forward: Vec<u8> = (0..6_000).flat_map(operand).collect();
    let backward: Vec<u8> = (0..6_000).rev().flat_map(operand).collect();
    let state = |operand: &[u8]| {
        let mut user = UserState::default();
        user.fold(operand, &rules).unwrap();
        assert_eq!(user.periods().iter().map(|p| p.seen.len()).max(), Some(4_096));
        user.encode()
    };
    assert_eq!(state(&forward), state(&backward));
}

#[test]
fn a_users_newest_event_makes_the_fold_forget_what_the_other_topic_brings_too_old() {
    let rules = FoldRules { history_limit: 3, ttl_days: 30 };
    let click = watch(BASE, 1, 1);
    let old = watch(BASE - 100 * DAY_MS, 2, 2);
    let first = fold_plainly(&[vec![old.clone()], vec![click.clone()]], &rules);
    let without = fold_plainly(&[vec![], vec![click.clone()]], &rules);
    assert_eq!(first, without);
    let merged = [(Source::Click, click), (Source::Watch, old)];
    assert_eq!(fold(&merged, &[1], &rules), without);
}

#[test]
fn a_count_that_lies_is_refused_without_the_memory_it_asks_for() {
    let huge = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    let valid = fold_plainly(&[vec![watch(BASE, 1, 1)], vec![]], &FoldRules::default());
    for at in 1..valid.len() {
        let mut bytes = valid[..at].to_vec();
        bytes.extend_from_slice(&huge);
        bytes.extend_from_slice(&valid[at..]);
        let _ = UserState::decode(&bytes);
        let mut sized = valid[..at].to_vec();
        // Four thousand million.
        sized.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]);
        assert!(UserState::decode(&sized).is_err());
    }
    let mut operand = Vec::new();
    watch(BASE, 1, 1).operand(Source::Watch, &mut operand);
    for at in 0..operand.len() {
        let mut bytes = operand[..at].to_vec();
        bytes.extend_from_slice(&huge);
        let _ = UserState::default().fold(&bytes, &FoldRules::default());
    }
}

#[test]
fn states_of_another_version_and_cut_states_are_refused() {
    let valid = fold_plainly(&[vec![watch(BASE, 1, 1)], vec![]], &FoldRules::default());
    let mut other = valid.clone();
    other[0] += 2;
    assert!(UserState::decode(&other).is_err());
    assert!(UserState::last_heard(&other).is_err());
    for len in 0..valid.len() {
        assert!(UserState::decode(&valid[..len]).is_err(), "cut to {len} bytes");
    }
    let mut longer = valid;
    longer.push(0);
    assert!(UserState::decode(&longer).is_err());
}

#[test]
fn sessions_are_the_users_own_and_a_utc_day_where_the_platform_has_none() {
    let at = |ms| EventTime::from_millis(ms);
    let midnight = BASE / DAY_MS * DAY_MS;
    assert_eq!(session_key(1, "", at(midnight)), session_key(1, "", at(midnight + DAY_MS - 1)));
    assert_ne!(session_key(1, "", at(midnight)), session_key(1, "", at(midnight - 1)));
    assert_ne!(session_key(1, "", at(midnight)), session_key(2, "", at(midnight)));
    assert_eq!(session_key(1, "s", at(0)), session_key(1, "s", at(BASE)));
    assert_ne!(session_key(1, "s", at(0)), session_key(2, "s", at(0)));
    assert_ne!(session_key(1, "s", at(0)), session_key(1, "", at(0)));
}

fn fixture_logs() -> Logs {
    let minutes = |n: i64| BASE + n * 7 * MINUTE_MS;
    let watches = (0..6).map(|n| Event {
        surface: n as u8,
        session: n / 3,
        watched_ms: 20_000 * n,
        ..watch(minutes(n as i64 * 60), n as u32, n as u8)
    });
    let clicks = (0..5).map(|n| watch(minutes(n * n * 300), 100 + n as u32, 3 + n as u8));
    [watches.collect(), clicks.collect()]
}

#[test]
fn a_state_that_version_2_wrote_is_still_read() {
    let rules = FoldRules { history_limit: 4, ttl_days: 30 };
    let bytes =
        crate::fixtures::bytes("user-state.v2.bin", || fold_plainly(&fixture_logs(), &rules));
    assert_eq!(found(&bytes), expected(&fixture_logs(), &rules));
    assert_eq!(fold_plainly(&fixture_logs(), &rules), bytes, "the same bytes are written now");
}

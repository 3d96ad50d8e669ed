//! A user's state as bytes: columns, so that what is alike lies together and compresses.
//!
//! `version, newest` (time + 1, 0 for none), what was refused where the version says that there
//! is some, `watches, clicks` (counts), `surfaces, sessions` (sorted dictionaries), then the
//! columns of the two lists one after the other, then buckets and periods. All numbers are
//! varints unless said otherwise; ascending ones are stored as differences.

use super::Corrupt;
use super::Positives;
use super::counters::{Bucket, Counts, Period, Resolution};
use super::recent::Entry;
use super::refusals::Refusals;
use super::state::{LastHeard, UserState};
use super::varint::{Reader, put};
use crate::event::Source;
use crate::time::EventTime;

/// First byte of a state in which nothing was refused or taken back: of nearly all, which so are
/// no byte longer for it. A store of another version is rebuilt from the log.
pub const VERSION: u8 = 2;
/// First byte of a state in which something was. A store holds both.
const WITH_REFUSALS: u8 = 3;

pub(super) fn encode(state: &UserState<'_>) -> Vec<u8> {
    let lists = Source::ALL.map(|source| state.recent(source));
    let entries = || lists.iter().flat_map(|l| l.iter());
    let n = lists[0].len() + lists[1].len();
    let mut out = Vec::with_capacity(64 + 24 * n);
    let has_refusals = !state.verdicts().is_empty();
    out.push(if has_refusals { WITH_REFUSALS } else { VERSION });
    put(&mut out, state.newest().map_or(0, |at| at.millis().unsigned_abs() + 1));
    if has_refusals {
        state.refusals().encode(&mut out);
    }
    put(&mut out, lists[0].len() as u64);
    put(&mut out, lists[1].len() as u64);

    let surfaces = sorted(entries().map(|e| e.surface));
    let sessions = sorted(entries().map(|e| e.session));
    put(&mut out, surfaces.len() as u64);
    for surface in &surfaces {
        put(&mut out, surface.len() as u64);
        out.extend_from_slice(surface.as_bytes());
    }
    put(&mut out, sessions.len() as u64);
    sessions.iter().for_each(|s| out.extend_from_slice(&s.to_le_bytes()));

    for list in lists {
        let mut before = 0;
        for entry in list {
            put(&mut out, (entry.at.millis() - before).unsigned_abs());
            before = entry.at.millis();
        }
    }
    entries().for_each(|e| out.extend_from_slice(&e.id.to_le_bytes()[..3]));
    entries().for_each(|e| put(&mut out, e.item.len() as u64));
    entries().for_each(|e| out.extend_from_slice(e.item.as_bytes()));
    lists[0].iter().for_each(|e| out.push(e.fraction));
    lists[0].iter().for_each(|e| put(&mut out, u64::from(e.duration_s)));
    entries().for_each(|e| put(&mut out, index_in(&surfaces, &e.surface)));
    entries().for_each(|e| put(&mut out, index_in(&sessions, &e.session)));

    encode_buckets(&mut out, state.buckets());
    encode_periods(&mut out, state.periods());
    out
}

fn encode_buckets(out: &mut Vec<u8>, buckets: &[Bucket]) {
    put(out, buckets.len() as u64);
    let mut before = 0;
    for bucket in buckets {
        out.push(bucket.resolution as u8);
        put(out, (bucket.start.millis() - before).unsigned_abs() / crate::time::HOUR_MS as u64);
        before = bucket.start.millis();
        let c = &bucket.counts;
        for count in [c.watches, c.clicks, c.watched_ms, c.completions, c.skips] {
            put(out, count);
        }
    }
}

fn encode_periods(out: &mut Vec<u8>, periods: &[Period]) {
    put(out, periods.len() as u64);
    for period in periods {
        put(out, period.index.unsigned_abs());
        let mask =
            period.by_hour.iter().enumerate().fold(0u64, |m, (h, &n)| m | u64::from(n > 0) << h);
        put(out, mask);
        period.by_hour.iter().filter(|&&n| n > 0).for_each(|&n| put(out, n));
        put(out, period.seen.len() as u64);
        let mut before = 0;
        for &fingerprint in &period.seen {
            put(out, u64::from(fingerprint - before));
            before = fingerprint;
        }
    }
}

fn sorted<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for value in values {
        // Neighbours share surface and session: most look-ups end at the last one found.
        if all.last() != Some(&value) && !all.contains(&value) {
            all.push(value);
        }
    }
    all.sort_unstable();
    all
}

fn index_in<T: Ord>(dictionary: &[T], value: &T) -> u64 {
    dictionary.partition_point(|other| other < value) as u64
}

pub(super) fn last_heard(bytes: &[u8]) -> Result<LastHeard, Corrupt> {
    let mut r = Reader::new(bytes);
    let Header { newest, has_refusals } = decode_header(&mut r)?;
    let feedback = if has_refusals { Refusals::decode(&mut r)?.newest() } else { None };
    Ok(LastHeard { event: newest, feedback })
}

struct Header {
    newest: Option<EventTime>,
    has_refusals: bool,
}

fn decode_header(r: &mut Reader<'_>) -> Result<Header, Corrupt> {
    let has_refusals = match r.byte()? {
        VERSION => false,
        WITH_REFUSALS => true,
        _ => return Err(Corrupt("written by another version")),
    };
    let newest = r.varint()?.checked_sub(1);
    let newest = newest.map(|ms| i64::try_from(ms).map(EventTime::from_millis)).transpose();
    let newest = newest.map_err(|_| Corrupt("a time is out of range"))?;
    Ok(Header { newest, has_refusals })
}

/// What was refused, and the two lists one after the other, but for surfaces and sessions, which
/// come last.
struct Lists<'a> {
    refusals: Refusals<'a>,
    watches: usize,
    entries: Vec<Entry<'a>>,
    surfaces: Vec<&'a str>,
    sessions: Vec<u64>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<UserState<'_>, Corrupt> {
    let mut r = Reader::new(bytes);
    let Lists { refusals, watches, mut entries, surfaces, sessions } = decode_lists(&mut r)?;
    for entry in &mut entries {
        entry.surface = lookup(&surfaces, r.varint()?)?;
    }
    for entry in &mut entries {
        entry.session = lookup(&sessions, r.varint()?)?;
    }
    let clicks = entries.split_off(watches);
    let buckets = decode_buckets(&mut r)?;
    let periods = decode_periods(&mut r)?;
    if !r.is_empty() {
        return Err(Corrupt("it has bytes left over"));
    }
    Ok(UserState::from_parts(refusals, entries, clicks, buckets, periods))
}

/// When what was liked, in no order, and what was said of items; without reading what follows the
/// lists.
pub(super) fn positives(bytes: &[u8]) -> Result<Positives, Corrupt> {
    let Lists { refusals, watches, entries, .. } = decode_lists(&mut Reader::new(bytes))?;
    let source = |place| if place < watches { Source::Watch } else { Source::Click };
    let liked = entries.iter().enumerate().filter(|(place, e)| e.is_positive(source(*place)));
    let liked = liked.map(|(_, entry)| (entry.at, entry.item)).collect();
    Ok(Positives::from_events(liked, refusals.verdicts()))
}

fn decode_lists<'a>(r: &mut Reader<'a>) -> Result<Lists<'a>, Corrupt> {
    let has_refusals = decode_header(r)?.has_refusals;
    let refusals = if has_refusals { Refusals::decode(r)? } else { Refusals::default() };
    if has_refusals && refusals.verdicts().is_empty() {
        return Err(Corrupt("it says that something was refused, and nothing was"));
    }
    let lens = [r.count()?, r.count()?];
    let n = lens[0] + lens[1];
    let surfaces = (0..r.count()?).map(|_| r.text()).collect::<Result<Vec<_>, _>>()?;
    let sessions = (0..r.count()?).map(|_| r.u64()).collect::<Result<Vec<_>, _>>()?;

    let mut entries = Vec::with_capacity(n);
    for len in lens {
        let mut at = 0i64;
        for _ in 0..len {
            at = at.checked_add_unsigned(r.varint()?).ok_or(Corrupt("a time is out of range"))?;
            entries.push(Entry {
                at: EventTime::from_millis(at),
                id: 0,
                item: "",
                fraction: 0,
                duration_s: 0,
                surface: "",
                session: 0,
            });
        }
    }
    for entry in &mut entries {
        entry.id = r.u24()?;
    }
    decode_items(r, &mut entries)?;
    for entry in &mut entries[..lens[0]] {
        entry.fraction = r.byte()?;
    }
    for entry in &mut entries[..lens[0]] {
        entry.duration_s =
            u32::try_from(r.varint()?).map_err(|_| Corrupt("a duration is out of range"))?;
    }
    Ok(Lists { refusals, watches: lens[0], entries, surfaces, sessions })
}

fn decode_items<'a>(r: &mut Reader<'a>, entries: &mut [Entry<'a>]) -> Result<(), Corrupt> {
    let lens = (0..entries.len()).map(|_| r.count()).collect::<Result<Vec<_>, _>>()?;
    let total = lens.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    let bytes = r.bytes(total.ok_or(Corrupt("a count exceeds the bytes left"))?)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Corrupt("a text is not UTF-8"))?;
    let mut from = 0;
    for (entry, len) in entries.iter_mut().zip(lens) {
        entry.item = text.get(from..from + len).ok_or(Corrupt("a text is not UTF-8"))?;
        from += len;
    }
    Ok(())
}

fn lookup<T: Copy>(dictionary: &[T], index: u64) -> Result<T, Corrupt> {
    usize::try_from(index)
        .ok()
        .and_then(|i| dictionary.get(i).copied())
        .ok_or(Corrupt("an index is out of range"))
}

fn decode_buckets(r: &mut Reader<'_>) -> Result<Vec<Bucket>, Corrupt> {
    let mut start = 0i64;
    (0..r.count()?)
        .map(|_| {
            let resolution = match r.byte()? {
                0 => Resolution::Hour,
                1 => Resolution::Day,
                2 => Resolution::Week,
                _ => return Err(Corrupt("an unknown bucket width")),
            };
            let hours = i64::try_from(r.varint()?).map_err(|_| Corrupt("a bucket's time"))?;
            start = hours
                .checked_mul(crate::time::HOUR_MS)
                .and_then(|ms| start.checked_add(ms))
                .ok_or(Corrupt("a bucket's time"))?;
            let counts = Counts {
                watches: r.varint()?,
                clicks: r.varint()?,
                watched_ms: r.varint()?,
                completions: r.varint()?,
                skips: r.varint()?,
            };
            Ok(Bucket { start: EventTime::from_millis(start), resolution, counts })
        })
        .collect()
}

fn decode_periods(r: &mut Reader<'_>) -> Result<Vec<Period>, Corrupt> {
    (0..r.count()?)
        .map(|_| {
            let index = i64::try_from(r.varint()?).map_err(|_| Corrupt("a period's time"))?;
            let mask = r.varint()?;
            let mut by_hour = [0; 24];
            for (hour, count) in by_hour.iter_mut().enumerate() {
                if mask >> hour & 1 == 1 {
                    *count = r.varint()?;
                }
            }
            let mut fingerprint = 0u32;
            let seen = (0..r.count()?)
                .map(|_| {
                    fingerprint = u32::try_from(r.varint()?)
                        .ok()
                        .and_then(|step| fingerprint.checked_add(step))
                        .ok_or(Corrupt("a fingerprint is out of range"))?;
                    Ok(fingerprint)
                })
                .collect::<Result<Vec<_>, Corrupt>>()?;
            Ok(Period { index, by_hour, seen })
        })
        .collect()
}

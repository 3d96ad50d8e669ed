//! A cut, a compaction, retention: stopped before or after every single thing that they do to the
//! store, then done again.

use std::collections::BTreeMap;

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;

use super::super::*;
use crate::objects::mortal::{Memory, mortal};
use crate::time::{DAY_MS, HOUR_MS};

const FOR_EVER: i64 = i64::MAX / 2;

fn lake_over(inner: &Memory, left: i64, after: bool) -> Lake {
    Lake::new(mortal(inner, left, after))
}

fn writer() -> TopicWriter {
    TopicWriter::new(subject_of("click-events").unwrap()).unwrap()
}

const TOPIC: &str = "click-events";
const BEGUN: i64 = 1_700_000_000_000;

fn value(offset: i64) -> Vec<u8> {
    // Three hours in turn, and now and then what is no record.
    if offset % 13 == 5 {
        return b"\xC3\x01 no record".to_vec();
    }
    let at = BEGUN + offset % 3 * HOUR_MS;
    format!(r#"{{"event_id":"e{offset}","user":"u","item":"i{offset}","event_time":{at}}}"#).into()
}

fn job(tail: &Tail, end: i64) -> Job {
    let start = tail.next.unwrap_or(0);
    let plan = tail.plan.clone().unwrap_or(Plan { start, end });
    let mut batch = Batch::default();
    // Offsets that are multiples of ten are marks of transactions.
    for offset in (plan.start..plan.end).filter(|o| o % 10 != 0) {
        batch.push(offset, BEGUN + DAY_MS, Some(&value(offset)));
    }
    let resumed = tail.plan.is_some();
    let chain = tail.chain.clone();
    Job { chain, cut: tail.cut, plan, resumed, whole: true, lost: None, batch }
}

/// One attempt: from what the lake says to `end`.
fn attempt(lake: &Lake, end: i64) -> Result<(), LakeError> {
    let writer = writer();
    loop {
        let tail = lake.tail(TOPIC, 0)?;
        if tail.next.unwrap_or(0) >= end {
            return Ok(());
        }
        // Cuts of another size each time: what is planned counts, not what would be planned.
        let size = 20 + end % 7;
        let to = (tail.next.unwrap_or(0) + size).min(end);
        let mut job = job(&tail, to);
        let mut cut = Lake::prepare(&writer, &mut job)?;
        lake.commit(&job, &mut cut)?;
    }
}

/// How often each offset is in files that a glob finds.
fn offsets(inner: &Memory) -> BTreeMap<i64, usize> {
    let lake = lake_over(inner, FOR_EVER, false);
    let mut counts = BTreeMap::new();
    for object in lake.objects.list(TOPIC).unwrap() {
        let bytes: Bytes = lake.objects.get(&object.key).unwrap().unwrap();
        let reader = SerializedFileReader::new(bytes).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            // The offset is the last column but one.
            let row = row.unwrap();
            *counts.entry(row.get_long(row.len() - 2).unwrap()).or_default() += 1;
        }
    }
    counts
}

fn expected(end: i64) -> BTreeMap<i64, usize> {
    (0..end).filter(|o| o % 10 != 0 && o % 13 != 5).map(|o| (o, 1)).collect()
}

#[test]
fn a_cut_that_dies_at_any_step_is_finished_by_the_next_attempt() {
    for after in [false, true] {
        let mut step = 1;
        loop {
            let inner = Memory::default();
            let first = attempt(&lake_over(&inner, step, after), 101);
            let seen = offsets(&inner);
            assert!(seen.values().all(|n| *n == 1), "step {step}: an offset is there twice");
            // The next one would cut otherwise, by itself.
            attempt(&lake_over(&inner, FOR_EVER, false), 103).unwrap();
            assert_eq!(offsets(&inner), expected(103), "step {step}, after: {after}");
            if first.is_ok() {
                break;
            }
            step += 1;
        }
        assert!(step > 20, "only {step} steps");
    }
}

#[test]
fn two_archivers_at_once_write_each_offset_once() {
    let inner = Memory::default();
    let both = [101, 103].map(|end| (lake_over(&inner, FOR_EVER, false), end));
    std::thread::scope(|scope| {
        for (lake, end) in &both {
            scope.spawn(move || {
                // Whoever meets the other begins again, as the archiver does.
                while let Err(error) = attempt(lake, *end) {
                    assert!(matches!(error, LakeError::Conflict(_)), "{error}");
                }
            });
        }
    });
    assert_eq!(offsets(&inner), expected(103));
}

#[test]
fn compaction_that_dies_at_any_step_never_shows_a_row_twice_and_heals() {
    let rules = CompactionRules { after_hours: 0, bytes: 1 << 20 };
    for after in [false, true] {
        let mut step = 1;
        loop {
            let inner = Memory::default();
            attempt(&lake_over(&inner, FOR_EVER, false), 103).unwrap();
            let before = offsets(&inner);
            let first = lake_over(&inner, step, after).compact(TOPIC, &rules, |_, _| {});
            assert!(offsets(&inner).values().all(|n| *n == 1), "step {step}: a row is there twice");
            let lake = lake_over(&inner, FOR_EVER, false);
            lake.compact(TOPIC, &rules, |_, _| {}).unwrap();
            assert_eq!(offsets(&inner), before, "step {step}, after: {after}");
            let live = lake.live_files(TOPIC).unwrap().0;
            let listed = lake.objects.list(TOPIC).unwrap();
            let key = |f: &DataFile| f.key.clone();
            assert!(live.iter().map(key).eq(listed.into_iter().map(|o| o.key)), "step {step}");
            // The last hour is not past the newest event yet.
            assert!(live.len() < 10, "{} files", live.len());
            if first.is_ok() {
                break;
            }
            step += 1;
        }
        assert!(step > 10, "only {step} steps");
    }
}

#[test]
fn a_file_that_an_archiver_brings_back_after_it_was_merged_goes_again() {
    let inner = Memory::default();
    let lake = lake_over(&inner, FOR_EVER, false);
    attempt(&lake, 103).unwrap();
    let old = lake.live_files(TOPIC).unwrap().0.remove(0);
    let bytes = lake.objects.get(&old.key).unwrap().unwrap();
    let rules = CompactionRules { after_hours: 0, bytes: 1 << 20 };
    lake.compact(TOPIC, &rules, |_, _| {}).unwrap();
    assert_eq!(lake.objects.get(&old.key).unwrap(), None);
    lake.objects.create(&old.key, bytes).unwrap();
    assert_eq!(lake.compact(TOPIC, &rules, |_, _| {}).unwrap().healed, 1);
    assert_eq!(offsets(&inner), expected(103));
}

#[test]
fn what_is_pinned_is_neither_merged_nor_expired() {
    let inner = Memory::default();
    let lake = lake_over(&inner, FOR_EVER, false);
    attempt(&lake, 60).unwrap();
    let topics = [TOPIC.to_owned()];
    let (name, pinned) = lake.pin(&topics, None).unwrap();
    assert_eq!(lake.pin(&topics, None).unwrap(), (name.clone(), pinned.clone()));
    // A day and a bit later, in event time.
    let mut later = job(&lake.tail(TOPIC, 0).unwrap(), 61);
    later.batch = Batch::default();
    let at = BEGUN + 2 * DAY_MS;
    let text = format!(r#"{{"user":"u","item":"i","event_time":{at}}}"#);
    later.batch.push(60, at, Some(text.as_bytes()));
    let mut cut = Lake::prepare(&writer(), &mut later).unwrap();
    lake.commit(&later, &mut cut).unwrap();

    let rules = CompactionRules { after_hours: 0, bytes: 1 << 20 };
    let done = lake.compact(TOPIC, &rules, |_, _| {}).unwrap();
    assert_eq!((done.merged, done.pinned), (0, 3));
    let expired = lake.expire(TOPIC, 1).unwrap();
    assert_eq!((expired.files, expired.pinned), (0, pinned.topics[TOPIC].files.len() as u64));
    for file in &pinned.topics[TOPIC].files {
        assert!(lake.objects.get(&file.key).unwrap().is_some(), "{} is gone", file.key);
    }
    lake.unpin(&name).unwrap();
    assert_eq!(lake.expire(TOPIC, 1).unwrap().files, expired.pinned);
    assert_eq!(offsets(&inner), [(60, 1)].into());
    let tail = lake.tail(TOPIC, 0).unwrap();
    assert_eq!(tail.next, Some(61), "retention does not move where archiving goes on");
    assert_eq!(lake.live_files(TOPIC).unwrap().0.len(), 1);
}

#[test]
fn a_topic_that_was_made_anew_is_another_generation() {
    let inner = Memory::default();
    let lake = lake_over(&inner, FOR_EVER, false);
    attempt(&lake, 30).unwrap();
    let old = lake.tail(TOPIC, 0).unwrap();
    lake.begin_anew(&old.chain).unwrap();
    lake.begin_anew(&old.chain).unwrap();
    let new = lake.tail(TOPIC, 0).unwrap();
    assert_eq!((new.chain.generation, new.next, new.cut), (1, None, 0));
    attempt(&lake, 30).unwrap();
    assert!(offsets(&inner).values().all(|n| *n == 2), "once in each generation");
}

#[test]
fn what_has_no_row_is_in_the_manifest() {
    let inner = Memory::default();
    let lake = lake_over(&inner, FOR_EVER, false);
    attempt(&lake, 103).unwrap();
    let manifests = lake.manifests(TOPIC).unwrap();
    let (mut rows, mut passed, mut absent) = (0, Vec::new(), 0);
    for manifest in manifests.values() {
        rows += manifest.rows;
        absent += manifest.absent;
        assert!(manifest.passed.by_class.keys().all(|class| class == "UnknownSchema"));
        passed.extend(manifest.passed.offsets.clone());
        let whole = manifest.rows + manifest.passed.count() + manifest.absent;
        assert_eq!(whole as i64, manifest.end - manifest.start);
    }
    let refused: Vec<_> = (0..103).filter(|o| o % 13 == 5 && o % 10 != 0).collect();
    assert_eq!(passed, refused.iter().map(|o| (*o, *o)).collect::<Vec<_>>());
    assert_eq!((rows, absent), (103 - 11 - refused.len() as u64, 11));
}

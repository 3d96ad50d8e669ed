//! Watches and clicks of the lake, in time order: what a candidate is judged by.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Progress, Run, TrainingError};
use crate::dataset::{Row, RowKind};
use crate::evaluation::Log;
use crate::ids::{ItemId, Prehashed, Surface, UserId, stable_hash};
use crate::lake::{DataFile, LakeRow};

const COLUMNS: [&str; 8] =
    ["event_id", "user", "item", "event_time", "surface", "session", "watched_ms", "duration_ms"];
/// Memory of an event, in bytes: in the log, and beside it while it is read.
const EVENT_BYTES: usize = 250;

/// Reads the newest events that memory holds, each once.
pub(super) fn read(run: &Run<'_>, progress: &mut dyn Progress) -> Result<Log, TrainingError> {
    let topics = &run.config.topics;
    let watches = (topics.watch_events(), false);
    let clicks = (topics.click_events(), true);
    let mut files: Vec<(&DataFile, bool)> = Vec::new();
    for (topic, are_clicks) in [&watches, &clicks] {
        let found = run.snapshot.topics.get(topic).into_iter();
        files.extend(found.flat_map(|found| &found.files).map(|file| (file, *are_clicks)));
    }
    // The hour is what follows the topic in a key: the newest hours of both first.
    let hour = |key: &str| key.split_once('/').map_or("", |(_, hour)| hour).to_owned();
    files.sort_by_cached_key(|(file, _)| std::cmp::Reverse(hour(&file.key)));
    let most = run.config.training.memory_bytes / EVENT_BYTES;
    let source: Arc<str> = "lake".into();
    let mut rows = Vec::new();
    let mut known: HashSet<u64, Prehashed> = HashSet::default();
    for (done, (file, are_clicks)) in (0..).zip(&files) {
        if !progress.at("reading events", done, files.len() as u64) {
            return Err(TrainingError::Stopped);
        }
        if rows.len() >= most {
            break;
        }
        run.lake.each_row(file, &COLUMNS, |row| {
            let id =
                stable_hash(format!("{are_clicks}/{}/{}", row.text(0), row.text(1)).as_bytes());
            let kind = kind_of(row, *are_clicks);
            if !row.text(1).is_empty() && !row.text(2).is_empty() && known.insert(id) {
                rows.push((row.time(3), id, row_of(row, kind, &source)));
            }
        })?;
    }
    // Whatever files they lie in, the log is the same.
    rows.sort_by_key(|(at, id, _)| (*at, *id));
    let mut log = Log::default();
    for (number, (.., mut row)) in (1..).zip(rows) {
        row.number = number;
        log.push(&row);
    }
    log.finish(None);
    Ok(log)
}

fn kind_of(row: &LakeRow<'_>, is_click: bool) -> RowKind {
    if is_click {
        return RowKind::Click;
    }
    let number = |column| u64::try_from(row.long(column)).unwrap_or(0);
    RowKind::Watch { watched_ms: number(6), duration_ms: Some(number(7)).filter(|ms| *ms > 0) }
}

fn row_of(row: &LakeRow<'_>, kind: RowKind, source: &Arc<str>) -> Row {
    let or_none = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Row {
        user: UserId::new(row.text(1)),
        item: ItemId::new(row.text(2)),
        at: row.time(3),
        surface: or_none(row.text(4)).map(Surface::new),
        session: or_none(row.text(5)),
        kind,
        source: Arc::clone(source),
        number: 0,
    }
}

//! The two public logs as numbered positives, oldest first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use driftline::dataset::{
    ColumnMapping, Dataset, Format, PERIOD_MS, RowKind, SESSIONS_EPOCH, period_of,
};
use driftline::ids::{ItemId, UserId};
use driftline::time::EventTime;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

/// What a user liked, by number.
#[derive(Clone, Copy)]
pub struct Event {
    pub user: u32,
    pub item: u32,
    pub at: EventTime,
}

/// A log, with the names of its items.
pub struct Log {
    pub events: Vec<Event>,
    pub items: Vec<ItemId>,
    pub users: usize,
}

/// A folder of the shared data; none, saying so, where it is absent.
pub fn folder(name: &str) -> Option<PathBuf> {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");
    let path = Path::new(&std::env::var("DRIFTLINE_DATA").unwrap_or(data.to_owned())).join(name);
    if !path.is_dir() {
        println!("skipped: {} is not there; DRIFTLINE_DATA names its parent", path.display());
        return None;
    }
    Some(path)
}

/// Every click of DIGINETICA. The clicks of a period are spread evenly over its week: only their
/// order is known.
pub fn diginetica(folder: &Path) -> Log {
    let rows: Vec<_> = read(Format::Sessions, folder).collect();
    let mut lines = HashMap::new();
    rows.iter().for_each(|row| *lines.entry(period_of(row.at)).or_insert(0i64) += 1);
    let mut before = HashMap::new();
    let spread = rows.into_iter().map(|row| {
        let period = period_of(row.at);
        let line = before.entry(period).or_insert(0i64);
        let into = *line * PERIOD_MS / lines[&period];
        *line += 1;
        (row.user, row.item, SESSIONS_EPOCH.plus_millis(period * PERIOD_MS + into))
    });
    numbered(spread)
}

/// Every long view of KuaiRand: watched to the end, or for 18 s (the publishers' definition),
/// after the up to 50 that each user had before the log begins, all at the time of the last.
pub fn kuairand(folder: &Path) -> Log {
    let long = read(Format::KuaiRand, folder).filter(|row| match row.kind {
        RowKind::Watch { watched_ms, duration_ms } => {
            watched_ms >= duration_ms.unwrap_or(u64::MAX).min(18_000)
        }
        RowKind::Impression | RowKind::Click | RowKind::NotInterested => false,
    });
    let mut before = histories(folder);
    before.sort_by_key(|(.., at)| *at);
    let log: Vec<_> = long.map(|row| (row.user, row.item, row.at)).collect();
    let begun = log.first().map_or(EventTime::default(), |(.., at)| *at);
    before.iter_mut().for_each(|(.., at)| *at = begun.min(*at));
    numbered(before.into_iter().chain(log))
}

fn histories(folder: &Path) -> Vec<(UserId, ItemId, EventTime)> {
    let mut events = Vec::new();
    for row in table(&folder.join("histories.parquet")) {
        let (mut user, mut at, mut items) = (UserId::from(""), EventTime::default(), Vec::new());
        for (name, field) in row.get_column_iter() {
            match (name.as_str(), field) {
                ("user_id", Field::Long(id)) => user = UserId::new(id.to_string()),
                ("last_time_ms", Field::Long(ms)) => at = EventTime::from_millis(*ms),
                ("long_watch_seq", Field::ListInternal(list)) => {
                    items.extend(list.elements().iter().map(|id| ItemId::new(id.to_string())));
                }
                _ => {}
            }
        }
        events.extend(items.into_iter().map(|item| (user.clone(), item, at)));
    }
    events
}

fn table(file: &Path) -> Vec<parquet::record::Row> {
    let reader = std::fs::File::open(file).expect("a file of the data set");
    let reader = SerializedFileReader::new(reader).expect("a Parquet file");
    let rows = reader.get_row_iter(None).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

fn read(format: Format, folder: &Path) -> impl Iterator<Item = driftline::dataset::Row> + use<> {
    let dataset = Dataset::open(format, folder, &ColumnMapping::default()).expect("a data set");
    dataset.map(|row| row.expect("a row"))
}

fn numbered(rows: impl Iterator<Item = (UserId, ItemId, EventTime)>) -> Log {
    let (mut users, mut numbers) = (HashMap::new(), HashMap::new());
    let (mut events, mut items) = (Vec::new(), Vec::new());
    for (user, item, at) in rows {
        let next = users.len() as u32;
        let user = *users.entry(user).or_insert(next);
        let item = *numbers.entry(item.clone()).or_insert_with(|| {
            items.push(item);
            items.len() as u32 - 1
        });
        events.push(Event { user, item, at });
    }
    assert!(events.is_sorted_by_key(|event| event.at), "the log is in time order");
    Log { events, items, users: users.len() }
}

/// What KuaiRand's catalogue says of a video.
pub struct Video {
    pub author: String,
    pub kind: String,
    pub tags: Vec<String>,
    pub duration_ms: Option<u64>,
}

/// KuaiRand's catalogue.
pub fn videos(folder: &Path) -> HashMap<String, Video> {
    let mut videos = HashMap::new();
    for row in table(&folder.join("videos.parquet")) {
        let of = |name: &str| row.get_column_iter().find(|(n, _)| *n == name).expect(name).1;
        let text = |name: &str| match of(name) {
            Field::Str(text) => text.clone(),
            Field::Null => String::new(),
            other => other.to_string(),
        };
        let duration = text("duration_ms").parse::<f64>().ok().filter(|ms| *ms > 0.0);
        let video = Video {
            author: text("author_id"),
            kind: text("upload_type"),
            tags: text("tag").split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect(),
            duration_ms: duration.map(|ms| ms as u64),
        };
        videos.insert(text("video_id"), video);
    }
    videos
}

//! What people liked, as `interactions` in the lake tells it: what a basis is trained on.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::checks::DataFacts;
use super::{Progress, Run, TrainingError};
use crate::event::{History, Interaction};
use crate::ids::Prehashed;
use crate::lake::{DataFile, LakeRow};
use crate::time::EventTime;

const COLUMNS: [&str; 5] =
    ["shard", "interactions", "kafka_partition", "kafka_generation", "kafka_offset"];
const FIELDS: [&str; 6] = ["source", "offset", "user", "item", "event_time", "history"];
/// Newest items of a golden list's history.
const HISTORY: usize = 16;

/// A record's place: generation of its topic, partition, offset.
type Place = (i32, i32, i64);

struct Like {
    place: Place,
    /// Its event's own place, by which what was sent twice is known: shard, whether a click, offset.
    event: (i32, bool, i64),
    at: EventTime,
    user: u64,
    item: u32,
}

/// All that was liked, in the order of the topic, each once.
pub(super) struct Likes {
    likes: Vec<Like>,
    items: Vec<String>,
    /// The newest event of each record.
    records: Vec<(Place, EventTime)>,
    /// By partition: its newest generation and where that ends in the snapshot.
    ends: BTreeMap<i32, (i32, i64)>,
    facts: DataFacts,
}

/// Where what is trained on ends.
pub(super) struct Split {
    /// The first event time that is held out.
    pub at: EventTime,
    /// By partition, the first offset of its newest generation that is not trained on.
    pub live_from: Vec<i64>,
}

impl Likes {
    /// Reads the newest files that memory holds.
    pub fn read(run: &Run<'_>, progress: &mut dyn Progress) -> Result<Self, TrainingError> {
        let topic = run.config.topics.interactions();
        let found = run.snapshot.topics.get(&topic).cloned().unwrap_or_default();
        let mut ends = BTreeMap::new();
        for (partition, generation, _, end) in found.offsets {
            let newest = ends.entry(partition).or_insert((generation, end));
            *newest = (*newest).max((generation, end));
        }
        // Keys sort by hour: the newest first.
        let mut files: Vec<&DataFile> = found.files.iter().collect();
        files.sort_by(|a, b| b.key.cmp(&a.key));
        let most = run.config.training.memory_bytes / size_of::<Like>();
        let mut reading = Reading::default();
        for (done, file) in (0..).zip(&files) {
            if !progress.at("reading interactions", done, files.len() as u64) {
                return Err(TrainingError::Stopped);
            }
            if reading.likes.len() >= most {
                reading.facts.files_left_out = files.len() as u64 - done;
                break;
            }
            run.lake.each_row(file, &COLUMNS, |row| reading.take(row))?;
        }
        Ok(reading.finish(ends))
    }

    /// Holds out the newest share of what was liked.
    pub fn split(&self, hold_out: f64) -> Split {
        let mut times: Vec<EventTime> = self.likes.iter().map(|like| like.at).collect();
        times.sort_unstable();
        let place = (times.len() as f64 * (1.0 - hold_out)) as usize;
        let last = times.len().saturating_sub(1);
        let at = times.get(place.min(last)).copied().unwrap_or_default();
        let mut from: BTreeMap<i32, i64> =
            self.ends.iter().map(|(partition, (_, end))| (*partition, *end)).collect();
        for ((generation, partition, offset), newest) in &self.records {
            let is_of_newest = self.ends.get(partition).is_some_and(|end| end.0 == *generation);
            if is_of_newest && *newest >= at {
                let first = from.entry(*partition).or_insert(*offset);
                *first = (*first).min(*offset);
            }
        }
        let partitions = from.keys().max().map_or(0, |last| last + 1);
        let live_from = (0..partitions).map(|p| from.get(&p).copied().unwrap_or(0)).collect();
        Split { at, live_from }
    }

    /// What is trained on.
    fn before(&self, split: &Split) -> impl Iterator<Item = &Like> {
        self.likes.iter().filter(|like| {
            let (generation, partition, offset) = like.place;
            let is_of_newest = self.ends.get(&partition).is_none_or(|end| end.0 == generation);
            !is_of_newest || split.live_from.get(partition as usize).is_none_or(|at| offset < *at)
        })
    }

    /// Gives what is trained on to `take`.
    pub fn each_before(&self, split: &Split, mut take: impl FnMut(&Interaction<'_>)) {
        for like in self.before(split) {
            take(&Interaction {
                user: like.user as i64,
                item: &self.items[like.item as usize],
                event_time: like.at.millis(),
                history: Some(History::default()),
                ..Interaction::default()
            });
        }
    }

    /// Users and likes that are trained on.
    pub fn sizes_before(&self, split: &Split) -> (usize, usize) {
        let users: HashSet<u64, Prehashed> = self.before(split).map(|like| like.user).collect();
        (users.len(), self.before(split).count())
    }

    /// What some users who liked something in the held out part had liked before, the newest first,
    /// each item once.
    pub fn histories_after(&self, split: &Split, count: usize) -> Vec<Vec<String>> {
        let mut users: Vec<u64> =
            self.likes.iter().filter(|like| like.at >= split.at).map(|like| like.user).collect();
        users.sort_unstable();
        users.dedup();
        let mut histories: HashMap<u64, Vec<(EventTime, u32)>, Prehashed> = HashMap::default();
        let wanted: HashSet<u64, Prehashed> = users.iter().copied().collect();
        for like in self.before(split).filter(|like| wanted.contains(&like.user)) {
            histories.entry(like.user).or_default().push((like.at, like.item));
        }
        let users = users.iter().filter_map(|user| histories.remove(user)).take(count);
        users
            .map(|mut history| {
                history.sort_unstable_by(|a, b| b.cmp(a));
                let mut before = HashSet::new();
                history.retain(|(_, item)| before.insert(*item));
                let named = history.iter().take(HISTORY);
                named.map(|(_, item)| self.items[*item as usize].clone()).collect()
            })
            .collect()
    }

    /// What the data looks like.
    pub fn facts(&self, split: EventTime) -> DataFacts {
        DataFacts { split_ms: split.millis(), ..self.facts.clone() }
    }
}

#[derive(Default)]
struct Reading {
    likes: Vec<Like>,
    items: Vec<String>,
    places: HashMap<String, u32>,
    records: Vec<(Place, EventTime)>,
    facts: DataFacts,
}

impl Reading {
    fn take(&mut self, row: &LakeRow<'_>) {
        let shard = row.long(0) as i32;
        let place = (row.long(3) as i32, row.long(2) as i32, row.long(4));
        let mut newest = EventTime::default();
        row.each(1, &FIELDS, |one| {
            let (at, item) = (one.time(4), one.text(3));
            newest = newest.max(at);
            self.facts.interactions += 1;
            if item.is_empty() {
                self.facts.without_item += 1;
                return;
            }
            if at.millis() <= 0 {
                self.facts.without_time += 1;
                return;
            }
            if !one.has(5) {
                return;
            }
            let item = match self.places.get(item) {
                Some(place) => *place,
                None => {
                    let place = self.items.len() as u32;
                    self.items.push(item.to_owned());
                    self.places.insert(item.to_owned(), place);
                    place
                }
            };
            let event = (shard, one.text(0) == "CLICK", one.long(1));
            self.likes.push(Like { place, event, at, user: one.long(2) as u64, item });
        });
        self.records.push((place, newest));
    }

    fn finish(mut self, ends: BTreeMap<i32, (i32, i64)>) -> Likes {
        // Offsets of a source rise within a record, and from record to record but for what was sent
        // again.
        self.likes.sort_by_key(|like| (like.place, like.event));
        let mut known: HashMap<(i32, i32, i32, bool), i64> = HashMap::new();
        let before = self.likes.len();
        self.likes.retain(|like| {
            let (generation, partition, _) = like.place;
            let (shard, is_click, offset) = like.event;
            let last = known.entry((generation, partition, shard, is_click)).or_insert(-1);
            let is_new = offset > *last;
            *last = offset.max(*last);
            is_new
        });
        let users: HashSet<u64, Prehashed> = self.likes.iter().map(|like| like.user).collect();
        let items: HashSet<u32> = self.likes.iter().map(|like| like.item).collect();
        let times = || self.likes.iter().map(|like| like.at.millis());
        let facts = DataFacts {
            liked: self.likes.len() as u64,
            sent_again: (before - self.likes.len()) as u64,
            users: users.len() as u64,
            items: items.len() as u64,
            from_ms: times().min().unwrap_or(0),
            to_ms: times().max().unwrap_or(0),
            ..self.facts
        };
        Likes { likes: self.likes, items: self.items, records: self.records, ends, facts }
    }
}

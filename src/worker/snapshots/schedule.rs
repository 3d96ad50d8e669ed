//! Which shard is due for a snapshot. Pure: callers say what time it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Subject;
use crate::state::snapshots::ShardName;

/// How soon a snapshot that failed is tried again, where its interval is not shorter.
const RETRY: Duration = Duration::from_secs(30);

/// The shards of a worker and their last snapshots.
pub(super) struct Schedule {
    interval: Duration,
    shards: BTreeMap<ShardName, Entry>,
    /// One is being sent.
    is_busy: bool,
}

struct Entry {
    subject: Subject,
    /// When it is due.
    due: Instant,
    /// When it was opened, or its last snapshot was made.
    since: Instant,
    /// How far the last snapshot that was begun has come.
    position: Option<u64>,
}

impl Schedule {
    pub fn new(interval: Duration) -> Self {
        Self { interval, shards: BTreeMap::new(), is_busy: false }
    }

    pub fn open(&mut self, shard: ShardName, subject: Subject, now: Instant) {
        let due = now + self.interval;
        let fresh = Entry { subject, due, since: now, position: None };
        self.shards.entry(shard).or_insert(fresh);
    }

    pub fn close(&mut self, shard: ShardName) {
        self.shards.remove(&shard);
    }

    /// Begins a snapshot of this shard, where it is due, none is under way, and no other has waited
    /// longer: else the first shards would take all turns where sending takes long.
    pub fn begin(&mut self, shard: ShardName, position: u64, now: Instant) -> Option<Subject> {
        let next = self.shards.iter().min_by_key(|(_, entry)| entry.due);
        let is_turn = next.is_some_and(|(first, entry)| *first == shard && entry.due <= now);
        if self.is_busy || !is_turn {
            return None;
        }
        let interval = self.interval;
        let entry = self.shards.get_mut(&shard)?;
        entry.due = now + interval;
        if entry.position == Some(position) {
            // There is nothing new: the last one is as good as one of now.
            entry.since = now;
            return None;
        }
        entry.position = Some(position);
        self.is_busy = true;
        Some(entry.subject.clone())
    }

    /// Begins the last snapshot of a shard, unless there is nothing new.
    pub fn begin_last(&mut self, shard: ShardName, position: u64) -> Option<Subject> {
        let entry = self.shards.get_mut(&shard)?;
        let is_new = entry.position.replace(position) != Some(position);
        is_new.then(|| entry.subject.clone())
    }

    pub fn made(&mut self, shard: ShardName, now: Instant) {
        self.is_busy = false;
        if let Some(entry) = self.shards.get_mut(&shard) {
            entry.since = now;
        }
    }

    pub fn failed(&mut self, shard: ShardName, now: Instant) {
        self.is_busy = false;
        let again = now + self.interval.min(RETRY);
        if let Some(entry) = self.shards.get_mut(&shard) {
            entry.due = again;
            entry.position = None;
        }
    }

    /// How long ago the oldest of the shards' last snapshots was made.
    pub fn oldest(&self, now: Instant) -> Duration {
        let ages = self.shards.values().map(|entry| now.duration_since(entry.since));
        ages.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::snapshots::ShardKind;

    const SECOND: Duration = Duration::from_secs(1);

    fn shard(partition: i32) -> ShardName {
        ShardName { kind: ShardKind::User, partition }
    }

    fn schedule(shards: i32, now: Instant) -> Schedule {
        let mut schedule = Schedule::new(10 * SECOND);
        let subject = Subject { identity: String::new(), read: Arc::new(|_, _| Ok(Vec::new())) };
        (0..shards).for_each(|p| schedule.open(shard(p), subject.clone(), now));
        schedule
    }

    #[test]
    fn shards_take_turns_also_where_sending_takes_longer_than_there_is_time() {
        let begun = Instant::now();
        let mut schedule = schedule(3, begun);
        assert!((0..3).all(|p| schedule.begin(shard(p), 1, begun + 9 * SECOND).is_none()));
        let mut turns = Vec::new();
        for n in 1..=9 {
            let now = begun + n * 10 * SECOND;
            let position = u64::from(n);
            let began = (0..3).find(|p| schedule.begin(shard(*p), position, now).is_some());
            assert!(
                (0..3).all(|p| schedule.begin(shard(p), position, now).is_none()),
                "one at once"
            );
            turns.push(began.unwrap());
            schedule.made(shard(began.unwrap()), now + 9 * SECOND);
        }
        assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_shard_without_anything_new_lets_the_others_pass() {
        let begun = Instant::now();
        let mut schedule = schedule(2, begun);
        let now = begun + 10 * SECOND;
        assert!(schedule.begin(shard(0), 5, now).is_some());
        schedule.made(shard(0), now);
        assert!(schedule.begin(shard(1), 5, now).is_some());
        schedule.made(shard(1), now);
        let now = begun + 20 * SECOND;
        assert!(schedule.begin(shard(0), 5, now).is_none(), "nothing is new");
        assert!(schedule.begin(shard(1), 6, now).is_some());
        assert_eq!(schedule.oldest(now), 10 * SECOND);
    }

    #[test]
    fn what_failed_is_tried_again_and_the_last_one_needs_something_new() {
        let begun = Instant::now();
        let mut schedule = schedule(1, begun);
        let now = begun + 10 * SECOND;
        assert!(schedule.begin(shard(0), 5, now).is_some());
        schedule.failed(shard(0), now);
        assert!(schedule.begin(shard(0), 5, now + 10 * SECOND).is_some());
        assert!(schedule.begin_last(shard(0), 5).is_none());
        assert!(schedule.begin_last(shard(0), 6).is_some());
        schedule.close(shard(0));
        assert!(schedule.begin_last(shard(0), 7).is_none());
    }
}

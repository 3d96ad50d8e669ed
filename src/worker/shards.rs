//! The shards that this worker owns, as its threads see them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::histories::Histories;
use super::ingest::position;
use super::joining::JoinState;
use super::shown::ShownMemory;
use super::snapshots::Snapshots;
use crate::event::EventTopic;
use crate::quality::Size;
use crate::state::Shard;
use crate::state::hot::Version;
use crate::state::snapshots::{ShardKind, ShardName};

/// A shard and where the log ended when it was assigned.
pub struct OwnedShard {
    /// The shard.
    pub shard: Shard,
    /// End of each log of events at assignment; -1 while the topic is not assigned.
    targets: [AtomicI64; EventTopic::ALL.len()],
    histories: Mutex<Histories>,
    shown: Arc<ShownMemory>,
    /// `None` where lists are not joined.
    join: Option<Mutex<JoinState>>,
    /// As of the last step of the join.
    join_size: Mutex<Size>,
}

impl OwnedShard {
    /// A shard none of whose topics is assigned yet, with so many bytes for what its users have
    /// liked and for what they were shown.
    pub fn new(
        shard: Shard,
        history_bytes: usize,
        shown_bytes: usize,
        join: Option<JoinState>,
    ) -> Self {
        let histories = Mutex::new(Histories::new(history_bytes));
        let shown = Arc::new(ShownMemory::new(shown_bytes));
        let targets = EventTopic::ALL.map(|_| AtomicI64::new(-1));
        let join_size =
            Mutex::new(join.as_ref().map(|joined| joined.join.size()).unwrap_or_default());
        Self { shard, targets, histories, shown, join: join.map(Mutex::new), join_size }
    }

    /// Has a snapshot made where one is due. Between two commits.
    pub(super) fn offer_snapshot(&self, snapshots: &Snapshots) {
        let (name, position) = self.for_snapshots();
        snapshots.offer(name, position, |folder| self.shard.store().checkpoint(folder));
    }

    /// Has the last snapshot made. After the last commit.
    pub(super) fn offer_last_snapshot(&self, snapshots: &Snapshots) {
        let (name, position) = self.for_snapshots();
        snapshots.offer_last(name, position, |folder| self.shard.store().checkpoint(folder));
    }

    fn for_snapshots(&self) -> (ShardName, u64) {
        let name = ShardName { kind: ShardKind::User, partition: self.shard.id() };
        (name, position(&self.shard.committed()))
    }

    /// What its users were shown.
    pub(super) fn shown(&self) -> &Arc<ShownMemory> {
        &self.shown
    }

    /// What its users have liked, for whoever commits.
    pub(super) fn histories(&self) -> MutexGuard<'_, Histories> {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its users were shown and what came of it, for whoever commits.
    pub(super) fn join(&self) -> Option<MutexGuard<'_, JoinState>> {
        let join = self.join.as_ref()?;
        Some(join.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How much its join held after its last step.
    pub(super) fn join_size(&self) -> MutexGuard<'_, Size> {
        self.join_size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where a topic's log ended when it was assigned.
    pub fn set_target(&self, topic: EventTopic, end: i64) {
        self.targets[topic as usize].store(end, Ordering::Release);
    }

    /// Whether the log is known to be as long as `version` says: a log that was made anew is not.
    pub fn reaches(&self, version: Version) -> bool {
        EventTopic::ALL.iter().all(|&topic| {
            let target = self.targets[topic as usize].load(Ordering::Acquire);
            version.of(topic) <= target.max(self.shard.position(topic))
        })
    }

    /// How far it is folded, committed or not.
    pub fn version(&self) -> Version {
        Version::new(|topic| self.shard.position(topic))
    }

    /// Records between what is folded and where the logs ended at assignment.
    pub fn lag(&self) -> i64 {
        EventTopic::ALL
            .iter()
            .map(|&topic| {
                let target = self.targets[topic as usize].load(Ordering::Acquire);
                (target - self.shard.position(topic)).max(0)
            })
            .sum()
    }

    /// Whether every topic is assigned and folded to where its log ended at assignment.
    pub fn is_restored(&self) -> bool {
        let assigned = self.targets.iter().all(|t| t.load(Ordering::Acquire) >= 0);
        assigned && self.lag() == 0
    }
}

/// All shards of a worker.
#[derive(Default)]
pub struct Shards {
    owned: RwLock<HashMap<i32, Arc<OwnedShard>>>,
    joined: AtomicBool,
}

impl Shards {
    /// The shard of a partition, where this worker owns it.
    pub fn get(&self, partition: i32) -> Option<Arc<OwnedShard>> {
        self.owned.read().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<OwnedShard>> {
        self.owned.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn insert(&self, partition: i32, shard: Arc<OwnedShard>) {
        self.owned.write().unwrap_or_else(PoisonError::into_inner).insert(partition, shard);
    }

    pub(super) fn remove(&self, partition: i32) {
        self.owned.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    pub(super) fn note_joined(&self) {
        self.joined.store(true, Ordering::Release);
    }

    /// Whether the group has ever assigned something, possibly nothing.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Whether it is known what the users of all of them were shown.
    pub fn know_what_was_shown(&self) -> bool {
        self.all().iter().all(|owned| owned.shown.is_warm())
    }

    /// How many are owned, and how many of them are not restored.
    pub fn counts(&self) -> (usize, usize) {
        let all = self.all();
        (all.len(), all.iter().filter(|s| !s.is_restored()).count())
    }
}

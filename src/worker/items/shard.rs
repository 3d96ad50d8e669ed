//! One item shard: its store, and the items that changed since the last commit.

use std::collections::HashMap;

use super::progress::{Part, ShardProgress};
use crate::embedding::{ItemFold, ItemState};
use crate::event::{Interaction, Interactions};
use crate::ids::stable_hash;
use crate::model::BasisVersion;
use crate::state::{Anchor, ItemStore, StoreError};

/// Items held in memory, changed or not; about 1.5 KB each. What is watched much is not read again
/// between two commits. Past it a commit comes early, and forgets them all.
const HELD_ITEMS: usize = 8_000;

/// One item shard, on the thread of its consumer.
pub(super) struct ItemShard {
    store: ItemStore,
    progress: ShardProgress,
    committed: ShardProgress,
    held: HashMap<Box<str>, Held>,
    /// What is still to be seen again before new records are folded.
    pub anchor: Option<Anchor>,
    /// Where the log ended when the shard was assigned.
    pub target: i64,
}

struct Held {
    hash: u64,
    state: ItemState,
    is_changed: bool,
}

/// What became of a record's interactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub new: u64,
    pub replayed: u64,
}

impl ItemShard {
    /// A shard over an opened store, continuing where the store ends.
    pub fn new(store: ItemStore) -> Result<Self, StoreError> {
        let progress: ShardProgress = store.progress()?.unwrap_or_default();
        let committed = progress.clone();
        Ok(Self { store, progress, committed, held: HashMap::new(), anchor: None, target: 0 })
    }

    /// Its store.
    pub fn store(&self) -> &ItemStore {
        &self.store
    }

    /// Records folded and committed, as snapshots count them.
    pub fn committed(&self) -> u64 {
        self.committed.statistics.next.unsigned_abs()
    }

    /// How far it has come, committed or not.
    pub fn progress(&self) -> &ShardProgress {
        &self.progress
    }

    /// The first offset to read of a log that begins at `low`: the last record folded, to know the
    /// log again by it, or the first that is there.
    pub fn start(&mut self, low: i64) -> i64 {
        if self.progress.statistics.next < low {
            self.progress.statistics.next = low;
            return low;
        }
        self.anchor = self.progress.anchor.filter(|anchor| anchor.offset >= low);
        self.anchor.map_or(self.progress.statistics.next, |anchor| anchor.offset)
    }

    /// Takes note of the bases that are live: begins a fold over those that are new, from their
    /// offset or from `low` where the log no longer has it, and ends the others.
    pub fn follow(&mut self, live: impl Fn(BasisVersion) -> bool, begin: &[(BasisVersion, i64)]) {
        self.progress.vectors.retain(|version, _| live(BasisVersion(*version)));
        for (version, from) in begin {
            self.progress.vectors.entry(version.0).or_insert_with(|| Part::from(*from));
        }
    }

    /// Folds a record of the partition, in order: statistics, and the vectors that are along.
    ///
    /// # Errors
    /// [`StoreError`] where an item cannot be read.
    pub fn fold(
        &mut self,
        fold: &mut ItemFold,
        anchor: Anchor,
        batch: &Interactions<'_>,
    ) -> Result<Outcome, StoreError> {
        let along = |version: &BasisVersion| {
            let part = self.progress.vectors.get(&version.0);
            self.progress.is_along(*version) && part.is_some_and(|p| p.next <= anchor.offset)
        };
        let versions: Vec<BasisVersion> = fold.versions().filter(along).collect();
        let mut outcome = Outcome::default();
        for one in &batch.interactions {
            let is_new = self.progress.statistics.is_new(batch.shard, one);
            outcome.new += u64::from(is_new);
            outcome.replayed += u64::from(!is_new);
            if is_new {
                let held = self.changed(one.item)?;
                held.state.learn_statistics(held.hash, one);
            }
            self.learn(fold, &versions, batch.shard, one)?;
        }
        let next = anchor.offset + 1;
        for version in versions {
            self.advance(version, next);
        }
        self.pass(anchor);
        Ok(outcome)
    }

    /// Folds a record that statistics have passed into the vectors that have not. Returns whether
    /// none is behind any more.
    ///
    /// # Errors
    /// [`StoreError`] where an item cannot be read.
    pub fn catch_up(
        &mut self,
        fold: &mut ItemFold,
        offset: i64,
        batch: &Interactions<'_>,
    ) -> Result<bool, StoreError> {
        let limit = self.progress.statistics.next;
        let behind = |version: &BasisVersion| {
            let part = self.progress.vectors.get(&version.0);
            part.is_some_and(|part| part.next <= offset && part.next < limit)
        };
        let versions: Vec<BasisVersion> = fold.versions().filter(behind).collect();
        if offset < limit {
            for one in &batch.interactions {
                self.learn(fold, &versions, batch.shard, one)?;
            }
        }
        let next = (offset + 1).min(limit);
        for version in versions {
            self.advance(version, next);
        }
        Ok(self.progress.behind().is_none())
    }

    fn learn(
        &mut self,
        fold: &mut ItemFold,
        versions: &[BasisVersion],
        shard: i32,
        one: &Interaction<'_>,
    ) -> Result<(), StoreError> {
        for version in versions {
            let part = self.progress.vectors.get_mut(&version.0);
            if part.is_some_and(|part| part.is_new(shard, one)) && one.history.is_some() {
                let held = self.changed(one.item)?;
                fold.learn_vector(*version, &mut held.state, held.hash, one);
            }
        }
        Ok(())
    }

    fn advance(&mut self, version: BasisVersion, next: i64) {
        if let Some(part) = self.progress.vectors.get_mut(&version.0) {
            part.next = part.next.max(next);
        }
    }

    /// Moves past a record, folded or not readable. Vectors that are along move too: they are not
    /// behind for what nobody can fold.
    pub fn pass(&mut self, anchor: Anchor) {
        let before = self.progress.statistics.next;
        let next = anchor.offset + 1;
        for part in self.progress.vectors.values_mut().filter(|part| part.next == before) {
            part.next = next;
        }
        self.progress.statistics.next = next;
        self.progress.anchor = Some(anchor);
    }

    fn changed(&mut self, item: &str) -> Result<&mut Held, StoreError> {
        if !self.held.contains_key(item) {
            let state = match self.store.get(item)? {
                Some(bytes) => {
                    ItemState::decode(&bytes).map_err(|e| self.store.damaged(item, &e))?
                }
                None => ItemState::default(),
            };
            let hash = stable_hash(item.as_bytes());
            self.held.insert(item.into(), Held { hash, state, is_changed: false });
        }
        match self.held.get_mut(item) {
            Some(held) => {
                held.is_changed = true;
                Ok(held)
            }
            None => unreachable!("it was inserted above"),
        }
    }

    /// Whether so many items are held that it is time to commit.
    pub fn is_full(&self) -> bool {
        self.held.len() >= HELD_ITEMS
    }

    /// Items that changed since the last commit, without vectors over bases that are not `live`.
    pub fn changes(
        &mut self,
        is_live: impl Fn(BasisVersion) -> bool,
    ) -> impl Iterator<Item = (&str, u64, &ItemState)> {
        let changed = self.held.iter_mut().filter(|(_, held)| held.is_changed);
        changed.map(move |(item, held)| {
            held.state.retain_vectors(&is_live);
            (&**item, held.hash, &held.state)
        })
    }

    /// Writes what changed since the last commit, and how far that is, as one.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written; nothing of the commit is then there.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if self.progress == self.committed {
            return Ok(());
        }
        let changed = self.held.iter().filter(|(_, held)| held.is_changed);
        let encoded = changed.map(|(item, held)| (&**item, held.state.encode()));
        self.store.commit(encoded, &self.progress)?;
        self.committed = self.progress.clone();
        match self.is_full() {
            true => self.held.clear(),
            false => self.held.values_mut().for_each(|held| held.is_changed = false),
        }
        Ok(())
    }
}

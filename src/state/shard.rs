//! One user shard: its store, and the events folded since the last commit.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::joined::Change;
use super::pending::{Origin, Pending};
use super::progress::{Anchor, Input, Progress, SourceProgress};
use super::store::{ShardStore, StoreError};
use crate::feature::{Corrupt, FoldRecord, FoldRules, UserState};
use crate::time::EventTime;

/// One user shard. Written by the thread that consumes its events and by the thread that
/// commits; read by every serving thread.
pub struct Shard {
    id: i32,
    store: ShardStore,
    folded: Mutex<Folded>,
    /// Next offset to fold of each topic, as readers see it.
    positions: [AtomicI64; 4],
}

struct Folded {
    active: Pending,
    lists: Vec<NotedList>,
    /// Of all of them.
    list_bytes: usize,
    progress: Progress,
    /// Being committed.
    frozen: Option<Arc<Frozen>>,
    /// What the store holds.
    committed: Progress,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folding {
    /// It is folded; so many bytes wait for a commit.
    Done {
        /// Bytes.
        waiting_bytes: usize,
    },
    /// It is older than the time to live, counted from the newest event of its topic.
    TooLate {
        /// The newest event.
        watermark: EventTime,
    },
}

impl Folded {
    /// Bytes that wait for a commit.
    fn bytes(&self) -> usize {
        self.active.bytes() + self.list_bytes
    }
}

/// A record of `impressions`, as it was read.
pub struct NotedList {
    /// Its offset.
    pub offset: i64,
    /// When the broker had it.
    pub appended: EventTime,
    /// Its value.
    pub value: Box<[u8]>,
}

/// What one commit writes.
pub struct Frozen {
    /// The events.
    pub pending: Pending,
    /// Lists for whoever joins, in the order of the log.
    pub lists: Vec<NotedList>,
    /// How far they reach.
    pub progress: Progress,
}

impl Shard {
    /// A shard over an opened store, continuing where the store ends.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn new(id: i32, store: ShardStore) -> Result<Self, StoreError> {
        let progress = store.progress()?;
        let positions = Input::ALL.map(|t| AtomicI64::new(progress.of(t).next_offset));
        let folded = Folded {
            active: Pending::default(),
            lists: Vec::new(),
            list_bytes: 0,
            progress,
            frozen: None,
            committed: progress,
        };
        Ok(Self { id, store, folded: Mutex::new(folded), positions })
    }

    /// The partition that this shard is.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The store under it.
    pub fn store(&self) -> &ShardStore {
        &self.store
    }

    /// How far it has folded, committed or not.
    pub fn progress(&self) -> Progress {
        self.lock().progress
    }

    /// How far its store has come.
    pub fn committed(&self) -> Progress {
        self.lock().committed
    }

    /// The next offset to fold of a topic: everything below it shows in reads.
    pub fn position(&self, topic: impl Into<Input>) -> i64 {
        self.positions[topic.into().number()].load(Ordering::Acquire)
    }

    /// Goes on at `offset` of a topic, whatever was read of it before.
    pub fn start_at(&self, topic: impl Into<Input>, offset: i64) {
        let topic = topic.into();
        let mut folded = self.lock();
        let progress = folded.progress.of_mut(topic);
        (progress.next_offset, progress.anchor) = (offset, None);
        drop(folded);
        self.positions[topic.number()].store(offset, Ordering::Release);
    }

    /// Folds one record of `user`, whose [`stable_hash`](crate::ids::stable_hash) is `hash`, and
    /// moves past the record it came in.
    pub fn fold(
        &self,
        user: &str,
        hash: u64,
        one: &FoldRecord<'_>,
        origin: Origin,
        anchor: Anchor,
    ) -> Folding {
        let (topic, at) = (one.topic(), one.at());
        let mut folded = self.lock();
        let progress = folded.progress.of_mut(topic);
        if let Some(watermark) = progress.watermark.map(EventTime::from_millis)
            && self.store.rules().is_too_late(at, watermark)
        {
            return Folding::TooLate { watermark };
        }
        *progress = SourceProgress {
            next_offset: anchor.offset + 1,
            watermark: progress.watermark.max(Some(at.millis())),
            anchor: Some(anchor),
        };
        folded.active.push(user, hash, anchor.offset, origin, one);
        let waiting_bytes = folded.bytes();
        drop(folded);
        self.positions[Input::from(topic).number()].store(anchor.offset + 1, Ordering::Release);
        Folding::Done { waiting_bytes }
    }

    /// Keeps a record of `impressions` for whoever joins, and moves past it. Returns the bytes that
    /// wait for a commit.
    pub fn note(&self, value: &[u8], appended: EventTime, anchor: Anchor) -> usize {
        let mut folded = self.lock();
        folded.lists.push(NotedList { offset: anchor.offset, appended, value: value.into() });
        folded.list_bytes += size_of::<NotedList>() + value.len();
        let progress = folded.progress.of_mut(Input::Impressions);
        (progress.next_offset, progress.anchor) = (anchor.offset + 1, Some(anchor));
        let waiting_bytes = folded.bytes();
        drop(folded);
        let position = &self.positions[Input::Impressions.number()];
        position.store(anchor.offset + 1, Ordering::Release);
        waiting_bytes
    }

    /// Moves past a record that is not folded: a dead letter, or one that is no event.
    pub fn skip(&self, topic: impl Into<Input>, anchor: Anchor) {
        let topic = topic.into();
        let mut folded = self.lock();
        let progress = folded.progress.of_mut(topic);
        progress.next_offset = anchor.offset + 1;
        progress.anchor = Some(anchor);
        drop(folded);
        self.positions[topic.number()].store(anchor.offset + 1, Ordering::Release);
    }

    /// Events and bytes that wait for a commit.
    pub fn waiting(&self) -> (usize, usize) {
        let folded = self.lock();
        (folded.active.len(), folded.bytes())
    }

    /// Takes what was folded since the last call, for [`Shard::commit`]. `None` where nothing
    /// moved, or where the previous one is not yet committed.
    pub fn freeze(&self) -> Option<Arc<Frozen>> {
        let mut folded = self.lock();
        if folded.frozen.is_some() || folded.progress == folded.committed {
            return None;
        }
        let frozen = Arc::new(Frozen {
            pending: std::mem::take(&mut folded.active),
            lists: std::mem::take(&mut folded.lists),
            progress: folded.progress,
        });
        folded.list_bytes = 0;
        folded.frozen = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    /// Writes what [`Shard::freeze`] took, and what was joined with it.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written; the events stay readable and may be
    /// committed again.
    pub fn commit(&self, frozen: &Frozen, joined: &[Change]) -> Result<(), StoreError> {
        self.store.commit(&frozen.pending, &frozen.progress, joined)?;
        let mut folded = self.lock();
        folded.frozen = None;
        folded.committed = frozen.progress;
        Ok(())
    }

    /// Everything known of one user, committed or not.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn read(&self, user: &str) -> Result<UserBytes, StoreError> {
        let mut operand = Vec::new();
        let folded = self.lock();
        let frozen = folded.frozen.clone();
        let mut active = Vec::new();
        folded.active.append_operand(user, &mut active);
        drop(folded);
        // Uncommitted events first, then the store: a commit in between shows events twice, and
        // the fold drops them as duplicates. The other way round they could be missed.
        let state = self.store.get(user)?;
        if let Some(frozen) = frozen {
            frozen.pending.append_operand(user, &mut operand);
        }
        operand.append(&mut active);
        Ok(UserBytes { state, operand, rules: *self.store.rules() })
    }

    /// Whether anything is known of a user, committed or not.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn knows(&self, user: &str) -> Result<bool, StoreError> {
        let folded = self.lock();
        let frozen = folded.frozen.as_ref().map(|frozen| &frozen.pending);
        let is_pending = folded.active.has(user.as_bytes())
            || frozen.is_some_and(|pending| pending.has(user.as_bytes()));
        drop(folded);
        Ok(is_pending || self.store.get(user)?.is_some())
    }

    fn lock(&self) -> MutexGuard<'_, Folded> {
        // Nothing that holds the lock panics half-way through an update.
        self.folded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A user's state as stored, and the events to fold into it.
pub struct UserBytes {
    state: Option<Vec<u8>>,
    operand: Vec<u8>,
    rules: FoldRules,
}

impl UserBytes {
    #[cfg(test)]
    pub(super) fn of(state: Option<Vec<u8>>, operand: Vec<u8>, rules: FoldRules) -> Self {
        Self { state, operand, rules }
    }

    /// The user's state. Borrows the texts.
    ///
    /// # Errors
    /// [`Corrupt`] where the stored bytes are damaged.
    pub fn state(&self) -> Result<UserState<'_>, Corrupt> {
        let mut user = match &self.state {
            Some(bytes) => UserState::decode(bytes)?,
            None => UserState::default(),
        };
        if !self.operand.is_empty() {
            user.fold(&self.operand, &self.rules)?;
        }
        Ok(user)
    }
}

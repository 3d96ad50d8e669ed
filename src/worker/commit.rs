//! Commits what was folded: interactions out, then state and offsets in one batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use metrics::{Histogram, histogram};

use super::Context;
use super::hot::HotTier;
use super::joining::Joining;
use super::shards::OwnedShard;
use super::snapshots::Snapshots;
use crate::event::{Interaction, Interactions};
use crate::feature::FoldRecord;
use crate::ids::stable_hash;
use crate::kafka::{Delivery, Outgoing, Producer, Tracker, partition_of};
use crate::runtime::Urgency;
use crate::state::{Frozen, StoreError};
use crate::telemetry::names;

/// Interactions in one record at most: with full histories about 160 KB, far below a broker's limit
/// for a record.
const RECORD_INTERACTIONS: usize = 500;

/// How long deliveries may take before the worker gives up and starts over from its last commit.
/// Longer than the producer's own limit, which reports first.
const DELIVERY_LIMIT: Duration = Duration::from_secs(150);

/// Why a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// What was derived could not be delivered.
    #[error("{0}")]
    Delivery(String),
    /// A shard's store could not be written.
    #[error("{source}")]
    Store {
        /// The shard.
        shard: i32,
        /// Why.
        source: StoreError,
    },
}

/// Publishes and commits, on the thread that calls.
pub struct Committer {
    producer: Arc<Producer>,
    /// Dead letters and rerouted records of this ingest thread.
    tracker: Arc<Tracker>,
    topic: String,
    partitions: i32,
    hot: Option<Arc<HotTier>>,
    snapshots: Option<Arc<Snapshots>>,
    learn_vectors: bool,
    joining: Joining,
    seconds: Histogram,
}

impl Committer {
    pub fn new(context: &Context, producer: Arc<Producer>, tracker: Arc<Tracker>) -> Self {
        Self {
            joining: Joining::new(context, Arc::clone(&producer), Arc::clone(&tracker)),
            producer,
            tracker,
            topic: context.config.topics.interactions(),
            partitions: context.interaction_partitions,
            hot: context.hot.clone(),
            snapshots: context.snapshots.clone(),
            learn_vectors: context.config.items.learn_vectors,
            seconds: histogram!(names::COMMIT_SECONDS),
        }
    }

    /// Commits everything that the shards have folded so far.
    ///
    /// # Errors
    /// Where a delivery or a write failed. Nothing is lost: the log is read again from the last
    /// commit.
    pub fn commit(&self, shards: &[Arc<OwnedShard>]) -> Result<(), CommitError> {
        self.commit_all(shards)?;
        if let Some(snapshots) = &self.snapshots {
            shards.iter().for_each(|owned| owned.offer_snapshot(snapshots));
        }
        Ok(())
    }

    fn commit_all(&self, shards: &[Arc<OwnedShard>]) -> Result<(), CommitError> {
        let begun = Instant::now();
        let frozen: Vec<_> = shards
            .iter()
            .filter_map(|owned| owned.shard.freeze().map(|frozen| (owned, frozen)))
            .collect();
        if frozen.is_empty() {
            return Ok(());
        }
        let mut joined = Vec::with_capacity(frozen.len());
        for (owned, frozen) in &frozen {
            self.publish(owned, frozen)?;
            joined.push(self.joining.join(owned, frozen)?);
        }
        // Before the offsets move, all that was derived from the records below them is safe:
        // interactions, dead letters, rerouted records.
        self.tracker.wait(DELIVERY_LIMIT).map_err(CommitError::Delivery)?;
        for ((owned, frozen), joined) in frozen.iter().zip(&joined) {
            let failed = |source| CommitError::Store { shard: owned.shard.id(), source };
            owned.shard.commit(frozen, joined).map_err(failed)?;
            if let Some(hot) = &self.hot {
                hot.offer(owned, frozen);
            }
        }
        self.seconds.record(begun.elapsed());
        Ok(())
    }

    fn publish(&self, owned: &OwnedShard, frozen: &Frozen) -> Result<(), CommitError> {
        let shard = owned.shard.id();
        let mut histories = owned.histories();
        histories.begin_commit();
        let mut by_partition: BTreeMap<i32, Vec<Interaction<'_>>> = BTreeMap::new();
        for one in frozen.pending.events() {
            let event = match one.record {
                FoldRecord::Event(event) => event,
                // Of items nothing is told: `interactions` says what was watched and clicked.
                FoldRecord::Verdict(verdict) => {
                    histories.judge(one.user_hash, &verdict);
                    continue;
                }
            };
            let mut interaction = event.interaction(one.user_hash, one.offset);
            if self.learn_vectors && event.is_positive() {
                // The store is as of the last commit: it holds nothing of these events yet.
                let read = || owned.shard.store().positives(frozen.pending.user(&one));
                let item = stable_hash(event.item.as_bytes());
                let history = histories.like(one.user_hash, item, event.at, read);
                let failed = |source| CommitError::Store { shard, source };
                interaction.history = history.map_err(failed)?;
            }
            let partition = partition_of(event.item.as_bytes(), self.partitions);
            let batch = by_partition.entry(partition).or_default();
            batch.push(interaction);
            if batch.len() == RECORD_INTERACTIONS {
                self.send(shard, partition, std::mem::take(batch))?;
            }
        }
        for (partition, batch) in by_partition {
            if !batch.is_empty() {
                self.send(shard, partition, batch)?;
            }
        }
        Ok(())
    }

    fn send(
        &self,
        shard: i32,
        partition: i32,
        interactions: Vec<Interaction<'_>>,
    ) -> Result<(), CommitError> {
        let failed = |error: &dyn std::fmt::Display| CommitError::Delivery(error.to_string());
        let value = Interactions { shard, interactions }.encode().map_err(|e| failed(&e))?;
        let outgoing = Outgoing {
            topic: &self.topic,
            partition: Some(partition),
            value: &value,
            ..Outgoing::default()
        };
        self.producer
            .send(&outgoing, Delivery::Tracked(Arc::clone(&self.tracker)))
            .map_err(|e| failed(&e))
    }
}

/// A thread that commits while the ingest thread goes on folding.
pub struct CommitThread {
    work: Sender<Vec<Arc<OwnedShard>>>,
    done: Receiver<Result<(), CommitError>>,
    busy: bool,
}

impl CommitThread {
    pub fn start(committer: Arc<Committer>, name: &str) -> std::io::Result<Self> {
        let (work, orders) = channel::<Vec<Arc<OwnedShard>>>();
        let (report, done) = channel();
        crate::runtime::spawn(name, Urgency::Soon, move || {
            while let Ok(shards) = orders.recv() {
                if report.send(committer.commit(&shards)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { work, done, busy: false })
    }

    /// Begins to commit, unless the last time is not over yet. Returns whether it began.
    pub fn begin(
        &mut self,
        shards: impl FnOnce() -> Vec<Arc<OwnedShard>>,
    ) -> Result<bool, CommitError> {
        self.poll()?;
        if self.busy {
            return Ok(false);
        }
        self.work.send(shards()).map_err(|_| ended())?;
        self.busy = true;
        Ok(true)
    }

    /// Hears how the last commit went, where it is over.
    pub fn poll(&mut self) -> Result<(), CommitError> {
        match self.done.try_recv() {
            Ok(result) => {
                self.busy = false;
                result
            }
            Err(_) => Ok(()),
        }
    }

    /// Waits until the last commit is over.
    pub fn wait(&mut self) -> Result<(), CommitError> {
        if !self.busy {
            return Ok(());
        }
        self.busy = false;
        self.done.recv().map_err(|_| ended())?
    }
}

fn ended() -> CommitError {
    CommitError::Delivery("the commit thread has ended".into())
}

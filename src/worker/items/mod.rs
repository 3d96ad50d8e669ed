//! Item shards: folds `interactions` into item states, and publishes what changed.
//!
//! A member of a group of its own, so that items are spread over the workers whatever users are. A
//! flush sends one record for each item that changed since the last one, waits for their delivery,
//! and commits states and progress in one batch: what was folded after it is folded again.

mod feed;
mod first_basis;
mod progress;
mod publish;
mod shard;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};

use super::snapshots::restoring::{self, Restorer};
use super::snapshots::{ReadSources, Subject};
use super::stores::{hash_of, set_aside};
use super::{Context, WorkerError};
use crate::embedding::{ITEM_STATE_VERSION, ItemFold};
use crate::event::Interactions;
use crate::kafka::{
    Assigned, GroupConsumer, HandlerError, Log, Position, Reader, Record, RecordHandler,
    TopicPartition, partition_of,
};
use crate::model::BasisVersion;
use crate::runtime::{self, Urgency};
use crate::state::snapshots::{ShardKind, ShardName, SourcePosition};
use crate::state::{Access, Anchor, ItemStore, StoreError, StoreResources};
use crate::telemetry::names;
use progress::ShardProgress;
use publish::Publisher;
use shard::ItemShard;

pub use shared::SharedItems;

/// Ends before the worker does where no first basis is wanted.
pub const FIRST_BASIS_THREAD: &str = "first-basis";
/// How often the group's offsets are noted and shards are measured.
const NOTE_INTERVAL: Duration = Duration::from_secs(2);
/// Pause before a consumer that failed joins again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a tick reads again for bases that are behind, before it is the new records' turn.
const CATCH_UP: Duration = Duration::from_millis(50);
/// RocksDB's block cache and unflushed writes of all item shards, in bytes.
const STORE_BYTES: usize = 64 << 20;

/// Starts the threads of items: the feed of the tables, the shards, and the first basis.
pub fn start(context: &Context) -> Result<Vec<JoinHandle<()>>, WorkerError> {
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    let feed = feed::start(context.clone())?;
    let own = context.clone();
    // In a backlog users come first: their answers wait for the fold, those about items do not.
    let shards = runtime::spawn("items", Urgency::Later, move || run(&own)).map_err(io)?;
    let own = context.clone();
    let first = move || first_basis::run(&own);
    let first = runtime::spawn(FIRST_BASIS_THREAD, Urgency::Later, first).map_err(io)?;
    Ok(vec![feed, shards, first])
}

fn run(context: &Context) {
    // Bases that are there already are folded along, not afterwards.
    while !context.items.is_loaded() && !context.stop.sleep(Duration::from_millis(20)) {}
    while !context.stop.is_requested() {
        match consume(context) {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "item shards failed; they start over from the last commit");
                context.stop.sleep(RETRY_PAUSE);
            }
        }
    }
}

fn consume(context: &Context) -> Result<(), HandlerError> {
    let kafka = &context.config.kafka;
    let topic = context.config.topics.interactions();
    let consumer = GroupConsumer::join(
        &kafka.client(),
        &format!("{}-items", kafka.group),
        kafka.group_protocol,
        "driftline-items",
        &[&topic],
    )?;
    let mut items = Items::new(context, topic)?;
    let ended = consumer.run(&mut items, || context.stop.is_requested());
    context.items.note_owns_first(false);
    if let Err(error) = &ended {
        items.set_aside_damaged(error)?;
    }
    ended
}

struct Items {
    context: Context,
    topic: String,
    resources: StoreResources,
    publisher: Publisher,
    fold: ItemFold,
    /// Of the models that `fold` knows.
    generation: u64,
    owned: BTreeMap<i32, ItemShard>,
    /// Reads again what bases that came later have not folded.
    again: Reader,
    behind: BTreeSet<i32>,
    last_flush: Instant,
    last_note: Instant,
}

/// A store that was found damaged while its shard was folding.
#[derive(Debug, thiserror::Error)]
#[error("item shard {shard}: {source}")]
struct ShardError {
    shard: i32,
    source: StoreError,
}

impl Items {
    fn new(context: &Context, topic: String) -> Result<Self, HandlerError> {
        let kafka = &context.config.kafka;
        let group = format!("{}-items-again", kafka.group);
        Ok(Self {
            context: context.clone(),
            topic,
            resources: StoreResources::new(STORE_BYTES, STORE_BYTES),
            publisher: Publisher::new(context)?,
            fold: ItemFold::default(),
            generation: u64::MAX,
            owned: BTreeMap::new(),
            again: Reader::new(&kafka.client(), &group, "driftline-items-again")?,
            behind: BTreeSet::new(),
            last_flush: Instant::now(),
            last_note: Instant::now(),
        })
    }

    fn partition(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition }
    }

    fn store_path(&self, partition: i32) -> PathBuf {
        self.context.config.worker.data_dir.join(format!("item-{partition}"))
    }

    fn identity(&self, partition: i32) -> String {
        format!(
            "cluster {}, topic {}, partition {partition} of {}, item state version {}, {:?}",
            self.context.cluster_id,
            self.topic,
            self.context.interaction_partitions,
            ITEM_STATE_VERSION,
            self.context.config.items.lms(),
        )
    }

    fn open(&self, partition: i32) -> Result<ItemShard, StoreError> {
        let identity = self.identity(partition);
        let access = Access::Owner { identity: &identity };
        ItemShard::new(ItemStore::open(&self.store_path(partition), &self.resources, &access)?)
    }

    /// Opens a shard's store, and makes way for a snapshot where the store ends before its log begins
    /// and the snapshot knows more.
    fn open_best(
        &self,
        tp: &TopicPartition,
        low: i64,
        log: &Log<'_>,
    ) -> Result<ItemShard, HandlerError> {
        let (shard, is_restored) = self.open_or_rebuild(tp.partition, log)?;
        let next = shard.progress().statistics.next;
        let Some(restorer) = self.restorer(tp.partition, log) else { return Ok(shard) };
        if is_restored || !is_before(next, low) {
            return Ok(shard);
        }
        drop(shard);
        restorer.restore(next.unsigned_abs())?;
        Ok(self.open_or_rebuild(tp.partition, log)?.0)
    }

    /// Opens a shard's store. One that cannot be used is set aside; where there is none, it is made
    /// from a snapshot, which is told, or begins empty.
    fn open_or_rebuild(
        &self,
        partition: i32,
        log: &Log<'_>,
    ) -> Result<(ItemShard, bool), HandlerError> {
        let path = self.store_path(partition);
        let mut is_restored = false;
        loop {
            let was_there = restoring::is_store(&path);
            if !was_there && let Some(restorer) = self.restorer(partition, log) {
                is_restored = restorer.restore(0)?;
            }
            match self.open(partition) {
                Ok(shard) => return Ok((shard, is_restored)),
                Err(error) if error.spares_store() || !(was_there || is_restored) => {
                    return Err(error.into());
                }
                Err(error) => set_aside(&path, error.reason(), &error.to_string())?,
            }
        }
    }

    fn restorer<'a>(&'a self, partition: i32, log: &'a Log<'a>) -> Option<Restorer<'a>> {
        self.context.snapshots.as_ref()?;
        Some(Restorer {
            config: &self.context.config,
            stop: &self.context.stop,
            log,
            shard: name_of(partition),
            identity: self.identity(partition),
            path: self.store_path(partition),
            topics: vec![self.partition(partition)],
        })
    }

    fn subject(&self, partition: i32) -> Subject {
        let topic = self.topic.clone();
        let read: ReadSources = Arc::new(move |folder, scratch| {
            let resources = StoreResources::new(1 << 20, 1 << 20);
            let store = ItemStore::open(folder, &resources, &Access::Reader { scratch })?;
            let progress = store.progress::<ShardProgress>()?.unwrap_or_default();
            let (next_offset, anchor) = (progress.statistics.next, progress.anchor);
            Ok(vec![SourcePosition { topic: topic.clone(), next_offset, anchor }])
        });
        Subject { identity: self.identity(partition), read }
    }

    /// Opens a shard and finds where to go on, wiping it where the log no longer fits.
    fn take(&mut self, tp: &TopicPartition, log: &Log<'_>) -> Result<Assigned, HandlerError> {
        let (low, high) = log.bounds(tp)?;
        let mut shard = self.open_best(tp, low, log)?;
        let next = shard.progress().statistics.next;
        // As with users: where history is kept, a gap is the lesser evil.
        if next > high || (is_before(next, low) && self.context.snapshots.is_none()) {
            let why = format!("{tp} holds {low} to {high}, the store expects {next}");
            drop(shard);
            set_aside(&self.store_path(tp.partition), "offset_out_of_range", &why)?;
            shard = self.open_best(tp, low, log)?;
        }
        let next = shard.progress().statistics.next;
        if is_before(next, low) {
            counter!(names::RECORDS_LOST).increment((low - next).unsigned_abs());
            tracing::error!(
                topic = %tp, next, low,
                "records are lost: the items' states end before the log begins"
            );
        }
        let offset = shard.start(low);
        shard.target = high;
        self.owned.insert(tp.partition, shard);
        if let Some(snapshots) = &self.context.snapshots {
            snapshots.open(name_of(tp.partition), self.subject(tp.partition));
        }
        Ok(Assigned { partition: tp.clone(), offset })
    }

    /// Lets vectors learn over the bases that are live now, and over no others.
    fn follow_models(&mut self) {
        let models = self.context.items.models();
        let gone: Vec<BasisVersion> =
            self.fold.versions().filter(|version| !models.contains_key(version)).collect();
        gone.into_iter().for_each(|version| self.fold.remove_basis(version));
        models.values().for_each(|model| self.fold.add_basis(model.basis.clone()));
        for (&partition, shard) in &mut self.owned {
            let begin = |(version, model): (&BasisVersion, &shared::Model)| {
                let offset = model.manifest.offsets.get(partition as usize);
                (*version, offset.copied().unwrap_or(0))
            };
            let begin: Vec<_> = models.iter().map(begin).collect();
            shard.follow(|version| models.contains_key(&version), &begin);
        }
        // Whoever is behind now may begin before where is being read.
        for partition in std::mem::take(&mut self.behind) {
            if let Err(error) = self.again.remove(&self.partition(partition)) {
                tracing::debug!(%error, "no longer reading again");
            }
        }
    }

    /// Reads on for vectors that have not folded what statistics have.
    fn catch_up(&mut self) -> Result<(), HandlerError> {
        for (&partition, shard) in &self.owned {
            if let Some(from) = shard.progress().behind()
                && !self.behind.contains(&partition)
            {
                let tp = TopicPartition { topic: self.topic.clone(), partition };
                self.again.add(&tp, Position::At(from))?;
                self.behind.insert(partition);
                tracing::info!(partition, from, "item vectors over a new basis catch up");
            }
        }
        let until = Instant::now() + CATCH_UP;
        while !self.behind.is_empty() && Instant::now() < until {
            let Some(record) = self.again.poll(Duration::from_millis(5)) else { break };
            let partition = record.partition();
            let Some(shard) = self.owned.get_mut(&partition) else { continue };
            let caught_up = match Interactions::decode(record.value()) {
                Ok(batch) => shard.catch_up(&mut self.fold, record.offset(), &batch),
                Err(_) => shard.catch_up(&mut self.fold, record.offset(), &Interactions::default()),
            };
            let failed = |source| ShardError { shard: partition, source };
            if caught_up.map_err(failed)? && self.behind.remove(&partition) {
                self.again.remove(&TopicPartition { topic: self.topic.clone(), partition })?;
            }
            if self.owned.get(&partition).is_some_and(ItemShard::is_full) {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Publishes what changed, then commits it.
    fn flush(&mut self) -> Result<(), HandlerError> {
        while let Some(item) = self.context.items.next_delisted() {
            let partition =
                partition_of(item.as_str().as_bytes(), self.context.interaction_partitions);
            if self.owned.contains_key(&partition) {
                self.publisher.retract(partition, item.as_str())?;
            }
        }
        for (&partition, shard) in &mut self.owned {
            self.publisher.publish(partition, shard)?;
        }
        self.publisher.wait()?;
        for (&partition, shard) in &mut self.owned {
            shard.commit().map_err(|source| ShardError { shard: partition, source })?;
            if let Some(snapshots) = &self.context.snapshots {
                let (position, store) = (shard.committed(), shard.store());
                snapshots.offer(name_of(partition), position, |folder| store.checkpoint(folder));
            }
        }
        self.last_flush = Instant::now();
        Ok(())
    }

    /// A store that was found damaged would be found so again.
    fn set_aside_damaged(&mut self, error: &HandlerError) -> Result<(), HandlerError> {
        let all: Vec<i32> = self.owned.keys().copied().collect();
        all.into_iter().for_each(|partition| self.let_go(partition));
        match error.downcast_ref::<ShardError>() {
            Some(ShardError { shard, source }) if source.is_damage() => {
                set_aside(&self.store_path(*shard), "damaged", &source.to_string())
            }
            _ => Ok(()),
        }
    }

    /// A record that was folded before: the anchor, or a stale fetch after a rebalance. Where it is
    /// another one than was folded, the shard goes.
    fn recognise(&mut self, partition: i32, anchor: Anchor) -> Result<(), HandlerError> {
        let shard = self.owned.get_mut(&partition);
        let expected = shard.and_then(|shard| shard.anchor.take_if(|a| a.offset == anchor.offset));
        if expected.is_none_or(|expected| expected == anchor) {
            return Ok(());
        }
        let tp = self.partition(partition);
        let why = format!(
            "{tp} holds another record at offset {} than was folded: the topic was made anew",
            anchor.offset
        );
        self.let_go(partition);
        set_aside(&self.store_path(partition), "topic_changed", &why)?;
        Err(why.into())
    }

    fn let_go(&mut self, partition: i32) {
        self.owned.remove(&partition);
        if let Some(snapshots) = &self.context.snapshots {
            snapshots.close(name_of(partition));
        }
    }

    fn note_owned(&self) {
        self.context.items.note_owns_first(self.owned.contains_key(&0));
        gauge!(names::ITEM_SHARDS).set(self.owned.len() as f64);
    }
}

/// Whether a store knows something, and ends before its log begins.
fn is_before(next: i64, low: i64) -> bool {
    next > 0 && next < low
}

fn name_of(partition: i32) -> ShardName {
    ShardName { kind: ShardKind::Item, partition }
}

impl RecordHandler for Items {
    fn assigned(
        &mut self,
        partitions: &[TopicPartition],
        log: &Log<'_>,
    ) -> Result<Vec<Assigned>, HandlerError> {
        let starts = partitions.iter().map(|tp| self.take(tp, log)).collect();
        self.generation = u64::MAX;
        self.note_owned();
        starts
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), HandlerError> {
        self.flush()?;
        for tp in partitions {
            if self.context.stop.is_requested()
                && let Some(shard) = self.owned.get(&tp.partition)
                && let Some(snapshots) = &self.context.snapshots
            {
                let (name, store) = (name_of(tp.partition), shard.store());
                snapshots.offer_last(name, shard.committed(), |folder| store.checkpoint(folder));
            }
            self.let_go(tp.partition);
            if self.behind.remove(&tp.partition) {
                self.again.remove(tp)?;
            }
        }
        self.note_owned();
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), HandlerError> {
        let partition = record.partition();
        let generation = self.context.items.generation();
        if self.generation != generation {
            self.follow_models();
            self.generation = generation;
        }
        let Some(shard) = self.owned.get_mut(&partition) else { return Ok(()) };
        let anchor = Anchor { offset: record.offset(), hash: hash_of(record) };
        if record.offset() < shard.progress().statistics.next {
            return self.recognise(partition, anchor);
        }
        match Interactions::decode(record.value()) {
            Ok(batch) => {
                let folded = shard.fold(&mut self.fold, anchor, &batch);
                let folded = folded.map_err(|source| ShardError { shard: partition, source })?;
                counter!(names::ITEM_INTERACTIONS, "outcome" => "new").increment(folded.new);
                counter!(names::ITEM_INTERACTIONS, "outcome" => "replayed")
                    .increment(folded.replayed);
            }
            Err(rejection) => {
                // The topic is our own: this is a newer worker's record, or a foreign one.
                tracing::warn!(%rejection, partition, offset = anchor.offset, "unreadable");
                shard.pass(anchor);
            }
        }
        match shard.is_full() {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn tick(&mut self, _busy: bool) -> Result<Vec<(TopicPartition, i64)>, HandlerError> {
        let generation = self.context.items.generation();
        if self.generation != generation {
            self.follow_models();
            self.generation = generation;
        }
        self.catch_up()?;
        let interval = Duration::from_millis(self.context.config.items.publish_interval_ms);
        if self.last_flush.elapsed() >= interval {
            self.flush()?;
        }
        if self.last_note.elapsed() < NOTE_INTERVAL {
            return Ok(Vec::new());
        }
        self.last_note = Instant::now();
        let mut lag = 0;
        let mut positions = Vec::new();
        for (&partition, shard) in &self.owned {
            let next = shard.progress().statistics.next;
            lag += (shard.target - next).max(0);
            positions.push((self.partition(partition), next));
        }
        gauge!(names::ITEM_SHARD_LAG).set(lag as f64);
        Ok(positions)
    }
}

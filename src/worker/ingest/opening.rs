//! A shard's store when the shard is assigned: the one on this disk, one made from a snapshot, or an
//! empty one, whichever knows most of what the log no longer has.

use std::path::PathBuf;
use std::sync::Arc;

use metrics::counter;

use super::{Ingest, Ours};
use crate::kafka::{Assigned, HandlerError, Log, TopicPartition};
use crate::state::snapshots::{ShardKind, ShardName, SourcePosition, position_of};
use crate::state::{
    Access, Input, Progress, Shard, ShardStore, StoreError, StoreResources, identity_of,
};
use crate::telemetry::names;
use crate::worker::shards::OwnedShard;
use crate::worker::snapshots::restoring::{self, Restorer};
use crate::worker::snapshots::{ReadSources, Subject};
use crate::worker::{Context, joining, stores};

/// A topic of a shard: its partition, first offset and end.
type Bound = (Input, TopicPartition, (i64, i64));

impl Ingest {
    fn store_path(&self, partition: i32) -> PathBuf {
        self.context.config.worker.data_dir.join(format!("user-{partition}"))
    }

    fn open_at(&self, path: &std::path::Path, partition: i32) -> Result<Shard, StoreError> {
        let identity = self.context.folded_from(partition);
        let access = Access::Owner { identity: &identity };
        let rules = self.context.config.state.rules();
        Shard::new(partition, ShardStore::open(path, rules, &self.resources, &access)?)
    }

    fn open(&self, partition: i32) -> Result<Shard, StoreError> {
        self.open_at(&self.store_path(partition), partition)
    }

    /// Whether there is a store for a shard on this disk.
    pub(super) fn has_store(&self, partition: i32) -> bool {
        restoring::is_store(&self.store_path(partition))
    }

    /// Opens a shard's store, and makes way for a snapshot where the store ends before its log begins
    /// and the snapshot knows more.
    fn open_best(
        &mut self,
        partition: i32,
        bounds: &[Bound],
        log: &Log<'_>,
    ) -> Result<Shard, HandlerError> {
        let (shard, is_restored) = self.open_or_rebuild(partition, log)?;
        let progress = shard.progress();
        let keeps_history = self.context.snapshots.is_some();
        if is_restored || !keeps_history || misfit(&progress, bounds, is_before).is_none() {
            return Ok(shard);
        }
        drop(shard);
        self.restore(partition, position(&progress), log)?;
        Ok(self.open_or_rebuild(partition, log)?.0)
    }

    /// Opens a shard's store. One that cannot be used is set aside; where there is none, it is made
    /// from a snapshot, which is told, or begins empty.
    fn open_or_rebuild(
        &mut self,
        partition: i32,
        log: &Log<'_>,
    ) -> Result<(Shard, bool), HandlerError> {
        let mut is_restored = false;
        loop {
            let was_there = self.has_store(partition);
            if !was_there {
                is_restored = self.restore(partition, 0, log)?;
            }
            match self.open(partition) {
                Ok(shard) => return Ok((shard, is_restored)),
                Err(error) if error.spares_store() || !(was_there || is_restored) => {
                    return Err(error.into());
                }
                Err(error) => self.set_aside(partition, error.reason(), &error.to_string())?,
            }
        }
    }

    fn restorer<'a>(&'a self, partition: i32, log: &'a Log<'a>) -> Option<Restorer<'a>> {
        self.context.snapshots.as_ref()?;
        let config = &self.context.config;
        let topics = self.topics.iter().filter(|(input, _)| *input != Input::Impressions);
        Some(Restorer {
            config,
            stop: &self.context.stop,
            log,
            shard: name_of(partition),
            identity: identity_of(config.state.rules(), &self.context.folded_from(partition)),
            path: self.store_path(partition),
            topics: topics
                .map(|(_, topic)| TopicPartition { topic: topic.clone(), partition })
                .collect(),
        })
    }

    /// Lets the users of a shard be answered, before its store is there, by an empty one that says
    /// that it is being restored, and asks the hot tier.
    pub(super) fn stand_in(&mut self, partition: i32, log: &Log<'_>) -> Result<(), HandlerError> {
        if self.context.snapshots.is_none() || self.stand_ins.contains(&partition) {
            return Ok(());
        }
        let path = self.store_path(partition).with_extension("stand-in");
        restoring::remove(&path)?;
        let stand_in = OwnedShard::new(self.open_at(&path, partition)?, 0, 0, None);
        for (input, topic) in &self.topics {
            let tp = TopicPartition { topic: topic.clone(), partition };
            if let Input::Events(topic) = *input {
                stand_in.set_target(topic, log.bounds(&tp)?.1);
            }
        }
        self.context.shards.insert(partition, Arc::new(stand_in));
        self.control.open(partition);
        self.stand_ins.insert(partition);
        Ok(())
    }

    pub(super) fn end_stand_in(&mut self, partition: i32) -> std::io::Result<()> {
        if !self.stand_ins.remove(&partition) {
            return Ok(());
        }
        self.release(partition);
        restoring::remove(&self.store_path(partition).with_extension("stand-in"))
    }

    /// Makes a shard's store from a snapshot that has come further than `beyond`, where there is one.
    fn restore(
        &mut self,
        partition: i32,
        beyond: u64,
        log: &Log<'_>,
    ) -> Result<bool, HandlerError> {
        self.stand_in(partition, log)?;
        let restored = match self.restorer(partition, log) {
            Some(restorer) => restorer.restore(beyond),
            None => Ok(false),
        };
        self.end_stand_in(partition)?;
        restored
    }

    pub(super) fn set_aside(
        &self,
        partition: i32,
        reason: &'static str,
        why: &str,
    ) -> Result<(), HandlerError> {
        stores::set_aside(&self.store_path(partition), reason, why)
    }

    /// Opens shard `partition` and finds where to go on with each of `topics`, wiping it where
    /// the log no longer fits.
    pub(super) fn take(
        &mut self,
        partition: i32,
        topics: &[(Input, TopicPartition)],
        log: &Log<'_>,
    ) -> Result<Vec<Assigned>, HandlerError> {
        let mut bounds = Vec::with_capacity(topics.len());
        for (topic, tp) in topics {
            bounds.push((*topic, tp.clone(), log.bounds(tp)?));
        }
        let mut ours = match self.owned.remove(&partition) {
            Some(ours) => ours,
            None => {
                let shard = self.open_best(partition, &bounds, log)?;
                self.ours(shard)?
            }
        };
        let progress = ours.shard.shard.progress();
        // Where history is kept, a store that knows it is worth more than a log without a gap.
        let is_out: IsOut = match self.context.snapshots {
            Some(_) => is_beyond,
            None => |next, low, high| is_beyond(next, low, high) || is_before(next, low, high),
        };
        if let Some(why) = misfit(&progress, &bounds, is_out) {
            let was_running = self.context.shards.get(partition).is_some();
            drop(ours);
            self.release(partition);
            self.set_aside(partition, "offset_out_of_range", &why)?;
            if was_running {
                // The other topic of this shard is already being consumed and must start over
                // too: everything is assigned afresh.
                return Err(format!("shard {partition} is rebuilt: {why}").into());
            }
            let shard = self.open_best(partition, &bounds, log)?;
            ours = self.ours(shard)?;
        }
        tell_what_is_lost(&ours.shard.shard.progress(), &bounds);
        let starts = bounds
            .into_iter()
            .map(|(topic, partition, (low, high))| {
                let offset = ours.start(topic, low, high);
                if let Input::Events(topic) = topic {
                    ours.shard.set_target(topic, high);
                }
                Assigned { partition, offset }
            })
            .collect();
        self.context.shards.insert(partition, Arc::clone(&ours.shard));
        if let Some(snapshots) = &self.context.snapshots {
            snapshots.open(name_of(partition), self.subject(partition));
        }
        self.owned.insert(partition, ours);
        Ok(starts)
    }

    fn ours(&self, shard: Shard) -> Result<Ours, StoreError> {
        let share = |bytes: usize| bytes / self.context.partitions.max(1) as usize;
        let config = &self.context.config;
        let history_bytes = share(config.items.history_cache_bytes);
        let shown_bytes = share(config.serving.shown_bytes);
        let (join, joins_anew) = joining::open(&self.context, &shard)?.unzip();
        let shard = OwnedShard::new(shard, history_bytes, shown_bytes, join);
        let joins_anew = joins_anew.unwrap_or(false);
        Ok(Ours { shard: Arc::new(shard), anchors: [None; 4], joins_anew })
    }

    fn subject(&self, partition: i32) -> Subject {
        let Context { config, .. } = &self.context;
        let rules = config.state.rules();
        let topics: Vec<(Input, String)> =
            self.topics.iter().filter(|(input, _)| *input != Input::Impressions).cloned().collect();
        let read: ReadSources = Arc::new(move |folder, scratch| {
            let resources = StoreResources::new(1 << 20, 1 << 20);
            let access = Access::Reader { scratch };
            let progress = ShardStore::open(folder, rules, &resources, &access)?.progress()?;
            Ok(sources(&progress, &topics))
        });
        let identity = identity_of(rules, &self.context.folded_from(partition));
        Subject { identity, read }
    }
}

/// Whether the next offset to fold, a log's first and its end do not fit each other.
type IsOut = fn(i64, i64, i64) -> bool;

fn is_beyond(next: i64, _: i64, high: i64) -> bool {
    next > high
}

fn is_before(next: i64, low: i64, _: i64) -> bool {
    next > 0 && next < low
}

/// The first topic that a store does not fit, as a sentence.
fn misfit(progress: &Progress, bounds: &[Bound], is_out: IsOut) -> Option<String> {
    events(bounds).find_map(|(topic, tp, (low, high))| {
        let next = progress.of(*topic).next_offset;
        is_out(next, *low, *high)
            .then(|| format!("{tp} holds {low} to {high}, the store expects {next}"))
    })
}

pub(super) fn name_of(partition: i32) -> ShardName {
    ShardName { kind: ShardKind::User, partition }
}

/// Topics of events; what came of lists is not rebuilt.
fn events(bounds: &[Bound]) -> impl Iterator<Item = &Bound> {
    bounds.iter().filter(|(topic, ..)| *topic != Input::Impressions)
}

fn sources(progress: &Progress, topics: &[(Input, String)]) -> Vec<SourcePosition> {
    let of = |(input, topic): &(Input, String)| {
        let progress = progress.of(*input);
        let (next_offset, anchor) = (progress.next_offset, progress.anchor);
        SourcePosition { topic: topic.clone(), next_offset, anchor }
    };
    topics.iter().map(of).collect()
}

/// Records folded, as snapshots count them.
pub(in crate::worker) fn position(progress: &Progress) -> u64 {
    let inputs = Input::ALL.into_iter().filter(|input| *input != Input::Impressions);
    let topics: Vec<_> = inputs.map(|input| (input, String::new())).collect();
    position_of(&sources(progress, &topics))
}

/// A store that ends before its log begins knows what came before, and not what was in between. One
/// that is empty begins where the log does.
fn tell_what_is_lost(progress: &Progress, bounds: &[Bound]) {
    if position(progress) == 0 {
        return;
    }
    for (topic, tp, (low, _)) in events(bounds) {
        let next = progress.of(*topic).next_offset;
        if next < *low {
            counter!(names::RECORDS_LOST).increment((low - next) as u64);
            tracing::error!(
                topic = %tp, next, low,
                "records are lost: the state ends before the log begins; raise the topic's retention \
                 or lower snapshots.interval_seconds"
            );
        }
    }
}

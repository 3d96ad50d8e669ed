//! Reads `interactions` whole into the global tables, beginning near the topic's end.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};

use super::{Context, WorkerError};
use crate::event::{Interaction, Interactions};
use crate::global::GlobalTables;
use crate::kafka::{KafkaError, Position, Reader, TopicPartition};
use crate::runtime::{self, Urgency};
use crate::serving::{self, BlendLearner, Blends, SourceKind};
use crate::telemetry::names;

/// How often trending is ranked anew. Shorter: fresher lists, more CPU.
const REFRESH: Duration = Duration::from_secs(1);
/// Between two rankings, next to what one took: with millions of items it takes a while.
const REST: u32 = 10;
/// How often it is ranked while the topic's tail is read: requests wait for the first part of it.
const REFRESH_WARMING: Duration = Duration::from_millis(200);
/// How often the tables are measured, which looks at every session.
const MEASURE: Duration = Duration::from_secs(30);

/// How much the tables hold of what the topic held at start.
#[derive(Default)]
pub struct FeedState {
    begun: AtomicBool,
    warmed: AtomicBool,
}

impl FeedState {
    /// Whether they hold the first part of it: lists may be made, and say what is missing.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether they hold all of it.
    pub fn is_warmed(&self) -> bool {
        self.warmed.load(Ordering::Acquire)
    }
}

/// The blends as requests use them.
#[derive(Default)]
pub struct SharedBlends(RwLock<Arc<Blends>>);

impl SharedBlends {
    /// The newest ones.
    pub fn get(&self) -> Arc<Blends> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, blends: &Blends) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(blends.clone());
    }
}

/// Starts the feed's thread.
pub fn start(context: Context, state: Arc<FeedState>) -> Result<JoinHandle<()>, WorkerError> {
    let config = &context.config;
    // The group only names where positions would be noted; this reader never notes any.
    let group = format!("{}-global", config.kafka.group);
    let mut reader = Reader::new(&config.kafka.client(), &group, "driftline-global")?;
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    runtime::spawn("global-feed", Urgency::Now, move || {
        let learner = serving::blend_learner(&SourceKind::ALL);
        let mut feed = Feed { context, state, learner, ends: HashMap::new() };
        while !feed.context.stop.is_requested() {
            match feed.begin(&mut reader) {
                Ok(()) => return feed.run(&mut reader),
                Err(error) => {
                    tracing::warn!(%error, "the global tables wait for the broker");
                    feed.context.stop.sleep(Duration::from_secs(1));
                }
            }
        }
    })
    .map_err(io)
}

struct Feed {
    context: Context,
    state: Arc<FeedState>,
    learner: BlendLearner,
    /// Where each partition ended at start, until it has been read to there.
    ends: HashMap<i32, i64>,
}

impl Feed {
    fn begin(&mut self, reader: &mut Reader) -> Result<(), KafkaError> {
        let topic = self.context.config.topics.interactions();
        let back = self.context.config.global.warm_records;
        let partitions = 0..self.context.interaction_partitions;
        let partitions = partitions.map(|p| TopicPartition { topic: topic.clone(), partition: p });
        // All of them before anything is read: a broker answers a client in order.
        let bounds = |tp| reader.bounds(&tp).map(|bounds| (tp, bounds));
        let bounds = partitions.map(bounds).collect::<Result<Vec<_>, _>>()?;
        for (tp, (low, high)) in bounds {
            let from = (high - back).max(low);
            reader.add(&tp, Position::At(from))?;
            if from < high {
                self.ends.insert(tp.partition, high);
            }
        }
        Ok(())
    }

    fn run(&mut self, reader: &mut Reader) {
        let (mut refreshed, mut took) = (Instant::now(), Duration::ZERO);
        let mut measured = Instant::now();
        self.note_warmed();
        while !self.context.stop.is_requested() {
            if let Some(record) = reader.poll(Duration::from_millis(20)) {
                let partition = record.partition();
                match Interactions::decode(record.value()) {
                    Ok(batch) => self.learn(partition, &batch),
                    // The topic is our own: this is a newer worker's record, or a foreign one.
                    Err(rejection) => tracing::warn!(%rejection, "an unreadable interaction"),
                }
                if self.ends.get(&partition).is_some_and(|end| record.offset() + 1 >= *end) {
                    self.ends.remove(&partition);
                    self.note_warmed();
                }
            }
            let pause = if self.state.is_warmed() { REFRESH } else { REFRESH_WARMING };
            if refreshed.elapsed() >= pause.max(took * REST) {
                let begun = Instant::now();
                self.refresh();
                refreshed = Instant::now();
                took = begun.elapsed();
            }
            if measured.elapsed() >= MEASURE {
                measured = Instant::now();
                self.measure();
            }
        }
    }

    fn learn(&mut self, partition: i32, batch: &Interactions<'_>) {
        let all = batch.interactions.len();
        let warming = !self.state.is_warmed();
        let mut new = 0;
        let mut rest = &batch.interactions[..];
        while !rest.is_empty() {
            // Requests read the tables in between: a record of a thousand must not hold them up.
            // An event that is to be predicted begins a chunk: it is learnt after that.
            let end = (1..rest.len().min(32)).find(|&n| self.learner.chooses(&rest[n], warming));
            let (chunk, later) = rest.split_at(end.unwrap_or(rest.len().min(32)));
            if self.learner.chooses(&chunk[0], warming) {
                self.predict(&chunk[0]);
            }
            let learnt = self.tables().learn(partition, batch.shard, chunk);
            if learnt > 0 && self.context.ranks() {
                self.context.ranking.note_taken(chunk);
            }
            new += learnt;
            rest = later;
        }
        counter!(names::INTERACTIONS_READ, "outcome" => "new").increment(new as u64);
        counter!(names::INTERACTIONS_READ, "outcome" => "replayed").increment((all - new) as u64);
    }

    fn predict(&mut self, one: &Interaction<'_>) {
        let tables = self.context.global.read().unwrap_or_else(PoisonError::into_inner);
        for said in self.learner.observe(
            one,
            &tables,
            &self.context.catalog.read(),
            self.context.items.tables(),
        ) {
            let outcome = if said.hit { "hit" } else { "miss" };
            let labels = [("source", said.source.name()), ("outcome", outcome)];
            counter!(names::PREDICTIONS, &labels).increment(1);
        }
    }

    fn note_warmed(&self) {
        if self.ends.is_empty() && !self.state.is_warmed() {
            self.refresh();
            self.measure();
            self.state.warmed.store(true, Ordering::Release);
            // Requests waited for this; from now on they are what must not wait.
            runtime::lower_priority(Urgency::Later);
            tracing::info!("global tables are warm");
        }
    }

    fn refresh(&self) {
        // Nobody else writes, so that readers are only kept out while it is shown.
        let ranking = self.context.global.read().unwrap_or_else(PoisonError::into_inner).rank();
        self.tables().show(ranking);
        self.context.blends.set(self.learner.blends());
        if !self.state.begun.swap(true, Ordering::AcqRel) {
            // From now on requests are answered meanwhile.
            runtime::lower_priority(Urgency::Soon);
        }
    }

    fn measure(&self) {
        // Beside requests: only this thread writes.
        let tables = self.context.global.read().unwrap_or_else(PoisonError::into_inner);
        gauge!(names::GLOBAL_SESSIONS).set(tables.neighbours().sessions() as f64);
        gauge!(names::GLOBAL_BYTES).set(tables.bytes() as f64);
        for kind in SourceKind::ALL {
            let weight = self.learner.blends().unseen.weight(kind);
            gauge!(names::BLEND_WEIGHT, "source" => kind.name()).set(weight);
        }
    }

    fn tables(&self) -> RwLockWriteGuard<'_, GlobalTables> {
        self.context.global.write().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Consumes events and folds them: decode → validate → shard, and commits a few times a second.

mod opening;

pub(super) use opening::position;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, counter, gauge};

use super::Context;
use super::commit::{CommitError, CommitThread, Committer};
use super::dead_letter;
use super::joining::{self, JoinGauges};
use super::requests::Control;
use super::shards::OwnedShard;
use super::stores;
use crate::event::{EventTopic, Feedback, Rejection, Source, UserEvent, ValidityRules};
use crate::feature::{FoldEvent, FoldRecord};
use crate::ids::stable_hash;
use crate::kafka::{
    Assigned, Delivery, GroupConsumer, HandlerError, KafkaError, Log, Outgoing, Producer,
    ProducerKind, Record, RecordHandler, TopicPartition, Tracker, partition_of,
};
use crate::state::snapshots::{ShardKind, ShardName};
use crate::state::{Anchor, Folding, Input, Origin, StoreResources};
use crate::telemetry::names;
use crate::time::EventTime;

/// How often the group's offsets are noted, for lag tools.
const NOTE_INTERVAL: Duration = Duration::from_secs(2);
/// Pause before a consumer that failed joins again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Consumes until the worker stops; joins again after a failure, from the last commit.
pub fn run(context: &Context, number: usize, control: &Control) {
    while !context.stop.is_requested() {
        match consume(context, number, control) {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "ingest failed; it starts over from the last commit");
                context.stop.sleep(RETRY_PAUSE);
            }
        }
    }
}

fn consume(context: &Context, number: usize, control: &Control) -> Result<(), HandlerError> {
    let kafka = &context.config.kafka;
    let topics = topics(context);
    let consumer = GroupConsumer::join(
        &kafka.client(),
        &kafka.group,
        kafka.group_protocol,
        &format!("driftline-ingest-{number}"),
        &topics.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(),
    )?;
    let mut ingest = Ingest::new(context, topics, control.clone(), number)?;
    let ended = consumer.run(&mut ingest, || context.stop.is_requested());
    if let Err(error) = &ended {
        ingest.abandon();
        ingest.set_aside_damaged(error)?;
    }
    ended
}

/// What a shard reads, and the topics' names.
fn topics(context: &Context) -> Vec<(Input, String)> {
    let config = &context.config;
    let events = EventTopic::ALL.map(|topic| (topic.into(), config.topics.events(topic)));
    let lists = config.quality.enabled.then(|| (Input::Impressions, config.topics.impressions()));
    events.into_iter().chain(lists).collect()
}

struct Ingest {
    context: Context,
    topics: Vec<(Input, String)>,
    control: Control,
    resources: StoreResources,
    producer: Arc<Producer>,
    tracker: Arc<Tracker>,
    committer: Arc<Committer>,
    commit_thread: CommitThread,
    /// By partition. Few, and looked up for every record: a tree of one node is faster than a
    /// hash.
    owned: BTreeMap<i32, Ours>,
    /// Shards that are answered for before their stores are there.
    stand_ins: BTreeSet<i32>,
    last_commit: Instant,
    last_note: Instant,
    folded: [Counter; 3],
}

/// A shard of this thread.
struct Ours {
    shard: Arc<OwnedShard>,
    /// What is still to be seen again before new records are folded.
    anchors: [Option<Anchor>; 4],
    /// The join begins anew: with the lists of from now on.
    joins_anew: bool,
}

impl Ingest {
    fn new(
        context: &Context,
        topics: Vec<(Input, String)>,
        control: Control,
        number: usize,
    ) -> Result<Self, HandlerError> {
        let config = &context.config;
        let name = format!("driftline-derive-{number}");
        let producer =
            Arc::new(Producer::new(&config.kafka.client(), ProducerKind::Durable, &name)?);
        let tracker = Arc::new(Tracker::default());
        let committer = Arc::new(Committer::new(context, producer.clone(), tracker.clone()));
        let threads = config.worker.ingest_threads;
        Ok(Self {
            folded: EventTopic::ALL.map(
                |topic| counter!(names::EVENTS_FOLDED, "topic" => config.topics.events(topic)),
            ),
            resources: StoreResources::new(
                config.state.cache_bytes / threads,
                config.state.write_buffer_bytes / threads,
            ),
            commit_thread: CommitThread::start(committer.clone(), &format!("commit-{number}"))?,
            context: context.clone(),
            topics,
            control,
            producer,
            tracker,
            committer,
            owned: BTreeMap::new(),
            stand_ins: BTreeSet::new(),
            last_commit: Instant::now(),
            last_note: Instant::now(),
        })
    }

    fn topic_of(&self, name: &str) -> Option<Input> {
        self.topics.iter().find(|(_, topic)| topic == name).map(|(input, _)| *input)
    }

    /// Takes a shard out of everybody's sight; its store closes with its last user.
    fn release(&self, partition: i32) {
        self.control.close(partition);
        self.context.shards.remove(partition);
        if let Some(snapshots) = &self.context.snapshots {
            snapshots.close(ShardName { kind: ShardKind::User, partition });
        }
        if let Some(hot) = &self.context.hot {
            hot.close(partition);
        }
    }

    /// After a failure: lets go of everything uncommitted, to be folded again from the log.
    fn abandon(&mut self) {
        if let Err(error) = self.commit_thread.wait() {
            tracing::debug!(%error, "the commit under way when ingest failed");
        }
        for partition in std::mem::take(&mut self.owned).into_keys() {
            self.release(partition);
        }
        for partition in self.stand_ins.clone() {
            if let Err(error) = self.end_stand_in(partition) {
                tracing::debug!(%error, "an empty store stays for now");
            }
        }
    }

    /// A store that was found damaged while it was written, most likely by compaction, would be
    /// found so again: it goes as one that is damaged when it is opened.
    fn set_aside_damaged(&self, error: &HandlerError) -> Result<(), HandlerError> {
        match error.downcast_ref::<CommitError>() {
            Some(CommitError::Store { shard, source }) if source.is_damage() => {
                self.set_aside(*shard, "damaged", &source.to_string())
            }
            _ => Ok(()),
        }
    }

    fn commit_now(&mut self) -> Result<(), HandlerError> {
        self.commit_thread.wait()?;
        let shards: Vec<_> = self.owned.values().map(|o| Arc::clone(&o.shard)).collect();
        self.committer.commit(&shards)?;
        self.last_commit = Instant::now();
        Ok(())
    }

    /// Begins a commit, unless the last one is not over yet.
    fn begin_commit(&mut self) -> Result<(), HandlerError> {
        let shards = || self.owned.values().map(|o| Arc::clone(&o.shard)).collect();
        if self.commit_thread.begin(shards)? {
            self.last_commit = Instant::now();
        }
        Ok(())
    }

    fn refuse(&self, record: &Record<'_>, rejection: &Rejection) -> Result<(), KafkaError> {
        counter!(
            names::DEAD_LETTERS,
            "topic" => record.topic().to_owned(),
            "class" => rejection.class
        )
        .increment(1);
        let topic = self.context.config.topics.dead_letters();
        dead_letter::send(&self.producer, &topic, record, rejection, &self.tracker)
    }

    /// Sends a record to the partition where its user's state is. A client that sends no key,
    /// or partitions in another way than Kafka's Java client, is served all the same.
    fn reroute(&self, record: &Record<'_>, user: &str, partition: i32) -> Result<(), KafkaError> {
        counter!(names::REROUTED, "topic" => record.topic().to_owned()).increment(1);
        let outgoing = Outgoing {
            topic: record.topic(),
            partition: Some(partition),
            key: Some(user.as_bytes()),
            value: record.value(),
            headers: record.headers(),
            ..Outgoing::default()
        };
        self.producer.send(&outgoing, Delivery::Tracked(Arc::clone(&self.tracker)))
    }

    /// A record that was folded before: the anchor, or a stale fetch after a rebalance. Where it
    /// is another one than was folded, the shard goes.
    fn recognise(
        &mut self,
        topic: Input,
        record: &Record<'_>,
        anchor: Anchor,
    ) -> Result<(), HandlerError> {
        let partition = record.partition();
        let expected = self
            .owned
            .get_mut(&partition)
            .and_then(|ours| ours.anchors[topic.number()].take_if(|a| a.offset == anchor.offset));
        if expected.is_none_or(|e| e == anchor) {
            return Ok(());
        }
        let why = format!(
            "{}-{partition} holds another record at offset {} than was folded: the topic was made \
             anew",
            record.topic(),
            anchor.offset
        );
        self.commit_thread.wait()?;
        let ours = self.owned.remove(&partition);
        if topic == Input::Impressions {
            // Users do not come from there: only what was joined goes.
            ours.map(|ours| ours.shard.shard.store().forget_joined()).transpose()?;
            self.release(partition);
            return Err(why.into());
        }
        drop(ours);
        self.release(partition);
        self.set_aside(partition, "topic_changed", &why)?;
        Err(why.into())
    }

    fn fold(
        &self,
        shard: &OwnedShard,
        topic: Input,
        record: &Record<'_>,
        anchor: Anchor,
    ) -> Result<usize, KafkaError> {
        let Input::Events(topic) = topic else {
            let appended = EventTime::from_millis(record.timestamp_ms());
            return Ok(shard.shard.note(record.value(), appended, anchor));
        };
        let rules = ValidityRules {
            appended: EventTime::from_millis(record.timestamp_ms()),
            max_ahead_ms: self.context.config.events.max_ahead_ms,
        };
        match topic {
            EventTopic::Watch => self.fold_event(shard, Source::Watch, record, &rules, anchor),
            EventTopic::Click => self.fold_event(shard, Source::Click, record, &rules, anchor),
            EventTopic::Feedback => match Feedback::decode(record.value(), &rules) {
                Ok(said) => {
                    let origin = Origin::default();
                    self.fold_one(shard, &said.user, record, origin, anchor, |_| (&said).into())
                }
                Err(rejection) => self.pass(shard, topic, record, &rejection, anchor),
            },
        }
    }

    fn fold_event(
        &self,
        shard: &OwnedShard,
        source: Source,
        record: &Record<'_>,
        rules: &ValidityRules,
        anchor: Anchor,
    ) -> Result<usize, KafkaError> {
        match UserEvent::decode(source, record.value(), rules) {
            Ok(event) => {
                let origin = joining::origin(&event, rules.appended);
                self.fold_one(shard, &event.user, record, origin, anchor, |user| {
                    FoldEvent::from_event(&event, user).into()
                })
            }
            Err(rejection) => self.pass(shard, source.into(), record, &rejection, anchor),
        }
    }

    /// Folds what `of` makes of the record, given its user's hash; or sends it to where its user's
    /// state is.
    fn fold_one<'e>(
        &self,
        shard: &OwnedShard,
        user: &str,
        record: &Record<'_>,
        origin: Origin,
        anchor: Anchor,
        of: impl FnOnce(u64) -> FoldRecord<'e>,
    ) -> Result<usize, KafkaError> {
        let hash = stable_hash(user.as_bytes());
        let one = of(hash);
        let topic = one.topic();
        let home = partition_of(user.as_bytes(), self.context.partitions);
        if home != record.partition() {
            self.reroute(record, user, home)?;
            shard.shard.skip(topic, anchor);
            return Ok(0);
        }
        match shard.shard.fold(user, hash, &one, origin, anchor) {
            Folding::Done { waiting_bytes } => {
                self.folded[topic as usize].increment(1);
                Ok(waiting_bytes)
            }
            Folding::TooLate { watermark } => {
                self.pass(shard, topic, record, &too_late(one.at(), watermark), anchor)
            }
        }
    }

    /// Makes a record a dead letter and moves past it.
    fn pass(
        &self,
        shard: &OwnedShard,
        topic: EventTopic,
        record: &Record<'_>,
        rejection: &Rejection,
        anchor: Anchor,
    ) -> Result<usize, KafkaError> {
        self.refuse(record, rejection)?;
        shard.shard.skip(topic, anchor);
        Ok(0)
    }
}

impl Ours {
    /// The first offset to read: the last record folded, to know the log again by it, or the
    /// first that is there.
    fn start(&mut self, topic: Input, low: i64, high: i64) -> i64 {
        let progress = *self.shard.shard.progress().of(topic);
        if topic == Input::Impressions && (self.joins_anew || progress.next_offset > high) {
            // What came of earlier lists is folded already, and would not be told again.
            self.shard.shard.start_at(topic, high);
            return high;
        }
        if progress.next_offset < low {
            self.shard.shard.start_at(topic, low);
            return low;
        }
        let anchor = progress.anchor.filter(|a| a.offset >= low);
        self.anchors[topic.number()] = anchor;
        anchor.map_or(progress.next_offset, |a| a.offset)
    }
}

impl RecordHandler for Ingest {
    fn assigned(
        &mut self,
        partitions: &[TopicPartition],
        log: &Log<'_>,
    ) -> Result<Vec<Assigned>, HandlerError> {
        let mut by_shard: HashMap<i32, Vec<(Input, TopicPartition)>> = HashMap::new();
        for tp in partitions {
            if let Some(topic) = self.topic_of(&tp.topic) {
                by_shard.entry(tp.partition).or_default().push((topic, tp.clone()));
            }
        }
        let mut starts = Vec::with_capacity(partitions.len());
        let mut opened: Vec<i32> = Vec::new();
        // Whoever waits for a snapshot does not let the others wait.
        let (ready, waiting): (Vec<_>, Vec<_>) = by_shard
            .into_iter()
            .partition(|(p, _)| self.owned.contains_key(p) || self.has_store(*p));
        for (partition, _) in &waiting {
            self.stand_in(*partition, log)?;
        }
        for (partition, topics) in ready.into_iter().chain(waiting) {
            starts.extend(self.take(partition, &topics, log)?);
            // Its users are answered while the next store is opened.
            self.control.open(partition);
            opened.push(partition);
        }
        self.context.shards.note_joined();
        gauge!(names::SHARDS).set(self.owned.len() as f64);
        opened.sort_unstable();
        tracing::info!(shards = ?opened, "assigned");
        Ok(starts)
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), HandlerError> {
        self.commit_now()?;
        let mut closed: Vec<i32> = partitions.iter().map(|tp| tp.partition).collect();
        closed.sort_unstable();
        closed.dedup();
        for partition in &closed {
            if let Some(ours) = self.owned.remove(partition) {
                if self.context.stop.is_requested()
                    && let Some(snapshots) = &self.context.snapshots
                {
                    ours.shard.offer_last_snapshot(snapshots);
                }
                drop(ours);
                self.release(*partition);
            }
        }
        gauge!(names::SHARDS).set(self.owned.len() as f64);
        if !closed.is_empty() {
            tracing::info!(shards = ?closed, "revoked");
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), HandlerError> {
        let Some(topic) = self.topic_of(record.topic()) else { return Ok(()) };
        let Some(ours) = self.owned.get(&record.partition()) else { return Ok(()) };
        let anchor = Anchor { offset: record.offset(), hash: stores::hash_of(record) };
        if record.offset() < ours.shard.shard.position(topic) {
            return self.recognise(topic, record, anchor);
        }
        let waiting = self.fold(&ours.shard, topic, record, anchor)?;
        if waiting > self.context.config.state.pending_max_bytes {
            // Folding waits for the disk: `poll` is not called, so fetching pauses by itself.
            self.commit_thread.wait()?;
            self.begin_commit()?;
        }
        Ok(())
    }

    fn tick(&mut self, busy: bool) -> Result<Vec<(TopicPartition, i64)>, HandlerError> {
        self.commit_thread.poll()?;
        let state = &self.context.config.state;
        let interval = Duration::from_millis(if busy {
            state.backlog_commit_interval_ms
        } else {
            state.commit_interval_ms
        });
        if self.last_commit.elapsed() >= interval {
            self.begin_commit()?;
        }
        if self.last_note.elapsed() < NOTE_INTERVAL {
            return Ok(Vec::new());
        }
        self.last_note = Instant::now();
        let mut pending = 0;
        let mut lag = 0;
        let mut joins = JoinGauges::default();
        let mut positions = Vec::new();
        for (&partition, ours) in &self.owned {
            pending += ours.shard.shard.waiting().1;
            lag += ours.shard.lag();
            joins.add(&ours.shard);
            for (topic, name) in &self.topics {
                let tp = TopicPartition { topic: name.clone(), partition };
                positions.push((tp, ours.shard.shard.position(*topic)));
            }
        }
        gauge!(names::PENDING_BYTES).set(pending as f64);
        gauge!(names::SHARD_LAG).set(lag as f64);
        joins.set();
        Ok(positions)
    }
}

fn too_late(at: EventTime, watermark: EventTime) -> Rejection {
    Rejection {
        stage: crate::event::Stage::Validate,
        class: "TooLate",
        message: format!(
            "event_time {} is {} days older than the newest event of this partition; \
             state.ttl_days is shorter",
            at.millis(),
            watermark.since(at) / crate::time::DAY_MS
        ),
    }
}

//! A group consumer on its own thread, with rebalances handed to the handler in order.
//!
//! librdkafka runs rebalance callbacks inside `poll`. Here they only note what is wanted; the
//! loop then asks the handler, and acknowledges by assigning or unassigning. The group does not
//! move on before that, so a shard is closed here before it opens elsewhere.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{ClientSettings, KafkaError, REQUEST_TIMEOUT};
use super::lost::Brokers;
use super::record::{Record, TopicPartition};

/// Who computes assignments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// The broker, incrementally (KIP-848, Kafka 4.0 and later).
    Consumer,
    /// The group's leader, stop-the-world; for older brokers.
    Classic,
}

/// Where to start reading a partition that was assigned.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset to deliver.
    pub offset: i64,
}

/// What the handler may ask of the log while it is being assigned partitions.
pub struct Log<'a> {
    consumer: &'a BaseConsumer<Context>,
    paused: std::cell::Cell<bool>,
}

impl Log<'_> {
    /// First offset present and the next one to be written.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not say in time.
    pub fn bounds(&self, partition: &TopicPartition) -> Result<(i64, i64), KafkaError> {
        self.consumer
            .fetch_watermarks(&partition.topic, partition.partition, REQUEST_TIMEOUT)
            .map_err(|e| KafkaError::new(format!("offsets of {partition}"), e))
    }

    /// To be called now and then where being assigned partitions takes long: the group takes a
    /// member that does not poll for dead. What is assigned already rests meanwhile. Returns whether
    /// the group waits for an answer to another rebalance, which it does for minutes, no longer.
    ///
    /// # Errors
    /// Where the client has failed.
    pub fn stay_member(&self) -> Result<bool, HandlerError> {
        if !self.paused.replace(true) {
            self.consumer.pause(&self.consumer.assignment()?)?;
        }
        match self.consumer.poll(Duration::ZERO) {
            // Pausing throws away what was fetched. Not read, the log brings it again.
            Some(Ok(_)) => return Err("a paused partition brought a record".into()),
            Some(Err(error @ RdKafkaError::MessageConsumptionFatal(_))) => {
                return Err(KafkaError::new("consuming", error).into());
            }
            Some(Err(error)) => tracing::warn!(%error, "kafka consumer"),
            None => {}
        }
        let wanted = self.consumer.context().wanted.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(!wanted.is_empty())
    }
}

/// What is done with the records of a group consumer. Everything is called on its thread.
pub trait RecordHandler {
    /// Partitions are ours from now on: says where to start each.
    ///
    /// # Errors
    /// Any error stops the consumer: the caller decides what then.
    fn assigned(
        &mut self,
        partitions: &[TopicPartition],
        log: &Log<'_>,
    ) -> Result<Vec<Assigned>, HandlerError>;
    /// Partitions go to another member as soon as this returns: persist first.
    ///
    /// # Errors
    /// Any error stops the consumer.
    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), HandlerError>;
    /// One record.
    ///
    /// # Errors
    /// Any error stops the consumer; the record is delivered again to whoever comes next.
    fn record(&mut self, record: &Record<'_>) -> Result<(), HandlerError>;
    /// Between polls, at least every 20 ms and after at most [`BURST`] records; `busy` says that
    /// more records are waiting already. Returns positions
    /// to note as the group's offsets, which are for lag tools only: where to start is in the
    /// state.
    ///
    /// # Errors
    /// Any error stops the consumer.
    fn tick(&mut self, busy: bool) -> Result<Vec<(TopicPartition, i64)>, HandlerError>;
    /// Whether it can take no more records for now. Looked at after each tick; while it lasts, the
    /// consumer stays a member and brings none.
    fn is_full(&self) -> bool {
        false
    }
}

/// Whatever stopped a handler.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// Records handled between two ticks. Larger: ticks come late under load. Smaller: their cost
/// shows.
pub const BURST: usize = 2_000;

/// How long a poll waits for a record. Bounds how late a tick comes when nothing arrives.
const POLL: Duration = Duration::from_millis(20);

/// How long a handler may be full before the consumer pauses its partitions. Far below the five
/// minutes after which a member that does not poll is taken for dead.
const PAUSE_AFTER: Duration = Duration::from_secs(30);

enum Rebalance {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

#[derive(Default)]
struct Context {
    wanted: Mutex<VecDeque<Rebalance>>,
    closing: std::sync::atomic::AtomicBool,
    brokers: Brokers,
}

impl Context {
    fn next(&self) -> Option<Rebalance> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for Context {
    fn error(&self, error: RdKafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka consumer");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.brokers.look(statistics);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(std::sync::atomic::Ordering::Acquire) {
            // All was revoked and persisted before closing; librdkafka only wants its answer.
            acknowledge_revocation(consumer, partitions);
            return;
        }
        let wanted = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                Rebalance::Assign(partitions.clone())
            }
            _ => Rebalance::Revoke(partitions.clone()),
        };
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).push_back(wanted);
    }
}

fn acknowledge_revocation(consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) {
    let done = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => {
            held_of(consumer, partitions).and_then(|held| consumer.incremental_unassign(&held))
        }
        _ => consumer.unassign(),
    };
    if let Err(error) = done {
        tracing::warn!(%error, "unassigning partitions");
    }
}

/// Those of `partitions` that are assigned. Unassigning one that is not is an error, and an
/// error is no answer: the client would wait for one for ever, and closing it would hang.
fn held_of(
    consumer: &BaseConsumer<Context>,
    partitions: &TopicPartitionList,
) -> Result<TopicPartitionList, RdKafkaError> {
    let assigned = consumer.assignment()?;
    let mut held = TopicPartitionList::new();
    for one in partitions.elements() {
        if assigned.find_partition(one.topic(), one.partition()).is_some() {
            held.add_partition(one.topic(), one.partition());
        }
    }
    Ok(held)
}

/// A member of a consumer group.
pub struct GroupConsumer {
    consumer: BaseConsumer<Context>,
}

impl GroupConsumer {
    /// Joins `group` for co-partitioned `topics`.
    ///
    /// # Errors
    /// [`KafkaError`] where a property is refused.
    pub fn join(
        settings: &ClientSettings,
        group: &str,
        protocol: GroupProtocol,
        client_id: &str,
        topics: &[&str],
    ) -> Result<Self, KafkaError> {
        let mut own = vec![
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("fetch.min.bytes", "1"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.error.backoff.ms", "50"),
            // With its default of 1 s a bounded queue that was full stalls fetching for a second.
            ("fetch.queue.backoff.ms", "10"),
            ("queued.max.messages.kbytes", "65536"),
        ];
        match protocol {
            GroupProtocol::Consumer => {
                own.push(("group.protocol", "consumer"));
                own.push(("group.remote.assignor", "range"));
            }
            GroupProtocol::Classic => {
                own.push(("group.protocol", "classic"));
                own.push(("partition.assignment.strategy", "range"));
                own.push(("session.timeout.ms", "10000"));
                own.push(("heartbeat.interval.ms", "1000"));
            }
        }
        let config = settings.client(client_id, &own);
        let consumer = BaseConsumer::from_config_and_context(&config, Context::default())
            .map_err(|e| KafkaError::new("creating a consumer", e))?;
        consumer
            .subscribe(topics)
            .map_err(|e| KafkaError::new(format!("subscribing to {topics:?}"), e))?;
        Ok(Self { consumer })
    }

    /// Consumes until `stop` says so, then gives everything back in order.
    ///
    /// # Errors
    /// Whatever the handler returned, or a fatal [`KafkaError`].
    pub fn run(
        &self,
        handler: &mut impl RecordHandler,
        stop: impl Fn() -> bool,
    ) -> Result<(), HandlerError> {
        let ended = self.consume(handler, stop);
        // From here on the callback itself answers rebalances. One that was noted and not yet
        // answered is answered now, or closing would wait for it for ever.
        self.consumer.context().closing.store(true, std::sync::atomic::Ordering::Release);
        while let Some(wanted) = self.consumer.context().next() {
            self.acknowledge_unhandled(&wanted);
        }
        ended
    }

    fn consume(
        &self,
        handler: &mut impl RecordHandler,
        stop: impl Fn() -> bool,
    ) -> Result<(), HandlerError> {
        let mut full_since = None;
        let mut paused = false;
        while !stop() {
            if handler.is_full() {
                let since = *full_since.get_or_insert_with(std::time::Instant::now);
                // Pausing throws away what was fetched ahead, so a short wait does without; a long
                // one must poll, or the group takes this member for dead.
                if !paused && since.elapsed() < PAUSE_AFTER {
                    std::thread::sleep(POLL);
                    self.tick(handler, true)?;
                    continue;
                }
                self.consumer.pause(&self.consumer.assignment()?)?;
                paused = true;
            } else {
                if std::mem::take(&mut paused) {
                    self.consumer.resume(&self.consumer.assignment()?)?;
                }
                full_since = None;
            }
            let mut timeout = POLL;
            let mut busy = true;
            for _ in 0..BURST {
                match self.consumer.poll(timeout) {
                    None => {
                        busy = false;
                        break;
                    }
                    Some(Ok(message)) => handler.record(&Record(message))?,
                    Some(Err(error @ RdKafkaError::MessageConsumptionFatal(_))) => {
                        return Err(KafkaError::new("consuming", error).into());
                    }
                    Some(Err(error)) => tracing::warn!(%error, "kafka consumer"),
                }
                timeout = Duration::ZERO;
            }
            while let Some(wanted) = self.consumer.context().next() {
                let done = self.rebalance(handler, &wanted);
                if done.is_err() {
                    self.acknowledge_unhandled(&wanted);
                }
                done?;
            }
            self.tick(handler, busy)?;
        }
        self.leave(handler)
    }

    fn tick(&self, handler: &mut impl RecordHandler, busy: bool) -> Result<(), HandlerError> {
        let positions = handler.tick(busy)?;
        if !positions.is_empty() {
            self.note(&positions);
        }
        Ok(())
    }

    fn rebalance(
        &self,
        handler: &mut impl RecordHandler,
        wanted: &Rebalance,
    ) -> Result<(), HandlerError> {
        match wanted {
            Rebalance::Assign(partitions) => {
                let named = partitions_of(partitions);
                let log = Log { consumer: &self.consumer, paused: false.into() };
                let starts = handler.assigned(&named, &log)?;
                if log.paused.get() {
                    self.consumer.resume(&self.consumer.assignment()?)?;
                }
                let mut list = TopicPartitionList::new();
                for start in &starts {
                    let tp = &start.partition;
                    list.add_partition_offset(
                        &tp.topic,
                        tp.partition,
                        Offset::Offset(start.offset),
                    )?;
                }
                self.acknowledge_assignment(&list)?;
            }
            Rebalance::Revoke(partitions) => {
                handler.revoked(&partitions_of(partitions))?;
                acknowledge_revocation(&self.consumer, partitions);
            }
        }
        Ok(())
    }

    /// Answers a rebalance that the handler did not take: an assignment is taken with nothing,
    /// and given back when the consumer closes.
    fn acknowledge_unhandled(&self, wanted: &Rebalance) {
        match wanted {
            Rebalance::Assign(_) => {
                if let Err(error) = self.acknowledge_assignment(&TopicPartitionList::new()) {
                    tracing::warn!(%error, "answering an assignment");
                }
            }
            Rebalance::Revoke(partitions) => acknowledge_revocation(&self.consumer, partitions),
        }
    }

    fn acknowledge_assignment(&self, list: &TopicPartitionList) -> Result<(), RdKafkaError> {
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(list),
            _ => self.consumer.assign(list),
        }
    }

    fn leave(&self, handler: &mut impl RecordHandler) -> Result<(), HandlerError> {
        while let Some(wanted) = self.consumer.context().next() {
            match wanted {
                // Came too late to be opened.
                Rebalance::Assign(_) => self.acknowledge_unhandled(&wanted),
                Rebalance::Revoke(_) => self.rebalance(handler, &wanted)?,
            }
        }
        let held = self.consumer.assignment()?;
        handler.revoked(&partitions_of(&held))?;
        self.consumer.context().closing.store(true, std::sync::atomic::Ordering::Release);
        self.consumer.unsubscribe();
        // Serves the revocation that leaving causes. Closing has been seen to hang when it was
        // not served; all is persisted by now, so the time is bounded.
        let until = std::time::Instant::now() + Duration::from_secs(5);
        while self.consumer.assignment()?.count() > 0 && std::time::Instant::now() < until {
            drop(self.consumer.poll(POLL));
        }
        Ok(())
    }

    fn note(&self, positions: &[(TopicPartition, i64)]) {
        let mut list = TopicPartitionList::new();
        for (tp, offset) in positions {
            if let Err(error) =
                list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(*offset))
            {
                tracing::warn!(%error, "noting the group's offsets");
            }
        }
        if let Err(error) = self.consumer.commit(&list, rdkafka::consumer::CommitMode::Async) {
            tracing::debug!(%error, "noting the group's offsets");
        }
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|e| TopicPartition { topic: e.topic().into(), partition: e.partition() })
        .collect()
}

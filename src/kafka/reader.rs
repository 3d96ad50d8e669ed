//! A consumer of partitions that are named by hand: requests of owned shards, and topics that
//! every process reads whole.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{ClientSettings, KafkaError, REQUEST_TIMEOUT};
use super::lost::Brokers;
use super::record::{Record, TopicPartition};

/// Where to start reading a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At this offset.
    At(i64),
    /// At the first record present.
    Beginning,
    /// After the last record present.
    End,
}

#[derive(Default)]
struct Context(Brokers);

impl ClientContext for Context {
    fn error(&self, error: RdKafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka reader");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.look(statistics);
    }
}

impl ConsumerContext for Context {}

fn listed(partitions: &[TopicPartition], offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for tp in partitions {
        list.add_partition_offset(&tp.topic, tp.partition, offset)
            .map_err(|e| KafkaError::new(tp.to_string(), e))?;
    }
    Ok(list)
}

/// What a list says of partitions; none where it says an error or nothing.
fn in_order(partitions: &[TopicPartition], told: &TopicPartitionList) -> Vec<Option<i64>> {
    let told: HashMap<(String, i32), i64> = told
        .elements()
        .iter()
        .filter_map(|element| match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => {
                Some(((element.topic().to_owned(), element.partition()), offset))
            }
            _ => None,
        })
        .collect();
    let of = |tp: &TopicPartition| told.get(&(tp.topic.clone(), tp.partition)).copied();
    partitions.iter().map(of).collect()
}

/// Reads partitions that are named by hand, as no member of a group. `group` only names where
/// positions are noted.
pub struct Reader {
    consumer: BaseConsumer<Context>,
}

impl Reader {
    /// A reader of nothing yet.
    ///
    /// # Errors
    /// [`KafkaError`] where a property is refused.
    pub fn new(
        settings: &ClientSettings,
        group: &str,
        client_id: &str,
    ) -> Result<Self, KafkaError> {
        let config = settings.client(
            client_id,
            &[
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "earliest"),
                ("fetch.min.bytes", "1"),
                ("fetch.wait.max.ms", "100"),
                ("fetch.error.backoff.ms", "20"),
                ("fetch.queue.backoff.ms", "10"),
                ("queued.max.messages.kbytes", "32768"),
            ],
        );
        let consumer = BaseConsumer::from_config_and_context(&config, Context::default())
            .map_err(|e| KafkaError::new("creating a reader", e))?;
        Ok(Self { consumer })
    }

    /// Starts reading a partition.
    ///
    /// # Errors
    /// [`KafkaError`] where the client refuses.
    pub fn add(&self, partition: &TopicPartition, from: Position) -> Result<(), KafkaError> {
        let offset = match from {
            Position::At(offset) => Offset::Offset(offset),
            Position::Beginning => Offset::Beginning,
            Position::End => Offset::End,
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, partition.partition, offset)
            .and_then(|()| self.consumer.incremental_assign(&list))
            .map_err(|e| KafkaError::new(format!("reading {partition}"), e))
    }

    /// Stops reading a partition.
    ///
    /// # Errors
    /// [`KafkaError`] where the client refuses.
    pub fn remove(&self, partition: &TopicPartition) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, partition.partition);
        self.consumer
            .incremental_unassign(&list)
            .map_err(|e| KafkaError::new(format!("no longer reading {partition}"), e))
    }

    /// The next record, waiting up to `timeout`. Errors of the connection are logged: the
    /// client recovers by itself.
    pub fn poll(&self, timeout: Duration) -> Option<Record<'_>> {
        match self.consumer.poll(timeout)? {
            Ok(message) => Some(Record(message)),
            Err(error) => {
                tracing::warn!(%error, "kafka reader");
                None
            }
        }
    }

    /// First offset present and the next one to be written.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not say in time.
    pub fn bounds(&self, partition: &TopicPartition) -> Result<(i64, i64), KafkaError> {
        self.consumer
            .fetch_watermarks(&partition.topic, partition.partition, REQUEST_TIMEOUT)
            .map_err(|e| KafkaError::new(format!("offsets of {partition}"), e))
    }

    /// Number of partitions of a topic; 0 where it does not exist.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not say in time.
    pub fn partitions(&self, topic: &str) -> Result<i32, KafkaError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .map_err(|e| KafkaError::new(format!("partitions of {topic}"), e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        Ok(found.map_or(0, |t| i32::try_from(t.partitions().len()).unwrap_or(i32::MAX)))
    }

    /// The position noted for a partition, where there is one.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not say in time.
    pub fn noted(&self, partition: &TopicPartition) -> Result<Option<i64>, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, partition.partition);
        let noted = self
            .consumer
            .committed_offsets(list, REQUEST_TIMEOUT)
            .map_err(|e| KafkaError::new(format!("noted position of {partition}"), e))?;
        Ok(noted.elements().first().and_then(|e| match e.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }))
    }

    /// The next offsets to be written of many partitions, in their order, in one question a broker;
    /// none where a partition does not answer.
    ///
    /// # Errors
    /// [`KafkaError`] where no broker says in time.
    pub fn ends(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<Option<i64>>, KafkaError> {
        // A time that is the mark of the end asks for the end.
        let list = listed(partitions, Offset::End)?;
        let told = self.consumer.offsets_for_times(list, timeout);
        told.map(|told| in_order(partitions, &told))
            .map_err(|e| KafkaError::new("ends of topics", e))
    }

    /// The first offsets present of many partitions, as [`Reader::ends`].
    ///
    /// # Errors
    /// As [`Reader::ends`].
    pub fn beginnings(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<Option<i64>>, KafkaError> {
        let list = listed(partitions, Offset::Beginning)?;
        let told = self.consumer.offsets_for_times(list, timeout);
        told.map(|told| in_order(partitions, &told))
            .map_err(|e| KafkaError::new("beginnings of topics", e))
    }

    /// The positions noted for many partitions, in their order, in one question.
    ///
    /// # Errors
    /// [`KafkaError`] where no broker says in time.
    pub fn all_noted(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<Option<i64>>, KafkaError> {
        let list = listed(partitions, Offset::Invalid)?;
        let told = self.consumer.committed_offsets(list, timeout);
        told.map(|told| in_order(partitions, &told))
            .map_err(|e| KafkaError::new("noted positions", e))
    }

    /// Notes positions: the next offset to read of each partition.
    ///
    /// # Errors
    /// [`KafkaError`] where `wait` is set and the broker does not take them.
    pub fn note(&self, positions: &[(TopicPartition, i64)], wait: bool) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (tp, offset) in positions {
            list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(*offset))
                .map_err(|e| KafkaError::new(format!("noting {tp}"), e))?;
        }
        let mode = if wait { CommitMode::Sync } else { CommitMode::Async };
        self.consumer.commit(&list, mode).map_err(|e| KafkaError::new("noting positions", e))
    }
}

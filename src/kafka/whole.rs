//! A topic that is read whole, as compacted ones are: from its beginning to where it ends, and on.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::client::{ClientSettings, KafkaError, REQUEST_TIMEOUT};
use super::lost::Brokers;
use super::record::Record;

#[derive(Default)]
struct Context(Brokers);

impl ClientContext for Context {
    fn error(&self, error: RdKafkaError, reason: &str) {
        // The end of a partition is told as an error here too, and is none.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "kafka reader");
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.look(statistics);
    }
}

impl ConsumerContext for Context {}

/// Reads all partitions of a topic, as no member of a group.
pub struct WholeTopic {
    consumer: BaseConsumer<Context>,
    topic: String,
    partitions: Vec<Progress>,
    /// Partitions not yet read to the mark, with the offset at which each ended.
    behind: HashMap<i32, i64>,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    /// The next offset to come.
    next: i64,
    /// Where the partition ended when its end was last reached. Beyond `next` where compaction
    /// has left nothing in between.
    end: i64,
}

impl WholeTopic {
    /// Finds the topic. [`WholeTopic::mark_end`] starts reading at its beginning.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not answer or has no such topic.
    pub fn open(
        settings: &ClientSettings,
        topic: &str,
        client_id: &str,
    ) -> Result<Self, KafkaError> {
        let config = settings.client(
            client_id,
            &[
                // A consumer must have one; no position is ever noted under it.
                ("group.id", client_id),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "true"),
                ("auto.offset.reset", "earliest"),
                ("fetch.min.bytes", "1"),
                ("fetch.wait.max.ms", "100"),
                ("fetch.error.backoff.ms", "20"),
                ("queued.max.messages.kbytes", "32768"),
            ],
        );
        let consumer = BaseConsumer::from_config_and_context(&config, Context::default())
            .map_err(|e| KafkaError::new("creating a reader", e))?;
        let failed = |e| KafkaError::new(format!("partitions of {topic}"), e);
        let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT).map_err(failed)?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        let count = found.map_or(0, |t| t.partitions().len());
        if count == 0 {
            let code = RDKafkaErrorCode::UnknownTopicOrPartition;
            return Err(failed(RdKafkaError::MetadataFetch(code)));
        }
        let partitions = vec![Progress::default(); count];
        Ok(Self { consumer, topic: topic.to_owned(), partitions, behind: HashMap::new() })
    }

    /// Number of its partitions.
    pub fn partitions(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// Lets a partition be read from an offset on, or from its first record where that is later.
    /// Counts from the next [`WholeTopic::mark_end`].
    pub fn start_at(&mut self, partition: i32, offset: i64) {
        let place = usize::try_from(partition).ok();
        if let Some(progress) = place.and_then(|place| self.partitions.get_mut(place)) {
            *progress = Progress { next: offset, end: 0 };
        }
    }

    /// Lets every partition be read from the first record that was appended at a time or later, in
    /// milliseconds since the Unix epoch. Counts from the next [`WholeTopic::mark_end`].
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not say in time.
    pub fn start_at_time(&mut self, at_ms: i64) -> Result<(), KafkaError> {
        let failed = |e| KafkaError::new(format!("offsets of {} by time", self.topic), e);
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions() {
            let time = Offset::Offset(at_ms.max(0));
            list.add_partition_offset(&self.topic, partition, time).map_err(failed)?;
        }
        let found = self.consumer.offsets_for_times(list, REQUEST_TIMEOUT).map_err(failed)?;
        for element in found.elements() {
            let next = match element.offset() {
                Offset::Offset(offset) => offset,
                // Nothing is that new.
                _ => self.bounds(element.partition())?.1,
            };
            self.start_at(element.partition(), next);
        }
        Ok(())
    }

    /// First offset present and the next one to be written.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not say in time.
    pub fn bounds(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.consumer
            .fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT)
            .map_err(|e| KafkaError::new(format!("offsets of {}-{partition}", self.topic), e))
    }

    /// Marks where the topic ends now, and goes on reading from where it was.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not say in time.
    pub fn mark_end(&mut self) -> Result<(), KafkaError> {
        self.behind.clear();
        let mut list = TopicPartitionList::new();
        for (partition, progress) in (0..).zip(&self.partitions) {
            let failed = |e| KafkaError::new(format!("offsets of {}-{partition}", self.topic), e);
            let (low, high) = self
                .consumer
                .fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT)
                .map_err(failed)?;
            if low < high && progress.next.max(progress.end) < high {
                self.behind.insert(partition, high);
            }
            let from = progress.next.max(low);
            list.add_partition_offset(&self.topic, partition, Offset::Offset(from))
                .map_err(failed)?;
        }
        // Assigned after the ends were asked for, and anew each time: an end that was reached
        // before is forgotten with the old assignment, and cannot be taken for this one.
        self.consumer
            .assign(&list)
            .map_err(|e| KafkaError::new(format!("reading {}", self.topic), e))
    }

    /// Whether everything before the mark has been read.
    pub fn is_at_mark(&self) -> bool {
        self.behind.is_empty()
    }

    /// The next record, waiting up to `timeout`. Errors of the connection are logged: the client
    /// recovers by itself.
    pub fn poll(&mut self, timeout: Duration) -> Option<Record<'_>> {
        match self.consumer.poll(timeout)? {
            Ok(message) => {
                let partition = message.partition();
                let next = message.offset() + 1;
                if let Some(progress) = self.partitions.get_mut(partition as usize) {
                    progress.next = next;
                }
                if self.behind.get(&partition).is_some_and(|end| next >= *end) {
                    self.behind.remove(&partition);
                }
                Some(Record(message))
            }
            Err(RdKafkaError::PartitionEOF(partition)) => {
                // The last records may be gone by compaction: only this says that no more come.
                if let Some(end) = self.behind.remove(&partition)
                    && let Some(progress) = self.partitions.get_mut(partition as usize)
                {
                    progress.end = end;
                }
                None
            }
            Err(error) => {
                tracing::warn!(%error, topic = self.topic, "kafka reader");
                None
            }
        }
    }
}

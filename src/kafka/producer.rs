//! Producers: back-pressure by return value, deliveries reported, flushed before they are gone.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use super::client::{ClientSettings, KafkaError, REQUEST_TIMEOUT};
use super::lost::Brokers;
use super::record::{Headers, TopicPartition};

/// What a producer is tuned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerKind {
    /// Requests and replies: sent at once, acknowledged by the leader.
    LowLatency,
    /// Events and derived records: batched, idempotent, acknowledged by all replicas.
    Durable,
    /// What may be lost rather than wait: batched as durable records are, in a queue of bounded
    /// memory, given up after half a minute.
    BestEffort,
}

/// One record to send.
#[derive(Default)]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; by the key's hash where `None`.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: &'a [u8],
    /// Sends a null value in place of `value`.
    pub is_tombstone: bool,
    /// Headers, in order.
    pub headers: Headers,
    /// Milliseconds since the epoch; now where `None`.
    pub timestamp_ms: Option<i64>,
}

/// Called once with partition and offset, or with what went wrong.
pub type DeliveryCall = Box<dyn FnOnce(Result<(i32, i64), String>) + Send + Sync>;

/// Who hears of a delivery.
pub enum Delivery {
    /// Nobody; a failure is logged.
    Ignored,
    /// Counted, to be waited for together.
    Tracked(Arc<Tracker>),
    /// Called with partition and offset, or with what went wrong.
    Call(DeliveryCall),
}

impl Delivery {
    fn end(self, result: Result<(i32, i64), String>) {
        match self {
            Delivery::Ignored => {
                if let Err(error) = result {
                    tracing::warn!(error, "a record was not delivered");
                }
            }
            Delivery::Tracked(tracker) => tracker.end(result),
            Delivery::Call(call) => call(result),
        }
    }
}

/// Counts deliveries that are under way.
#[derive(Default)]
pub struct Tracker {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    under_way: usize,
    failed: usize,
    last_error: Option<String>,
}

impl Tracker {
    fn begin(&self) {
        self.lock().under_way += 1;
    }

    fn end(&self, result: Result<(i32, i64), String>) {
        let mut counts = self.lock();
        counts.under_way -= 1;
        if let Err(error) = result {
            counts.failed += 1;
            counts.last_error = Some(error);
        }
        if counts.under_way == 0 {
            self.changed.notify_all();
        }
    }

    /// Deliveries that have not ended.
    pub fn under_way(&self) -> usize {
        self.lock().under_way
    }

    /// Waits until every delivery has ended, and forgets failures for the next round.
    ///
    /// # Errors
    /// How many failed and the last reason, or that `timeout` passed.
    pub fn wait(&self, timeout: Duration) -> Result<(), String> {
        let until = Instant::now() + timeout;
        let mut counts = self.lock();
        while counts.under_way > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("{} deliveries are still under way", counts.under_way));
            }
            counts =
                self.changed.wait_timeout(counts, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let failed = std::mem::take(&mut counts.failed);
        match counts.last_error.take() {
            Some(error) => Err(format!("{failed} deliveries failed, the last: {error}")),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Context(Brokers);

impl ClientContext for Context {
    fn error(&self, error: RdKafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka producer");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.look(statistics);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Self::DeliveryOpaque) {
        use rdkafka::Message;
        let result = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, message)) => Err(format!("to {}: {error}", message.topic())),
        };
        delivery.end(result);
    }
}

/// A producer with its own polling thread.
pub struct Producer {
    inner: ThreadedProducer<Context>,
}

impl Producer {
    /// Makes a producer.
    ///
    /// # Errors
    /// [`KafkaError`] where a property is refused.
    pub fn new(
        settings: &ClientSettings,
        kind: ProducerKind,
        client_id: &str,
    ) -> Result<Self, KafkaError> {
        let own: &[(&str, &str)] = match kind {
            ProducerKind::LowLatency => &[
                ("partitioner", "murmur2_random"),
                ("linger.ms", "0"),
                ("acks", "1"),
                ("message.timeout.ms", "30000"),
                ("retry.backoff.ms", "20"),
            ],
            ProducerKind::Durable => &[
                ("partitioner", "murmur2_random"),
                ("linger.ms", "5"),
                ("acks", "all"),
                ("enable.idempotence", "true"),
                ("compression.type", "lz4"),
                ("batch.size", "262144"),
                ("queue.buffering.max.messages", "500000"),
                // A dead letter is larger than the record it holds, which may itself be as large
                // as its topic allows, and larger still before the batch is compressed.
                ("message.max.bytes", "16777216"),
                ("message.timeout.ms", "120000"),
                ("retry.backoff.ms", "50"),
            ],
            ProducerKind::BestEffort => &[
                ("partitioner", "murmur2_random"),
                ("linger.ms", "20"),
                ("acks", "all"),
                ("enable.idempotence", "true"),
                ("compression.type", "lz4"),
                ("batch.size", "262144"),
                // Some ten thousand lists: seconds of a busy worker.
                ("queue.buffering.max.kbytes", "32768"),
                ("message.timeout.ms", "30000"),
            ],
        };
        let inner = ThreadedProducer::from_config_and_context(
            &settings.client(client_id, own),
            Context::default(),
        )
        .map_err(|e| KafkaError::new("creating a producer", e))?;
        Ok(Self { inner })
    }

    /// Hands a record to the client. Waits while its queue is full, as back-pressure.
    ///
    /// # Errors
    /// [`KafkaError`] where the record can never be sent: no such topic, too large. `delivery`
    /// hears of it too.
    pub fn send(&self, record: &Outgoing<'_>, delivery: Delivery) -> Result<(), KafkaError> {
        if let Delivery::Tracked(tracker) = &delivery {
            tracker.begin();
        }
        let mut delivery = Box::new(delivery);
        loop {
            match self.hand_over(record, delivery) {
                Ok(()) => return Ok(()),
                Err((error, back)) if is_queue_full(&error) => {
                    delivery = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, back)) => {
                    back.end(Err(error.to_string()));
                    return Err(KafkaError::new(format!("sending to {}", record.topic), error));
                }
            }
        }
    }

    /// Hands a record to the client without ever waiting. Whether it was taken; `on_end` is called
    /// only then.
    ///
    /// # Errors
    /// [`KafkaError`] where the record can never be sent: no such topic, too large.
    pub fn offer(&self, record: &Outgoing<'_>, on_end: DeliveryCall) -> Result<bool, KafkaError> {
        match self.hand_over(record, Box::new(Delivery::Call(on_end))) {
            Ok(()) => Ok(true),
            Err((error, _)) if is_queue_full(&error) => Ok(false),
            Err((error, _)) => Err(KafkaError::new(format!("sending to {}", record.topic), error)),
        }
    }

    fn hand_over(
        &self,
        record: &Outgoing<'_>,
        delivery: Box<Delivery>,
    ) -> Result<(), (RdKafkaError, Box<Delivery>)> {
        let mut base: BaseRecord<'_, [u8], [u8], _> =
            BaseRecord::with_opaque_to(record.topic, delivery);
        base.payload = (!record.is_tombstone).then_some(record.value);
        base.key = record.key;
        base.partition = record.partition;
        base.timestamp = record.timestamp_ms;
        if !record.headers.is_empty() {
            base.headers = Some(owned(&record.headers));
        }
        self.inner.send(base).map_err(|(error, back)| (error, back.delivery_opaque))
    }

    /// First offset present in a partition and the next one to be written. A client that fetches
    /// hears of it only after the fetch before, which a broker without news holds for a while.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not say in time.
    pub fn bounds(&self, partition: &TopicPartition) -> Result<(i64, i64), KafkaError> {
        self.inner
            .client()
            .fetch_watermarks(&partition.topic, partition.partition, REQUEST_TIMEOUT)
            .map_err(|e| KafkaError::new(format!("offsets of {partition}"), e))
    }

    /// Waits until everything handed over is delivered or has failed.
    ///
    /// # Errors
    /// [`KafkaError`] where `timeout` passes first.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.inner.flush(timeout).map_err(|e| KafkaError::new("flushing", e))
    }
}

fn is_queue_full(error: &RdKafkaError) -> bool {
    matches!(error, RdKafkaError::MessageProduction(RDKafkaErrorCode::QueueFull))
}

fn owned(headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (key, value)| {
        all.insert(Header { key, value: value.as_deref() })
    })
}

//! Clients of the product's own topics: sends events and requests, reads replies. Used by the
//! tools, benches and tests; the worker never uses it.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::Config;
use crate::event::{
    Encoding, EventTopic, Feedback, Rejection, Reply, Request, UserEvent, decode_reply,
    encode_request,
};
use crate::kafka::{
    Delivery, Headers, KafkaError, Outgoing, Position, Producer, ProducerKind, Reader,
    TopicPartition, headers, partition_of,
};
use crate::runtime::{self, Stop, Urgency};

/// What went wrong with a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Kafka does not answer or refuses.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The record could not be encoded.
    #[error("encoding: {0}")]
    Encode(#[from] Rejection),
    /// A topic is missing.
    #[error("topic {0} does not exist: run `driftline topics apply` first")]
    NoTopic(String),
    /// Nobody answered.
    #[error("no reply within {0:?}: is a worker running? `driftline doctor` looks")]
    NoReply(Duration),
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Sends users' events: what they watched, clicked, and do not want to see.
pub struct EventSender {
    producer: Producer,
    topics: [String; 3],
    encoding: Encoding,
}

impl EventSender {
    /// A sender of Avro events.
    ///
    /// # Errors
    /// [`ClientError::Kafka`] where a property is refused.
    pub fn new(config: &Config, kind: ProducerKind) -> Result<Self, ClientError> {
        Ok(Self {
            producer: Producer::new(&config.kafka.client(), kind, "driftline-events")?,
            topics: EventTopic::ALL.map(|topic| config.topics.events(topic)),
            encoding: Encoding::AvroSingleObject,
        })
    }

    /// Hands an event to the producer, keyed by its user.
    ///
    /// # Errors
    /// [`ClientError`] where it cannot be encoded or sent.
    pub fn send(&self, event: &UserEvent<'_>, delivery: Delivery) -> Result<(), ClientError> {
        let value = event.encode(self.encoding)?;
        self.send_bytes(event.source(), &event.user, &value, delivery)
    }

    /// Hands an event to the producer that has lost the end of its record on the way: what a broken
    /// client sends. It will be refused as malformed.
    ///
    /// # Errors
    /// [`ClientError`] where it cannot be encoded or sent.
    pub fn send_damaged(
        &self,
        event: &UserEvent<'_>,
        delivery: Delivery,
    ) -> Result<(), ClientError> {
        let value = event.encode(self.encoding)?;
        self.send_bytes(event.source(), &event.user, &value[..value.len() / 2], delivery)
    }

    /// Hands feedback to the producer, keyed by its user.
    ///
    /// # Errors
    /// [`ClientError`] where it cannot be encoded or sent.
    pub fn send_feedback(
        &self,
        feedback: &Feedback<'_>,
        delivery: Delivery,
    ) -> Result<(), ClientError> {
        let value = feedback.encode(self.encoding)?;
        self.send_bytes(EventTopic::Feedback, &feedback.user, &value, delivery)
    }

    fn send_bytes(
        &self,
        topic: impl Into<EventTopic>,
        user: &str,
        value: &[u8],
        delivery: Delivery,
    ) -> Result<(), ClientError> {
        let outgoing = Outgoing {
            topic: self.topic(topic),
            key: Some(user.as_bytes()),
            value,
            ..Outgoing::default()
        };
        Ok(self.producer.send(&outgoing, delivery)?)
    }

    /// The name of a topic of events.
    pub fn topic(&self, topic: impl Into<EventTopic>) -> &str {
        &self.topics[topic.into() as usize]
    }

    /// Waits until everything sent is delivered.
    ///
    /// # Errors
    /// [`ClientError::Kafka`] where `timeout` passes first.
    pub fn flush(&self, timeout: Duration) -> Result<(), ClientError> {
        Ok(self.producer.flush(timeout)?)
    }
}

/// What a request asks for besides the list.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// Epoch milliseconds after which nobody waits.
    pub deadline_ms: Option<i64>,
    /// Positions that the answer must know.
    pub after: Vec<(TopicPartition, i64)>,
}

/// Asks for recommendations over the request and reply topics.
pub struct RequestClient {
    producer: Producer,
    topic: String,
    reply_topic: String,
    partitions: i32,
    waiting: Arc<Waiting>,
    stop: Stop,
    reader: Option<JoinHandle<()>>,
}

type OnReply = Box<dyn FnOnce(Reply) + Send>;
type Waiting = Mutex<HashMap<[u8; 16], OnReply>>;

/// A request that was sent with [`RequestClient::send_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked([u8; 16]);

impl RequestClient {
    /// Connects and begins to listen on the default reply topic.
    ///
    /// # Errors
    /// [`ClientError`] where the topics do not exist or the broker does not answer.
    pub fn connect(config: &Config) -> Result<Self, ClientError> {
        let settings = config.kafka.client();
        let admin = crate::kafka::Admin::new(&settings)?;
        let topics = admin.topics()?;
        let partitions = |name: &str| {
            let found = topics.iter().find(|t| t.name == name).map(|t| t.partitions);
            found.ok_or_else(|| ClientError::NoTopic(name.to_owned()))
        };
        let reply_topic = config.topics.replies();
        // The group names where positions would be noted; none are.
        let reader = Reader::new(&settings, "driftline-client", "driftline-client")?;
        for partition in 0..partitions(&reply_topic)? {
            let tp = TopicPartition { topic: reply_topic.clone(), partition };
            let (_, end) = reader.bounds(&tp)?;
            reader.add(&tp, Position::At(end))?;
        }
        let (waiting, stop) = (Arc::new(Waiting::default()), Stop::default());
        let (heard, ended) = (Arc::clone(&waiting), stop.clone());
        let thread =
            runtime::spawn("replies", Urgency::Now, move || listen(&reader, &heard, &ended))?;
        Ok(Self {
            producer: Producer::new(&settings, ProducerKind::LowLatency, "driftline-client")?,
            topic: config.topics.requests(),
            partitions: partitions(&config.topics.requests())?,
            reply_topic,
            waiting,
            stop,
            reader: Some(thread),
        })
    }

    /// Sends a request; the reply comes through the receiver.
    ///
    /// # Errors
    /// [`ClientError`] where it cannot be encoded or sent.
    pub fn send(&self, request: &Request, asking: &Asking) -> Result<Receiver<Reply>, ClientError> {
        let (answer, reply) = channel();
        self.send_with(request, asking, move |reply| drop(answer.send(reply)))?;
        Ok(reply)
    }

    /// Sends a request; `on_reply` is called on the thread that reads replies, and must not
    /// block it.
    ///
    /// # Errors
    /// [`ClientError`] where it cannot be encoded or sent.
    pub fn send_with(
        &self,
        request: &Request,
        asking: &Asking,
        on_reply: impl FnOnce(Reply) + Send + 'static,
    ) -> Result<Asked, ClientError> {
        let value = encode_request(request, Encoding::AvroSingleObject)?;
        let correlation = *uuid::Uuid::new_v4().as_bytes();
        self.waiting().insert(correlation, Box::new(on_reply));
        let mut all: Headers = vec![
            (headers::CORRELATION_ID.into(), Some(correlation.to_vec())),
            (headers::REPLY_TOPIC.into(), Some(self.reply_topic.clone().into_bytes())),
        ];
        if let Some(deadline) = asking.deadline_ms {
            all.push((headers::DEADLINE.into(), Some(deadline.to_string().into_bytes())));
        }
        if !asking.after.is_empty() {
            let positions: Vec<String> =
                asking.after.iter().map(|(tp, offset)| format!("{tp}@{offset}")).collect();
            all.push((headers::AFTER.into(), Some(positions.join(",").into_bytes())));
        }
        let outgoing = Outgoing {
            topic: &self.topic,
            // Anonymous ones are spread over the shards.
            key: Some(request.user.as_str().as_bytes()).filter(|key| !key.is_empty()),
            value: &value,
            headers: all,
            ..Outgoing::default()
        };
        if let Err(error) = self.producer.send(&outgoing, Delivery::Ignored) {
            self.forget(Asked(correlation));
            return Err(error.into());
        }
        Ok(Asked(correlation))
    }

    /// Nobody waits for this reply any more; without this, one that never comes is waited for
    /// as long as the client lives.
    pub fn forget(&self, asked: Asked) {
        self.waiting().remove(&asked.0);
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// [`ClientError::NoReply`] where none comes in time.
    pub fn ask(
        &self,
        request: &Request,
        asking: &Asking,
        timeout: Duration,
    ) -> Result<Reply, ClientError> {
        let (answer, reply) = channel();
        let asked = self.send_with(request, asking, move |reply| drop(answer.send(reply)))?;
        reply.recv_timeout(timeout).map_err(|e| match e {
            RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected => {
                self.forget(asked);
                ClientError::NoReply(timeout)
            }
        })
    }

    /// The shard that a user's events and requests go to.
    pub fn shard_of(&self, user: &str) -> i32 {
        partition_of(user.as_bytes(), self.partitions)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 16], OnReply>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestClient {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(Err(error)) = self.reader.take().map(runtime::join) {
            tracing::warn!(error, "reading replies");
        }
    }
}

fn listen(reader: &Reader, waiting: &Waiting, stop: &Stop) {
    while !stop.is_requested() {
        if let Some(record) = reader.poll(Duration::from_millis(50)) {
            let id = record
                .header(headers::CORRELATION_ID)
                .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            let asked = id
                .and_then(|id| waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
            // Replies to others share the topic.
            if let Some(asked) = asked {
                match decode_reply(record.value()) {
                    Ok(reply) => asked(reply),
                    Err(error) => tracing::warn!(%error, "an unreadable reply"),
                }
            }
        }
    }
}

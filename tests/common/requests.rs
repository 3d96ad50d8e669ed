//! A client of the request and reply topics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::installation::Installation;
use super::kafka::{Headers, Kafka, Out, Seen};
use super::{PATIENCE, avro};

pub const CORRELATION: &str = "kafka_correlationId";
pub const REPLY_TOPIC: &str = "kafka_replyTopic";
pub const REPLY_PARTITION: &str = "kafka_replyPartition";

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Ask {
    pub user: String,
    pub fields: Value,
    pub json: bool,
    pub correlation: Vec<u8>,
    pub headers: Headers,
    /// In place of the encoded request.
    pub value: Option<Vec<u8>>,
}

impl Ask {
    /// As Avro, for ten items, to the default reply topic.
    pub fn of(user: &str) -> Self {
        Self {
            user: user.into(),
            fields: json!({"count": 10}),
            json: false,
            correlation: uuid::Uuid::new_v4().as_bytes().to_vec(),
            headers: Vec::new(),
            value: None,
        }
    }

    /// The same for somebody who was never shown anything: what was, moves lists on.
    pub fn of_a_stranger() -> Self {
        Self::of(&uuid::Uuid::new_v4().to_string())
    }

    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields[field] = value.into();
        self
    }

    pub fn json(mut self) -> Self {
        self.json = true;
        self
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), Some(value.as_ref().to_vec())));
        self
    }

    pub fn deadline_in(self, ms: i64) -> Self {
        self.header("deadline", (super::now_ms() + ms).to_string())
    }

    pub fn correlated(mut self, id: &[u8]) -> Self {
        self.correlation = id.to_vec();
        self
    }

    pub fn raw(mut self, value: &[u8]) -> Self {
        self.value = Some(value.to_vec());
        self
    }

    fn out(&self, topic: &str) -> Out {
        let mut body = self.fields.clone();
        if body.get("user").is_none() {
            body["user"] = self.user.clone().into();
        }
        let encoded = || {
            if self.json { body.to_string().into_bytes() } else { avro::REQUEST.encode(&body) }
        };
        let mut headers = vec![(CORRELATION.to_owned(), Some(self.correlation.clone()))];
        headers.extend(self.headers.clone());
        Out {
            topic: topic.into(),
            key: Some(self.user.clone().into_bytes()),
            value: Some(self.value.clone().unwrap_or_else(encoded)),
            headers,
            ..Out::default()
        }
    }
}

/// A reply as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    pub record: Seen,
    pub body: Value,
}

impl Answer {
    /// The error's type; empty where there is a list.
    pub fn error(&self) -> &str {
        self.body["error"]["type"].as_str().unwrap_or_default()
    }

    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    pub fn items(&self) -> Vec<String> {
        let items = self.body["items"].as_array().expect("a list of items");
        items.iter().map(|i| i["item"].as_str().expect("an item").to_owned()).collect()
    }

    pub fn after(&self) -> &str {
        self.body["after"].as_str().expect("an outcome of `after`")
    }

    /// The parts that were missing.
    pub fn degraded(&self) -> Vec<&str> {
        let all = self.body["degraded"].as_array().expect("a list of degradations");
        all.iter().map(|d| d["part"].as_str().expect("a part")).collect()
    }
}

/// Sends requests and hears replies on the reply topics it was told of.
pub struct Client {
    kafka: Kafka,
    topic: String,
    heard: Arc<Heard>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    replies: Mutex<Vec<Seen>>,
    more: Condvar,
    stop: AtomicBool,
}

impl Client {
    /// Listens on the default reply topic.
    pub fn new(installation: &Installation) -> Self {
        Self::listening(installation, &["recommendation-replies"])
    }

    pub fn listening(installation: &Installation, topics: &[&str]) -> Self {
        // Replies are waited for: nothing is gained by sending requests together.
        let kafka = Kafka::with(&installation.kafka.bootstrap, &[("linger.ms", "0")]);
        let topics: Vec<String> = topics.iter().map(|t| installation.topic(t)).collect();
        let heard = Arc::new(Heard::default());
        let listener = listen(&kafka, &topics, Arc::clone(&heard));
        let topic = installation.topic("recommendation-requests");
        Self { kafka, topic, heard, listener: Some(listener) }
    }

    pub fn send(&self, ask: &Ask) {
        // Delivery is not waited for: the reply says that it arrived.
        drop(self.kafka.send(&ask.out(&self.topic)));
    }

    /// Sends a record as it is to the request topic.
    pub fn send_raw(&self, out: Out) {
        drop(self.kafka.send(&Out { topic: self.topic.clone(), ..out }));
    }

    pub fn ask(&self, ask: &Ask) -> Answer {
        self.send(ask);
        self.reply(&ask.correlation)
    }

    /// The first reply with this correlation id; a request met with silence fails the test.
    pub fn reply(&self, correlation: &[u8]) -> Answer {
        let mut waited = self.heard.replies.lock().expect("replies");
        let until = Instant::now() + PATIENCE;
        loop {
            let found = waited.iter().find(|r| r.header(CORRELATION) == Some(correlation));
            if let Some(record) = found {
                let record = record.clone();
                drop(waited);
                let body = avro::REPLY.decode(record.value.as_deref().unwrap_or_default());
                return Answer { record, body };
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "silence: no reply to {correlation:02x?}");
            waited = self.heard.more.wait_timeout(waited, left).expect("replies").0;
        }
    }

    /// Everything heard so far with this correlation id.
    pub fn heard(&self, correlation: &[u8]) -> Vec<Seen> {
        let all = self.heard.replies.lock().expect("replies");
        all.iter().filter(|r| r.header(CORRELATION) == Some(correlation)).cloned().collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.heard.stop.store(true, Ordering::Release);
        let ended = self.listener.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("a listener").expect("the listener heard everything");
        }
    }
}

fn listen(kafka: &Kafka, topics: &[String], heard: Arc<Heard>) -> JoinHandle<()> {
    let consumer = kafka.consumer();
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for (partition, (_, end)) in kafka.bounds(topic).into_iter().enumerate() {
            list.add_partition_offset(topic, partition as i32, Offset::Offset(end))
                .expect("an offset");
        }
    }
    consumer.assign(&list).expect("an assignment");
    std::thread::spawn(move || {
        while !heard.stop.load(Ordering::Acquire) {
            match consumer.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => {
                    heard.replies.lock().expect("replies").push(Seen::of(&message));
                    heard.more.notify_all();
                }
                Some(Err(error)) => eprintln!("listening for replies: {error}"),
                None => {}
            }
        }
    })
}

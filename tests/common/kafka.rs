//! Clients of the topics: sends records, reads topics whole, listens.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::PATIENCE;

/// Name and value; both in order, a name may occur more than once.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record to send.
#[derive(Clone, Debug, Default)]
pub struct Out {
    pub topic: String,
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

impl Seen {
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|all| {
            all.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            topic: message.topic().into(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(n, _)| n == name)?.1.as_deref()
    }

    pub fn text(&self, name: &str) -> &str {
        let bytes = self.header(name).unwrap_or_else(|| panic!("no header {name}: {self:?}"));
        std::str::from_utf8(bytes).expect("a header in UTF-8")
    }
}

/// Hears where records went.
struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Sender<(i32, i64)>>;

    fn delivery(&self, result: &DeliveryResult<'_>, heard: Self::DeliveryOpaque) {
        match result {
            Ok(message) => drop(heard.send((message.partition(), message.offset()))),
            // The waiting test fails when the sender is dropped without a word.
            Err((error, message)) => eprintln!("not delivered to {}: {error}", message.topic()),
        }
    }
}

/// A connection to the broker.
pub struct Kafka {
    pub bootstrap: String,
    producer: ThreadedProducer<Deliveries>,
}

impl Kafka {
    pub fn connect(bootstrap: &str) -> Self {
        Self::with(bootstrap, &[])
    }

    /// With producer properties of the test's own.
    pub fn with(bootstrap: &str, properties: &[(&str, &str)]) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("partitioner", "murmur2_random")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.max.bytes", "20000000")
            .set("queue.buffering.max.messages", "1000000")
            .set("reconnect.backoff.max.ms", "500")
            .set("message.timeout.ms", "120000");
        properties.iter().for_each(|(key, value)| {
            config.set(*key, *value);
        });
        let producer = config.create_with_context(Deliveries).expect("a producer");
        Self { bootstrap: bootstrap.into(), producer }
    }

    /// Sends a record; its partition and offset come through the receiver.
    pub fn send(&self, out: &Out) -> Receiver<(i32, i64)> {
        let (heard, position) = channel();
        let mut opaque = Box::new(heard);
        loop {
            let mut record: BaseRecord<'_, [u8], [u8], _> =
                BaseRecord::with_opaque_to(&out.topic, opaque);
            record.key = out.key.as_deref();
            record.payload = out.value.as_deref();
            record.partition = out.partition;
            if !out.headers.is_empty() {
                record.headers = Some(out.headers.iter().fold(OwnedHeaders::new(), |all, h| {
                    all.insert(Header { key: &h.0, value: h.1.as_deref() })
                }));
            }
            match self.producer.send(record) {
                Ok(()) => return position,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    opaque = back.delivery_opaque;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("sending to {}: {error}", out.topic),
            }
        }
    }

    /// Sends records and waits until all are delivered. Returns where they went.
    pub fn deliver<'a>(&self, all: impl IntoIterator<Item = &'a Out>) -> Vec<(i32, i64)> {
        let waiting: Vec<_> = all.into_iter().map(|out| self.send(out)).collect();
        let heard = |position: Receiver<(i32, i64)>| {
            position.recv_timeout(PATIENCE).expect("a delivered record")
        };
        waiting.into_iter().map(heard).collect()
    }

    pub fn flush(&self) {
        self.producer.flush(PATIENCE).expect("everything sent is delivered");
    }

    /// First offset and end of each partition.
    pub fn bounds(&self, topic: &str) -> Vec<(i64, i64)> {
        bounds(&self.consumer(), topic)
    }

    /// Every record of a topic, up to where it ends now, by partition and offset.
    pub fn read_all(&self, topic: &str) -> Vec<Seen> {
        let consumer = self.consumer();
        let ends: Vec<i64> = bounds(&consumer, topic).into_iter().map(|b| b.1).collect();
        self.read_until(&consumer, topic, ends)
    }

    fn read_until(&self, consumer: &BaseConsumer, topic: &str, ends: Vec<i64>) -> Vec<Seen> {
        let mut list = TopicPartitionList::new();
        for (partition, end) in ends.iter().enumerate() {
            if *end > 0 {
                list.add_partition_offset(topic, partition as i32, Offset::Beginning)
                    .expect("an offset");
            }
        }
        consumer.assign(&list).expect("an assignment");
        let mut all = Vec::new();
        let mut left: Vec<bool> = ends.iter().map(|end| *end > 0).collect();
        let until = Instant::now() + PATIENCE;
        while left.contains(&true) {
            assert!(Instant::now() < until, "{topic} could not be read to its end");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let seen = Seen::of(&message);
                    let partition = seen.partition as usize;
                    left[partition] &= seen.offset + 1 < ends[partition];
                    if seen.offset < ends[partition] {
                        all.push(seen);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => eprintln!("reading {topic}: {error}"),
            }
        }
        all.sort_by_key(|seen| (seen.partition, seen.offset));
        all
    }

    /// Reads partitions named by hand.
    pub fn consumer(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", "black-box-tests")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "20")
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .expect("a consumer")
    }

    fn admin(&self) -> (AdminClient<DefaultClientContext>, tokio::runtime::Runtime) {
        let admin = ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        (admin.expect("an admin client"), runtime.expect("a runtime"))
    }

    /// Lets a dead member of `group` be noticed in 1.5 s instead of the broker's 6 s, so that
    /// twenty crashes take a minute.
    pub fn notice_dead_members_soon(&self, group: &str) {
        let (admin, runtime) = self.admin();
        let config = AlterConfig::new(ResourceSpecifier::Group(group))
            .set("consumer.session.timeout.ms", "1500")
            .set("consumer.heartbeat.interval.ms", "300");
        let altered = runtime.block_on(admin.alter_configs([&config], &AdminOptions::new()));
        for result in altered.expect("the broker takes group configuration") {
            result.expect("the group is configured");
        }
    }

    /// Sets a topic's configuration by hand, all of it.
    pub fn configure_topic(&self, name: &str, config: &[(&str, &str)]) {
        let (admin, runtime) = self.admin();
        let fresh = AlterConfig::new(ResourceSpecifier::Topic(name));
        let config = config.iter().fold(fresh, |all, (key, value)| all.set(key, value));
        let altered = runtime.block_on(admin.alter_configs([&config], &AdminOptions::new()));
        altered.expect("an answer").remove(0).expect("a configured topic");
    }

    pub fn topic_config(&self, name: &str) -> BTreeMap<String, String> {
        let (admin, runtime) = self.admin();
        let topic = ResourceSpecifier::Topic(name);
        let described = runtime.block_on(admin.describe_configs([&topic], &AdminOptions::new()));
        let resource = described.expect("an answer").remove(0).expect("a described topic");
        resource.entries.into_iter().filter_map(|e| Some((e.name, e.value?))).collect()
    }

    pub fn create_topic(&self, name: &str, partitions: i32) {
        use rdkafka::admin::{NewTopic, TopicReplication};
        let (admin, runtime) = self.admin();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let created = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
        created.expect("an answer").remove(0).expect("a new topic");
        super::eventually("a new topic is known", || {
            let metadata = self.producer.client().fetch_metadata(Some(name), PATIENCE).ok()?;
            let known = metadata.topics().first()?;
            (known.error().is_none() && known.partitions().len() == partitions as usize)
                .then_some(())
        });
    }

    /// Deletes what a topic's partitions hold before these offsets, as its retention would.
    pub fn delete_records(&self, topic: &str, before: &[i64]) {
        let (admin, runtime) = self.admin();
        let mut list = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(before) {
            list.add_partition_offset(topic, partition, Offset::Offset(*offset)).expect("a list");
        }
        let deleted = runtime.block_on(admin.delete_records(&list, &AdminOptions::new()));
        for one in deleted.expect("an answer").elements() {
            one.error().expect("deleted records");
        }
    }

    pub fn delete_topic(&self, name: &str) {
        let (admin, runtime) = self.admin();
        let deleted = runtime.block_on(admin.delete_topics(&[name], &AdminOptions::new()));
        deleted.expect("an answer").remove(0).expect("a deleted topic");
        super::eventually("a deleted topic is gone", || {
            let metadata = self.producer.client().fetch_metadata(None, PATIENCE).ok()?;
            metadata.topics().iter().all(|t| t.name() != name).then_some(())
        });
    }
}

fn bounds(consumer: &BaseConsumer, topic: &str) -> Vec<(i64, i64)> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let partitions = metadata.topics()[0].partitions().len();
    assert!(partitions > 0, "{topic} does not exist");
    (0..partitions as i32)
        .map(|p| consumer.fetch_watermarks(topic, p, PATIENCE).expect("watermarks"))
        .collect()
}

//! Request → reply beside an echo responder over the same broker, and event → changed reply
//! beside one produce → consume hop. One echo, one request in turn, so that noise hits both.
//!
//! `cargo bench --bench latency -- [samples, default 1000]`

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use driftline::client::{Asking, EventSender, RequestClient};
use driftline::config::Config;
use driftline::event::{After, Encoding, Request, encode_request};
use driftline::ids::UserId;
use driftline::kafka::{
    Delivery, Outgoing, Position, Producer, ProducerKind, Reader, Record, TopicPartition, headers,
};
use driftline::time::wall_now;
use driftline::worker::Worker;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

const USERS: u64 = 20_000;
const KNOWN_EVENTS: u64 = 400_000;

fn main() {
    let samples = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(1_000);
    let broker = common::Broker::find();
    let data = tempfile::tempdir().expect("a folder");
    let config = common::config(&broker, "latency", data.path(), &[]);
    let topics = common::make_topics(&config, 8);
    let echo = Echo::start(&config);
    common::produce(&config, KNOWN_EVENTS, USERS);
    let worker = Worker::start(config.clone()).expect("a worker");
    while !worker.health().ready {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(3));

    let client = Asker::start(&config);
    let mut rows = Vec::new();
    rows.push(compare("idle", &client, &echo, samples));

    let stop = Arc::new(AtomicBool::new(false));
    let load = steady_load(&config, 20_000, Arc::clone(&stop));
    std::thread::sleep(Duration::from_secs(2));
    rows.push(compare("20k events/s", &client, &echo, samples));
    stop.store(true, Ordering::Relaxed);
    load.join().expect("a clean end");
    let fresh = freshness(&config, samples / 2);

    // A backlog: the worker is away while a million events arrive.
    worker.shutdown().expect("a clean end");
    common::produce(&config, 1_000_000, USERS);
    let worker = Worker::start(config.clone()).expect("a worker");
    while worker.shards().counts().0 == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    rows.push(backlog(&worker, &client, &echo));
    worker.shutdown().expect("a clean end");
    drop(echo);

    common::table(
        &format!("Request → reply, {samples} requests, one at a time"),
        &[
            "load",
            "echo p50",
            "request p50",
            "ratio",
            "echo p99",
            "request p99",
            "ratio",
            "samples",
        ],
        &rows,
    );
    common::table("Freshness", &["", "p50", "p99", "ratio of p99 (limit 3)"], &fresh);
    common::delete_topics(&config, &topics);
}

fn request(number: u64) -> Request {
    let user = UserId::new(format!("u{:07}", number * 7_919 % USERS));
    Request::new(format!("r{number}"), user, 20)
}

fn ms(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}

fn row(load: &str, echoes: &mut [f64], requests: &mut [f64]) -> Vec<String> {
    let count = requests.len();
    let (e50, r50) = (common::median(echoes), common::median(requests));
    let (e99, r99) = (common::quantile(echoes, 0.99), common::quantile(requests, 0.99));
    let cells = vec![
        load.to_owned(),
        ms(e50),
        ms(r50),
        format!("{:.2}", r50 / e50),
        ms(e99),
        ms(r99),
        format!("{:.2}", r99 / e99),
        count.to_string(),
    ];
    println!("{cells:?}");
    cells
}

fn compare(load: &str, client: &Asker, echo: &Echo, samples: usize) -> Vec<String> {
    let (mut echoes, mut requests) = (Vec::new(), Vec::new());
    for number in 0..samples as u64 + 100 {
        let echoed = echo.ask();
        let asked = client.ask(number);
        if number >= 100 {
            echoes.push(echoed);
            requests.push(asked);
        }
    }
    row(load, &mut echoes, &mut requests)
}

/// Asks as the echo's client does: sends, and polls the partition of the reply topic that it
/// asked to be answered on.
struct Asker {
    echo: EchoClient,
    replies: String,
}

impl Asker {
    fn start(config: &Config) -> Self {
        Self {
            echo: EchoClient::start(config, config.topics.requests(), 2),
            replies: config.topics.replies(),
        }
    }

    fn ask(&self, number: u64) -> f64 {
        let request = request(number);
        let value = encode_request(&request, Encoding::AvroSingleObject).expect("encoded");
        let id = uuid::Uuid::new_v4().as_bytes().to_vec();
        let begun = Instant::now();
        let outgoing = Outgoing {
            topic: &self.echo.topic,
            key: Some(request.user.as_str().as_bytes()),
            value: &value,
            headers: vec![
                (headers::CORRELATION_ID.into(), Some(id.clone())),
                (headers::REPLY_TOPIC.into(), Some(self.replies.clone().into_bytes())),
                (headers::REPLY_PARTITION.into(), Some(2i32.to_be_bytes().to_vec())),
            ],
            ..Outgoing::default()
        };
        self.echo.send_and_wait(&outgoing, |r| r.header(headers::CORRELATION_ID) == Some(&id));
        begun.elapsed().as_secs_f64()
    }
}

/// Requests while the backlog is being folded. Answers say that the user's newest events may be
/// missing; they do not wait for them.
fn backlog(worker: &Worker, client: &Asker, echo: &Echo) -> Vec<String> {
    let (mut echoes, mut requests) = (Vec::new(), Vec::new());
    let mut number = 0;
    while worker.shards().counts().1 > 0 {
        echoes.push(echo.ask());
        requests.push(client.ask(number));
        number += 1;
    }
    row("1M-event backlog", &mut echoes, &mut requests)
}

fn steady_load(config: &Config, per_second: u64, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    let sender = EventSender::new(config, ProducerKind::Durable).expect("a producer");
    std::thread::spawn(move || {
        let mut dice = common::Dice(42);
        let begun = Instant::now();
        let start = wall_now();
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            let due = (begun.elapsed().as_secs_f64() * per_second as f64) as u64;
            while sent < due {
                let event =
                    common::watch_event(&mut dice, 10_000_000 + sent, USERS, start - 10_000_000);
                sender.send(&event, Delivery::Ignored).expect("sent");
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        sender.flush(Duration::from_secs(60)).expect("flushed");
    })
}

/// Event produced → reply that knows it, beside one produce → consume hop.
fn freshness(config: &Config, samples: usize) -> Vec<Vec<String>> {
    let client = RequestClient::connect(config).expect("a client");
    let sender = EventSender::new(config, ProducerKind::LowLatency).expect("a producer");
    // A client that answers itself: what it produces it consumes.
    let hop = EchoClient::start(config, config.topics.replies(), 0);
    let mut dice = common::Dice(7);
    let (mut hops, mut fresh) = (Vec::new(), Vec::new());
    for number in 0..samples as u64 + 50 {
        let one_hop = hop.round_trip();
        let event =
            common::watch_event(&mut dice, 50_000_000 + number, USERS, wall_now() - 50_000_000);
        let (heard, delivered) = channel();
        let begun = Instant::now();
        let call = move |result: Result<(i32, i64), String>| drop(heard.send(result));
        sender.send(&event, Delivery::Call(Box::new(call))).expect("sent");
        let (partition, offset) = delivered.recv().expect("heard").expect("delivered");
        let tp = TopicPartition { topic: sender.topic(event.source()).to_owned(), partition };
        let asking = Asking { deadline_ms: None, after: vec![(tp, offset)] };
        let request = Request::new(format!("f{number}"), UserId::from(event.user.as_ref()), 20);
        let reply = client.ask(&request, &asking, Duration::from_secs(10)).expect("a reply");
        assert_eq!(reply.after, After::Satisfied);
        if number >= 50 {
            fresh.push(begun.elapsed().as_secs_f64());
            hops.push(one_hop);
        }
    }
    let ratio = common::quantile(&mut fresh, 0.99) / common::quantile(&mut hops, 0.99);
    let line = |name: &str, values: &mut Vec<f64>, ratio: String| {
        let p99 = common::quantile(values, 0.99);
        vec![name.to_owned(), ms(common::median(values)), ms(p99), ratio]
    };
    vec![
        line("one hop", &mut hops, "1".into()),
        line("event → changed reply", &mut fresh, format!("{ratio:.2}")),
    ]
}

/// A responder that sends back what it gets, and its client.
struct Echo {
    stop: Arc<AtomicBool>,
    responder: Option<JoinHandle<()>>,
    client: EchoClient,
}

/// Sends a record and waits for the one that answers it, on one partition of the reply topic.
struct EchoClient {
    producer: Producer,
    reader: Reader,
    topic: String,
}

impl EchoClient {
    fn start(config: &Config, topic: String, reply_partition: i32) -> Self {
        let settings = config.kafka.client();
        let reader = Reader::new(&settings, "bench-client", "bench-client").expect("a reader");
        let replies = TopicPartition { topic: config.topics.replies(), partition: reply_partition };
        reader.add(&replies, Position::End).expect("added");
        let producer =
            Producer::new(&settings, ProducerKind::LowLatency, "bench-client").expect("a producer");
        std::thread::sleep(Duration::from_secs(1));
        Self { producer, reader, topic }
    }

    fn send_and_wait(&self, outgoing: &Outgoing<'_>, is_answer: impl Fn(&Record<'_>) -> bool) {
        self.producer.send(outgoing, Delivery::Ignored).expect("sent");
        while !self.reader.poll(Duration::from_secs(5)).is_some_and(|r| is_answer(&r)) {}
    }

    /// Sends random bytes and waits for them to come back.
    fn round_trip(&self) -> f64 {
        let id = uuid::Uuid::new_v4();
        let begun = Instant::now();
        let outgoing = Outgoing {
            topic: &self.topic,
            partition: Some(0),
            value: id.as_bytes(),
            ..Outgoing::default()
        };
        self.send_and_wait(&outgoing, |r| r.value() == id.as_bytes());
        begun.elapsed().as_secs_f64()
    }
}

impl Echo {
    fn start(config: &Config) -> Self {
        // Over a topic that the worker does not read, and the one it replies on.
        let (ask, answer) = (config.topics.dead_letters(), config.topics.replies());
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", &config.kafka.bootstrap)
            .set_log_level(RDKafkaLogLevel::Error);
        let consumer: BaseConsumer = base
            .clone()
            .set("group.id", "bench-echo")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "100")
            .create()
            .expect("a consumer");
        let producer: BaseProducer =
            base.set("linger.ms", "0").set("acks", "1").create().expect("a producer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&ask, 0, Offset::End).expect("an offset");
        consumer.assign(&list).expect("assigned");
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let reply_topic = answer.clone();
        let responder = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                    let value = message.payload().unwrap_or_default();
                    let record: BaseRecord<'_, (), [u8]> =
                        BaseRecord::to(&reply_topic).partition(1).payload(value);
                    producer.send(record).expect("sent");
                }
                producer.poll(Duration::ZERO);
            }
        });
        let client = EchoClient::start(config, ask, 1);
        Self { stop, responder: Some(responder), client }
    }

    fn ask(&self) -> f64 {
        self.client.round_trip()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(responder) = self.responder.take() {
            responder.join().expect("a clean end");
        }
    }
}

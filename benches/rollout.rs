//! Rollback: from the record that asks for it to all workers serving the version before, and what requests
//! notice of it.
//!
//! `cargo bench --bench rollout -- [repetitions, default 50] [workers, default 3]`
//! Workers and the controller are processes of their own on a real broker. The baseline is a hop: a record
//! produced with acks of all, and read back.

mod common;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use driftline::client::{Asking, RequestClient};
use driftline::config::Config;
use driftline::deployer::{Operator, Who};
use driftline::deployment::{GOLDEN_FILE, golden_lists};
use driftline::event::{Encoding, ModelAck, Request, RetrainTrigger, TriggerAction, TriggerState};
use driftline::ids::{ItemId, UserId};
use driftline::kafka::{Delivery, Outgoing, Producer, ProducerKind, Tracker, WholeTopic};
use driftline::model::{Basis, Dim, HistoryWeights, Hyperparameters, Position, Training, Vectors};
use driftline::registry::{BASIS, Blessing, Blessings, Manifest, ModelVersion, Origin};
use driftline::time::EventTime;

const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (repetitions, workers) =
        (numbers.first().copied().unwrap_or(50), numbers.get(1).copied().unwrap_or(3));
    let broker = common::Broker::find();
    let data = tempfile::tempdir().expect("a folder");
    let uri = format!("objects.uri=file://{}/objects", data.path().display());
    let base = ["log.level=error", uri.as_str()];
    let config = common::config(&broker, "rollout", data.path(), &base);
    let topics = common::make_topics(&config, 6);
    let fleet: Vec<Process> = (0..workers)
        .map(|n| Process::start(&config, &format!("worker-{n}"), data.path(), &["worker"]))
        .collect();
    let controller = Process::start(&config, "controller", data.path(), &["deploy", "run"]);
    let mut operator = Operator::open(&config).expect("an operator");
    let mut acks = Acks::open(&config);
    let who = Who { by: "bench", why: "a repetition", force: None };
    let old = register(&operator, 0);
    let decided = operator.promote(old, &who).expect("it serves");
    acks.wait(workers, decided.epoch);

    let load = Load::start(&config);
    let producer = Producer::new(&config.kafka.client(), ProducerKind::Durable, "bench-rollout")
        .expect("a producer");
    let (mut hops, mut back) = (Vec::new(), Vec::new());
    for repetition in 0..repetitions {
        let new = register(&operator, repetition + 1);
        let decided = operator.promote(new, &who).expect("it serves");
        acks.wait(workers, decided.epoch);
        hops.push(hop(&config, &producer));
        let begun = Instant::now();
        ask_back(&config, &producer, new);
        acks.wait(workers, decided.epoch + 1);
        back.push(begun.elapsed().as_secs_f64() * 1e3);
        let control = operator.controller().read().expect("a decision").clone();
        assert_eq!(control.champion, old.to_string(), "{}", control.reason);
    }
    let (asked, failed) = load.end();
    drop((controller, fleet));
    let row = |name: &str, values: &mut Vec<f64>| {
        vec![
            name.to_owned(),
            format!("{:.0} ms", common::median(values)),
            format!("{:.0} ms", common::quantile(values, 0.99)),
            format!("{:.0} ms", common::quantile(values, 1.0)),
        ]
    };
    let ratio = common::median(&mut back) / common::median(&mut hops);
    common::table(
        &format!("{repetitions} rollbacks over {workers} workers"),
        &["", "p50", "p99", "largest"],
        &[row("a hop", &mut hops), row("asked for → all workers follow", &mut back)],
    );
    println!("{ratio:.1} hops; {asked} requests meanwhile, {failed} failed");
    common::delete_topics(&config, &topics);
}

/// A process that ends with the bench.
struct Process(Child);

impl Process {
    fn start(config: &Config, name: &str, data: &std::path::Path, what: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftline"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DRIFTLINE_")) {
            command.env_remove(name);
        }
        let settings = [
            format!("kafka.bootstrap={}", config.kafka.bootstrap),
            format!("kafka.group={}", config.kafka.group),
            format!("topics.prefix={}", config.topics.prefix),
            format!("worker.data_dir={}", data.join(name).display()),
            format!("objects.uri={}", config.objects.uri),
            "items.first_basis.enabled=false".into(),
            "http.listen=".into(),
            "log.level=error".into(),
        ];
        settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        command.args(what).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Acks {
    topic: WholeTopic,
    epochs: std::collections::BTreeMap<Vec<u8>, i64>,
}

impl Acks {
    fn open(config: &Config) -> Self {
        let name = config.topics.model_acks();
        let mut topic = WholeTopic::open(&config.kafka.client(), &name, "bench").expect("acks");
        topic.mark_end().expect("acks");
        Self { topic, epochs: Default::default() }
    }

    /// Waits until so many workers follow an epoch.
    fn wait(&mut self, workers: usize, epoch: i64) {
        let begun = Instant::now();
        while self.epochs.values().filter(|known| **known >= epoch).count() < workers {
            assert!(begun.elapsed() < LIMIT, "not all follow: {:?}", self.epochs);
            let Some(record) = self.topic.poll(Duration::from_millis(5)) else { continue };
            if let Ok(ack) = ModelAck::decode(record.value()) {
                self.epochs.insert(record.key().unwrap_or_default().to_vec(), ack.epoch);
            }
        }
    }
}

/// Asks for users all the time.
struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<u64>,
}

impl Load {
    fn start(config: &Config) -> Self {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = RequestClient::connect(config).expect("a client");
        let (own_stop, own_failed) = (Arc::clone(&stop), Arc::clone(&failed));
        let thread = std::thread::spawn(move || {
            let asking = Asking { deadline_ms: None, after: Vec::new() };
            let mut asked = 0;
            while !own_stop.load(Ordering::Relaxed) {
                let user = UserId::new(format!("u{}", asked % 500));
                let request = Request::new(format!("r{asked}"), user, 10);
                let reply = client.ask(&request, &asking, Duration::from_secs(10));
                let is_answered = reply.is_ok_and(|reply| reply.error.is_none());
                own_failed.fetch_add(u64::from(!is_answered), Ordering::Relaxed);
                asked += 1;
            }
            asked
        });
        Self { stop, failed, thread }
    }

    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self.thread.join().expect("a clean end");
        (asked, self.failed.load(Ordering::Relaxed))
    }
}

/// Milliseconds from producing a record to reading it.
fn hop(config: &Config, producer: &Producer) -> f64 {
    let topic = config.topics.training_runs();
    let mut reader = WholeTopic::open(&config.kafka.client(), &topic, "bench").expect("a reader");
    reader.mark_end().expect("a mark");
    while !reader.is_at_mark() {
        reader.poll(Duration::from_millis(5));
    }
    let begun = Instant::now();
    send(producer, &topic, b"a hop");
    while reader.poll(Duration::from_millis(5)).is_none() {
        assert!(begun.elapsed() < LIMIT, "it never came");
    }
    begun.elapsed().as_secs_f64() * 1e3
}

/// What a monitor tells that finds errors.
fn ask_back(config: &Config, producer: &Producer, version: ModelVersion) {
    let trigger = RetrainTrigger {
        event_id: version.to_string(),
        action: TriggerAction::Rollback,
        state: TriggerState::Firing,
        model_version: version.to_string(),
        reason: "errors".into(),
        ..RetrainTrigger::default()
    };
    let value = trigger.encode(Encoding::AvroSingleObject).expect("a trigger");
    send(producer, &config.topics.retrain_triggers(), &value);
}

fn send(producer: &Producer, topic: &str, value: &[u8]) {
    let tracker = Arc::new(Tracker::default());
    let outgoing = Outgoing { topic, key: Some(b"bench"), value, ..Outgoing::default() };
    producer.send(&outgoing, Delivery::Tracked(Arc::clone(&tracker))).expect("sent");
    tracker.wait(LIMIT).expect("delivered");
}

/// A blessed version, unlike those of other numbers.
fn register(operator: &Operator, n: usize) -> ModelVersion {
    let items = 1_000;
    let dim = Dim::new(16).expect("a dimension");
    let value = |at: usize| ((at * (37 + n) % 101) as f32 - 50.0) / 50.0;
    let training = Training {
        items: (0..items).map(|item| ItemId::new(format!("v{item}"))).collect(),
        counts: vec![1; items],
        vectors: Vectors::from_values(dim, (0..items * 16).map(value).collect()).expect("vectors"),
        hyperparameters: Hyperparameters {
            unobserved: 0.1,
            regularization: 0.01,
            history: HistoryWeights { newest: 5.0, ratio: 0.7, limit: 50 },
        },
        watermark: EventTime::from_millis(1_700_000_000_000),
    };
    let basis = Basis::seal(training, [[Position(0)]], 1).expect("a basis");
    let golden = golden_lists(&basis, &[vec!["v1".to_owned(), "v7".to_owned()]]);
    let golden = serde_json::to_vec(&golden).expect("JSON");
    let blessing = Blessing { granted: true, reasons: vec!["a bench".into()] };
    let draft = Manifest {
        feature_schema: driftline::ranking::schema_name().into(),
        dimension: 16,
        blessings: Blessings { validation: blessing.clone(), loading: blessing },
        ..Manifest::draft(basis.version().into(), Origin::Train, 1_700_000_000_000)
    };
    let files = vec![
        (BASIS.to_owned(), Bytes::from(basis.to_bytes())),
        (GOLDEN_FILE.to_owned(), Bytes::from(golden)),
    ];
    operator.registry().register(draft, files).expect("it is registered").version
}

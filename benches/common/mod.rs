//! What benches share: a broker, isolated topics, event generation, a table.

#![allow(dead_code)] // Each bench uses its own part.

use std::borrow::Cow;
use std::process::Command;
use std::time::Duration;

use driftline::client::EventSender;
use driftline::config::{Config, Sources, load};
use driftline::event::{EventKind, UserEvent};
use driftline::kafka::{Admin, Delivery, Plan, ProducerKind, load_topic_files, plan};
use driftline::time::{EventTime, wall_now};

/// The broker: `DRIFTLINE_BOOTSTRAP`, else one that is started and stopped again.
pub struct Broker {
    pub bootstrap: String,
    own: Option<tempfile::TempDir>,
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/broker.sh");

impl Broker {
    pub fn find() -> Self {
        if let Ok(bootstrap) = std::env::var("DRIFTLINE_BOOTSTRAP") {
            return Self { bootstrap, own: None };
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let up = Command::new(SCRIPT).args(["up", "--dir"]).arg(folder.path()).output();
        let up = up.expect("scripts/broker.sh");
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let bootstrap = String::from_utf8_lossy(&up.stdout).trim().to_owned();
        Self { bootstrap, own: Some(folder) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(folder) = &self.own {
            drop(Command::new(SCRIPT).args(["down", "--dir"]).arg(folder.path()).output());
        }
    }
}

/// A Redis that is removed again.
pub struct Redis {
    pub address: String,
    folder: tempfile::TempDir,
}

const REDIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/redis.sh");

impl Redis {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let up = Command::new(REDIS).args(["up", "--dir"]).arg(folder.path()).output();
        let up = up.expect("scripts/redis.sh");
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        Self { address: String::from_utf8_lossy(&up.stdout).trim().to_owned(), folder }
    }

    /// Runs one command; returns what it said.
    pub fn run(&self, arguments: &[&str]) -> String {
        let (host, port) = self.address.split_once(':').expect("host:port");
        let mut command = Command::new("redis-cli");
        let output = command.args(["-h", host, "-p", port]).args(arguments).output();
        let output = output.expect("redis-cli runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Memory that its data takes.
    pub fn used_bytes(&self) -> f64 {
        let info = self.run(&["INFO", "memory"]);
        let line = info.lines().find_map(|line| line.trim().strip_prefix("used_memory_dataset:"));
        line.and_then(|bytes| bytes.parse().ok()).expect("a number of bytes")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(Command::new(REDIS).args(["wipe", "--dir"]).arg(self.folder.path()).output());
    }
}

/// A configuration of its own prefix, group and folder.
pub fn config(broker: &Broker, name: &str, data: &std::path::Path, extra: &[&str]) -> Config {
    let id = wall_now();
    let mut overrides = vec![
        format!("kafka.bootstrap={}", broker.bootstrap),
        format!("topics.prefix=bench-{name}-{id}-"),
        format!("kafka.group=bench-{name}-{id}"),
        format!("worker.data_dir={}", data.display()),
        "http.listen=".to_owned(),
    ];
    overrides.extend(extra.iter().map(|s| (*s).to_owned()));
    load(&Sources { overrides, ..Sources::default() }).expect("a valid configuration")
}

/// Makes the topics of a configuration; returns their names.
pub fn make_topics(config: &Config, partitions: i32) -> Vec<String> {
    make(config, partitions, |_| true)
}

/// Makes a topic anew, empty.
pub fn remake_topic(config: &Config, name: &str, partitions: i32) {
    delete_topics(config, &[name.to_owned()]);
    make(config, partitions, |topic| topic == name);
}

fn make(config: &Config, partitions: i32, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let admin = Admin::new(&config.kafka.client()).expect("an admin client");
    let mut files = load_topic_files(None, &config.topics.prefix).expect("topic files");
    files.retain(|f| wanted(&f.name));
    files.iter_mut().filter(|f| f.partitions > 1).for_each(|f| f.partitions = partitions);
    let Plan { changes, .. } = plan(&files, &[]);
    changes.iter().for_each(|c| admin.apply(c).expect("a topic"));
    let names: Vec<String> = files.into_iter().map(|f| f.name).collect();
    admin.wait_for(&names.iter().map(String::as_str).collect::<Vec<_>>()).expect("topics");
    names
}

/// Deletes topics that a bench made.
pub fn delete_topics(config: &Config, names: &[String]) {
    let admin = Admin::new(&config.kafka.client()).expect("an admin client");
    admin.delete(&names.iter().map(String::as_str).collect::<Vec<_>>()).expect("deleted");
}

/// A small deterministic generator: benches need speed, not quality.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The `i`-th watch event: users at random among `users`, 100k items, one event a millisecond.
pub fn watch_event(dice: &mut Dice, i: u64, users: u64, start: i64) -> UserEvent<'static> {
    let duration_ms = 10_000 + dice.below(200_000);
    UserEvent {
        id: Cow::Owned(format!("e{i:09}")),
        user: Cow::Owned(format!("u{:07}", dice.below(users))),
        item: Cow::Owned(format!("v{:06}", dice.below(100_000))),
        at: EventTime::from_millis(start + i as i64),
        kind: EventKind::Watch { watched_ms: dice.below(duration_ms), duration_ms },
        surface: Cow::Borrowed("home"),
        session: Cow::Owned(format!("s{}", i / 1_000_000)),
        request: None,
        value: 0.0,
        device: None,
    }
}

/// Produces watch events; returns the mean size of a record's value in bytes.
pub fn produce(config: &Config, events: u64, users: u64) -> f64 {
    let sender = EventSender::new(config, ProducerKind::Durable).expect("a producer");
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let start = wall_now() - 86_400_000;
    let mut bytes = 0;
    for i in 0..events {
        let event = watch_event(&mut dice, i, users, start);
        if i < 1_000 {
            let encoded = event.encode(driftline::event::Encoding::AvroSingleObject);
            bytes += encoded.expect("encoded").len();
        }
        sender.send(&event, Delivery::Ignored).expect("sent");
    }
    sender.flush(Duration::from_secs(120)).expect("flushed");
    bytes as f64 / events.min(1_000) as f64
}

/// The middle of the values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value below which `share` of the values lie.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// Prints a Markdown table, as docs/benchmarks.md holds it.
pub fn table(title: &str, header: &[&str], rows: &[Vec<String>]) {
    println!("\n### {title}\n");
    println!("| {} |", header.join(" | "));
    println!("|{}|", header.iter().map(|_| "---").collect::<Vec<_>>().join("|"));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

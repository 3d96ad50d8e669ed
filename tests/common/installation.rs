//! One test's own installation: prefix, group, folders and topics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::events::{Event, Source};
use super::kafka::{Kafka, Out, Seen};
use super::worker::Worker;
use super::{avro, broker, eventually};

pub struct Installation {
    pub kafka: Kafka,
    pub prefix: String,
    pub group: String,
    pub partitions: i32,
    pub folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
}

impl Installation {
    /// On the shared broker, with its topics.
    pub fn new(name: &str, settings: &[(&str, &str)]) -> Self {
        Self::on(broker::shared(), name, settings)
    }

    pub fn on(bootstrap: &str, name: &str, settings: &[(&str, &str)]) -> Self {
        let new = Self::without_topics(bootstrap, name, settings);
        new.expect_ok(&["topics", "apply", "--partitions", &new.partitions.to_string()]);
        new.kafka.notice_dead_members_soon(&new.group);
        new.kafka.notice_dead_members_soon(&format!("{}-items", new.group));
        new
    }

    pub fn without_topics(bootstrap: &str, name: &str, settings: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique =
            format!("{name}-{}-{}-{number}", std::process::id(), super::now_ms() % 100_000);
        Self {
            kafka: Kafka::connect(bootstrap),
            prefix: format!("{unique}."),
            group: unique,
            partitions: 4,
            folder: tempfile::tempdir().expect("a folder"),
            settings: settings.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        }
    }

    /// The same topics, folded by another group in other folders.
    pub fn second_group(&self) -> Self {
        let group = format!("{}-second", self.group);
        self.kafka.notice_dead_members_soon(&group);
        self.kafka.notice_dead_members_soon(&format!("{group}-items"));
        Self {
            kafka: Kafka::connect(&self.kafka.bootstrap),
            prefix: self.prefix.clone(),
            group,
            partitions: self.partitions,
            folder: tempfile::tempdir().expect("a folder"),
            settings: self.settings.clone(),
        }
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The binary, set up for this installation and `data_dir`, with nothing of the caller's
    /// environment that would configure it.
    pub fn command(&self, data_dir: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftline"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DRIFTLINE_")) {
            command.env_remove(name);
        }
        command.args(["--bootstrap", &self.kafka.bootstrap]);
        let own = [
            ("topics.prefix", self.prefix.as_str()),
            ("kafka.group", &self.group),
            ("worker.data_dir", &data_dir.display().to_string()),
            ("http.listen", "127.0.0.1:0"),
            ("log.format", "json"),
        ]
        .map(|(key, value)| format!("{key}={value}"));
        let given = self.settings.iter().map(|(key, value)| format!("{key}={value}"));
        for setting in own.into_iter().chain(given) {
            command.arg("--set").arg(setting);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_over(&self.data_dir("worker"), arguments)
    }

    pub fn run_over(&self, data_dir: &Path, arguments: &[&str]) -> Output {
        self.command(data_dir).args(arguments).output().expect("the binary runs")
    }

    /// Runs a command that must succeed; returns what it printed.
    pub fn expect_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} failed: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Starts a worker over the folder `name`.
    pub fn worker(&self, name: &str) -> Worker {
        self.worker_with(name, &[])
    }

    pub fn worker_with(&self, name: &str, settings: &[(&str, &str)]) -> Worker {
        let data_dir = self.data_dir(name);
        let mut command = self.command(&data_dir);
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.arg("worker");
        Worker::spawn(command, data_dir, self.folder.path().join(format!("{name}.log")))
    }

    pub fn ready_worker(&self, name: &str) -> Worker {
        let mut worker = self.worker(name);
        worker.wait_ready();
        worker
    }

    // --- Events ------------------------------------------------------------------------------

    pub fn out(&self, event: &Event) -> Out {
        Out {
            topic: self.topic(event.source.topic()),
            key: Some(event.user.clone().into_bytes()),
            value: Some(event.encode()),
            ..Out::default()
        }
    }

    /// Sends events and waits until they are delivered. Returns where they went.
    pub fn deliver(&self, events: &[Event]) -> Vec<(i32, i64)> {
        let all: Vec<Out> = events.iter().map(|e| self.out(e)).collect();
        self.kafka.deliver(&all)
    }

    /// All events on the topics, as a consumer of them sees them; `keep` tells those that are
    /// none, which a test has put there, from the rest.
    pub fn read_events(&self, keep: impl Fn(&Seen) -> bool) -> Vec<Event> {
        let mut all = Vec::new();
        for source in Source::ALL {
            let codec = if source == Source::Watch { &avro::WATCH } else { &avro::CLICK };
            let seen = self.kafka.read_all(&self.topic(source.topic()));
            all.extend(seen.iter().filter(|s| keep(s)).map(|s| {
                Event::from_json(source, &codec.decode(s.value.as_deref().unwrap_or_default()))
            }));
        }
        all
    }

    /// The shard of each user who has sent an event.
    pub fn shards_of_users(&self) -> BTreeMap<String, i32> {
        let mut shards = BTreeMap::new();
        for source in Source::ALL {
            let codec = if source == Source::Watch { &avro::WATCH } else { &avro::CLICK };
            for seen in self.kafka.read_all(&self.topic(source.topic())) {
                let event = codec.decode(seen.value.as_deref().unwrap_or_default());
                let user = event["user"].as_str().expect("a user").to_owned();
                shards.insert(user, seen.partition);
            }
        }
        shards
    }

    // --- State -------------------------------------------------------------------------------

    /// Every user of a folder, by id.
    pub fn dump(&self, data_dir: &Path) -> BTreeMap<String, Value> {
        let output = self.run_over(data_dir, &["state", "dump"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "state dump: {said}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let mut users = BTreeMap::new();
        for line in text.lines() {
            let user: Value = serde_json::from_str(line).expect("a JSON line");
            let id = user["user"].as_str().expect("a user").to_owned();
            assert!(users.insert(id, user).is_none(), "a user is dumped twice: {line}");
        }
        users
    }

    pub fn digest(&self, data_dir: &Path) -> Value {
        let output = self.run_over(data_dir, &["state", "digest", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "state digest: {said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Next offsets of watch and click events that are committed, by shard; `None` where there
    /// is nothing to read yet.
    pub fn progress(&self, data_dir: &Path) -> Option<BTreeMap<i32, [i64; 2]>> {
        let output = self.run_over(data_dir, &["state", "stats", "--json"]);
        if !output.status.success() {
            return None;
        }
        let text = String::from_utf8(output.stdout).ok()?;
        let mut all = BTreeMap::new();
        for line in text.lines() {
            let shard: Value = serde_json::from_str(line).ok()?;
            let next = |s: &str| shard["progress"][s]["next_offset"].as_i64();
            all.insert(shard["shard"].as_i64()? as i32, [next("watch")?, next("click")?]);
        }
        Some(all)
    }

    /// Where the event topics end, by shard.
    pub fn ends(&self) -> BTreeMap<i32, [i64; 2]> {
        let [watch, click] =
            Source::ALL.map(|source| self.kafka.bounds(&self.topic(source.topic())));
        (0..self.partitions).zip(watch.iter().zip(&click).map(|(w, c)| [w.1, c.1])).collect()
    }

    /// Waits until everything on the event topics is committed in a folder.
    pub fn wait_folded(&self, worker: &mut Worker) {
        eventually("everything is folded", || {
            assert!(worker.is_running(), "the worker ended:\n{}", worker.log_text());
            // Rerouted events move the ends, so these are asked for each time.
            (self.progress(&worker.data_dir)? == self.ends()).then_some(())
        });
    }

    /// The same where several workers share the shards: each must be complete in the folder of
    /// a worker.
    pub fn wait_folded_by_any(&self, workers: &[&Worker]) {
        eventually("everything is folded by some worker", || {
            let found: Vec<_> = workers.iter().filter_map(|w| self.progress(&w.data_dir)).collect();
            let is_complete =
                |(shard, end): (&i32, &[i64; 2])| found.iter().any(|f| f.get(shard) == Some(end));
            self.ends().iter().all(is_complete).then_some(())
        });
    }

    pub fn dead_letters(&self) -> Vec<Seen> {
        self.kafka.read_all(&self.topic("dead-letters"))
    }
}

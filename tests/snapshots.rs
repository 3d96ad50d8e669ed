//! Snapshots: a worker whose disk is gone goes on where it was, whatever the log still has.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::dice::Dice;
use common::events::{Event, Stream};
use common::eventually;
use common::installation::Installation;
use common::oracle::{self, DEFAULT_RULES};
use common::s3::{CREDENTIALS, S3};
use common::worker::Worker;
use serde_json::Value;

const TOPICS: [&str; 2] = ["watch-events", "click-events"];
const RESTORES: &str = "driftline_restores_total";
const SKIPPED: &str = "driftline_snapshots_skipped_total";
const LOST: &str = "driftline_state_records_lost_total";

/// An installation whose workers make a snapshot a second, into a folder beside their own.
struct Site {
    site: Installation,
    settings: Vec<(String, String)>,
    objects: PathBuf,
    stream: Stream,
    /// All that was ever sent: the topics forget.
    sent: Vec<Event>,
}

impl Site {
    fn new(name: &str) -> Self {
        let site = Installation::new(name, &[]);
        let objects = site.folder.path().join("objects");
        let stream = Stream::new(Dice::printed(name), 120, 20_000);
        let settings = [
            ("snapshots.enabled", "true".to_owned()),
            ("snapshots.interval_seconds", "1".to_owned()),
            ("state.commit_interval_ms", "50".to_owned()),
            ("items.publish_interval_ms", "200".to_owned()),
            ("objects.uri", format!("file://{}", objects.display())),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value)).to_vec();
        Self { site, settings, objects, stream, sent: Vec::new() }
    }

    fn on(name: &str, s3: &S3) -> Self {
        let mut new = Self::new(name);
        new.set("objects.uri", "s3://lake/state");
        new.set("objects.endpoint", &s3.server.address);
        new.objects = s3.bucket().join("state");
        new
    }

    fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    fn send(&mut self, count: usize) {
        let events: Vec<Event> = (0..count).map(|_| self.stream.draw()).collect();
        self.site.deliver(&events);
        self.sent.extend(events);
    }

    fn worker(&self, name: &str) -> Worker {
        let data_dir = self.site.data_dir(name);
        let mut command = self.site.command(&data_dir);
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.arg("worker").envs(CREDENTIALS);
        Worker::spawn(command, data_dir, self.site.folder.path().join(format!("{name}.log")))
    }

    /// Starts a worker and lets it fold everything, then ends it.
    fn fold_all(&self, name: &str) {
        let mut worker = self.worker(name);
        worker.wait_ready();
        self.wait_folded(&mut worker);
        worker.drain();
    }

    fn wait_folded(&self, worker: &mut Worker) {
        self.site.wait_folded(worker);
        eventually("item shards have come to the end", || {
            (self.item_positions(worker)? == self.item_ends()).then_some(())
        });
    }

    fn item_ends(&self) -> Vec<i64> {
        let bounds = self.site.kafka.bounds(&self.site.topic("interactions"));
        bounds.into_iter().map(|(_, end)| end).collect()
    }

    fn item_positions(&self, worker: &Worker) -> Option<Vec<i64>> {
        let output = self.site.run_over(&worker.data_dir, &["state", "stats", "--items", "--json"]);
        let text = String::from_utf8(output.stdout).ok()?;
        let line = |line: &str| {
            let shard: Value = serde_json::from_str(line).ok()?;
            Some((shard["shard"].as_i64()?, shard["progress"]["statistics"]["next"].as_i64()?))
        };
        let mut all = text.lines().map(line).collect::<Option<Vec<_>>>()?;
        all.sort_unstable();
        Some(all.into_iter().map(|(_, next)| next).collect())
    }

    /// Digests of users and of items.
    fn digests(&self, name: &str) -> [Value; 2] {
        let folder = self.site.data_dir(name);
        let items = self.site.run_over(&folder, &["state", "digest", "--items", "--json"]);
        [self.site.digest(&folder), serde_json::from_slice(&items.stdout).expect("JSON")]
    }

    fn lose_disk(&self, name: &str) {
        std::fs::remove_dir_all(self.site.data_dir(name)).expect("a disk to lose");
    }

    /// The topics forget all that they hold now.
    fn forget(&self) {
        for topic in TOPICS.iter().chain(&["interactions"]) {
            let topic = self.site.topic(topic);
            let ends: Vec<i64> =
                self.site.kafka.bounds(&topic).into_iter().map(|(_, end)| end).collect();
            self.site.kafka.delete_records(&topic, &ends);
        }
    }

    fn assert_knows_all(&self, name: &str) {
        let expected = oracle::fold(&self.sent, DEFAULT_RULES);
        oracle::assert_same(&self.site.dump(&self.site.data_dir(name)), &expected);
    }

    /// Snapshots as the command line lists them.
    fn list(&self) -> Vec<Value> {
        let mut command = self.site.command(&self.site.data_dir("none"));
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(["state", "snapshots", "list", "--json"]).envs(CREDENTIALS);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[test]
fn a_lost_disk_is_made_anew_from_snapshots_also_where_the_topics_have_forgotten_everything() {
    let mut site = Site::new("lost-disk");
    site.send(4_000);
    site.fold_all("a");
    let before = site.digests("a");
    site.lose_disk("a");
    site.forget();
    let mut worker = site.worker("a");
    worker.wait_ready();
    site.wait_folded(&mut worker);
    assert_eq!(worker.metric(RESTORES), 8.0, "4 shards of users and 4 of items");
    assert_eq!(worker.metric(LOST), 0.0);
    worker.drain();
    assert_eq!(site.digests("a"), before);
    site.assert_knows_all("a");

    // What comes later is folded on top, by another worker that has never been here.
    site.send(2_000);
    site.fold_all("b");
    site.assert_knows_all("b");
}

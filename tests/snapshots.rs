//! Snapshots: a worker whose disk is gone goes on where it was, whatever the log still has.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use common::dice::Dice;
use common::events::{Event, Source, Stream};
use common::eventually;
use common::installation::Installation;
use common::oracle::{self, DEFAULT_RULES, Rules};
use common::requests::{Ask, Client};
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

    fn driftline(&self, arguments: &[&str]) -> Output {
        let mut command = self.site.command(&self.site.data_dir("none"));
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(arguments).envs(CREDENTIALS).output().expect("it runs")
    }

    /// Snapshots as the command line lists them.
    fn list(&self) -> Vec<Value> {
        let output = self.driftline(&["state", "snapshots", "list", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The files in which the parts of a listed snapshot lie.
    fn parts(&self, listed: &Value) -> Vec<PathBuf> {
        let path = self.objects.join(listed["key"].as_str().expect("a key"));
        let bytes = std::fs::read(path).expect("a manifest");
        let manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
        let files = manifest["files"].as_array().expect("files");
        let parts = files.iter().flat_map(|file| file["parts"].as_array().expect("parts"));
        parts.map(|part| self.objects.join(part["key"].as_str().expect("a key"))).collect()
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

#[test]
fn a_worker_that_comes_back_after_the_log_has_passed_it_takes_the_snapshot_of_another() {
    let mut site = Site::new("behind");
    site.send(2_000);
    site.fold_all("a");
    site.send(2_000);
    site.fold_all("b");
    let before = site.digests("b");
    site.forget();
    let mut worker = site.worker("a");
    worker.wait_ready();
    site.wait_folded(&mut worker);
    assert_eq!((worker.metric(RESTORES), worker.metric(LOST)), (8.0, 0.0));
    worker.drain();
    assert_eq!(site.digests("a"), before);
    site.assert_knows_all("a");
    assert!(site.site.data_dir("a").join("user-0.set-aside").is_dir());
}

#[test]
fn a_worker_that_is_killed_while_it_uploads_and_loses_its_disk_each_time_knows_everything() {
    let mut site = Site::new("kill-upload");
    // So that an upload takes as long as a worker lives.
    site.set("snapshots.bytes_per_second", "60000");
    site.set("snapshots.grace_seconds", "0");
    let mut dice = Dice::printed("kills");
    let (mut restored, mut rounds) = (0.0, 0);
    // How much of an upload is done when a worker dies is up to the machine.
    while rounds < 8 || restored < 8.0 {
        rounds += 1;
        assert!(rounds < 40, "{restored} stores were made from snapshots");
        site.send(600);
        let mut worker = site.worker("a");
        worker.wait_ready();
        restored += worker.metric(RESTORES);
        std::thread::sleep(Duration::from_millis(1_000 + dice.below(3_000)));
        worker.kill();
        site.lose_disk("a");
    }
    site.fold_all("a");
    site.assert_knows_all("a");
    let before = site.digests("a");
    site.lose_disk("a");
    site.forget();
    site.fold_all("a");
    assert_eq!(site.digests("a"), before);
    let verified = site.driftline(&["state", "snapshots", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

fn flip_a_byte(path: &Path) {
    let mut bytes = std::fs::read(path).expect("an object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(path, bytes).expect("an object");
}

/// Halves the newest manifest of shard 1, and flips a byte of what only that of shard 2 uses.
/// Records that the next ones have folded less.
fn damage_newest(site: &Site) -> i64 {
    let records = |s: &Value| s["records"].as_i64().expect("a number");
    let mut less = 0;
    for (shard, is_manifest) in [("user-1", true), ("user-2", false)] {
        let listed = site.list();
        let all: Vec<&Value> =
            listed.iter().filter(|s| s["shard"] == shard && s["error"].is_null()).collect();
        let old = all.iter().find(|s| records(s) < records(all[0])).expect("an older one");
        let older: BTreeSet<PathBuf> =
            all.iter().filter(|s| records(s) <= records(old)).flat_map(|s| site.parts(s)).collect();
        // All that are as new.
        for newest in all.iter().filter(|s| records(s) > records(old)) {
            if is_manifest {
                let path = site.objects.join(newest["key"].as_str().expect("a key"));
                let bytes = std::fs::read(&path).expect("a manifest");
                std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("a manifest");
                continue;
            }
            let own = site.parts(newest).into_iter().find(|part| !older.contains(part));
            flip_a_byte(&own.expect("something new"));
        }
        less += records(all[0]) - records(old);
    }
    less
}

#[test]
fn damaged_snapshots_are_passed_over_and_what_is_lost_is_told() {
    let mut site = Site::new("damaged");
    // Only at the end of a worker, so that there is one of each state.
    site.set("snapshots.interval_seconds", "3600");
    for _ in 0..2 {
        site.send(1_500);
        site.fold_all("a");
    }
    damage_newest(&site);
    site.lose_disk("a");
    let mut worker = site.worker("a");
    worker.wait_ready();
    site.wait_folded(&mut worker);
    assert_eq!(worker.metric(RESTORES), 8.0);
    assert_eq!(worker.metric(SKIPPED), 2.0, "two were damaged");
    assert_eq!(worker.metric(LOST), 0.0, "the log has what came after the older ones");
    worker.drain();
    site.assert_knows_all("a");
    let verified = site.driftline(&["state", "snapshots", "verify"]);
    assert!(!verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));

    site.send(1_000);
    site.fold_all("a");
    let lost = damage_newest(&site);
    site.lose_disk("a");
    site.forget();
    let mut worker = site.worker("a");
    worker.wait_ready();
    site.wait_folded(&mut worker);
    assert!(lost > 0);
    assert_eq!(worker.metric(LOST), lost as f64);
    worker.drain();
    let known = site.site.dump(&site.site.data_dir("a"));
    let expected = oracle::fold(&site.sent, DEFAULT_RULES);
    assert!(known.len() > expected.len() / 2, "whoever was known before is still known");
}

#[test]
fn snapshots_of_other_rules_and_of_a_topic_that_was_made_anew_are_passed_over() {
    let mut site = Site::new("foreign");
    site.send(2_000);
    site.fold_all("a");
    site.lose_disk("a");
    site.set("state.history_limit", "7");
    let mut worker = site.worker("a");
    worker.wait_ready();
    site.wait_folded(&mut worker);
    assert_eq!(worker.metric(RESTORES), 4.0, "those of items");
    assert!(worker.metric(SKIPPED) >= 4.0);
    worker.drain();
    let dump = |site: &Site| site.site.dump(&site.site.data_dir("a"));
    let rules = Rules { history_limit: 7, ttl_days: 180 };
    oracle::assert_same(&dump(&site), &oracle::fold(&site.sent, rules));

    // Made anew, with more records than the old one had.
    let clicks = site.site.topic("click-events");
    site.site.kafka.delete_topic(&clicks);
    site.site.expect_ok(&["topics", "apply", "--partitions", &site.site.partitions.to_string()]);
    let more: Vec<Event> = (0..6_000).map(|_| site.stream.draw()).collect();
    let more: Vec<Event> = more.into_iter().filter(|e| e.source == Source::Click).collect();
    site.site.deliver(&more);
    site.lose_disk("a");
    let mut worker = site.worker("a");
    worker.wait_ready();
    site.wait_folded(&mut worker);
    assert_eq!(worker.metric(RESTORES), 4.0, "those of items");
    worker.drain();
    let expected = oracle::fold(&site.site.read_events(|_| true), rules);
    oracle::assert_same(&dump(&site), &expected);
}

#[test]
fn an_object_store_that_dies_and_hangs_stops_no_worker_and_is_waited_for_where_it_is_needed() {
    let Some(s3) = S3::start_new("snapshots") else { return };
    let mut site = Site::on("snapshots-s3", &s3);
    site.set("snapshots.shutdown_seconds", "3");
    site.send(2_000);
    site.fold_all("a");
    let before = site.digests("a");
    site.lose_disk("a");
    site.forget();

    // Needed, and away: it waits and says so, and answers nothing as if it knew nobody.
    s3.server.kill();
    let mut worker = site.worker("a");
    eventually("it says that it waits", || {
        assert!(worker.is_running());
        worker.log_text().contains("the shard waits for its snapshots").then_some(())
    });
    assert!(!worker.is_ready());
    let answer = Client::new(&site.site).ask(&Ask::of(&site.sent[0].user));
    assert!(answer.error().is_empty() && answer.degraded().contains(&"user_state"), "{answer:?}");
    s3.server.start();
    worker.wait_ready();
    site.wait_folded(&mut worker);
    worker.drain();
    assert_eq!(site.digests("a"), before);

    // Not needed, and hanging: folding goes on, and ending does not wait.
    let mut worker = site.worker("a");
    worker.wait_ready();
    s3.pause();
    site.send(1_000);
    site.wait_folded(&mut worker);
    worker.drain();
    s3.server.start();
    site.assert_knows_all("a");
    site.lose_disk("a");
    site.fold_all("b");
    site.assert_knows_all("b");
}

//! The lake, asked by DuckDB: archivers that are killed, stores that fail, schemas that change.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::dice::Dice;
use common::duckdb;
use common::events::{Event, HOUR, Stream};
use common::installation::Installation;
use common::kafka::Out;
use common::s3::{CREDENTIALS, S3};
use common::{eventually, now_ms};
use serde_json::Value;

/// Small, so that there are many steps to die at.
const CUTS: &[(&str, &str)] = &[("lake.cut_records", "150"), ("lake.cut_seconds", "1")];
const TOPICS: [&str; 2] = ["watch-events", "click-events"];

struct Lake<'a> {
    site: &'a Installation,
    settings: Vec<(String, String)>,
    /// Where a reader finds the files.
    folder: PathBuf,
}

impl<'a> Lake<'a> {
    fn local(site: &'a Installation) -> Self {
        let folder = site.folder.path().join("lake");
        let uri = ("objects.uri".to_owned(), format!("file://{}", folder.display()));
        Self { site, settings: vec![uri], folder }
    }

    fn on(site: &'a Installation, s3: &S3) -> Self {
        let settings = vec![
            ("objects.uri".to_owned(), "s3://lake/events".to_owned()),
            ("objects.endpoint".to_owned(), s3.server.address.clone()),
        ];
        Self { site, settings, folder: s3.bucket().join("events") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.site.command(&self.site.data_dir("lake"));
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(arguments).envs(CREDENTIALS);
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let log = std::fs::File::create(self.site.folder.path().join("archive.log"));
        self.command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("it starts")
    }

    fn expect_ok(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    fn once(&self) -> Value {
        self.expect_ok(&["archive", "--once", "--json", "--topics", &TOPICS.join(",")])
    }

    /// Every offset that DuckDB finds, by topic, and that it finds none twice.
    fn offsets(&self, python: &Path) -> BTreeMap<String, Vec<(i64, i64)>> {
        let mut all = BTreeMap::new();
        for topic in TOPICS {
            let table = duckdb::topic(&self.folder, &self.site.topic(topic));
            let sql = format!(
                "SELECT kafka_partition, kafka_offset, count(*) FROM {table} GROUP BY ALL ORDER BY ALL"
            );
            let rows = duckdb::query(python, &sql);
            let number = |v: &Value| v.as_i64().expect("a number");
            let found = rows.iter().map(|row| {
                assert_eq!(row[2], 1, "{topic} {row:?} is there more than once");
                (number(&row[0]), number(&row[1]))
            });
            all.insert(topic.to_owned(), found.collect());
        }
        all
    }

    /// The same of Kafka, of records that are events.
    fn expected(&self) -> BTreeMap<String, Vec<(i64, i64)>> {
        let of = |topic: &str| {
            let seen = self.site.kafka.read_all(&self.site.topic(topic));
            let is_event = |value: &[u8]| value != GARBAGE;
            let events = seen.iter().filter(|s| s.value.as_deref().is_some_and(is_event));
            let mut offsets: Vec<_> = events.map(|s| (i64::from(s.partition), s.offset)).collect();
            offsets.sort_unstable();
            offsets
        };
        TOPICS.iter().map(|topic| ((*topic).to_owned(), of(topic))).collect()
    }
}

const GARBAGE: &[u8] = b"\xC3\x01 neither Avro nor anything";

fn send(site: &Installation, stream: &mut Stream, count: usize) {
    let events: Vec<Event> = (0..count).map(|_| stream.draw()).collect();
    site.deliver(&events);
    let bad = |topic: &str| Out {
        topic: site.topic(topic),
        key: Some(b"u".to_vec()),
        value: Some(GARBAGE.to_vec()),
        ..Out::default()
    };
    site.kafka.deliver(&[bad("watch-events"), bad("click-events")]);
}

#[test]
fn an_archiver_that_is_killed_again_and_again_leaves_each_offset_once() {
    let Some(python) = duckdb::python() else { return };
    let mut dice = Dice::printed("lake");
    let site = Installation::new("lake-kill", CUTS);
    let lake = Lake::local(&site);
    let mut stream = Stream::new(Dice::of(dice.next()), 200, 20_000);
    let mut midway = 0;
    for kill in 0..16 {
        send(&site, &mut stream, 700);
        // One of them goes on and is a member of a group, which takes a while to join.
        let (arguments, from): (&[&str], _) = match kill % 4 {
            3 => (&["archive"], 1_500),
            _ => (&["archive", "--once"], 0),
        };
        let mut archiver = lake.start(arguments);
        std::thread::sleep(Duration::from_millis(from + dice.below(600)));
        midway += usize::from(archiver.try_wait().expect("a status").is_none());
        archiver.kill().expect("kill -9");
        archiver.wait().expect("it ends");
    }
    assert!(midway >= 4, "only {midway} kills hit a running archiver");
    lake.once();
    let expected = lake.expected();
    assert!(expected["watch-events"].len() > 3_000);
    assert_eq!(lake.offsets(&python), expected);
    assert_eq!(lake.once()["topics"], serde_json::json!({}), "there is nothing left to do");

    // And after compaction, all hours but the newest in one file each.
    lake.expect_ok(&["lake", "compact", "--set", "lake.compact_after_hours=0"]);
    assert_eq!(lake.offsets(&python), expected);
}

#[test]
fn rows_are_what_was_sent_under_the_hour_in_which_it_happened() {
    let Some(python) = duckdb::python() else { return };
    let site = Installation::new("lake-rows", &[]);
    let lake = Lake::local(&site);
    let at = (now_ms() / HOUR - 30) * HOUR + 1_234;
    let events: Vec<Event> = (0..50)
        .map(|n| {
            let source = if n % 2 == 0 { Event::watch } else { Event::click };
            source(&format!("user-{n}"), "film").at(at + n * HOUR / 4).on("home")
        })
        .collect();
    site.deliver(&events);
    let told = lake.once();
    assert_eq!(told["topics"][site.topic("watch-events")]["rows"], 25);
    let table = duckdb::topic(&lake.folder, &site.topic("watch-events"));
    let sql = format!(
        "SELECT event_id, user, item, epoch_ms(event_time), watched_ms, surface, device IS NULL, \
         strftime(event_time AT TIME ZONE 'UTC', '%Y-%m-%d %H') = strftime(dt, '%Y-%m-%d') || ' ' || printf('%02d', hh::INT) \
         FROM {table} ORDER BY event_time"
    );
    let found = duckdb::query(&python, &sql);
    let watches = events.iter().filter(|e| e.watched_ms > 0);
    let sent: Vec<Vec<Value>> = watches
        .map(|e| {
            vec![
                e.id.clone().into(),
                e.user.clone().into(),
                e.item.clone().into(),
                e.at.into(),
                e.watched_ms.into(),
                "home".into(),
                true.into(),
                true.into(),
            ]
        })
        .collect();
    assert_eq!(found, sent);
    // Lineage, from a file's own footer.
    let glob = lake.folder.join(site.topic("watch-events")).join("**/*.parquet");
    let sql = format!(
        "SELECT DISTINCT decode(key), decode(value) FROM parquet_kv_metadata('{}') \
         WHERE decode(key) IN ('driftline.topic', 'driftline.schema.subject') ORDER BY ALL",
        glob.display()
    );
    let footer = duckdb::query(&python, &sql);
    assert_eq!(footer[0], ["driftline.schema.subject", "watch-event"]);
    assert_eq!(footer[1], ["driftline.topic".to_owned(), site.topic("watch-events")]);
}

#[test]
fn an_s3_that_dies_and_hangs_is_waited_for_and_holds_each_offset_once() {
    let Some(python) = duckdb::python() else { return };
    let Some(s3) = S3::start_new("lake") else { return };
    let site = Installation::new("lake-s3", CUTS);
    let lake = Lake::on(&site, &s3);
    let mut stream = Stream::new(Dice::printed("s3"), 100, 10_000);
    send(&site, &mut stream, 2_000);
    lake.once();
    assert_eq!(lake.offsets(&python), lake.expected());

    send(&site, &mut stream, 2_000);
    s3.server.kill();
    let mut archiver = lake.start(&["archive", "--once", "--topics", &TOPICS.join(",")]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(archiver.try_wait().expect("a status").is_none(), "it waits for the store");
    s3.server.start();
    std::thread::sleep(Duration::from_millis(500));
    s3.pause();
    std::thread::sleep(Duration::from_secs(2));
    s3.server.start();
    let status = eventually("it is archived", || archiver.try_wait().expect("a status"));
    assert!(status.success(), "{status}");
    assert_eq!(lake.offsets(&python), lake.expected());
    lake.expect_ok(&["lake", "compact", "--set", "lake.compact_after_hours=0"]);
    assert_eq!(lake.offsets(&python), lake.expected());
}

#[test]
fn a_folder_that_is_full_is_waited_for_and_says_so() {
    let Some(python) = duckdb::python() else { return };
    let site = Installation::new("lake-full", CUTS);
    let mut lake = Lake::local(&site);
    let disk = site.folder.path().join("disk");
    std::fs::create_dir(&disk).expect("a folder");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=400k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a disk of its own takes root");
        return;
    }
    let _unmount = Unmount(disk.clone());
    lake.folder = disk.join("lake");
    lake.settings[0].1 = format!("file://{}", lake.folder.display());
    send(&site, &mut Stream::new(Dice::printed("full"), 100, 20_000), 3_000);
    let filler = disk.join("filler");
    std::fs::write(&filler, vec![7; 360 << 10]).expect("there is room");
    let mut archiver = lake.start(&["archive", "--once", "--topics", &TOPICS.join(",")]);
    let log = site.folder.path().join("archive.log");
    eventually("it says that there is no room", || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        (said.contains("No space left") || said.contains("os error 28")).then_some(())
    });
    std::fs::remove_file(&filler).expect("it was there");
    let resized = Command::new("mount").args(["-o", "remount,size=200m"]).arg(&disk).status();
    assert!(resized.is_ok_and(|status| status.success()));
    let status = eventually("it is archived", || archiver.try_wait().expect("a status"));
    assert!(status.success(), "{status}");
    assert_eq!(lake.offsets(&python), lake.expected());
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// The file that a build which knew `versions` of a schema made of a JSON record.
fn file_of(subject: &'static str, versions: u32, offset: i64, record: &Value) -> (String, Vec<u8>) {
    use driftline::event::schema::{SCHEMAS, Subject};
    use driftline::lake::{Batch, Chain, Plan, TopicWriter};
    let known = SCHEMAS.iter().filter(|s| s.subject == subject && s.version <= versions);
    let subject: &'static Subject = Box::leak(Box::new(Subject::of(subject, known)));
    let mut batch = Batch::default();
    batch.push(offset, 1_750_000_000_000, Some(record.to_string().as_bytes()));
    let chain = Chain { topic: subject.name.into(), partition: 0, generation: 0 };
    let plan = Plan { start: offset, end: offset + 1 };
    let cut = TopicWriter::new(subject).expect("columns").cut(&chain, &plan, batch);
    let cut = cut.expect("a file");
    (cut.manifest.files[0].key.clone(), cut.bytes[0].to_vec())
}

#[test]
fn files_of_older_and_of_newer_schemas_are_read_together() {
    let Some(python) = duckdb::python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let put = |(key, bytes): (String, Vec<u8>)| {
        let path = folder.path().join(key);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, bytes).expect("a file");
    };
    // New columns.
    let request = |id: &str| serde_json::json!({"request_id": id, "user": "u", "kind": "related"});
    put(file_of("recommendation-request", 1, 0, &request("old")));
    put(file_of("recommendation-request", 3, 1, &request("new")));
    let table = duckdb::topic(folder.path(), "recommendation-request");
    let sql = format!("SELECT request_id, kind, len(exclude) FROM {table} ORDER BY kafka_offset");
    let found = duckdb::query(&python, &sql);
    assert_eq!(
        found,
        [vec!["old".into(), Value::Null, 0.into()], vec!["new".into(), "related".into(), 0.into()]]
    );
    // A new field within a list of records.
    let shard = |n: i64, history: &[u8]| {
        let one =
            serde_json::json!({"source": "CLICK", "item": "i", "user": n, "history": history});
        serde_json::json!({"shard": n, "interactions": [one]})
    };
    put(file_of("interactions", 1, 0, &shard(1, b"")));
    put(file_of("interactions", 2, 1, &shard(2, b"ab")));
    let table = duckdb::topic(folder.path(), "interactions");
    let sql = format!(
        "SELECT shard, interactions[1].user, interactions[1].history::VARCHAR FROM {table} \
         ORDER BY kafka_offset"
    );
    let found = duckdb::query(&python, &sql);
    assert_eq!(
        found,
        [vec![1.into(), 1.into(), Value::Null], vec![2.into(), 2.into(), "ab".into()]]
    );
}

//! The catalog end to end: files and a database in, lists without what must not be shown out.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Output, Stdio};

use common::avro;
use common::events::Event;
use common::eventually;
use common::installation::Installation;
use common::kafka::{Out, Seen};
use common::postgres::Postgres;
use common::requests::{Ask, Client};
use common::worker::Worker;
use serde_json::{Value, json};

/// What is published of each item: its last record, none for a tombstone.
fn published(site: &Installation) -> BTreeMap<String, Option<Value>> {
    let mut last = BTreeMap::new();
    for seen in site.kafka.read_all(&site.topic("item-catalog")) {
        let item = String::from_utf8(seen.key.expect("a key")).expect("UTF-8");
        last.insert(item, seen.value.map(|value| avro::ITEM.decode(&value)));
    }
    last
}

fn listed(site: &Installation) -> BTreeMap<String, Value> {
    published(site).into_iter().filter_map(|(item, record)| Some((item, record?))).collect()
}

/// Number of records ever published.
fn records(site: &Installation) -> i64 {
    site.kafka.bounds(&site.topic("item-catalog")).iter().map(|(_, end)| end).sum()
}

fn json_of(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{said}"))
}

fn counts(summary: &Value) -> [i64; 6] {
    ["rows", "added", "changed", "removed", "unchanged", "refused"]
        .map(|name| summary[name].as_i64().expect(name))
}

fn write(site: &Installation, name: &str, text: &str) -> String {
    let path = site.folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn import(site: &Installation, arguments: &[&str]) -> Output {
    site.run(&[&["catalog", "import", "--json"], arguments].concat())
}

#[test]
fn an_import_publishes_what_changed_and_nothing_else() {
    let site = Installation::new("import", &[]);
    let file = "item,title,categories,published,blocked\n\
                v1,One,\"a,b\",2024-05-17,false\n\
                v2,Two,,2024-05-17T09:30:00+02:00,0\n\
                v3,Three,b,,true\n";
    let path = write(&site, "items.csv", file);

    let dry = import(&site, &[&path, "--dry-run"]);
    assert_eq!(counts(&json_of(&dry)), [3, 3, 0, 0, 0, 0]);
    assert_eq!(records(&site), 0, "a dry run publishes nothing");

    let first = import(&site, &[&path]);
    assert!(first.status.success());
    assert_eq!(counts(&json_of(&first)), [3, 3, 0, 0, 0, 0]);
    let items = listed(&site);
    assert_eq!(items["v1"]["categories"], json!(["a", "b"]));
    assert_eq!(items["v1"]["published"], 1_715_904_000_000i64);
    assert_eq!(items["v2"]["published"], 1_715_931_000_000i64);
    assert_eq!((&items["v2"]["categories"], &items["v3"]["published"]), (&json!([]), &Value::Null));
    assert_eq!((&items["v2"]["blocked"], &items["v3"]["blocked"]), (&json!(false), &json!(true)));

    assert_eq!(counts(&json_of(&import(&site, &[&path]))), [3, 0, 0, 0, 3, 0]);
    assert_eq!(records(&site), 3, "nothing has changed");

    let path = write(&site, "items.csv", &file.replace("Two", "Zwei").replace("v3", "v4"));
    let second = json_of(&import(&site, &[&path]));
    assert_eq!(counts(&second), [3, 1, 1, 0, 1, 0]);
    let changed = json!([{"item": "v2", "fields": ["title"]}]);
    assert_eq!(second["examples"]["changed"], changed);
    assert_eq!(records(&site), 5);
    assert_eq!(listed(&site).len(), 4, "without --prune nothing is removed");

    let kept = import(&site, &[&path, "--prune", "--prune-limit", "20"]);
    assert!(!kept.status.success(), "a quarter is more than a fifth");
    assert_eq!(listed(&site).len(), 4);
    let pruned = json_of(&import(&site, &[&path, "--prune"]));
    assert_eq!(counts(&pruned), [3, 0, 0, 1, 3, 0]);
    assert_eq!(pruned["examples"]["removed"], json!(["v3"]));
    assert_eq!(published(&site)["v3"], None, "a tombstone");

    let shown: Value =
        serde_json::from_str(&site.expect_ok(&["catalog", "show", "v2"])).expect("JSON");
    assert_eq!((&shown["listed"], &shown["record"]["title"]), (&json!(true), &json!("Zwei")));
    let shown: Value =
        serde_json::from_str(&site.expect_ok(&["catalog", "show", "v3"])).expect("JSON");
    assert_eq!(shown["listed"], false);
    assert!(!site.run(&["catalog", "show", "v9"]).status.success());
}

#[test]
fn bad_rows_are_told_by_line_and_reason_and_do_not_stop_good_ones() {
    let site = Installation::new("bad-rows", &[]);
    let lines = [
        r#"{"item": "v1", "languages": ["de-CH"], "attributes": {"licence": "cc"}}"#,
        r#"{"item": "v2", "published": 12}"#,
        "not JSON",
        r#"{"item": "v3", "available_countries": "CHE"}"#,
        r#"{"title": "nameless"}"#,
        r#"{"item": "v4", "categories": "news, sport"}"#,
        r#"{"item": "v1", "title": "again"}"#,
        r#"{"item": "v5", "blocked": "perhaps"}"#,
    ];
    let path = write(&site, "items.jsonl", &lines.join("\n"));
    let output = import(&site, &[&path]);
    assert!(!output.status.success(), "the exit code says that rows were refused");
    let summary = json_of(&output);
    assert_eq!(counts(&summary), [8, 2, 0, 0, 0, 6]);
    let refused: Vec<(u64, &str)> = summary["refused_rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|r| (r["row"].as_u64().expect("a row"), r["reason"].as_str().expect("a reason")))
        .collect();
    let words =
        ["published", "not a JSON object", "available_countries", "item", "earlier", "blocked"];
    assert_eq!(refused.iter().map(|r| r.0).collect::<Vec<_>>(), [2, 3, 4, 5, 7, 8]);
    for ((row, reason), word) in refused.iter().zip(words) {
        assert!(reason.contains(word), "row {row}: {reason}");
    }
    let items = listed(&site);
    assert_eq!(items.keys().collect::<Vec<_>>(), ["v1", "v4"]);
    assert_eq!(items["v4"]["categories"], json!(["news", "sport"]));
    assert_eq!(items["v1"]["attributes"], json!({"licence": "cc"}));

    // What a refused row tells of stays; where it does not tell, everything stays.
    let path = write(&site, "fewer.jsonl", "{\"item\": \"v1\", \"blocked\": 7}");
    let kept = json_of(&import(&site, &[&path, "--prune"]));
    assert_eq!(kept["examples"]["removed"], json!(["v4"]));
    let path = write(&site, "none.jsonl", "nothing");
    let kept = json_of(&import(&site, &[&path, "--prune"]));
    assert_eq!(counts(&kept), [1, 0, 0, 0, 0, 1]);
    assert!(kept["kept"].as_str().expect("why").contains("stay"));
    assert_eq!(listed(&site).keys().collect::<Vec<_>>(), ["v1"]);
}

#[test]
fn a_column_that_is_not_there_is_refused_with_the_nearest() {
    let site = Installation::new("columns", &[]);
    let path = write(&site, "items.csv", "video,creator\nv1,c1\n");
    for (arguments, words) in [
        (vec![], ["\"item\"", "video"]),
        (vec!["--item", "vidoe"], ["did you mean", "\"video\""]),
        (vec!["--item", "video", "--tags", "tag"], ["\"tag\"", "creator"]),
    ] {
        let output = import(&site, &[&[path.as_str()], &arguments[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let lines = write(&site, "items.jsonl", "{\"item\": \"v1\"}\n");
    let output = import(&site, &[&lines, "--creator", "autor"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("autor"));
}

#[test]
fn the_videos_of_kuairand_are_imported_once() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/kuairand/videos.parquet");
    if !Path::new(file).exists() {
        eprintln!("skipped: {file} is not there");
        return;
    }
    let site = Installation::new("kuairand", &[]);
    let columns = ["--item", "video_id", "--creator", "author_id", "--tags", "tag"];
    let columns = [&columns[..], &["--published", "upload_dt"]].concat();
    let first = import(&site, &[&[file], &columns[..]].concat());
    let summary = json_of(&first);
    let [rows, added, .., refused] = counts(&summary);
    assert!(first.status.success() && rows > 5_000 && refused == 0, "{summary}");
    assert_eq!((added, records(&site)), (rows, rows));
    let again = json_of(&import(&site, &[&[file], &columns[..]].concat()));
    assert_eq!(counts(&again), [rows, 0, 0, 0, rows, 0]);
    let items = listed(&site);
    let with = |fits: fn(&Value) -> bool| items.values().filter(|item| fits(item)).count();
    let most = items.len() * 9 / 10;
    assert!(with(|item| item["creator"] != "") > most);
    assert!(with(|item| item["duration_ms"].as_i64() > Some(0)) > most);
    assert!(with(|item| item["published"].is_i64()) > most);
    assert!(with(|item| item["tags"] != json!([])) > most);
}

/// Waits until a worker has read so many records of the catalog.
fn wait_read(worker: &Worker, count: i64) {
    eventually("the catalog is read", || {
        (worker.metric("driftline_catalog_records_total") >= count as f64).then_some(())
    });
}

fn tombstone(site: &Installation, item: &str) {
    let topic = site.topic("item-catalog");
    site.kafka.deliver(&[Out { topic, key: Some(item.into()), ..Out::default() }]);
}

#[test]
fn a_delisted_item_is_never_served_again_by_any_worker() {
    let site = Installation::new("delisted", &[]);
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    let events: Vec<Event> = (0..40)
        .flat_map(|user| (0..4).map(move |n| (user, n)))
        .map(|(user, n)| Event::click(&format!("u{user}"), &format!("v{n}")))
        .collect();
    site.deliver(&events);
    let ask = || client.ask(&Ask::of("somebody").with("count", 4)).items();
    eventually("all are recommended", || (ask().len() == 4).then_some(()));

    let path = write(&site, "items.csv", "item\nv0\nv1\nv2\n");
    import(&site, &[&path]);
    wait_read(&worker, 3);
    assert_eq!(ask().len(), 4, "v3 is not in the catalog, which is not required");

    tombstone(&site, "v1");
    wait_read(&worker, 4);
    for _ in 0..50 {
        let items = ask();
        assert!(!items.contains(&"v1".to_owned()) && items.len() == 3, "{items:?}");
    }
    let path = write(&site, "items.csv", "item,blocked\nv0,true\nv2,false\n");
    import(&site, &[&path]);
    wait_read(&worker, 5);
    for _ in 0..50 {
        let items = ask();
        assert!(!items.contains(&"v0".to_owned()) && items.len() == 2, "{items:?}");
    }

    // One that starts anew knows it before its first answer.
    worker.drain();
    let worker = site.worker_with("b", &[("catalog.required", "true")]);
    let until = |answer: &[String]| answer == ["v2"];
    eventually("the new worker answers", || {
        let answer = client.ask(&Ask::of("somebody").with("count", 4));
        if answer.error() == "NOT_READY" {
            return None;
        }
        let items = answer.items();
        assert!(items.iter().all(|i| i == "v2"), "{items:?}: v3 is unknown, the rest not shown");
        until(&items).then_some(())
    });
    drop(worker);
}

#[test]
fn a_record_that_is_none_of_an_item_becomes_one_dead_letter_whoever_reads_it_again() {
    let site = Installation::new("letters", &[]);
    let topic = site.topic("item-catalog");
    let deliver = |key: &str, value: &str| {
        let (key, value) = (Some(key.into()), Some(value.into()));
        site.kafka.deliver(&[Out { topic: topic.clone(), key, value, ..Out::default() }]);
    };
    let first = site.ready_worker("a");
    deliver("v1", r#"{"item": "v1"}"#);
    deliver("v2", r#"{"item": "v2", "duration_ms": "long"}"#);
    deliver("v3", "no record at all");
    let told = |count: usize| {
        eventually("bad records are told", || {
            let letters = site.dead_letters();
            assert!(letters.len() <= count, "{letters:?}");
            (letters.len() == count).then_some(letters)
        })
    };
    let letters = told(2);
    // In no order: they are of several partitions.
    let keys = |letters: &[Seen]| -> BTreeSet<Vec<u8>> {
        letters.iter().filter_map(|letter| letter.key.clone()).collect()
    };
    assert_eq!(keys(&letters), [b"v2".into(), b"v3".into()].into());
    for letter in &letters {
        let has = |name: &str| letter.headers.iter().any(|(known, _)| known == name);
        assert!(has("__connect.errors.exception.class.name"), "{letter:?}");
    }
    // Noted when it ends at the latest, so that nobody who reads the catalog anew tells it again.
    first.drain();
    let others = ["b", "c"].map(|name| site.ready_worker(name));
    deliver("v4", "again");
    let letters = told(3);
    assert!(keys(&letters).contains(&b"v4"[..]));
    drop(others);
}

#[test]
fn a_request_gets_what_is_available_to_it_and_what_it_wants() {
    let site = Installation::new("wishes", &[]);
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    let events: Vec<Event> = (0..40)
        .flat_map(|user| (0..6).map(move |n| (user, n)))
        .map(|(user, n)| Event::click(&format!("u{user}"), &format!("v{n}")))
        .collect();
    site.deliver(&events);
    let path = write(
        &site,
        "items.jsonl",
        r#"{"item": "v0", "available_countries": ["CH"], "creator": "c0"}
{"item": "v1", "languages": ["de"], "creator": "c1"}
{"item": "v2", "languages": ["fr"], "categories": ["news"]}
{"item": "v3", "published": "2024-05-01", "categories": ["news", "sport"]}
{"item": "v4", "available_from": "2024-06-01", "available_until": "2024-07-01"}
"#,
    );
    import(&site, &[&path]);
    wait_read(&worker, 5);
    let at = 1_715_904_000_000i64; // 17 May 2024
    let ask = |fields: Value| {
        let mut ask = Ask::of("somebody").json().with("count", 6).with("event_time", at);
        for (field, value) in fields.as_object().expect("fields") {
            ask = ask.with(field, value.clone());
        }
        let mut items = client.ask(&ask).items();
        items.sort();
        items.join(" ")
    };
    eventually("all are recommended", || {
        (ask(json!({"device": {"country": "ch"}})) == "v0 v1 v2 v3 v5").then_some(())
    });
    for (fields, expected) in [
        (json!({}), "v1 v2 v3 v5"),
        (json!({"device": {"country": "DE"}}), "v1 v2 v3 v5"),
        (json!({"event_time": at + 30 * 86_400_000}), "v1 v2 v3 v4 v5"),
        (json!({"event_time": at + 45 * 86_400_000}), "v1 v2 v3 v5"),
        (json!({"languages": ["de-AT"]}), "v1 v3 v5"),
        (json!({"max_age_days": 16}), "v3"),
        (json!({"max_age_days": 15}), ""),
        (json!({"blocked_creators": ["c1"]}), "v2 v3 v5"),
        (json!({"blocked_categories": ["sport"]}), "v1 v2 v5"),
        (json!({"creators": ["c0", "c1"]}), "v1"),
        (json!({"categories": ["news"]}), "v2 v3"),
        (json!({"categories": ["news"], "languages": ["de"]}), "v3"),
    ] {
        assert_eq!(ask(fields.clone()), expected, "{fields}");
    }
    let refused = client.ask(&Ask::of("somebody").json().with("languages", json!(["!"])));
    assert_eq!(refused.error(), "BAD_REQUEST");
}

const QUERY: &str = "SELECT id AS item, name AS title, tags, length_ms AS duration_ms, \
                     live AS published, countries AS available_countries, updated_at FROM videos";

fn sync_settings(url: &str) -> Vec<(&str, &str)> {
    vec![
        ("catalog.sync.url", url),
        ("catalog.sync.query", QUERY),
        ("catalog.sync.updated_at", "updated_at"),
    ]
}

fn videos(name: &str) -> Postgres {
    let database = Postgres::start_new(name);
    database.run(
        "CREATE TABLE videos (id text, name text, tags text[], length_ms bigint, \
         live timestamptz, countries text[], updated_at timestamptz DEFAULT now());",
    );
    database
}

#[test]
fn a_half_valid_table_gives_its_good_rows_and_tells_the_others() {
    let database = videos("half");
    database.run(
        "INSERT INTO videos VALUES \
         ('v1', 'One', ARRAY['a','b'], 61000, '2024-05-17T00:00:00Z', NULL), \
         ('v2', 'Two', NULL, -1, NULL, NULL), \
         (NULL, 'Nameless', NULL, 1, NULL, NULL), \
         ('v3', 'Three', NULL, NULL, NULL, ARRAY['ch', 'DE']), \
         ('v4', 'Four', NULL, 1, '0001-01-01', NULL);",
    );
    let site = Installation::new("half", &sync_settings(&database.url));
    let output = site.run(&["catalog", "sync", "--once", "--json"]);
    assert!(!output.status.success(), "rows were refused");
    assert_eq!(counts(&json_of(&output)), [5, 2, 0, 0, 0, 3]);
    let items = listed(&site);
    assert_eq!(items.keys().collect::<Vec<_>>(), ["v1", "v3"]);
    assert_eq!(items["v1"]["tags"], json!(["a", "b"]));
    assert_eq!(items["v1"]["published"], 1_715_904_000_000i64);
    assert_eq!(items["v3"]["available_countries"], json!(["CH", "DE"]));

    database.run("DELETE FROM videos WHERE id IS NULL OR id IN ('v2', 'v4')");
    let limit = ["--set", "catalog.sync.prune_limit_percent=50"];
    let again = site.run(&[&["catalog", "sync", "--once", "--json"], &limit[..]].concat());
    assert!(again.status.success());
    assert_eq!(counts(&json_of(&again)), [2, 0, 0, 0, 2, 0]);
    database.run("TRUNCATE videos");
    let empty = site.run(&[&["catalog", "sync", "--once", "--json"], &limit[..]].concat());
    assert!(!empty.status.success(), "an empty table delists nobody at once");
    assert_eq!(listed(&site).len(), 2);
}

#[test]
fn a_connection_that_dies_is_told_and_tried_again_and_nothing_is_lost_or_delisted() {
    let database = videos("dying");
    database.run(
        "INSERT INTO videos SELECT 'v' || n, repeat('title ', 20), NULL, n, NULL, NULL \
         FROM generate_series(1, 3000) n",
    );
    let proxy = database.cut_once_after(200_000);
    let site = Installation::new("dying", &sync_settings(&proxy));
    let output = site.run(&["catalog", "sync", "--once"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lost = said.lines().find(|line| line.contains("was lost after")).expect("it is told");
    assert!(lost.contains("trying again") && !lost.contains("after 0 rows"), "{lost}");
    assert_eq!(listed(&site).len(), 3_000);
    assert_eq!(records(&site), 3_000, "what was read before it died is not published again");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("read everything from 127.0.0.1/items: 3000 rows"), "{told}");
}

#[test]
fn a_database_that_refuses_says_why_and_never_shows_its_url() {
    let database = videos("refuses");
    let secret = database.url.replace("driftline@", "driftline:hunter2@");
    let site = Installation::new("refuses", &[("catalog.sync.url", &secret)]);
    for (settings, words) in [
        (vec!["catalog.sync.query=SELECT 1 AS item FROM nowhere"], vec!["nowhere", "refuses"]),
        (
            vec![
                "catalog.sync.query=SELECT name AS item FROM videos",
                "catalog.sync.updated_at=item",
            ],
            vec!["\"item\"", "timestamp"],
        ),
        (vec!["catalog.sync.query=DELETE FROM videos RETURNING id AS item"], vec!["refuses"]),
        (vec!["catalog.sync.tls=verify"], vec!["certificate verify failed"]),
        (vec!["catalog.sync.url="], vec!["DRIFTLINE_CATALOG__SYNC__URL"]),
        (vec!["catalog.sync.url=hunter2"], vec!["postgresql://"]),
    ] {
        let settings: Vec<&str> = settings.iter().flat_map(|s| ["--set", s]).collect();
        let output = site.run(&[&["catalog", "sync", "--once"], &settings[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(!said.contains("hunter2"), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
}

#[test]
fn a_server_is_taken_for_itself_where_its_certificate_is_signed_by_who_is_trusted() {
    let database = videos("tls");
    database.run("INSERT INTO videos VALUES ('v1', 'One')");
    let authority = database.server.authority();
    let mut settings = sync_settings(&database.url);
    settings.extend([("catalog.sync.tls", "verify"), ("catalog.sync.tls_ca", &authority)]);
    let site = Installation::new("tls", &settings);
    let output = site.run(&["catalog", "sync", "--once", "--json"]);
    assert_eq!(counts(&json_of(&output)), [1, 1, 0, 0, 0, 0]);

    let elsewhere = database.url.replace("127.0.0.1", "localhost");
    let elsewhere = format!("catalog.sync.url={elsewhere}");
    let output = site.run(&["catalog", "sync", "--once", "--set", &elsewhere]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "the certificate is for 127.0.0.1");
    assert!(said.contains("certificate verify failed"), "{said}");
}

/// A running `catalog sync --every`; its standard output is read line by line.
struct Syncing {
    child: Child,
    lines: std::sync::mpsc::Receiver<Value>,
}

impl Syncing {
    fn start(site: &Installation) -> Self {
        let mut command = site.command(&site.data_dir("none"));
        command.args(["catalog", "sync", "--every", "300ms", "--json"]);
        let errors = std::fs::File::create(site.folder.path().join("sync.err")).expect("a file");
        let mut child =
            command.stdout(Stdio::piped()).stderr(errors).spawn().expect("the binary runs");
        let (send, lines) = std::sync::mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("an output"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("JSON lines");
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next pass for which `fits` holds.
    fn pass(&self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.recv_timeout(common::PATIENCE).expect("another pass");
            if line.get("rows").is_some() && fits(&line) {
                return line;
            }
        }
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_schedule_reads_what_changed_survives_a_crash_and_says_when_it_goes_on() {
    let database = videos("schedule");
    database.run("INSERT INTO videos VALUES ('v1', 'One'), ('v2', 'Two')");
    let site = Installation::new("schedule", &sync_settings(&database.url));
    let syncing = Syncing::start(&site);
    let first = syncing.pass(|_| true);
    assert_eq!((counts(&first), &first["full"]), ([2, 2, 0, 0, 0, 0], &json!(true)));
    let next = syncing.lines.recv_timeout(common::PATIENCE).expect("when the next pass is");
    assert!(next["next"].as_str().expect("a time").ends_with('Z'), "{next}");

    database.run("UPDATE videos SET name = 'Eins', updated_at = now() WHERE id = 'v1'");
    let changed = syncing.pass(|pass| pass["changed"] == 1);
    assert_eq!(changed["full"], false);
    assert_eq!(changed["examples"]["changed"], json!([{"item": "v1", "fields": ["title"]}]));

    database.server.kill();
    let errors = site.folder.path().join("sync.err");
    eventually("the lost connection is told", || {
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        (said.contains("was lost") && said.contains("trying again")).then_some(())
    });
    database.server.start();
    database.run("INSERT INTO videos VALUES ('v3', 'Three')");
    syncing.pass(|pass| pass["added"] == 1);
    let items = listed(&site);
    assert_eq!(items.keys().collect::<Vec<_>>(), ["v1", "v2", "v3"]);
    assert_eq!(items["v1"]["title"], "Eins");
}

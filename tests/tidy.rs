//! The rules of the house, each with its reason in the message. ARCHITECTURE.md tells them as
//! prose; this is what keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use driftline::event::schema::SCHEMAS;
use driftline::kafka::load_topic_files;
use driftline::telemetry::names;
use serde_json::Value;

/// The floor under all rooms.
const FLOOR: &[&str] =
    &["ids", "time", "model", "kafka", "objects", "telemetry", "runtime", "config"];

/// The rooms in the order in which data flows; each may import those before it.
const ROOMS: &[&str] = &[
    "event",
    "feature",
    "state",
    "global",
    "catalog",
    "embedding",
    "ranking",
    "serving",
    "quality",
    "drift",
    "trigger",
    "lake",
    "registry",
    "experiment",
    "deployment",
];

/// What stands at the producers' end: makes events, and is no part of the product's loop.
const PRODUCERS: &[&str] = &["dataset", "simulation"];

/// What puts rooms together into processes; imports anything, and is imported by nothing else.
const PROGRAMS: &[&str] = &[
    "worker",
    "monitor",
    "deployer",
    "training",
    "client",
    "gateway",
    "evaluation",
    "cli",
    "main",
    "lib",
    "fixtures",
];

/// What a room must do without, beyond the order of rooms, and why.
const NEVER: &[(&str, &[&str], &str)] = &[
    ("event", &["kafka", "telemetry", "runtime"], "decoding is pure: bytes in, events out"),
    ("feature", &["kafka", "telemetry", "runtime"], "the fold is pure: it must replay the same"),
    ("state", &["kafka"], "a store knows positions, not where they come from"),
    ("global", &["kafka", "telemetry", "runtime"], "the tables are pure: callers feed them"),
    ("catalog", &["kafka", "telemetry", "runtime"], "the catalog is pure: callers feed it"),
    ("model", &["kafka", "telemetry", "runtime"], "it is maths: numbers in, numbers out"),
    ("embedding", &["kafka", "telemetry", "runtime", "state"], "an update is a function of events"),
    ("ranking", &["kafka", "telemetry", "runtime", "state"], "a score is a function of examples"),
    ("serving", &["kafka", "runtime"], "a list is a function of request and state"),
    ("quality", &["kafka", "telemetry", "runtime", "state"], "a join is a function of records"),
    ("drift", &["kafka", "telemetry", "runtime", "state"], "a verdict is a function of windows"),
    ("trigger", &["kafka", "telemetry", "runtime", "state"], "it must decide the same again"),
    ("experiment", &["kafka", "telemetry", "runtime", "state"], "workers must place users alike"),
];

struct Source {
    path: PathBuf,
    /// Relative to the repository, for messages.
    name: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path, name, text });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

impl Source {
    fn is_test(&self) -> bool {
        let parts: Vec<_> = self.path.components().map(|c| c.as_os_str()).collect();
        parts.iter().any(|p| *p == "tests" || *p == "tests.rs" || *p == "fixtures.rs")
    }

    /// The folder or file of `src/` that it belongs to.
    fn room(&self) -> &str {
        let inside = self.name.strip_prefix("src/").unwrap();
        inside.split(['/', '.']).next().unwrap()
    }

    /// Lines that ship, numbered from 1: without comments, and without the tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let shipped = match self.text.find("#[cfg(test)]\nmod tests {") {
            Some(end) => &self.text[..end],
            None => &self.text,
        };
        shipped
            .lines()
            .enumerate()
            .map(|(n, line)| (n + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Every top-level module that its code names as `crate::…`.
    fn imports(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for (n, line) in self.code() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let whole = at == 0 || !line[..at].ends_with(is_name);
                if whole && !line[..at].ends_with('$') {
                    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                    found.entry(rest[..end].to_owned()).or_insert(n);
                }
            }
        }
        found
    }
}

fn rust_sources() -> Vec<Source> {
    files("src", "rs")
}

fn refuse(broken: &[String], reason: &str) {
    assert!(broken.is_empty(), "{reason}\n  {}\n", broken.join("\n  "));
}

#[test]
fn every_folder_of_src_is_a_room_the_floor_or_a_program() {
    let known = [FLOOR, ROOMS, PRODUCERS, PROGRAMS].concat();
    let unknown: Vec<_> = rust_sources()
        .iter()
        .filter(|f| !known.contains(&f.room()))
        .map(|f| f.name.clone())
        .collect();
    refuse(&unknown, "Give a new folder its place in the lists at the top of tests/tidy.rs:");
}

#[test]
fn imports_follow_the_flow_of_data() {
    let mut broken = Vec::new();
    let mut count = 0;
    for file in rust_sources().iter().filter(|f| !f.is_test()) {
        let room = file.room();
        for (import, line) in file.imports() {
            if import == room {
                continue;
            }
            count += 1;
            let import = import.as_str();
            let place = |name: &str| ROOMS.iter().position(|r| *r == name);
            let allowed = if PROGRAMS.contains(&room) {
                true
            } else if room == "config" {
                // It configures rooms, so it may name their types; nobody below a program sees it.
                FLOOR.contains(&import) || ROOMS.contains(&import)
            } else if FLOOR.contains(&room) {
                FLOOR.contains(&import) && import != "config"
            } else if PRODUCERS.contains(&room) {
                ["ids", "time", "runtime", "event"].contains(&import)
            } else {
                let upstream = place(import).is_some_and(|at| Some(at) < place(room));
                upstream || (FLOOR.contains(&import) && import != "config")
            };
            if !allowed {
                broken.push(format!("{}:{line} imports {import}", file.name));
            }
        }
    }
    assert!(count > 100, "{count} imports found: they are no longer written as crate::room");
    refuse(
        &broken,
        "A room imports the floor and rooms upstream, never downstream: the loop closes only \
         through topics, so that each room can be read, tested and replaced alone. Configuration \
         is passed in as values by the programs.",
    );
}

#[test]
fn rooms_do_without_what_would_make_them_impure() {
    let mut broken = Vec::new();
    for file in rust_sources().iter().filter(|f| !f.is_test()) {
        for (room, without, why) in NEVER.iter().filter(|(room, ..)| *room == file.room()) {
            for (import, line) in file.imports() {
                if without.contains(&import.as_str()) {
                    broken.push(format!("{}:{line} imports {import}: in {room} {why}", file.name));
                }
            }
        }
    }
    refuse(&broken, "Pure core, I/O shell:");
}

#[test]
fn what_folds_looks_at_no_clock() {
    let mut broken = Vec::new();
    let pure = [
        "event",
        "feature",
        "state",
        "global",
        "catalog",
        "model",
        "embedding",
        "ranking",
        "quality",
        "drift",
        "trigger",
        "experiment",
        "dataset",
        "simulation",
    ];
    for file in rust_sources().iter().filter(|f| !f.is_test() && pure.contains(&f.room())) {
        for (n, line) in file.code() {
            if ["SystemTime", "Instant", "wall_now", "thread_rng", "rand::rng"]
                .iter()
                .any(|clock| line.contains(clock))
            {
                broken.push(format!("{}:{n} {}", file.name, line.trim()));
            }
        }
    }
    refuse(
        &broken,
        "State is a function of the log: what decides about data runs in event time, and \
         randomness comes from a seed, so that a replay decides the same.",
    );
}

#[test]
fn one_room_owns_kafka_and_one_owns_rocksdb_and_redis() {
    let owners = [
        ("rdkafka", "kafka"),
        ("rocksdb", "state"),
        ("redis", "state"),
        ("object_store", "objects"),
    ];
    let mut broken = Vec::new();
    for file in &rust_sources() {
        for (library, owner) in owners {
            let path = format!("{library}::");
            for (n, line) in file.code() {
                if line.contains(&path) && file.room() != owner {
                    broken.push(format!("{}:{n} uses {library}; only src/{owner} may", file.name));
                }
            }
        }
    }
    refuse(&broken, "The traps of these libraries are dodged in one place:");
}

#[test]
fn nothing_that_ships_unwraps() {
    let mut broken = Vec::new();
    for file in rust_sources().iter().filter(|f| !f.is_test()) {
        for (n, line) in file.code() {
            if line.contains(".unwrap()") || line.contains(".expect(") {
                broken.push(format!("{}:{n} {}", file.name, line.trim()));
            }
        }
    }
    refuse(
        &broken,
        "A panic takes a shard's thread down over what one record or one host did. Return an \
         error that says what the caller does: retry, dead-letter, stop.",
    );
}

#[test]
fn exceptions_to_lints_give_their_reason() {
    let mut broken = Vec::new();
    for file in [rust_sources(), files("tests", "rs"), files("benches", "rs")].concat_all() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let allows = line.trim_start().starts_with("#[allow(")
                || line.trim_start().starts_with("#![allow(")
                || line.trim_start().starts_with("#[ignore");
            let explained = n > 0 && lines[n - 1].trim_start().starts_with("//");
            if allows && !explained && !line.contains("reason =") && !line.contains("] // ") {
                broken.push(format!("{}:{} {}", file.name, n + 1, line.trim()));
            }
        }
    }
    refuse(&broken, "Say in a comment why the lint is wrong here:");
}

#[test]
fn no_note_to_self_is_left() {
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let mut broken = Vec::new();
    let all = [
        rust_sources(),
        files("tests", "rs"),
        files("benches", "rs"),
        files("scripts", "sh"),
        files("docs", "md"),
        files("topics", "yaml"),
        files("schemas", "avsc"),
    ];
    for file in all.concat_all() {
        for (n, line) in file.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                broken.push(format!("{}:{} {}", file.name, n + 1, line.trim()));
            }
        }
    }
    refuse(&broken, "Do it, or write an issue:");
}

/// Longest file of `src/`, in lines.
const FILE_LINES: usize = 600;
/// Longest function that ships, in lines.
const FUNCTION_LINES: usize = 80;
/// Files and functions that may be longer, and why.
const LONGER: &[(&str, &str)] = &[];

#[test]
fn files_and_functions_can_be_read_in_one_go() {
    let mut count = 0;
    let mut broken = Vec::new();
    let excused =
        |name: &str| LONGER.iter().any(|(longer, why)| *longer == name && !why.is_empty());
    for file in &rust_sources() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES && !excused(&file.name) {
            broken.push(format!("{} has {lines} lines", file.name));
        }
        if file.is_test() {
            continue;
        }
        for (name, first, length) in functions(&file.text) {
            count += 1;
            if length > FUNCTION_LINES && !excused(&format!("{}::{name}", file.name)) {
                broken.push(format!("{}:{first} fn {name} has {length} lines", file.name));
            }
        }
    }
    assert!(
        count > 300,
        "{count} functions found: rustfmt no longer writes what `functions` reads"
    );
    let limits = format!("At most {FILE_LINES} lines a file and {FUNCTION_LINES} a function:");
    refuse(&broken, &limits);
}

/// Name, first line and number of lines of every function with a body. Leans on rustfmt: a body
/// ends with a brace that stands where its function began.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some(at) = code.find("fn ") else { continue };
        let before = code[..at].split_whitespace();
        let words = ["pub", "const", "async", "unsafe"];
        let is_item = before.clone().all(|w| words.contains(&w) || w.starts_with("pub("));
        if !is_item || code.starts_with("//") {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let body = lines[n..].iter().position(|l| *l == end);
        let empty = lines[n..].iter().position(|l| l.ends_with(';') || l.ends_with('}'));
        if let (Some(body), Some(first)) = (body, empty) {
            // A declaration without a body ends before any brace that closes it.
            if code.ends_with(';') && first == 0 {
                continue;
            }
            let name = code[at + 3..].split(['(', '<']).next().unwrap_or_default();
            found.push((name.to_owned(), n + 1, body + 1));
        }
    }
    found
}

#[test]
fn schemas_are_listed_and_every_field_has_a_doc_and_a_default() {
    let listed: BTreeSet<String> =
        SCHEMAS.iter().map(|s| format!("schemas/{}.v{}.avsc", s.subject, s.version)).collect();
    let there: BTreeSet<String> = files("schemas", "avsc").into_iter().map(|f| f.name).collect();
    assert_eq!(there, listed, "src/event/schema.rs lists every file of schemas/");
    let mut broken = Vec::new();
    for file in files("schemas", "avsc") {
        let schema: Value = serde_json::from_str(&file.text).unwrap();
        check_schema(&file.name, &schema, &mut broken);
        if schema["namespace"].as_str().is_none() {
            broken.push(format!("{} has no namespace", file.name));
        }
    }
    refuse(
        &broken,
        "The schema is what a producer reads, and only fields with defaults can come and go \
         without breaking those who read older or newer records:",
    );
}

fn check_schema(path: &str, schema: &Value, broken: &mut Vec<String>) {
    match schema {
        Value::Array(union) => union.iter().for_each(|s| check_schema(path, s, broken)),
        Value::Object(complex) => {
            let name = complex.get("name").and_then(Value::as_str).unwrap_or_default();
            let path = format!("{path} {name}");
            if complex["type"] == "record" {
                if complex.get("doc").and_then(Value::as_str).is_none_or(str::is_empty) {
                    broken.push(format!("{path} has no doc"));
                }
                for field in complex["fields"].as_array().unwrap() {
                    let own = format!("{path}.{}", field["name"].as_str().unwrap());
                    if field["doc"].as_str().is_none_or(str::is_empty) {
                        broken.push(format!("{own} has no doc"));
                    }
                    if field.get("default").is_none() {
                        broken.push(format!("{own} has no default"));
                    }
                    check_schema(&own, &field["type"], broken);
                }
            } else if complex["type"] == "enum" && complex.get("default").is_none() {
                broken.push(format!("{path} has no default for symbols to come"));
            } else if let Some(inner) = complex.get("items").or(complex.get("values")) {
                check_schema(&path, inner, broken);
            }
        }
        _ => {}
    }
}

/// Topic configuration that Kafka knows and we use; a misspelt key would fail only on a cluster.
const TOPIC_KEYS: &[&str] = &[
    "cleanup.policy",
    "compression.type",
    "delete.retention.ms",
    "max.message.bytes",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
];

#[test]
fn topic_files_are_built_in_and_use_keys_that_kafka_knows() {
    let built_in: BTreeSet<String> =
        load_topic_files(None, "").unwrap().into_iter().map(|t| t.name).collect();
    let folder = load_topic_files(Some(&root().join("topics")), "").unwrap();
    let there: BTreeSet<String> = folder.iter().map(|t| t.name.clone()).collect();
    assert_eq!(there, built_in, "src/kafka/topology.rs builds every file of topics/ in");
    let mut broken = Vec::new();
    for topic in &folder {
        let path = root().join(format!("topics/{}.yaml", topic.name));
        if !path.exists() {
            broken.push(format!("{} is not in topics/{}.yaml", topic.name, topic.name));
        }
        for key in topic.config.keys().filter(|k| !TOPIC_KEYS.contains(&k.as_str())) {
            broken.push(format!("topics/{}.yaml has {key}", topic.name));
        }
    }
    for file in files("topics", "yaml") {
        if !file.text.starts_with("# ") {
            broken.push(format!("{} does not begin with what the topic holds", file.name));
        }
    }
    refuse(&broken, "A topic file is what an operator reads:");
}

#[test]
fn every_metric_is_documented() {
    let path = root().join("docs/metrics.md");
    let text = fs::read_to_string(&path).unwrap();
    let rows: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split_once('`'))
        .collect();
    let mut broken = Vec::new();
    for (name, help) in names::ALL {
        match rows.get(name) {
            None => broken.push(format!("{name} is missing: {help}")),
            Some(row) if !row.contains(help) => {
                broken.push(format!("{name} says something else than: {help}"));
            }
            Some(_) => {}
        }
    }
    let known: BTreeSet<&str> = names::ALL.iter().map(|(name, _)| *name).collect();
    let gone = rows.keys().filter(|name| !known.contains(**name));
    broken.extend(gone.map(|name| format!("{name} is no metric any more")));
    refuse(&broken, "docs/metrics.md and src/telemetry/names.rs say the same:");
}

#[test]
fn metric_names_follow_one_convention() {
    let mut broken = Vec::new();
    let mut once = BTreeSet::new();
    for (name, help) in names::ALL {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with("driftline_") || !name.chars().all(plain) || !once.insert(name) {
            broken.push((*name).to_owned());
        }
        if !help.ends_with('.') {
            broken.push(format!("{name}: {help}"));
        }
    }
    refuse(&broken, "driftline_ and words in lower case, each once, with a sentence of help:");
}

/// Documents that are spoken of before they are there, and what writes them.
const COMING: &[(&str, &str)] = &[];

fn is_coming(path: &str) -> bool {
    COMING.iter().any(|(coming, _)| path.ends_with(coming))
}

#[test]
fn documents_that_have_come_are_no_longer_excused() {
    let come = COMING.iter().filter(|(path, _)| root().join(path).exists());
    let come: Vec<_> = come.map(|(path, _)| (*path).to_owned()).collect();
    refuse(&come, "Take these out of COMING in tests/tidy.rs, so that links to them are checked:");
}

fn documents() -> Vec<Source> {
    let mut all = files("docs", "md");
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "md") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            all.push(Source { path, name, text });
        }
    }
    all
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let folder = document.path.parent().unwrap_or(Path::new(""));
        for (at, _) in document.text.match_indices("](") {
            let rest = &document.text[at + 2..];
            let link = rest[..rest.find(')').unwrap_or(rest.len())].split('#').next();
            let link = link.unwrap_or_default();
            let elsewhere = link.contains("://") || link.starts_with("mailto:");
            let there = folder.join(link).exists() || is_coming(link);
            if !link.is_empty() && !elsewhere && !there {
                broken.push(format!("{}: {link}", document.name));
            }
        }
    }
    refuse(&broken, "These links lead nowhere:");
}

#[test]
fn files_that_are_spoken_of_exist() {
    let folders = ["docs/", "config/", "schemas/", "topics/", "scripts/", "tests/", "benches/"];
    let mut broken = Vec::new();
    for file in [documents(), rust_sources()].concat_all() {
        for quoted in file.text.split('`').skip(1).step_by(2) {
            let is_path = folders.iter().any(|f| quoted.starts_with(f) && quoted.len() > f.len());
            // Capitals stand for a name to be filled in.
            let plain =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c);
            let there = root().join(quoted).exists() || is_coming(quoted);
            if is_path && quoted.chars().all(plain) && !there {
                broken.push(format!("{}: {quoted}", file.name));
            }
        }
    }
    refuse(&broken, "These files do not exist:");
}

trait ConcatAll {
    fn concat_all(self) -> Vec<Source>;
}

impl<const N: usize> ConcatAll for [Vec<Source>; N] {
    fn concat_all(self) -> Vec<Source> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn alerts_are_about_metrics_that_exist_and_promtool_takes_them() {
    let rules = root().join("docker/prometheus/alerts.yml");
    let text = fs::read_to_string(&rules).unwrap();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut named = BTreeSet::new();
    for (at, _) in text.match_indices("driftline_") {
        let rest = &text[at..];
        named.insert(&rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]);
    }
    assert!(named.len() > 5, "{named:?}");
    let known: BTreeSet<&str> = names::ALL.iter().map(|(name, _)| *name).collect();
    let unknown: Vec<_> = named.difference(&known).map(|name| (*name).to_owned()).collect();
    refuse(&unknown, "docker/prometheus/alerts.yml asks for metrics that nobody tells:");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let mut promtool = std::process::Command::new("promtool");
        match promtool.args(arguments).current_dir(rules.parent().unwrap()).output() {
            Ok(output) => assert!(
                output.status.success(),
                "{arguments:?}: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => eprintln!("skipped: promtool (Debian's prometheus): {error}"),
        }
    }
}

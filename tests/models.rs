//! `driftline models` as its users run it, over versions that a trainer has registered.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use bytes::Bytes;
use common::now_ms;
use common::s3::{CREDENTIALS, S3};
use driftline::ids::ItemId;
use driftline::lake::{Batch, Job, Lake, Plan, TopicWriter, subject_of};
use driftline::model::{Basis, Dim, HistoryWeights, Hyperparameters, Position, Training, Vectors};
use driftline::objects::{Objects, ObjectsSettings};
use driftline::registry::{
    AliasChange, BASIS, Blessing, Blessings, KeepRules, Lineage, Manifest, Metric, ModelVersion,
    Origin, Registry, TrainingRun, Validation,
};
use driftline::time::EventTime;
use serde_json::{Value, json};

const DAY: i64 = 86_400_000;

struct Site {
    folder: tempfile::TempDir,
    settings: ObjectsSettings,
    objects: Arc<Objects>,
    registry: Registry,
}

impl Site {
    fn new(uri: impl Fn(&Path) -> String, endpoint: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let uri = uri(folder.path());
        let endpoint = endpoint.to_owned();
        let settings = ObjectsSettings { uri, endpoint, ..ObjectsSettings::default() };
        let objects = Arc::new(Objects::open(&settings).expect("a store"));
        let registry = Registry::open(Arc::clone(&objects));
        Self { folder, settings, objects, registry }
    }

    fn local() -> Self {
        Self::new(|folder| format!("file://{}/objects", folder.display()), "")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftline"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DRIFTLINE_")) {
            command.env_remove(name);
        }
        let ObjectsSettings { uri, endpoint, .. } = &self.settings;
        command.args(["--set", &format!("objects.uri={uri}")]);
        command.args(["--set", &format!("objects.endpoint={endpoint}")]);
        command.arg("models").args(arguments).output().expect("the binary runs")
    }

    #[track_caller]
    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[track_caller]
    fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.text(&[arguments, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let mut lines = self.lines(arguments);
        assert_eq!(lines.len(), 1, "{arguments:?}");
        lines.remove(0)
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], words: &[&str]) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} was not refused");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }

    /// The version of this number, a day after the one before, with that as its parent.
    fn register(&self, n: u16, blessed: bool) -> ModelVersion {
        let basis = basis(n);
        let blessing = |granted| Blessing { granted, reasons: vec![format!("run {n}")] };
        let difference = Some([-0.01, 0.02, 0.05]);
        let metric =
            Metric { name: "ndcg@10".into(), candidate: 0.25, champion: Some(0.23), difference };
        let draft = Manifest {
            seed: Some(7),
            feature_schema: "00000000000000aa".into(),
            dimension: 8,
            lineage: lineage(n),
            parent: n.checked_sub(1).map(version),
            training: TrainingRun {
                settings: json!({ "epochs": 10 + n, "hold_out": "1d" }),
                hyperparameters: json!({ "ials": { "regularization": 0.003 } }),
                users: 100,
                items: 2,
                interactions: 1_000 + u64::from(n),
                seconds: 1.5,
            },
            validation: Some(Validation {
                from_ms: 1_700_000_000_000,
                to_ms: 1_700_086_400_000,
                targets: 50,
                metrics: vec![metric],
            }),
            blessings: Blessings { validation: blessing(true), loading: blessing(blessed) },
            ..Manifest::draft(
                basis.version().into(),
                Origin::Train,
                1_700_000_000_000 + i64::from(n) * DAY,
            )
        };
        let files = vec![
            (BASIS.to_owned(), Bytes::from(basis.to_bytes())),
            ("report.md".to_owned(), Bytes::from(format!("# Run {n}\n"))),
        ];
        self.registry.register(draft, files).expect("it is registered").version
    }

    fn promote(&self, version: ModelVersion, why: &str) {
        let expected_epoch = self.registry.aliases().expect("aliases").epoch;
        let at_ms = 1_700_500_000_000;
        let change = AliasChange { expected_epoch, by: "ann", why, force: None, at_ms };
        self.registry.set_champion(version, &change).expect("it is the champion");
    }
}

fn basis(n: u16) -> Basis {
    let vectors = vec![0.5 + f32::from(n); 16];
    let vectors = Vectors::from_values(Dim::new(8).expect("a dimension"), vectors).expect("two");
    let history = HistoryWeights { newest: 5.0, ratio: 0.7, limit: 50 };
    let training = Training {
        items: vec![ItemId::from("a"), ItemId::from("b")],
        counts: vec![3, 5],
        vectors,
        hyperparameters: Hyperparameters { unobserved: 0.1, regularization: 0.01, history },
        watermark: EventTime::from_millis(1_700_000_000_000),
    };
    Basis::seal(training, [[Position(0)]], 1).expect("a basis")
}

fn version(n: u16) -> ModelVersion {
    basis(n).version().into()
}

fn lineage(n: u16) -> Lineage {
    let topics = json!({ "watch-events": {
        "files": [{ "key": format!("watch-events/{n}.parquet"), "sha256": "ab12" }],
        "rows": 90 + n,
        "offsets": [
            { "partition": 0, "generation": 0, "start": 0, "end": 40 + n },
            { "partition": 1, "generation": 2, "start": 5, "end": 55 },
        ],
        "watermark_ms": 1_700_000_000_000_i64,
    }});
    let lineage = json!({
        "snapshot": format!("pin-{n}"), "topics": topics, "live_from": [11, 12],
        "watermark_ms": 1_700_000_000_000_i64, "trigger": "drift:ctr",
    });
    serde_json::from_value(lineage).expect("a lineage")
}

#[test]
fn versions_are_listed_shown_and_compared() {
    let site = Site::local();
    assert_eq!(site.lines(&["list"]), Vec::<Value>::new());
    let [a, b] = [site.register(0, true), site.register(1, false)];
    site.promote(a, "the first");
    let listed = site.lines(&["list"]);
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["version"], b.to_string());
    assert_eq!(listed[1]["roles"], json!(["champion"]));
    let text = site.text(&["list"]);
    let row =
        |v: ModelVersion| text.lines().find(|l| l.starts_with(&v.to_string())).expect("a row");
    assert!(row(a).contains(" yes ") && row(a).ends_with("champion"), "{text}");
    assert!(row(b).contains(" no ") && row(b).ends_with(&a.to_string()), "{text}");

    let shown = site.json(&["show", "champion", "--verify"]);
    assert_eq!(shown["manifest"]["version"], a.to_string());
    assert_eq!(shown["manifest"]["training"]["settings"]["epochs"], 10);
    let text = site.text(&["show", &b.to_string()[..6]]);
    for words in ["loading: not passed: run 1", "ndcg@10  0.2500  0.2300    +0.0200", "report.md"] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    site.refused(
        &["show", "challenger"],
        &["there is no version called challenger", "models list"],
    );
    site.refused(&["show", "zz"], &["that begins with \"zz\""]);

    let rows = site.json(&["diff", "champion", &b.to_string()]);
    let row = |what: &str| {
        let all = rows["rows"].as_array().expect("rows");
        all.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("{what} in {rows}"))
    };
    assert_eq!(
        row("settings.epochs"),
        &json!({ "what": "settings.epochs", "a": "10", "b": "11", "differs": true })
    );
    assert_eq!(row("hyperparameters.ials.regularization")["differs"], false);
    assert_eq!(row("watch-events: offsets")["b"], "0:0–40 1@2:5–54");
    assert_eq!(row("ndcg@10")["differs"], false);
    let text = site.text(&["diff", "champion", &b.to_string(), "--only-different"]);
    assert!(text.contains("interactions") && !text.contains("regularization"), "{text}");
}

#[test]
fn history_says_who_let_what_serve_and_quarantine_bars_it() {
    let site = Site::local();
    let [a, b] = [site.register(0, true), site.register(1, true)];
    site.promote(a, "the first");
    site.promote(b, "more clicks");
    let history = site.lines(&["history"]);
    assert_eq!(history.len(), 2);
    assert_eq!((&history[0]["epoch"], &history[0]["why"]), (&json!(2), &json!("more clicks")));
    assert_eq!(history[0]["previous_champion"], a.to_string());
    assert!(site.text(&["history"]).contains("more clicks"));

    site.refused(&["quarantine", "champion"], &["--why"]);
    site.refused(&["quarantine", "champion", "--why", " "], &["why is empty"]);
    let output = site.run(&["quarantine", "champion", "--why", "lists of one item"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("is still champion"), "{said}");
    assert!(site.text(&["show", "champion"]).contains("lists of one item"));
    assert_eq!(site.lines(&["list"])[0]["roles"], json!(["champion", "quarantined"]));
}

/// Writes lists into the lake: the request's number, its time and the version that ranked it.
fn archive(site: &Site, lists: &[(u32, i64, &str)]) {
    let lake = Lake::new(Arc::clone(&site.objects));
    let writer = TopicWriter::new(subject_of("impressions").expect("it is archived"));
    let writer = writer.expect("a writer");
    let tail = lake.tail("impressions", 0).expect("a tail");
    let start = tail.next.unwrap_or(0);
    let end = start + i64::try_from(lists.len()).expect("few");
    let mut batch = Batch::default();
    for (offset, (request, at, version)) in (start..).zip(lists) {
        let record = json!({
            "request_id": format!("r{request}"), "user": "u", "event_time": at, "answered_at": at,
            "model_version": version,
        });
        batch.push(offset, *at, Some(record.to_string().as_bytes()));
    }
    let plan = Plan { start, end };
    let (chain, cut) = (tail.chain, tail.cut);
    let mut job = Job { chain, cut, plan, resumed: false, whole: true, lost: None, batch };
    let mut cut = Lake::prepare(&writer, &mut job).expect("a cut");
    lake.commit(&job, &mut cut).expect("it is written");
    assert_eq!(cut.manifest.rows, lists.len() as u64);
}

#[test]
fn lineage_names_the_events_the_parents_and_the_requests() {
    let site = Site::local();
    let all: Vec<ModelVersion> = (0..3).map(|n| site.register(n, true)).collect();
    let told = site.json(&["lineage", &all[2].to_string()]);
    assert_eq!(told["served"]["lists"], 0);
    assert_eq!(told["lineage"]["topics"]["watch-events"]["offsets"][1]["end"], 55);
    let parents: Vec<_> = told["ancestors"].as_array().expect("parents").iter().collect();
    assert_eq!(
        parents.iter().map(|p| &p["version"]).collect::<Vec<_>>(),
        [&json!(all[1]), &json!(all[0])]
    );

    let names: Vec<String> = all.iter().map(ToString::to_string).collect();
    let lists: Vec<(u32, i64, &str)> = (0..90)
        .map(|n| (n, 1_700_000_000_000 + i64::from(n) * 60_000, &*names[n as usize % 3]))
        .collect();
    archive(&site, &lists);
    // Told again after a crash, and the last one of another version.
    archive(&site, &[lists[2], lists[5], (91, 1_700_000_000_000 + 2 * DAY, "untrained")]);
    archive(&site, &[(92, 1_700_000_000_000 + DAY, &names[2])]);
    let served = &site.json(&["lineage", &names[2], "--requests", "3"])["served"];
    assert_eq!(served["lists"], 31);
    assert_eq!(served["rows"], 94);
    assert_eq!(served["first_ms"], 1_700_000_120_000_i64);
    assert_eq!(served["last_ms"], 1_700_000_000_000 + DAY);
    let newest: Vec<&Value> =
        served["newest"].as_array().expect("some").iter().map(|r| &r[1]).collect();
    assert_eq!(newest, ["r92", "r89", "r86"]);

    let text = site.text(&["lineage", &names[2], "--requests", "1", "--files"]);
    for words in [
        "asked for by drift:ctr",
        "read from the lake's snapshot pin-2",
        "1 (made anew 2×)",
        "5 to 54",
        "from offsets 11, 12 on",
        "watch-events/2.parquet",
        "lists in the lake: 31 of 94",
        "r92",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
}

#[test]
fn an_export_is_what_was_registered_and_a_flipped_byte_is_not_exported() {
    let site = Site::local();
    let a = site.register(0, true);
    let to = site.folder.path().join("out");
    let to = to.to_str().expect("UTF-8");
    site.text(&["export", &a.to_string(), to]);
    assert_eq!(std::fs::read(Path::new(to).join(BASIS)).expect("a basis"), basis(0).to_bytes());
    let manifest = std::fs::read(Path::new(to).join("manifest.json")).expect("a manifest");
    let key = format!("models/versions/{a}/manifest.json");
    assert_eq!(site.objects.get(&key).expect("a store").expect("a manifest"), manifest);
    site.refused(&["export", &a.to_string(), to], &["it is not empty"]);

    let file = site.folder.path().join(format!("objects/models/versions/{a}/report.md"));
    std::fs::write(&file, "# Run 1\n").expect("a report");
    let other = site.folder.path().join("other");
    site.refused(
        &["export", &a.to_string(), other.to_str().expect("UTF-8")],
        &["damaged", "SHA-256"],
    );
    assert!(!other.join("manifest.json").exists());
    site.refused(&["show", &a.to_string(), "--verify"], &["damaged"]);
    // A manifest that is damaged hides no other version.
    let b = site.register(1, true);
    let key = site.folder.path().join(format!("objects/models/versions/{a}/manifest.json"));
    let text = std::fs::read_to_string(&key).expect("a manifest");
    std::fs::write(&key, text.replace("\"seed\": 7", "\"seed\": 8")).expect("a manifest");
    let output = site.run(&["list"]);
    let (told, said) = (output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && said.contains("not what was written"), "{said}");
    assert!(String::from_utf8_lossy(&told).contains(&b.to_string()));
}

/// What every store must do: here by the library and by the binary in turn.
fn collect(site: &Site) {
    let all: Vec<ModelVersion> = (0..4).map(|n| site.register(n, true)).collect();
    all.iter().for_each(|version| site.promote(*version, "newer"));
    let again = site.register(3, true);
    assert_eq!(again, all[3], "the same again is fine");
    let rules = ["--set", "registry.keep_epochs=1", "--set", "registry.keep_days=0"];
    assert_eq!(site.json(&["gc"])["deleted"], json!([]), "all are young");
    let would = site.json(&[&["gc", "--dry-run"][..], &rules].concat());
    let goes: Vec<_> =
        would["would"].as_array().expect("all").iter().filter(|f| f["fate"] == "goes").collect();
    assert_eq!(goes.len(), 1, "{would}");
    assert_eq!(goes[0]["version"], all[0].to_string());
    assert_eq!(site.lines(&["list"]).len(), 4);
    let text = site.text(&[&["gc"][..], &rules].concat());
    for words in
        ["deleted", "stays: champion at epoch 4", "stays: previous at epoch 4", "stays: parent of"]
    {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    assert_eq!(site.lines(&["list"]).len(), 3);
    site.refused(&["show", &all[0].to_string()], &["its files were collected"]);
    // What made it is still known, by itself and as the root of the others.
    let told = site.json(&["lineage", &all[0].to_string()]);
    assert_eq!((&told["collected"], &told["lineage"]["snapshot"]), (&json!(true), &json!("pin-0")));
    let ancestors = site.json(&["lineage", "champion", "--no-requests"])["ancestors"].clone();
    assert_eq!(ancestors[2]["collected"], true);
    // Everything that is left is whole.
    for manifest in site.registry.versions().expect("versions") {
        site.registry.verify(&manifest).expect("whole");
    }
    let left = site.objects.list("models").expect("a store");
    assert!(!left.iter().any(|o| o.key.contains("/claims/") || o.key.contains("/plans/")));
    let rules = KeepRules { epochs: 1, young_ms: 0, grace_ms: 0 };
    assert_eq!(site.registry.collect(&rules, now_ms()).expect("nothing").deleted, []);
}

#[test]
fn what_nothing_names_is_collected_and_its_lineage_stays() {
    collect(&Site::local());
}

/// The library takes credentials from the environment, which a test cannot set for itself: so it runs
/// itself once more, with them.
#[test]
fn the_registry_works_on_s3() {
    const ENDPOINT: &str = "REGISTRY_S3_ENDPOINT";
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        let site = Site::new(|_| "s3://lake/registry".into(), &endpoint);
        collect(&site);
        site.text(&["quarantine", "previous", "--why", "a try"]);
        let to = site.folder.path().join("out");
        site.text(&["export", "champion", to.to_str().expect("UTF-8")]);
        assert_eq!(std::fs::read(to.join(BASIS)).expect("a basis"), basis(3).to_bytes());
        return;
    }
    let Some(s3) = S3::start_new("models") else { return };
    let status = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "the_registry_works_on_s3", "--nocapture"])
        .envs(CREDENTIALS)
        .env(ENDPOINT, &s3.server.address)
        .status();
    assert!(status.expect("it runs").success());
    // It did write there.
    assert!(s3.bucket().join("registry/models/aliases/0000000004.json").exists());
}

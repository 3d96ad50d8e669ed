//! From the lake to a model that serves, and back: trained, judged, registered, promoted, refused.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::dice::Dice;
use common::events::{Event, HOUR, SECOND};
use common::installation::Installation;
use common::kafka::Out;
use common::requests::{Ask, Client};
use common::{avro, duckdb, eventually};
use driftline::deployment::{CONTROLLED, records};
use driftline::event::{GoldenList, ModelControl, ModelManifest, RunState, TrainingRun};
use driftline::model::Basis;
use serde_json::Value;

const SETTINGS: &[(&str, &str)] = &[
    ("state.commit_interval_ms", "50"),
    ("state.backlog_commit_interval_ms", "50"),
    ("items.publish_interval_ms", "200"),
    // What serves until a model is promoted.
    ("items.first_basis.enabled", "false"),
];
const TOPICS: &str = "interactions,watch-events,click-events";
const GROUPS: u64 = 16;
const ITEMS: u64 = 50;

/// A site with a lake of what users of groups liked, each group items of its own.
struct World {
    site: Installation,
}

impl World {
    fn new(name: &str) -> Self {
        let site = Installation::new(name, SETTINGS);
        let mut dice = Dice::printed(name);
        let count = 6_000;
        let begin = common::now_ms() - 240 * HOUR;
        let event = |n: i64| {
            let user = dice.below(160);
            let item = (user % GROUPS) * ITEMS + dice.below(ITEMS);
            let (user, item) = (format!("u{user}"), format!("v{item}"));
            let at = begin + n * (230 * HOUR / count);
            match dice.below(4) {
                0 => Event::watch(&user, &item).lasting(5 * SECOND, 60 * SECOND).at(at),
                1 | 2 => Event::click(&user, &item).at(at),
                _ => Event::watch(&user, &item).at(at),
            }
        };
        let events: Vec<Event> = (0..count).map(event).collect();
        let mut worker = site.worker("folding");
        // Not at once: what is folded in one go is one record of `interactions`, whatever its times.
        for part in events.chunks(500) {
            site.deliver(part);
            site.wait_folded(&mut worker);
        }
        worker.drain();
        let world = Self { site };
        world.expect_ok(&["archive", "--once", "--topics", TOPICS]);
        world
    }

    fn objects(&self) -> PathBuf {
        self.site.folder.path().join("objects")
    }

    fn command(&self, work: &str, arguments: &[&str]) -> Command {
        let mut command = self.site.command(&self.site.data_dir("trainer"));
        let work_dir = self.site.folder.path().join(work);
        let settings = [
            format!("objects.uri=file://{}", self.objects().display()),
            format!("training.work_dir={}", work_dir.display()),
            "training.min_targets=50".to_owned(),
            // What is random within a group has nothing for vectors to find beyond neighbours.
            "training.tolerance=0.2".to_owned(),
        ];
        for setting in &settings {
            command.args(["--set", setting]);
        }
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command("work", arguments).output().expect("it runs")
    }

    fn expect_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What a command says that fails, with its exit code.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().expect("an exit code"), said)
    }

    fn train(&self, work: &str) -> Value {
        let output = self.command(work, &["train", "--json"]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).expect("a report")
    }

    fn file(&self, version: &str, name: &str) -> PathBuf {
        let folder = self.objects().join("models/versions").join(version);
        folder.join(name)
    }

    fn basis(&self, version: &str) -> Basis {
        let bytes = std::fs::read(self.file(version, "basis.bin")).expect("its bytes");
        Basis::from_bytes(&bytes).expect("a basis")
    }
}

fn version_of(report: &Value) -> String {
    report["version"].as_str().expect("a version").to_owned()
}

/// Asks until this version answers.
fn wait_served(client: &Client, version: &str) {
    eventually("the version answers", || {
        let answer = client.ask(&Ask::of("u1").json());
        (answer.body["model_version"] == version).then_some(())
    });
}

#[test]
fn a_model_is_trained_judged_registered_promoted_and_rolled_back() {
    let world = World::new("train");
    let report = world.train("work");
    let version = version_of(&report);
    let recall = &report["held_out"]["metrics"][2];
    assert_eq!((&report["blessed"], &recall["metric"]), (&true.into(), &"Recall@20".into()));
    let of = |who: &str| recall[who].as_f64().expect("a number");
    // Before any model there are no vectors here; neighbours know the groups too.
    assert!(of("candidate") > 4.0 * of("trending"), "{recall}");
    assert_eq!(version_of(&world.train("elsewhere")), version, "the same data, the same bytes");

    let worker = world.site.ready_worker("a");
    let client = Client::new(&world.site);
    let answer = client.ask(&Ask::of("u1").json());
    assert_eq!(answer.body["model_version"], "untrained");
    let (_, said) = world.refused(&["models", "rollback"]);
    assert!(said.contains("no version before"), "{said}");
    let said = world.expect_ok(&["models", "promote", &version[..6]]);
    assert!(said.contains("epoch 1"), "{said}");
    wait_served(&client, &version);
    assert_eq!(worker.metric("driftline_model_epoch"), 1.0);
    let said = world.expect_ok(&["models", "promote", &version]);
    assert!(said.contains("serves already"), "{said}");
    // Whoever comes later serves the same from the first answer on.
    worker.drain();
    let later = world.site.ready_worker("b");
    let answer = client.ask(&Ask::of("u2").json());
    assert_eq!(answer.body["model_version"], *version);
    let told = world.site.kafka.read_all(&world.site.topic("impressions"));
    let told =
        told.iter().map(|seen| avro::IMPRESSION.decode(seen.value.as_deref().unwrap_or(&[])));
    let versions: Vec<String> =
        told.map(|list| list["model_version"].as_str().expect("one").to_owned()).collect();
    assert_eq!(versions.first().map(String::as_str), Some("untrained"));
    assert_eq!(versions.last(), Some(&version));

    // Vectors from elsewhere go through the same gates. These know nothing, which a blend finds out by
    // itself: they are told to be far worse and still serve, and people roll them back.
    let Some(python) = duckdb::python() else { return };
    let factors = world.site.folder.path().join("factors.parquet");
    let sql = format!(
        "COPY (SELECT 'v' || i AS item, [sin(i * 12.9 + j * 78.2)::FLOAT FOR j IN range(60)] AS vector \
         FROM range({}) t(i)) TO '{}' (FORMAT parquet)",
        GROUPS * ITEMS,
        factors.display()
    );
    duckdb::query(&python, &sql);
    let factors = factors.display().to_string();
    let lenient = ["--set", "training.tolerance=1", "models", "import", &factors, "--json"];
    let report: Value = serde_json::from_str(&world.expect_ok(&lenient)).expect("a report");
    assert_eq!((&report["blessed"], &report["parent"]), (&true.into(), &version.as_str().into()));
    let imported = version_of(&report);
    assert_eq!(world.basis(&imported).dim().get(), 64, "filled up");
    world.expect_ok(&["models", "promote", &imported]);
    wait_served(&client, &imported);
    world.expect_ok(&["models", "rollback", "--why", "it fell"]);
    wait_served(&client, &version);
    assert_eq!(later.metric("driftline_model_epoch"), 3.0);
    later.drain();
}

#[test]
fn a_damaged_model_serves_nobody() {
    let world = World::new("damaged");
    let version = version_of(&world.train("work"));
    let basis = world.basis(&version);
    let worker = world.site.ready_worker("a");
    let client = Client::new(&world.site);

    // Of its golden lists one is not what the basis gives: no worker takes it.
    let golden = GoldenList {
        history: vec![basis.items()[0].to_string()],
        items: vec![basis.items()[1].to_string()],
        scores: vec![9.0],
    };
    let manifest = ModelManifest { golden: vec![golden], ..ModelManifest::default() };
    let topic = |name: &str, key: &str, value: Vec<u8>| Out {
        topic: world.site.topic(name),
        key: Some(key.into()),
        value: Some(value),
        partition: Some(0),
        ..Out::default()
    };
    let mut all: Vec<Out> = records(&basis, manifest)
        .expect("records")
        .into_iter()
        .map(|(key, value)| topic("models", &key, value))
        .collect();
    let decision = ModelControl { epoch: 1, champion: version.clone(), ..ModelControl::default() };
    all.push(topic("model-control", CONTROLLED, decision.encode().expect("a decision")));
    world.site.kafka.deliver(&all);
    eventually("the decision is read", || {
        (worker.metric("driftline_model_epoch") == 1.0).then_some(())
    });
    let answer = client.ask(&Ask::of("u1").json());
    assert_eq!(answer.body["model_version"], "untrained");
    eventually("it is said", || worker.log_text().contains("golden list 0").then_some(()));

    // One flipped byte in any file, and nothing is promoted.
    for name in ["basis.bin", "golden.json"] {
        let file = world.file(&version, name);
        let whole = std::fs::read(&file).expect("its bytes");
        let mut broken = whole.clone();
        broken[whole.len() / 2] ^= 1;
        std::fs::write(&file, broken).expect("written");
        let (_, said) = world.refused(&["models", "promote", &version]);
        assert!(said.contains(name), "{said}");
        std::fs::write(&file, whole).expect("written");
    }
    assert_eq!(client.ask(&Ask::of("u1").json()).body["model_version"], "untrained");
    world.expect_ok(&["models", "promote", &version]);
    wait_served(&client, &version);
    worker.drain();
}

#[test]
fn vectors_that_spark_trained_on_the_lake_are_judged_and_serve() {
    let Some(python) = common::python::with("pyspark[ml]", "pyspark.ml") else { return };
    let world = World::new("spark");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("integrations/spark/train_als.py");
    let factors = world.site.folder.path().join("factors");
    let output = Command::new(python)
        .arg(script)
        .args(["--master", "local[2]", "--rank", "30", "--iterations", "5"])
        .args(["--lake", &world.objects().display().to_string()])
        .args(["--topic", &world.site.topic("interactions")])
        .args(["--out", &factors.display().to_string()])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    let import =
        told.lines().last().expect("a line").strip_prefix("driftline ").expect("a command");
    let import: Vec<&str> = import.split(' ').chain(["--json"]).collect();
    let report: Value = serde_json::from_str(&world.expect_ok(&import)).expect("a report");
    let recall = &report["held_out"]["metrics"][2];
    let of = |who: &str| recall[who].as_f64().expect("a number");
    assert!(of("candidate") > 4.0 * of("trending"), "{recall}");
    let version = version_of(&report);
    assert_eq!(world.basis(&version).dim().get(), 32);
    let worker = world.site.ready_worker("a");
    world.expect_ok(&["models", "promote", &version]);
    wait_served(&Client::new(&world.site), &version);
    let lineage = world.expect_ok(&["models", "lineage", &version]);
    assert!(lineage.contains("factors"), "{lineage}");
    worker.drain();
}

/// Ends a run when it has left this file in its work folder; whether it was still running then.
fn kill_at(mut run: Child, work: &Path, stage: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let folders = std::fs::read_dir(work).into_iter().flatten().flatten();
        if folders.map(|folder| folder.path().join(stage)).any(|file| file.exists()) {
            break;
        }
        if run.try_wait().expect("a child").is_some() {
            return false;
        }
        assert!(Instant::now() < until, "{stage} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
    run.kill().expect("it dies");
    run.wait().expect("it is dead").code().is_none()
}

#[test]
fn training_that_is_killed_goes_on_and_gives_the_same_bytes() {
    let world = World::new("killed");
    let mut killed = 0;
    for stage in ["settings", "basis", "judgement"] {
        let run = world
            .command("killed", &["train", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let work = world.site.folder.path().join("killed");
        killed += u32::from(kill_at(run, &work, stage));
    }
    assert!(killed >= 2, "killed {killed} times");
    let resumed = world.train("killed");
    let whole = world.train("whole");
    assert_eq!(resumed, whole);
}

/// A process that is ended with the test.
struct Watching(Child);

impl Watching {
    fn start(world: &World, name: &str) -> Self {
        let log = std::fs::File::create(world.site.folder.path().join(name)).expect("a log");
        let mut command = world.command("watching", &["train", "--watch", "--promote"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self(command.spawn().expect("it starts"))
    }

    fn kill(mut self) {
        self.0.kill().expect("it dies");
        self.0.wait().expect("it is dead");
    }
}

/// Steps of runs, in their order.
fn runs(world: &World) -> Vec<TrainingRun> {
    let seen = world.site.kafka.read_all(&world.site.topic("training-runs"));
    let decode = |value: Option<&[u8]>| TrainingRun::decode(value.unwrap_or_default());
    seen.iter().map(|seen| decode(seen.value.as_deref()).expect("a run")).collect()
}

#[test]
fn a_trigger_is_answered_by_one_run_that_is_promoted_whoever_dies() {
    let world = World::new("watching");
    let worker = world.site.ready_worker("a");
    let retrain = |wish: &str| world.expect_ok(&["retrain", "--reason", "a test", "--wish", wish]);
    let wishes = [retrain("one"), retrain("two")];
    let wishes: Vec<&str> = wishes.iter().map(|wish| wish.trim()).collect();
    let first = Watching::start(&world, "first.log");
    eventually("a run begins", || {
        runs(&world).iter().any(|run| run.state == RunState::Started).then_some(())
    });
    first.kill();
    let second = Watching::start(&world, "second.log");
    let finished = eventually("a run ends", || {
        runs(&world).into_iter().find(|run| run.state == RunState::Finished)
    });
    assert!(finished.blessed && finished.promoted, "{finished:?}");
    assert_eq!(finished.trigger, wishes[1], "the newest is answered");
    wait_served(&Client::new(&world.site), &finished.version);
    let lineage = world.expect_ok(&["models", "lineage", &finished.version]);
    assert!(lineage.contains(wishes[1]), "{lineage}");
    second.kill();
    // What is answered stays answered, whoever comes.
    let third = Watching::start(&world, "third.log");
    let wish = retrain("three");
    let finished = eventually("the next one is answered", || {
        runs(&world).into_iter().find(|run| run.trigger == wish.trim() && run.state.is_final())
    });
    assert_eq!(finished.state, RunState::Finished);
    let of = |wish: &str| {
        let all = runs(&world).into_iter().filter(|run| run.trigger == wish);
        all.filter(|run| run.state.is_final()).map(|run| run.state).collect::<Vec<_>>()
    };
    assert_eq!(of(wishes[0]), [RunState::Collapsed]);
    assert_eq!(of(wishes[1]), [RunState::Finished]);
    third.kill();
    worker.drain();
}

#[test]
fn data_that_is_not_fit_is_refused_with_what_is_wrong() {
    let site = Installation::new("unfit", SETTINGS);
    site.deliver(&[Event::click("u1", "v1"), Event::click("u2", "v2")]);
    let mut worker = site.worker("a");
    site.wait_folded(&mut worker);
    worker.drain();
    let world = World { site };
    world.expect_ok(&["archive", "--once", "--topics", TOPICS]);
    let (code, said) = world.refused(&["train"]);
    assert_eq!(code, 3);
    assert!(said.contains("training.min_positives") && said.contains("2 of 2"), "{said}");
    assert!(!world.objects().join("models").exists(), "nothing is registered");
}

//! Versions on trial: on real workers, with controllers and workers that die.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::dice::Dice;
use common::eventually;
use common::installation::Installation;
use common::kafka::Out;
use common::requests::{Ask, Client};
use driftline::deployment::{GOLDEN_FILE, golden_lists};
use driftline::event::{
    Encoding, MetricsWindow, ModelAck, RetrainTrigger, TriggerAction, TriggerState, UserGroup,
};
use driftline::ids::ItemId;
use driftline::model::{Basis, Dim, HistoryWeights, Hyperparameters, Position, Training, Vectors};
use driftline::objects::{Objects, ObjectsSettings};
use driftline::registry::{BASIS, Blessing, Blessings, Manifest, ModelVersion, Origin, Registry};
use driftline::time::EventTime;
use serde_json::Value;

const MINUTE: i64 = 60_000;
const SETTINGS: &[(&str, &str)] = &[
    ("items.first_basis.enabled", "false"),
    // What comes of lists is told by the tests.
    ("quality.enabled", "false"),
    ("deployment.heartbeat_ms", "200"),
    ("deployment.lease_ms", "3000"),
    ("deployment.shadow_share", "1.0"),
    ("deployment.shadow_requests", "100"),
    ("deployment.steps", "0.2,0.5"),
    ("deployment.step_minutes", "35"),
    ("deployment.step_impressions", "1000"),
    ("deployment.margin", "0.2"),
];

struct World {
    site: Installation,
    registry: Registry,
    /// Of its own, since settings come before the site's folder.
    _objects: tempfile::TempDir,
}

impl World {
    fn new(name: &str, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let uri = format!("file://{}", folder.path().display());
        let settings = [SETTINGS, &[("objects.uri", &*uri)], more].concat();
        let site = Installation::new(name, &settings);
        let settings = ObjectsSettings { uri, ..ObjectsSettings::default() };
        let registry = Registry::open(Arc::new(Objects::open(&settings).expect("a store")));
        Self { site, registry, _objects: folder }
    }

    /// A blessed version, unlike those of other numbers.
    fn register(&self, n: usize, parent: Option<&str>) -> String {
        let basis = basis(n);
        let history: Vec<String> = vec!["v1".into(), "v7".into()];
        let golden = serde_json::to_vec(&golden_lists(&basis, &[history])).expect("JSON");
        let blessing = Blessing { granted: true, reasons: vec!["a test says so".into()] };
        let draft = Manifest {
            feature_schema: driftline::ranking::schema_name().into(),
            dimension: 8,
            parent: parent.and_then(ModelVersion::parse),
            blessings: Blessings { validation: blessing.clone(), loading: blessing },
            ..Manifest::draft(basis.version().into(), Origin::Train, 1_700_000_000_000)
        };
        let files = vec![
            (BASIS.to_owned(), Bytes::from(basis.to_bytes())),
            (GOLDEN_FILE.to_owned(), Bytes::from(golden)),
        ];
        self.registry.register(draft, files).expect("it is registered").version.to_string()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.site.expect_ok(&arguments)).expect("JSON")
    }

    fn history(&self) -> Vec<Value> {
        let text = self.site.expect_ok(&["deploy", "history", "--json"]);
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn controller(&self, name: &str) -> Controller {
        let log = self.site.folder.path().join(name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let mut command = self.site.command(&self.site.data_dir(name));
        command.args(["deploy", "run"]).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        Controller(command.spawn().expect("it starts"))
    }

    /// Tells a minute of what came of lists, by arm: clicks of a hundred impressions in each of four shards.
    fn tell_minute(&self, minute: i64, arms: &[(&str, &str, i64)], dice: &mut Dice) {
        let mut all = Vec::new();
        for shard in 0..4 {
            for (version, arm, clicks) in arms {
                let clicks = clicks - 3 + dice.below(7) as i64;
                // One group of users a minute.
                let group = UserGroup {
                    group: (minute % 16) as i32,
                    lists: 10,
                    impressions: 100,
                    clicks,
                    long_views: clicks / 2,
                    watched_ms: clicks * 30_000,
                    ..UserGroup::default()
                };
                let window = MetricsWindow {
                    shard,
                    start: 1_700_000_040_000 + minute * MINUTE,
                    length_ms: MINUTE,
                    model_version: (*version).into(),
                    arm: (*arm).into(),
                    revision: 1,
                    lists: 10,
                    impressions: 100,
                    clicks,
                    long_views: clicks / 2,
                    watched_ms: clicks * 30_000,
                    user_groups: vec![group],
                    ..MetricsWindow::default()
                };
                all.push(Out {
                    topic: self.site.topic("metrics"),
                    key: Some(format!("{shard}/{minute}/{version}/{arm}").into_bytes()),
                    value: Some(window.encode().expect("a window")),
                    ..Out::default()
                });
            }
        }
        self.site.kafka.deliver(&all);
    }
}

fn basis(n: usize) -> Basis {
    let items = 40;
    let dim = Dim::new(8).expect("a dimension");
    let value = |at: usize| ((at * (37 + n) % 101) as f32 - 50.0) / 50.0;
    let training = Training {
        items: (0..items).map(|item| ItemId::from(&*format!("v{item}"))).collect(),
        counts: vec![1; items],
        vectors: Vectors::from_values(dim, (0..items * 8).map(value).collect()).expect("vectors"),
        hyperparameters: Hyperparameters {
            unobserved: 0.1,
            regularization: 0.01,
            history: HistoryWeights { newest: 5.0, ratio: 0.7, limit: 50 },
        },
        watermark: EventTime::from_millis(1_700_000_000_000),
    };
    Basis::seal(training, [[Position(0)]], 1).expect("a basis")
}

/// Ends with the test.
struct Controller(Child);

impl Controller {
    fn kill(mut self) {
        self.0.kill().expect("it dies");
        self.0.wait().expect("it is dead");
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks for some fifty users until told to stop; by user the versions that answered, each once, in order.
fn ask_until(
    client: &Client,
    done: &AtomicBool,
) -> (usize, BTreeMap<String, Vec<(String, String)>>) {
    let (mut asked, mut seen) = (0, BTreeMap::<String, Vec<(String, String)>>::new());
    for n in 0.. {
        if done.load(Ordering::Acquire) {
            break;
        }
        let user = format!("u{}", n % 50);
        let answer = client.ask(&Ask::of(&user).json().deadline_in(30_000));
        assert_eq!(answer.error(), "", "no request fails: {}", answer.message());
        let of = |field: &str| answer.body[field].as_str().expect("a text").to_owned();
        let by = (of("model_version"), of("arm"));
        let all = seen.entry(user).or_default();
        if all.last() != Some(&by) {
            all.push(by);
        }
        asked += 1;
    }
    (asked, seen)
}

#[test]
fn a_candidate_comes_from_nobody_to_everybody_whoever_dies_and_no_request_fails() {
    let world = World::new("deploy", &[]);
    let mut dice = Dice::printed("deploy");
    let (old, new) = (world.register(0, None), world.register(1, None));
    let workers = ["a", "b", "c"].map(|name| world.site.ready_worker(name));
    world.site.expect_ok(&["deploy", "promote", &old, "--wait"]);
    let mut controllers = vec![world.controller("x"), world.controller("y")];
    world.site.expect_ok(&["deploy", "start", &new, "--why", "it is newer"]);

    let done = AtomicBool::new(false);
    let client = Client::new(&world.site);
    let (asked, seen) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_until(&client, &done));
        let end = common::load::EndOf(&done);
        let until = Instant::now() + Duration::from_secs(300);
        let mut killed = 0;
        let mut phases = BTreeSet::new();
        for minute in 0.. {
            assert!(Instant::now() < until, "it never served");
            let status = world.json(&["deploy", "status"]);
            let phase = status["control"]["phase"].as_str().expect("a phase").to_owned();
            if phase == "SERVING" {
                break;
            }
            // In each phase one of the controllers is killed, whatever it is about to do.
            let share = status["control"]["share"].as_i64().expect("a share");
            if phases.insert((phase.clone(), share)) && killed < 4 {
                controllers.remove(0).kill();
                controllers.push(world.controller(&format!("z{killed}")));
                killed += 1;
            }
            for at in 0..if phase == "CANARY" { 20 } else { 0 } {
                let arms = [(&*old, "default", 20), (&*new, "canary", 21)];
                world.tell_minute(minute * 20 + at, &arms, &mut dice);
            }
        }
        drop(end);
        asking.join().expect("all were answered")
    });

    let phases: Vec<(String, i64)> = world
        .history()
        .iter()
        .map(|told| (told["phase"].as_str().unwrap().to_owned(), told["share"].as_i64().unwrap()))
        .collect();
    let wanted =
        [("SERVING", 0), ("PREPARE", 0), ("SHADOW", 0), ("CANARY", 2_000), ("CANARY", 5_000)];
    let wanted = wanted.iter().chain(&[("SERVING", 0)]).map(|(p, s)| ((*p).to_owned(), *s));
    assert_eq!(phases, wanted.collect::<Vec<_>>(), "each step once");
    let (a, b) = ((old.clone(), "default".to_owned()), (new.clone(), "canary".to_owned()));
    let mut in_canary = 0;
    for (user, by) in &seen {
        let served = (new.clone(), "default".to_owned());
        let mut expected = vec![a.clone()];
        if by.contains(&b) {
            expected.push(b.clone());
            in_canary += 1;
        }
        if by.last() == Some(&served) {
            expected.push(served);
        }
        assert_eq!(by, &expected, "{user} goes forward only");
    }
    assert!(
        (10..=40).contains(&in_canary),
        "{in_canary} of 50 users had it early, of {asked} asks"
    );
    eventually("the registry follows", || {
        let aliases = world.registry.aliases().expect("aliases");
        (aliases.champion.map(|v| v.to_string()).as_ref() == Some(&new)).then_some(())
    });

    // Back again: nothing is loaded for it.
    world.site.expect_ok(&["deploy", "rollback", "--why", "a holiday", "--wait"]);
    let answer = client.ask(&Ask::of("u1").json());
    assert_eq!(answer.body["model_version"], *old);
    let unseen = world.site.kafka.read_all(&world.site.topic("shadow-impressions"));
    assert!(unseen.len() >= 100, "{} lists that nobody saw", unseen.len());
    workers.into_iter().for_each(common::worker::Worker::drain);
    let acks = world.site.kafka.read_all(&world.site.topic("model-acks"));
    let ended = acks.iter().filter(|record| record.value.is_none()).count();
    assert_eq!(ended, 3, "who ends says so");
}

#[test]
fn what_users_like_less_is_turned_down_and_never_comes_again() {
    let world = World::new("worse", &[]);
    let mut dice = Dice::printed("worse");
    let (old, new) = (world.register(0, None), world.register(1, None));
    let worker = world.site.ready_worker("a");
    let client = Client::new(&world.site);
    world.site.expect_ok(&["deploy", "promote", &old, "--wait"]);
    let controller = world.controller("x");
    world.site.expect_ok(&["deploy", "start", &new, "--wait"]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_until(&client, &done));
        let end = common::load::EndOf(&done);
        let mut minute = 0;
        eventually("it is turned down", || {
            let control = world.json(&["deploy", "status"])["control"].take();
            if control["phase"] == "CANARY" {
                for _ in 0..20 {
                    let arms = [(&*old, "default", 20), (&*new, "canary", 9)];
                    world.tell_minute(minute, &arms, &mut dice);
                    minute += 1;
                }
            }
            (control["phase"] == "SERVING").then_some(())
        });
        drop(end);
        asking.join().expect("all were answered");
    });
    let last = world.history().pop().expect("a decision");
    assert_eq!((&last["champion"], &last["rejected"]), (&old.clone().into(), &new.clone().into()));
    let reason = last["reason"].as_str().expect("a reason");
    assert!(reason.contains("click_rate"), "{reason}");
    let refused = world.site.run(&["deploy", "start", &new]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("quarantine"), "{said}");
    controller.kill();
    worker.drain();
}

#[test]
fn a_candidate_that_no_worker_can_load_serves_nobody() {
    // Workers have no room for the items of another version.
    let world = World::new("unloadable", &[("items.max_items", "20")]);
    let new = world.register(1, None);
    let worker = world.site.ready_worker("a");
    let controller = world.controller("x");
    world.site.expect_ok(&["deploy", "start", &new]);
    eventually("it is turned down", || {
        let control = world.json(&["deploy", "status"])["control"].take();
        (control["rejected"] == *new && control["quarantine"] == true).then_some(())
    });
    let last = world.history().pop().expect("a decision");
    let reason = last["reason"].as_str().expect("a reason");
    assert!(reason.contains("1 of 1 workers cannot load it"), "{reason}");
    let version = ModelVersion::parse(&new).expect("a version");
    eventually("it is barred", || world.registry.quarantined(version).expect("said"));
    let sent = world.site.kafka.read_all(&world.site.topic("models"));
    let manifests = sent.iter().filter(|record| record.key == Some(new.clone().into_bytes()));
    assert!(manifests.filter(|record| record.value.is_some()).count() >= 2, "it was sent again");
    controller.kill();
    worker.drain();
}

#[test]
fn a_rollback_that_the_monitor_asks_for_is_made() {
    let world = World::new("asked", &[]);
    let (old, new) = (world.register(0, None), world.register(1, None));
    let worker = world.site.ready_worker("a");
    world.site.expect_ok(&["deploy", "promote", &old, "--wait"]);
    world.site.expect_ok(&["deploy", "promote", &new, "--wait"]);
    let controller = world.controller("x");
    let trigger = |version: &str| {
        let trigger = RetrainTrigger {
            event_id: format!("e-{version}"),
            action: TriggerAction::Rollback,
            state: TriggerState::Firing,
            model_version: version.to_owned(),
            reason: "4 % of requests end in errors".into(),
            ..RetrainTrigger::default()
        };
        let out = Out {
            topic: world.site.topic("retrain-triggers"),
            key: Some(b"finding".to_vec()),
            value: Some(trigger.encode(Encoding::AvroSingleObject).expect("a trigger")),
            ..Out::default()
        };
        world.site.kafka.deliver(&[out]);
    };
    trigger(&old);
    trigger(&new);
    eventually("it goes back", || {
        let acks = world.site.kafka.read_all(&world.site.topic("model-acks"));
        let last = acks.iter().filter_map(|record| record.value.as_deref()).next_back()?;
        let ack = ModelAck::decode(last).expect("an ack");
        (ack.champion == old).then_some(())
    });
    let last = world.history().pop().expect("a decision");
    assert_eq!((&last["rejected"], &last["epoch"]), (&new.into(), &3.into()));
    assert_eq!(last["reason"], "4 % of requests end in errors");
    controller.kill();
    worker.drain();
}

//! The monitor on a real broker: minutes of metrics in, triggers out, whoever dies.

mod common;

use common::events::{DAY, HOUR};
use common::installation::Installation;
use common::kafka::{Out, Seen};
use common::minutes::{MINUTE, World};
use common::worker::Worker;
use common::{avro, eventually};
use serde_json::{Value, json};

/// A Monday in 2026.
const BEGIN: i64 = 1_775_433_600_000;
/// No timer: it would ask too.
const SETTINGS: &[(&str, &str)] = &[("monitor.schedule", ""), ("monitor.checkpoint_seconds", "1")];

fn site(name: &str) -> Installation {
    let site = Installation::new(name, SETTINGS);
    site.kafka.notice_dead_members_soon(&format!("{}-monitor", site.group));
    site
}

/// A monitor over the folder `name`.
fn monitor(site: &Installation, name: &str) -> Worker {
    let data_dir = site.data_dir(name);
    let mut command = site.command(&data_dir);
    command.args(["--set", &format!("monitor.data_dir={}", data_dir.display()), "monitor"]);
    Worker::spawn(command, data_dir, site.folder.path().join(format!("{name}.log")))
}

fn triggers(site: &Installation) -> Vec<Value> {
    let all = site.kafka.read_all(&site.topic("retrain-triggers"));
    let decode = |seen: &Seen| {
        let trigger = avro::TRIGGER.decode(seen.value.as_deref().unwrap_or_default());
        let key = std::str::from_utf8(seen.key.as_deref().unwrap_or_default()).expect("a key");
        assert_eq!(trigger["dedup_key"], key, "{trigger}");
        trigger
    };
    all.iter().map(decode).collect()
}

/// Waits until the monitor has read all that is there.
fn wait_read(site: &Installation, monitor: &mut Worker) {
    let (_, end) = site.kafka.bounds(&site.topic("metrics"))[0];
    eventually("all metrics are read", || {
        assert!(monitor.is_running(), "the monitor ended:\n{}", monitor.log_text());
        let text = std::fs::read_to_string(monitor.data_dir.join("state.json")).ok()?;
        let state: Value = serde_json::from_str(&text).ok()?;
        (state["watch"]["next"][0] == end).then_some(())
    });
}

fn asking<'a>(all: &'a [Value], action: &str) -> Vec<&'a Value> {
    all.iter().filter(|trigger| trigger["action"] == action).collect()
}

#[test]
fn a_week_without_drift_tells_nothing_and_a_drop_of_a_fifth_asks_once_with_evidence() {
    let site = site("monitor-drop");
    let mut world = World::new(BEGIN);
    let mut one = monitor(&site, "one");
    site.kafka.deliver(&world.minutes(&site, 8 * 24 * 60));
    wait_read(&site, &mut one);
    assert_eq!(triggers(&site), Vec::<Value>::new());

    world.clicks = 0.8;
    let begin = BEGIN + world.now * MINUTE;
    site.kafka.deliver(&world.minutes(&site, 180));
    wait_read(&site, &mut one);
    let all = triggers(&site);
    let asked = asking(&all, "RETRAIN");
    assert_eq!(asked.len(), 1, "{all:#?}");
    let told = asked[0];
    assert_eq!((&told["state"], &told["segment"]), (&json!("FIRING"), &json!("all")), "{told}");
    assert_eq!(told["metric"]["name"], "click_rate");
    assert_eq!(
        (&told["metric"]["direction"], &told["metric"]["kind"]),
        (&json!("DOWN"), &json!("BUSINESS"))
    );
    assert_eq!(
        (&told["trigger_type"], &told["severity"]),
        (&json!("PERFORMANCE"), &json!("CRITICAL"))
    );
    assert_eq!((&told["model_version"], &told["suppressed_by"]), (&json!("m1"), &json!("")));
    assert_eq!(told["data_quality"]["passed"], true);
    let number = |field: &str| told[field].as_f64().expect(field);
    assert!(number("statistic") >= number("threshold") && number("e_value") > 1_000.0, "{told}");
    assert!((number("effect") + 0.2).abs() < 0.06 && number("observed") < number("baseline"));
    let minutes = (number("emitted_at") as i64 - begin) / MINUTE;
    assert!((3..60).contains(&minutes), "found after {minutes} minutes");
    let since = told["window"]["start"].as_i64().expect("a start") - begin;
    assert!(since.abs() < 15 * MINUTE, "{since} ms from the change");
    assert_eq!(
        told["cooldown_until"].as_i64(),
        told["emitted_at"].as_i64().map(|at| at + 6 * HOUR)
    );
    // What else it shows is held back by that one.
    let id = told["event_id"].as_str().expect("an id");
    for other in all.iter().filter(|t| t["wanted_action"] == "RETRAIN" && t["event_id"] != id) {
        assert_eq!(other["suppressed_by"], format!("cooldown:{id}"), "{other}");
    }
    one.drain();
}

#[test]
fn a_gap_in_the_minutes_asks_for_people_and_never_for_a_retrain() {
    let site = site("monitor-gap");
    let mut world = World::new(BEGIN);
    let mut one = monitor(&site, "one");
    site.kafka.deliver(&world.minutes(&site, 30 * 60));
    world.now += 20;
    site.kafka.deliver(&world.minutes(&site, 60));
    wait_read(&site, &mut one);
    let all = triggers(&site);
    assert_eq!(asking(&all, "INVESTIGATE").len(), 1, "{all:#?}");
    assert_eq!(asking(&all, "RETRAIN").len(), 0);
    let told = asking(&all, "INVESTIGATE")[0];
    assert_eq!(
        (&told["metric"]["name"], &told["metric"]["kind"]),
        (&json!("missing_minutes"), &json!("QUALITY"))
    );
    assert_eq!(told["data_quality"], json!({"passed": false, "failing": ["missing_minutes"]}));
    // It is over when lists are told of again.
    assert_eq!(all.last().expect("a trigger")["state"], "RESOLVED");
    one.drain();
}

#[test]
fn whoever_dies_when_each_event_is_told_under_the_same_id_and_a_second_monitor_adds_none() {
    let site = site("monitor-crash");
    let mut world = World::new(BEGIN);
    let mut windows = world.minutes(&site, 8 * 24 * 60);
    world.clicks = 0.75;
    windows.extend(world.minutes(&site, 16 * 60));
    let ids = |all: &[Value]| -> Vec<String> {
        all.iter().map(|t| t["event_id"].as_str().expect("an id").to_owned()).collect()
    };

    // Without a break, on topics of its own.
    let calm = self::site("monitor-calm");
    let own = calm.topic("metrics");
    let same: Vec<Out> = windows.iter().map(|w| Out { topic: own.clone(), ..w.clone() }).collect();
    calm.kafka.deliver(&same);
    let mut one = monitor(&calm, "one");
    wait_read(&calm, &mut one);
    one.drain();
    let expected = triggers(&calm);
    assert!(asking(&expected, "RETRAIN").len() >= 2, "it asks again after the cooldown");

    // Killed again and again while they come, with another one standing by.
    let mut second = monitor(&site, "second");
    for part in windows.chunks(windows.len() / 6 + 1) {
        let first = monitor(&site, "first");
        site.kafka.deliver(part);
        std::thread::sleep(std::time::Duration::from_millis(700));
        first.kill();
    }
    eventually("all is told", || {
        assert!(second.is_running(), "the monitor ended:\n{}", second.log_text());
        (ids(&triggers(&site)).last() == ids(&expected).last()).then_some(())
    });
    let all = triggers(&site);
    let mut once: Vec<String> = Vec::new();
    for id in ids(&all) {
        if !once.contains(&id) {
            once.push(id);
        }
    }
    assert_eq!(once, ids(&expected), "each at least once, in this order");
    for (told, like) in all
        .iter()
        .filter_map(|t| Some((t, expected.iter().find(|e| e["event_id"] == t["event_id"])?)))
    {
        assert_eq!(told, like, "the same event says the same");
    }
    second.drain();

    // One that has lost its folder reads all again, and tells nothing twice.
    let before = ids(&triggers(&site));
    let mut third = monitor(&site, "third");
    wait_read(&site, &mut third);
    assert_eq!(ids(&triggers(&site)), before);
    third.drain();
}

#[test]
fn a_person_asks_and_sees_what_was_told_and_why() {
    let site =
        Installation::new("monitor-cli", &[("monitor.json", "true"), ("monitor.schedule", "")]);
    site.kafka.notice_dead_members_soon(&format!("{}-monitor", site.group));
    let refused = site.run(&["retrain", "--reason", " "]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("say why"));
    let wish = ["retrain", "--reason", "a new catalog", "--wish", "w1"];
    let id = site.expect_ok(&wish);
    assert_eq!(site.expect_ok(&wish), id, "the same wish is one event");
    let listed = site.expect_ok(&["triggers", "--acting", "--json"]);
    let first: Value = serde_json::from_str(listed.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["trigger_type"], &first["action"]), (&json!("MANUAL"), &json!("RETRAIN")));
    assert_eq!(first["event_id"], id.trim());
    let json = site.kafka.read_all(&site.topic("retrain-triggers-json"));
    let copy: Value =
        serde_json::from_slice(json[0].value.as_deref().expect("a value")).expect("JSON");
    assert_eq!(copy, first, "the copy says the same");

    let mut world = World::new(BEGIN);
    let mut one = monitor(&site, "one");
    site.kafka.deliver(&world.minutes(&site, 8 * 24 * 60));
    world.clicks = 0.7;
    let change = world.now;
    site.kafka.deliver(&world.minutes(&site, 60));
    wait_read(&site, &mut one);
    let all = triggers(&site);
    let told = asking(&all, "RETRAIN").pop().expect("a trigger");
    let (event, key) =
        (told["event_id"].as_str().expect("id"), told["dedup_key"].as_str().expect("key"));
    let plot = site.folder.path().join("why.svg");
    let file = plot.display().to_string();
    let said = site.expect_ok(&["drift", "explain", event, "--plot", &file]);
    assert!(said.contains("click_rate of all fell by") && said.contains("threshold"), "{said}");
    assert!(std::fs::read_to_string(&plot).expect("a plot").contains("class=\"line\""));
    let by_key = site.expect_ok(&["drift", "explain", key, "--json"]);
    let by_key: Value = serde_json::from_str(&by_key).expect("JSON");
    assert_eq!(&by_key["dedup_key"], key);
    let unknown = site.run(&["drift", "explain", "nothing"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("driftline triggers"));
    assert!(site.expect_ok(&["triggers"]).contains("click_rate"));

    // What a detector tells of the same minutes, from the topic and from a file.
    let minutes = site.expect_ok(&["metrics", "--by", "minute", "--last", "30d", "--json"]);
    let file = site.folder.path().join("minutes.jsonl");
    std::fs::write(&file, minutes).expect("a file");
    let from_topic = site.expect_ok(&["drift", "backtest", "--json"]);
    let file = file.display().to_string();
    assert_eq!(site.expect_ok(&["drift", "backtest", "--json", "--file", &file]), from_topic);
    assert_eq!(from_topic.lines().count(), 1, "{from_topic}");
    let alarm: Value = serde_json::from_str(from_topic.trim()).expect("JSON");
    let at = alarm["at"].as_str().expect("a time");
    let begin = BEGIN + change * MINUTE;
    let hours: Vec<String> = (0..2).map(|h| hour_of(begin + h * HOUR)).collect();
    assert!(hours.iter().any(|hour| at.starts_with(hour.as_str())), "{at} is not in {hours:?}");
    let adwin = site.run(&["drift", "backtest", "--detector", "adwin"]);
    assert!(adwin.status.success());
    let unknown = site.run(&["drift", "backtest", "--detector", "magic"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("adwin"));
    one.drain();
}

/// `2026-04-14T00`: the test's weeks lie in April 2026.
fn hour_of(at: i64) -> String {
    let days = (at - BEGIN) / DAY;
    format!("2026-04-{:02}T{:02}", 6 + days, (at - BEGIN) % DAY / HOUR)
}

/// The lines of a file that the examples' command has written: ids of events.
fn acted(file: &std::path::Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn example_consumers_act_once_on_what_is_told_twice() {
    let site = Installation::new("monitor-consumers", &[("monitor.json", "true")]);
    let wish = ["retrain", "--reason", "a new catalog", "--wish", "w1"];
    let id = site.expect_ok(&wish).trim().to_owned();
    site.expect_ok(&wish);
    let topic = site.topic("retrain-triggers-json");
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("integrations/triggers");
    let (by_python, by_shell) =
        (site.folder.path().join("python"), site.folder.path().join("shell"));
    let note = |file: &std::path::Path| format!("echo $EVENT_ID >> {}", file.display());

    match common::python::with("confluent-kafka", "confluent_kafka") {
        None => eprintln!("SKIPPED: the consumer in Python"),
        Some(python) => {
            for _ in 0..2 {
                let status = std::process::Command::new(&python)
                    .arg(examples.join("on_retrain.py"))
                    .args([&site.kafka.bootstrap, "--topic", &topic, "--group", &site.group])
                    .args(["--until-idle", "4", "--", "sh", "-c", &note(&by_python)])
                    .current_dir(site.folder.path())
                    .status();
                assert!(status.expect("Python runs").success());
                assert_eq!(acted(&by_python), [id.as_str()]);
            }
        }
    }
    let tools =
        ["kcat", "jq"].map(|tool| std::process::Command::new(tool).arg("-h").output().is_ok());
    if tools.contains(&false) {
        eprintln!("SKIPPED: the consumer for the shell: kcat and jq are not both there");
        return;
    }
    for _ in 0..2 {
        let status = std::process::Command::new(examples.join("on_retrain.sh"))
            .args([&site.kafka.bootstrap, "sh", "-c", &note(&by_shell)])
            .env("TOPIC", &topic)
            .env("ONCE", "1")
            .current_dir(site.folder.path())
            .status();
        assert!(status.expect("the shell runs").success());
        assert_eq!(acted(&by_shell), [id.as_str()]);
    }
}

//! A simulated world over a real broker: what is asked of it while it runs, what it tells of itself.

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use common::events::{HOUR, Source};
use common::installation::Installation;
use common::kafka::Out;
use serde_json::Value;

/// Small, without a worker, and long enough to be spoken to.
const WORLD: &[&str] = &[
    "simulate", "--policy", "popular", "--users", "150", "--items", "200", "--days", "2", "--seed",
    "3", "--json",
];

fn numbers(told: &Value, name: &str) -> Vec<i64> {
    let hours = told["hours"].as_array().expect("hours");
    hours.iter().map(|hour| hour[name].as_i64().expect("a number")).collect()
}

#[test]
fn a_world_that_listens_lets_happen_what_is_asked_of_it_and_says_when() {
    let site = Installation::new("inject", &[]);
    let mut command = site.command(&site.data_dir("none"));
    command.args(WORLD).args(["--listen", "--speed", "12000x"]);
    let mut world =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut said = BufReader::new(world.stderr.take().expect("a pipe")).lines();
    let mut wait_for = |text: &str| {
        let found = said.by_ref().find(|line| line.as_ref().is_ok_and(|line| line.contains(text)));
        assert!(found.is_some(), "it never said {text:?}");
    };
    wait_for("day 1 ");
    let garbage = |value: &str| Out {
        topic: site.topic("simulation-control"),
        value: Some(value.as_bytes().to_vec()),
        ..Out::default()
    };
    site.kafka.deliver(&[garbage("rain"), garbage(r#"{"action":"rain"}"#)]);
    assert!(site.expect_ok(&["simulate", "inject", "taste-shift"]).contains("taste-shift"));
    let refused = site.run(&["simulate", "inject", "rain"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("flash-crowd"));
    wait_for("taste-shift begins");
    assert!(said.by_ref().all(|line| line.is_ok()));
    let mut printed = String::new();
    world.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("UTF-8");
    assert!(world.wait().expect("it ends").success());
    let told: Value = serde_json::from_str(&printed).expect("JSON");
    let began = &told["scenarios"].as_array().expect("scenarios")[..];
    assert_eq!(began.len(), 1, "{told}");
    assert_eq!(
        (&began[0]["scenario"], &began[0]["wanted"]),
        (&"taste-shift".into(), &"RETRAIN".into())
    );
    let starts = numbers(&told, "start");
    let at = began[0]["at"].as_i64().expect("a time");
    assert!(at > starts[0] && at < starts[starts.len() - 1], "{at} {starts:?}");
    assert!(numbers(&told, "lists").iter().sum::<i64>() > 300, "{told}");
}

#[test]
fn a_loss_of_data_takes_events_from_the_topics_and_not_from_the_world() {
    let site = Installation::new("data-loss", &[]);
    let scenario = [WORLD, &["--scenario", "data-loss", "--at", "20h"]].concat();
    let printed = site.expect_ok(&scenario);
    let told: Value = serde_json::from_str(&printed).expect("JSON");
    let truth = &told["scenarios"][0];
    let (at, until) = (truth["at"].as_i64().expect("at"), truth["until"].as_i64().expect("until"));
    assert_eq!(until - at, 6 * HOUR);
    let clicked: i64 = numbers(&told, "start")
        .iter()
        .zip(numbers(&told, "clicks"))
        .filter(|(start, _)| (at..until).contains(*start))
        .map(|(_, clicks)| clicks)
        .sum();
    assert!(clicked > 20, "{told}");
    let sent = site.read_events(|_| true);
    let clicks = sent.iter().filter(|event| event.source == Source::Click);
    // A page that began before the loss may end in it.
    let lost = |time: i64| time > at + HOUR && time < until;
    assert_eq!(clicks.filter(|event| lost(event.at)).count(), 0);
    assert!(sent.len() > 500 && sent.iter().any(|event| event.at > until));
}

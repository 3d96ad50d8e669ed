//! Experiments: who is served by which arm, whoever answers, and what is told of it.

mod common;

use std::collections::BTreeMap;

use common::installation::Installation;
use common::kafka::Out;
use common::requests::{Ask, Client};
use common::{avro, eventually};
use serde_json::{Value, json};

const DEFINITION: &str = r#"
name = "diversity"
hypothesis = "less of the same keeps people watching"
primary_metric = "click_rate"
guardrails = ["watch_seconds_per_impression"]
[[arms]]
name = "control"
weight = 0.5
[[arms]]
name = "more"
weight = 0.5
[arms.settings]
"serving.diversity" = 0.6
"serving.sources" = ["trending", "nearest"]
"#;

fn apply(site: &Installation, text: &str) -> std::process::Output {
    let path = site.folder.path().join("experiment.toml");
    std::fs::write(&path, text).expect("a file");
    site.run(&["experiments", "apply", &path.display().to_string()])
}

fn json_of(site: &Installation, arguments: &[&str]) -> Value {
    let text = site.expect_ok(&[&["experiments", "--json"], arguments].concat());
    serde_json::from_str(&text).expect("JSON")
}

/// The arm of each user's list.
fn arms(client: &Client, users: &[String]) -> BTreeMap<String, String> {
    let arm = |user: &String| {
        let answer = client.ask(&Ask::of(user));
        assert_eq!(answer.error(), "", "{answer:?}");
        (user.clone(), answer.body["arm"].as_str().expect("an arm").to_owned())
    };
    users.iter().map(arm).collect()
}

#[test]
fn a_user_stays_in_an_arm_whoever_answers_and_overrides_and_ramps_are_followed() {
    let site = Installation::new("experiments", &[]);
    let users: Vec<String> = (0..24).map(|n| format!("u{n}")).collect();
    let first = site.ready_worker("a");
    let client = Client::new(&site);
    assert!(arms(&client, &users).values().all(|arm| arm == "default"));

    let applied = apply(&site, DEFINITION);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let known = |user: &str| json_of(&site, &["assign", user])["arm"].as_str().map(str::to_owned);
    let expected: BTreeMap<String, String> =
        users.iter().map(|user| (user.clone(), known(user).expect("an arm"))).collect();
    eventually("all are served by their arms", || {
        (arms(&client, &users) == expected).then_some(())
    });
    let in_control = expected.values().filter(|arm| *arm == "diversity:control").count();
    assert!((4..=20).contains(&in_control), "{expected:?}");

    // Another worker joins, the first one dies: whoever answers, the arms are the same.
    let second = site.ready_worker("b");
    assert_eq!(arms(&client, &users), expected);
    first.kill();
    eventually("the other has all shards", || (arms(&client, &users) == expected).then_some(()));

    let treated = expected.iter().find(|(_, arm)| *arm == "diversity:more").expect("one").0;
    site.expect_ok(&[
        "experiments",
        "override",
        "diversity",
        "--user",
        treated,
        "--arm",
        "control",
    ]);
    let one = [treated.clone()];
    eventually("the override is followed", || {
        (arms(&client, &one)[treated] == "diversity:control").then_some(())
    });

    // Half of them leave; nobody changes arms, and who is overridden stays.
    site.expect_ok(&["experiments", "ramp", "diversity", "--coverage", "50%"]);
    let after = eventually("the ramp is followed", || {
        let now = arms(&client, &users);
        now.values().any(|arm| arm == "default").then_some(now)
    });
    for (user, arm) in &after {
        let stays = *arm == expected[user] || arm == "default";
        assert!(stays || user == treated, "{user} went from {} to {arm}", expected[user]);
    }
    assert_eq!(after[treated], "diversity:control");

    // What was answered says the same where it is learnt from.
    let shown = site.kafka.read_all(&site.topic("impressions"));
    let labelled = shown.iter().filter(|seen| {
        avro::IMPRESSION.decode(seen.value.as_deref().unwrap_or_default())["arm"]
            .as_str()
            .is_some_and(|arm| arm.starts_with("diversity:"))
    });
    assert!(labelled.count() >= 24);

    site.expect_ok(&["experiments", "stop", "diversity", "--keep", "more"]);
    eventually("nobody is in it", || {
        arms(&client, &users).values().all(|arm| arm == "default").then_some(())
    });
    let listed = site.expect_ok(&["experiments", "list"]);
    assert!(listed.contains("stopped, more kept"), "{listed}");
    second.drain();
}

#[test]
fn what_makes_no_sense_is_refused_before_any_worker_reads_it() {
    let site = Installation::new("experiments-refused", &[]);
    let refused = |text: &str, part: &str| {
        let output = apply(&site, text);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(part), "{said}");
    };
    refused(&DEFINITION.replace("serving.diversity", "serving.diverstiy"), "serving.diversity?");
    refused(&DEFINITION.replacen("0.5", "0.4", 1), "sum up to 0.9");
    refused(&DEFINITION.replace("click_rate", "ctr"), "click_rate");
    assert!(apply(&site, DEFINITION).status.success());
    refused(&DEFINITION.replace("0.6", "0.7"), "stop it and begin another");
    refused(&DEFINITION.replace("\"diversity\"", "\"other\""), "one namespace");
    assert!(
        apply(&site, &DEFINITION.replace("guardrails", "coverage = 0.2\nguardrails"))
            .status
            .success()
    );
    assert_eq!(json_of(&site, &["show", "diversity"])["revision"], 2);
}

#[test]
fn a_report_tells_which_arm_is_better_from_what_came_of_lists() {
    let site = Installation::new("experiments-report", &[]);
    assert!(apply(&site, DEFINITION).status.success());
    let begun = json_of(&site, &["show", "diversity"])["begun_at"].as_i64().expect("a time");
    // Eight groups of users a shard and minute, of which the treated click a fourth more.
    let start = (begun / 60_000 + 1) * 60_000;
    let window = |shard: i64, minute: i64, arm: &str, clicks: i64| {
        let groups: Vec<Value> = (0..16)
            .map(|group| {
                let own = clicks + (group * 3 + shard * 5 + minute * 2) % 7;
                json!({"group": group, "lists": 10, "impressions": 100, "clicks": own,
                    "watched_ms": 200_000 + own * 1_000})
            })
            .collect();
        let told = json!({"shard": shard, "start": start + minute * 60_000, "length_ms": 60_000,
            "arm": arm, "model_version": "m", "revision": 1, "lists": 160, "user_groups": groups});
        Out {
            topic: site.topic("metrics"),
            key: Some(format!("{shard}").into()),
            value: Some(avro::METRICS.encode(&told)),
            ..Out::default()
        }
    };
    let mut all = Vec::new();
    for (shard, minute) in (0..4).flat_map(|shard| (0..10).map(move |minute| (shard, minute))) {
        all.push(window(shard, minute, "diversity:control,other:x", 20));
        all.push(window(shard, minute, "diversity:more,other:x", 25));
    }
    // Told twice, as after a crash, and from before it began.
    all.push(window(0, 0, "diversity:more,other:x", 25));
    all.push(window(0, -10, "diversity:more", 90));
    site.kafka.deliver(&all);
    let plot = site.folder.path().join("plot.svg");
    let report = json_of(&site, &["report", "diversity", "--plot", &plot.display().to_string()]);
    assert_eq!(
        (&report["verdict"], &report["arms"][1]["lists"]),
        (&json!("better"), &json!(6_400))
    );
    let found = &report["arms"][1]["metrics"]["click_rate"]["against_control"];
    let number = |field: &str| found[field].as_f64().expect("a number");
    assert!((number("uplift") - 5.0 / 23.0).abs() < 0.01, "{found}");
    assert!(number("lower") > 0.0 && number("upper") > number("uplift"));
    assert!(std::fs::read_to_string(plot).expect("a plot").contains("</svg>"));
    let words = site.expect_ok(&["experiments", "report", "diversity"]);
    assert!(
        words.contains("more is better than control") && words.contains("no cheating"),
        "{words}"
    );
}

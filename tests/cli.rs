//! The command line: configuration, topics, health, and ending well.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::broker;
use common::dice::Dice;
use common::events::{Event, Stream};
use common::installation::Installation;
use common::oracle::{self, DEFAULT_RULES};
use common::requests::{Ask, Client};
use common::worker::Worker;

/// The binary with nothing but `arguments` and `environment`.
fn bare(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftline"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DRIFTLINE_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied()).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(all).expect("UTF-8")
}

#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let text = said(output);
    assert!(!output.status.success(), "not refused: {text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn an_unknown_config_key_is_refused_wherever_it_comes_from_with_the_nearest_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("my.toml");
    std::fs::write(&file, "[state]\nttl_dayz = 3\n").expect("a file");
    let file = file.display().to_string();
    let show = ["config", "show"];
    let flag = bare(&["--set", "state.tll_days=3", "config", "show"], &[]);
    assert_refused(&flag, &["state.tll_days", "--set", "did you mean state.ttl_days?"]);
    let variable = bare(&show, &[("DRIFTLINE_SERVING__QUEUE_LIMITS", "3")]);
    let words = ["DRIFTLINE_SERVING__QUEUE_LIMITS", "did you mean serving.queue_limit?"];
    assert_refused(&variable, &words);
    let in_file = bare(&["--config", &file, "config", "show"], &[]);
    assert_refused(&in_file, &["state.ttl_dayz", "my.toml", "did you mean state.ttl_days?"]);
    assert_refused(&bare(&["--set", "xyzzy=1", "config", "show"], &[]), &["xyzzy"]);
    let typed = bare(&["--set", "state.ttl_days=soon", "config", "show"], &[]);
    assert_refused(&typed, &["state.ttl_days", "soon"]);
    let impossible = bare(&["--set", "state.ttl_days=0", "config", "show"], &[]);
    assert_refused(&impossible, &["state.ttl_days", "1 to"]);
    assert_refused(
        &bare(&["--config", "/nowhere.toml", "config", "show"], &[]),
        &["/nowhere.toml"],
    );
}

#[test]
fn the_configuration_is_shown_whole_with_secrets_masked_and_flags_winning() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("my.toml");
    let text = "[state]\nttl_days = 3\nhistory_limit = 30\n[kafka]\ngroup = 'from the file'\n";
    std::fs::write(&file, text).expect("a file");
    let secret = "hunter2";
    let pem = format!("kafka.properties.ssl.key.pem={secret}");
    let oauth = format!("kafka.properties.sasl.oauthbearer.config=secret={secret}");
    let shown = bare(
        &[
            "--config",
            &file.display().to_string(),
            "--set",
            &pem,
            "--set",
            &oauth,
            "--set",
            "kafka.properties.client.rack=r1",
            "--set",
            "state.ttl_days=5",
            "config",
            "show",
        ],
        &[
            ("DRIFTLINE_KAFKA__SASL_PASSWORD", secret),
            ("DRIFTLINE_STATE__TTL_DAYS", "4"),
            ("DRIFTLINE_STATE__HISTORY_LIMIT", "40"),
            ("DRIFTLINE_KAFKA__PROPERTIES__SSL.KEY.PASSWORD", secret),
        ],
    );
    assert!(shown.status.success(), "{}", said(&shown));
    assert!(!said(&shown).contains(secret), "{}", said(&shown));
    let config: toml::Table = String::from_utf8_lossy(&shown.stdout).parse().expect("TOML");
    let get = |section: &str, key: &str| config[section][key].clone();
    assert_eq!(get("state", "ttl_days").as_integer(), Some(5), "the flag");
    assert_eq!(get("state", "history_limit").as_integer(), Some(40), "the environment");
    assert_eq!(get("kafka", "group").as_str(), Some("from the file"));
    assert_eq!(get("kafka", "sasl_password").as_str(), Some("********"));
    let properties = get("kafka", "properties");
    for key in ["ssl.key.pem", "ssl.key.password", "sasl.oauthbearer.config"] {
        assert_eq!(properties[key].as_str(), Some("********"), "{key}");
    }
    assert_eq!(properties["client.rack"].as_str(), Some("r1"));
    assert!(config.contains_key("serving") && config.contains_key("global"), "every section");

    let around = ["--set", "state.ttl_days=5", "config", "show", "--set=state.history_limit=9"];
    let text = said(&bare(&around, &[]));
    assert!(text.contains("ttl_days = 5") && text.contains("history_limit = 9"), "{text}");
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = said(&bare(&["--help"], &[]));
    let list = help.split("Commands:\n").nth(1).expect("a list of commands");
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().expect("a command").to_owned())
        .filter(|command| command != "help")
        .collect()
}

#[test]
fn the_help_of_every_command_has_examples_that_begin_with_the_command() {
    let commands = commands();
    for known in ["worker", "topics", "recommend", "state", "config", "deadletters", "doctor"] {
        assert!(commands.iter().any(|c| c == known), "{known} is not in {commands:?}");
    }
    for command in &commands {
        let output = bare(&[command, "--help"], &[]);
        let help = said(&output);
        assert!(output.status.success());
        let (_, examples) =
            help.split_once("Examples:").unwrap_or_else(|| panic!("{command}: no examples"));
        assert!(examples.contains("driftline"), "{command}: {examples}");
        assert!(examples.contains(command.as_str()), "{command}: {examples}");
    }
    assert!(said(&bare(&["--help"], &[])).contains("Examples:"));
    assert!(!bare(&["no-such-command"], &[]).status.success());
    for shell in ["bash", "zsh", "fish"] {
        assert!(said(&bare(&["completions", shell], &[])).contains("driftline"), "{shell}");
    }
}

#[test]
fn topics_are_planned_and_applied_until_nothing_is_left_to_do() {
    let site = Installation::without_topics(broker::shared(), "topics", &[]);
    let plan = || site.expect_ok(&["topics", "plan", "--partitions", "4"]);
    let apply = || site.expect_ok(&["topics", "apply", "--partitions", "4"]);
    let first = plan();
    let created: Vec<_> = first.lines().filter(|line| line.starts_with("+ ")).collect();
    let watch = site.topic("watch-events");
    assert!(created.iter().any(|line| line.contains(&watch) && line.contains("4 partitions")));
    assert!(first.contains(&format!("{} to change, 0 as they should be", created.len())));
    assert!(plan().contains(created[0]), "a plan changes nothing");
    assert!(apply().contains(&format!("{} changed", created.len())));
    for _ in 0..2 {
        assert!(plan().starts_with(&format!("0 to change, {} as", created.len())), "{}", plan());
        assert!(apply().starts_with("0 changed"));
    }
    assert_eq!(site.kafka.bounds(&watch).len(), 4);

    // What somebody changed by hand is put right, and what the files do not name is left alone.
    site.kafka.configure_topic(&watch, &[("retention.ms", "1000"), ("segment.ms", "86400000")]);
    let drifted = plan();
    assert!(drifted.contains(&format!("~ {watch}")), "{drifted}");
    assert!(drifted.contains("retention.ms: 1000 -> "), "{drifted}");
    apply();
    assert!(plan().starts_with("0 to change"));
    let config = site.kafka.topic_config(&watch);
    assert_eq!(config["segment.ms"], "86400000");
    assert_ne!(config["retention.ms"], "1000");

    let fewer = site.run(&["topics", "apply", "--partitions", "2"]);
    let words = [watch.as_str(), "4 partitions", "2", "never"];
    assert_refused(&fewer, &words);
    assert_refused(&site.run(&["topics", "plan", "--partitions", "8"]), &words[..2]);
    assert_eq!(site.kafka.bounds(&watch).len(), 4, "nothing was changed");
}

/// Runs a worker that must refuse to start.
fn refused_worker(site: &Installation, words: &[&str]) {
    let output = site.run(&["worker"]);
    assert_refused(&output, words);
}

#[test]
fn a_worker_says_what_is_wrong_with_the_topics_and_does_not_start() {
    let site = Installation::without_topics(broker::shared(), "missing", &[]);
    let (watch, click) = (site.topic("watch-events"), site.topic("click-events"));
    refused_worker(&site, &["does not exist", "driftline topics apply"]);
    site.kafka.create_topic(&watch, 4);
    refused_worker(&site, &[&click, "does not exist", "driftline topics apply"]);
    site.kafka.create_topic(&click, 3);
    site.kafka.create_topic(&site.topic("recommendation-requests"), 4);
    site.kafka.create_topic(&site.topic("feedback-events"), 4);
    site.kafka.create_topic(&site.topic("impressions"), 4);
    site.kafka.create_topic(&site.topic("training-examples"), 4);
    site.kafka.create_topic(&site.topic("label-corrections"), 4);
    site.kafka.create_topic(&site.topic("interactions"), 2);
    site.kafka.create_topic(&site.topic("dead-letters"), 1);
    let words = ["same number of partitions", &watch, &click, "has 4", "has 3"];
    refused_worker(&site, &words);
    assert!(!site.data_dir("worker").join("user-0").exists(), "no store was made");
}

#[test]
fn a_worker_that_cannot_work_ends_with_a_reason() {
    let site = Installation::new("reason", &[]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = format!("http.listen={}", taken.local_addr().expect("an address"));
    let busy = site.run(&["worker", "--set", &listen]);
    assert_refused(&busy, &["http.listen", "choose another port"]);
    let file = site.folder.path().join("a file");
    std::fs::write(&file, "").expect("a file");
    let folder = format!("worker.data_dir={}", file.join("x").display());
    assert_refused(&site.run(&["worker", "--set", &folder]), &["worker.data_dir"]);
    let nobody = bare(&["--bootstrap", "127.0.0.1:1", "topics", "plan"], &[]);
    assert_refused(&nobody, &["kafka"]);
    let silence = site.run(&["recommend", "--user", "u", "--timeout", "100ms"]);
    assert_refused(&silence, &["no reply"]);
}

#[test]
fn health_and_metrics_tell_what_telemetry_names() {
    let site = Installation::new("health", &[]);
    let mut worker = site.ready_worker("a");
    let client = Client::new(&site);
    site.deliver(&[Event::watch("u", "item"), Event::click("u", "item")]);
    site.wait_folded(&mut worker);
    assert_eq!(client.ask(&Ask::of("u")).error(), "");
    assert_eq!(worker.get("/health/live").expect("an answer").0, 200);
    let (status, body) = worker.get("/health/ready").expect("an answer");
    assert_eq!(status, 200);
    assert!(body.contains("shards: 4 owned, 0 restoring"), "{body}");
    assert_eq!(worker.get("/no-such-page").expect("an answer").0, 404);

    let (_, text) = worker.get("/metrics").expect("metrics");
    let known: Vec<&str> = driftline::telemetry::names::ALL.iter().map(|(name, _)| *name).collect();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let name = match line.strip_prefix("# ") {
            Some(comment) => comment.split(' ').nth(1).expect("a name"),
            None => line.split(['{', ' ']).next().expect("a name"),
        };
        let parts = ["_bucket", "_sum", "_count"];
        let base = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        assert!(known.contains(&name) || known.contains(&base), "{name} is not in telemetry");
        found.push(if known.contains(&name) { name } else { base }.to_owned());
    }
    for name in [
        "driftline_events_folded_total",
        "driftline_requests_total",
        "driftline_request_seconds",
        "driftline_shards",
        "driftline_state_commit_seconds",
    ] {
        assert!(found.iter().any(|f| f == name), "{name} is missing");
    }
    assert_eq!(worker.metric("driftline_events_folded_total"), 2.0);
    assert_eq!(worker.metric("driftline_requests_total"), 1.0);
    assert_eq!(worker.metric("driftline_request_seconds_count"), 1.0);
    assert_eq!(worker.metric("driftline_shards"), 4.0);
    // Users and items are no labels.
    assert!(!text.contains("\"item\"") && !text.contains("user="), "{text}");
}

#[test]
fn a_worker_told_to_end_commits_what_it_accepted_and_ends_well() {
    // Nothing is committed but by ending.
    let site = Installation::new("drain", common::NEVER_COMMIT);
    let mut stream = Stream::new(Dice::printed("drain"), 100, 3_000);
    let events: Vec<_> = (0..3_000).map(|_| stream.draw()).collect();
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    site.deliver(&events);
    common::eventually("all is folded", || {
        (worker.metric("driftline_events_folded_total") >= 3_000.0).then_some(())
    });
    assert!(site.dump(&worker.data_dir).is_empty(), "nothing is committed yet");
    let asks: Vec<Ask> = (0..200).map(|i| Ask::of(&format!("user-{}", i % 100))).collect();
    asks.iter().for_each(|ask| client.send(ask));
    assert_eq!(client.reply(&asks[0].correlation).error(), "");
    worker.drain();
    let expected = oracle::fold(&events, DEFAULT_RULES);
    oracle::assert_same(&site.dump(&site.data_dir("a")), &expected);
    // What it had not read is left to the next, and none is lost in between.
    let next = site.ready_worker("a");
    for ask in &asks {
        assert_eq!(client.reply(&ask.correlation).error(), "");
    }
    assert_eq!(next.metric("driftline_events_folded_total"), 0.0, "nothing is folded twice");
    next.drain();
}

#[test]
fn the_shell_asks_and_looks_at_users() {
    let site = Installation::new("shell", &[]);
    let mut worker: Worker = site.ready_worker("worker");
    let event = Event::watch("alice", "film").lasting(200_000, 600_000);
    let (partition, offset) = site.deliver(&[event])[0];
    let after = format!("{}-{partition}@{offset}", site.topic("watch-events"));
    let text = site.expect_ok(&["recommend", "--user", "alice", "--after", &after]);
    assert!(text.contains("1  film") && text.contains("in the worker"), "{text}");
    let json = site.expect_ok(&["recommend", "--user", "alice", "--after", &after, "--json"]);
    let reply: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&reply["after"], &reply["items"][0]["item"]),
        (&"SATISFIED".into(), &"film".into())
    );
    let refused = site.run(&["recommend", "--user", "alice", "--count", "501"]);
    assert_refused(&refused, &["count"]);

    site.wait_folded(&mut worker);
    let user = site.expect_ok(&["state", "get", "alice"]);
    assert!(user.contains("1 watches") && user.contains("film"), "{user}");
    let json: serde_json::Value =
        serde_json::from_str(&site.expect_ok(&["state", "get", "alice", "--json"])).expect("JSON");
    assert_eq!(json["watches"], 1);
    assert_refused(&site.run(&["state", "get", "bob"]), &["bob"]);
    assert!(site.expect_ok(&["state", "digest"]).contains("sha256"));
    let nothing = site.run_over(Path::new("/nowhere"), &["state", "stats"]);
    assert_refused(&nothing, &["/nowhere"]);
}

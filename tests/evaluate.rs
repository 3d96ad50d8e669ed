//! `driftline evaluate` as its users run it: small files of every format, every protocol.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn evaluate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftline"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DRIFTLINE_")) {
        command.env_remove(name);
    }
    command.arg("evaluate").args(arguments).output().expect("the binary runs")
}

/// Standard output of a run that has to succeed.
#[track_caller]
fn report(arguments: &[&str]) -> String {
    let output = evaluate(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let output = evaluate(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} was not refused");
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
    assert!(!errors.contains("panicked"), "{errors}");
}

/// The `k`-th item of a person: five of thirty that follow each other in a circle, which people
/// enter in different places, so that what is last for one is not for another.
fn item(user: u32, k: u32) -> u32 {
    (user % 6) * 5 + (user / 6 + k) % 5
}

/// Sixty people, each of whom has five items.
fn visits() -> impl Iterator<Item = (u32, u32, u32)> {
    (0..60u32).flat_map(|user| (0..5).map(move |k| (user, item(user, k), user * 10_000 + k)))
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a folder"));
        let ratings: String = visits().map(|(u, i, t)| format!("{u}::{i}::5::{t}\n")).collect();
        files.write("ratings.dat", &ratings);
        let csv = |(u, i, t): (u32, u32, u32)| format!("{u},{i},{t}\n");
        let rows: String = visits().map(csv).collect();
        files.write("log.csv", &format!("uid,vid,ts\n{rows}"));
        let exposure = |(u, i, t): (u32, u32, u32)| {
            format!("{u},{i},{},1,20000,30000,{}\n", u64::from(t) * 1_000, u % 2)
        };
        let header = "user_id,video_id,time_ms,is_click,play_time_ms,duration_ms,tab\n";
        let exposures: String = visits().map(exposure).collect();
        files.write("impressions.csv", &format!("{header}{exposures}"));
        std::fs::create_dir(files.0.path().join("weeks")).expect("a folder");
        for period in 0..3 {
            let in_period = visits().map(|(u, i, _)| format!("{} {i}\n", u + 60 * period));
            files.write(&format!("weeks/period_{period}.txt"), &in_period.collect::<String>());
        }
        let last =
            |user: u32| format!("({user},{})\t100\t101\t{}\n", item(user, 4), (user % 6) * 5 + 9);
        files.write("given.negative", &(0..60).map(last).collect::<String>());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}

fn metric(result: &Value, arm: usize, name: &str) -> f64 {
    result["arms"][arm]["metrics"][name].as_f64().expect(name)
}

#[test]
fn every_protocol_runs_on_ratings_and_finds_more_than_what_is_trending() {
    let files = Files::new();
    let (ratings, json) = (files.name("ratings.dat"), files.name("out.json"));
    let given = files.name("given.negative");
    let protocols: [(&str, &[&str], u64); 5] = [
        ("prequential", &[], 240),
        ("periods", &["--period", "1d"], 0),
        ("leave-last-out", &[], 60),
        ("negatives", &["--negatives", &given], 60),
        ("time-split", &["--train-share", "0.5"], 120),
    ];
    for (protocol, more, scored) in protocols {
        let mut arguments =
            vec!["movielens", &ratings, "--protocol", protocol, "--top", "3", "--json", &json];
        arguments.extend(more);
        let text = report(&arguments);
        assert!(text.contains(protocol) && text.contains("µs a list"), "{text}");
        let found = read_json(&files.path("out.json"));
        assert_eq!(found["protocol"], protocol);
        if scored > 0 {
            assert_eq!(found["scored"], scored, "{protocol}");
        }
        let keeps = protocol == "periods";
        assert_eq!(found["repeats"], if keeps { "keep" } else { "mask" }, "{text}");
        if protocol != "periods" {
            let (blend, floor) = (metric(&found, 0, "MRR@3"), metric(&found, 1, "MRR@3"));
            assert!(blend > floor, "{protocol}: {blend} against {floor}");
            let gain = &found["arms"][1]["blend_minus_this"]["MRR@3"];
            let (low, high) = (gain["low"].as_f64(), gain["high"].as_f64());
            assert!(low <= gain["mean"].as_f64() && gain["mean"].as_f64() <= high, "{gain}");
        }
    }
}

#[test]
fn every_format_is_read_with_targets_that_suit_it() {
    let files = Files::new();
    let json = files.name("out.json");
    let cases: [(&str, &str, &[&str], &str); 5] = [
        ("movielens", "ratings.dat", &[], "next-watch"),
        ("kuairand", "impressions.csv", &[], "next-watch"),
        ("kuairand", "impressions.csv", &["--target", "long-view"], "long-view"),
        ("sessions", "weeks", &["--protocol", "periods"], "next-click"),
        (
            "columns",
            "log.csv",
            &[
                "--user-column",
                "uid",
                "--item-column",
                "vid",
                "--time-column",
                "ts",
                "--time-unit",
                "s",
            ],
            "next-click",
        ),
    ];
    for (format, file, more, target) in cases {
        let path = files.name(file);
        let mut arguments = vec![format, &path, "--json", &json];
        arguments.extend(more);
        let text = report(&arguments);
        let found = read_json(&files.path("out.json"));
        assert_eq!(found["target"], target, "{text}");
        assert!(found["scored"].as_u64() > Some(0), "{text}");
        assert!(metric(&found, 0, "Recall@20") > 0.3, "{text}");
    }
}

#[test]
fn a_click_and_the_watch_it_leads_to_do_not_give_each_other_away() {
    let files = Files::new();
    // Everybody clicks and watches one item that nobody else does, and nothing is to be learnt.
    let rows: String = (0..200u32)
        .map(|n| format!("{},{},{},1,20000,30000,0\n", n % 20, n, u64::from(n) * 1_000))
        .collect();
    let header = "user_id,video_id,time_ms,is_click,play_time_ms,duration_ms,tab\n";
    files.write("impressions.csv", &format!("{header}{rows}"));
    let (path, json) = (files.name("impressions.csv"), files.name("out.json"));
    report(&["kuairand", &path, "--repeats", "keep", "--top", "200", "--json", &json]);
    let found = read_json(&files.path("out.json"));
    assert_eq!(metric(&found, 0, "Recall@200"), 0.0);
    assert_eq!(found["scored_of_new_items"], found["scored"]);
}

#[test]
fn a_seed_repeats_itself_and_another_draws_another_sample() {
    let files = Files::new();
    let ratings = files.name("ratings.dat");
    let run = |seed: &str| {
        let out = files.name("out.json");
        report(&["movielens", &ratings, "--sample", "0.5", "--seed", seed, "--json", &out]);
        let mut found = read_json(&files.path("out.json"));
        // All but what the clock says.
        found.as_object_mut().expect("an object").remove("microseconds_per_event_learnt");
        for arm in found["arms"].as_array_mut().expect("arms") {
            arm.as_object_mut().expect("an object").remove("microseconds_per_list");
        }
        found
    };
    let first = run("1");
    assert_eq!(first, run("1"));
    assert_ne!(first["arms"], run("2")["arms"]);
    let scored = first["scored"].as_u64().expect("a count");
    assert!((80..160).contains(&scored), "{scored} of 240");
}

#[test]
fn an_ablation_names_every_source_and_a_plot_draws_every_line() {
    let files = Files::new();
    let (ratings, plot) = (files.name("ratings.dat"), files.name("out.svg"));
    let text = report(&["movielens", &ratings, "--ablate", "--plot", &plot]);
    for arm in ["| blend |", "| neighbours |", "| without neighbours |", "| trending (floor) |"] {
        assert!(text.contains(arm), "{arm} is not in: {text}");
    }
    let svg = std::fs::read_to_string(files.path("out.svg")).expect("a plot");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.matches("<polyline").count() >= 8 && svg.contains("prefers-color-scheme"));
    assert!(svg.contains("Recall@20, sliding") && svg.contains("targets scored"));
    let alone = report(&["movielens", &ratings, "--sources", "neighbours"]);
    assert!(alone.contains("| blend |") && !alone.contains("unfinished"), "{alone}");
}

#[test]
fn what_cannot_be_evaluated_is_refused_with_what_to_do() {
    let files = Files::new();
    let (ratings, given) = (files.name("ratings.dat"), files.name("given.negative"));
    refused(&["movielens", "/nowhere"], &["/nowhere"]);
    refused(&["netflix", &ratings], &["netflix", "movielens"]);
    refused(&["movielens", &files.name("log.csv")], &["log.csv", "first line"]);
    refused(&["kuairand", &files.name("log.csv")], &["no column"]);
    refused(&["movielens", &ratings, "--sources", "neighbors"], &["neighbors", "neighbours"]);
    refused(&["movielens", &ratings, "--target", "next-click"], &["nothing to score", "--target"]);
    refused(&["movielens", &ratings, "--sample", "0"], &["above 0"]);
    refused(&["movielens", &ratings, "--top", "0"], &["1 to 500"]);
    refused(&["movielens", &ratings, "--protocol", "negatives"], &["--negatives"]);
    refused(&["movielens", &ratings, "--negatives", &given], &["--protocol negatives"]);
    refused(&["movielens", &ratings, "--json", "/nowhere/out.json"], &["/nowhere/out.json"]);
    files.write("bad.negative", "(1,9)\t100\n(2\n");
    let bad = ["--protocol", "negatives", "--negatives", &files.name("bad.negative")];
    refused(&[&["movielens", &ratings][..], &bad[..]].concat(), &["line 2", "(user,item)"]);
    files.write("unknown.negative", "(1,9)\t100\n(1,777)\t3\n");
    let unknown = ["--protocol", "negatives", "--negatives", &files.name("unknown.negative")];
    refused(&[&["movielens", &ratings][..], &unknown[..]].concat(), &["line 2", "777"]);
    files.write("cut.csv", "uid,vid,ts\n1,2,3\n1,2\n");
    let columns =
        ["--user-column", "uid", "--item-column", "vid", "--time-column", "ts", "--time-unit", "s"];
    let cut = files.name("cut.csv");
    refused(&[&["columns", &cut][..], &columns[..]].concat(), &["row 2", "--skip-bad-rows"]);
}

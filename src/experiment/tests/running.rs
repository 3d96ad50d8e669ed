use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::definition::{Definition, Refused};
use super::super::running::{Experiments, MOST_AT_ONCE, is_of};
use crate::event::{Encoding, ExperimentArm, ExperimentRecord, ExperimentStatus};
use crate::model::BasisVersion;
use crate::serving::{ListRules, RankerRules, SourceKind};

/// Two arms of half the users each, of which the second serves `settings`.
fn experiment(name: &str, settings: &[(&str, &str)]) -> ExperimentRecord {
    let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let arm = |name: &str, settings| ExperimentArm {
        name: name.into(),
        weight: 0.5,
        settings,
        ..ExperimentArm::default()
    };
    ExperimentRecord {
        name: name.into(),
        revision: 1,
        status: ExperimentStatus::Running,
        arms: vec![arm("control", BTreeMap::new()), arm("more", settings)],
        primary_metric: "click_rate".into(),
        ..ExperimentRecord::default()
    }
}

fn all(records: &[ExperimentRecord]) -> Experiments {
    let mut experiments = Experiments::default();
    for record in records {
        let value = record.encode(Encoding::AvroSingleObject).unwrap();
        experiments.take(record.name.as_bytes(), &value).unwrap();
    }
    experiments
}

fn refused(record: &ExperimentRecord) -> String {
    Definition::read(record).unwrap_err().to_string()
}

const OWN: ListRules = ListRules { diversity: 0.2, max_per_creator: 3, exploration: 0.05 };

proptest! {
    #[test]
    fn whoever_is_served_by_an_arm_stays_with_it_as_coverage_rises(
        users in prop::collection::vec("[a-z0-9]{1,10}", 1..30), one in 0.0f64..1.0, other in 0.0f64..1.0
    ) {
        let at = |coverage| {
            let record = ExperimentRecord { coverage, ..experiment("ramp", &[]) };
            let namespaced = ExperimentRecord {
                coverage, namespace: "n".into(), namespace_end: 0.6, ..experiment("within", &[])
            };
            all(&[record, namespaced])
        };
        let (less, more) = (at(one.min(other)), at(one.max(other)));
        for user in users {
            let (before, after) = (less.assign(&user, |_| true).arm, more.assign(&user, |_| true).arm);
            let stays = before.split(',').all(|label| label.is_empty() || is_of(&after, label));
            prop_assert!(stays, "{user} goes from {before:?} to {after:?}");
        }
    }

    #[test]
    fn of_one_namespace_a_user_is_in_one_experiment_at_most(user in "[a-z0-9]{1,10}") {
        let part = |name: &str, start, end| ExperimentRecord {
            namespace: "layer".into(), namespace_start: start, namespace_end: end,
            ..experiment(name, &[("serving.diversity", "0.5")])
        };
        let experiments = all(&[part("a", 0.0, 0.3), part("b", 0.3, 1.0), experiment("c", &[])]);
        let joined = experiments.assign(&user, |_| true).arm;
        let labels: Vec<&str> = joined.split(',').collect();
        prop_assert_eq!(labels.len(), 2);
        prop_assert!(labels[0].starts_with("a:") != labels[0].starts_with("b:"));
        prop_assert!(labels[1].starts_with("c:"));
    }
}

#[test]
fn shares_are_as_asked_for_and_experiments_are_independent_of_each_other() {
    let mut third = experiment("third", &[]);
    third.arms[0].weight = 0.2;
    third.arms[1].weight = 0.8;
    third.coverage = 0.5;
    let experiments = all(&[experiment("half", &[]), third]);
    let arms: Vec<String> =
        (0..20_000).map(|n| experiments.assign(&format!("u{n}"), |_| true).arm).collect();
    let share = |wanted: &[&str]| {
        let of = arms.iter().filter(|arm| wanted.iter().all(|label| is_of(arm, label)));
        of.count() as f64 / arms.len() as f64
    };
    for (wanted, expected) in [
        (&["half:more"][..], 0.5),
        (&["third:control"], 0.1),
        (&["third:more"], 0.4),
        (&["half:more", "third:more"], 0.2),
    ] {
        assert!((share(wanted) - expected).abs() < 0.012, "{wanted:?}: {}", share(wanted));
    }
}

#[test]
fn overrides_count_whatever_coverage_and_namespace_say() {
    let mut record = experiment("e", &[("serving.exploration", "0.3")]);
    record.coverage = 0.0;
    (record.namespace, record.namespace_end) = ("n".into(), 0.01);
    record.overrides = BTreeMap::from([("tester".into(), "more".into())]);
    let experiments = all(&[record]);
    assert_eq!(experiments.assign("somebody", |_| true).arm, "");
    let assignment = experiments.assign("tester", |_| true);
    assert_eq!(assignment.arm, "e:more");
    assert_eq!(assignment.settings.list_rules(OWN), ListRules { exploration: 0.3, ..OWN });
}

#[test]
fn an_arm_changes_what_it_says_and_nothing_else() {
    let mut record = experiment(
        "e",
        &[
            ("serving.diversity", "0.9"),
            ("serving.max_per_creator", "7"),
            ("serving.sources", "trending, nearest,trending"),
            ("ranker.strength", "0"),
        ],
    );
    record.arms[1].model_version = "00000000000000a2".into();
    record.overrides =
        BTreeMap::from([("t".into(), "more".into()), ("c".into(), "control".into())]);
    let experiments = all(&[record]);
    let (treated, control) = (experiments.assign("t", |_| true), experiments.assign("c", |_| true));
    let rules = ListRules { diversity: 0.9, max_per_creator: 7, ..OWN };
    assert_eq!(treated.settings.list_rules(OWN), rules);
    assert_eq!(treated.settings.sources(), [SourceKind::Trending, SourceKind::Nearest]);
    assert_eq!(treated.model, Some(BasisVersion(0xa2)));
    let ranker = RankerRules {
        candidates: 50,
        min_examples: 9,
        click: 1.0,
        long_view: 2.0,
        strength: 5.0,
        long_view_ms: 18_000,
    };
    let own = RankerRules { strength: 0.0, ..ranker };
    assert_eq!(treated.settings.ranker_rules(ranker), own);
    assert_eq!(control.settings.list_rules(OWN), OWN);
    assert_eq!((control.model, control.settings.sources().len()), (None, SourceKind::ALL.len()));
}

#[test]
fn where_an_arms_version_is_not_there_its_lists_are_not_the_arms() {
    let mut record = experiment("e", &[("serving.diversity", "0.9")]);
    record.arms[1].model_version = "00000000000000a2".into();
    record.overrides = BTreeMap::from([("t".into(), "more".into())]);
    let assignment = all(&[record]).assign("t", |_| false);
    assert_eq!((assignment.arm.as_str(), assignment.model), ("", None));
    assert_eq!(assignment.settings.list_rules(OWN), OWN);
    assert_eq!(assignment.missing, ["e:more"]);
}

#[test]
fn what_was_kept_serves_everybody_and_gives_way_to_what_runs() {
    let mut stopped = experiment("a", &[("serving.diversity", "0.9"), ("ranker.click", "2")]);
    stopped.status = ExperimentStatus::Stopped;
    stopped.kept = "more".into();
    let mut running = experiment("b", &[("serving.diversity", "0.1")]);
    running.overrides =
        BTreeMap::from([("t".into(), "more".into()), ("c".into(), "control".into())]);
    let experiments = all(&[stopped, running]);
    let diversity = |user| {
        let assignment = experiments.assign(user, |_| true);
        (assignment.arm.clone(), assignment.settings.list_rules(OWN).diversity)
    };
    assert_eq!(diversity("t"), ("b:more".into(), 0.1));
    assert_eq!(diversity("c"), ("b:control".into(), 0.9));
}

#[test]
fn records_count_by_revision_and_tombstones_forget() {
    let mut experiments = Experiments::default();
    let mut take = |record: &ExperimentRecord| {
        let value = record.encode(Encoding::Json).unwrap();
        experiments.take(b"e", &value)
    };
    let revised =
        |revision, coverage| ExperimentRecord { revision, coverage, ..experiment("e", &[]) };
    assert_eq!(take(&revised(2, 0.5)), Ok(true));
    assert_eq!(take(&revised(1, 1.0)), Ok(false));
    assert!(take(&experiment("other", &[])).unwrap_err().to_string().contains("key"));
    assert_eq!(take(&revised(2, 0.7)), Ok(true));
    assert_eq!(experiments.get("e").unwrap().1.coverage, 0.7);
    assert_eq!(experiments.take(b"e", b""), Ok(true));
    assert!(experiments.get("e").is_none());
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let with = |change: fn(&mut ExperimentRecord)| {
        let mut record = experiment("e", &[]);
        change(&mut record);
        refused(&record)
    };
    let cases = [
        (with(|e| e.name = "My test".into()), "small letters"),
        (with(|e| e.coverage = 1.2), "0 to 1"),
        (with(|e| e.arms.truncate(1)), "2 to 8"),
        (with(|e| e.arms[1].weight = 0.4), "sum up to 0.9"),
        (with(|e| e.arms[1].name = "control".into()), "two arms"),
        (with(|e| e.arms[1].model_version = "latest".into()), "16 hexadecimal digits"),
        (with(|e| drop(e.overrides.insert("u".into(), "mor".into()))), "control, more"),
        (with(|e| e.primary_metric = "ctr".into()), "click_rate"),
        (with(|e| e.guardrails = vec!["latency".into()]), "watch_seconds"),
        (with(|e| e.namespace_end = 0.5), "name it"),
        (with(|e| e.kept = "more".into()), "stop"),
    ];
    for (message, part) in cases {
        assert!(message.contains(part), "{message}");
    }
    let setting = |key, value| refused(&experiment("e", &[(key, value)]));
    assert!(setting("serving.diverstiy", "1").contains("did you mean serving.diversity?"));
    assert!(setting("kafka.group", "x").contains("use serving."));
    assert!(setting("serving.diversity", "much").contains("a number from 0 to 1"));
    assert!(setting("serving.max_per_creator", "0").contains("from 1"));
    assert!(setting("serving.sources", "nearest,best").contains("best"));
}

#[test]
fn experiments_that_would_change_the_same_for_one_user_cannot_both_run() {
    let running = all(&[experiment("a", &[("serving.diversity", "0.9")])]);
    let check = |record: &ExperimentRecord| running.check(&Definition::read(record).unwrap());
    assert_eq!(check(&experiment("b", &[("serving.exploration", "0.2")])), Ok(()));
    let Refused(why) = check(&experiment("b", &[("serving.diversity", "0.2")])).unwrap_err();
    assert!(
        why.contains("a and serving.diversity") || why.contains("both change serving.diversity")
    );
    assert_eq!(check(&experiment("a", &[("serving.diversity", "0.2")])), Ok(()), "a new revision");
    let part = |name: &str, start, end| ExperimentRecord {
        namespace: "n".into(),
        namespace_start: start,
        namespace_end: end,
        ..experiment(name, &[("ranker.click", "2")])
    };
    let layered = all(&[part("a", 0.0, 0.5)]);
    let check = |record: &ExperimentRecord| layered.check(&Definition::read(record).unwrap());
    assert_eq!(check(&part("b", 0.5, 1.0)), Ok(()));
    assert!(check(&part("b", 0.4, 1.0)).unwrap_err().to_string().contains("0 to 0.5"));
}

#[test]
fn nobody_is_in_more_experiments_at_once_than_metrics_can_tell_apart() {
    let names: Vec<String> = (0..=MOST_AT_ONCE).map(|n| format!("e{n}")).collect();
    let records: Vec<_> = names.iter().map(|name| experiment(name, &[])).collect();
    let running = all(&records[..MOST_AT_ONCE]);
    let last = Definition::read(&records[MOST_AT_ONCE]).unwrap();
    assert!(running.check(&last).unwrap_err().to_string().contains("one namespace"));
    let beyond = all(&records);
    assert_eq!(beyond.assign("u", |_| true).arm.split(',').count(), MOST_AT_ONCE);
}

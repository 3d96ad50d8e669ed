use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::definition::Definition;
use super::super::report::{ALPHA, Report, TUNING, Verdict};
use super::super::sequential::Rule;
use super::super::tallies::Tallies;
use crate::event::{ExperimentArm, ExperimentRecord, MetricsWindow, UserGroup};

const RULE: Rule = Rule { alpha: ALPHA, tuning: TUNING };

fn definition(guardrails: &[&str]) -> Definition {
    let arm = |name: &str| ExperimentArm {
        name: name.into(),
        weight: 1.0 / 3.0,
        settings: BTreeMap::new(),
        ..ExperimentArm::default()
    };
    Definition::read(&ExperimentRecord {
        name: "e".into(),
        arms: ["control", "better", "worse"].map(arm).to_vec(),
        primary_metric: "click_rate".into(),
        guardrails: guardrails.iter().map(|name| (*name).to_owned()).collect(),
        ..ExperimentRecord::default()
    })
    .unwrap()
}

/// Windows of 256 units with so many lists each; an arm's lists are clicked by its rate and watched by
/// its seconds.
fn tallies(lists: i64, arms: [(&str, f64, f64); 3], share: [f64; 3]) -> Tallies {
    let mut dice = ChaCha8Rng::seed_from_u64(5);
    let mut tallies = Tallies::new(0, i64::MAX);
    for shard in 0..4 {
        for ((arm, click_rate, seconds), share) in arms.into_iter().zip(share) {
            let mut groups = Vec::new();
            for group in 0..64 {
                let lists = (0..lists).filter(|_| dice.random::<f64>() < share).count() as i64;
                let impressions = lists * 10;
                let clicks = (0..impressions).filter(|_| dice.random::<f64>() < click_rate).count();
                let watched_ms =
                    (impressions as f64 * seconds * dice.random_range(800.0..1200.0)) as i64;
                let clicks = clicks as i64;
                groups.push(UserGroup {
                    group,
                    lists,
                    impressions,
                    clicks,
                    watched_ms,
                    ..UserGroup::default()
                });
            }
            let arm = format!("e:{arm},other:control");
            let window = MetricsWindow {
                shard,
                arm,
                revision: 1,
                user_groups: groups,
                ..MetricsWindow::default()
            };
            tallies.take(&window);
        }
    }
    tallies
}

const ALIKE: [f64; 3] = [0.33; 3];

#[test]
fn an_arm_that_is_better_is_found_among_others_and_by_its_own_name() {
    let arms = [("control", 0.05, 2.0), ("better", 0.06, 2.0), ("worse", 0.04, 2.0)];
    let report = Report::new(&definition(&[]), &tallies(60, arms, ALIKE), RULE);
    assert_eq!(report.verdict, Verdict::Better(vec!["better".into()]));
    assert!(report.in_words().contains("better is better than control by click_rate"));
    let json = report.to_json();
    assert_eq!(
        json["arms"][1]["metrics"]["click_rate"]["against_control"]["lower"]
            .as_f64()
            .map(|x| x > 0.0),
        Some(true)
    );
    assert!(json["arms"][0]["metrics"]["click_rate"]["against_control"].is_null());
    assert_eq!(json["verdict"], "better");
}

#[test]
fn what_must_not_fall_outweighs_what_rises() {
    let arms = [("control", 0.05, 2.0), ("better", 0.06, 1.7), ("worse", 0.05, 2.0)];
    let report = Report::new(
        &definition(&["watch_seconds_per_impression"]),
        &tallies(60, arms, ALIKE),
        RULE,
    );
    assert_eq!(
        report.verdict,
        Verdict::Harm(vec![("better".into(), "watch_seconds_per_impression")])
    );
}

#[test]
fn arms_of_other_sizes_than_asked_for_make_everything_unbelievable() {
    let arms = [("control", 0.05, 2.0), ("better", 0.06, 2.0), ("worse", 0.05, 2.0)];
    let report = Report::new(&definition(&[]), &tallies(60, arms, [0.33, 0.33, 0.26]), RULE);
    assert_eq!(report.verdict, Verdict::Mismatch);
}

#[test]
fn little_or_nothing_decides_nothing() {
    let arms = [("control", 0.05, 2.0), ("better", 0.05, 2.0), ("worse", 0.05, 2.0)];
    let report = Report::new(&definition(&[]), &tallies(3, arms, ALIKE), RULE);
    assert_eq!(report.verdict, Verdict::Undecided);
    let nothing = Report::new(&definition(&[]), &Tallies::new(0, 1), RULE);
    assert_eq!((nothing.verdict, nothing.mismatch), (Verdict::Undecided, None));
}

#[test]
fn all_other_arms_being_worse_is_told() {
    let arms = [("control", 0.08, 2.0), ("better", 0.06, 2.0), ("worse", 0.05, 2.0)];
    let report = Report::new(&definition(&[]), &tallies(60, arms, ALIKE), RULE);
    assert_eq!(report.verdict, Verdict::Worse);
}

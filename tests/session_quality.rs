//! Session neighbours on DIGINETICA, through the product's own path: the fold, the global tables
//! and the serving pipeline, one event at a time. Skips, saying so, where the data is not there.

use std::path::Path;

use driftline::catalog::Catalog;
use driftline::config::{GlobalConfig, ItemsConfig};
use driftline::dataset::{ColumnMapping, Dataset, Format, PERIOD_MS};
use driftline::evaluation::metrics::Metric;
use driftline::evaluation::{Arm, Log, Protocol, Run, Selection, Target, plan};
use driftline::feature::FoldRules;
use driftline::serving::{ListRules, SourceKind};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/diginetica");
const LIST: usize = 20;
/// The share of prefixes scored; all with DRIFTLINE_QUALITY=full. A quarter is still 190,000
/// lists, which puts the means within .002.
const SAMPLE: f64 = 0.25;

#[test]
fn diginetica_per_event_reaches_the_published_best_and_more() {
    if !Path::new(DATA).exists() {
        println!("skipped: {DATA} is not there");
        return;
    }
    let mut log = Log::default();
    let dataset = Dataset::open(Format::Sessions, Path::new(DATA), &ColumnMapping::default());
    for row in dataset.expect("the data") {
        log.push(&row.expect("a row"));
    }
    log.finish(None);
    let full = std::env::var("DRIFTLINE_QUALITY").is_ok_and(|v| v == "full");
    let selection = Selection {
        target: Target::NextClick,
        // The domain repeats: what was clicked may be clicked again.
        repeats: true,
        newcomers: false,
        sample: if full { 1.0 } else { SAMPLE },
        seed: 1,
    };
    let protocol = Protocol::Periods { length_ms: PERIOD_MS, per_event: true };
    let plan = plan(&log, &protocol, &selection).expect("a plan");
    let arms = vec![Arm::new("blend", &SourceKind::ALL)];
    let lists = ListRules { exploration: 0.0, ..ListRules::default() };
    let run = Run {
        log: &log,
        plan: &plan,
        given: &[],
        arms,
        top: LIST,
        lists,
        repeats: true,
        target: selection.target,
        basis: None,
    };
    let found = run.evaluate(
        FoldRules::default(),
        &GlobalConfig::default(),
        Catalog::default(),
        &ItemsConfig::default(),
        |_| true,
    );
    let found = found.expect("own bytes").expect("to the end");
    let recall = found.mean(0, Metric::Recall(LIST));
    let mrr = found.mean(0, Metric::Mrr(LIST));
    let tested = found.scored.len();
    println!("mean of 16 periods: R@20 {recall:.4}  MRR@20 {mrr:.4}  of {tested}");
    assert!(recall >= 0.525, "R@20 is {recall:.4}");
    assert!(mrr >= 0.190, "MRR@20 is {mrr:.4}");
}

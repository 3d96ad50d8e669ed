//! Session neighbours on DIGINETICA, through the product's own path: the fold, the global tables
//! and the serving pipeline, one event at a time. Skips, saying so, where the data is not there.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use driftline::catalog::Catalog;
use driftline::dataset::{ColumnMapping, Dataset, Format, Row, period_of};
use driftline::event::{Interaction, Request, Source};
use driftline::feature::{FoldEvent, FoldRules, UserState, session_key};
use driftline::global::{GlobalTables, HalfLives, NeighboursConfig};
use driftline::ids::{UserId, stable_hash};
use driftline::serving::{Pipeline, Query, World, untrained};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/diginetica");
const LIST: usize = 20;
/// One prefix in so many is scored, chosen by hash; all with DRIFTLINE_QUALITY=full. A quarter is
/// still 190,000 lists, which puts the means within .002.
const SAMPLE: u64 = 4;

/// The product without its wires: what a worker does with an event and a request.
struct Product {
    users: HashMap<String, Vec<u8>>,
    global: GlobalTables,
    catalog: Catalog,
    pipeline: Pipeline,
    learnt: u64,
}

impl Product {
    fn new() -> Self {
        let half_lives = HalfLives { default_hours: 24.0, by_surface: HashMap::new() };
        Self {
            users: HashMap::new(),
            global: GlobalTables::new(NeighboursConfig::default(), half_lives),
            catalog: Catalog::default(),
            pipeline: untrained(),
            learnt: 0,
        }
    }

    fn fold(&mut self, row: &Row) {
        let event = fold_event(row);
        event.encode(self.users.entry(row.user.as_str().to_owned()).or_default());
    }

    fn learn(&mut self, row: &Row) {
        let event = fold_event(row);
        self.global.learn_one(&Interaction {
            source: Source::Click,
            offset: 0,
            user: 0,
            session: event.session as i64,
            event: stable_hash(row.event_id().as_bytes()) as i64,
            item: event.item,
            event_time: event.at.millis(),
            fraction: 0.0,
            surface: "",
        });
        self.learnt += 1;
        if self.learnt.is_multiple_of(20_000) {
            self.global.refresh();
        }
    }

    /// The place of the row's item in the list that its user would get, from 0.
    fn rank(&self, row: &Row) -> Option<usize> {
        let operand = self.users.get(row.user.as_str())?;
        let mut user = UserState::default();
        user.fold(operand, &FoldRules::default()).expect("own bytes");
        let mut request = Request::new("", UserId::new(row.user.as_str()), LIST);
        // The domain repeats: what was clicked may be clicked again.
        request.include_seen = true;
        let query = Query::new(
            &request,
            World { user: &user, global: &self.global, catalog: &self.catalog },
        );
        let list = self.pipeline.run(query).items;
        list.iter().position(|i| i.item == row.item.as_str())
    }
}

fn fold_event(row: &Row) -> FoldEvent<'_> {
    let user = stable_hash(row.user.as_str().as_bytes());
    FoldEvent {
        source: Source::Click,
        at: row.at,
        id: stable_hash(row.event_id().as_bytes()) as u32,
        session: session_key(user, row.session.as_deref().unwrap_or_default(), row.at),
        watched_ms: 0,
        duration_ms: 0,
        item: row.item.as_str(),
        surface: "",
    }
}

/// Recall and mean reciprocal rank over the prefixes of one period.
#[derive(Default)]
struct Scores {
    hits: f64,
    reciprocal: f64,
    count: f64,
}

fn run_period(product: &mut Product, rows: &[Row], known: &HashSet<String>) -> Scores {
    let is_known = |row: &Row| known.contains(row.item.as_str());
    let mut lengths: HashMap<&str, usize> = HashMap::new();
    for row in rows.iter().filter(|r| is_known(r)) {
        *lengths.entry(row.user.as_str()).or_default() += 1;
    }
    let full = std::env::var("DRIFTLINE_QUALITY").is_ok_and(|v| v == "full");
    let sample = if full { 1 } else { SAMPLE };
    let mut scores = Scores::default();
    for row in rows {
        if is_known(row) && lengths[row.user.as_str()] > 1 {
            let drawn = stable_hash(row.event_id().as_bytes()).is_multiple_of(sample);
            if drawn && product.users.contains_key(row.user.as_str()) {
                scores.count += 1.0;
                if let Some(rank) = product.rank(row) {
                    scores.hits += 1.0;
                    scores.reciprocal += 1.0 / (rank + 1) as f64;
                }
            }
            product.fold(row);
        }
        product.learn(row);
    }
    product.users.clear();
    scores
}

#[test]
fn diginetica_per_event_reaches_the_published_best_and_more() {
    if !Path::new(DATA).exists() {
        println!("skipped: {DATA} is not there");
        return;
    }
    let dataset = Dataset::open(Format::Sessions, Path::new(DATA), &ColumnMapping::default());
    let mut periods: Vec<Vec<Row>> = Vec::new();
    for row in dataset.expect("the data") {
        let row = row.expect("a row");
        let period = period_of(row.at) as usize;
        periods.resize_with(periods.len().max(period + 1), Vec::new);
        periods[period].push(row);
    }
    let mut product = Product::new();
    let mut known = HashSet::new();
    let (mut recall, mut mrr, mut tested) = (0.0, 0.0, 0.0);
    for (period, rows) in periods.iter().enumerate() {
        let scores = run_period(&mut product, rows, &known);
        if period > 0 {
            println!(
                "period {period:2}: R@20 {:.4}  MRR@20 {:.4}  of {}",
                scores.hits / scores.count,
                scores.reciprocal / scores.count,
                scores.count
            );
            recall += scores.hits / scores.count;
            mrr += scores.reciprocal / scores.count;
            tested += 1.0;
        }
        known.extend(rows.iter().map(|r| r.item.as_str().to_owned()));
    }
    let (recall, mrr) = (recall / tested, mrr / tested);
    println!("mean of {tested}: R@20 {recall:.4}  MRR@20 {mrr:.4}");
    assert!(recall >= 0.525, "R@20 is {recall:.4}");
    assert!(mrr >= 0.190, "MRR@20 is {mrr:.4}");
}

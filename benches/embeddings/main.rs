//! What online item vectors are worth between retrains, and what they cost.
//!
//! `cargo bench --bench embeddings -- [--full] [diginetica] [kuairand] [costs]`; all three where
//! none is named. `--full` scores ten times the DIGINETICA sessions.

mod costs;
mod data;
mod prequential;
mod report;

use std::sync::Mutex;
use std::thread;

use driftline::dataset::{PERIOD_MS, SESSIONS_EPOCH};
use driftline::embedding::{ContentConfig, ContentFeature, ContentMap, LmsConfig};
use driftline::model::ials::IalsConfig;
use driftline::model::{Basis, HistoryWeights};
use driftline::time::EventTime;

use data::{Log, Video};
use prequential::{Protocol, Scored};

/// 2022-05-01T00:00:00 at Kuaishou.
const KUAIRAND_TEST: EventTime = EventTime::from_millis(1_651_334_400_000);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let full = arguments.iter().any(|a| a == "--full");
    let named: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|n| *n == name);
    if wanted("diginetica") {
        diginetica(if full { 3 } else { 33 });
    }
    if wanted("kuairand") {
        kuairand();
    }
    if wanted("costs") {
        costs::print();
    }
}

fn diginetica(sample: u64) {
    let Some(folder) = data::folder("diginetica") else { return };
    let log = data::diginetica(&folder);
    let protocol = Protocol {
        ials: IalsConfig::SESSIONS,
        lms: LmsConfig::SESSIONS,
        history: HistoryWeights::SESSIONS,
        popularity: vec![0.05, 0.1, 0.15, 0.2, 0.3],
        sample,
        unseen_only: false,
        hidden: 0,
    };
    let begins = |period: i64| {
        let at = SESSIONS_EPOCH.plus_millis(period * PERIOD_MS);
        log.events.partition_point(|event| event.at < at)
    };
    let periods: Vec<i64> = (4..=16).rev().collect();
    let scored = side_by_side(periods, |period| {
        let test = begins(period)..begins(period + 1);
        protocol.run(&log, 0..test.start, test, None)
    });
    let title = format!("DIGINETICA, periods 4 to 16, trained weekly, 1 session in {sample}");
    report::table(&title, &protocol.methods(false), &scored);
}

fn kuairand() {
    let Some(folder) = data::folder("kuairand") else { return };
    let log = data::kuairand(&folder);
    let videos = data::videos(&folder);
    let open = Protocol {
        ials: IalsConfig::VIDEOS,
        lms: LmsConfig::VIDEOS,
        history: HistoryWeights::VIDEOS,
        popularity: vec![0.2, 0.3, 0.4, 0.6, 0.8, 1.0],
        sample: 1,
        unseen_only: true,
        hidden: 0,
    };
    let start = log.events.partition_point(|event| event.at < KUAIRAND_TEST);
    let run = |protocol: &Protocol| {
        let content = |log: &Log, basis: &Basis| beginnings(log, basis, &videos);
        protocol.run(&log, 0..start, start..log.events.len(), Some(&content))
    };
    let hidden = Protocol { hidden: 10, ..open.clone() };
    for (title, protocol) in [
        ("KuaiRand, long views of 1 to 4 May, trained once", open),
        ("KuaiRand, 10 % of items hidden from training", hidden),
    ] {
        report::table(title, &protocol.methods(true), &run(&protocol));
    }
}

/// Where content says that each new item of the log begins.
fn beginnings(
    log: &Log,
    basis: &Basis,
    videos: &std::collections::HashMap<String, Video>,
) -> Vec<Option<Vec<f32>>> {
    let features: Vec<Vec<ContentFeature<'_>>> = log
        .items
        .iter()
        .map(|item| videos.get(item.as_str()).map_or_else(Vec::new, features))
        .collect();
    let trained = log.items.iter().zip(&features).filter_map(|(item, features)| {
        let trained = basis.trained(basis.position(item.as_str())?);
        Some((&features[..], trained.vector, trained.count))
    });
    let map = ContentMap::fit(basis.dim(), trained, &ContentConfig::default()).expect("a map");
    let new = log.items.iter().zip(&features).map(|(item, features)| {
        basis.position(item.as_str()).is_none().then(|| map.predict(features))
    });
    new.collect()
}

fn features(video: &Video) -> Vec<ContentFeature<'_>> {
    let mut features =
        vec![ContentFeature::Creator(&video.author), ContentFeature::Category(&video.kind)];
    features.extend(video.tags.iter().map(|tag| ContentFeature::Tag(tag)));
    features.extend(video.duration_ms.map(ContentFeature::DurationMs));
    features
}

/// Runs jobs on all cores, the first ones first; results in no order.
fn side_by_side(jobs: Vec<i64>, run: impl Fn(i64) -> Vec<Scored> + Sync) -> Vec<Scored> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (jobs, results) = (Mutex::new(jobs.into_iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let job = jobs.lock().expect("jobs").next();
                    let Some(job) = job else { break };
                    let scored = run(job);
                    results.lock().expect("results").push((job, scored));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("results");
    results.sort_by_key(|(job, _)| *job);
    results.into_iter().flat_map(|(_, scored)| scored).collect()
}

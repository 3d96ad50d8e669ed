//! The item index beside an exact scan: build, memory, recall, time of a query, with and without
//! live writes.
//!
//! `cargo bench --bench retrieval -- [items, default 200000] [clustered|random|files]`
//!
//! `files` reads `items.f32` and `queries.f32` from the folder DRIFTLINE_VECTORS (64 little-endian
//! floats a row), repeated with noise up to the number of items. With DRIFTLINE_PYTHON naming a
//! Python that has numpy and faiss-cpu, `benches/retrieval_faiss.py` runs on the same vectors.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use driftline::embedding::{Found, ItemIndex, Reach};
use driftline::global::ItemHandle;
use fearless_simd::{Level, dispatch};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DIMENSION: usize = 64;
const K: usize = 100;
const QUERIES: usize = 200;
/// Live writes a second, as the product is to stand them.
const WRITES: u64 = 10_000;

struct Vectors {
    kind: &'static str,
    items: Vec<f32>,
    queries: Vec<f32>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.iter().filter_map(|a| a.parse().ok()).next().unwrap_or(200_000);
    let kinds: Vec<&str> = ["clustered", "random", "files"]
        .into_iter()
        .filter(|kind| arguments.iter().any(|a| a == kind))
        .collect();
    let kinds = if kinds.is_empty() { vec!["clustered", "random", "files"] } else { kinds };
    for kind in kinds {
        let mut dice = ChaCha8Rng::seed_from_u64(7);
        let vectors = match kind {
            "clustered" => clustered(&mut dice, count),
            "random" => random(&mut dice, count),
            _ => match std::env::var("DRIFTLINE_VECTORS") {
                Ok(folder) => files(&mut dice, Path::new(&folder), count),
                Err(_) => {
                    println!("\nfiles: skipped, DRIFTLINE_VECTORS names no folder");
                    continue;
                }
            },
        };
        measure(&vectors);
    }
}

fn normal(dice: &mut ChaCha8Rng) -> f32 {
    let (u, v) = (dice.random::<f32>().max(1e-9), dice.random::<f32>());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

fn random(dice: &mut ChaCha8Rng, count: usize) -> Vectors {
    let mut draw = |rows: usize| (0..rows * DIMENSION).map(|_| normal(dice) / 8.0).collect();
    Vectors { kind: "random", items: draw(count), queries: draw(QUERIES) }
}

/// 3,000 Gaussians of power-law sizes, lengths that differ by a fifth; a query has three interests.
fn clustered(dice: &mut ChaCha8Rng, count: usize) -> Vectors {
    const CLUSTERS: usize = 3_000;
    let mut centres: Vec<f32> = (0..CLUSTERS * DIMENSION).map(|_| normal(dice)).collect();
    centres.chunks_exact_mut(DIMENSION).for_each(|centre| scale_to(centre, 1.0));
    let mut sum = 0.0;
    let sizes = (1..=CLUSTERS).map(|rank| 1.0 / (rank as f64).powf(0.8));
    let sizes: Vec<f64> = sizes
        .map(|size| {
            sum += size;
            sum
        })
        .collect();
    let around = |dice: &mut ChaCha8Rng, into: &mut [f32]| {
        let at = dice.random::<f64>() * sum;
        let cluster = sizes.partition_point(|size| *size < at).min(CLUSTERS - 1);
        let centre = &centres[cluster * DIMENSION..(cluster + 1) * DIMENSION];
        into.iter_mut().zip(centre).for_each(|(x, c)| *x += c + 0.5 * normal(dice) / 8.0);
    };
    let mut items = vec![0.0; count * DIMENSION];
    for item in items.chunks_exact_mut(DIMENSION) {
        around(dice, item);
        scale_to(item, (0.2 * normal(dice)).exp());
    }
    let mut queries = vec![0.0; QUERIES * DIMENSION];
    for query in queries.chunks_exact_mut(DIMENSION) {
        (0..3).for_each(|_| around(dice, query));
        scale_to(query, 1.0);
    }
    Vectors { kind: "clustered", items, queries }
}

/// Vectors of a trained model; copies beyond the first get noise of half their length.
fn files(dice: &mut ChaCha8Rng, folder: &Path, count: usize) -> Vectors {
    let read = |name: &str| -> Vec<f32> {
        let bytes = std::fs::read(folder.join(name)).expect("a file of vectors");
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let (trained, mut queries) = (read("items.f32"), read("queries.f32"));
    let mut items = Vec::with_capacity(count * DIMENSION);
    for (row, vector) in trained.chunks_exact(DIMENSION).cycle().take(count).enumerate() {
        let copied = row * DIMENSION >= trained.len();
        let noise = if copied { 0.5 * length(vector) / 8.0 } else { 0.0 };
        items.extend(vector.iter().map(|x| x + noise * normal(dice)));
    }
    queries.truncate(QUERIES * DIMENSION);
    Vectors { kind: "files", items, queries }
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn scale_to(vector: &mut [f32], to: f32) {
    let by = to / length(vector);
    vector.iter_mut().for_each(|x| *x *= by);
}

/// The baseline: every item's inner product, vectorised for this machine, and a selection.
fn exact_scan(items: &[f32], query: &[f32], scores: &mut [f32]) -> Vec<(u32, f32)> {
    dispatch!(Level::new(), _simd => products(items, query, scores));
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(2 * K);
    let mut floor = f32::NEG_INFINITY;
    for (item, score) in (0..).zip(scores.iter()) {
        if *score > floor {
            best.push((item, *score));
            if best.len() == 2 * K {
                best.select_nth_unstable_by(K - 1, |a, b| b.1.total_cmp(&a.1));
                best.truncate(K);
                floor = best[K - 1].1;
            }
        }
    }
    best.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
    best.truncate(K);
    best
}

#[inline(always)]
fn products(items: &[f32], query: &[f32], scores: &mut [f32]) {
    for (item, score) in items.chunks_exact(DIMENSION).zip(scores) {
        let mut sums = [0.0f32; 16];
        for (a, b) in item.as_chunks::<16>().0.iter().zip(query.as_chunks::<16>().0) {
            for lane in 0..16 {
                sums[lane] += a[lane] * b[lane];
            }
        }
        *score = sums.iter().sum();
    }
}

/// Mean microseconds of a query, and what was found.
fn time<T>(queries: &[f32], mut ask: impl FnMut(&[f32]) -> T) -> (f64, Vec<T>) {
    let begun = Instant::now();
    let found: Vec<T> = queries.chunks_exact(DIMENSION).map(&mut ask).collect();
    (begun.elapsed().as_secs_f64() * 1e6 / found.len() as f64, found)
}

fn recall(found: &[Vec<Found>], exact: &[BTreeSet<u32>]) -> f64 {
    let hits = found.iter().zip(exact).map(|(found, exact)| {
        found.iter().filter(|found| exact.contains(&found.item.0)).count() as f64
            / exact.len().max(1) as f64
    });
    hits.sum::<f64>() / exact.len() as f64
}

fn measure(vectors: &Vectors) {
    let Vectors { kind, items, queries } = vectors;
    let count = items.len() / DIMENSION;
    let index = ItemIndex::new(DIMENSION).expect("an index");
    let resident = resident_bytes();
    let begun = Instant::now();
    for (item, vector) in (0..).zip(items.chunks_exact(DIMENSION)) {
        index.upsert(ItemHandle(item), vector).expect("a vector");
    }
    let build = begun.elapsed().as_secs_f64();
    let resident = resident_bytes() - resident;
    let stats = index.stats();
    let search =
        |query: &[f32], reach: Reach| index.search(query, K, reach, |_| true).expect("a query");

    let mut scores = vec![0.0; count];
    let (scan, exact) = time(queries, |query| exact_scan(items, query, &mut scores));
    let exact: Vec<BTreeSet<u32>> =
        exact.into_iter().map(|best| best.into_iter().map(|(item, _)| item).collect()).collect();
    let mut rows =
        vec![vec!["exact scan, f32".into(), "1".into(), format!("{scan:.0}"), "1".into()]];
    let mut row = |what: String, recall: f64, micros: f64| {
        let faster = format!("{:.1}", scan / micros);
        rows.push(vec![what, format!("{recall:.3}"), format!("{micros:.0}"), faster]);
    };
    for reach in [3.0, 3.5, Reach::default().0, 5.0, Reach::EXACT.0] {
        let (micros, found) = time(queries, |query| search(query, Reach(reach)));
        row(format!("index, reach {reach}"), recall(&found, &exact), micros);
    }
    let kept = |item: ItemHandle| item.0.is_multiple_of(50);
    let kept_exact: Vec<BTreeSet<u32>> = queries
        .chunks_exact(DIMENSION)
        .map(|query| {
            let found = index.search(query, K, Reach::EXACT, kept).expect("a query");
            found.into_iter().map(|found| found.item.0).collect()
        })
        .collect();
    let (micros, found) =
        time(queries, |query| index.search(query, K, Reach::default(), kept).expect("a query"));
    row("index, a filter that keeps 2 %".into(), recall(&found, &kept_exact), micros);
    faiss(vectors, &mut row);
    common::table(
        &format!("Retrieval of {K}, {count} {kind} vectors of {DIMENSION}"),
        &["what", "recall", "µs a query", "times faster"],
        &rows,
    );
    common::table(
        "The index itself",
        &["what", "figure"],
        &[
            vec!["built one by one, s".into(), format!("{build:.1}")],
            vec!["cells".into(), stats.cells.to_string()],
            vec!["MB, as reported".into(), format!("{:.0}", stats.bytes as f64 / 1e6)],
            vec!["MB, as the process grew".into(), format!("{:.0}", resident / 1e6)],
        ],
    );
    live(&index, vectors);
}

/// Query rate alone, and while another thread writes; then after all those writes and removals.
fn live(index: &ItemIndex, vectors: &Vectors) {
    let items: Vec<&[f32]> = vectors.items.chunks_exact(DIMENSION).collect();
    let queries = || vectors.queries.chunks_exact(DIMENSION);
    let ask = || {
        let (mut asked, begun) = (0, Instant::now());
        let mut slowest = Vec::new();
        for query in queries().cycle() {
            let one = Instant::now();
            index.search(query, K, Reach::default(), |_| true).expect("a query");
            slowest.push(one.elapsed().as_secs_f64() * 1e6);
            asked += 1;
            if begun.elapsed() > Duration::from_secs(4) {
                break;
            }
        }
        let rate = f64::from(asked) / begun.elapsed().as_secs_f64();
        (rate, common::quantile(&mut slowest, 0.99))
    };
    let mut rows = Vec::new();
    let mut row = |what: &str, written: f64, (rate, slow): (f64, f64)| {
        let figures = [format!("{written:.0}"), format!("{rate:.0}"), format!("{slow:.0}")];
        rows.push([vec![what.to_owned()], figures.to_vec()].concat());
    };
    row("no writes", 0.0, ask());
    for (what, write) in [
        ("vectors drift by a fiftieth", drift as fn(&ItemIndex, &[&[f32]], u64)),
        ("vectors go elsewhere", jump),
        ("items go and come", replace),
    ] {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut written, begun) = (0u64, Instant::now());
                while !stop.load(Ordering::Relaxed) {
                    while written < (begun.elapsed().as_secs_f64() * WRITES as f64) as u64 {
                        write(index, &items, written);
                        written += 1;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                written as f64 / begun.elapsed().as_secs_f64()
            });
            let asked = ask();
            stop.store(true, Ordering::Relaxed);
            row(what, writer.join().expect("a writer"), asked);
        });
    }
    let (_, exact) = time(&vectors.queries, |query| {
        let found = index.search(query, K, Reach::EXACT, |_| true).expect("a query");
        found.into_iter().map(|found| found.item.0).collect()
    });
    let (_, found) = time(&vectors.queries, |query| {
        index.search(query, K, Reach::default(), |_| true).expect("a query")
    });
    common::table(
        "Searching on one thread while another writes",
        &["writes", "vectors/s", "queries/s", "99th percentile, µs"],
        &rows,
    );
    println!("\nRecall after all these writes: {:.3}", recall(&found, &exact));
}

fn drift(index: &ItemIndex, items: &[&[f32]], written: u64) {
    let item = (written * 7_919) as usize % items.len();
    let other = items[(item + 1) % items.len()].iter();
    let moved: Vec<f32> = items[item].iter().zip(other).map(|(x, y)| 0.98 * x + 0.02 * y).collect();
    index.upsert(ItemHandle(item as u32), &moved).expect("a vector");
}

fn jump(index: &ItemIndex, items: &[&[f32]], written: u64) {
    let item = (written * 7_919) as usize % items.len();
    let to = items[(item + items.len() / 2) % items.len()];
    index.upsert(ItemHandle(item as u32), to).expect("a vector");
}

fn replace(index: &ItemIndex, items: &[&[f32]], written: u64) {
    let item = (written * 7_919) as usize % items.len();
    index.remove(ItemHandle(item as u32));
    let came = ItemHandle((items.len() + item) as u32);
    index.upsert(came, items[item]).expect("a vector");
}

/// HNSW of faiss-cpu on the same vectors, on one thread.
fn faiss(vectors: &Vectors, row: &mut impl FnMut(String, f64, f64)) {
    let Ok(python) = std::env::var("DRIFTLINE_PYTHON") else {
        println!("\nfaiss: skipped, DRIFTLINE_PYTHON names no Python with numpy and faiss-cpu");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    for (name, values) in [("items.f32", &vectors.items), ("queries.f32", &vectors.queries)] {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/retrieval_faiss.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().expect("a Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [what, recall, micros] = columns[..] else { panic!("{line}") };
        row(what.to_owned(), recall.parse().expect("a recall"), micros.parse().expect("a time"));
    }
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0
}

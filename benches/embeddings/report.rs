//! Means and paired intervals of scored positives, as a Markdown table.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::prequential::{LIST, Scored};

const DRAWS: usize = 1_000;

fn recall(rank: f32) -> f64 {
    f64::from(u8::from(rank < LIST))
}

fn reciprocal(rank: f32) -> f64 {
    if rank < LIST { 1.0 / (1.0 + f64::from(rank)) } else { 0.0 }
}

/// The mean of `value` over all.
fn mean(scored: &[&Scored], value: impl Fn(&Scored) -> f64) -> f64 {
    scored.iter().map(|s| value(s)).sum::<f64>() / scored.len() as f64
}

/// The 95 % interval of a mean, drawing users: positives of one user are not independent.
fn interval(scored: &[&Scored], value: impl Fn(&Scored) -> f64) -> (f64, f64) {
    let mut users: HashMap<u32, (f64, f64)> = HashMap::new();
    for one in scored {
        let sum = users.entry(one.user).or_default();
        sum.0 += value(one);
        sum.1 += 1.0;
    }
    let mut users: Vec<(u32, (f64, f64))> = users.into_iter().collect();
    users.sort_by_key(|(user, _)| *user);
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let (mut sum, mut count) = (0.0, 0.0);
            for _ in 0..users.len() {
                let (_, (s, n)) = users[dice.random_range(0..users.len())];
                sum += s;
                count += n;
            }
            sum / count
        })
        .collect();
    means.sort_by(f64::total_cmp);
    (means[DRAWS / 40], means[DRAWS - 1 - DRAWS / 40])
}

/// One row a method: recall and reciprocal rank, and paired intervals against the first method
/// and against the best popularity control.
pub fn table(title: &str, methods: &[String], scored: &[Scored]) {
    let known: Vec<&Scored> = scored.iter().filter(|s| s.known).collect();
    let new: Vec<&Scored> = scored.iter().filter(|s| !s.known).collect();
    let all: Vec<&Scored> = scored.iter().collect();
    let r = |of: &[&Scored], m: usize| mean(of, |s| recall(s.ranks[m]));
    let controls = (0..methods.len()).filter(|&m| methods[m].contains("popularity"));
    let control = controls.max_by(|&a, &b| r(&all, a).total_cmp(&r(&all, b))).expect("a control");
    println!("\n### {title}\n");
    println!("{} positives, {} of them of new items.\n", scored.len(), new.len());
    println!(
        "| method | R@20 | MRR@20 | ΔR to frozen | ΔMRR to frozen | ΔR to popularity | R@20 known | ΔR known, to popularity | R@20 new |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (m, name) in methods.iter().enumerate() {
        if name.contains("popularity") && m != control {
            continue;
        }
        let against = |of: &[&Scored], other: usize, gain: fn(f32) -> f64| {
            if m == other || of.is_empty() {
                return "–".to_owned();
            }
            let (low, high) = interval(of, |s| gain(s.ranks[m]) - gain(s.ranks[other]));
            format!("[{low:+.4}, {high:+.4}]")
        };
        println!(
            "| {name} | {:.4} | {:.4} | {} | {} | {} | {:.4} | {} | {:.4} |",
            r(&all, m),
            mean(&all, |s| reciprocal(s.ranks[m])),
            against(&all, 0, recall),
            against(&all, 0, reciprocal),
            against(&all, control, recall),
            r(&known, m),
            against(&known, control, recall),
            r(&new, m),
        );
    }
}

//! How far two distributions over the same bins are apart.
//!
//! p and q are shares of the reference and of what is live, by bin; F and G what of either lies at
//! or below an edge.

use std::cmp::Ordering;

use super::histogram::Bins;

/// What is added to each count before shares are taken, where a share of 0 would make the statistic
/// infinite: half an observation, Jeffreys' prior. Bins that both leave empty are none.
pub const ZERO_FILL: f64 = 0.5;

/// Values of the smaller sample that are expected in a bin at least, for statistics of bins to
/// follow χ² (Cochran's rule).
pub(super) const LEAST_BY_BIN: f64 = 5.0;

/// Counts of both by bin; bins that are too rare are one together.
pub(super) struct Pair {
    pub counts: Vec<(f64, f64)>,
    pub n: f64,
    pub m: f64,
}

impl Pair {
    /// Both have values.
    pub(super) fn new(reference: &[u64], live: &[u64]) -> Self {
        let both = reference.iter().zip(live).map(|(a, b)| (*a as f64, *b as f64));
        let counts: Vec<_> = both.filter(|(a, b)| a + b > 0.0).collect();
        let add = |(a, b): (f64, f64), (c, d): &(f64, f64)| (a + c, b + d);
        let (n, m) = counts.iter().fold((0.0, 0.0), add);
        let least = LEAST_BY_BIN * (n + m) / n.min(m);
        let (rare, mut counts): (Vec<_>, Vec<_>) =
            counts.into_iter().partition(|(a, b)| a + b < least);
        let mut rest = rare.iter().fold((0.0, 0.0), add);
        let size = |(a, b): &(f64, f64)| (a + b, *a);
        counts.sort_by(|a, b| size(b).partial_cmp(&size(a)).unwrap_or(Ordering::Equal));
        if rest.0 + rest.1 < least {
            rest = counts.pop().map_or(rest, |smallest| add(rest, &smallest));
        }
        if rest.0 + rest.1 > 0.0 {
            counts.push(rest);
        }
        Self { counts, n, m }
    }

    fn shares(&self) -> impl Iterator<Item = (f64, f64)> {
        self.counts.iter().map(|(a, b)| (a / self.n, b / self.m))
    }

    /// Population stability index: Σ (p − q) ln(p / q), shares with [`ZERO_FILL`]. Symmetric; twice
    /// Jeffreys' divergence by some, that divergence by others.
    pub(super) fn psi(&self) -> f64 {
        let fill = ZERO_FILL * self.counts.len() as f64;
        let share = |count: f64, all: f64| (count + ZERO_FILL) / (all + fill);
        let both = self.counts.iter().map(|(a, b)| (share(*a, self.n), share(*b, self.m)));
        both.map(|(p, q)| (p - q) * (p / q).ln()).sum()
    }

    /// Jensen–Shannon divergence, in nats: ½ Σ p ln(p / r) + ½ Σ q ln(q / r) with r = (p + q) / 2.
    /// At most ln 2.
    pub(super) fn jensen_shannon(&self) -> f64 {
        let part = |p: f64, r: f64| if p > 0.0 { p * (p / r).ln() } else { 0.0 };
        let sum: f64 =
            self.shares().map(|(p, q)| part(p, (p + q) / 2.0) + part(q, (p + q) / 2.0)).sum();
        (sum / 2.0).max(0.0)
    }

    /// Pearson's χ² of the table of both: Σ (a/n − b/m)² / (a + b) · n m.
    pub(super) fn chi_square(&self) -> f64 {
        let term = |(a, b): &(f64, f64)| (a / self.n - b / self.m).powi(2) / (a + b);
        self.counts.iter().map(term).sum::<f64>() * self.n * self.m
    }
}

/// F − G at each edge.
fn apart(reference: &[u64], live: &[u64]) -> Vec<f64> {
    let total = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
    let (n, m) = (total(reference), total(live));
    let sums = reference.iter().zip(live).scan((0, 0), |sums, (a, b)| {
        *sums = (sums.0 + a, sums.1 + b);
        Some(*sums)
    });
    let mut apart: Vec<f64> = sums.map(|(a, b)| a as f64 / n - b as f64 / m).collect();
    // After the last bin both are 1.
    apart.pop();
    apart
}

/// Kolmogorov–Smirnov distance, max |F − G|, at the edges of bins: between them the samples may be
/// further apart, by less than what a bin holds.
pub(super) fn kolmogorov_smirnov(reference: &[u64], live: &[u64]) -> f64 {
    apart(reference, live).into_iter().map(f64::abs).fold(0.0, f64::max)
}

/// Wasserstein-1 distance, ∫ |F − G|, in the unit of the values. Values are taken for spread evenly
/// over their bin; those beyond the reference for lying at its end.
pub(super) fn wasserstein(bins: &Bins, reference: &[u64], live: &[u64]) -> f64 {
    let apart = apart(reference, live);
    let widths = bins.edges().windows(2).map(|pair| pair[1] - pair[0]);
    let areas = apart.windows(2).zip(widths).map(|(ends, width)| {
        let (a, b) = (ends[0].abs(), ends[1].abs());
        let crosses = ends[0] * ends[1] < 0.0;
        // Two triangles that meet where the difference is 0, or a trapezium.
        let mean = if crosses { (a * a + b * b) / (a + b) / 2.0 } else { (a + b) / 2.0 };
        width * mean
    });
    areas.sum()
}

/// Of all values of both: standard deviation, and ∫ √(F (1 − F)), in the unit of the values.
pub(super) fn spread(bins: &Bins, counts: &[u64]) -> (f64, f64) {
    let n = counts.iter().sum::<u64>() as f64;
    let edges = bins.edges();
    let last = counts.len() - 1;
    // Middle and width of each bin; beyond the reference at its ends.
    let shape = |place: usize| match place {
        0 => (edges[0], 0.0),
        _ if place == last => (edges[last - 1], 0.0),
        _ => ((edges[place - 1] + edges[place]) / 2.0, edges[place] - edges[place - 1]),
    };
    let weighted = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        let terms = counts.iter().enumerate().map(|(place, count)| {
            let (middle, width) = shape(place);
            *count as f64 * of(middle, width)
        });
        terms.sum::<f64>() / n
    };
    let mean = weighted(&|middle, _| middle);
    let variance = weighted(&|middle, width| (middle - mean).powi(2) + width * width / 12.0);
    let mut below = 0.0;
    let root = |below: f64| (below / n * (1.0 - below / n)).max(0.0).sqrt();
    let mut area = 0.0;
    for (place, count) in counts.iter().enumerate() {
        let before = root(below);
        below += *count as f64;
        area += shape(place).1 * (before + root(below)) / 2.0;
    }
    (variance.sqrt(), area)
}

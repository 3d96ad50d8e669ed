//! Bins by quantiles of a reference, and counts in them.

use serde::{Deserialize, Serialize};

/// Fewest bins asked for: fewer hide what moves within one.
pub const MIN_BINS: usize = 10;

/// Why there are no bins, or why counts do not go together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadBins {
    /// Too few bins asked for.
    #[error("{0} bins are too few; take {MIN_BINS} or more")]
    TooFew(usize),
    /// Nothing to take quantiles of.
    #[error("a reference needs finite values; it has none")]
    Empty,
    /// NaN or infinite.
    #[error("a reference needs finite values; it has {0}")]
    NotFinite(f64),
    /// Edges that do not ascend.
    #[error("edges of bins must be two or more, finite and ascending")]
    Edges,
    /// Counts of other bins.
    #[error("the histograms have other bins; count both in the bins of the reference")]
    Other,
}

/// Edges of bins, ascending. Bin i holds values in (edge i−1, edge i]; the first holds what is
/// below the reference, the last what is above it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Bins {
    edges: Vec<f64>,
}

impl TryFrom<Vec<f64>> for Bins {
    type Error = BadBins;

    fn try_from(edges: Vec<f64>) -> Result<Self, BadBins> {
        let ascend = edges.windows(2).all(|pair| pair[0] < pair[1]);
        let finite = edges.iter().all(|edge| edge.is_finite());
        if edges.len() >= 2 && ascend && finite { Ok(Self { edges }) } else { Err(BadBins::Edges) }
    }
}

impl From<Bins> for Vec<f64> {
    fn from(bins: Bins) -> Self {
        bins.edges
    }
}

impl Bins {
    /// `count` bins that hold about as many values of the reference each, and one on either side of
    /// all of them. Fewer where the reference has the same value many times: it takes a bin of its
    /// own.
    pub fn by_quantiles(reference: &[f64], count: usize) -> Result<Self, BadBins> {
        if count < MIN_BINS {
            return Err(BadBins::TooFew(count));
        }
        if let Some(bad) = reference.iter().find(|value| !value.is_finite()) {
            return Err(BadBins::NotFinite(*bad));
        }
        let mut sorted = reference.to_vec();
        sorted.sort_by(f64::total_cmp);
        let lowest = *sorted.first().ok_or(BadBins::Empty)?;
        let at = |k: usize| sorted[(k * sorted.len()).div_ceil(count) - 1];
        let mut edges: Vec<f64> = (1..=count).map(at).collect();
        edges.insert(0, lowest.next_down());
        edges.dedup_by(|next, edge| next == edge);
        Self::try_from(edges)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.edges.len() + 1
    }

    /// Where a value belongs.
    fn place(&self, value: f64) -> usize {
        self.edges.partition_point(|edge| *edge < value)
    }

    /// Edges, ascending: one less than bins.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }
}

/// Counts by bin. Those of parts add up to those of the whole, in any order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    bins: Bins,
    counts: Vec<u64>,
    /// NaN and infinite values: a matter of data quality, and no part of the distribution.
    not_finite: u64,
}

impl Histogram {
    /// Nothing counted yet.
    pub fn new(bins: Bins) -> Self {
        let counts = vec![0; bins.count()];
        Self { bins, counts, not_finite: 0 }
    }

    /// Counts a value.
    pub fn add(&mut self, value: f64) {
        if value.is_finite() {
            let place = self.bins.place(value);
            self.counts[place] += 1;
        } else {
            self.not_finite += 1;
        }
    }

    /// Counts what another counted. Refuses one of other bins.
    pub fn merge(&mut self, other: &Self) -> Result<(), BadBins> {
        if self.bins != other.bins {
            return Err(BadBins::Other);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own += other);
        self.not_finite += other.not_finite;
        Ok(())
    }

    /// Bins.
    pub fn bins(&self) -> &Bins {
        &self.bins
    }

    /// Values by bin.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Finite values.
    pub fn n(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// NaN and infinite values.
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }
}

//! Where a user falls, by GrowthBook's open specification of its SDKs (hash version 2; namespaces
//! by version 1): a number in [0, 1), ranges of it that belong to arms, and namespaces that share
//! users out among experiments.
//!
//! Ranges begin where they begin at full coverage and grow to the right. So whoever is in an arm
//! stays in it as coverage rises.

/// How far weights may sum up to something else than 1.
const WEIGHTS_TOLERANCE: f64 = 0.01;

/// FNV-1a, 32 bits, over UTF-16 code units: as GrowthBook's reference in JavaScript has it. That of
/// ASCII text is the ordinary one over bytes.
fn fnv1a(text: &str) -> u32 {
    text.encode_utf16()
        .fold(0x811c_9dc5, |hash, unit| (hash ^ u32::from(unit)).wrapping_mul(0x0100_0193))
}

/// Where a value falls under a seed: ten thousand places in [0, 1).
pub fn bucket(seed: &str, value: &str) -> f64 {
    let first = fnv1a(&format!("{seed}{value}"));
    f64::from(fnv1a(&first.to_string()) % 10_000) / 10_000.0
}

/// A part of [0, 1): its begin is in it, its end is not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// Where it begins.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
}

impl Range {
    /// All of it.
    pub const WHOLE: Self = Self { start: 0.0, end: 1.0 };

    /// Whether a place is in it.
    pub fn contains(&self, place: f64) -> bool {
        self.start <= place && place < self.end
    }

    /// Whether some place is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }
}

/// The same weight for each of so many arms.
pub fn equal_weights(arms: usize) -> Vec<f64> {
    vec![1.0 / arms as f64; arms]
}

/// The range of each arm. `coverage` is the share of users who are in any of them, taken as 0 or 1
/// where it is beyond. Weights that do not sum up to 1 (to a hundredth) are taken as equal, as the
/// specification says: definitions of ours are refused before.
pub fn bucket_ranges(coverage: f64, weights: &[f64]) -> Vec<Range> {
    let coverage = coverage.clamp(0.0, 1.0);
    let sum: f64 = weights.iter().sum();
    let equal = equal_weights(weights.len());
    let weights = if (sum - 1.0).abs() <= WEIGHTS_TOLERANCE { weights } else { &equal };
    let mut start = 0.0;
    let mut ranges = Vec::with_capacity(weights.len());
    for weight in weights {
        ranges.push(Range { start, end: start + coverage * weight });
        start += weight;
    }
    ranges
}

/// The first range that a place is in.
pub fn choose(place: f64, ranges: &[Range]) -> Option<usize> {
    ranges.iter().position(|range| range.contains(place))
}

/// A share of users that experiments which must not meet divide among themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// Whose users.
    pub name: String,
    /// Which of them.
    pub range: Range,
}

impl Namespace {
    /// Whether a user is among them: a thousand places.
    pub fn contains(&self, user: &str) -> bool {
        let place = f64::from(fnv1a(&format!("{user}__{}", self.name)) % 1_000) / 1_000.0;
        self.range.contains(place)
    }
}

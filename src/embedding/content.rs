//! From what an item is to where its vector begins: ridge regression of trained vectors on hashed
//! content features (feature hashing: Weinberger et al., ICML 2009).
//!
//! An item's features are hashed into `buckets` columns and scaled to length 1, so that many tags
//! do not count more than few; item i with n_i interactions weighs n_i/(n_i + n_0), since vectors
//! trained on few users are mostly noise. The map is B = (XᵀWX + λI)⁻¹ XᵀWT, found by conjugate
//! gradients (Golub and Van Loan, 11.3): rows of X have some ten entries, so an iteration reads
//! those only and nothing of buckets × buckets is ever held. It runs on the columns that some item
//! has, in double precision: of a basis trained on fewer users than it has components, some
//! components are next to nothing, and in single precision their equations are never solved.

use super::online::EmbeddingError;
use crate::ids::stable_hash;
use crate::model::vector::axpy;
use crate::model::{Dim, Vectors};

/// Interactions at which a trained vector counts half.
const HALF_TRUST: f64 = 5.0;
/// Iterations end when what is left of every component's right side is below this part of it.
const TOLERANCE: f64 = 1e-4;
/// More iterations than any matrix with a ridge needed; reaching it is an error.
const MAX_ITERATIONS: u32 = 1_000;

/// One thing that is known of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFeature<'a> {
    /// Who made it.
    Creator(&'a str),
    /// A tag.
    Tag(&'a str),
    /// A category.
    Category(&'a str),
    /// Its length in milliseconds, > 0; hashed by powers of √2.
    DurationMs(u64),
    /// Its language.
    Language(&'a str),
}

impl ContentFeature<'_> {
    /// The hash of its kind and value.
    fn hash(self) -> u64 {
        let (kind, text) = match self {
            ContentFeature::Creator(text) => (b'c', text),
            ContentFeature::Tag(text) => (b't', text),
            ContentFeature::Category(text) => (b'g', text),
            ContentFeature::Language(text) => (b'l', text),
            ContentFeature::DurationMs(ms) => {
                // The bit length of the square is the logarithm to the base √2, rounded.
                let square = u128::from(ms) * u128::from(ms);
                let bucket = (u128::BITS - square.leading_zeros()) as u8;
                return stable_hash(&[b'd', bucket]);
            }
        };
        let mut key = Vec::with_capacity(1 + text.len());
        key.push(kind);
        key.extend_from_slice(text.as_bytes());
        stable_hash(&key)
    }
}

/// How to fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContentConfig {
    /// Columns that features are hashed into, a power of two. Fewer make unlike creators share
    /// one; memory is 4 · d bytes each.
    pub buckets: u32,
    /// λ > 0. Larger: closer to the mean item.
    pub ridge: f32,
}

impl Default for ContentConfig {
    fn default() -> Self {
        Self { buckets: 1 << 15, ridge: 1.0 }
    }
}

/// A fitted map from content to vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentMap {
    /// A row for each bucket, and one at the end for every item: the intercept.
    weights: Vectors,
}

/// Hashed features of one item: buckets and values, the intercept last.
struct Hashed {
    entries: Vec<(u32, f32)>,
}

impl Hashed {
    fn new(features: &[ContentFeature<'_>], buckets: u32) -> Self {
        let mut columns: Vec<u64> = features.iter().map(|feature| feature.hash()).collect();
        columns.sort_unstable();
        columns.dedup();
        let value = 1.0 / (columns.len().max(1) as f32).sqrt();
        let mut entries: Vec<(u32, f32)> =
            columns.iter().map(|hash| ((hash & u64::from(buckets - 1)) as u32, value)).collect();
        entries.push((buckets, 1.0));
        Self { entries }
    }

    /// Adds x B to `out`.
    fn times(&self, weights: &Vectors, out: &mut [f32]) {
        for &(column, value) in &self.entries {
            axpy(value, weights.row(column as usize), out);
        }
    }
}

impl ContentMap {
    /// Fits the map to trained items: features, vector, and interactions each.
    ///
    /// # Errors
    /// [`EmbeddingError::Setting`] where a setting is out of its range, or where the equations
    /// were not solved in a thousand iterations because the ridge is too small for them.
    pub fn fit<'a>(
        dim: Dim,
        items: impl IntoIterator<Item = (&'a [ContentFeature<'a>], &'a [f32], u32)>,
        config: &ContentConfig,
    ) -> Result<Self, EmbeddingError> {
        let setting = |name, value, wanted| EmbeddingError::Setting { name, value, wanted };
        if !config.buckets.is_power_of_two() || config.buckets > 1 << 24 {
            let value = f64::from(config.buckets);
            return Err(setting("buckets", value, "a power of two up to 2^24"));
        }
        let ridge = f64::from(config.ridge);
        if !(ridge > 0.0 && ridge.is_finite()) {
            return Err(setting("ridge", ridge, "positive"));
        }
        let (rows, vectors): (Vec<_>, Vec<_>) = items
            .into_iter()
            .map(|(features, vector, interactions)| {
                let trust = f64::from(interactions) / (f64::from(interactions) + HALF_TRUST);
                ((Hashed::new(features, config.buckets), trust), vector)
            })
            .unzip();
        let (rows, used) = numbered(rows);
        let mut right = Rows::zeros(dim, used.len());
        for ((entries, trust), vector) in rows.iter().zip(vectors) {
            for &(place, value) in entries {
                let target = right.row_mut(place).iter_mut();
                target.zip(vector).for_each(|(r, v)| *r += trust * value * f64::from(*v));
            }
        }
        let Some(solution) = conjugate_gradients(&rows, ridge, right) else {
            return Err(setting("ridge", ridge, "larger: the fit does not converge"));
        };
        let mut weights = Vectors::zeros(dim, config.buckets as usize + 1);
        for (place, column) in used.into_iter().enumerate() {
            let target = weights.row_mut(column as usize).iter_mut();
            target.zip(solution.row(place)).for_each(|(weight, value)| *weight = *value as f32);
        }
        Ok(Self { weights })
    }

    /// Where the vector of an item with these features begins: the mean of trained items where
    /// none is known.
    pub fn predict(&self, features: &[ContentFeature<'_>]) -> Vec<f32> {
        let buckets = self.weights.len() as u32 - 1;
        let mut out = vec![0.0; self.weights.dim().get()];
        Hashed::new(features, buckets).times(&self.weights, &mut out);
        out
    }
}

/// The entries of an item, columns by their places among those that are used, and its weight.
type Row = (Vec<(usize, f64)>, f64);

/// Numbers the columns that some item has; returns them by place, in rising order.
fn numbered(hashed: Vec<(Hashed, f64)>) -> (Vec<Row>, Vec<u32>) {
    let entries = hashed.iter().flat_map(|(hashed, _)| &hashed.entries);
    let mut used: Vec<u32> = entries.map(|(column, _)| *column).collect();
    used.sort_unstable();
    used.dedup();
    // Every column is among those used.
    let place = |column: u32| used.partition_point(|known| *known < column);
    let row = |(hashed, trust): (Hashed, f64)| {
        let entries = hashed.entries.iter();
        (entries.map(|&(column, value)| (place(column), f64::from(value))).collect(), trust)
    };
    (hashed.into_iter().map(row).collect(), used)
}

/// Rows of d numbers.
#[derive(Clone)]
struct Rows {
    d: usize,
    values: Vec<f64>,
}

impl Rows {
    fn zeros(dim: Dim, rows: usize) -> Self {
        Self { d: dim.get(), values: vec![0.0; rows * dim.get()] }
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.d..(row + 1) * self.d]
    }

    fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.d..(row + 1) * self.d]
    }

    /// Adds alpha_k · x_k to component k of every row.
    fn add_scaled(&mut self, alpha: &[f64], x: &Rows) {
        for (y, x) in self.values.chunks_exact_mut(self.d).zip(x.values.chunks_exact(self.d)) {
            y.iter_mut().zip(alpha.iter().zip(x)).for_each(|(y, (alpha, x))| *y += alpha * x);
        }
    }

    /// Σ_rows a_k b_k for each component k.
    fn products(&self, other: &Rows) -> Vec<f64> {
        let mut sums = vec![0.0; self.d];
        let pairs = self.values.chunks_exact(self.d).zip(other.values.chunks_exact(self.d));
        for (a, b) in pairs {
            sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
        }
        sums
    }
}

/// Solves (XᵀWX + λI) B = R from B = 0, every component of the vectors at once with step lengths
/// of its own. `residual` begins as R. None where it does not converge.
fn conjugate_gradients(rows: &[Row], ridge: f64, mut residual: Rows) -> Option<Rows> {
    let d = residual.d;
    let mut direction = residual.clone();
    let mut solution = Rows { d, values: vec![0.0; residual.values.len()] };
    let mut image = solution.clone();
    let mut scratch = vec![0.0; d];
    let mut energy = residual.products(&residual);
    let goal: Vec<f64> = energy.iter().map(|e| e * TOLERANCE * TOLERANCE).collect();
    for _ in 0..MAX_ITERATIONS {
        if energy.iter().zip(&goal).all(|(energy, goal)| energy <= goal) {
            return Some(solution);
        }
        let values = image.values.iter_mut().zip(&direction.values);
        values.for_each(|(image, value)| *image = ridge * value);
        for (entries, trust) in rows {
            scratch.fill(0.0);
            for &(place, value) in entries {
                let row = direction.row(place);
                scratch.iter_mut().zip(row).for_each(|(sum, x)| *sum += value * x);
            }
            for &(place, value) in entries {
                let row = image.row_mut(place).iter_mut();
                row.zip(&scratch).for_each(|(image, x)| *image += trust * value * x);
            }
        }
        let step = quotients(&energy, &direction.products(&image));
        let back: Vec<f64> = step.iter().map(|step| -step).collect();
        solution.add_scaled(&step, &direction);
        residual.add_scaled(&back, &image);
        let left = residual.products(&residual);
        let turn = quotients(&left, &energy);
        let rows = direction.values.chunks_exact_mut(d).zip(residual.values.chunks_exact(d));
        for (direction, residual) in rows {
            let parts = direction.iter_mut().zip(residual).zip(&turn);
            parts.for_each(|((value, residual), turn)| *value = residual + turn * *value);
        }
        energy = left;
    }
    None
}

/// a/b; 0 where b is 0, which is where a component is solved exactly.
fn quotients(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| if *b > 0.0 { a / b } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests;

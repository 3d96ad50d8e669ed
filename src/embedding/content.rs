//! From what an item is to where its vector begins: ridge regression of trained vectors on hashed
//! content features (feature hashing: Weinberger et al., ICML 2009).
//!
//! An item's features are hashed into `buckets` columns and scaled to length 1, so that many tags
//! do not count more than few; item i with n_i interactions weighs n_i/(n_i + n_0), since vectors
//! trained on few users are mostly noise. The map is B = (XᵀWX + λI)⁻¹ XᵀWT, found by conjugate
//! gradients (Golub and Van Loan, 11.3): rows of X have some ten entries, so an iteration reads
//! those only and nothing of buckets × buckets is ever held.

use super::online::EmbeddingError;
use crate::ids::stable_hash;
use crate::model::vector::axpy;
use crate::model::{Dim, Vectors};

/// Interactions at which a trained vector counts half.
const HALF_TRUST: f32 = 5.0;
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
        let columns = config.buckets as usize + 1;
        let mut rows = Vec::new();
        let mut right = Vectors::zeros(dim, columns);
        for (features, vector, interactions) in items {
            let hashed = Hashed::new(features, config.buckets);
            let trust = interactions as f32 / (interactions as f32 + HALF_TRUST);
            for &(column, value) in &hashed.entries {
                axpy(trust * value, vector, right.row_mut(column as usize));
            }
            rows.push((hashed, trust));
        }
        let mut weights = Vectors::zeros(dim, columns);
        if !conjugate_gradients(&rows, config.ridge, right, &mut weights) {
            return Err(setting("ridge", ridge, "larger: the fit does not converge"));
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

/// Solves (XᵀWX + λI) B = R from B = 0, every component of the vectors at once with step lengths
/// of its own. `residual` begins as R. Whether it converged.
fn conjugate_gradients(
    rows: &[(Hashed, f32)],
    ridge: f32,
    mut residual: Vectors,
    solution: &mut Vectors,
) -> bool {
    let d = residual.dim().get();
    let mut direction = residual.clone();
    let mut image = Vectors::zeros(residual.dim(), residual.len());
    let mut scratch = vec![0.0; d];
    let mut energy = column_products(&residual, &residual);
    let goal: Vec<f64> = energy.iter().map(|e| e * TOLERANCE * TOLERANCE).collect();
    for _ in 0..MAX_ITERATIONS {
        if energy.iter().zip(&goal).all(|(energy, goal)| energy <= goal) {
            return true;
        }
        for row in 0..image.len() {
            let target = image.row_mut(row).iter_mut();
            target.zip(direction.row(row)).for_each(|(image, value)| *image = ridge * value);
        }
        for (hashed, trust) in rows {
            scratch.fill(0.0);
            hashed.times(&direction, &mut scratch);
            for &(column, value) in &hashed.entries {
                axpy(trust * value, &scratch, image.row_mut(column as usize));
            }
        }
        let curvature = column_products(&direction, &image);
        let step = quotients(&energy, &curvature);
        let back: Vec<f32> = step.iter().map(|step| -step).collect();
        for row in 0..image.len() {
            add_scaled(&step, direction.row(row), solution.row_mut(row));
            add_scaled(&back, image.row(row), residual.row_mut(row));
        }
        let left = column_products(&residual, &residual);
        let turn = quotients(&left, &energy);
        for row in 0..image.len() {
            let parts = direction.row_mut(row).iter_mut().zip(residual.row(row)).zip(&turn);
            parts.for_each(|((value, residual), turn)| *value = residual + turn * *value);
        }
        energy = left;
    }
    false
}

/// `y_k += alpha_k · x_k`.
fn add_scaled(alpha: &[f32], x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(alpha.iter().zip(x)).for_each(|(y, (alpha, x))| *y += alpha * x);
}

/// Σ_rows a_k b_k for each component k.
fn column_products(a: &Vectors, b: &Vectors) -> Vec<f64> {
    let mut sums = vec![0.0; a.dim().get()];
    for (a, b) in a.rows().zip(b.rows()) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    sums
}

/// a/b; 0 where b is 0, which is where a component is solved exactly.
fn quotients(a: &[f64], b: &[f64]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| if *b > 0.0 { (a / b) as f32 } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests;

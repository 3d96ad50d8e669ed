//! Dense vectors of f32. Every sum runs in eight fixed lanes and ends in one fixed tree, so that
//! the compiler may use SIMD and the same input gives the same bytes on every machine of an
//! architecture. Products are never fused with sums, whatever the machine could do.

use super::ModelError;

/// Lanes of a sum: two SSE or NEON registers, one of AVX.
pub const LANES: usize = 8;

/// The number of components of a vector: a multiple of [`LANES`], up to [`Dim::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dim(usize);

impl Dim {
    /// Most components. Training costs their cube by item; a larger number is a damaged file.
    pub const MAX: usize = 1024;
    /// 64: what was measured; 128 gains little on data of this size and doubles all costs.
    pub const DEFAULT: Dim = Dim(64);
    /// 128: for a trainer to try.
    pub const LONG: Dim = Dim(128);

    /// # Errors
    /// [`ModelError::Dim`] where `components` is not a multiple of 8 in `8..=1024`.
    pub fn new(components: usize) -> Result<Self, ModelError> {
        let fits = components.is_multiple_of(LANES) && (LANES..=Self::MAX).contains(&components);
        if fits { Ok(Self(components)) } else { Err(ModelError::Dim { components }) }
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0
    }
}

/// Rows of one dimension, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    dim: Dim,
    values: Vec<f32>,
}

impl Vectors {
    /// `rows` rows of zeros.
    pub fn zeros(dim: Dim, rows: usize) -> Self {
        Self { dim, values: vec![0.0; dim.get() * rows] }
    }

    /// Rows from their values, one row after the other.
    ///
    /// # Errors
    /// [`ModelError::Shape`] where the last row is not whole.
    pub fn from_values(dim: Dim, values: Vec<f32>) -> Result<Self, ModelError> {
        if !values.len().is_multiple_of(dim.get()) {
            return Err(ModelError::Shape { what: "values", given: values.len(), of: dim.get() });
        }
        Ok(Self { dim, values })
    }

    /// Components of a row.
    pub fn dim(&self) -> Dim {
        self.dim
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.get()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One row. Panics where it is not there, like indexing a slice.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim.get()..][..self.dim.get()]
    }

    /// One row, to change.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.dim.get()..][..self.dim.get()]
    }

    /// All rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim.get())
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// Inner product of two vectors of one length.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += a * b;
    }
    sum(&lanes)
}

fn sum(l: &[f32; LANES]) -> f32 {
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

/// `y += alpha · x`, for two vectors of one length.
#[inline]
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    debug_assert_eq!(x.len(), y.len());
    for (y, x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        (0usize..100).prop_flat_map(|n| {
            let values = || proptest::collection::vec(-10.0f32..10.0, n);
            (values(), values())
        })
    }

    proptest! {
        #[test]
        fn an_inner_product_is_the_sum_of_products((a, b) in pair()) {
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let size: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a * b).abs()).sum();
            prop_assert!((f64::from(dot(&a, &b)) - exact).abs() <= 1e-6 * size + 1e-30);
        }

        #[test]
        fn axpy_adds_a_multiple((x, y) in pair(), alpha in -3.0f32..3.0) {
            let mut sum = y.clone();
            axpy(alpha, &x, &mut sum);
            for i in 0..x.len() {
                prop_assert_eq!(sum[i], y[i] + alpha * x[i]);
            }
        }
    }

    #[test]
    fn the_order_of_a_sum_is_fixed() {
        // Values whose sum depends on the order; the bits were worked out by hand from the tree.
        let a: Vec<f32> = (0..16).map(|i| 1.0 + (i as f32) * 1e-3).collect();
        let b: Vec<f32> = (0..16).map(|i| if i % 2 == 0 { 1e6 } else { -1e6 + i as f32 }).collect();
        let l: Vec<f32> = (0..8).map(|i| a[i] * b[i] + a[i + 8] * b[i + 8]).collect();
        let tree = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
        assert_eq!(dot(&a, &b).to_bits(), tree.to_bits());
    }

    #[test]
    fn a_dimension_is_a_multiple_of_eight() {
        assert_eq!(Dim::new(64).unwrap(), Dim::DEFAULT);
        for wrong in [0, 4, 12, 63, 1032] {
            let text = Dim::new(wrong).unwrap_err().to_string();
            assert!(text.contains(&wrong.to_string()) && text.contains("multiple of 8"), "{text}");
        }
        assert!(Vectors::from_values(Dim::DEFAULT, vec![0.0; 65]).is_err());
    }
}

//! Cholesky factorisation A = UᵀU of a symmetric positive definite matrix, and solving with it
//! (Golub and Van Loan, "Matrix Computations", 4.2). Dense, row-major, n × n, of which only the
//! upper triangle is read and written. Right-looking: its inner loops add a multiple of a row,
//! which SIMD does without a sum across lanes.

use super::vector::{axpy, dot};

/// A pivot was not positive: the matrix is not positive definite, or not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotPositiveDefinite;

/// Puts U over the upper triangle of `a`.
pub(super) fn factor(a: &mut [f32], n: usize) -> Result<(), NotPositiveDefinite> {
    for k in 0..n {
        let (above, below) = a.split_at_mut((k + 1) * n);
        let row = &mut above[k * n + k..];
        let pivot = row[0].sqrt();
        if !(pivot > 0.0 && pivot.is_finite()) {
            return Err(NotPositiveDefinite);
        }
        row.iter_mut().for_each(|value| *value /= pivot);
        for (i, target) in below.chunks_exact_mut(n).enumerate() {
            let from = &row[i + 1..];
            axpy(-from[0], from, &mut target[k + 1 + i..]);
        }
    }
    Ok(())
}

/// Solves A x = b in place, with the factor of [`factor`].
pub(super) fn solve(factor: &[f32], n: usize, b: &mut [f32]) {
    for k in 0..n {
        let row = &factor[k * n + k..(k + 1) * n];
        let (head, rest) = b[k..].split_at_mut(1);
        head[0] /= row[0];
        axpy(-head[0], &row[1..], rest);
    }
    for k in (0..n).rev() {
        let row = &factor[k * n + k..(k + 1) * n];
        b[k] = (b[k] - dot(&row[1..], &b[k + 1..])) / row[0];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_solution_put_back_gives_the_right_side(
            n in 1usize..40,
            values in proptest::collection::vec(-1.0f32..1.0, 40 * 40 + 40),
        ) {
            // BᵀB + I is positive definite.
            let b = |i: usize, j: usize| values[i * n + j];
            let a: Vec<f32> = (0..n * n)
                .map(|at| {
                    let (i, j) = (at / n, at % n);
                    (0..n).map(|k| b(k, i) * b(k, j)).sum::<f32>() + f32::from(u8::from(i == j))
                })
                .collect();
            let right = &values[40 * 40..][..n];
            let (mut upper, mut x) = (a.clone(), right.to_vec());
            prop_assert!(factor(&mut upper, n).is_ok());
            solve(&upper, n, &mut x);
            for i in 0..n {
                let back: f32 = (0..n).map(|j| a[i * n + j] * x[j]).sum();
                prop_assert!((back - right[i]).abs() < 2e-3, "{back} {}", right[i]);
            }
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_is_refused() {
        for a in [[1.0, 2.0, 2.0, 1.0], [0.0; 4], [f32::NAN; 4], [f32::INFINITY, 0.0, 0.0, 1.0]] {
            assert_eq!(factor(&mut a.clone(), 2), Err(NotPositiveDefinite));
        }
    }
}

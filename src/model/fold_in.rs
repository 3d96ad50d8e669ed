//! The user vector that fits a history best, the item vectors being given: weighted ridge
//! regression, as one half step of implicit ALS (Hu, Koren and Volinsky, ICDM 2008).
//!
//! Along the principal axes of the items, the penalty Σ a_k u_k² is diagonal. Scaled by a_k^−½ it
//! is the unit matrix, and what is left is, for the n scaled vectors P with the square roots r of
//! their weights, either n or d equations, whichever are fewer:
//! u = Pᵀ y with (I + PPᵀ) y = r, or (I + PᵀP) u = Pᵀ r.

use super::cholesky;
use super::principal::{add_outer, for_each_four};
use super::vector::{Dim, axpy, dot};

/// A solver with its scratch memory: one a thread, used again and again.
#[derive(Clone, Debug)]
pub struct FoldIn {
    dim: usize,
    /// a_k^−½ by axis.
    scale: Vec<f32>,
    /// Scaled vectors times the roots of their weights, at most d.
    rows: Vec<f32>,
    roots: Vec<f32>,
    /// PPᵀ or PᵀP, upper triangle.
    matrix: Vec<f32>,
    solution: Vec<f32>,
    user: Vec<f32>,
    /// Whether there were more vectors than dimensions, so that `matrix` is PᵀP already.
    many: bool,
}

impl FoldIn {
    pub(super) fn new(dim: Dim) -> Self {
        let d = dim.get();
        Self {
            dim: d,
            scale: vec![1.0; d],
            rows: Vec::with_capacity(d * d),
            roots: Vec::with_capacity(d),
            matrix: vec![0.0; d * d],
            solution: vec![0.0; d],
            user: vec![0.0; d],
            many: false,
        }
    }

    /// Sets the penalty a_k = `unobserved` · `energies`_k + `ridge`; `ridge` > 0.
    pub(super) fn set_penalty(&mut self, energies: &[f32], unobserved: f32, ridge: f32) {
        for (scale, energy) in self.scale.iter_mut().zip(energies) {
            *scale = 1.0 / (unobserved * energy + ridge).sqrt();
        }
    }

    /// The vector u that minimises Σ_j w_j (1 − u·t_j)² + Σ_k a_k u_k² over pairs (t_j, w_j) of
    /// item vectors and weights ≥ 0. The vectors may be any (frozen or live) of the dimension and
    /// along the axes of the basis that made this solver. docs/benchmarks.md has its time.
    ///
    /// None where that is the zero vector: no history, or none that was ever trained; and where
    /// a vector or weight is not finite.
    pub fn user<'v>(
        &mut self,
        history: impl IntoIterator<Item = (&'v [f32], f32)>,
    ) -> Option<&[f32]> {
        self.rows.clear();
        self.roots.clear();
        self.many = false;
        for (vector, weight) in history {
            self.push(vector, weight);
        }
        let solved = if self.many { self.solve_many() } else { self.solve_few() };
        let length = dot(&self.user, &self.user);
        (solved && length > 0.0 && length.is_finite()).then_some(&self.user)
    }

    fn push(&mut self, vector: &[f32], weight: f32) {
        if self.roots.len() == self.dim {
            self.fold_rows();
        }
        let root = weight.sqrt();
        self.roots.push(root);
        self.rows.extend(vector.iter().zip(&self.scale).map(|(value, scale)| root * scale * value));
    }

    /// Moves the rows into the d × d equations.
    fn fold_rows(&mut self) {
        let d = self.dim;
        if !self.many {
            self.many = true;
            self.matrix.clear();
            self.matrix.resize(d * d, 0.0);
            (0..d).for_each(|k| self.matrix[k * d + k] = 1.0);
            self.solution.clear();
            self.solution.resize(d, 0.0);
        }
        for_each_four(self.rows.chunks_exact(d), |rows| add_outer(rows, &mut self.matrix));
        for (row, root) in self.rows.chunks_exact(d).zip(&self.roots) {
            axpy(*root, row, &mut self.solution);
        }
        self.rows.clear();
        self.roots.clear();
    }

    fn solve_many(&mut self) -> bool {
        self.fold_rows();
        if cholesky::factor(&mut self.matrix, self.dim).is_err() {
            return false;
        }
        cholesky::solve(&self.matrix, self.dim, &mut self.solution);
        self.user.copy_from_slice(&self.solution);
        self.unscale();
        true
    }

    fn solve_few(&mut self) -> bool {
        let (d, n) = (self.dim, self.roots.len());
        self.matrix.clear();
        self.matrix.resize(n * n, 0.0);
        for i in 0..n {
            let out = &mut self.matrix[i * n + i..(i + 1) * n];
            let row = &self.rows[i * d..][..d];
            let others = self.rows[i * d..].chunks_exact(d);
            out.iter_mut().zip(others).for_each(|(out, other)| *out = dot(row, other));
            out[0] += 1.0;
        }
        if cholesky::factor(&mut self.matrix, n).is_err() {
            return false;
        }
        cholesky::solve(&self.matrix, n, &mut self.roots);
        self.user.fill(0.0);
        for (row, y) in self.rows.chunks_exact(d).zip(&self.roots) {
            axpy(*y, row, &mut self.user);
        }
        self.unscale();
        true
    }

    fn unscale(&mut self) {
        self.user.iter_mut().zip(&self.scale).for_each(|(value, scale)| *value *= scale);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The normal equations in f64, by Gaussian elimination without any of the tricks.
    fn naive(rows: &[&[f32]], weights: &[f32], penalty: &[f32]) -> Vec<f64> {
        let d = penalty.len();
        let mut m = vec![vec![0.0f64; d + 1]; d];
        for i in 0..d {
            m[i][i] = f64::from(penalty[i]);
            for (row, w) in rows.iter().zip(weights) {
                for j in 0..d {
                    m[i][j] += f64::from(*w) * f64::from(row[i]) * f64::from(row[j]);
                }
                m[i][d] += f64::from(*w) * f64::from(row[i]);
            }
        }
        for k in 0..d {
            let pivot = m[k].clone();
            for row in m.iter_mut().skip(k + 1) {
                let factor = row[k] / pivot[k];
                row.iter_mut().zip(&pivot).for_each(|(value, p)| *value -= factor * p);
            }
        }
        let mut x = vec![0.0; d];
        for k in (0..d).rev() {
            let known: f64 = (k + 1..d).map(|j| m[k][j] * x[j]).sum();
            x[k] = (m[k][d] - known) / m[k][k];
        }
        x
    }

    proptest! {
        #[test]
        fn both_forms_solve_the_normal_equations(
            n in 1usize..80,
            values in proptest::collection::vec(-1.0f32..1.0, 80 * 24),
            weights in proptest::collection::vec(0.0f32..1.0, 80),
            energies in proptest::collection::vec(0.0f32..50.0, 24),
            ridge in 0.05f32..2.0,
        ) {
            let dim = Dim::new(24).unwrap();
            let rows: Vec<&[f32]> = values.chunks(24).take(n).collect();
            let mut solver = FoldIn::new(dim);
            solver.set_penalty(&energies, 0.1, ridge);
            // What the scratch held before must not show.
            solver.user(values.chunks(24).map(|row| (row, 0.5)));
            let user = solver.user(rows.iter().copied().zip(weights.iter().copied())).unwrap();
            let penalty: Vec<f32> = energies.iter().map(|e| 0.1 * e + ridge).collect();
            for (got, wanted) in user.iter().zip(naive(&rows, &weights[..n], &penalty)) {
                prop_assert!((f64::from(*got) - wanted).abs() < 2e-3 * (1.0 + wanted.abs()));
            }
        }
    }

    #[test]
    fn nothing_known_gives_no_user() {
        let mut solver = FoldIn::new(Dim::DEFAULT);
        solver.set_penalty(&[0.0; 64], 0.1, 1.0);
        let (zero, not_a_number) = ([0.0; 64], [f32::NAN; 64]);
        assert_eq!(solver.user([]), None);
        assert_eq!(solver.user([(&zero[..], 1.0), (&zero[..], 0.5)]), None);
        assert_eq!(solver.user([(&not_a_number[..], 1.0)]), None);
        assert_eq!(solver.user([(&[1.0; 64][..], 0.0)]), None);
        assert!(solver.user([(&[1.0; 64][..], 1.0)]).is_some());
    }
}

//! Principal axes of a set of vectors: the Gram matrix G = TᵀT and its eigenvectors. A factor model
//! scores by inner products, so it stays the same when all its vectors are turned; along the
//! principal axes G is diagonal, and so is every matrix a·G + b·I that a solve needs.

use super::parallel;
use super::vector::Vectors;

/// Rows summed in f32 before the sum goes on in f64. Fixed, not by the number of threads, so that
/// the result does not depend on it.
const BLOCK: usize = 1_024;

/// G = TᵀT, d × d, row-major.
fn gram(vectors: &Vectors, threads: usize) -> Vec<f64> {
    let d = vectors.dim().get();
    let blocks: Vec<&[f32]> = vectors.values().chunks(BLOCK * d).collect();
    let mut partial = vec![Vec::new(); blocks.len()];
    let work = partial.iter_mut().zip(&blocks);
    parallel::each(
        threads,
        work,
        || (),
        |(), (out, block)| {
            *out = vec![0.0f32; d * d];
            for_each_four(block.chunks_exact(d), |rows| add_outer(rows, out));
        },
    );
    let mut total = vec![0.0; d * d];
    for block in partial {
        total.iter_mut().zip(block).for_each(|(sum, part)| *sum += f64::from(part));
    }
    for i in 0..d {
        for j in 0..i {
            total[i * d + j] = total[j * d + i];
        }
    }
    total
}

/// Calls `run` with four rows at a time; at the end the missing ones are empty.
pub(super) fn for_each_four<'a>(
    rows: impl Iterator<Item = &'a [f32]>,
    mut run: impl FnMut([&'a [f32]; 4]),
) {
    let mut four: [&[f32]; 4] = [&[]; 4];
    let mut filled = 0;
    for row in rows {
        four[filled] = row;
        filled += 1;
        if filled == 4 {
            run(four);
            four = [&[]; 4];
            filled = 0;
        }
    }
    if filled > 0 {
        run(four);
    }
}

/// Adds Σ r rᵀ of up to four rows to the upper triangle of `out` (d × d, row-major). Four at a
/// time, since each pass over `out` costs more than the products.
pub(super) fn add_outer(rows: [&[f32]; 4], out: &mut [f32]) {
    let [a, b, c, e] = rows;
    let d = a.len();
    if e.is_empty() {
        for row in [a, b, c].into_iter().filter(|row| !row.is_empty()) {
            for (i, out) in out.chunks_exact_mut(d).enumerate() {
                super::vector::axpy(row[i], &row[i..], &mut out[i..]);
            }
        }
        return;
    }
    for (i, out) in out.chunks_exact_mut(d).enumerate() {
        let (fa, fb, fc, fe) = (a[i], b[i], c[i], e[i]);
        let left = a[i..].iter().zip(&b[i..]).zip(c[i..].iter().zip(&e[i..]));
        for (out, ((a, b), (c, e))) in out[i..].iter_mut().zip(left) {
            *out += (fa * a + fb * b) + (fc * c + fe * e);
        }
    }
}

/// Turns all vectors to their principal axes, the strongest first, in place. Gives the energy of
/// each axis: the d eigenvalues of G, never negative.
pub(super) fn turn(vectors: &mut Vectors, threads: usize) -> Vec<f32> {
    let d = vectors.dim().get();
    let (energies, axes) = eigen(gram(vectors, threads), d);
    let work = vectors.values_mut().chunks_mut(BLOCK * d);
    parallel::each(
        threads,
        work,
        || vec![0.0; d],
        |turned, block| {
            for row in block.chunks_exact_mut(d) {
                turned.fill(0.0);
                for (value, axis_parts) in row.iter().zip(axes.chunks_exact(d)) {
                    super::vector::axpy(*value, axis_parts, turned);
                }
                row.copy_from_slice(turned);
            }
        },
    );
    energies
}

/// Eigenvalues, largest first, and the matrix Q whose columns are the eigenvectors (row-major), of
/// a symmetric matrix: cyclic Jacobi rotations (Golub and Van Loan, 8.5). Of each eigenvector the
/// largest component is positive, so that the result is unique where eigenvalues differ.
fn eigen(mut a: Vec<f64>, d: usize) -> (Vec<f32>, Vec<f32>) {
    // Row k of `q` is the k-th eigenvector: rotations then work on rows.
    let mut q: Vec<f64> = (0..d * d).map(|at| f64::from(u8::from(at / d == at % d))).collect();
    let size: f64 = a.iter().map(|value| value * value).sum();
    // Converges quadratically: 64 dimensions take some 8 sweeps.
    for _ in 0..40 {
        let off: f64 = (0..d * d).filter(|at| at / d != at % d).map(|at| a[at] * a[at]).sum();
        if off <= 1e-22 * size {
            break;
        }
        for p in 0..d {
            for r in p + 1..d {
                rotate(&mut a, &mut q, d, p, r);
            }
        }
    }
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|&i, &j| a[j * d + j].total_cmp(&a[i * d + i]));
    let energies = order.iter().map(|&k| a[k * d + k].max(0.0) as f32).collect();
    let mut axes = vec![0.0; d * d];
    for (column, &k) in order.iter().enumerate() {
        let axis = &q[k * d..][..d];
        let largest = axis.iter().fold(0.0f64, |m, &v| if v.abs() > m.abs() { v } else { m });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        for (row, value) in axis.iter().enumerate() {
            axes[row * d + column] = (sign * value) as f32;
        }
    }
    (energies, axes)
}

/// One rotation, after which a[p][r] is 0.
fn rotate(a: &mut [f64], q: &mut [f64], d: usize, p: usize, r: usize) {
    let off = a[p * d + r];
    if off == 0.0 {
        return;
    }
    let theta = (a[r * d + r] - a[p * d + p]) / (2.0 * off);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cos = 1.0 / (t * t + 1.0).sqrt();
    let sin = t * cos;
    let turn_rows = |m: &mut [f64]| {
        let (above, below) = m.split_at_mut(r * d);
        for (x, y) in above[p * d..][..d].iter_mut().zip(&mut below[..d]) {
            (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
        }
    };
    turn_rows(a);
    turn_rows(q);
    for row in a.chunks_exact_mut(d) {
        (row[p], row[r]) = (cos * row[p] - sin * row[r], sin * row[p] + cos * row[r]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vector::{Dim, dot};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn turned_vectors_keep_their_products_and_have_a_diagonal_gram(
            values in proptest::collection::vec(-1.0f32..1.0, 16 * 37),
            repeat in any::<bool>(),
        ) {
            let mut before = Vectors::from_values(Dim::new(16).unwrap(), values).unwrap();
            if repeat {
                // Fewer directions than dimensions: eigenvalues of zero.
                for row in 5..before.len() {
                    let copy = before.row(row % 5).to_vec();
                    before.row_mut(row).copy_from_slice(&copy);
                }
            }
            let mut after = before.clone();
            let energies = turn(&mut after, 2);
            prop_assert!(energies.is_sorted_by(|a, b| a >= b));
            for (i, j) in [(0, 0), (1, 7), (36, 2)] {
                let (was, is) = (dot(before.row(i), before.row(j)), dot(after.row(i), after.row(j)));
                prop_assert!((was - is).abs() < 1e-4, "{was} {is}");
            }
            let gram = gram(&after, 1);
            for (at, value) in gram.iter().enumerate() {
                let wanted = if at / 16 == at % 16 { f64::from(energies[at / 16]) } else { 0.0 };
                prop_assert!((value - wanted).abs() < 1e-3, "{at}: {value} {wanted}");
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_show() {
        let values = (0..8 * 5_000).map(|i| ((i * 7_919) % 1_009) as f32 / 1_009.0 - 0.4);
        let vectors = Vectors::from_values(Dim::new(8).unwrap(), values.collect()).unwrap();
        let turned = [1, 2, 7].map(|threads| {
            let mut vectors = vectors.clone();
            let energies = turn(&mut vectors, threads);
            (vectors, energies)
        });
        assert!(turned.iter().all(|other| *other == turned[0]));
    }
}

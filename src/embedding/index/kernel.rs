//! Inner products, compiled for what the machine has (AVX2, AVX-512, NEON) and chosen at run time.
//!
//! Sums of floats run over fixed lanes without fused multiply-add, so a score has the same bits on
//! every machine.

use fearless_simd::{Level, dispatch};

/// Vectors are padded with zeros to a multiple of this, so that no kernel has a remainder.
const LANES: usize = 16;

/// Components of a padded vector.
pub(super) fn padded(dimension: usize) -> usize {
    dimension.next_multiple_of(LANES)
}

/// The inner product of two padded vectors of one length.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    dispatch!(Level::new(), _simd => dot_lanes(a, b))
}

/// The Euclidean norm of components; summed in f64, where squares of small ones do not vanish.
pub(super) fn norm(components: impl Iterator<Item = f32>) -> f32 {
    components.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32
}

/// The inner products of the coded `query` and each row of `codes`, into `out`.
pub(super) fn code_dots(codes: &[i8], query: &[i16], out: &mut [i32]) {
    dispatch!(Level::new(), _simd => code_dots_rows(codes, query, out));
}

/// `out[i] = scales[i] × (by × dots[i] + plus) + errors[i] × norm`
pub(super) fn bounds(
    dots: &[i32],
    scales: &[f32],
    errors: &[f32],
    [by, plus, norm]: [f32; 3],
    out: &mut [f32],
) {
    dispatch!(Level::new(), _simd => bounds_rows(dots, scales, errors, [by, plus, norm], out));
}

#[inline(always)]
fn dot_lanes(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}

#[inline(always)]
fn code_dots_rows(codes: &[i8], query: &[i16], out: &mut [i32]) {
    for (row, out) in codes.chunks_exact(query.len()).zip(out) {
        *out = row.iter().zip(query).map(|(&c, &q)| i32::from(c) * i32::from(q)).sum();
    }
}

#[inline(always)]
fn bounds_rows(
    dots: &[i32],
    scales: &[f32],
    errors: &[f32],
    [by, plus, norm]: [f32; 3],
    out: &mut [f32],
) {
    for (((out, &dot), scale), error) in out.iter_mut().zip(dots).zip(scales).zip(errors) {
        *out = scale * (by * dot as f32 + plus) + error * norm;
    }
}

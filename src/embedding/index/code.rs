//! Vectors as bytes, with a bound on what that loses.
//!
//! A component is `scale × code` with a signed byte, the largest of a vector being ±127 (scalar
//! quantisation with a scale per vector). By Cauchy and Schwarz an inner product over the code is
//! off by at most |query| × |vector − code|, so a scan over codes that reads the full vector
//! wherever the bound allows a hit loses nothing. (Scores too small to be normal numbers aside.)

use super::kernel;

/// Relative slack for the rounding of sums in f32, of up to thousands of components.
const ROUNDING: f32 = 1e-4;

/// The largest component of a coded vector, in steps.
const LARGEST_CODE: f32 = 127.0;

/// Coded vectors as columns; a row of `codes` is a padded vector.
#[derive(Clone, Default)]
pub(super) struct Codes {
    codes: Vec<i8>,
    /// Value of one step of a row's codes.
    scales: Vec<f32>,
    /// At least |vector − scale × codes|, with room for rounding.
    errors: Vec<f32>,
}

/// Buffers of a scan, used for one table after the other.
#[derive(Default)]
pub(super) struct Buffer {
    dots: Vec<i32>,
    values: Vec<f32>,
}

impl Codes {
    pub(super) fn len(&self) -> usize {
        self.scales.len()
    }

    /// Components of a row.
    fn width(&self) -> usize {
        self.codes.len() / self.len()
    }

    pub(super) fn reserve_exact(&mut self, rows: usize, width: usize) {
        self.codes.reserve_exact(rows * width);
        self.scales.reserve_exact(rows);
        self.errors.reserve_exact(rows);
    }

    pub(super) fn push(&mut self, vector: &[f32]) {
        self.codes.resize(self.codes.len() + vector.len(), 0);
        self.scales.push(0.0);
        self.errors.push(0.0);
        self.put(self.len() - 1, vector);
    }

    pub(super) fn put(&mut self, row: usize, vector: &[f32]) {
        let codes = &mut self.codes[row * vector.len()..(row + 1) * vector.len()];
        let (scale, steps) = grid(vector, LARGEST_CODE);
        codes.iter_mut().zip(vector).for_each(|(code, x)| *code = (x * steps).round() as i8);
        let lost = codes.iter().zip(vector).map(|(&code, x)| x - scale * f32::from(code));
        self.scales[row] = scale;
        self.errors[row] = kernel::norm(lost) + ROUNDING * kernel::norm(vector.iter().copied());
    }

    pub(super) fn swap_remove(&mut self, row: usize) {
        let (last, width) = (self.len() - 1, self.width());
        self.codes.copy_within(last * width.., row * width);
        self.codes.truncate(last * width);
        self.scales.swap_remove(row);
        self.errors.swap_remove(row);
    }

    /// Half the squared norm of a row, as coded.
    pub(super) fn half_square(&self, row: usize) -> f32 {
        let width = self.width();
        let codes = &self.codes[row * width..(row + 1) * width];
        let square: i32 = codes.iter().map(|&code| i32::from(code) * i32::from(code)).sum();
        square as f32 * self.scales[row] * self.scales[row] / 2.0
    }

    /// Appends a row of another table.
    pub(super) fn push_row(&mut self, other: &Self, row: usize) {
        let width = other.width();
        self.codes.extend_from_slice(&other.codes[row * width..(row + 1) * width]);
        self.scales.push(other.scales[row]);
        self.errors.push(other.errors[row]);
    }

    /// For each row at least its inner product with the query.
    pub(super) fn upper_bounds<'a>(
        &self,
        query: &CodedQuery,
        buffer: &'a mut Buffer,
    ) -> &'a mut [f32] {
        self.products(query, query.slack, query.norm, buffer)
    }

    /// For each row its inner product with the query, as coded.
    pub(super) fn estimates<'a>(
        &self,
        query: &CodedQuery,
        buffer: &'a mut Buffer,
    ) -> &'a mut [f32] {
        self.products(query, 0.0, 0.0, buffer)
    }

    fn products<'a>(
        &self,
        query: &CodedQuery,
        slack: f32,
        norm: f32,
        Buffer { dots, values }: &'a mut Buffer,
    ) -> &'a mut [f32] {
        dots.resize(self.len(), 0);
        values.resize(self.len(), 0.0);
        kernel::code_dots(&self.codes, &query.codes, dots);
        kernel::bounds(dots, &self.scales, &self.errors, [query.scale, slack, norm], values);
        values
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.codes.capacity() + (self.scales.capacity() + self.errors.capacity()) * size_of::<f32>()
    }
}

/// The value of a step, and the steps to the unit, when the largest component is to be `steps`. A
/// vector too small to divide is taken for zero.
fn grid(vector: &[f32], steps: f32) -> (f32, f32) {
    let largest = vector.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = largest / steps;
    if scale.is_normal() { (scale, 1.0 / scale) } else { (0.0, 0.0) }
}

/// A query, coded finer than the items are: to 16 bits, as far as sums fit 32.
pub(super) struct CodedQuery {
    codes: Vec<i16>,
    scale: f32,
    /// What the query's own code may lose, for each step of an item's code.
    slack: f32,
    norm: f32,
}

impl CodedQuery {
    /// Codes a padded query.
    pub(super) fn new(query: &[f32]) -> Self {
        // One step less than would fit, for the rounding of the division.
        let most = (i32::MAX as f32 / LARGEST_CODE / query.len() as f32) - 1.0;
        let (scale, steps) = grid(query, most.min(f32::from(i16::MAX)).floor());
        let codes: Vec<i16> = query.iter().map(|x| (x * steps) as i16).collect();
        let lost = query.iter().zip(&codes).map(|(x, &code)| x - scale * f32::from(code));
        let longest_code = LARGEST_CODE * (query.len() as f32).sqrt();
        let slack = kernel::norm(lost) * longest_code;
        Self { codes, scale, slack, norm: kernel::norm(query.iter().copied()) }
    }

    /// The Euclidean norm of the query.
    pub(super) fn norm(&self) -> f32 {
        self.norm
    }
}

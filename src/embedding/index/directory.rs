//! Which cells there are, and where they lie.

use std::collections::BinaryHeap;
use std::sync::{Arc, RwLock};

use super::cell::Cell;
use super::code::{Buffer, CodedQuery, Codes};

/// A cell, shared by the directories that list it. A directory is never changed once published,
/// cells are.
pub(super) type SharedCell = Arc<RwLock<Cell>>;

/// Where a cell's items lie, as of when it was last centred.
pub(super) struct Place {
    /// Mean of the cell's vectors, padded.
    pub(super) centroid: Vec<f32>,
    /// Root mean square distance from the mean, for each dimension.
    pub(super) spread: f32,
}

/// Centroids, coded as items are: nearest up to what the code loses, at a quarter of the memory.
#[derive(Clone, Default)]
pub(super) struct Centroids {
    codes: Codes,
    half_squares: Vec<f32>,
}

impl Centroids {
    fn put(&mut self, at: usize, centroid: &[f32]) {
        if at == self.codes.len() {
            self.codes.push(centroid);
            self.half_squares.push(0.0);
        } else {
            self.codes.put(at, centroid);
        }
        self.half_squares[at] = self.codes.half_square(at);
    }

    fn swap_remove(&mut self, at: usize) {
        self.codes.swap_remove(at);
        self.half_squares.swap_remove(at);
    }

    /// Some of them.
    pub(super) fn subset(&self, rows: &[usize]) -> Self {
        let mut subset = Self::default();
        for &row in rows {
            subset.codes.push_row(&self.codes, row);
            subset.half_squares.push(self.half_squares[row]);
        }
        subset
    }

    /// For each centroid c and a vector v: v·c − |c|²/2, which falls as |v − c|² grows.
    fn nearness<'a>(&self, v: &CodedQuery, buffer: &'a mut Buffer) -> &'a [f32] {
        let near = self.codes.estimates(v, buffer);
        near.iter_mut().zip(&self.half_squares).for_each(|(dot, half)| *dot -= half);
        near
    }

    /// The centroid nearest to a vector; the first of equals.
    pub(super) fn nearest(&self, vector: &CodedQuery, buffer: &mut Buffer) -> usize {
        self.nearest_unless(0, vector, buffer)
    }

    /// The centroid nearest to a vector; `own` where none is nearer, else the first of equals.
    pub(super) fn nearest_unless(
        &self,
        own: usize,
        vector: &CodedQuery,
        buffer: &mut Buffer,
    ) -> usize {
        let near = self.nearness(vector, buffer);
        let mut best = (own, near[own]);
        for (at, near) in near.iter().enumerate() {
            if *near > best.1 {
                best = (at, *near);
            }
        }
        best.0
    }

    /// The `count` centroids nearest to a vector, in no order.
    pub(super) fn nearest_few(
        &self,
        vector: &CodedQuery,
        count: usize,
        buffer: &mut Buffer,
    ) -> Vec<usize> {
        let near = self.nearness(vector, buffer).iter().enumerate();
        let mut keys: Vec<u64> = near.map(|(at, near)| key(*near, at as u32)).collect();
        if count < keys.len() {
            keys.select_nth_unstable_by(count, |a, b| b.cmp(a));
            keys.truncate(count);
        }
        keys.into_iter().map(|key| unkey(key).1).collect()
    }
}

/// All cells of an index, with the columns that a search needs to rank them.
#[derive(Clone, Default)]
pub(super) struct Directory {
    pub(super) centroids: Centroids,
    spreads: Vec<f32>,
    cells: Vec<SharedCell>,
}

impl Directory {
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn cell(&self, at: usize) -> &SharedCell {
        &self.cells[at]
    }

    /// Puts a cell in place of another, or at the end.
    pub(super) fn put(&mut self, at: usize, cell: Cell, place: &Place) {
        let cell = Arc::new(RwLock::new(cell));
        if at == self.len() {
            self.cells.push(cell);
            self.spreads.push(0.0);
        } else {
            self.cells[at] = cell;
        }
        self.centre(at, place);
    }

    /// Takes a cell out; the last one takes its place.
    pub(super) fn swap_remove(&mut self, at: usize) -> SharedCell {
        self.centroids.swap_remove(at);
        self.spreads.swap_remove(at);
        self.cells.swap_remove(at)
    }

    /// Says anew where a cell lies.
    pub(super) fn centre(&mut self, at: usize, place: &Place) {
        self.centroids.put(at, &place.centroid);
        self.spreads[at] = place.spread;
    }

    /// The cells in the order of what their best item may score: centroid plus `reach` standard
    /// deviations of an isotropic cell.
    pub(super) fn ranked(&self, query: &CodedQuery, reach: f32, buffer: &mut Buffer) -> Ranked {
        let reach = reach * query.norm();
        let scores = self.centroids.codes.estimates(query, buffer).iter().zip(&self.spreads);
        // Infinity times a spread or norm of zero is no number, and hoped for without limit too.
        let hoped = scores.map(|(dot, spread)| dot + reach * spread);
        let hoped = hoped.map(|hoped| if hoped.is_nan() { f32::INFINITY } else { hoped });
        Ranked(hoped.enumerate().map(|(at, hoped)| key(hoped, at as u32)).collect())
    }

    /// Memory held, in bytes, without the cells.
    pub(super) fn bytes(&self) -> usize {
        self.centroids.codes.bytes()
            + (self.centroids.half_squares.capacity() + self.spreads.capacity()) * size_of::<f32>()
            + self.cells.capacity() * size_of::<SharedCell>()
    }
}

/// Cells still to be probed, the most promising first.
pub(super) struct Ranked(BinaryHeap<u64>);

impl Iterator for Ranked {
    type Item = (f32, usize);

    fn next(&mut self) -> Option<(f32, usize)> {
        self.0.pop().map(unkey)
    }
}

/// A number that orders as (score, then smaller cell).
fn key(score: f32, at: u32) -> u64 {
    let bits = score.to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(!at)
}

fn unkey(key: u64) -> (f32, usize) {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
    (f32::from_bits(bits), !(key as u32) as usize)
}

//! A cell: up to a few hundred items near one centroid, as columns.

use super::code::{Buffer, CodedQuery, Codes};
use super::kernel;
use super::top::Top;
use crate::global::ItemHandle;

/// Items of one cell. Row i of each column is one item; vectors are padded.
#[derive(Default)]
pub(super) struct Cell {
    items: Vec<ItemHandle>,
    codes: Codes,
    vectors: Vec<f32>,
}

/// Bounds that are looked at together: where none reaches the floor, all are passed over.
const BLOCK: usize = 16;

impl Cell {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn items(&self) -> &[ItemHandle] {
        &self.items
    }

    pub(super) fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    pub(super) fn row_of(&self, item: ItemHandle) -> Option<usize> {
        self.items.iter().position(|i| *i == item)
    }

    pub(super) fn vector(&self, row: usize) -> &[f32] {
        let width = self.vectors.len() / self.items.len();
        &self.vectors[row * width..(row + 1) * width]
    }

    pub(super) fn push(&mut self, item: ItemHandle, vector: &[f32]) {
        self.make_room(vector.len());
        self.items.push(item);
        self.codes.push(vector);
        self.vectors.extend_from_slice(vector);
    }

    /// Adds a row of another cell.
    pub(super) fn push_row(&mut self, other: &Self, row: usize) {
        let vector = other.vector(row);
        self.make_room(vector.len());
        self.items.push(other.items[row]);
        self.codes.push_row(&other.codes, row);
        self.vectors.extend_from_slice(vector);
    }

    /// Grows by an eighth: doubling would leave a quarter of all cells' memory unused.
    fn make_room(&mut self, width: usize) {
        if self.items.len() == self.items.capacity() {
            let more = self.items.len() / 8 + 8;
            self.items.reserve_exact(more);
            self.codes.reserve_exact(more, width);
            self.vectors.reserve_exact(more * width);
        }
    }

    pub(super) fn replace(&mut self, row: usize, vector: &[f32]) {
        self.codes.put(row, vector);
        self.vectors[row * vector.len()..(row + 1) * vector.len()].copy_from_slice(vector);
    }

    /// Takes an item out; the last row takes its place.
    pub(super) fn remove(&mut self, item: ItemHandle) {
        let Some(row) = self.row_of(item) else { return };
        let last = self.items.len() - 1;
        let width = self.vectors.len() / self.items.len();
        self.items.swap_remove(row);
        self.codes.swap_remove(row);
        self.vectors.copy_within(last * width.., row * width);
        self.vectors.truncate(last * width);
    }

    /// Offers `top` every item that passes `keep` and may belong there: by exact score, which is
    /// computed for those alone whose bound reaches the floor.
    pub(super) fn scan(
        &self,
        query: &[f32],
        coded: &CodedQuery,
        buffer: &mut Buffer,
        top: &mut Top,
        keep: &mut impl FnMut(ItemHandle) -> bool,
    ) {
        let bounds = self.codes.upper_bounds(coded, buffer);
        for (block, bounds) in bounds.chunks(BLOCK).enumerate() {
            if bounds.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b)) < top.floor() {
                continue;
            }
            for (row, bound) in (block * BLOCK..).zip(bounds) {
                if *bound >= top.floor() && keep(self.items[row]) {
                    top.push(self.items[row], kernel::dot(self.vector(row), query));
                }
            }
        }
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<ItemHandle>()
            + self.codes.bytes()
            + self.vectors.capacity() * size_of::<f32>()
    }
}

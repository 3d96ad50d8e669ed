//! The item index: the items whose vectors have the largest inner products with a query.
//!
//! Inner product and not cosine: models of implicit feedback put how popular an item is into its
//! vector's length, and score by the inner product. Who wants cosine normalises.
//!
//! **Cells.** Items lie in cells of up to a few hundred around a centroid (an inverted file, IVF,
//! as of Jégou et al. 2011), as bytes beside their full vectors. A search probes cells in the order
//! of what their best item may score, and stops where a cell is not likely to hold a better item
//! than those found ([`Reach`]). So it looks at few cells where items cluster, at many where they
//! do not, and further where a filter lets little through. Within what it probes it is exact, and
//! a small index is probed whole.
//!
//! **Writes.** Cells are locked one at a time, for microseconds. A full cell is cut in two, one
//! that is nearly empty dissolves, and items near such a change go to the nearest cell (after the
//! LIRE protocol of SPFresh, Xu et al. 2023); then a new directory of cells is published, while
//! searches under way finish on theirs. There is no training step, and no rebuild.

mod cell;
mod code;
mod directory;
mod kernel;
mod split;
#[cfg(test)]
mod tests;
mod top;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use thiserror::Error;

use crate::global::ItemHandle;
use code::{Buffer, CodedQuery};
use directory::Directory;
use top::Top;
use writer::Writer;

/// Most components of a vector; more would leave a coded query too few steps for sums of 32 bits.
pub const MAX_DIMENSION: usize = 4096;

/// Cells that every search probes: up to about 10,000 items in all it is therefore exact. More
/// makes small indexes slower than they need be, fewer loses recall where clusters cross cells.
const MIN_PROBES: usize = 32;

/// An item that a search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The item.
    pub item: ItemHandle,
    /// Inner product of its vector and the query, in f32; the same bits on every machine.
    pub score: f32,
}

/// How far a search looks: a cell is probed while its centroid's score plus this many standard
/// deviations of its items reaches the worst of the best found so far. See docs/benchmarks.md for
/// what recall costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach(pub f32);

impl Reach {
    /// Looks everywhere: nothing is missed.
    pub const EXACT: Self = Self(f32::INFINITY);
}

impl Default for Reach {
    /// Recall@100 of .96 or more on every kind of vectors that was measured, random ones too.
    fn default() -> Self {
        Self(4.0)
    }
}

/// Size of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexStats {
    /// Items that can be found.
    pub items: usize,
    /// Cells that they lie in.
    pub cells: usize,
    /// Memory held, in bytes, but for what searches under way hold.
    pub bytes: usize,
}

/// Why a vector or query was refused. The index is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IndexError {
    /// An index of no components, or of too many.
    #[error("an index has vectors of 1 to {MAX_DIMENSION} components, not {0}")]
    Dimension(usize),
    /// The vector is of another model, most likely.
    #[error("a vector of {given} components in an index of {expected}; is it of another model?")]
    Length {
        /// Components of the index's vectors.
        expected: usize,
        /// Components of this one.
        given: usize,
    },
    /// A component is NaN or infinite, or so large that the squared norm is.
    #[error("a vector that is not finite, or whose squared norm is not; drop it or clip it")]
    NotFinite,
}

/// The items of one model version, by vector. Any number of threads search while others write;
/// writes take turns.
pub struct ItemIndex {
    dimension: usize,
    directory: Published,
    writer: Mutex<Writer>,
}

/// The directory that searches take.
#[derive(Default)]
struct Published(RwLock<Arc<Directory>>);

impl Published {
    fn load(&self) -> Arc<Directory> {
        Arc::clone(&read(&self.0))
    }

    fn store(&self, directory: Arc<Directory>) {
        let old = std::mem::replace(&mut *write(&self.0), directory);
        // Only now that the lock is free: this may be the last hold on cells that are no more.
        drop(old);
    }
}

impl ItemIndex {
    /// An empty index of vectors of `dimension` components, 1 to [`MAX_DIMENSION`].
    pub fn new(dimension: usize) -> Result<Self, IndexError> {
        Self::with_cells(dimension, writer::FULL)
    }

    /// An empty index of cells of up to `full` items.
    fn with_cells(dimension: usize, full: usize) -> Result<Self, IndexError> {
        if !(1..=MAX_DIMENSION).contains(&dimension) {
            return Err(IndexError::Dimension(dimension));
        }
        let directory = Published::default();
        let writer = Mutex::new(Writer::new(kernel::padded(dimension), full, &directory));
        Ok(Self { dimension, directory, writer })
    }

    /// Components of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Adds an item, or replaces its vector. Searches that start later see it; one under way sees
    /// the old vector or the new one, or where both are in cells that it has passed, neither.
    pub fn upsert(&self, item: ItemHandle, vector: &[f32]) -> Result<(), IndexError> {
        let vector = self.padded(vector)?;
        lock(&self.writer).upsert(&self.directory, item, &vector);
        Ok(())
    }

    /// Takes an item out; whether it was there. No search that starts after this returns finds it.
    pub fn remove(&self, item: ItemHandle) -> bool {
        lock(&self.writer).remove(&self.directory, item)
    }

    /// The `k` items that pass `keep` with the largest inner products with `query`, best first,
    /// equals by smaller handle; fewer where fewer are found. `keep` is asked about those items
    /// only that may be among the best.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        reach: Reach,
        mut keep: impl FnMut(ItemHandle) -> bool,
    ) -> Result<Vec<Found>, IndexError> {
        let query = self.padded(query)?;
        let mut top = Top::new(k);
        if k == 0 {
            return Ok(top.into_sorted());
        }
        let coded = CodedQuery::new(&query);
        let mut buffer = Buffer::default();
        let directory = self.directory.load();
        let ranked = directory.ranked(&coded, reach.0, &mut buffer);
        for (probed, (hoped, cell)) in ranked.enumerate() {
            if probed >= MIN_PROBES && hoped < top.floor() {
                break;
            }
            read(directory.cell(cell)).scan(&query, &coded, &mut buffer, &mut top, &mut keep);
        }
        Ok(top.into_sorted())
    }

    /// The inner product of `query` with each of `items`, as a search would score it; none for an
    /// item that is not there. Waits for a write under way.
    pub fn scores(
        &self,
        query: &[f32],
        items: &[ItemHandle],
    ) -> Result<Vec<Option<f32>>, IndexError> {
        let query = self.padded(query)?;
        let writer = lock(&self.writer);
        let score = |item| writer.with_vector(item, |vector| kernel::dot(vector, &query));
        Ok(items.iter().map(|item| score(*item)).collect())
    }

    /// The vector of an item, of [`Self::dimension`] components. Waits for a write under way.
    pub fn vector(&self, item: ItemHandle) -> Option<Vec<f32>> {
        self.vectors(&[Some(item)]).pop().flatten()
    }

    /// The same of several; none for none.
    pub fn vectors(&self, items: &[Option<ItemHandle>]) -> Vec<Option<Vec<f32>>> {
        let writer = lock(&self.writer);
        let copy = |item| writer.with_vector(item, |vector| vector[..self.dimension].to_vec());
        items.iter().map(|item| item.and_then(copy)).collect()
    }

    /// Items, cells and memory. Looks at every cell: for a metric now and then.
    pub fn stats(&self) -> IndexStats {
        lock(&self.writer).stats()
    }

    /// A vector with the zeros that kernels want behind it.
    fn padded(&self, vector: &[f32]) -> Result<Vec<f32>, IndexError> {
        if vector.len() != self.dimension {
            let (expected, given) = (self.dimension, vector.len());
            return Err(IndexError::Length { expected, given });
        }
        let mut padded = Vec::with_capacity(kernel::padded(self.dimension));
        padded.extend_from_slice(vector);
        padded.resize(kernel::padded(self.dimension), 0.0);
        let square = kernel::dot(&padded, &padded);
        if square.is_finite() { Ok(padded) } else { Err(IndexError::NotFinite) }
    }
}

// What is locked is replaced or left in one step, so a panic elsewhere leaves nothing half done.

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(shared: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    shared.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(shared: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    shared.write().unwrap_or_else(PoisonError::into_inner)
}

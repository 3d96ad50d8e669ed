//! All that changes an index: one writer at a time.

use std::collections::HashMap;
use std::sync::Arc;

use super::cell::Cell;
use super::code::{Buffer, CodedQuery};
use super::directory::Directory;
use super::split::{SMALLEST_HALF, halves, place_of};
use super::{IndexStats, Published, read, write};
use crate::global::ItemHandle;

/// Items of a cell that is cut in two. Larger cells mean fewer centroids to compare with, but more
/// items to scan in each.
pub(super) const FULL: usize = 512;

/// Cells around a change among which items are put right. With 16, a build takes 1.5 times as
/// long for .001 of recall.
const NEIGHBOURS: usize = 8;

/// When a cell changes shape.
struct Limits {
    /// Items of a cell that is cut in two.
    full: usize,
    /// Items of a cell that takes no more from its neighbours, so that a cut makes room for a while
    /// even where all vectors are the same.
    room: usize,
    /// Items below which a cell dissolves: fewer than a cut leaves.
    sparse: usize,
    /// Writes to a cell after which its centroid is computed anew, and what lies around it put
    /// right.
    stale: u32,
}

/// The writer's side of an index.
pub(super) struct Writer {
    width: usize,
    limits: Limits,
    /// The published directory.
    directory: Arc<Directory>,
    /// Which cell each item is in.
    places: HashMap<ItemHandle, u32>,
    /// Writes to each cell since it was last centred.
    changes: Vec<u32>,
    buffer: Buffer,
}

impl Writer {
    /// A writer of vectors padded to `width`, in cells of up to `full` items; publishes a directory
    /// of one empty cell.
    pub(super) fn new(width: usize, full: usize, published: &Published) -> Self {
        let mut directory = Directory::default();
        directory.put(0, Cell::default(), &place_of(&[], width));
        let mut writer = Self {
            width,
            limits: Limits {
                full,
                room: full * 3 / 4,
                sparse: full / SMALLEST_HALF,
                stale: full as u32 / 2,
            },
            directory: Arc::default(),
            places: HashMap::new(),
            changes: Vec::new(),
            buffer: Buffer::default(),
        };
        writer.publish(published, directory);
        writer
    }

    /// Adds an item or replaces its vector, which is padded and finite.
    pub(super) fn upsert(&mut self, published: &Published, item: ItemHandle, vector: &[f32]) {
        let to = self.directory.centroids.nearest(&CodedQuery::new(vector), &mut self.buffer);
        let from = self.places.insert(item, to as u32).map(|from| from as usize);
        let length = {
            let mut cell = write(self.directory.cell(to));
            match cell.row_of(item).filter(|_| from == Some(to)) {
                Some(row) => cell.replace(row, vector),
                None => cell.push(item, vector),
            }
            cell.len()
        };
        // Only then out of the old cell, so that there is no moment in which it is in none.
        if let Some(from) = from.filter(|from| *from != to) {
            write(self.directory.cell(from)).remove(item);
            self.changes[from] += 1;
        }
        self.changes[to] += 1;
        if length >= self.limits.full {
            self.cut(published, to);
        } else if self.changes[to] >= self.limits.stale {
            self.recentre(published, to);
        }
        // Last, because it gives another cell this one's number.
        if let Some(from) = from.filter(|from| *from != to) {
            self.dissolve_if_sparse(published, from);
        }
    }

    /// Takes an item out; whether it was there.
    pub(super) fn remove(&mut self, published: &Published, item: ItemHandle) -> bool {
        let Some(from) = self.places.remove(&item) else { return false };
        let from = from as usize;
        write(self.directory.cell(from)).remove(item);
        self.changes[from] += 1;
        self.dissolve_if_sparse(published, from);
        true
    }

    /// Calls `look` with the padded vector of an item.
    pub(super) fn with_vector<T>(
        &self,
        item: ItemHandle,
        look: impl FnOnce(&[f32]) -> T,
    ) -> Option<T> {
        let at = *self.places.get(&item)? as usize;
        let cell = read(self.directory.cell(at));
        cell.row_of(item).map(|row| look(cell.vector(row)))
    }

    pub(super) fn stats(&self) -> IndexStats {
        let cells = self.directory.len();
        let held: usize = (0..cells).map(|at| read(self.directory.cell(at)).bytes()).sum();
        // A table of this many entries has 8/7 as many slots, rounded up to a power of two, of an
        // entry and a byte.
        let slots = (self.places.capacity() * 8 / 7).next_power_of_two();
        let places = slots * (size_of::<(ItemHandle, u32)>() + 1);
        let changes = self.changes.capacity() * size_of::<u32>();
        let bytes = held + self.directory.bytes() + places + changes;
        IndexStats { items: self.places.len(), cells, bytes }
    }

    fn publish(&mut self, published: &Published, directory: Directory) {
        self.changes.resize(directory.len(), 0);
        self.directory = Arc::new(directory);
        published.store(Arc::clone(&self.directory));
    }

    /// Cuts a cell in two.
    fn cut(&mut self, published: &Published, at: usize) {
        let mut directory = Directory::clone(&self.directory);
        let mut parts = [Cell::default(), Cell::default()];
        {
            let cell = read(self.directory.cell(at));
            for (row, right) in halves(cell.vectors(), self.width).into_iter().enumerate() {
                parts[usize::from(right)].push_row(&cell, row);
            }
        }
        let [left, right] = parts;
        for item in right.items() {
            self.places.insert(*item, directory.len() as u32);
        }
        let (left_place, right_place) =
            (place_of(left.vectors(), self.width), place_of(right.vectors(), self.width));
        directory.put(at, left, &left_place);
        directory.put(directory.len(), right, &right_place);
        self.changes.resize(directory.len(), 0);
        self.settle(&mut directory, at);
        self.publish(published, directory);
    }

    /// Computes a cell's centroid anew from what is in it.
    fn recentre(&mut self, published: &Published, at: usize) {
        let mut directory = Directory::clone(&self.directory);
        let place = place_of(read(directory.cell(at)).vectors(), self.width);
        directory.centre(at, &place);
        self.settle(&mut directory, at);
        self.publish(published, directory);
    }

    /// One round of Lloyd's algorithm among the cells around one: items go to the nearest, and what
    /// has changed is centred. Cells that change are replaced, so that searches under way on the
    /// published directory see them as they were.
    fn settle(&mut self, directory: &mut Directory, around: usize) {
        self.changes[around] = 0;
        let place = place_of(read(directory.cell(around)).vectors(), self.width);
        let centre = CodedQuery::new(&place.centroid);
        let near = directory.centroids.nearest_few(&centre, NEIGHBOURS, &mut self.buffer);
        let homes = self.homes(directory, &near);
        let mut changed = vec![false; near.len()];
        for (own, homes) in homes.iter().enumerate() {
            for home in homes.iter().filter(|home| **home != own) {
                changed[own] = true;
                changed[*home] = true;
            }
        }
        let mut settled: Vec<Cell> = near.iter().map(|_| Cell::default()).collect();
        for (own, at) in near.iter().enumerate().filter(|(own, _)| changed[*own]) {
            let cell = read(directory.cell(*at));
            for (row, &home) in homes[own].iter().enumerate() {
                settled[home].push_row(&cell, row);
                self.places.insert(cell.items()[row], near[home] as u32);
            }
        }
        for ((at, cell), _) in near.into_iter().zip(settled).zip(changed).filter(|(_, new)| *new) {
            let place = place_of(cell.vectors(), self.width);
            directory.put(at, cell, &place);
            self.changes[at] = 0;
        }
    }

    /// For each row of each of some cells, which of these it is nearest to and has room for it.
    fn homes(&mut self, directory: &Directory, cells: &[usize]) -> Vec<Vec<usize>> {
        let centroids = directory.centroids.subset(cells);
        let lengths = cells.iter().map(|at| read(directory.cell(*at)).len());
        let mut room: Vec<usize> =
            lengths.map(|length| self.limits.room.saturating_sub(length)).collect();
        let mut home = |own: usize, vector: &[f32]| {
            let to = centroids.nearest_unless(own, &CodedQuery::new(vector), &mut self.buffer);
            if to == own || room[to] == 0 {
                return own;
            }
            room[to] -= 1;
            to
        };
        let homes = cells.iter().enumerate().map(|(own, at)| {
            let cell = read(directory.cell(*at));
            cell.vectors().chunks_exact(self.width).map(|vector| home(own, vector)).collect()
        });
        homes.collect()
    }

    /// Gives the items of a cell that has become sparse to the nearest others, and drops it.
    fn dissolve_if_sparse(&mut self, published: &Published, at: usize) {
        if self.directory.len() == 1 || read(self.directory.cell(at)).len() >= self.limits.sparse {
            return;
        }
        let mut directory = Directory::clone(&self.directory);
        let cell = directory.swap_remove(at);
        self.changes.swap_remove(at);
        if at < directory.len() {
            for item in read(directory.cell(at)).items() {
                self.places.insert(*item, at as u32);
            }
        }
        let cell = read(&cell);
        for (item, vector) in cell.items().iter().zip(cell.vectors().chunks_exact(self.width)) {
            let to = directory.centroids.nearest(&CodedQuery::new(vector), &mut self.buffer);
            write(directory.cell(to)).push(*item, vector);
            self.changes[to] += 1;
            self.places.insert(*item, to as u32);
        }
        self.publish(published, directory);
    }
}

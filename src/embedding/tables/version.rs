//! The live vectors of all items over one basis.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::embedding::index::{IndexError, ItemIndex};
use crate::embedding::item::LiveBasis;
use crate::embedding::online::ItemVector;
use crate::global::ItemHandle;
use crate::time::EventTime;

/// What is left of a deviation below which nothing is: the vector stands where it leaks to, and
/// need not be looked at again.
const STILL: f32 = 1e-6;

pub(super) struct Version {
    pub basis: Arc<LiveBasis>,
    pub index: ItemIndex,
    live: Mutex<Live>,
}

/// Vectors that have learnt something, as of their newest events; the index holds them as of now.
#[derive(Default)]
struct Live {
    vectors: HashMap<ItemHandle, (u64, ItemVector)>,
    /// The time that the index is as of.
    now: EventTime,
}

impl Version {
    pub fn new(basis: Arc<LiveBasis>) -> Result<Self, IndexError> {
        let index = ItemIndex::new(basis.basis().dim().get())?;
        Ok(Self { basis, index, live: Mutex::default() })
    }

    /// Puts an item where training left it, unless it has learnt since.
    pub fn add_trained(&self, handle: ItemHandle, hash: u64) -> Result<(), IndexError> {
        let live = self.live();
        match self.basis.position(hash) {
            Some(position) if !live.vectors.contains_key(&handle) => {
                self.index.upsert(handle, self.basis.basis().trained(position).vector)
            }
            _ => Ok(()),
        }
    }

    /// Puts an item that was not there at training at `vector`, unless it has learnt since.
    pub fn begin(&self, handle: ItemHandle, hash: u64, vector: &[f32]) -> Result<(), IndexError> {
        let live = self.live();
        match self.basis.position(hash) {
            None if !live.vectors.contains_key(&handle) => self.index.upsert(handle, vector),
            _ => Ok(()),
        }
    }

    /// Sets the live vector of an item, as of its newest event.
    pub fn set(&self, handle: ItemHandle, hash: u64, vector: ItemVector) -> Result<(), IndexError> {
        let mut live = self.live();
        self.show(handle, hash, &vector, live.now)?;
        live.vectors.insert(handle, (hash, vector));
        Ok(())
    }

    /// Puts an item back where training left it, as one that has learnt nothing.
    pub fn reset(&self, handle: ItemHandle, hash: u64) -> Result<(), IndexError> {
        if self.live().vectors.remove(&handle).is_some() {
            self.index.remove(handle);
        }
        self.add_trained(handle, hash)
    }

    /// Takes an item out.
    pub fn remove(&self, handle: ItemHandle) {
        self.live().vectors.remove(&handle);
        self.index.remove(handle);
    }

    /// Lets all vectors leak until `now`, which is work only where it has passed a cut of the grid
    /// ([`LmsConfig::leak_step_ms`](crate::embedding::LmsConfig)).
    pub fn advance(&self, now: EventTime) -> Result<(), IndexError> {
        let mut live = self.live();
        let (lms, before) = (self.basis.lms(), live.now);
        if now <= before || lms.is_same_step(before, now) {
            return Ok(());
        }
        live.now = now;
        for (handle, (hash, vector)) in &live.vectors {
            if self.moves(*hash, vector, before) {
                self.show(*handle, *hash, vector, now)?;
            }
        }
        Ok(())
    }

    fn show(
        &self,
        handle: ItemHandle,
        hash: u64,
        vector: &ItemVector,
        now: EventTime,
    ) -> Result<(), IndexError> {
        let origin = self.basis.origin(hash);
        if !self.moves(hash, vector, now) {
            let still = ItemVector::new(self.basis.basis().dim(), origin);
            return self.index.upsert(handle, still.live());
        }
        let mut shown = vec![0.0; self.index.dimension()];
        vector.at(self.basis.lms(), origin, now, &mut shown);
        self.index.upsert(handle, &shown)
    }

    /// Whether there is something left at `now` of what a vector has learnt.
    fn moves(&self, hash: u64, vector: &ItemVector, now: EventTime) -> bool {
        let newest = vector.newest().unwrap_or(now);
        self.basis.lms().kept(self.basis.origin(hash), newest, now) > STILL
    }

    /// Memory held, in bytes: basis, index and live vectors.
    pub fn bytes(&self) -> usize {
        let vector = self.index.dimension() * 4 + 16 + size_of::<(ItemHandle, (u64, ItemVector))>();
        self.basis.bytes() + self.index.stats().bytes + self.live().vectors.capacity() * vector
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Nothing that holds the lock panics half-way through a change.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

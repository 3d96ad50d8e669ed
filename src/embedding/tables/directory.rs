//! The items that the tables know, by the hash of their names, which is how histories name them.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::embedding::ItemFeatures;
use crate::global::ItemHandle;
use crate::ids::stable_hash;

/// Names and statistics of items. A handle is never given to another item, so that a search that
/// has found it reads the right name whatever was removed since.
#[derive(Default)]
pub(super) struct Directory {
    handles: HashTable<ItemHandle>,
    items: Vec<Known>,
    text_bytes: usize,
    feature_bytes: usize,
    present: usize,
}

struct Known {
    hash: u64,
    name: Arc<str>,
    features: Option<Arc<ItemFeatures>>,
    /// Whether the item has not been taken out.
    is_present: bool,
}

/// An item that was looked up to be written.
pub(super) struct Entered {
    pub handle: ItemHandle,
    pub hash: u64,
    /// Whether it was unknown, or taken out.
    pub is_new: bool,
}

impl Directory {
    /// The item's handle; it is present from now on. None where it would be one too many.
    pub fn enter(&mut self, name: &str, max_items: usize) -> Option<Entered> {
        let hash = stable_hash(name.as_bytes());
        let handle = match self.find(hash) {
            Some(handle) => handle,
            None if self.items.len() >= max_items => return None,
            None => self.insert(hash, name),
        };
        let known = &mut self.items[handle.0 as usize];
        let is_new = !std::mem::replace(&mut known.is_present, true);
        self.present += usize::from(is_new);
        Some(Entered { handle, hash, is_new })
    }

    fn insert(&mut self, hash: u64, name: &str) -> ItemHandle {
        // `max_items` is below 2^32.
        let handle = ItemHandle(self.items.len() as u32);
        self.text_bytes += name.len();
        self.items.push(Known { hash, name: name.into(), features: None, is_present: false });
        let items = &self.items;
        self.handles.insert_unique(hash, handle, |h| items[h.0 as usize].hash);
        handle
    }

    /// Takes an item out: nothing finds it until it is entered again. It stays known, so that a
    /// basis that comes later does not bring it back.
    pub fn remove(&mut self, name: &str, max_items: usize) -> Option<ItemHandle> {
        let hash = stable_hash(name.as_bytes());
        let Some(handle) = self.find(hash) else {
            if self.items.len() < max_items {
                self.insert(hash, name);
            }
            return None;
        };
        let known = &mut self.items[handle.0 as usize];
        if let Some(features) = known.features.take() {
            self.feature_bytes -= features.bytes();
        }
        let was_present = std::mem::replace(&mut known.is_present, false);
        self.present -= usize::from(was_present);
        was_present.then_some(handle)
    }

    /// Whether an item was taken out, or was never there to be.
    pub fn is_removed(&self, hash: u64) -> bool {
        self.find(hash).is_some_and(|handle| !self.items[handle.0 as usize].is_present)
    }

    fn find(&self, hash: u64) -> Option<ItemHandle> {
        self.handles.find(hash, |h| self.items[h.0 as usize].hash == hash).copied()
    }

    /// The handle of an item that is present.
    pub fn present(&self, hash: u64) -> Option<ItemHandle> {
        self.find(hash).filter(|handle| self.items[handle.0 as usize].is_present)
    }

    pub fn name(&self, handle: ItemHandle) -> &Arc<str> {
        &self.items[handle.0 as usize].name
    }

    pub fn hash(&self, handle: ItemHandle) -> u64 {
        self.items[handle.0 as usize].hash
    }

    pub fn features(&self, handle: ItemHandle) -> Option<&Arc<ItemFeatures>> {
        self.items[handle.0 as usize].features.as_ref()
    }

    pub fn set_features(&mut self, handle: ItemHandle, features: ItemFeatures) {
        let known = &mut self.items[handle.0 as usize];
        self.feature_bytes += features.bytes();
        if let Some(old) = known.features.replace(Arc::new(features)) {
            self.feature_bytes -= old.bytes();
        }
    }

    /// The items that are present.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Arc<str>)> {
        self.items.iter().filter(|known| known.is_present).map(|known| (known.hash, &known.name))
    }

    /// How many are present.
    pub fn len(&self) -> usize {
        self.present
    }

    /// Memory held, in bytes: text and its counts, statistics, entries.
    pub fn bytes(&self) -> usize {
        self.text_bytes
            + self.feature_bytes
            + self.items.len() * 16
            + self.items.capacity() * size_of::<Known>()
            + self.handles.capacity() * 5
    }
}

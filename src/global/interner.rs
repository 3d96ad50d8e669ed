//! Items by number: tables of millions of entries hold four bytes instead of a text.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::ids::stable_hash;

/// An item's number within one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemHandle(pub u32);

/// Names and numbers of items, both ways.
#[derive(Default)]
pub struct Items {
    handles: HashTable<ItemHandle>,
    names: Vec<Arc<str>>,
    hashes: Vec<u64>,
    text_bytes: usize,
}

impl Items {
    /// The handle of an item, made where there is none yet.
    pub fn handle(&mut self, name: &str) -> ItemHandle {
        if let Some(handle) = self.find(name) {
            return handle;
        }
        // 2^32 distinct items would need terabytes of names first.
        let handle = ItemHandle(self.names.len() as u32);
        self.text_bytes += name.len();
        self.names.push(name.into());
        let hash = stable_hash(name.as_bytes());
        self.hashes.push(hash);
        let hash_of = |h: &ItemHandle| self.hashes[h.0 as usize];
        self.handles.insert_unique(hash, handle, hash_of);
        handle
    }

    /// The handle of an item that has been seen.
    pub fn find(&self, name: &str) -> Option<ItemHandle> {
        let same = |h: &ItemHandle| *self.names[h.0 as usize] == *name;
        self.handles.find(stable_hash(name.as_bytes()), same).copied()
    }

    /// The handle of the item with this XXH3-64.
    pub fn find_hash(&self, hash: u64) -> Option<ItemHandle> {
        self.handles.find(hash, |h| self.hashes[h.0 as usize] == hash).copied()
    }

    /// The name of a handle of this table.
    pub fn name(&self, handle: ItemHandle) -> &Arc<str> {
        &self.names[handle.0 as usize]
    }

    /// The XXH3-64 of a handle's name.
    pub fn hash(&self, handle: ItemHandle) -> u64 {
        self.hashes[handle.0 as usize]
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Memory held, in bytes, estimated: text, its counts, a pointer, a hash and a table entry.
    pub fn bytes(&self) -> usize {
        self.text_bytes + self.names.len() * (16 + 16 + 8 + 8)
    }
}

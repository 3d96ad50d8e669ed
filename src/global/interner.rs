//! Items by number: tables of millions of entries hold four bytes instead of a text.

use std::collections::HashMap;
use std::sync::Arc;

/// An item's number within one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemHandle(pub u32);

/// Names and numbers of items, both ways.
#[derive(Default)]
pub struct Items {
    handles: HashMap<Arc<str>, ItemHandle>,
    names: Vec<Arc<str>>,
    text_bytes: usize,
}

impl Items {
    /// The handle of an item, made where there is none yet.
    pub fn handle(&mut self, name: &str) -> ItemHandle {
        if let Some(handle) = self.handles.get(name) {
            return *handle;
        }
        // 2^32 distinct items would need terabytes of names first.
        let handle = ItemHandle(self.names.len() as u32);
        let name: Arc<str> = name.into();
        self.text_bytes += name.len();
        self.names.push(Arc::clone(&name));
        self.handles.insert(name, handle);
        handle
    }

    /// The handle of an item that has been seen.
    pub fn find(&self, name: &str) -> Option<ItemHandle> {
        self.handles.get(name).copied()
    }

    /// The name of a handle of this table.
    pub fn name(&self, handle: ItemHandle) -> &Arc<str> {
        &self.names[handle.0 as usize]
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Memory held, in bytes, estimated: text, its counts, two pointers and a table entry.
    pub fn bytes(&self) -> usize {
        self.text_bytes + self.names.len() * (16 + 16 + 16 + 4 + 8)
    }
}

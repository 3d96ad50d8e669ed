//! A store's files as of one commit, in a folder of their own.
//!
//! Files that never change are hard links, so that a checkpoint takes no room until the store has
//! compacted them away. To be made between two commits, by whoever commits: RocksDB notes what there
//! is of tables and of its log one after the other, and a file that is taken over in between would be
//! in neither.

use std::path::Path;

use rocksdb::DB;
use rocksdb::checkpoint::Checkpoint;

use super::items::ItemStore;
use super::store::{ShardStore, StoreError};

fn checkpoint(db: &DB, folder: &Path) -> Result<(), rocksdb::Error> {
    Checkpoint::new(db)?.create_checkpoint(folder)
}

impl ShardStore {
    /// Makes a checkpoint in `folder`, on the same file system, which must not be there yet.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be written.
    pub fn checkpoint(&self, folder: &Path) -> Result<(), StoreError> {
        checkpoint(&self.db, folder).map_err(|error| self.rocks(error))
    }
}

impl ItemStore {
    /// Makes a checkpoint in `folder`, on the same file system, which must not be there yet.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be written.
    pub fn checkpoint(&self, folder: &Path) -> Result<(), StoreError> {
        checkpoint(&self.db, folder).map_err(|error| self.rocks(error))
    }
}

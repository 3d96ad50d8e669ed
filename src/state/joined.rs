//! The column family of what is joined with a shard's events: rows that are opaque here.

use rocksdb::{
    BlockBasedOptions, ColumnFamily, DBCompressionType, Direction, IteratorMode, Options,
    ReadOptions, WriteBatch,
};

use super::store::{ShardStore, StoreError, StoreResources};

/// A row to put, or to take away where it has no value.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

/// A row that is there.
pub type Row = (Box<[u8]>, Box<[u8]>);

/// The row that says something of a user: it goes when the user does. Sorts after all others but those
/// whose keys begin with a higher byte.
pub fn user_row(user: &str) -> Vec<u8> {
    let mut row = vec![USER];
    row.extend_from_slice(user.as_bytes());
    row
}

/// What keys of rows of users begin with.
const USER: u8 = b'u';

pub(super) const FAMILY: &str = "joined";

/// Rows come and go in the order of their keys, within hours: most die young.
pub(super) fn options(resources: &StoreResources) -> Options {
    let mut options = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&resources.cache);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

/// Keys below `end`.
pub(super) fn below(end: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(end);
    options
}

pub(super) fn add(batch: &mut WriteBatch, family: &ColumnFamily, changes: &[Change]) {
    for (key, value) in changes {
        match value {
            Some(value) => batch.put_cf(family, key, value),
            None => batch.delete_cf(family, key),
        }
    }
}

impl ShardStore {
    /// The rows of the join whose keys are below `end`, in key order. For the owner.
    ///
    /// # Errors
    /// Each where it cannot be read.
    pub fn joined(&self, end: &[u8]) -> impl Iterator<Item = Result<Row, StoreError>> {
        let family = self.family(FAMILY);
        let rows = self.db.iterator_cf_opt(family, below(end), IteratorMode::Start);
        rows.map(|row| row.map_err(|e| self.rocks(e)))
    }

    /// The rows whose keys are `begin` or above, in key order. For the owner.
    ///
    /// # Errors
    /// Each where it cannot be read.
    pub fn joined_from(&self, begin: &[u8]) -> impl Iterator<Item = Result<Row, StoreError>> {
        let from = IteratorMode::From(begin, Direction::Forward);
        self.db.iterator_cf(self.family(FAMILY), from).map(|row| row.map_err(|e| self.rocks(e)))
    }

    /// One row of the join. For the owner.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn joined_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(FAMILY), key).map_err(|e| self.rocks(e))
    }

    /// Adds to a batch that the row of a user is dropped.
    pub(super) fn drop_row_of(&self, batch: &mut WriteBatch, user: &[u8]) {
        batch.delete_cf(self.family(FAMILY), [&[USER], user].concat());
    }

    /// Forgets all rows of the join. For the owner.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn forget_joined(&self) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        // No row's key begins with the highest byte.
        batch.delete_range_cf(self.family(FAMILY), &[][..], &[u8::MAX][..]);
        self.db.write(batch).map_err(|e| self.rocks(e))
    }

    /// Bytes of the join on disk and not yet flushed.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn joined_bytes(&self) -> Result<u64, StoreError> {
        let family = self.family(FAMILY);
        let number = |name| self.db.property_int_value_cf(family, name);
        let files = number("rocksdb.total-sst-files-size").map_err(|e| self.rocks(e))?;
        let memory = number("rocksdb.cur-size-all-mem-tables").map_err(|e| self.rocks(e))?;
        Ok(files.unwrap_or(0) + memory.unwrap_or(0))
    }

    /// That a row of the join is damaged.
    pub fn damaged_join(&self, error: &dyn std::fmt::Display) -> StoreError {
        self.damaged("the join", error)
    }
}

//! One item shard's RocksDB: items' states as whole values, and the shard's progress beside them.
//!
//! Unlike users, items change many times between two commits and are read to be changed, so whole
//! values are put and nothing is merged. What the bytes mean is `embedding`'s question.

use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, ColumnFamily, DB, DBCompressionType, Direction, IteratorMode, Options,
    WriteBatch,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::database;
use super::store::{Access, Stats, StoreError, StoreResources};

const ITEMS: &str = "items";
const META: &str = "meta";
const PROGRESS: &str = "progress";
const IDENTITY: &str = "identity";

/// One item shard's store.
pub struct ItemStore {
    pub(super) db: DB,
    path: PathBuf,
}

/// What `state digest --items` prints for one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ItemDigest {
    /// Items that have a state.
    pub items: u64,
    /// SHA-256 over them in key order, hexadecimal.
    pub sha256: String,
}

impl ItemStore {
    /// Opens the store in `path`, or makes it.
    ///
    /// # Errors
    /// [`StoreError`]: where it is damaged or of another identity, the caller decides whether
    /// to set it aside and rebuild it from the log.
    pub fn open(
        path: &Path,
        resources: &StoreResources,
        access: &Access<'_>,
    ) -> Result<Self, StoreError> {
        let states = (ITEMS, items_options(resources));
        let db = database::open(path, resources, access, states, META, Vec::new())?;
        let store = Self { db, path: path.into() };
        match access {
            Access::Owner { identity } => store.check_identity(identity)?,
            Access::Reader { .. } => {
                store.db.try_catch_up_with_primary().map_err(|e| store.rocks(e))?;
            }
        }
        Ok(store)
    }

    fn check_identity(&self, expected: &str) -> Result<(), StoreError> {
        match self.meta::<String>(IDENTITY)? {
            Some(found) if found == expected => Ok(()),
            Some(found) => {
                let (path, expected) = (self.path.clone(), expected.to_owned());
                Err(StoreError::OtherIdentity { path, found, expected })
            }
            None => {
                let bytes = self.encode(&expected)?;
                self.db.put_cf(self.family(META), IDENTITY, bytes).map_err(|e| self.rocks(e))
            }
        }
    }

    /// How far the committed states have come; none before the first commit.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn progress<P: DeserializeOwned>(&self) -> Result<Option<P>, StoreError> {
        self.meta(PROGRESS)
    }

    /// The committed state of one item, encoded.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn get(&self, item: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(ITEMS), item).map_err(|e| self.rocks(e))
    }

    /// Writes items' states and how far they have come, as one.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written; nothing of the commit is then there.
    pub fn commit<'a, P: Serialize>(
        &self,
        items: impl Iterator<Item = (&'a str, Vec<u8>)>,
        progress: &P,
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        items.for_each(|(item, state)| batch.put_cf(self.family(ITEMS), item, state));
        batch.put_cf(self.family(META), PROGRESS, self.encode(progress)?);
        self.db.write(batch).map_err(|e| self.rocks(e))
    }

    /// Calls `each` with every item and its encoded state, in key order.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn for_each(&self, mut each: impl FnMut(&str, &[u8])) -> Result<(), StoreError> {
        let items = self.family(ITEMS);
        for row in self.db.iterator_cf(items, IteratorMode::From(b"", Direction::Forward)) {
            let (item, state) = row.map_err(|e| self.rocks(e))?;
            let item = std::str::from_utf8(&item).map_err(|e| self.damaged("an item id", &e))?;
            each(item, &state);
        }
        Ok(())
    }

    /// A digest over every item's state: equal for equal logs and bases.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn digest(&self) -> Result<ItemDigest, StoreError> {
        let mut hash = Sha256::new();
        let mut items = 0;
        self.for_each(|item, state| {
            items += 1;
            for part in [item.as_bytes(), state] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        })?;
        let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(ItemDigest { items, sha256 })
    }

    /// Sizes, for `state stats --items`.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let items = self.family(ITEMS);
        let number =
            |name: &str| self.db.property_int_value_cf(items, name).map_err(|e| self.rocks(e));
        Ok(Stats {
            estimated_keys: number("rocksdb.estimate-num-keys")?.unwrap_or(0),
            file_bytes: number("rocksdb.total-sst-files-size")?.unwrap_or(0),
            memtable_bytes: number("rocksdb.cur-size-all-mem-tables")?.unwrap_or(0),
        })
    }

    /// What is wrong with the value of `key`, as an error of this store.
    pub fn damaged(&self, key: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: format!("{key}: {error}") }
    }

    fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let bytes = self.db.get_cf(self.family(META), key).map_err(|e| self.rocks(e))?;
        bytes.map(|b| serde_json::from_slice(&b).map_err(|e| self.damaged(key, &e))).transpose()
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(value).map_err(|e| self.damaged("what is written", &e))
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        match self.db.cf_handle(name) {
            Some(family) => family,
            // `open` names both families, so a store without one did not open.
            None => unreachable!("column family {name} was opened"),
        }
    }

    pub(super) fn rocks(&self, source: rocksdb::Error) -> StoreError {
        StoreError::Rocks { path: self.path.clone(), source }
    }
}

fn items_options(resources: &StoreResources) -> Options {
    let mut options = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&resources.cache);
    // Vectors hardly compress: small blocks are read faster.
    table.set_block_size(8 << 10);
    table.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(16 << 20);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

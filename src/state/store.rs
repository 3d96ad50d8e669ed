//! One shard's RocksDB: users under a merge operator, and the shard's progress beside them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, CompactOptions, DB,
    DBCompressionType, Direction, IteratorMode, MergeOperands, Options, WriteBatch,
    WriteBufferManager,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::bulk::{BULK_USERS, Incoming};
use super::database;
use super::joined::{self, Change};
use super::pending::Pending;
use super::progress::{Left, Progress, Watermarks};
use super::sweep::{Sweep, USERS_PER_COMMIT};
use crate::feature::{FoldRules, Positives, STATE_VERSION, UserState};

const USERS: &str = "users";
const META: &str = "meta";
/// Among the users, so that one file can hold both; no user id is empty.
const PROGRESS: &[u8] = b"";
const IDENTITY: &str = "identity";

/// Why a store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB failed: a full disk, missing rights, a damaged file, another process.
    #[error("state store {path}: {source}")]
    Rocks {
        /// The store's folder.
        path: PathBuf,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// A folder could not be made: a full disk, missing rights.
    #[error("state store {path}: {source}")]
    Io {
        /// The store's folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes of one key are damaged.
    #[error("state store {path}: {what}")]
    Damaged {
        /// The store's folder.
        path: PathBuf,
        /// Which key, and how.
        what: String,
    },
    /// The store was folded from another log or under other rules.
    #[error("state store {path} was folded from {found}, and this worker folds {expected}")]
    OtherIdentity {
        /// The store's folder.
        path: PathBuf,
        /// What the store says.
        found: String,
        /// What is configured.
        expected: String,
    },
}

impl StoreError {
    /// Whether the store itself may be whole, so that it must not be touched: another process
    /// holds it, or the disk is full.
    pub fn spares_store(&self) -> bool {
        match self {
            Self::Rocks { source, .. } => {
                // By the lock file's name: the word alone is part of "block checksum mismatch".
                let text = source.to_string();
                source.kind() == rocksdb::ErrorKind::IOError
                    && (text.contains("/LOCK") || text.contains("No space left"))
            }
            Self::Io { .. } => true,
            Self::Damaged { .. } | Self::OtherIdentity { .. } => false,
        }
    }

    /// Whether what is stored is broken: trying again would fail again.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Rocks { source, .. } => source.kind() == rocksdb::ErrorKind::Corruption,
            Self::Damaged { .. } => true,
            Self::Io { .. } | Self::OtherIdentity { .. } => false,
        }
    }

    /// A short stable name, for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Rocks { .. } => "rocksdb",
            Self::Io { .. } => "io",
            Self::Damaged { .. } => "damaged",
            Self::OtherIdentity { .. } => "other_identity",
        }
    }
}

/// Memory that all stores of a process share.
#[derive(Clone)]
pub struct StoreResources {
    pub(super) cache: Cache,
    pub(super) write_buffers: WriteBufferManager,
}

impl StoreResources {
    /// A block cache and a budget for unflushed writes, both in bytes.
    pub fn new(cache_bytes: usize, write_buffer_bytes: usize) -> Self {
        Self {
            cache: Cache::new_lru_cache(cache_bytes),
            write_buffers: WriteBufferManager::new_write_buffer_manager(write_buffer_bytes, false),
        }
    }
}

/// Committed states of some users, all as of one commit.
pub struct AsOf {
    /// How far exactly they are folded.
    pub progress: Progress,
    /// Their states, encoded, in the order in which the users were given; `None` for one that
    /// has none.
    pub states: Vec<Option<Vec<u8>>>,
}

/// How a store is opened.
pub enum Access<'a> {
    /// By the worker that owns the shard. `identity` says what is folded, from where; a store
    /// that says otherwise is refused.
    Owner {
        /// Cluster, topics, partition.
        identity: &'a str,
    },
    /// Beside a running worker, as of now, without disturbing it.
    Reader {
        /// An empty folder for RocksDB's own notes.
        scratch: &'a Path,
    },
}

/// One shard's store.
pub struct ShardStore {
    pub(super) db: DB,
    path: PathBuf,
    rules: FoldRules,
    /// Event time in milliseconds against which users age out.
    watermarks: Mutex<Watermarks>,
    sweep: Mutex<Sweep>,
    /// `None` for a reader, which commits nothing.
    incoming: Option<Incoming>,
    bulk_options: Options,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Identity {
    rules: FoldRules,
    /// Absent in stores of version 1.
    #[serde(default)]
    state_version: u8,
    folded_from: String,
}

impl Identity {
    fn of(rules: FoldRules, folded_from: &str) -> Self {
        Self { rules, state_version: STATE_VERSION, folded_from: folded_from.into() }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rules: FoldRules { history_limit, ttl_days }, state_version, folded_from } =
            self;
        write!(
            f,
            "{folded_from} (history_limit {history_limit}, ttl_days {ttl_days}, state version \
             {state_version})"
        )
    }
}

/// What a store says of itself that this version folds from `folded_from` under `rules`.
pub fn identity_of(rules: FoldRules, folded_from: &str) -> String {
    Identity::of(rules, folded_from).to_string()
}

impl ShardStore {
    /// Opens the store in `path`, or makes it.
    ///
    /// # Errors
    /// [`StoreError`]: where it is damaged or of another identity, the caller decides whether
    /// to set it aside and rebuild it from the log.
    pub fn open(
        path: &Path,
        rules: FoldRules,
        resources: &StoreResources,
        access: &Access<'_>,
    ) -> Result<Self, StoreError> {
        let states = (USERS, users_options(rules, resources));
        let db = database::open(
            path,
            resources,
            access,
            states,
            META,
            vec![(joined::FAMILY, joined::options(resources))],
        )?;
        // Only the owner, which holds RocksDB's lock by now, may empty the folder.
        let incoming = match access {
            Access::Owner { .. } => Some(
                Incoming::prepare(path)
                    .map_err(|source| StoreError::Io { path: path.into(), source })?,
            ),
            Access::Reader { .. } => None,
        };
        // A large commit is compacted soon: compressing it well now would be work done twice.
        let mut bulk_options = users_options(rules, resources);
        bulk_options.set_bottommost_compression_type(DBCompressionType::Lz4);
        // Without this the level meant for zstd would be LZ4's slow one.
        bulk_options.set_bottommost_compression_options(-14, DEFAULT_LEVEL, 0, 0, false);
        let store = Self {
            db,
            path: path.into(),
            rules,
            watermarks: Mutex::default(),
            sweep: Mutex::default(),
            incoming,
            bulk_options,
        };
        match access {
            Access::Owner { identity } => store.check_identity(identity)?,
            Access::Reader { .. } => {
                store.db.try_catch_up_with_primary().map_err(|e| store.rocks(e))?;
                // Whoever reads must fold what waits in the memtable as the owner does.
                if let Some(found) = store.identity()?.filter(|found| found.rules != rules) {
                    drop(store);
                    return Self::open(path, found.rules, resources, access);
                }
            }
        }
        *store.watermarks() = store.progress()?.watermarks();
        Ok(store)
    }

    fn check_identity(&self, folded_from: &str) -> Result<(), StoreError> {
        let expected = Identity::of(self.rules, folded_from);
        match self.identity()? {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(StoreError::OtherIdentity {
                path: self.path.clone(),
                found: found.to_string(),
                expected: expected.to_string(),
            }),
            None => self.put_meta(IDENTITY, &expected),
        }
    }

    fn identity(&self) -> Result<Option<Identity>, StoreError> {
        self.get_meta(IDENTITY)
    }

    /// The rules the store was folded under.
    pub fn rules(&self) -> &FoldRules {
        &self.rules
    }

    /// How far the committed state has come.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn progress(&self) -> Result<Progress, StoreError> {
        self.read_progress(self.db.get_cf(self.users(), PROGRESS).map_err(|e| self.rocks(e))?)
    }

    fn read_progress(&self, bytes: Option<Vec<u8>>) -> Result<Progress, StoreError> {
        let progress = bytes.map(|b| serde_json::from_slice(&b)).transpose();
        Ok(progress.map_err(|e| self.damaged("progress", &e))?.unwrap_or_default())
    }

    /// The committed state of one user, encoded.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn get(&self, user: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.users(), user).map_err(|e| self.rocks(e))
    }

    /// The committed states of some users.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn get_at<'a>(&self, users: impl IntoIterator<Item = &'a str>) -> Result<AsOf, StoreError> {
        let snapshot = self.db.snapshot();
        let get = |key: &[u8]| snapshot.get_cf(self.users(), key).map_err(|e| self.rocks(e));
        Ok(AsOf {
            progress: self.read_progress(get(PROGRESS)?)?,
            states: users.into_iter().map(|user| get(user.as_bytes())).collect::<Result<_, _>>()?,
        })
    }

    /// What the committed state of one user says they have liked; nothing where there is none.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn positives(&self, user: &[u8]) -> Result<Positives, StoreError> {
        let state = self.db.get_pinned_cf(self.users(), user).map_err(|e| self.rocks(e))?;
        let positives = state.map(|bytes| Positives::of_encoded(&bytes)).transpose();
        Ok(positives.map_err(|e| self.damaged("a user", &e))?.unwrap_or_default())
    }

    /// Writes what was folded since the last commit, and how far that is, as one: a batch, or a
    /// file where there is much.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written; nothing of the commit is then there.
    pub fn commit(
        &self,
        pending: &Pending,
        progress: &Progress,
        joined: &[Change],
    ) -> Result<(), StoreError> {
        let users = self.users();
        let bytes = encode_meta(progress, &self.path)?;
        let mut batch = WriteBatch::default();
        self.drop_aged_out(&mut batch, pending, progress);
        let is_file = self.incoming.is_some() && pending.users() >= BULK_USERS;
        if is_file && !joined.is_empty() {
            // Before the file, which moves the offsets: after a crash between the two the join is
            // ahead, and passes over what it has.
            let mut first = WriteBatch::default();
            joined::add(&mut first, self.family(joined::FAMILY), joined);
            self.db.write(first).map_err(|e| self.rocks(e))?;
        } else {
            joined::add(&mut batch, self.family(joined::FAMILY), joined);
        }
        match &self.incoming {
            Some(incoming) if is_file => incoming
                .commit(&self.db, users, &self.bulk_options, (PROGRESS, &bytes), pending)
                .map_err(|e| self.rocks(e))?,
            _ => {
                pending.for_each_user(|user, operand| batch.merge_cf(users, user, operand));
                batch.put_cf(users, PROGRESS, bytes);
            }
        }
        // The WAL is on and not synced: a killed process loses nothing, a power cut rolls state
        // and offsets back together, and the log has the rest.
        self.db.write(batch).map_err(|e| self.rocks(e))?;
        *self.watermarks() = progress.watermarks();
        Ok(())
    }

    /// Adds to a batch that what has aged out by `progress` of some users is dropped.
    fn drop_aged_out(&self, batch: &mut WriteBatch, pending: &Pending, progress: &Progress) {
        let mut sweep = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let watermarks = progress.watermarks();
        let Some(from) = watermarks.of_rounds().and_then(|at| sweep.resume(at)) else { return };
        let users = self.users();
        let rows = self.db.iterator_cf(users, IteratorMode::From(&from, Direction::Forward));
        let mut last = None;
        for (n, row) in rows.take(USERS_PER_COMMIT).enumerate() {
            // What cannot be read is kept: reads report it, the sweep must not hide it.
            let Ok((user, state)) = row else { break };
            if *user != *PROGRESS && !pending.has(&user) {
                match watermarks.left_of(&state, &self.rules) {
                    Ok(Left::Nothing) => {
                        batch.delete_cf(users, &user);
                        self.drop_row_of(batch, &user);
                    }
                    Ok(Left::Part(rest)) => batch.put_cf(users, &user, rest),
                    Ok(Left::All(_)) | Err(_) => {}
                }
            }
            last = (n + 1 == USERS_PER_COMMIT).then(|| user.into_vec());
        }
        if let Some(last) = last {
            sweep.pause_after(last);
        }
    }

    fn watermarks(&self) -> MutexGuard<'_, Watermarks> {
        self.watermarks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `each` with every user and their encoded state, in key order, without what has aged
    /// out, whether it has been dropped already or not.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn for_each_user(
        &self,
        mut each: impl FnMut(&str, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for row in self.db.iterator_cf(self.users(), IteratorMode::From(b"", Direction::Forward)) {
            let (user, state) = row.map_err(|e| self.rocks(e))?;
            if *user == *PROGRESS {
                continue;
            }
            let user = std::str::from_utf8(&user).map_err(|e| self.damaged("a user id", &e))?;
            let left = self.watermarks().left_of(&state, &self.rules);
            match left.map_err(|e| self.damaged("a user", &e))? {
                Left::All(state) => each(user, state)?,
                Left::Part(rest) => each(user, &rest)?,
                Left::Nothing => {}
            }
        }
        Ok(())
    }

    /// A digest over every user's state: equal for equal sets of events.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn digest(&self) -> Result<Digest, StoreError> {
        let mut hash = Sha256::new();
        let mut users = 0;
        self.for_each_user(|user, state| {
            users += 1;
            hash.update((user.len() as u64).to_le_bytes());
            hash.update(user);
            hash.update((state.len() as u64).to_le_bytes());
            hash.update(state);
            Ok(())
        })?;
        let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Digest { users, sha256 })
    }

    /// Sizes, for `state stats` and metrics.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let number = |cf: &ColumnFamily, name: &str| {
            self.db.property_int_value_cf(cf, name).map_err(|e| self.rocks(e))
        };
        Ok(Stats {
            estimated_keys: number(self.users(), "rocksdb.estimate-num-keys")?.unwrap_or(0),
            file_bytes: number(self.users(), "rocksdb.total-sst-files-size")?.unwrap_or(0),
            memtable_bytes: number(self.users(), "rocksdb.cur-size-all-mem-tables")?.unwrap_or(0),
        })
    }

    /// Flushes and compacts everything: what `bench` measures sizes after.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.db.flush_cf(self.users()).map_err(|e| self.rocks(e))?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(self.users(), None::<&[u8]>, None::<&[u8]>, &options);
        Ok(())
    }

    /// Compacts the files that hold `user`, whole: other users' newer events may lie elsewhere,
    /// as when RocksDB compacts by itself.
    #[cfg(test)]
    pub(super) fn compact_around(&self, user: &str) {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(self.users(), Some(user), Some(user), &options);
    }

    fn users(&self) -> &ColumnFamily {
        self.family(USERS)
    }

    fn meta(&self) -> &ColumnFamily {
        self.family(META)
    }

    pub(super) fn family(&self, name: &str) -> &ColumnFamily {
        match self.db.cf_handle(name) {
            Some(family) => family,
            // `open` names both families, so a store without one did not open.
            None => unreachable!("column family {name} was opened"),
        }
    }

    fn get_meta<T: for<'a> Deserialize<'a>>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let bytes = self.db.get_cf(self.meta(), key).map_err(|e| self.rocks(e))?;
        bytes.map(|b| serde_json::from_slice(&b).map_err(|e| self.damaged(key, &e))).transpose()
    }

    fn put_meta<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        let bytes = encode_meta(value, &self.path)?;
        self.db.put_cf(self.meta(), key, bytes).map_err(|e| self.rocks(e))
    }

    pub(super) fn rocks(&self, source: rocksdb::Error) -> StoreError {
        StoreError::Rocks { path: self.path.clone(), source }
    }

    pub(super) fn damaged(&self, key: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: format!("{key}: {error}") }
    }
}

/// What `state digest` prints for one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// Users that have not aged out.
    pub users: u64,
    /// SHA-256 over them in key order, hexadecimal.
    pub sha256: String,
}

/// What `state stats` prints for one shard.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stats {
    /// RocksDB's estimate of the number of users, or of items.
    pub estimated_keys: u64,
    /// Bytes in SST files.
    pub file_bytes: u64,
    /// Bytes not yet flushed.
    pub memtable_bytes: u64,
}

fn encode_meta<T: Serialize>(value: &T, path: &Path) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value)
        .map_err(|e| StoreError::Damaged { path: path.into(), what: e.to_string() })
}

/// RocksDB's `kDefaultCompressionLevel`: whatever the algorithm's own default is.
const DEFAULT_LEVEL: i32 = 32_767;

fn users_options(rules: FoldRules, resources: &StoreResources) -> Options {
    let mut options = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&resources.cache);
    // A state is 1 to 2 KB: 32 KB blocks compress about a quarter better than 4 KB ones, and a
    // read decompresses one block in some 10 µs.
    table.set_block_size(32 << 10);
    table.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(64 << 20);
    options.set_max_write_buffer_number(4);
    // Large commits arrive as files of level 0: with the default of 4 they would be compacted
    // into the whole of level 1 every few seconds.
    options.set_level_zero_file_num_compaction_trigger(8);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    // Level 6 is 1 % smaller than the default of 3, at a tenth more time of compaction.
    options.set_bottommost_compression_options(-14, 6, 0, 0, true);
    options.set_merge_operator(
        "driftline.fold.v1",
        move |_key: &[u8], state: Option<&[u8]>, operands: &MergeOperands| {
            merge(state, operands, &rules)
        },
        |_key: &[u8], _state: Option<&[u8]>, operands: &MergeOperands| {
            let mut joined = Vec::with_capacity(operands.iter().map(<[u8]>::len).sum());
            operands.iter().for_each(|operand| joined.extend_from_slice(operand));
            Some(joined)
        },
    );
    options
}

/// `None` tells RocksDB that the value is damaged; it then fails the read, not the process.
fn merge(state: Option<&[u8]>, operands: &MergeOperands, rules: &FoldRules) -> Option<Vec<u8>> {
    let mut user = match state {
        Some(bytes) => UserState::decode(bytes).ok()?,
        None => UserState::default(),
    };
    for operand in operands {
        user.fold(operand, rules).ok()?;
    }
    Some(user.encode())
}

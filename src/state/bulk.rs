//! Large commits as one sorted file that RocksDB takes over whole.
//!
//! Entering a hundred thousand merges one by one costs a walk down the memtable's skip list, an
//! entry in the write-ahead log and later a flush, each. Sorted, they are written once. The file
//! holds the shard's progress too, so that taking it over moves state and offsets together.

use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamily, DB, Error, IngestExternalFileOptions, Options, SstFileWriter};

use super::pending::Pending;

/// Users in a commit from which it is written as a file. Below, the file's two syncs cost more
/// than entering its merges.
pub(super) const BULK_USERS: usize = 5_000;

/// Where files are written before they are taken over.
pub(super) struct Incoming(PathBuf);

impl Incoming {
    /// The folder within a store, emptied: what is there was not taken over before a crash, and
    /// is folded again from the log.
    pub fn prepare(store: &Path) -> std::io::Result<Self> {
        let folder = store.join("incoming");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// Writes `first` and all users' events as one file, and has `db` take it over.
    pub fn commit(
        &self,
        db: &DB,
        family: &ColumnFamily,
        options: &Options,
        first: (&[u8], &[u8]),
        pending: &Pending,
    ) -> Result<(), Error> {
        let file = self.0.join("commit.sst");
        let mut writer = SstFileWriter::create(options);
        writer.open(&file)?;
        // The progress has the empty key, which sorts before every user's.
        writer.put(first.0, first.1)?;
        let mut written = Ok(());
        pending.for_each_user(|user, operand| {
            if written.is_ok() {
                written = writer.merge(user, operand);
            }
        });
        written?;
        writer.finish()?;
        let mut taking = IngestExternalFileOptions::default();
        taking.set_move_files(true);
        db.ingest_external_file_cf_opts(family, &taking, vec![file])
    }
}

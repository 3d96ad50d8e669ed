//! Opening a shard's RocksDB: the same for users and items, but for their column family.

use std::path::Path;

use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode, Options};

use super::store::{Access, StoreError, StoreResources};

/// Opens the database in `path` with one family of states and one of notes, or makes it; for its owner
/// with `more` families, which readers do not look at.
///
/// # Errors
/// [`StoreError::Rocks`] where RocksDB refuses.
pub(super) fn open(
    path: &Path,
    resources: &StoreResources,
    access: &Access<'_>,
    states: (&str, Options),
    notes: &str,
    more: Vec<(&str, Options)>,
) -> Result<DB, StoreError> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_manager(&resources.write_buffers);
    options.set_keep_log_file_num(2);
    options.set_max_background_jobs(2);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // Reader instances keep all files open themselves; 2,000 is far above what one shard has.
    options.set_max_open_files(2_000);
    let mut families = vec![
        ColumnFamilyDescriptor::new(states.0, states.1),
        ColumnFamilyDescriptor::new(notes, Options::default()),
    ];
    if matches!(access, Access::Owner { .. }) {
        let more =
            more.into_iter().map(|(name, options)| ColumnFamilyDescriptor::new(name, options));
        families.extend(more);
    }
    let opened = match access {
        Access::Owner { .. } => DB::open_cf_descriptors(&options, path, families),
        Access::Reader { scratch } => {
            options.set_max_open_files(-1);
            DB::open_cf_descriptors_as_secondary(&options, path, scratch, families)
        }
    };
    opened.map_err(|source| StoreError::Rocks { path: path.into(), source })
}

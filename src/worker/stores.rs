//! Stores that no longer fit their log.

use std::path::Path;

use metrics::counter;

use crate::ids::stable_hash;
use crate::kafka::{HandlerError, Record};
use crate::telemetry::names;

/// Ends the name of a store that was put aside.
pub const ASIDE: &str = "set-aside";

/// Puts a store aside, to be rebuilt from a snapshot or from the log; one that was put aside before goes.
pub fn set_aside(path: &Path, reason: &'static str, why: &str) -> Result<(), HandlerError> {
    let aside = path.with_extension(ASIDE);
    if aside.exists() {
        std::fs::remove_dir_all(&aside)?;
    }
    if path.exists() {
        std::fs::rename(path, &aside)?;
    }
    counter!(names::STORES_REBUILT, "reason" => reason).increment(1);
    tracing::warn!(
        store = %path.display(), why, kept = %aside.display(),
        "the store was set aside; the shard is rebuilt"
    );
    Ok(())
}

/// What a record is known again by. Not a whole-record hash: enough to tell a topic from the one
/// made in its place.
pub fn hash_of(record: &Record<'_>) -> u64 {
    stable_hash(record.value())
        ^ stable_hash(record.key().unwrap_or_default()).rotate_left(1)
        ^ (record.timestamp_ms() as u64).rotate_left(32)
}

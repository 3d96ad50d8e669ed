//! Snapshots of shards in the object store: a checkpoint's files in parts, and a manifest last.
//!
//! Enters: a checkpoint, which is a folder of a store's files as of one commit. Leaves: the same
//! folder on another machine. A [`Depot`] holds the snapshots of one shard as folded from one log
//! under one set of rules; what was folded from something else lies in another.
//!
//! Nothing is ever changed, and no key is used twice. A part is named by its SHA-256 and by who made
//! it; a manifest by how far it has come and by the SHA-256 of its own bytes. So what is found dead
//! stays dead, and whoever reads can tell what is whole (`docs/adr/0019-snapshots.md`).
//! Looks at no clock: ages are those that the object store tells.

mod download;
mod manifest;
mod retention;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

pub use download::ORIGINS;
pub use manifest::{Manifest, Part, SnapshotFile, SourcePosition, position_of};
pub use retention::{Collected, Retention};
pub use upload::{Checkpoint, Known, Uploaded};

use crate::objects::{ObjectError, ObjectInfo, Objects, sha256_hex};

/// The folder of all snapshots. Begins with `_`, as nothing in it is a table of the lake.
const SNAPSHOTS: &str = "_snapshots";

/// Bytes of a part. Larger: more memory, and a longer way back after a failure. Smaller: more
/// requests, of which a store takes its time for each.
const PART_BYTES: usize = 8 << 20;

/// What kind of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShardKind {
    /// A shard of users.
    User,
    /// A shard of items.
    Item,
}

impl ShardKind {
    /// `user` or `item`.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Item => "item",
        }
    }
}

/// A shard of an installation. Shows as the folder that its store has in `worker.data_dir`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardName {
    /// Of users or of items.
    pub kind: ShardKind,
    /// Its partition.
    pub partition: i32,
}

impl ShardName {
    /// The shard that a folder is of.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, partition) = text.split_once('-')?;
        let kind = [ShardKind::User, ShardKind::Item].into_iter().find(|k| k.name() == kind)?;
        Some(Self { kind, partition: partition.parse().ok()? })
    }
}

impl std::fmt::Display for ShardName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.kind.name(), self.partition)
    }
}

/// Why a snapshot was not made, found or taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The object store: it says whether trying again may help.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// This machine's disk.
    #[error("{path}: {source}")]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// What is in the object store is not what was put there: another snapshot must do.
    #[error("{key} is damaged: {what}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// Parts were deleted while they were being used: upload again.
    #[error("parts of {0} were given up meanwhile; it is made again")]
    Conflict(String),
    /// Whoever asked for it no longer wants it.
    #[error("stopped")]
    Stopped,
}

impl SnapshotError {
    fn damaged(key: &str, what: impl ToString) -> Self {
        Self::Damaged { key: key.to_owned(), what: what.to_string() }
    }

    /// A short stable name, for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Object(_) => "object_store",
            Self::Io { .. } => "disk",
            Self::Damaged { .. } => "damaged",
            Self::Conflict(_) => "conflict",
            Self::Stopped => "stopped",
        }
    }
}

/// The snapshots of one shard that were folded from one log under one set of rules.
pub struct Depot {
    objects: Arc<Objects>,
    shard: String,
    identity: String,
    folder: String,
}

/// What is in a depot, by key.
#[derive(Debug, Default)]
struct Listing {
    /// The one that has come furthest first.
    manifests: Vec<ObjectInfo>,
    parts: BTreeMap<String, ObjectInfo>,
    /// What collectors are about to delete.
    plans: Vec<ObjectInfo>,
}

impl Depot {
    /// The depot of `shard` in the installation whose topics begin with `prefix`, for stores that say
    /// of themselves that they are `identity`.
    pub fn new(objects: Arc<Objects>, prefix: &str, shard: ShardName, identity: &str) -> Self {
        // A format that older versions cannot read is out of their collectors' reach.
        let lineage = &sha256_hex(format!("{} {identity}", manifest::FORMAT).as_bytes())[..16];
        Self {
            objects,
            shard: shard.to_string(),
            identity: identity.to_owned(),
            folder: format!("{}/{lineage}", shard_folder(prefix, shard)),
        }
    }

    /// Depots of the same shard that hold what was folded from another log or under other rules:
    /// how many manifests there are in each, by folder.
    ///
    /// # Errors
    /// [`SnapshotError::Object`].
    pub fn foreign(&self) -> Result<BTreeMap<String, usize>, SnapshotError> {
        let Some((shard, own)) = self.folder.rsplit_once('/') else { return Ok(BTreeMap::new()) };
        let mut found = BTreeMap::new();
        for object in self.objects.list(shard)? {
            let inner = object.key.strip_prefix(shard).unwrap_or_default().trim_start_matches('/');
            if let Some((lineage, rest)) = inner.split_once('/')
                && lineage != own
                && rest.starts_with("manifests/")
            {
                *found.entry(format!("{shard}/{lineage}")).or_default() += 1;
            }
        }
        Ok(found)
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn list(&self) -> Result<Listing, SnapshotError> {
        let mut listing = Listing::default();
        for object in self.objects.list(&self.folder)? {
            match object.key.strip_prefix(&self.folder) {
                Some(name) if name.starts_with("/manifests/") => listing.manifests.push(object),
                Some(name) if name.starts_with("/plans/") => listing.plans.push(object),
                Some(name) if name.starts_with("/parts/") => {
                    listing.parts.insert(object.key.clone(), object);
                }
                _ => {}
            }
        }
        // Names begin with how far a snapshot has come, in as many digits.
        listing.manifests.sort_by(|a, b| b.key.cmp(&a.key));
        Ok(listing)
    }

    /// Keys of all manifests, that of the snapshot that has come furthest first. Whether one is good
    /// is known when it is [read](Self::read).
    ///
    /// # Errors
    /// [`SnapshotError::Object`].
    pub fn manifests(&self) -> Result<Vec<String>, SnapshotError> {
        Ok(self.list()?.manifests.into_iter().map(|object| object.key).collect())
    }

    /// A manifest.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] where it is not what was written, or is of another log.
    pub fn read(&self, key: &str) -> Result<Manifest, SnapshotError> {
        let manifest = read_manifest(key, self.objects.get(key)?)?;
        if (manifest.shard.as_str(), manifest.identity.as_str()) != (&self.shard, &self.identity) {
            let Manifest { shard, identity, .. } = &manifest;
            let what = format!("it is of {shard}, folded from {identity}: it was put here by hand");
            return Err(SnapshotError::damaged(key, what));
        }
        Ok(manifest)
    }

    /// The manifests of a listing that can be read, in its order.
    fn read_good(&self, listing: &Listing) -> Result<Vec<(String, Manifest)>, SnapshotError> {
        let mut good = Vec::with_capacity(listing.manifests.len());
        for ObjectInfo { key, .. } in &listing.manifests {
            match self.read(key) {
                Ok(manifest) => good.push((key.clone(), manifest)),
                Err(SnapshotError::Object(error)) => return Err(error.into()),
                Err(error) => tracing::debug!(%error, "a manifest is passed over"),
            }
        }
        Ok(good)
    }

    /// Parts that some collector is about to delete.
    fn planned(&self, listing: &Listing) -> Result<BTreeSet<String>, SnapshotError> {
        let mut planned = BTreeSet::new();
        for plan in &listing.plans {
            // Its collector may have finished meanwhile.
            let Some(bytes) = self.objects.get(&plan.key)? else { continue };
            planned.extend(parse::<Vec<String>>(&plan.key, &bytes)?);
        }
        Ok(planned)
    }
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &Bytes) -> Result<T, SnapshotError> {
    serde_json::from_slice(bytes).map_err(|error| SnapshotError::damaged(key, error))
}

/// A manifest, if its bytes are those that its name tells of.
fn read_manifest(key: &str, bytes: Option<Bytes>) -> Result<Manifest, SnapshotError> {
    let bytes = bytes.ok_or_else(|| SnapshotError::damaged(key, "it is gone"))?;
    if manifest::hash_in(key) != Some(&sha256_hex(&bytes)[..manifest::HASH_DIGITS]) {
        return Err(SnapshotError::damaged(key, "its bytes are not those that were written"));
    }
    let manifest: Manifest = parse(key, &bytes)?;
    if manifest.format != manifest::FORMAT {
        let what = format!(
            "it is of format {}, and this version reads {}",
            manifest.format,
            manifest::FORMAT
        );
        return Err(SnapshotError::damaged(key, what));
    }
    Ok(manifest)
}

/// The folder of a shard in the object store.
fn shard_folder(prefix: &str, shard: ShardName) -> String {
    format!("{SNAPSHOTS}/{prefix}{shard}")
}

/// A snapshot of any shard, as found in the object store.
pub struct Found {
    /// Of which shard.
    pub shard: ShardName,
    /// The key of its manifest.
    pub key: String,
    /// When the object store took it, milliseconds since the epoch.
    pub made_ms: i64,
    /// What it says.
    pub manifest: Result<Manifest, SnapshotError>,
}

/// All snapshots of the installation whose topics begin with `prefix`, whatever they were folded
/// from: by shard, those that have come furthest first.
///
/// # Errors
/// [`SnapshotError::Object`].
pub fn find_all(objects: &Objects, prefix: &str) -> Result<Vec<Found>, SnapshotError> {
    let mut found = Vec::new();
    for object in objects.list(SNAPSHOTS)? {
        let Some(rest) = object.key.strip_prefix(&format!("{SNAPSHOTS}/{prefix}")) else {
            continue;
        };
        let mut parts = rest.split('/');
        let (shard, _lineage, kind) = (parts.next(), parts.next(), parts.next());
        let Some(shard) = shard.and_then(ShardName::parse) else { continue };
        if kind != Some("manifests") {
            continue;
        }
        let manifest = read_manifest(&object.key, objects.get(&object.key)?);
        found.push(Found { shard, key: object.key, made_ms: object.modified_ms, manifest });
    }
    found.sort_by(|a, b| a.shard.cmp(&b.shard).then_with(|| b.key.cmp(&a.key)));
    Ok(found)
}

//! From a checkpoint to a snapshot.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::manifest::{FORMAT, Manifest, Part, SnapshotFile, SourcePosition};
use super::{Depot, PART_BYTES, SnapshotError};
use crate::objects::sha256_hex;

/// A store's files as of one commit.
pub struct Checkpoint<'a> {
    /// Where they are.
    pub folder: &'a Path,
    /// How far they have come, as they themselves say.
    pub sources: Vec<SourcePosition>,
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// The manifest's key.
    pub key: String,
    /// Bytes of the snapshot.
    pub bytes: u64,
    /// Those of them that were not there yet.
    pub new_bytes: u64,
}

/// What an uploader remembers of a shard between two snapshots. Without it all is read again, and
/// nothing is wrong.
#[derive(Default)]
pub struct Known {
    /// Contents of files that never change: by name, size and time, the SHA-256 of each part.
    files: HashMap<(String, u64, Duration), Vec<String>>,
    /// Keys of own parts, by SHA-256; maybe of an attempt that failed.
    parts: HashMap<String, String>,
}

impl Depot {
    /// Uploads what of a checkpoint is not there yet, and its manifest last. `author` is a name that
    /// nobody else has, and `attempt` one that it never used before. `pace` is asked before so many
    /// bytes are read or sent, and may take its time; where it says no, the upload ends.
    ///
    /// # Errors
    /// [`SnapshotError`]: nothing that was there before is touched, and the next attempt goes on
    /// from what `known` has of this one.
    pub fn upload(
        &self,
        checkpoint: Checkpoint<'_>,
        (author, attempt): (&str, u64),
        known: &mut Known,
        pace: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Uploaded, SnapshotError> {
        let listing = self.list()?;
        let planned = self.planned(&listing)?;
        // Parts of manifests, or of our own: those of others that no manifest names may be half of
        // something, or about to go.
        let mut there: HashMap<String, String> = HashMap::new();
        for (_, manifest) in self.read_good(&listing)? {
            there.extend(manifest.parts().map(|part| (part.sha256.clone(), part.key.clone())));
        }
        there.extend(known.parts.drain());
        there.retain(|_, key| listing.parts.contains_key(key) && !planned.contains(key));
        let mut sending = Sending {
            depot: self,
            suffix: format!("{author}-{attempt}"),
            there,
            known,
            pace,
            new_bytes: 0,
        };
        let files = sending.files(checkpoint.folder);
        let (there, new_bytes) = (sending.there, sending.new_bytes);
        known.parts = there;
        let manifest = Manifest {
            format: FORMAT,
            shard: self.shard.clone(),
            identity: self.identity.clone(),
            sources: checkpoint.sources,
            author: author.to_owned(),
            writer: concat!("driftline ", env!("CARGO_PKG_VERSION")).to_owned(),
            files: files?,
        };
        let key = self.publish(&manifest)?;
        Ok(Uploaded { key, bytes: manifest.bytes(), new_bytes })
    }

    /// Writes a manifest, and makes sure that what it names stays: whoever collects plans first and
    /// looks at manifests then, so that one of the two sees the other.
    fn publish(&self, manifest: &Manifest) -> Result<String, SnapshotError> {
        let encoded = manifest.encode();
        let (name, bytes) =
            encoded.map_err(|source| SnapshotError::Io { path: "manifest".into(), source })?;
        let key = self.key(&format!("manifests/{name}"));
        // Of this name there can only be the same.
        self.objects.create(&key, bytes)?;
        let listing = self.list()?;
        let planned = self.planned(&listing)?;
        let stays =
            |part: &Part| listing.parts.contains_key(&part.key) && !planned.contains(&part.key);
        if manifest.parts().all(stays) {
            return Ok(key);
        }
        self.objects.delete(&key)?;
        Err(SnapshotError::Conflict(key))
    }
}

struct Sending<'a> {
    depot: &'a Depot,
    /// Of the names of parts that are made now.
    suffix: String,
    there: HashMap<String, String>,
    known: &'a mut Known,
    pace: &'a mut dyn FnMut(u64) -> bool,
    new_bytes: u64,
}

impl Sending<'_> {
    fn files(&mut self, folder: &Path) -> Result<Vec<SnapshotFile>, SnapshotError> {
        let mut files = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, path) in files_of(folder)? {
            let io = |source| SnapshotError::Io { path: path.clone(), source };
            let metadata = std::fs::metadata(&path).map_err(io)?;
            // Tables never change once they are written; the others are small.
            let changed = metadata.modified().map_err(io)?;
            let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
            let is_table = name.ends_with(".sst");
            let id = is_table.then(|| (name.clone(), metadata.len(), changed));
            let hashes = id.as_ref().and_then(|id| self.known.files.get(id)).cloned();
            let file = self.file(&name, &path, metadata.len(), hashes.as_deref())?;
            if let Some(id) = id {
                let hashes = file.parts.iter().map(|part| part.sha256.clone()).collect();
                self.known.files.insert(id.clone(), hashes);
                seen.insert(id);
            }
            files.push(file);
        }
        self.known.files.retain(|id, _| seen.contains(id));
        Ok(files)
    }

    fn file(
        &mut self,
        name: &str,
        path: &Path,
        bytes: u64,
        hashes: Option<&[String]>,
    ) -> Result<SnapshotFile, SnapshotError> {
        let io = |source| SnapshotError::Io { path: path.to_owned(), source };
        let mut open = File::open(path).map_err(io)?;
        let mut parts = Vec::new();
        for (n, from) in (0..bytes).step_by(PART_BYTES).enumerate() {
            let length = (bytes - from).min(PART_BYTES as u64);
            let known = hashes.and_then(|hashes| hashes.get(n));
            let found = known.and_then(|sha256| Some((sha256.clone(), self.there.get(sha256)?)));
            let (sha256, key) = match found {
                Some((sha256, key)) => (sha256, key.clone()),
                None => {
                    self.wait_for(length)?;
                    open.seek(SeekFrom::Start(from)).map_err(io)?;
                    let mut part = vec![0; length as usize];
                    open.read_exact(&mut part).map_err(io)?;
                    self.part(part.into())?
                }
            };
            parts.push(Part { key, bytes: length, sha256 });
        }
        Ok(SnapshotFile { name: name.to_owned(), bytes, parts })
    }

    /// Sends a part, unless there is one of the same bytes. Its SHA-256 and its key.
    fn part(&mut self, bytes: Bytes) -> Result<(String, String), SnapshotError> {
        let sha256 = sha256_hex(&bytes);
        if let Some(key) = self.there.get(&sha256) {
            return Ok((sha256, key.clone()));
        }
        let key = self.depot.key(&format!("parts/{sha256}-{}", self.suffix));
        let length = bytes.len() as u64;
        self.wait_for(length)?;
        self.depot.objects.create(&key, bytes)?;
        self.new_bytes += length;
        self.there.insert(sha256.clone(), key.clone());
        Ok((sha256, key))
    }

    fn wait_for(&mut self, bytes: u64) -> Result<(), SnapshotError> {
        if (self.pace)(bytes) { Ok(()) } else { Err(SnapshotError::Stopped) }
    }
}

/// The files of a store, by name, but for those that only its process needs.
fn files_of(folder: &Path) -> Result<Vec<(String, PathBuf)>, SnapshotError> {
    let io = |source| SnapshotError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // RocksDB's own diary, and its lock.
        let is_diary = name == "LOG" || name.starts_with("LOG.old") || name == "LOCK";
        if entry.file_type().map_err(io)?.is_file() && !is_diary {
            files.push((name, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

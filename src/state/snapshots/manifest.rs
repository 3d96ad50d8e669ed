//! What a snapshot is made of, as JSON.

use std::io::Error as IoError;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::objects::sha256_hex;
use crate::state::Anchor;

/// Raised when a manifest can no longer be read as before.
pub(super) const FORMAT: u32 = 1;

/// Digits of its bytes' SHA-256 in a manifest's name: 128 bits.
pub(super) const HASH_DIGITS: usize = 32;

/// A snapshot. Written last: without it there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// The shard, as its folder is called.
    pub shard: String,
    /// What it was folded from and under which rules: cluster, topics, partition, versions.
    pub identity: String,
    /// How far it has come of each topic.
    pub sources: Vec<SourcePosition>,
    /// What made it: a new name each time that a worker starts.
    pub author: String,
    /// The version that made it.
    pub writer: String,
    /// The store's files.
    pub files: Vec<SnapshotFile>,
}

/// How far a snapshot has come of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePosition {
    /// The topic, with its prefix.
    pub topic: String,
    /// The next offset to fold.
    pub next_offset: i64,
    /// The last record folded, by which the topic is known again.
    pub anchor: Option<Anchor>,
}

/// A file of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// Its name in the store's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What it is joined from, in order.
    pub parts: Vec<Part>,
}

/// A piece of a file, and the object that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The object's key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// How far it has come: records folded, over its topics. Of two snapshots that with more is the
    /// newer one, whatever clocks say.
    pub fn position(&self) -> u64 {
        position_of(&self.sources)
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// All parts of all files.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.files.iter().flat_map(|file| &file.parts)
    }

    /// Its bytes, and its name, which follows from them.
    pub(super) fn encode(&self) -> Result<(String, Bytes), IoError> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let hash = sha256_hex(&text);
        let name = format!("{:020}-{}-{}.json", self.position(), self.author, &hash[..HASH_DIGITS]);
        Ok((name, text.into()))
    }
}

/// See [`Manifest::position`].
pub fn position_of(sources: &[SourcePosition]) -> u64 {
    sources.iter().map(|source| u64::try_from(source.next_offset).unwrap_or(0)).sum()
}

/// The digits of its bytes' SHA-256 that a manifest's key tells.
pub(super) fn hash_in(key: &str) -> Option<&str> {
    key.strip_suffix(".json")?.rsplit('-').next()
}

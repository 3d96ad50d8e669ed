//! What is written down about cuts, as JSON: where one ends, and what is in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layout::Chain;
use crate::ids::stable_hash;
use crate::time::EventTime;

/// The range of a cut, written before any of its files. Whoever comes next makes this cut and no
/// other, so that the names and bytes are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// First offset.
    pub start: i64,
    /// The offset after the last.
    pub end: i64,
}

/// A record by which it is known again whether a topic is still the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// [`stable_hash`] of its value.
    pub hash: u64,
}

impl Anchor {
    /// The anchor that a record makes.
    pub fn of(offset: i64, timestamp_ms: i64, value: &[u8]) -> Self {
        Self { offset, timestamp_ms, hash: stable_hash(value) }
    }
}

/// A data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its key in the object store.
    pub key: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// The schema that the rows of a cut are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaId {
    /// The subject's name.
    pub subject: String,
    /// Its version.
    pub version: u32,
    /// CRC-64-AVRO in hexadecimal, as records carry it.
    pub fingerprint: String,
}

/// Records of a cut that have no row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// How many, by why.
    pub by_class: BTreeMap<String, u64>,
    /// Which: ranges of offsets, first and last.
    pub offsets: Vec<(i64, i64)>,
}

impl Passed {
    /// Notes one more, beyond those before.
    pub fn note(&mut self, class: &str, offset: i64) {
        *self.by_class.entry(class.to_owned()).or_default() += 1;
        match self.offsets.last_mut() {
            Some((_, last)) if *last + 1 == offset => *last = offset,
            _ => self.offsets.push((offset, offset)),
        }
    }

    /// How many in all.
    pub fn count(&self) -> u64 {
        self.by_class.values().sum()
    }
}

/// What a cut holds. Written last: a cut without it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// How often the topic was made anew before.
    pub generation: i32,
    /// First offset.
    pub start: i64,
    /// The offset after the last.
    pub end: i64,
    /// Rows in all files.
    pub rows: u64,
    /// Records without a row.
    pub passed: Passed,
    /// Offsets at which there was no record: marks of transactions, what was compacted.
    pub absent: u64,
    /// The event times of the rows, first and last; none without rows.
    pub event_time: Option<(i64, i64)>,
    /// What the rows are.
    pub schema: SchemaId,
    /// One an hour.
    pub files: Vec<DataFile>,
    /// The last record; none where the log had lost all of them.
    pub last: Option<Anchor>,
    /// Offsets before this cut that the log had lost before they were read, first and last.
    pub lost: Option<(i64, i64)>,
    /// What wrote it.
    pub writer: String,
}

impl Manifest {
    /// The chain that it is a link of.
    pub fn chain(&self) -> Chain {
        let (topic, partition) = (self.topic.clone(), self.partition);
        Chain { topic, partition, generation: self.generation }
    }

    /// The newest event time of its rows.
    pub fn newest(&self) -> Option<EventTime> {
        self.event_time.map(|(_, last)| EventTime::from_millis(last))
    }
}

/// Bytes of something that is written down: JSON for people, the same for the same.
pub fn to_json(value: &impl Serialize) -> Result<bytes::Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text.into())
}

/// The same as metadata of a file, without line breaks.
pub fn to_line(value: &Value) -> String {
    value.to_string()
}

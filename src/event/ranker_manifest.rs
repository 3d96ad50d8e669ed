//! What the topic `models` says of a version of the ranker.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// A version, as the topic announces it once its bytes are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RankerManifest {
    /// Counts from 1.
    pub version: i64,
    /// Records that hold its bytes.
    pub chunks: i32,
    /// How many bytes they are.
    pub bytes: i64,
    /// SHA-256 of all bytes, hexadecimal.
    pub sha256: String,
    /// Names the features that it reads.
    pub feature_schema: String,
    /// Examples that it has learnt from.
    pub examples: i64,
    /// The newest exposure among them, milliseconds since the Unix epoch.
    pub watermark: i64,
    /// By partition of `training-examples`: the first offset that it has not learnt from.
    pub offsets: Vec<i64>,
    /// By partition: the last example that it has learnt from.
    pub last: Vec<ExamplePlace>,
}

/// The place of an example in the order of its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExamplePlace {
    /// When its list was wanted, milliseconds since the Unix epoch.
    pub event_time: i64,
    /// Its list, to be compared as unsigned.
    pub list: i64,
    /// Its place in the list; -1 before there was any.
    pub position: i32,
}

impl Default for ExamplePlace {
    fn default() -> Self {
        Self { event_time: 0, list: 0, position: -1 }
    }
}

impl ExamplePlace {
    /// Whether it comes after another of its shard. What does not was written twice.
    pub fn is_after(&self, other: &Self) -> bool {
        let key = |place: &Self| (place.event_time, place.list as u64, place.position);
        key(self) > key(other)
    }
}

impl RankerManifest {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::RANKER_MANIFEST, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::RANKER_MANIFEST, bytes).map(|(record, _)| record)
    }
}

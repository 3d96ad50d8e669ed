//! What an item shard tells all workers: the records of `item-embeddings` and `item-features`,
//! whose keys are items.

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// The live vectors of one item, as they are written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EmbeddingRecord<'a> {
    /// One for each basis over which the item has learnt.
    #[serde(borrow)]
    pub vectors: Vec<LiveVector<'a>>,
}

/// A vector over one basis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveVector<'a> {
    /// The version of the basis, as a signed long.
    pub basis: i64,
    /// The vector's bytes, as the schema says.
    #[serde(borrow)]
    pub vector: Bytes<'a>,
}

/// What is counted of one item, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeaturesRecord {
    /// The newest event, milliseconds since the Unix epoch.
    pub event_time: i64,
    /// Watches in the time that is kept.
    pub watches: i64,
    /// Watches of at least half of the item.
    pub long_views: i64,
    /// Clicks.
    pub clicks: i64,
    /// The shortest half-life first.
    pub decayed: Vec<DecayedCounts>,
    /// The largest weight first.
    pub co_watched: Vec<CoWatched>,
}

/// Counts of which each event halves once a half-life of age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecayedCounts {
    /// Milliseconds.
    pub half_life_ms: i64,
    /// Watches.
    pub watches: f32,
    /// Watches of at least half of the item.
    pub long_views: f32,
    /// Clicks.
    pub clicks: f32,
}

/// An item that users liked shortly before another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CoWatched {
    /// XXH3-64 of the item, as a signed long.
    pub item: i64,
    /// How often, decayed.
    pub weight: f32,
}

impl<'a> EmbeddingRecord<'a> {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::ITEM_EMBEDDING, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::ITEM_EMBEDDING, bytes).map(|(record, _)| record)
    }
}

impl FeaturesRecord {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::ITEM_FEATURES, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::ITEM_FEATURES, bytes).map(|(record, _)| record)
    }
}

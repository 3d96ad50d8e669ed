//! What a user shard tells all workers about items: the records of `interactions`.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::user_event::Source;
use super::{Rejection, schema};

/// What one user shard folded between two commits, for the items of one partition.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Interactions<'a> {
    /// The user shard.
    pub shard: i32,
    /// In the order they were folded.
    #[serde(borrow)]
    pub interactions: Vec<Interaction<'a>>,
}

/// One accepted event, as far as items are concerned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interaction<'a> {
    /// The topic it came from.
    pub source: Source,
    /// Its offset there.
    pub offset: i64,
    /// XXH3-64 of the user id, as a signed long.
    pub user: i64,
    /// XXH3-64 of the session's key, as a signed long.
    pub session: i64,
    /// XXH3-64 of the event id, as a signed long.
    pub event: i64,
    /// The item.
    pub item: &'a str,
    /// Milliseconds since the Unix epoch.
    pub event_time: i64,
    /// Watched part of the duration; 0 where not a watch or not known.
    pub fraction: f32,
    /// Where it happened.
    pub surface: &'a str,
}

impl<'a> Interactions<'a> {
    /// Encodes one record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::INTERACTIONS, self, Encoding::AvroSingleObject)
    }

    /// Decodes one record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::INTERACTIONS, bytes).map(|(batch, _)| batch)
    }
}

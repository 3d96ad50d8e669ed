//! What a user shard tells all workers about items: the records of `interactions`.

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
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
    /// What the user had liked before they liked this; none where they did not like it.
    #[serde(borrow)]
    pub history: Option<History<'a>>,
}

/// Items that a user has liked, as hashes: XXH3-64 of each, once each, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History<'a>(#[serde(borrow)] Bytes<'a>);

impl History<'_> {
    /// Most items of a history. Weights fall by recency: a fold-in over twice as many moved users
    /// little, and every item is 8 bytes of each interaction.
    pub const MAX: usize = 32;

    /// A history of these items, the newest first; the oldest are left out beyond [`Self::MAX`].
    pub fn of(newest_first: impl IntoIterator<Item = u64>) -> Self {
        let hashes = newest_first.into_iter().take(Self::MAX);
        let mut bytes = Vec::with_capacity(8 * hashes.size_hint().1.unwrap_or(Self::MAX));
        hashes.for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
        Self(Bytes::from(bytes))
    }

    /// The items, the newest first. A foreign record may hold more than [`Self::MAX`]: the oldest
    /// are left out, as are bytes that make up no whole hash.
    pub fn iter(&self) -> impl Iterator<Item = u64> + Clone {
        self.0.as_slice().as_chunks().0.iter().take(Self::MAX).map(|hash| u64::from_le_bytes(*hash))
    }
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

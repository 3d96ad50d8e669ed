//! What the topic `model-control` says: which model serves.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// How far a candidate has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// A symbol to come: the candidate serves nobody.
    #[serde(rename = "UNKNOWN")]
    Unknown,
    /// There is none: the champion serves alone.
    #[default]
    #[serde(rename = "SERVING")]
    Serving,
    /// Workers load and check it.
    #[serde(rename = "PREPARE")]
    Prepare,
    /// It makes lists that nobody sees.
    #[serde(rename = "SHADOW")]
    Shadow,
    /// A share of users get its lists.
    #[serde(rename = "CANARY")]
    Canary,
}

impl Phase {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Serving => "serving",
            Self::Prepare => "prepare",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
        }
    }
}

/// The whole desired state of a model, under the model's name as key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelControl {
    /// Counts from 1.
    pub epoch: i64,
    /// How far the candidate has come.
    pub phase: Phase,
    /// The version that serves, 16 hexadecimal digits; empty for the newest basis that is there.
    pub champion: String,
    /// The version that served before, which stays loaded; empty where there was none.
    pub previous: String,
    /// The version that is tried; empty where none is.
    pub candidate: String,
    /// Of 10,000 users, how many it serves in [`Phase::Canary`].
    pub share: i32,
    /// Seed of the hash that chooses them.
    pub salt: String,
    /// Event time from which lists count for this phase, milliseconds since the Unix epoch.
    pub since: i64,
    /// When the candidate was first named, by the clock of who decided.
    pub begun_at: i64,
    /// The version that was turned down last.
    pub rejected: String,
    /// Whether that one must never serve.
    pub quarantine: bool,
    /// Whether nothing is decided but by hand.
    pub frozen: bool,
    /// Who decided.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, by the clock of who decided; milliseconds since the Unix epoch.
    pub decided_at: i64,
}

impl ModelControl {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::MODEL_CONTROL, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::MODEL_CONTROL, bytes).map(|(record, _)| record)
    }
}

//! What the topic `model-control` says: which model serves.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// The whole desired state of a model, under the model's name as key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelControl {
    /// Counts from 1.
    pub epoch: i64,
    /// The version that serves, 16 hexadecimal digits; empty for the newest basis that is there.
    pub champion: String,
    /// The version that served before, which stays loaded; empty where there was none.
    pub previous: String,
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

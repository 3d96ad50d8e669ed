//! What the topic `training-runs` says: what became of what asked for a model.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// A symbol to come.
    #[default]
    #[serde(rename = "UNKNOWN")]
    Unknown,
    /// It has begun.
    #[serde(rename = "STARTED")]
    Started,
    /// A version was registered.
    #[serde(rename = "FINISHED")]
    Finished,
    /// The data was not fit: nothing is tried again.
    #[serde(rename = "REFUSED")]
    Refused,
    /// Something failed that may pass: it is tried again.
    #[serde(rename = "FAILED")]
    Failed,
    /// It was tried often enough: somebody has to look.
    #[serde(rename = "GAVE_UP")]
    GaveUp,
    /// Another run answers it.
    #[serde(rename = "COLLAPSED")]
    Collapsed,
}

impl RunState {
    /// Whether nothing more comes of it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Refused | Self::GaveUp | Self::Collapsed)
    }
}

/// A step of a run, under the trigger's event id as key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingRun {
    /// The trigger that it answers.
    pub trigger: String,
    /// Where it stands.
    pub state: RunState,
    /// When, by the trainer's clock; milliseconds since the Unix epoch.
    pub at: i64,
    /// Counts from 1.
    pub attempt: i32,
    /// The version that was registered, 16 hexadecimal digits; empty where there is none.
    pub version: String,
    /// Whether it may serve.
    pub blessed: bool,
    /// Whether it was promoted.
    pub promoted: bool,
    /// Why, where it did not end as wanted.
    pub reasons: Vec<String>,
    /// The trigger whose run answers this one; empty where it is its own.
    pub collapsed_into: String,
}

impl TrainingRun {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::TRAINING_RUN, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::TRAINING_RUN, bytes).map(|(record, _)| record)
    }
}

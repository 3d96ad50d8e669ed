//! What the topic `model-acks` says: what a worker made of the last decision on models.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// How far a worker is with a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CandidateState {
    /// A symbol to come: not ready.
    #[serde(rename = "UNKNOWN")]
    Unknown,
    /// There is no candidate.
    #[default]
    #[serde(rename = "NONE")]
    None,
    /// It is not whole yet.
    #[serde(rename = "LOADING")]
    Loading,
    /// It is loaded and checked.
    #[serde(rename = "LOADED")]
    Loaded,
    /// It cannot serve here.
    #[serde(rename = "FAILED")]
    Failed,
}

/// By whom lists were made while a candidate is tried.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum RolloutArm {
    /// A symbol to come.
    #[default]
    #[serde(rename = "UNKNOWN")]
    Unknown,
    /// By what serves.
    #[serde(rename = "CHAMPION")]
    Champion,
    /// By the candidate, for users.
    #[serde(rename = "CANARY")]
    Canary,
    /// By the candidate, for nobody.
    #[serde(rename = "SHADOW")]
    Shadow,
}

/// What was answered by one arm since an epoch began. The schema says what each field means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServedBy {
    /// Which.
    pub arm: RolloutArm,
    /// The version; empty where none is decided.
    pub version: String,
    /// Requests.
    pub requests: i64,
    /// Those that ended in an error, or would have.
    pub failures: i64,
    /// Those that gave an empty list.
    pub empty_lists: i64,
    /// Users, each counted once.
    pub users: i64,
    /// Items of shadow lists that were in the lists that were answered.
    pub overlap_items: i64,
    /// Items of shadow lists.
    pub items: i64,
    /// Requests by the time that the list took, in half octaves of microseconds.
    pub latency: Vec<i64>,
}

/// What a worker made of the last decision, under `MODEL/WORKER` as key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelAck {
    /// The worker.
    pub worker: String,
    /// Tells two processes of one name apart.
    pub boot: String,
    /// The decision that it follows; 0 before any.
    pub epoch: i64,
    /// The version by which it makes lists; empty where none is decided or loaded.
    pub champion: String,
    /// Versions that are ready to serve.
    pub loaded: Vec<String>,
    /// The version that it is asked to try.
    pub candidate: String,
    /// How far it is with that one.
    pub state: CandidateState,
    /// Why it failed.
    pub error: String,
    /// How often it has tried.
    pub attempts: i32,
    /// Milliseconds for which it counts as alive after this was read.
    pub lease_ms: i32,
    /// The newest event time that it knows of, milliseconds since the Unix epoch; 0 for none.
    pub event_time: i64,
    /// When, by its clock.
    pub sent_at: i64,
    /// What it answered since the epoch began, by arm.
    pub served: Vec<ServedBy>,
}

impl ModelAck {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::MODEL_ACK, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::MODEL_ACK, bytes).map(|(record, _)| record)
    }
}

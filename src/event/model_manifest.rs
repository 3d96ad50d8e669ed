//! What the topic `models` says of a basis.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// What trains bases in the workers, until a trainer publishes better ones.
pub const FIRST_BASIS: &str = "first-basis";

/// A basis, as the topic announces it once its bytes are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelManifest {
    /// XXH3-64 of the basis' bytes, as a signed long.
    pub version: i64,
    /// What trained it.
    pub trained_by: String,
    /// Records that hold its bytes.
    pub chunks: i32,
    /// How many bytes they are.
    pub bytes: i64,
    /// SHA-256 of all bytes, hexadecimal.
    pub sha256: String,
    /// By partition of `interactions`: the first offset it was not trained on.
    pub offsets: Vec<i64>,
    /// The newest event it was trained on, milliseconds since the Unix epoch.
    pub watermark: i64,
    /// Users it was trained on.
    pub users: i64,
    /// Items it holds.
    pub items: i64,
    /// Positive interactions it was trained on.
    pub interactions: i64,
    /// Which settings it was trained with, as `trials` name them; empty where there was nothing to
    /// choose.
    pub settings: String,
    /// Newest interactions that were held out to choose the settings by.
    pub targets: i64,
    /// What was tried; empty where there was too little to judge by.
    pub trials: Vec<SettingsTrial>,
    /// The version that it was trained to replace, 16 hexadecimal digits; empty where there was none.
    pub parent: String,
    /// Lists to check it by; none of first bases.
    pub golden: Vec<GoldenList>,
}

/// What a history must give over the basis as it was trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GoldenList {
    /// What a user liked, the newest first.
    pub history: Vec<String>,
    /// The nearest items but for those, the nearest first.
    pub items: Vec<String>,
    /// Their inner products with the user's vector.
    pub scores: Vec<f32>,
}

/// How settings did on what was held out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingsTrial {
    /// Which.
    pub settings: String,
    /// Recall@20 of the next item that is new to the user.
    pub recall: f64,
}

impl ModelManifest {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::MODEL_MANIFEST, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::MODEL_MANIFEST, bytes).map(|(record, _)| record)
    }
}

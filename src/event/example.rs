//! What came of what was shown: the records of `training-examples` and `label-corrections`.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::user_event::Source;
use super::{Rejection, schema};

/// One item of a list and what came of it, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingExample<'a> {
    /// Who.
    pub user: &'a str,
    /// What.
    pub item: &'a str,
    /// Its place in the list, from 0.
    pub position: i32,
    /// The list.
    pub request_id: &'a str,
    /// When the list was wanted, milliseconds since the Unix epoch.
    pub event_time: i64,
    /// The partition of the user shard that wrote it.
    pub shard: i32,
    /// Hash of user and request id, as a signed long.
    pub list: i64,
    /// Wall time at which the list was made, milliseconds since the Unix epoch.
    pub answered_at: i64,
    /// Where it was to be shown; empty where not said.
    pub surface: &'a str,
    /// The item being watched.
    #[serde(borrow)]
    pub context_item: Option<&'a str>,
    /// The model that ranked.
    pub model_version: &'a str,
    /// Experiment arm.
    pub arm: &'a str,
    /// What it was ranked by.
    pub score: f64,
    /// Probability with which it was placed there.
    pub propensity: f64,
    /// Whether it was drawn at random.
    pub explored: bool,
    /// Names the meaning and order of the features.
    pub feature_schema: &'a str,
    /// As they were served.
    pub features: Vec<Option<f32>>,
    /// Who made the item; empty where that was not known when it was shown, as what follows.
    pub creator: &'a str,
    /// Its main category.
    pub category: &'a str,
    /// Its length in milliseconds.
    pub item_ms: i64,
    /// Names the meaning and order of `ranked`.
    pub ranker_schema: &'a str,
    /// What the ranker saw of it; empty where it did not look.
    pub ranked: Vec<f32>,
    /// Whether it was clicked.
    pub clicked: bool,
    /// Milliseconds from the list to the first click.
    pub click_delay_ms: Option<i64>,
    /// Watches.
    pub watches: i32,
    /// Milliseconds watched in all of them.
    pub watched_ms: i64,
    /// The item's length in milliseconds; 0 where no watch gave it.
    pub duration_ms: i64,
    /// Whether it was watched for `long_view_ms`, or whole where it is shorter.
    pub long_view: bool,
    /// Milliseconds.
    pub long_view_ms: i64,
    /// Milliseconds after the list in which clicks count.
    pub click_window_ms: i64,
    /// Milliseconds after the list in which watches count.
    pub watch_window_ms: i64,
}

/// A watch or click that came after its example was closed, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelCorrection<'a> {
    /// Who.
    pub user: &'a str,
    /// What.
    pub item: &'a str,
    /// Its place in the list, from 0.
    pub position: i32,
    /// The list.
    pub request_id: &'a str,
    /// When the list was wanted, milliseconds since the Unix epoch.
    pub event_time: i64,
    /// The partition of the user shard that wrote it.
    pub shard: i32,
    /// Hash of user and request id, as a signed long.
    pub list: i64,
    /// Whether it was watched or clicked.
    pub source: Source,
    /// When, milliseconds since the Unix epoch.
    pub outcome_time: i64,
    /// 24 bits of the hash of its event id.
    pub outcome: i32,
    /// Milliseconds watched; 0 for a click.
    pub watched_ms: i64,
    /// The item's length in milliseconds; 0 where not known and for a click.
    pub duration_ms: i64,
}

impl<'a> TrainingExample<'a> {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::TRAINING_EXAMPLE, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::TRAINING_EXAMPLE, bytes).map(|(record, _)| record)
    }
}

impl<'a> LabelCorrection<'a> {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::LABEL_CORRECTION, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::LABEL_CORRECTION, bytes).map(|(record, _)| record)
    }
}

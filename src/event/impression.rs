//! Lists as they were answered: the records of `impressions`.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// A list and what ranked it, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Impression<'a> {
    /// The request's id.
    pub request_id: &'a str,
    /// For whom.
    pub user: &'a str,
    /// The time for which the list was wanted, milliseconds since the Unix epoch.
    pub event_time: i64,
    /// Wall time at which it was made, milliseconds since the Unix epoch.
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
    /// Which blend's weights ranked: `unseen`, `any`, `newcomer`.
    pub blend: &'a str,
    /// Events that those weights had learnt from.
    pub blend_observed: i64,
    /// All sources, in their order.
    #[serde(borrow)]
    pub weights: Vec<SourceWeight<'a>>,
    /// The parts that were missing.
    #[serde(borrow)]
    pub degraded: Vec<&'a str>,
    /// Names the meaning and order of the items' features.
    pub feature_schema: &'a str,
    /// Names the meaning and order of `ranked`; empty where no ranker looked at the list.
    pub ranker_schema: &'a str,
    /// Examples that the ranker had learnt from; 0 where none ranked.
    pub ranker_examples: i64,
    /// The newest exposure that it had learnt from, milliseconds since the Unix epoch; 0 where none
    /// ranked.
    pub ranker_watermark: i64,
    /// In the order of the list.
    #[serde(borrow)]
    pub items: Vec<ShownItem<'a>>,
}

/// What the word of a source counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceWeight<'a> {
    /// The source.
    pub source: &'a str,
    /// 0 to 1.
    pub weight: f32,
}

/// One item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShownItem<'a> {
    /// The item.
    pub item: &'a str,
    /// From 0.
    pub position: i32,
    /// What it was ranked by.
    pub score: f64,
    /// Probability with which it was placed here.
    pub propensity: f64,
    /// Whether it was drawn at random.
    pub explored: bool,
    /// Those that put it forward, the strongest first.
    #[serde(borrow)]
    pub sources: Vec<SourceScore<'a>>,
    /// The served features; none where there was nothing to compute one from.
    pub features: Vec<Option<f32>>,
    /// Who made it; empty where not known, as what follows.
    pub creator: &'a str,
    /// Its main category.
    pub category: &'a str,
    /// Its length in milliseconds.
    pub duration_ms: i64,
    /// What the ranker saw of it, as [`crate::ranking::Served::to_record`] has it.
    pub ranked: Vec<f32>,
    /// The probability of a click and of a long view; empty where no ranker is heard.
    pub probabilities: Vec<f32>,
}

impl Default for ShownItem<'_> {
    fn default() -> Self {
        Self {
            item: "",
            position: 0,
            score: 0.0,
            propensity: 1.0,
            explored: false,
            sources: Vec::new(),
            features: Vec::new(),
            creator: "",
            category: "",
            duration_ms: 0,
            ranked: Vec::new(),
            probabilities: Vec::new(),
        }
    }
}

impl<'a> ShownItem<'a> {
    /// Which item at which place, without what ranked it.
    pub fn named(&self) -> Self {
        Self { item: self.item, position: self.position, ..Self::default() }
    }
}

/// What one source said of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceScore<'a> {
    /// The source.
    pub source: &'a str,
    /// Its own score.
    pub score: f32,
    /// From 0, within the source.
    pub rank: i32,
}

impl<'a> Impression<'a> {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::IMPRESSION, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::IMPRESSION, bytes).map(|(record, _)| record)
    }
}

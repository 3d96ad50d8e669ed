//! Bytes ⇄ domain events, Avro both ways; bad bytes become a typed [`Rejection`].
//!
//! Enters: the value of a Kafka record. Leaves: a [`UserEvent`], a [`Feedback`], a [`Request`], a [`Reply`],
//! an [`Interaction`], a [`CatalogItem`], an [`Impression`], what is known of an item. Never touches Kafka, never looks
//! at a clock: what is too far in the future is judged against the record's own append time.

mod bytes;
mod catalog_item;
mod codec;
mod datum;
mod example;
mod experiment;
mod feedback;
mod impression;
mod interaction;
mod item_records;
mod metrics;
mod model_ack;
mod model_control;
mod model_manifest;
mod ranker_manifest;
mod request;
mod retrain_trigger;
pub mod schema;
#[cfg(test)]
mod tests;
mod training_run;
mod user_event;

pub use bytes::Bytes;
pub use catalog_item::{CatalogItem, CatalogRecord, item_of_key};
pub use codec::{Encoding, MAX_RECORD_BYTES};
pub use datum::Datum;
pub use example::{LabelCorrection, TrainingExample};
pub use experiment::{ExperimentArm, ExperimentRecord, ExperimentStatus};
pub use feedback::{Feedback, FeedbackKind, Subject, SubjectKind};
pub use impression::{Impression, ShownItem, SourceScore, SourceWeight};
pub use interaction::{History, Interaction, Interactions};
pub use item_records::{CoWatched, DecayedCounts, EmbeddingRecord, FeaturesRecord, LiveVector};
pub use metrics::{MetricsWindow, NamedCount, SampledItem, ServingWindow, UserGroup};
pub use model_ack::{CandidateState, ModelAck, RolloutArm, ServedBy};
pub use model_control::{ModelControl, Phase};
pub use model_manifest::{FIRST_BASIS, GoldenList, ModelManifest, SettingsTrial};
pub use ranker_manifest::{ExamplePlace, RankerManifest};
pub use request::{
    After, Degradation, ErrorKind, MAX_COUNT, Reason, RecommendedItem, Reply, Request,
    RequestError, RequestKind, decode_reply, decode_request, encode_reply, encode_request,
};
pub use retrain_trigger::{
    MetricKind, RetrainTrigger, TriggerAction, TriggerDataQuality, TriggerDetector,
    TriggerDirection, TriggerMetric, TriggerReference, TriggerSeverity, TriggerState, TriggerType,
    TriggerWindow,
};
pub use training_run::{RunState, TrainingRun};
pub use user_event::{Device, EventKind, EventTopic, Source, UserEvent, ValidityRules};

use std::fmt;

/// Where a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The bytes are no record of the subject.
    Decode,
    /// The record is one, and what it says cannot be.
    Validate,
}

/// Why a record was refused: what the dead letter's headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Where.
    pub stage: Stage,
    /// A short stable name, for counting: `UnknownSchema`, `EmptyId`.
    pub class: &'static str,
    /// What was found and what would be accepted.
    pub message: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for Rejection {}

impl Rejection {
    fn invalid(class: &'static str, message: String) -> Self {
        Self { stage: Stage::Validate, class, message }
    }
}

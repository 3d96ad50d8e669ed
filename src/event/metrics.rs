//! What is told of minutes: the records of `metrics`. The schemas say what each field means.

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// What came of the lists of one minute, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsWindow {
    /// The user shard that counted.
    pub shard: i32,
    /// Begin of the minute, in the event time of lists.
    pub start: i64,
    /// Milliseconds from begin to end.
    pub length_ms: i64,
    /// Version of the model that ranked.
    pub model_version: String,
    /// Experiment arm.
    pub arm: String,
    /// Where lists were shown; empty where not said.
    pub surface: String,
    /// Counts from 1.
    pub revision: i32,
    /// Lists whose label windows have passed.
    pub lists: i64,
    /// Lists from which a part was missing.
    pub degraded_lists: i64,
    /// Lists for users of whom nothing was known.
    pub newcomer_lists: i64,
    /// Items shown.
    pub impressions: i64,
    /// Items drawn at random among them.
    pub explored: i64,
    /// Items clicked.
    pub clicks: i64,
    /// Items watched.
    pub watches: i64,
    /// Milliseconds watched, of each item 30 minutes at most.
    pub watched_ms: i64,
    /// Items of which 95 % or more were watched, where their length is known.
    pub completions: i64,
    /// Items viewed long.
    pub long_views: i64,
    /// Clicks that came after their list was closed; not among clicks.
    pub late_clicks: i64,
    /// Watches that came after their list was closed; not among watches.
    pub late_watches: i64,
    /// Items for which the ranker had predicted what comes of them.
    pub predicted: i64,
    /// Sum of the predicted probabilities of a click, in millionths.
    pub predicted_clicks_e6: i64,
    /// Sum of the predicted probabilities of a long view, in millionths.
    pub predicted_long_views_e6: i64,
    /// Items clicked among them.
    pub clicks_predicted: i64,
    /// Items viewed long among them.
    pub long_views_predicted: i64,
    /// Sum of −ln of the probability given to what came, clicked or not, in millionths.
    pub click_log_loss_e6: i64,
    /// The same for long views.
    pub long_view_log_loss_e6: i64,
    /// Lists that the ranker put in order.
    pub ranked_lists: i64,
    /// Sum over those of the time between the list and the newest exposure that the ranker had
    /// learnt from.
    pub staleness_ms: i64,
    /// Items whose popularity was known.
    pub popularity_items: i64,
    /// Sum over those of log2(1 + watches and clicks.
    pub popularity_e6: i64,
    /// Items among them that nobody had watched or clicked.
    pub cold_items: i64,
    /// Items by the predicted log-odds of a click.
    pub scores: Vec<i64>,
    /// Names the features that feature_counts are of.
    pub feature_schema: String,
    /// Items by the value of each dense feature, one after the other.
    pub feature_counts: Vec<i64>,
    /// The 128 items with the smallest hashes.
    pub items: Vec<SampledItem>,
    /// The same sums by groups of users, those with lists, ascending.
    pub user_groups: Vec<UserGroup>,
}

/// How often an item was shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SampledItem {
    /// XXH3-64 of the item, as a signed long.
    pub item: i64,
    /// How often.
    pub impressions: i64,
}

/// What came of the lists of some of the users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserGroup {
    /// Which users.
    pub group: i32,
    /// Their lists.
    pub lists: i64,
    /// Items shown to them.
    pub impressions: i64,
    /// Items clicked.
    pub clicks: i64,
    /// Items viewed long.
    pub long_views: i64,
    /// Items of which 95 % or more were watched, where their length is known.
    pub completions: i64,
    /// Milliseconds watched, of each item 30 minutes at most.
    pub watched_ms: i64,
}

/// What one worker answered in a minute, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServingWindow {
    /// The worker.
    pub worker: String,
    /// Tells two processes of one name apart.
    pub boot: String,
    /// Begin of the minute, wall time.
    pub start: i64,
    /// Milliseconds from begin to end; less where the worker began or ended within the minute.
    pub length_ms: i64,
    /// Version of the model that answered.
    pub model_version: String,
    /// Examples that the ranker had learnt from at the end.
    pub ranker_examples: i64,
    /// Requests that were answered, with lists or errors.
    pub requests: i64,
    /// Lists without an item among them.
    pub empty_lists: i64,
    /// Error replies by kind, those that occurred.
    pub errors: Vec<NamedCount>,
    /// Parts that were missing from lists, by part.
    pub degradations: Vec<NamedCount>,
    /// Requests by the time from reading to replying.
    pub latency: Vec<i64>,
}

/// How often something was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedCount {
    /// What.
    pub name: String,
    /// How often.
    pub count: i64,
}

impl UserGroup {
    /// Adds what came of other lists of the same users.
    pub fn add(&mut self, other: &Self) {
        self.lists += other.lists;
        self.impressions += other.impressions;
        self.clicks += other.clicks;
        self.long_views += other.long_views;
        self.completions += other.completions;
        self.watched_ms += other.watched_ms;
    }
}

impl MetricsWindow {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::METRICS_WINDOW, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::METRICS_WINDOW, bytes).map(|(record, _)| record)
    }
}

impl ServingWindow {
    /// Encodes the record, Avro single-object.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::SERVING_WINDOW, self, Encoding::AvroSingleObject)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::SERVING_WINDOW, bytes).map(|(record, _)| record)
    }
}

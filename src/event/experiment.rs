//! What the topic `experiments` says: who is served how, and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

/// Whether users are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExperimentStatus {
    /// A symbol to come.
    #[default]
    #[serde(rename = "UNKNOWN")]
    Unknown,
    /// Nobody is in it yet.
    #[serde(rename = "DRAFT")]
    Draft,
    /// Users are served by its arms.
    #[serde(rename = "RUNNING")]
    Running,
    /// Nobody is in it any more.
    #[serde(rename = "STOPPED")]
    Stopped,
}

impl ExperimentStatus {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// One of the ways in which users are served, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExperimentArm {
    /// Its name.
    pub name: String,
    /// Share of the experiment's users.
    pub weight: f64,
    /// The version that serves; empty for the one that serves everybody.
    pub model_version: String,
    /// Config keys with other values than the worker's.
    pub settings: BTreeMap<String, String>,
}

/// The whole state of an experiment, under its name as key, as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExperimentRecord {
    /// Its name.
    pub name: String,
    /// Counts from 1.
    pub revision: i64,
    /// What is expected, and why.
    pub hypothesis: String,
    /// Whether users are in it.
    pub status: ExperimentStatus,
    /// What users are hashed with; empty for the name.
    pub seed: String,
    /// Share of the namespace's users who are in one of its arms.
    pub coverage: f64,
    /// The users that it shares with others; empty for all.
    pub namespace: String,
    /// Where its share of them begins.
    pub namespace_start: f64,
    /// Where it ends.
    pub namespace_end: f64,
    /// Its arms, the control first.
    pub arms: Vec<ExperimentArm>,
    /// Users who are in an arm whatever their hash says.
    pub overrides: BTreeMap<String, String>,
    /// What decides.
    pub primary_metric: String,
    /// Metrics that must not fall.
    pub guardrails: Vec<String>,
    /// When it began to run, milliseconds since the Unix epoch; 0 where it has not.
    pub begun_at: i64,
    /// When it was stopped; 0 where it was not.
    pub stopped_at: i64,
    /// The arm by which all users are served since; empty for none.
    pub kept: String,
    /// Who wrote this revision.
    pub by: String,
    /// When, milliseconds since the Unix epoch.
    pub written_at: i64,
}

impl Default for ExperimentRecord {
    fn default() -> Self {
        Self {
            name: String::new(),
            revision: 0,
            hypothesis: String::new(),
            status: ExperimentStatus::Unknown,
            seed: String::new(),
            coverage: 1.0,
            namespace: String::new(),
            namespace_start: 0.0,
            namespace_end: 1.0,
            arms: Vec::new(),
            overrides: BTreeMap::new(),
            primary_metric: String::new(),
            guardrails: Vec::new(),
            begun_at: 0,
            stopped_at: 0,
            kept: String::new(),
            by: String::new(),
            written_at: 0,
        }
    }
}

impl ExperimentRecord {
    /// Encodes the record, Avro single-object or JSON.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::EXPERIMENT, self, encoding)
    }

    /// Decodes a record, of either encoding.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::EXPERIMENT, bytes).map(|(record, _)| record)
    }
}

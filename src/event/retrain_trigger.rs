//! The records of `retrain-triggers`. The schema says what each field means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::{Rejection, schema};

macro_rules! symbols {
    ($(#[$doc:meta])* $name:ident { $($(#[$symbol_doc:meta])* $symbol:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$symbol_doc])* #[serde(rename = $text)] $symbol,)*
        }

        impl $name {
            /// As the schema writes it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$symbol => $text,)* }
            }
        }
    };
}

symbols! {
    /// What asked.
    TriggerType {
        /// A symbol to come.
        #[default]
        Unknown = "UNKNOWN",
        /// What goes in, or what is predicted, is distributed otherwise.
        Drift = "DRIFT",
        /// What comes of lists, or how the system answers, has changed.
        Performance = "PERFORMANCE",
        /// A timer.
        Schedule = "SCHEDULE",
        /// A person.
        Manual = "MANUAL",
    }
}

symbols! {
    /// What to do.
    TriggerAction {
        /// Nothing: it is only told.
        #[default]
        None = "NONE",
        /// Train a new version.
        Retrain = "RETRAIN",
        /// Serve the previous version.
        Rollback = "ROLLBACK",
        /// Have somebody look.
        Investigate = "INVESTIGATE",
    }
}

symbols! {
    /// What kind of thing was measured.
    MetricKind {
        /// A symbol to come.
        #[default]
        Unknown = "UNKNOWN",
        /// What came of lists.
        Business = "BUSINESS",
        /// Errors and latency.
        System = "SYSTEM",
        /// Predictions.
        Score = "SCORE",
        /// What they are made from.
        Feature = "FEATURE",
        /// The data themselves.
        Quality = "QUALITY",
    }
}

symbols! {
    /// Which way a metric went.
    TriggerDirection {
        /// It has no direction.
        #[default]
        None = "NONE",
        /// More.
        Up = "UP",
        /// Less.
        Down = "DOWN",
    }
}

symbols! {
    /// Where a finding stands.
    TriggerState {
        /// A symbol to come.
        #[default]
        Unknown = "UNKNOWN",
        /// True, not yet for long enough.
        Pending = "PENDING",
        /// It has lasted.
        Firing = "FIRING",
        /// It has been untrue for long enough.
        Resolved = "RESOLVED",
    }
}

symbols! {
    /// How bad it is.
    TriggerSeverity {
        /// Good to know.
        #[default]
        Info = "INFO",
        /// Worth a look.
        Warning = "WARNING",
        /// Acted upon at once.
        Critical = "CRITICAL",
    }
}

/// A trigger, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetrainTrigger {
    /// This event.
    pub event_id: String,
    /// When it was decided, in event time.
    pub emitted_at: i64,
    /// What asked.
    pub trigger_type: TriggerType,
    /// What to do now.
    pub action: TriggerAction,
    /// What it would ask for were it not suppressed.
    pub wanted_action: TriggerAction,
    /// Name of the model.
    pub model: String,
    /// The version that served most.
    pub model_version: String,
    /// What part of the traffic.
    pub segment: String,
    /// What was measured.
    pub metric: TriggerMetric,
    /// What judged.
    pub detector: TriggerDetector,
    /// What the detector compares with the threshold.
    pub statistic: f64,
    /// From which on it is a finding.
    pub threshold: f64,
    /// Evidence against nothing having changed.
    pub e_value: f64,
    /// What was measured over the window.
    pub observed: f64,
    /// What was expected of it.
    pub baseline: f64,
    /// Size of the change.
    pub effect: f64,
    /// What it was found in.
    pub window: TriggerWindow,
    /// What it was compared with.
    pub reference: TriggerReference,
    /// Where the finding stands.
    pub state: TriggerState,
    /// How bad it is.
    pub severity: TriggerSeverity,
    /// Minutes that lay outside of what is let pass.
    pub windows_breached: i64,
    /// Names the finding.
    pub dedup_key: String,
    /// Before which no other RETRAIN is asked for.
    pub cooldown_until: i64,
    /// Why wanted_action is not asked for.
    pub suppressed_by: String,
    /// Whether the data can be believed.
    pub data_quality: TriggerDataQuality,
    /// For people.
    pub reason: String,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerMetric {
    /// Its name.
    pub name: String,
    /// What kind of thing.
    pub kind: MetricKind,
    /// Unit of observed and baseline.
    pub unit: String,
    /// Which way it went.
    pub direction: TriggerDirection,
}

/// What judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerDetector {
    /// Its name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Its settings by name.
    pub parameters: BTreeMap<String, String>,
}

/// What a finding was found in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerWindow {
    /// Begin.
    pub start: i64,
    /// End.
    pub end: i64,
    /// Values in it.
    pub n: i64,
    /// By partition of `metrics`: the next offset to read when it was decided.
    pub offsets: Vec<i64>,
}

/// What it was compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerReference {
    /// Names it.
    pub id: String,
    /// seasonal, window or limit.
    pub kind: String,
    /// Begin.
    pub start: i64,
    /// End.
    pub end: i64,
    /// Values in it.
    pub n: i64,
}

/// Whether the data can be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerDataQuality {
    /// Whether no check fails.
    pub passed: bool,
    /// Names of the checks that fail.
    pub failing: Vec<String>,
}

impl Default for TriggerDataQuality {
    fn default() -> Self {
        Self { passed: true, failing: Vec::new() }
    }
}

impl RetrainTrigger {
    /// Encodes the record, Avro single-object or JSON.
    ///
    /// # Errors
    /// A [`Rejection`] where the value does not fit the schema: a fault of ours.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::RETRAIN_TRIGGER, self, encoding)
    }

    /// Decodes a record, of either encoding.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        codec::decode(&schema::RETRAIN_TRIGGER, bytes).map(|(record, _)| record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger() -> RetrainTrigger {
        RetrainTrigger {
            event_id: "1-firing-2".into(),
            emitted_at: 1_700_000_000_000,
            trigger_type: TriggerType::Performance,
            wanted_action: TriggerAction::Retrain,
            metric: TriggerMetric {
                name: "click_rate".into(),
                kind: MetricKind::Business,
                unit: "ratio".into(),
                direction: TriggerDirection::Down,
            },
            detector: TriggerDetector {
                parameters: BTreeMap::from([("share".into(), "0.24".into())]),
                ..TriggerDetector::default()
            },
            e_value: 9.5e303,
            effect: -0.2,
            window: TriggerWindow { start: 1, end: 2, n: 3, offsets: vec![4, 5] },
            state: TriggerState::Firing,
            severity: TriggerSeverity::Critical,
            suppressed_by: "cooldown:1".into(),
            data_quality: TriggerDataQuality { passed: false, failing: vec!["gap".into()] },
            ..RetrainTrigger::default()
        }
    }

    #[test]
    fn triggers_read_back_alike_from_both_encodings() {
        for trigger in [trigger(), RetrainTrigger::default()] {
            for encoding in [Encoding::AvroSingleObject, Encoding::Json] {
                let bytes = trigger.encode(encoding).unwrap();
                assert_eq!(RetrainTrigger::decode(&bytes).unwrap(), trigger);
            }
        }
    }

    #[test]
    fn a_trigger_in_json_has_the_names_of_the_schema_and_may_leave_fields_out() {
        let json = trigger().encode(Encoding::Json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            (&json["action"], &json["metric"]["direction"]),
            (&"NONE".into(), &"DOWN".into())
        );
        let schema: serde_json::Value =
            serde_json::from_str(&schema::RETRAIN_TRIGGER.newest().text).unwrap();
        let fields = schema["fields"].as_array().unwrap();
        assert_eq!(json.as_object().unwrap().len(), fields.len());
        assert!(fields.iter().all(|field| json.get(field["name"].as_str().unwrap()).is_some()));
        let least = RetrainTrigger::decode(b"{\"action\":\"RETRAIN\"}").unwrap();
        assert!(least.action == TriggerAction::Retrain && least.data_quality.passed);
    }
}

//! What is known of a version, as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::record::FORMAT;
use crate::lake::Snapshot;
use crate::model::BasisVersion;

/// The name of a version: the XXH3-64 with which the bytes of its basis end, shown as 16
/// hexadecimal digits. Lists, replies and metrics name the model by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelVersion(pub u64);

impl From<BasisVersion> for ModelVersion {
    fn from(version: BasisVersion) -> Self {
        Self(version.0)
    }
}

impl ModelVersion {
    /// The version of these 16 digits; none where they are something else.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that names no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version: a version is 16 hexadecimal digits in lower case")]
pub struct NoVersion(String);

impl FromStr for ModelVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let number = u64::from_str_radix(text, 16).ok();
        number
            .filter(|_| text.len() == 16 && text.chars().all(is_digit))
            .map(Self)
            .ok_or_else(|| NoVersion(text.to_owned()))
    }
}

impl Serialize for ModelVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a version came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Trained from the lake.
    Train,
    /// Trained elsewhere and taken in.
    Import,
}

impl Origin {
    /// `train` or `import`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Import => "import",
        }
    }
}

/// A version: what it is, what made it, and what was found of it. Never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format; [`register`](super::Registry::register) sets it.
    pub format: u32,
    /// Its name.
    pub version: ModelVersion,
    /// When it was made, milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Where it came from.
    pub by: Origin,
    /// The program that made it.
    pub code_version: String,
    /// The seed of its training; none where it was made elsewhere.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Its files by name; [`register`](super::Registry::register) fills them in.
    #[serde(default)]
    pub files: BTreeMap<String, ModelFile>,
    /// Names the meaning and order of the ranker's features: `ranking::schema_name()`.
    pub feature_schema: String,
    /// Components of an item's vector.
    pub dimension: usize,
    /// What it was made from.
    #[serde(default)]
    pub lineage: Lineage,
    /// The version that training began with, or that was the champion then.
    #[serde(default)]
    pub parent: Option<ModelVersion>,
    /// How it was trained.
    #[serde(default)]
    pub training: TrainingRun,
    /// How it did on events that it was not trained on; none where it was not tried.
    #[serde(default)]
    pub validation: Option<Validation>,
    /// Whether it may serve.
    #[serde(default)]
    pub blessings: Blessings,
}

impl Manifest {
    /// The manifest of a version about which nothing else is known yet: to be filled in, and given to
    /// [`register`](super::Registry::register).
    pub fn draft(version: ModelVersion, by: Origin, created_at_ms: i64) -> Self {
        Self {
            format: FORMAT,
            version,
            created_at_ms,
            by,
            code_version: concat!("driftline ", env!("CARGO_PKG_VERSION")).to_owned(),
            seed: None,
            files: BTreeMap::new(),
            feature_schema: String::new(),
            dimension: 0,
            lineage: Lineage::default(),
            parent: None,
            training: TrainingRun::default(),
            validation: None,
            blessings: Blessings::default(),
        }
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// SHA-256 of its bytes in hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// What a version was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lineage {
    /// The name of the lake's snapshot that was pinned for it.
    pub snapshot: Option<String>,
    /// What was read of each topic.
    pub topics: BTreeMap<String, TopicLineage>,
    /// By partition of `interactions`: the first offset that it was not trained on, from which live
    /// vectors learn.
    pub live_from: Vec<i64>,
    /// The newest event that it was trained on, milliseconds since the epoch.
    pub watermark_ms: Option<i64>,
    /// What asked for the training; none where somebody did.
    pub trigger: Option<String>,
    /// Where an import came from.
    pub source: Option<String>,
}

impl Lineage {
    /// What a snapshot of the lake lists, under the name that it is pinned by. The rest is not known
    /// from it.
    pub fn of(pin: &str, snapshot: &Snapshot) -> Self {
        let of_topic = |(name, topic): (&String, &crate::lake::TopicSnapshot)| {
            let files = topic
                .files
                .iter()
                .map(|file| LakeFile { key: file.key.clone(), sha256: Some(file.sha256.clone()) });
            let offsets = topic.offsets.iter().map(|&(partition, generation, start, end)| {
                OffsetRange { partition, generation, start, end }
            });
            let lineage = TopicLineage {
                files: files.collect(),
                rows: topic.rows,
                offsets: offsets.collect(),
                watermark_ms: topic.watermark_ms,
            };
            (name.clone(), lineage)
        };
        Self {
            snapshot: Some(pin.to_owned()),
            topics: snapshot.topics.iter().map(of_topic).collect(),
            watermark_ms: snapshot.topics.values().filter_map(|topic| topic.watermark_ms).max(),
            ..Self::default()
        }
    }
}

/// What was read of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicLineage {
    /// The lake's files.
    pub files: Vec<LakeFile>,
    /// Rows in them.
    pub rows: u64,
    /// Which records they hold.
    pub offsets: Vec<OffsetRange>,
    /// The newest event in them, milliseconds since the epoch.
    pub watermark_ms: Option<i64>,
}

/// A file of the lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakeFile {
    /// Its key.
    pub key: String,
    /// SHA-256 of its bytes in hexadecimal, where it is known.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// Records of a partition, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The partition.
    pub partition: i32,
    /// How often the topic had been made anew.
    pub generation: i32,
    /// The first offset.
    pub start: i64,
    /// The offset after the last.
    pub end: i64,
}

/// How a version was trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingRun {
    /// What it was told.
    pub settings: Value,
    /// What it chose.
    pub hyperparameters: Value,
    /// Users.
    pub users: u64,
    /// Items.
    pub items: u64,
    /// Interactions.
    pub interactions: u64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// How a version did on events that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The first event's time, milliseconds since the epoch.
    pub from_ms: i64,
    /// The time after the last.
    pub to_ms: i64,
    /// Events that were to be foreseen.
    pub targets: u64,
    /// What was measured.
    pub metrics: Vec<Metric>,
}

/// A figure of a validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// That of the version.
    pub candidate: f64,
    /// That of the champion on the same events; none where there was none.
    #[serde(default)]
    pub champion: Option<f64>,
    /// Candidate less champion: lower end of the interval, the difference, upper end.
    #[serde(default)]
    pub difference: Option<[f64; 3]>,
}

/// Whether a version may serve: both are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blessings {
    /// It is not worse than the champion on the same events.
    pub validation: Blessing,
    /// It loads, and serves its golden requests.
    pub loading: Blessing,
}

impl Blessings {
    /// What is missing, one reason a line; empty where it may serve.
    pub fn missing(&self) -> Vec<String> {
        let both = [("validation", &self.validation), ("loading", &self.loading)];
        let refused = both.into_iter().filter(|(_, blessing)| !blessing.granted);
        let told = refused.map(|(name, blessing)| match blessing.reasons.as_slice() {
            [] => format!("{name}: not tried"),
            reasons => format!("{name}: {}", reasons.join("; ")),
        });
        told.collect()
    }
}

/// One of two looks at a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blessing {
    /// Whether it passed.
    pub granted: bool,
    /// Why, or why not.
    pub reasons: Vec<String>,
}

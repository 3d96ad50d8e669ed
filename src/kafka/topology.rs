//! Topics as code: files in Strimzi's shape, and the difference between them and a cluster.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::admin::TopicMetadata;

/// One topic as its file wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFile {
    /// The topic's name, with the configured prefix.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Replication factor.
    pub replicas: i32,
    /// Topic-level configuration.
    pub config: BTreeMap<String, String>,
}

/// Why the files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The folder or a file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no KafkaTopic.
    #[error("{name}: {what}; expected apiVersion, kind: KafkaTopic, metadata.name, spec")]
    Format {
        /// Which.
        name: String,
        /// How.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    topic_name: Option<String>,
    partitions: i32,
    replicas: i32,
    #[serde(default)]
    config: BTreeMap<String, serde_yaml_ng::Value>,
}

/// The files of the product itself, compiled in, so that `topics apply` works from anywhere.
const BUILT_IN: &[(&str, &str)] = &[
    ("watch-events.yaml", include_str!("../../topics/watch-events.yaml")),
    ("click-events.yaml", include_str!("../../topics/click-events.yaml")),
    ("feedback-events.yaml", include_str!("../../topics/feedback-events.yaml")),
    ("recommendation-requests.yaml", include_str!("../../topics/recommendation-requests.yaml")),
    ("recommendation-replies.yaml", include_str!("../../topics/recommendation-replies.yaml")),
    ("interactions.yaml", include_str!("../../topics/interactions.yaml")),
    ("item-catalog.yaml", include_str!("../../topics/item-catalog.yaml")),
    ("item-embeddings.yaml", include_str!("../../topics/item-embeddings.yaml")),
    ("item-features.yaml", include_str!("../../topics/item-features.yaml")),
    ("models.yaml", include_str!("../../topics/models.yaml")),
    ("impressions.yaml", include_str!("../../topics/impressions.yaml")),
    ("training-examples.yaml", include_str!("../../topics/training-examples.yaml")),
    ("label-corrections.yaml", include_str!("../../topics/label-corrections.yaml")),
    ("training-runs.yaml", include_str!("../../topics/training-runs.yaml")),
    ("model-control.yaml", include_str!("../../topics/model-control.yaml")),
    ("model-acks.yaml", include_str!("../../topics/model-acks.yaml")),
    ("shadow-impressions.yaml", include_str!("../../topics/shadow-impressions.yaml")),
    ("experiments.yaml", include_str!("../../topics/experiments.yaml")),
    ("metrics.yaml", include_str!("../../topics/metrics.yaml")),
    ("retrain-triggers.yaml", include_str!("../../topics/retrain-triggers.yaml")),
    ("retrain-triggers-json.yaml", include_str!("../../topics/retrain-triggers-json.yaml")),
    ("simulation-control.yaml", include_str!("../../topics/simulation-control.yaml")),
    ("dead-letters.yaml", include_str!("../../topics/dead-letters.yaml")),
];

/// Reads the topic files of `folder`, or the built-in ones, and prefixes the names.
///
/// # Errors
/// [`TopologyError`] that names the file.
pub fn load_topic_files(
    folder: Option<&Path>,
    prefix: &str,
) -> Result<Vec<TopicFile>, TopologyError> {
    let texts = match folder {
        None => BUILT_IN.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
        Some(folder) => read_folder(folder)?,
    };
    texts.iter().map(|(name, text)| parse(name, text, prefix)).collect()
}

fn read_folder(folder: &Path) -> Result<Vec<(String, String)>, TopologyError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TopologyError::Io { path, source }
    };
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            let text = std::fs::read_to_string(&path).map_err(io(&path))?;
            texts.push((path.display().to_string(), text));
        }
    }
    texts.sort();
    Ok(texts)
}

fn parse(name: &str, text: &str, prefix: &str) -> Result<TopicFile, TopologyError> {
    let format = |what: String| TopologyError::Format { name: name.into(), what };
    let document: Document = serde_yaml_ng::from_str(text).map_err(|e| format(e.to_string()))?;
    if document.kind != "KafkaTopic" || !document.api_version.starts_with("kafka.strimzi.io/") {
        return Err(format(format!("is a {} {}", document.api_version, document.kind)));
    }
    if document.spec.partitions < 1 || document.spec.replicas < 1 {
        return Err(format("partitions and replicas must be at least 1".into()));
    }
    let config = document
        .spec
        .config
        .into_iter()
        .map(|(key, value)| match value {
            serde_yaml_ng::Value::String(text) => Ok((key, text)),
            serde_yaml_ng::Value::Number(number) => Ok((key, number.to_string())),
            serde_yaml_ng::Value::Bool(flag) => Ok((key, flag.to_string())),
            _ => Err(format(format!("config {key} must be a text, a number or a flag"))),
        })
        .collect::<Result<_, _>>()?;
    let own_name = document.spec.topic_name.unwrap_or(document.metadata.name);
    Ok(TopicFile {
        name: format!("{prefix}{own_name}"),
        partitions: document.spec.partitions,
        replicas: document.spec.replicas,
        config,
    })
}

/// One difference between a file and the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The topic is not there.
    Create(TopicFile),
    /// Topic configuration differs: key, what is there, what is wanted.
    Configure {
        /// The topic.
        topic: String,
        /// All that must be set, so that nothing else is reset: what is there now and what is
        /// wanted.
        all: BTreeMap<String, String>,
        /// Key, old value, new value.
        differences: Vec<(String, String, String)>,
    },
    /// The number of partitions differs. Never changed: keys would hash elsewhere, away from
    /// their state.
    Refuse {
        /// The topic.
        topic: String,
        /// How many there are.
        found: i32,
        /// How many are wanted.
        wanted: i32,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Create(file) => {
                write!(
                    f,
                    "+ {} ({} partitions, {} replicas",
                    file.name, file.partitions, file.replicas
                )?;
                for (key, value) in &file.config {
                    write!(f, ", {key}={value}")?;
                }
                f.write_str(")")
            }
            Change::Configure { topic, differences, .. } => {
                write!(f, "~ {topic}")?;
                for (key, old, new) in differences {
                    write!(f, "\n    {key}: {old} -> {new}")?;
                }
                Ok(())
            }
            Change::Refuse { topic, found, wanted } => write!(
                f,
                "! {topic} has {found} partitions, its file says {wanted}. Partitions are never \
                 changed: users would hash away from their state. Put {found} in the file, or \
                 make a new topic under another prefix and replay into it"
            ),
        }
    }
}

/// What `apply` would do, and what it cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of the files.
    pub changes: Vec<Change>,
    /// Topics that are as their files want them.
    pub unchanged: usize,
}

impl Plan {
    /// Whether something stands in the way.
    pub fn is_refused(&self) -> bool {
        self.changes.iter().any(|c| matches!(c, Change::Refuse { .. }))
    }
}

/// The difference between files and a cluster.
pub fn plan(files: &[TopicFile], cluster: &[TopicMetadata]) -> Plan {
    let mut plan = Plan::default();
    for file in files {
        let Some(found) = cluster.iter().find(|t| t.name == file.name) else {
            plan.changes.push(Change::Create(file.clone()));
            continue;
        };
        if found.partitions != file.partitions {
            plan.changes.push(Change::Refuse {
                topic: file.name.clone(),
                found: found.partitions,
                wanted: file.partitions,
            });
            continue;
        }
        let differences: Vec<_> = file
            .config
            .iter()
            .filter_map(|(key, new)| {
                let old = found.config.get(key).map_or("(default)", String::as_str);
                (old != new).then(|| (key.clone(), old.to_owned(), new.clone()))
            })
            .collect();
        if differences.is_empty() {
            plan.unchanged += 1;
            continue;
        }
        let mut all = found.overrides.clone();
        all.extend(file.config.clone());
        plan.changes.push(Change::Configure { topic: file.name.clone(), all, differences });
    }
    plan
}

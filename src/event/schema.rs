//! The Avro schemas of `schemas/`, compiled in. Every version that was ever written stays, so
//! that old records remain readable; the last of a subject is the one that is written.

use std::sync::LazyLock;

/// One schema file.
pub struct SchemaFile {
    /// What the records are: the file's name before the version.
    pub subject: &'static str,
    /// Counts from 1 within a subject.
    pub version: u32,
    /// The file's text.
    pub text: &'static str,
}

macro_rules! schema {
    ($subject:literal, $version:literal) => {
        SchemaFile {
            subject: $subject,
            version: $version,
            text: include_str!(concat!("../../schemas/", $subject, ".v", $version, ".avsc")),
        }
    };
}

/// Every schema, oldest first within a subject. `tests/tidy.rs` holds it against the folder.
pub const SCHEMAS: &[SchemaFile] = &[
    schema!("watch-event", 1),
    schema!("click-event", 1),
    schema!("feedback-event", 1),
    schema!("recommendation-request", 1),
    schema!("recommendation-request", 2),
    schema!("recommendation-request", 3),
    schema!("recommendation-reply", 1),
    schema!("interactions", 1),
    schema!("interactions", 2),
    schema!("catalog-item", 1),
    schema!("item-embedding", 1),
    schema!("item-features", 1),
    schema!("model-manifest", 1),
    schema!("model-manifest", 2),
    schema!("model-manifest", 3),
    schema!("model-control", 1),
    schema!("model-control", 2),
    schema!("model-ack", 1),
    schema!("experiment", 1),
    schema!("training-run", 1),
    schema!("ranker-manifest", 1),
    schema!("impression", 1),
    schema!("impression", 2),
    schema!("impression", 3),
    schema!("training-example", 1),
    schema!("training-example", 2),
    schema!("training-example", 3),
    schema!("label-correction", 1),
    schema!("metrics-window", 1),
    schema!("metrics-window", 2),
    schema!("serving-window", 1),
    schema!("retrain-trigger", 1),
];

/// A schema ready to decode with, and how it is told apart on the wire.
pub struct Known {
    /// CRC-64-AVRO of the parsing canonical form, little-endian as in the single-object header.
    pub fingerprint: [u8; 8],
    /// Counts from 1 within the subject.
    pub version: u32,
    /// For decoding and encoding.
    pub schema: serde_avro_fast::Schema,
    /// The schema as its file has it.
    pub text: String,
}

/// All versions of one subject.
pub struct Subject {
    /// The subject's name.
    pub name: &'static str,
    versions: Vec<Known>,
}

impl Subject {
    fn load(name: &'static str) -> Self {
        Self::of(name, SCHEMAS.iter().filter(|file| file.subject == name))
    }

    /// A subject of these files, oldest first: of an older build, which knew fewer versions.
    pub fn of<'a>(name: &'static str, files: impl Iterator<Item = &'a SchemaFile>) -> Self {
        let versions = files
            .map(|file| {
                let schema: serde_avro_fast::Schema = file
                    .text
                    .parse()
                    .unwrap_or_else(|e| panic!("schemas/{name}.v{}.avsc: {e}", file.version));
                let fingerprint = *schema.rabin_fingerprint();
                Known { fingerprint, version: file.version, schema, text: file.text.to_owned() }
            })
            .collect();
        Self { name, versions }
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> &[Known] {
        &self.versions
    }

    /// The version with this fingerprint.
    pub fn by_fingerprint(&self, fingerprint: &[u8]) -> Option<&Known> {
        // Almost every record is of the newest version: look there first.
        self.versions.iter().rev().find(|known| known.fingerprint == fingerprint)
    }

    /// The version that is written.
    pub fn newest(&self) -> &Known {
        // Every subject below names at least one file; `subjects_load` would fail otherwise.
        &self.versions[self.versions.len() - 1]
    }
}

macro_rules! subjects {
    ($($(#[$doc:meta])* $name:ident = $subject:literal;)*) => {
        $($(#[$doc])* pub static $name: LazyLock<Subject> =
            LazyLock::new(|| Subject::load($subject));)*

        #[cfg(test)]
        pub(super) fn all_subjects() -> Vec<&'static Subject> {
            vec![$(&$name),*]
        }
    };
}

subjects! {
    /// A user watched an item.
    WATCH_EVENT = "watch-event";
    /// A user clicked an item.
    CLICK_EVENT = "click-event";
    /// A user does not want something, or takes that back.
    FEEDBACK_EVENT = "feedback-event";
    /// A client asks for a list.
    REQUEST = "recommendation-request";
    /// The answer.
    REPLY = "recommendation-reply";
    /// What a user shard tells all workers.
    INTERACTIONS = "interactions";
    /// What the platform says about an item.
    CATALOG_ITEM = "catalog-item";
    /// An item's live vectors.
    ITEM_EMBEDDING = "item-embedding";
    /// What is counted of an item.
    ITEM_FEATURES = "item-features";
    /// A basis of item vectors.
    MODEL_MANIFEST = "model-manifest";
    /// Which model serves.
    MODEL_CONTROL = "model-control";
    /// What a worker made of it.
    MODEL_ACK = "model-ack";
    /// Who is served how.
    EXPERIMENT = "experiment";
    /// What became of a trigger.
    TRAINING_RUN = "training-run";
    /// What came of a minute's lists.
    METRICS_WINDOW = "metrics-window";
    /// What a worker answered in a minute.
    SERVING_WINDOW = "serving-window";
    /// What may ask for a new model.
    RETRAIN_TRIGGER = "retrain-trigger";
    /// A version of the ranker.
    RANKER_MANIFEST = "ranker-manifest";
    /// A list as it was answered.
    IMPRESSION = "impression";
    /// An item as it was shown, and what came of it.
    TRAINING_EXAMPLE = "training-example";
    /// What came of it later.
    LABEL_CORRECTION = "label-correction";
}

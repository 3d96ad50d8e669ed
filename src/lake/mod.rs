//! Event topics as Parquet files in an object store: each offset once, whoever dies when.
//!
//! Enters: records of event topics. Leaves: Hive-partitioned Parquet files, and what is written down
//! about them. Two halves: what is pure (`shape`, `decoder`, `table`, `cut`, `parquet_file`,
//! `merging`, `layout`, `manifest`, `columns`) and what talks to the store and to Kafka (`store`, `sink`,
//! `archiver`, `compaction`, `expiry`, `snapshot`). Never asks what an event means, but for when it
//! happened; never believes an offset that is noted in Kafka.

mod archiver;
mod columns;
mod compaction;
mod cut;
mod decoder;
mod expiry;
mod layout;
mod manifest;
mod merging;
mod parquet_file;
mod rows;
mod shape;
mod sink;
mod snapshot;
mod store;
mod table;
#[cfg(test)]
mod tests;

pub use archiver::{Archiver, BeginAgain, CutRules};
pub use columns::LakeColumns;
pub use compaction::{Compacted, CompactionRules};
pub use cut::{Batch, Cut, CutError, TopicWriter};
pub use expiry::Expired;
pub use layout::{Chain, Hour};
pub use manifest::{Anchor, DataFile, Manifest, Passed, Plan, SchemaId};
pub use rows::LakeRow;
pub use sink::{Done, Handed, Sink, Tally};
pub use snapshot::{Snapshot, TopicSnapshot};
pub use store::{Job, Lake, LakeError, Tail};

use std::sync::LazyLock;

use crate::event::schema::{self, Subject};

/// Topics that can be archived, without the prefix, and what their records are. Topics of state
/// (the catalog, vectors of items, models) are compacted: what a lake of them would hold depends on
/// when it looked.
pub const ARCHIVED: &[(&str, &LazyLock<Subject>)] = &[
    ("watch-events", &schema::WATCH_EVENT),
    ("click-events", &schema::CLICK_EVENT),
    ("feedback-events", &schema::FEEDBACK_EVENT),
    ("impressions", &schema::IMPRESSION),
    ("interactions", &schema::INTERACTIONS),
    ("training-examples", &schema::TRAINING_EXAMPLE),
    ("label-corrections", &schema::LABEL_CORRECTION),
];

/// The subject of an archived topic's records.
pub fn subject_of(topic: &str) -> Option<&'static Subject> {
    ARCHIVED.iter().find(|(name, _)| *name == topic).map(|(_, subject)| &***subject)
}

//! Dead letters of `item-catalog`: what is no record of an item, told once.
//!
//! Every worker reads the catalog whole at each start, so the owner of item shard 0 tells for all:
//! it reads beside, from where the last owner's notes end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;

use super::{Context, WorkerError, dead_letter};
use crate::event::{CatalogItem, Rejection, item_of_key};
use crate::kafka::{Position, Producer, ProducerKind, Reader, Record, TopicPartition, Tracker};
use crate::runtime::{self, Urgency};
use crate::telemetry::names;

/// How often it is looked whether this is ours to do.
const LOOK: Duration = Duration::from_millis(500);
/// How often positions are noted: what was told since is told again after a crash.
const NOTE_INTERVAL: Duration = Duration::from_secs(2);
/// How long deliveries may take.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// Starts the thread.
pub fn start(context: &Context) -> Result<std::thread::JoinHandle<()>, WorkerError> {
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    let context = context.clone();
    let body = move || {
        while !context.stop.sleep(LOOK) {
            if context.items.owns_first()
                && let Err(error) = follow(&context)
            {
                tracing::warn!(%error, "bad catalog records are not told yet; trying again");
            }
        }
    };
    runtime::spawn("catalog-letters", Urgency::Later, body).map_err(io)
}

/// Reads and tells while that is ours.
fn follow(context: &Context) -> Result<(), Box<dyn std::error::Error>> {
    let config = &context.config;
    let client = config.kafka.client();
    let group = format!("{}-catalog-letters", config.kafka.group);
    let reader = Reader::new(&client, &group, "driftline-catalog-letters")?;
    let producer = Producer::new(&client, ProducerKind::Durable, "driftline-catalog-letters")?;
    let tracker = Arc::new(Tracker::default());
    let (catalog, letters) = (config.topics.item_catalog(), config.topics.dead_letters());
    let at = |partition| TopicPartition { topic: catalog.clone(), partition };
    // The next offset to read, by partition, and how far that is noted.
    let mut next = Vec::new();
    for partition in 0..reader.partitions(&catalog)? {
        let (low, high) = reader.bounds(&at(partition))?;
        // A topic that was made anew begins before what is noted of the old one.
        let noted = reader.noted(&at(partition))?.filter(|noted| *noted <= high);
        next.push(noted.unwrap_or(low).max(low));
    }
    for (partition, from) in (0..).zip(&next) {
        reader.add(&at(partition), Position::At(*from))?;
    }
    // What is told is safe before it is noted as told.
    let note = |next: &[i64]| -> Result<(), Box<dyn std::error::Error>> {
        tracker.wait(DELIVERY_LIMIT)?;
        let positions: Vec<_> = (0..).map(at).zip(next.iter().copied()).collect();
        Ok(reader.note(&positions, true)?)
    };
    let mut noted = next.clone();
    let mut looked = Instant::now();
    while !context.stop.is_requested() && context.items.owns_first() {
        if let Some(record) = reader.poll(LOOK) {
            if let Err(rejection) = check(&record) {
                let labels = [("topic", catalog.clone()), ("class", rejection.class.to_owned())];
                counter!(names::DEAD_LETTERS, &labels).increment(1);
                dead_letter::send(&producer, &letters, &record, &rejection, &tracker)?;
            }
            if let Some(next) = next.get_mut(record.partition() as usize) {
                *next = record.offset() + 1;
            }
        }
        if looked.elapsed() >= NOTE_INTERVAL && next != noted {
            looked = Instant::now();
            note(&next)?;
            noted.clone_from(&next);
        }
    }
    // For who goes on with it.
    if next == noted { Ok(()) } else { note(&next) }
}

/// Why a record is none of an item.
fn check(record: &Record<'_>) -> Result<(), Rejection> {
    if record.is_tombstone() {
        item_of_key(record.key()).map(drop)
    } else {
        CatalogItem::decode(record.key(), record.value()).map(drop)
    }
}

//! Reads `item-catalog` whole into the catalog, then follows it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};

use super::{Context, WorkerError};
use crate::catalog::Catalog;
use crate::embedding::Beginnings;
use crate::event::{CatalogItem, Rejection, item_of_key};
use crate::kafka::{KafkaError, Record, WholeTopic};
use crate::runtime::{self, Urgency};
use crate::telemetry::names;

/// How long the thread waits for a record. Delisting is as fast as a fetch, whatever this is.
const POLL: Duration = Duration::from_millis(100);
/// How often the catalog's size is shown while it is followed.
const MEASURE: Duration = Duration::from_secs(5);

/// How often shelves are ranked at most.
const SHELVE: Duration = Duration::from_secs(1);
/// How many times as long as ranking took the thread rests from it: it takes two percent.
const REST: u32 = 50;

/// The catalog, and whether it holds what the topic held at start.
pub struct SharedCatalog {
    table: RwLock<Catalog>,
    loaded: AtomicBool,
}

impl SharedCatalog {
    /// An empty one, not loaded.
    pub fn new(required: bool) -> Self {
        Self { table: RwLock::new(Catalog::new(required)), loaded: AtomicBool::new(false) }
    }

    /// Whether it holds what the topic held at start.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// The table and its lock.
    pub fn table(&self) -> &RwLock<Catalog> {
        &self.table
    }

    /// For look-ups. Whoever reads after a tombstone was applied knows of it.
    pub fn read(&self) -> RwLockReadGuard<'_, Catalog> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the feed's thread.
pub fn start(context: Context) -> Result<JoinHandle<()>, WorkerError> {
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    runtime::spawn("catalog-feed", Urgency::Now, move || {
        while !context.stop.is_requested() {
            match open(&context) {
                Ok(topic) => {
                    let now = Instant::now();
                    let shelved = (now, Duration::ZERO);
                    let beginnings = Beginnings::default();
                    return Feed { context, topic, measured: now, shelved, beginnings }.run();
                }
                Err(error) => {
                    tracing::warn!(%error, "the catalog waits for the broker");
                    context.stop.sleep(Duration::from_secs(1));
                }
            }
        }
    })
    .map_err(io)
}

fn open(context: &Context) -> Result<WholeTopic, KafkaError> {
    let config = &context.config;
    let name = config.topics.item_catalog();
    let mut topic = WholeTopic::open(&config.kafka.client(), &name, "driftline-catalog")?;
    topic.mark_end()?;
    Ok(topic)
}

struct Feed {
    context: Context,
    topic: WholeTopic,
    measured: Instant,
    /// When the shelves were ranked last, and how long it took.
    shelved: (Instant, Duration),
    beginnings: Beginnings,
}

impl Feed {
    fn run(mut self) {
        self.note_loaded();
        while !self.context.stop.is_requested() {
            if let Some(record) = self.topic.poll(POLL) {
                let outcome = apply(&self.context, &record).unwrap_or_else(|rejection| {
                    // What was known of the item stays. One worker makes it a dead letter, see
                    // `catalog_letters`.
                    let (partition, offset) = (record.partition(), record.offset());
                    tracing::warn!(%rejection, partition, offset, "an unreadable catalog record");
                    "refused"
                });
                counter!(names::CATALOG_RECORDS, "outcome" => outcome).increment(1);
            }
            self.note_loaded();
            self.shelve();
            if self.measured.elapsed() >= MEASURE {
                self.measure();
            }
        }
    }

    /// Ranks the shelves, where the last time is long enough ago for what it took.
    fn shelve(&mut self) {
        let catalog = &self.context.catalog;
        if !catalog.is_loaded() || self.shelved.0.elapsed() < SHELVE.max(self.shelved.1 * REST) {
            return;
        }
        let begun = Instant::now();
        let tables = self.context.global.read().unwrap_or_else(PoisonError::into_inner);
        let (watched, at) = (tables.watched(), tables.watermark());
        drop(tables);
        // Only this thread writes the catalog: readers pass meanwhile.
        let shelves = catalog.read().shelve(&watched, at);
        catalog.write().set_shelves(shelves);
        let items = self.context.items.tables();
        match self.beginnings.begin(items, &catalog.read()) {
            Ok(0) => {}
            Ok(begun) => tracing::info!(begun, "items begin where their content suggests"),
            Err(error) => tracing::warn!(%error, "new items have no vectors yet"),
        }
        self.shelved = (Instant::now(), begun.elapsed());
    }

    fn note_loaded(&mut self) {
        let catalog = &self.context.catalog;
        if !catalog.is_loaded() && self.topic.is_at_mark() {
            catalog.loaded.store(true, Ordering::Release);
            self.measure();
            tracing::info!(items = self.context.catalog.read().len(), "the catalog is read");
            // Requests waited for this; from now on a record is applied between two of them.
            runtime::lower_priority(Urgency::Soon);
        }
    }

    fn measure(&mut self) {
        self.measured = Instant::now();
        let catalog = self.context.catalog.read();
        gauge!(names::CATALOG_ITEMS).set(catalog.len() as f64);
        gauge!(names::CATALOG_DELISTED).set(catalog.delisted() as f64);
        gauge!(names::CATALOG_BYTES).set(catalog.bytes() as f64);
    }
}

/// Applies a record; returns its outcome for the count.
fn apply(context: &Context, record: &Record<'_>) -> Result<&'static str, Rejection> {
    if record.is_tombstone() {
        let item = item_of_key(record.key())?;
        context.catalog.write().delist(item.as_str());
        context.items.delist(&item);
        return Ok("delisted");
    }
    let item = CatalogItem::decode(record.key(), record.value())?;
    context.catalog.write().upsert(&item);
    Ok("listed")
}

//! What the threads of a worker know of items, and of bases.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::embedding::{ItemTables, LiveBasis, TablesConfig};
use crate::event::ModelManifest;
use crate::ids::ItemId;
use crate::model::BasisVersion;

/// Delisted items that wait for their shard's tombstones. Beyond it records of items that are
/// delisted stay in their topics until their next event; readers hold them against the catalog.
const DELISTED_WAITING: usize = 100_000;

/// Tables of all items, and the bases they are over.
pub struct SharedItems {
    tables: ItemTables,
    models: RwLock<BTreeMap<BasisVersion, Model>>,
    /// Counts changes of `models`.
    generation: AtomicU64,
    loaded: AtomicBool,
    /// Whether this worker owns item shard 0, whose owner trains the first basis and tells
    /// of bad catalog records.
    owns_first: AtomicBool,
    delisted: (Sender<ItemId>, Receiver<ItemId>),
}

/// A basis that is live, and what the topic says of it.
#[derive(Clone)]
pub struct Model {
    pub basis: Arc<LiveBasis>,
    pub manifest: Arc<ModelManifest>,
}

impl SharedItems {
    /// Empty ones, not loaded.
    pub fn new(config: TablesConfig) -> Self {
        Self {
            tables: ItemTables::new(config),
            models: RwLock::default(),
            generation: AtomicU64::new(0),
            loaded: AtomicBool::new(false),
            owns_first: AtomicBool::new(false),
            delisted: bounded(DELISTED_WAITING),
        }
    }

    /// The tables.
    pub fn tables(&self) -> &ItemTables {
        &self.tables
    }

    /// Whether they hold what the topics held at start.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    pub fn note_loaded(&self) {
        self.loaded.store(true, Ordering::Release);
    }

    /// The bases that are live.
    pub fn models(&self) -> BTreeMap<BasisVersion, Model> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rises with every change of the models.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn add_model(&self, model: Model) {
        let version = model.basis.version();
        self.models.write().unwrap_or_else(PoisonError::into_inner).insert(version, model);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub fn remove_model(&self, version: BasisVersion) {
        self.tables.drop_basis(version);
        self.models.write().unwrap_or_else(PoisonError::into_inner).remove(&version);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub fn owns_first(&self) -> bool {
        self.owns_first.load(Ordering::Acquire)
    }

    pub fn note_owns_first(&self, owns: bool) {
        self.owns_first.store(owns, Ordering::Release);
    }

    /// Takes a delisted item out of the tables, and tells its shard.
    pub fn delist(&self, item: &ItemId) {
        if self.tables.remove(item.as_str()) {
            // Full: see DELISTED_WAITING.
            let _ = self.delisted.0.try_send(item.clone());
        }
    }

    /// The next item that was delisted.
    pub fn next_delisted(&self) -> Option<ItemId> {
        self.delisted.1.try_recv().ok()
    }
}

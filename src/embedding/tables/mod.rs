//! What every worker knows of all items: for each live basis an index over the items' live
//! vectors, their statistics, and their names by hash.
//!
//! Enters: bases, records of items, tombstones; whoever feeds them need not be Kafka. Leaves: the
//! items nearest to a user, user vectors, statistics. Any number of threads read while one writes;
//! no lock is held for longer than one item's change.

mod directory;
#[cfg(test)]
mod tests;
mod version;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::index::{IndexError, Reach};
use super::item::{ItemCounts, ItemFeatures, ItemState, LiveBasis};
use super::online::{EmbeddingError, ItemVector, LmsConfig};
use crate::event::{Bytes, EmbeddingRecord, LiveVector};
use crate::global::ItemHandle;
use crate::ids::stable_hash;
use crate::model::{Basis, BasisVersion};
use crate::time::EventTime;
use directory::{Directory, Entered};
use version::Version;

/// How the tables are bounded, and how vectors leak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TablesConfig {
    /// Most items, those that were taken out included; below 2^32. About 1.2 KB each with one
    /// basis of 64 components.
    pub max_items: usize,
    /// How live vectors move. Must be that of the item shards.
    pub lms: LmsConfig,
}

impl Default for TablesConfig {
    fn default() -> Self {
        Self { max_items: 2_000_000, lms: LmsConfig::VIDEOS }
    }
}

/// Why the tables refused something. They are as they were.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TablesError {
    /// The item would be one too many.
    #[error("the item tables hold {0} items, as many as they may; raise items.max_items")]
    Full(usize),
    /// A vector that does not fit the index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Bytes that are no vector, or a setting out of its range.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
}

/// An item near to a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The item.
    pub item: Arc<str>,
    /// XXH3-64 of it.
    pub hash: u64,
    /// Inner product of its live vector and the user's.
    pub score: f32,
}

/// Everything that a worker knows of items, but for what the catalog says.
pub struct ItemTables {
    config: TablesConfig,
    directory: RwLock<Directory>,
    /// By the time they were trained up to, the oldest first.
    versions: RwLock<Vec<Arc<Version>>>,
    /// The basis that is to serve; none for the newest.
    champion: RwLock<Option<BasisVersion>>,
    /// The newest event time of any record, in milliseconds.
    watermark: AtomicI64,
}

impl ItemTables {
    /// Empty tables.
    pub fn new(config: TablesConfig) -> Self {
        Self {
            config,
            directory: RwLock::default(),
            versions: RwLock::default(),
            champion: RwLock::default(),
            watermark: AtomicI64::new(0),
        }
    }

    // --- Writing -----------------------------------------------------------------------------

    /// Makes a basis live: its items can be found where training left them, but for those that
    /// were taken out. Nothing where it is live already. Returns it for the fold of items.
    ///
    /// # Errors
    /// [`TablesError::Full`] where its items are too many; the basis is then not live.
    pub fn set_basis(&self, basis: Basis) -> Result<Arc<LiveBasis>, TablesError> {
        if let Some(known) = self.basis(basis.version()) {
            return Ok(known);
        }
        let basis = Arc::new(LiveBasis::new(basis, self.config.lms)?);
        let version = Arc::new(Version::new(Arc::clone(&basis))?);
        for item in basis.basis().items() {
            let mut directory = write(&self.directory);
            if directory.is_removed(stable_hash(item.as_str().as_bytes())) {
                continue;
            }
            let entered = self.enter(&mut directory, item.as_str())?;
            drop(directory);
            self.revive(&entered)?;
            version.add_trained(entered.handle, entered.hash)?;
        }
        version.advance(self.watermark())?;
        let mut versions = write(&self.versions);
        versions.push(version);
        versions.sort_by_key(|v| (v.basis.basis().watermark(), v.basis.version()));
        Ok(basis)
    }

    /// Lets a basis serve from the next request on, where it is live; as long as it is not, or none
    /// is named, the newest does.
    pub fn set_champion(&self, champion: Option<BasisVersion>) {
        *write(&self.champion) = champion;
    }

    /// Forgets a basis and the vectors over it. Whether it was there.
    pub fn drop_basis(&self, version: BasisVersion) -> bool {
        let mut versions = write(&self.versions);
        let before = versions.len();
        versions.retain(|v| v.basis.version() != version);
        versions.len() < before
    }

    /// Sets an item's live vectors, all of them: over a basis that the record does not name, the item
    /// is where training left it. Returns the bases that are not live here: read them first and
    /// apply the record again, or go on where they are gone for good.
    ///
    /// # Errors
    /// [`TablesError`] where a vector is not readable or does not fit, or the item is one too many.
    pub fn apply_embedding(
        &self,
        item: &str,
        record: &EmbeddingRecord<'_>,
    ) -> Result<Vec<BasisVersion>, TablesError> {
        let entered = self.enter(&mut write(&self.directory), item)?;
        let versions = self.all_versions();
        for version in &versions {
            let own = version.basis.version().0 as i64;
            let Some(written) = record.vectors.iter().find(|written| written.basis == own) else {
                version.reset(entered.handle, entered.hash)?;
                continue;
            };
            let dim = version.basis.basis().dim();
            let vector = ItemVector::from_bytes(dim, written.vector.as_slice())?;
            self.note_time(vector.newest().unwrap_or_default());
            version.set(entered.handle, entered.hash, vector)?;
        }
        let named = record.vectors.iter().map(|written| BasisVersion(written.basis as u64));
        let is_live = |named: &BasisVersion| versions.iter().any(|v| v.basis.version() == *named);
        let unknown = named.filter(|named| !is_live(named)).collect();
        Ok(unknown)
    }

    /// Puts an item that has no vector over a basis at `vector`, until a record says more of it.
    /// Nothing where the basis is not live, or the item was taken out.
    ///
    /// # Errors
    /// [`TablesError`] where the vector does not fit, or the item is one too many.
    pub fn begin(
        &self,
        version: BasisVersion,
        item: &str,
        vector: &[f32],
    ) -> Result<(), TablesError> {
        let Some(version) = self.version(version) else { return Ok(()) };
        let mut directory = write(&self.directory);
        if directory.is_removed(stable_hash(item.as_bytes())) {
            return Ok(());
        }
        let entered = self.enter(&mut directory, item)?;
        drop(directory);
        Ok(version.begin(entered.handle, entered.hash, vector)?)
    }

    /// Whether an item has a vector over a basis.
    pub fn has_vector(&self, version: BasisVersion, item: &str) -> bool {
        let handle = read(&self.directory).present(stable_hash(item.as_bytes()));
        let version = self.version(version);
        version.zip(handle).is_some_and(|(version, handle)| version.index.vector(handle).is_some())
    }

    /// Sets an item's statistics.
    ///
    /// # Errors
    /// [`TablesError::Full`] where the item is one too many.
    pub fn apply_features(&self, item: &str, features: ItemFeatures) -> Result<(), TablesError> {
        self.note_time(features.newest);
        let mut directory = write(&self.directory);
        let entered = self.enter(&mut directory, item)?;
        directory.set_features(entered.handle, features);
        drop(directory);
        self.revive(&entered)
    }

    /// Sets all that an item's state says: what its records would, without writing them. Vectors
    /// over bases that are not live here are passed over.
    ///
    /// # Errors
    /// Those of [`ItemTables::apply_embedding`].
    pub fn apply_state(&self, item: &str, state: &ItemState) -> Result<(), TablesError> {
        self.apply_embedding(item, &state.embedding())?;
        self.apply_features(item, state.features())
    }

    /// Takes an item out, until a record brings it back. Whether it was there.
    pub fn remove(&self, item: &str) -> bool {
        let removed = write(&self.directory).remove(item, self.config.max_items);
        if let Some(handle) = removed {
            self.all_versions().iter().for_each(|version| version.remove(handle));
        }
        removed.is_some()
    }

    /// Lets vectors leak until the newest event time seen. Call it now and then, about once a
    /// second: it is work only where event time has passed a cut, of which there is one an hour.
    ///
    /// # Errors
    /// [`TablesError::Index`] would be a fault of ours: what leaks only gets smaller.
    pub fn advance(&self) -> Result<(), TablesError> {
        let now = self.watermark();
        for version in self.all_versions() {
            version.advance(now)?;
        }
        Ok(())
    }

    fn enter(&self, directory: &mut Directory, item: &str) -> Result<Entered, TablesError> {
        let max = self.config.max_items.min(u32::MAX as usize);
        directory.enter(item, max).ok_or(TablesError::Full(max))
    }

    /// Puts an item that was not there where training left it.
    fn revive(&self, entered: &Entered) -> Result<(), TablesError> {
        if entered.is_new {
            for version in self.all_versions() {
                version.add_trained(entered.handle, entered.hash)?;
            }
        }
        Ok(())
    }

    fn note_time(&self, at: EventTime) {
        self.watermark.fetch_max(at.millis(), Ordering::AcqRel);
    }

    // --- Reading -----------------------------------------------------------------------------

    /// The bases that are live, by the time they were trained up to, the newest last.
    pub fn versions(&self) -> Vec<BasisVersion> {
        read(&self.versions).iter().map(|v| v.basis.version()).collect()
    }

    /// The basis that serves: the champion, else the newest. A request asks once.
    pub fn serving(&self) -> Option<BasisVersion> {
        self.champion().or_else(|| self.versions().last().copied())
    }

    /// The champion, where one is named and live.
    pub fn champion(&self) -> Option<BasisVersion> {
        let champion = *read(&self.champion);
        champion.filter(|version| self.version(*version).is_some())
    }

    /// A basis that is live: to fold users in with a solver of one's own, or items.
    pub fn basis(&self, version: BasisVersion) -> Option<Arc<LiveBasis>> {
        self.version(version).map(|v| Arc::clone(&v.basis))
    }

    /// The user vector of a history of item hashes, the newest first, over a basis. None where the
    /// basis is not live or knows nothing of the history.
    pub fn fold_in(
        &self,
        version: BasisVersion,
        history: impl IntoIterator<Item = u64>,
    ) -> Option<Vec<f32>> {
        let basis = self.basis(version)?;
        let mut solver = basis.basis().solver();
        basis.fold_in(&mut solver, history).map(<[f32]>::to_vec)
    }

    /// The `k` items that pass `keep`, asked by hash, nearest to a user vector over a basis, the
    /// nearest first. Empty where the basis is not live.
    ///
    /// # Errors
    /// [`IndexError`] where the vector is of another dimension or not finite.
    pub fn nearest(
        &self,
        version: BasisVersion,
        user: &[f32],
        k: usize,
        mut keep: impl FnMut(u64) -> bool,
    ) -> Result<Vec<Nearest>, IndexError> {
        let Some(version) = self.version(version) else { return Ok(Vec::new()) };
        let keep = |handle| {
            // Taken anew for each of the few that are asked about, so that writers get in between.
            let hash = read(&self.directory).hash(handle);
            keep(hash)
        };
        let found = version.index.search(user, k, Reach::default(), keep)?;
        let directory = read(&self.directory);
        let named = |found: &super::Found| Nearest {
            item: Arc::clone(directory.name(found.item)),
            hash: directory.hash(found.item),
            score: found.score,
        };
        Ok(found.iter().map(named).collect())
    }

    /// Inner products of a user vector and the live vectors of items, given by hash; none for an
    /// item without a vector.
    ///
    /// # Errors
    /// [`IndexError`] where the vector is of another dimension or not finite.
    pub fn scores(
        &self,
        version: BasisVersion,
        user: &[f32],
        items: &[u64],
    ) -> Result<Vec<Option<f32>>, IndexError> {
        let Some(version) = self.version(version) else { return Ok(vec![None; items.len()]) };
        let handles = self.present(items.iter().copied());
        let known: Vec<_> = handles.iter().copied().flatten().collect();
        let mut scores = version.index.scores(user, &known)?.into_iter();
        Ok(handles.iter().map(|handle| handle.and_then(|_| scores.next().flatten())).collect())
    }

    /// The live vector of an item, given by hash, over a basis, as of the newest event time.
    pub fn vector(&self, version: BasisVersion, item: u64) -> Option<Vec<f32>> {
        self.vectors(version, [item]).pop().flatten()
    }

    /// The same of several, which is cheaper than one by one.
    pub fn vectors(
        &self,
        version: BasisVersion,
        items: impl IntoIterator<Item = u64>,
    ) -> Vec<Option<Vec<f32>>> {
        let handles = self.present(items);
        match self.version(version) {
            Some(version) => version.index.vectors(&handles),
            None => vec![None; handles.len()],
        }
    }

    fn present(&self, items: impl IntoIterator<Item = u64>) -> Vec<Option<ItemHandle>> {
        let directory = read(&self.directory);
        items.into_iter().map(|item| directory.present(item)).collect()
    }

    /// The statistics of an item, given by hash.
    pub fn features(&self, item: u64) -> Option<Arc<ItemFeatures>> {
        let directory = read(&self.directory);
        let handle = directory.present(item)?;
        directory.features(handle).map(Arc::clone)
    }

    /// What each of the items, given by hash, had happen in all; nothing of those that are not
    /// known.
    pub fn totals(&self, items: impl IntoIterator<Item = u64>) -> Vec<ItemCounts> {
        let directory = read(&self.directory);
        let features = |item| directory.features(directory.present(item)?);
        items
            .into_iter()
            .map(|item| features(item).map_or_else(ItemCounts::default, |f| f.totals))
            .collect()
    }

    /// The name of an item, given by hash.
    pub fn name(&self, item: u64) -> Option<Arc<str>> {
        self.names([item]).pop().flatten()
    }

    /// The same of several; none of those that are not known by name, or were taken out.
    pub fn names(&self, items: impl IntoIterator<Item = u64>) -> Vec<Option<Arc<str>>> {
        let directory = read(&self.directory);
        let name = |item| directory.present(item).map(|handle| Arc::clone(directory.name(handle)));
        items.into_iter().map(name).collect()
    }

    /// Hashes and names of all items, in the order they came.
    pub fn items(&self) -> Vec<(u64, Arc<str>)> {
        read(&self.directory).iter().map(|(hash, name)| (hash, Arc::clone(name))).collect()
    }

    /// How many items are known.
    pub fn len(&self) -> usize {
        read(&self.directory).len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest event time of any record.
    pub fn watermark(&self) -> EventTime {
        EventTime::from_millis(self.watermark.load(Ordering::Acquire))
    }

    /// Memory held, in bytes, estimated. Looks at every cell of the indexes: for a metric now and
    /// then.
    pub fn bytes(&self) -> usize {
        let versions: usize = self.all_versions().iter().map(|version| version.bytes()).sum();
        versions + read(&self.directory).bytes()
    }

    fn version(&self, version: BasisVersion) -> Option<Arc<Version>> {
        let versions = read(&self.versions);
        versions.iter().find(|v| v.basis.version() == version).map(Arc::clone)
    }

    fn all_versions(&self) -> Vec<Arc<Version>> {
        read(&self.versions).clone()
    }
}

impl ItemState {
    /// Its vectors as they are written.
    pub fn embedding(&self) -> EmbeddingRecord<'static> {
        let written = |(version, vector): (BasisVersion, &ItemVector)| LiveVector {
            basis: version.0 as i64,
            vector: Bytes::from(vector.to_bytes()),
        };
        EmbeddingRecord { vectors: self.vectors().map(written).collect() }
    }
}

// Nothing that holds these locks panics half-way through a change.

fn read<T>(shared: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    shared.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(shared: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    shared.write().unwrap_or_else(PoisonError::into_inner)
}

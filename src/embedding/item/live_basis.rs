//! A basis as the fold of items and the tables use it: items by hash, and the update rule over it.

use hashbrown::HashTable;

use crate::embedding::online::{EmbeddingError, Lms, LmsConfig, Origin};
use crate::ids::stable_hash;
use crate::model::{Basis, BasisVersion, FoldIn, Position};

/// A basis over which vectors are live.
pub struct LiveBasis {
    basis: Basis,
    lms: Lms,
    /// Where the items are, by their hash: histories name them by it.
    positions: HashTable<(u64, Position)>,
}

impl LiveBasis {
    /// Makes a basis live.
    ///
    /// # Errors
    /// [`EmbeddingError::Setting`] where a setting is out of its range.
    pub fn new(basis: Basis, config: LmsConfig) -> Result<Self, EmbeddingError> {
        let lms = Lms::new(config, basis.mean_user_norm())?;
        let mut positions = HashTable::with_capacity(basis.items().len());
        for (place, item) in (0..).zip(basis.items()) {
            let hash = stable_hash(item.as_str().as_bytes());
            positions.insert_unique(hash, (hash, Position(place)), |entry| entry.0);
        }
        Ok(Self { basis, lms, positions })
    }

    /// Its name.
    pub fn version(&self) -> BasisVersion {
        self.basis.version()
    }

    /// The frozen vectors.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// The update rule over it.
    pub fn lms(&self) -> &Lms {
        &self.lms
    }

    /// Where an item is, by its hash; none where it was not there at training.
    pub fn position(&self, item: u64) -> Option<Position> {
        self.positions.find(item, |entry| entry.0 == item).map(|entry| entry.1)
    }

    /// Where the vector of an item begins, by its hash.
    pub fn origin(&self, item: u64) -> Origin<'_> {
        match self.position(item) {
            Some(position) => Origin::Trained(self.basis.trained(position)),
            None => Origin::Unknown,
        }
    }

    /// The user vector of a history of hashes, the newest first, with a solver of this basis
    /// ([`Basis::solver`]). None where the basis knows nothing of it.
    pub fn fold_in<'s>(
        &self,
        solver: &'s mut FoldIn,
        history: impl IntoIterator<Item = u64>,
    ) -> Option<&'s [f32]> {
        let positions = history.into_iter().map(|item| self.position(item));
        self.basis.fold_in(solver, positions)
    }

    /// Memory held, in bytes: vectors, counts, and ids twice with their tables, estimated.
    pub fn bytes(&self) -> usize {
        let ids: usize = self.basis.items().iter().map(|id| 2 * (id.as_str().len() + 32)).sum();
        ids + self.basis.vectors().values().len() * 4 + self.positions.capacity() * 24
    }
}

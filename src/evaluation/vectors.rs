//! Item vectors that do not move, beside those that serve: what online updates are worth.
//!
//! Enters: bases and items' statistics, as the tables that serve get them. Leaves: tables in which
//! every item is where training left it. Never learns a vector.

use crate::catalog::Catalog;
use crate::embedding::{Beginnings, ItemFeatures, ItemTables, TablesConfig, TablesError};
use crate::model::{Basis, BasisVersion};

/// What was known of a target's item when it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No table knew it. No source but those of a catalog can find it.
    Unseen,
    /// It was known, and nothing was trained yet.
    Untrained,
    /// It was known, and is newer than the newest basis.
    New,
    /// The newest basis holds it.
    Trained,
}

/// Tables whose vectors stay where training left them.
pub(super) struct FrozenTables {
    tables: ItemTables,
    beginnings: Beginnings,
}

impl FrozenTables {
    pub(super) fn new(config: TablesConfig) -> Self {
        Self { tables: ItemTables::new(config), beginnings: Beginnings::default() }
    }

    pub(super) fn tables(&self) -> &ItemTables {
        &self.tables
    }

    /// Items come with what happened to them; where they are found, they stay.
    pub(super) fn apply(&self, item: &str, features: ItemFeatures) -> Result<(), TablesError> {
        self.tables.apply_features(item, features)
    }

    /// Takes a basis in place of an earlier one.
    pub(super) fn replace(
        &self,
        basis: Basis,
        earlier: Option<BasisVersion>,
    ) -> Result<(), TablesError> {
        self.tables.set_basis(basis)?;
        earlier.map(|earlier| self.tables.drop_basis(earlier));
        Ok(())
    }

    /// Puts items that training did not know where their content suggests.
    pub(super) fn begin(&mut self, catalog: &Catalog) -> Result<usize, TablesError> {
        self.beginnings.begin(&self.tables, catalog)
    }
}

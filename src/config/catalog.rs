//! The section `[catalog]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret, in_range};

/// What the platform says about items.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CatalogConfig {
    /// Whether items that the catalog never knew are left out of lists.
    pub required: bool,
    /// The database that `catalog sync` reads.
    pub sync: SyncConfig,
}

/// The database that `catalog sync` reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncConfig {
    /// `postgresql://user:password@host/database`.
    pub url: Secret,
    /// Whether, and how, the connection is encrypted.
    pub tls: SyncTls,
    /// PEM file of the authorities that may have signed the server's certificate; empty for
    /// those of the system.
    pub tls_ca: PathBuf,
    /// One row an item, its columns named as the fields of the catalog's schema.
    pub query: String,
    /// Column of the query by which passes read only what changed; empty: every pass reads all.
    pub updated_at: String,
    /// Minutes after which a pass reads everything again, which finds rows that are gone.
    pub full_every_minutes: u64,
    /// Whether items that a full pass no longer finds are delisted.
    pub prune: bool,
    /// Most items, in percent of the catalog, that one pass may delist.
    pub prune_limit_percent: u8,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            tls: SyncTls::Prefer,
            tls_ca: PathBuf::new(),
            query: "SELECT * FROM items".into(),
            updated_at: String::new(),
            full_every_minutes: 1_440,
            prune: true,
            prune_limit_percent: 20,
        }
    }
}

/// Whether a connection to the database is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncTls {
    /// Never.
    Off,
    /// Where the server offers it; its certificate is not looked at.
    Prefer,
    /// Always, with a certificate that is valid for the host.
    Verify,
}

impl CatalogConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let sync = &self.sync;
        in_range("catalog.sync.full_every_minutes", sync.full_every_minutes, 1, 525_600)?;
        in_range("catalog.sync.prune_limit_percent", sync.prune_limit_percent, 0, 100)?;
        if sync.query.trim().is_empty() {
            let message = "catalog.sync.query is empty; give a SELECT with a column `item`";
            return Err(ConfigError::Invalid(message.into()));
        }
        Ok(())
    }
}

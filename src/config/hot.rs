//! The section `[hot]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret, in_range};
use crate::state::hot::{HotServer, HotTls};

/// The hot tier: recently active users in a Redis that all workers share.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct HotConfig {
    /// `host:port` of Redis; empty: there is no hot tier.
    pub address: String,
    /// ACL user; empty for the default one.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// Number of the database.
    pub database: u16,
    /// Whether the connection is encrypted, and the server's certificate verified.
    pub tls: bool,
    /// PEM file of the authorities that may have signed it; empty for those of the system.
    pub tls_ca: PathBuf,
    /// Before every key: several installations can share a Redis.
    pub prefix: String,
    /// Seconds that a user's value stays after its last write; users whose newest event is older
    /// are not written.
    pub ttl_seconds: u64,
    /// Milliseconds that an answer waits for Redis.
    pub read_timeout_ms: u64,
    /// Users that may wait to be written before more are left out.
    pub queue_limit: usize,
}

impl Default for HotConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            username: String::new(),
            password: Secret::default(),
            database: 0,
            tls: false,
            tls_ca: PathBuf::new(),
            prefix: "driftline:".into(),
            ttl_seconds: 86_400,
            read_timeout_ms: 5,
            queue_limit: 50_000,
        }
    }
}

impl HotConfig {
    /// The server; `None` without a hot tier.
    pub fn server(&self) -> Option<HotServer> {
        let (host, port) = self.host_and_port().ok()??;
        Some(HotServer {
            host,
            port,
            username: self.username.clone(),
            password: self.password.expose().into(),
            database: self.database,
            tls: self.tls.then(|| HotTls { ca: self.tls_ca.clone() }),
            prefix: self.prefix.clone(),
            ttl: Duration::from_secs(self.ttl_seconds),
        })
    }

    fn host_and_port(&self) -> Result<Option<(String, u16)>, ConfigError> {
        if self.address.is_empty() {
            return Ok(None);
        }
        let split = self.address.rsplit_once(':').and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let is_host = !host.is_empty() && !host.contains(['/', '@']);
            is_host.then_some((host.to_owned(), port.parse().ok()?))
        });
        // Not the address itself: a URL may have been given, with its password.
        let wrong = || ConfigError::Invalid("hot.address must be host:port, without more".into());
        split.map(Some).ok_or_else(wrong)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.host_and_port()?;
        in_range("hot.ttl_seconds", self.ttl_seconds, 1, 365 * 86_400)?;
        in_range("hot.read_timeout_ms", self.read_timeout_ms, 1, 1_000)?;
        in_range("hot.queue_limit", self.queue_limit, 1, 10_000_000)?;
        if !self.username.is_empty() && self.password.expose().is_empty() {
            let message = "hot.username is set and hot.password is not; Redis needs both";
            return Err(ConfigError::Invalid(message.into()));
        }
        if !self.tls && !self.tls_ca.as_os_str().is_empty() {
            let message = "hot.tls_ca is set and hot.tls is not; set hot.tls = true";
            return Err(ConfigError::Invalid(message.into()));
        }
        Ok(())
    }
}

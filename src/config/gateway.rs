//! The section `[gateway]`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret, in_range};

/// Shortest API key: what is shorter can be tried through.
const MIN_KEY_BYTES: usize = 16;

/// REST and the dashboard.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayConfig {
    /// `host:port`; port 0 for any free one.
    pub listen: String,
    /// What whoever sends events, asks for lists or starts actions has to show; empty: nobody may.
    pub api_key: Secret,
    /// Whether lists are given without the key.
    pub open_recommendations: bool,
    /// Milliseconds that a call may take which names no time of its own, and at most.
    pub deadline_ms: u64,
    /// Calls under way before more are refused.
    pub max_in_flight: usize,
    /// Connections, open pages among them, before more wait.
    pub max_connections: usize,
    /// Bytes of a call's body.
    pub max_body_bytes: usize,
    /// Newest records of each partition of `metrics` that the page's bands are learnt from.
    pub metrics_records: i64,
    /// Seconds between two looks at the registry.
    pub registry_seconds: u64,
    /// Topic that a simulated world hears of wishes on, without the prefix; empty: no such buttons.
    pub simulation_topic: String,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9700".into(),
            api_key: Secret::default(),
            open_recommendations: false,
            deadline_ms: 5_000,
            max_in_flight: 256,
            max_connections: 512,
            max_body_bytes: 64 << 10,
            metrics_records: 200_000,
            registry_seconds: 10,
            simulation_topic: String::new(),
        }
    }
}

impl GatewayConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let key = self.api_key.expose();
        // A header carries it: what is not printable would never match.
        let is_sound = key.len() >= MIN_KEY_BYTES && key.bytes().all(|b| b.is_ascii_graphic());
        if !key.is_empty() && !is_sound {
            return Err(ConfigError::Invalid(format!(
                "gateway.api_key must be {MIN_KEY_BYTES} or more printable ASCII characters \
                 without spaces; `openssl rand -hex 24` makes one"
            )));
        }
        in_range("gateway.deadline_ms", self.deadline_ms, 1, 60_000)?;
        in_range("gateway.max_in_flight", self.max_in_flight, 1, 100_000)?;
        in_range("gateway.max_connections", self.max_connections, 1, 100_000)?;
        in_range("gateway.max_body_bytes", self.max_body_bytes, 1_024, 1 << 20)?;
        in_range("gateway.metrics_records", self.metrics_records, 1_000, 100_000_000)?;
        in_range("gateway.registry_seconds", self.registry_seconds, 1, 3_600)
    }
}

//! Client settings common to consumers, producers and admin.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::lost::STATISTICS_MS;

/// How to reach the cluster. Its `Debug` shows no values: some are secrets.
#[derive(Clone)]
pub struct ClientSettings {
    /// `host:port,…`
    pub bootstrap: String,
    /// Further librdkafka properties, security among them. They win over our own.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// What went wrong with Kafka, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("kafka: {what}: {source}")]
pub struct KafkaError {
    what: String,
    source: rdkafka::error::KafkaError,
}

impl KafkaError {
    pub(super) fn new(what: impl Into<String>, source: rdkafka::error::KafkaError) -> Self {
        Self { what: what.into(), source }
    }

    /// Whether another writer has taken the name of this one.
    pub fn is_fenced(&self) -> bool {
        use rdkafka::types::RDKafkaErrorCode as Code;
        matches!(
            self.source.rdkafka_error_code(),
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
        )
    }

    /// Whether trying the same again may help.
    pub fn is_transient(&self) -> bool {
        use rdkafka::types::RDKafkaErrorCode as Code;
        !matches!(
            self.source.rdkafka_error_code(),
            Some(
                Code::UnknownTopicOrPartition
                    | Code::TopicAuthorizationFailed
                    | Code::MessageSizeTooLarge
                    | Code::InvalidTopic
                    | Code::UnknownTopic
                    | Code::UnknownPartition
            )
        )
    }
}

pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

impl ClientSettings {
    /// Our settings for `client_id`, then `own`, then the user's properties.
    pub(super) fn client(&self, client_id: &str, own: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("client.id", client_id);
        config.set("socket.keepalive.enable", "true");
        // A broker that restarts is found again within a second instead of ten.
        config.set("reconnect.backoff.ms", "50");
        config.set("reconnect.backoff.max.ms", "1000");
        config.set("socket.connection.setup.timeout.ms", "5000");
        config.set("socket.nagle.disable", "true");
        config.set("statistics.interval.ms", STATISTICS_MS);
        own.iter().for_each(|(key, value)| {
            config.set(*key, *value);
        });
        self.properties.iter().for_each(|(key, value)| {
            config.set(key, value);
        });
        config
    }
}

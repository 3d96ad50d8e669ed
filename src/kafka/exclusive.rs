//! A writer that is the only one of its name.

use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::client::{ClientSettings, KafkaError};

/// How long a step of a transaction may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Writes in transactions under a name. From the moment it is open, whoever opened the name before can
/// write no more: what is read after that and before writing is what the write stands on. A topic that is
/// compacted needs this, since the last record of a key stays, whatever it says.
pub struct ExclusiveWriter {
    inner: ThreadedProducer<DefaultProducerContext>,
}

impl ExclusiveWriter {
    /// Opens a name.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not answer, or has no room for transactions.
    pub fn open(
        settings: &ClientSettings,
        name: &str,
        client_id: &str,
    ) -> Result<Self, KafkaError> {
        let own = [
            ("transactional.id", name),
            ("linger.ms", "0"),
            ("message.timeout.ms", "20000"),
            ("transaction.timeout.ms", "20000"),
        ];
        let config = settings.client(client_id, &own);
        let inner = ThreadedProducer::from_config_and_context(&config, DefaultProducerContext)
            .map_err(|e| KafkaError::new("creating a writer", e))?;
        inner
            .init_transactions(LIMIT)
            .map_err(|e| KafkaError::new(format!("opening the writer {name}"), e))?;
        Ok(Self { inner })
    }

    /// Writes a record into partition 0 of a topic, and waits until it is there.
    ///
    /// # Errors
    /// [`KafkaError`] where it is not there, or somebody has opened the name since: then
    /// [`KafkaError::is_fenced`].
    pub fn write(&self, topic: &str, key: &[u8], value: &[u8]) -> Result<(), KafkaError> {
        let failed = |e| KafkaError::new(format!("writing to {topic}"), e);
        self.inner.begin_transaction().map_err(failed)?;
        let record = BaseRecord::to(topic).partition(0).key(key).payload(value);
        let sent = self.inner.send(record).map_err(|(error, _)| failed(error));
        sent.and_then(|()| self.inner.commit_transaction(LIMIT).map_err(failed))
    }
}

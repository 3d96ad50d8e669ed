//! What there is in the cluster, and making it as the topic files want it.

use std::collections::BTreeMap;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::error::KafkaError as RdKafkaError;

use super::client::{ClientSettings, KafkaError, REQUEST_TIMEOUT};
use super::topology::Change;

/// A topic as the cluster has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its number of partitions.
    pub partitions: i32,
    /// Effective configuration, defaults included. Empty until asked for.
    pub config: BTreeMap<String, String>,
    /// What was set on the topic itself.
    pub overrides: BTreeMap<String, String>,
}

/// An administrator's connection. Blocking.
pub struct Admin {
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Admin {
    /// Connects lazily: the first question finds out whether the cluster answers.
    ///
    /// # Errors
    /// [`KafkaError`] where a property is refused.
    pub fn new(settings: &ClientSettings) -> Result<Self, KafkaError> {
        // Its context would log what it is told.
        let own = [("statistics.interval.ms", "0")];
        let client = AdminClient::from_config(&settings.client("driftline-admin", &own))
            .map_err(|e| KafkaError::new("creating an admin client", e))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| KafkaError::new(e.to_string(), RdKafkaError::Canceled))?;
        Ok(Self { client, runtime })
    }

    /// Names and partition counts of all topics, internal ones excepted.
    ///
    /// # Errors
    /// [`KafkaError`] where the cluster does not answer.
    pub fn topics(&self) -> Result<Vec<TopicMetadata>, KafkaError> {
        let metadata = self
            .client
            .inner()
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .map_err(|e| KafkaError::new("listing topics", e))?;
        Ok(metadata
            .topics()
            .iter()
            .filter(|t| !t.name().starts_with("__"))
            .map(|t| TopicMetadata {
                name: t.name().to_owned(),
                partitions: i32::try_from(t.partitions().len()).unwrap_or(i32::MAX),
                ..TopicMetadata::default()
            })
            .collect())
    }

    /// Topics by name with their configuration; those that do not exist are left out.
    ///
    /// # Errors
    /// [`KafkaError`] where the cluster does not answer.
    pub fn describe(&self, names: &[&str]) -> Result<Vec<TopicMetadata>, KafkaError> {
        let mut topics: Vec<_> =
            self.topics()?.into_iter().filter(|t| names.contains(&t.name.as_str())).collect();
        for topic in &mut topics {
            let what = format!("configuration of {}", topic.name);
            let resource = ResourceSpecifier::Topic(&topic.name);
            let described = self
                .runtime
                .block_on(self.client.describe_configs([&resource], &options()))
                .map_err(|e| KafkaError::new(what.clone(), e))?;
            for result in described {
                let resource = result
                    .map_err(|code| KafkaError::new(what.clone(), RdKafkaError::AdminOp(code)))?;
                for entry in resource.entries {
                    let Some(value) = entry.value else { continue };
                    if matches!(entry.source, ConfigSource::DynamicTopic) {
                        topic.overrides.insert(entry.name.clone(), value.clone());
                    }
                    topic.config.insert(entry.name, value);
                }
            }
        }
        Ok(topics)
    }

    /// The cluster's id, where the broker tells it.
    pub fn cluster_id(&self) -> Option<String> {
        self.client.inner().fetch_cluster_id(REQUEST_TIMEOUT)
    }

    /// Makes one change.
    ///
    /// # Errors
    /// [`KafkaError`] where the cluster refuses it.
    pub fn apply(&self, change: &Change) -> Result<(), KafkaError> {
        match change {
            Change::Create(file) => {
                let mut topic = NewTopic::new(
                    &file.name,
                    file.partitions,
                    TopicReplication::Fixed(file.replicas),
                );
                for (key, value) in &file.config {
                    topic = topic.set(key, value);
                }
                let created = self
                    .runtime
                    .block_on(self.client.create_topics([&topic], &options()))
                    .map_err(|e| KafkaError::new(format!("creating {}", file.name), e))?;
                first_error(&file.name, created.into_iter().map(|r| r.map_err(|(_, code)| code)))
            }
            Change::Configure { topic, all, .. } => {
                // AlterConfigs resets what is not named, so everything is named.
                let mut config = AlterConfig::new(ResourceSpecifier::Topic(topic));
                for (key, value) in all {
                    config = config.set(key, value);
                }
                let altered = self
                    .runtime
                    .block_on(self.client.alter_configs([&config], &options()))
                    .map_err(|e| KafkaError::new(format!("configuring {topic}"), e))?;
                first_error(topic, altered.into_iter().map(|r| r.map_err(|(_, code)| code)))
            }
            Change::Refuse { .. } => Ok(()),
        }
    }

    /// Waits until the cluster shows topics that were just made: their metadata spreads after
    /// the request is answered, and a worker started in between would not find them.
    ///
    /// # Errors
    /// [`KafkaError`] where the cluster does not answer, or does not show them in time.
    pub fn wait_for(&self, names: &[&str]) -> Result<(), KafkaError> {
        let until = std::time::Instant::now() + REQUEST_TIMEOUT;
        loop {
            let there = self.topics()?;
            let missing = names.iter().find(|n| !there.iter().any(|t| t.name == **n));
            match missing {
                None => return Ok(()),
                Some(name) if std::time::Instant::now() > until => {
                    let code = rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition;
                    return Err(KafkaError::new(*name, RdKafkaError::MetadataFetch(code)));
                }
                Some(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        }
    }

    /// Deletes topics, for tests and benches that made them.
    ///
    /// # Errors
    /// [`KafkaError`] where the cluster refuses.
    pub fn delete(&self, names: &[&str]) -> Result<(), KafkaError> {
        let deleted = self
            .runtime
            .block_on(self.client.delete_topics(names, &options()))
            .map_err(|e| KafkaError::new("deleting topics", e))?;
        first_error("deleting", deleted.into_iter().map(|r| r.map_err(|(_, code)| code)))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}

fn first_error<T>(
    what: &str,
    results: impl Iterator<Item = Result<T, rdkafka::types::RDKafkaErrorCode>>,
) -> Result<(), KafkaError> {
    for result in results {
        result.map_err(|code| KafkaError::new(what, RdKafkaError::AdminOp(code)))?;
    }
    Ok(())
}

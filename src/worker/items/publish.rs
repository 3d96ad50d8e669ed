//! Writes what changed of items to the compacted topics.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter};

use super::shard::ItemShard;
use crate::catalog::Standing;
use crate::kafka::{Delivery, HandlerError, Outgoing, Producer, ProducerKind, Tracker};
use crate::telemetry::names;
use crate::worker::Context;

/// How long deliveries may take before the shards start over from their last commit. Longer than
/// the producer's own limit, which reports first.
const DELIVERY_LIMIT: Duration = Duration::from_secs(150);

/// Writes items' records; the caller waits for them before it commits.
pub(super) struct Publisher {
    context: Context,
    producer: Producer,
    tracker: Arc<Tracker>,
    topics: [String; 2],
    published: [Counter; 3],
}

impl Publisher {
    pub fn new(context: &Context) -> Result<Self, HandlerError> {
        let config = &context.config;
        let kinds = ["embedding", "features", "tombstone"];
        Ok(Self {
            producer: Producer::new(
                &config.kafka.client(),
                ProducerKind::Durable,
                "driftline-items",
            )?,
            context: context.clone(),
            tracker: Arc::default(),
            topics: [config.topics.item_embeddings(), config.topics.item_features()],
            published: kinds.map(|kind| counter!(names::ITEM_RECORDS, "kind" => kind)),
        })
    }

    /// Sends records of everything that changed in a shard.
    pub fn publish(&self, partition: i32, shard: &mut ItemShard) -> Result<(), HandlerError> {
        let tables = self.context.items.models();
        for (item, hash, state) in shard.changes(|version| tables.contains_key(&version)) {
            if matches!(self.context.catalog.read().find(hash), Standing::Delisted) {
                self.retract(partition, item)?;
                continue;
            }
            let [embeddings, features] = &self.topics;
            if state.vectors().next().is_some() {
                let record = state.embedding().encode()?;
                self.send(embeddings, partition, item, Some(&record))?;
                self.published[0].increment(1);
            }
            let record = state.features().to_record().encode()?;
            self.send(features, partition, item, Some(&record))?;
            self.published[1].increment(1);
        }
        Ok(())
    }

    /// Sends tombstones for an item.
    pub fn retract(&self, partition: i32, item: &str) -> Result<(), HandlerError> {
        for topic in &self.topics {
            self.send(topic, partition, item, None)?;
            self.published[2].increment(1);
        }
        Ok(())
    }

    fn send(
        &self,
        topic: &str,
        partition: i32,
        item: &str,
        value: Option<&[u8]>,
    ) -> Result<(), HandlerError> {
        let outgoing = Outgoing {
            topic,
            partition: Some(partition),
            key: Some(item.as_bytes()),
            value: value.unwrap_or_default(),
            is_tombstone: value.is_none(),
            ..Outgoing::default()
        };
        Ok(self.producer.send(&outgoing, Delivery::Tracked(Arc::clone(&self.tracker)))?)
    }

    /// Waits until everything is delivered.
    pub fn wait(&self) -> Result<(), HandlerError> {
        Ok(self.tracker.wait(DELIVERY_LIMIT)?)
    }
}

//! Lists as they were answered: noted in the memory of their shard, and sent to `impressions`
//! without ever holding up a reply.

pub(super) mod warmer;

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter};

use super::{Context, WorkerError};
use crate::event::Impression;
use crate::kafka::{Outgoing, Producer, ProducerKind, partition_of};
use crate::serving::{self, Query, Scored, SideEffect};
use crate::telemetry::names;
use crate::time::wall_now;

/// How long what is on its way is waited for when nothing more comes.
const END_LIMIT: Duration = Duration::from_secs(5);
/// The same when a shard is given away, whose next owner reads it.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// Sends impressions; what is on its way is delivered before it is gone.
pub struct Impressions {
    producer: Producer,
    topic: String,
    sent: Counter,
    dropped: Counter,
}

impl Impressions {
    /// Connects, where they are wanted.
    pub fn start(context: &Context, topic: String) -> Result<Option<Arc<Self>>, WorkerError> {
        let config = &context.config;
        if !config.serving.impressions {
            return Ok(None);
        }
        let client = config.kafka.client();
        let producer = Producer::new(&client, ProducerKind::BestEffort, "driftline-impressions")?;
        let outcome = |outcome| counter!(names::IMPRESSIONS, "outcome" => outcome);
        Ok(Some(Arc::new(Self {
            producer,
            topic,
            sent: outcome("sent"),
            dropped: outcome("dropped"),
        })))
    }

    /// Waits until the records of a shard that is given away are there for its next owner.
    pub fn flush_for_handover(&self) {
        if let Err(error) = self.producer.flush(CLOSE_LIMIT) {
            tracing::warn!(%error, "the next owner may not know all that was shown");
        }
    }

    fn send(&self, partition: Option<i32>, impression: &Impression<'_>) {
        let value = match impression.encode() {
            Ok(value) => value,
            Err(error) => {
                self.dropped.increment(1);
                return tracing::error!(%error, "an impression could not be encoded");
            }
        };
        let outgoing = Outgoing {
            topic: &self.topic,
            partition,
            key: Some(impression.user.as_bytes()),
            value: &value,
            ..Outgoing::default()
        };
        let (sent, dropped) = (self.sent.clone(), self.dropped.clone());
        let on_end = Box::new(move |result| match result {
            Ok(_) => sent.increment(1),
            Err(error) => {
                dropped.increment(1);
                let error: String = error;
                tracing::warn!(error, "an impression was not delivered");
            }
        });
        match self.producer.offer(&outgoing, on_end) {
            Ok(true) => {}
            // The queue is full: the broker is away or too slow, which the log says already.
            Ok(false) => self.dropped.increment(1),
            Err(error) => {
                self.dropped.increment(1);
                tracing::warn!(%error, "an impression was not sent");
            }
        }
    }
}

impl Drop for Impressions {
    fn drop(&mut self) {
        if let Err(error) = self.producer.flush(END_LIMIT) {
            tracing::warn!(%error, "impressions were still on their way at shutdown");
        }
    }
}

/// Takes note of every list that is answered.
pub struct Note {
    /// Where the memory of shards is.
    pub context: Context,
    /// None where they are not wanted.
    pub impressions: Option<Arc<Impressions>>,
}

impl SideEffect for Note {
    fn name(&self) -> &'static str {
        "impressions"
    }

    fn after(&self, query: &Query<'_>, list: &[Scored]) {
        let user = query.request.user.as_str();
        let partition = partition_of(user.as_bytes(), self.context.partitions);
        // Of nobody in particular nothing is remembered.
        let owned = self.context.shards.get(partition).filter(|_| !user.is_empty());
        if let Some(owned) = owned {
            let items = list.iter().map(|scored| &*scored.candidate.item);
            let curves = self.context.curves.get();
            let surface = query.request.surface.as_str();
            let curve = curves.of(surface);
            let names = (user, &*query.request.request_id, surface);
            owned.shown().note(names, query.at, items, curve);
        }
        if let Some(impressions) = &self.impressions {
            let impression = Impression {
                answered_at: wall_now(),
                model_version: &query.model_version,
                arm: &query.arm,
                ..serving::impression(query, list)
            };
            impressions.send(Some(partition), &impression);
        }
    }
}

/// Writes down lists that nobody sees.
pub struct NoteShadow(pub Arc<Impressions>);

impl SideEffect for NoteShadow {
    fn name(&self) -> &'static str {
        "shadow_impressions"
    }

    fn after(&self, query: &Query<'_>, list: &[Scored]) {
        let impression = Impression {
            answered_at: wall_now(),
            model_version: &query.model_version,
            arm: &query.arm,
            ..serving::impression(query, list)
        };
        self.0.send(None, &impression);
    }
}

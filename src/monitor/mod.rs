//! Watches the topic `metrics` and tells triggers: wires of `drift/` and `trigger/`.
//!
//! Enters: records of `metrics`, read whole by one process, the leader: the member of a group that is
//! assigned partition 0. Leaves: triggers on `retrain-triggers`. [`Watch`] is what is known, a function
//! of the records in their order; it is checkpointed with its offsets, after what it told has been
//! delivered. So each trigger is told at least once, always under the same id.

mod answers;
mod checkpoint;
mod checks;
mod distances;
mod leader;
mod limit;
mod merging;
mod outcomes;
mod pairing;
pub mod plot;
mod settings;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

pub use leader::encode_and_send;
pub use merging::Minute;
pub use outcomes::{Champion, DETECTOR, Definition, METRICS, Outcomes};
pub use settings::Settings;
pub use watch::{Impossible, Judged, Watch};

use crate::config::Config;
use crate::kafka::{
    Assigned, GroupConsumer, HandlerError, Log, Record, RecordHandler, TopicPartition,
    has_lost_brokers,
};
use crate::runtime::Stop;
use crate::telemetry::{HealthReport, names};
use leader::Leader;

/// What a monitor is doing, for its health.
#[derive(Clone, Debug, Default)]
pub struct Role(Arc<AtomicU8>);

const JOINING: u8 = 0;
const STANDING_BY: u8 = 1;
const CATCHING_UP: u8 = 2;
const LEADING: u8 = 3;

impl Role {
    fn set(&self, role: u8) {
        if self.0.swap(role, Ordering::AcqRel) != role {
            let leads = role == LEADING || role == CATCHING_UP;
            metrics::gauge!(names::MONITOR_LEADS).set(f64::from(u8::from(leads)));
            tracing::info!(role = Self::name(role), "monitor");
        }
    }

    fn name(role: u8) -> &'static str {
        match role {
            STANDING_BY => "standing by",
            CATCHING_UP => "leading, catching up",
            LEADING => "leading",
            _ => "joining the group",
        }
    }

    /// Ready where it stands by, or has read all there was.
    pub fn health(&self) -> HealthReport {
        let role = self.0.load(Ordering::Acquire);
        let ready = role == STANDING_BY || role == LEADING;
        HealthReport { ready, details: vec![format!("monitor: {}", Self::name(role))] }
    }
}

/// A member of the monitors' group.
struct Member<'a> {
    config: &'a Config,
    role: Role,
    leader: Option<Leader>,
}

impl RecordHandler for Member<'_> {
    fn assigned(
        &mut self,
        partitions: &[TopicPartition],
        log: &Log<'_>,
    ) -> Result<Vec<Assigned>, HandlerError> {
        if partitions.iter().any(|tp| tp.partition == 0) {
            self.role.set(CATCHING_UP);
            self.leader = Some(Leader::begin(self.config)?);
        } else if self.leader.is_none() {
            self.role.set(STANDING_BY);
        }
        // Records come through the leader's own reader, which reads all partitions: being assigned
        // them only says who leads.
        let at_end =
            |tp: &TopicPartition| Ok(Assigned { partition: tp.clone(), offset: log.bounds(tp)?.1 });
        partitions.iter().map(at_end).collect()
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), HandlerError> {
        if partitions.iter().any(|tp| tp.partition == 0)
            && let Some(mut leader) = self.leader.take()
        {
            leader.checkpoint()?;
            self.role.set(STANDING_BY);
        }
        Ok(())
    }

    fn record(&mut self, _record: &Record<'_>) -> Result<(), HandlerError> {
        Ok(())
    }

    fn tick(&mut self, _busy: bool) -> Result<Vec<(TopicPartition, i64)>, HandlerError> {
        if has_lost_brokers() {
            return Err(
                "a Kafka client has lost all brokers for good: start the monitor again".into()
            );
        }
        let Some(leader) = &mut self.leader else {
            if self.role.0.load(Ordering::Acquire) == JOINING {
                self.role.set(STANDING_BY);
            }
            return Ok(Vec::new());
        };
        leader.work()?;
        if leader.is_caught_up() {
            self.role.set(LEADING);
        }
        Ok(leader.take_positions())
    }
}

/// Watches until it is told to stop.
///
/// # Errors
/// Whatever stopped it: started again, it goes on from its checkpoint.
pub fn run(config: &Config, role: &Role, stop: &Stop) -> Result<(), HandlerError> {
    let kafka = &config.kafka;
    let topic = config.topics.metrics();
    let group = format!("{}-monitor", kafka.group);
    let consumer = GroupConsumer::join(
        &kafka.client(),
        &group,
        kafka.group_protocol,
        "driftline-monitor",
        &[&topic],
    )?;
    let mut member = Member { config, role: role.clone(), leader: None };
    consumer.run(&mut member, || stop.is_requested())
}

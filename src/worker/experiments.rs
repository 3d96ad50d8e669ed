//! Who is served how: the topic `experiments`, read whole before the first answer and then followed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Context, WorkerError};
use crate::experiment::running::Experiments;
use crate::kafka::{KafkaError, WholeTopic};
use crate::runtime::{self, Urgency};

/// How long the thread waits for a record where none is there.
const POLL: Duration = Duration::from_millis(50);

/// The experiments as this worker knows them.
#[derive(Default)]
pub struct SharedExperiments {
    known: RwLock<Arc<Experiments>>,
    is_read: AtomicBool,
}

impl SharedExperiments {
    /// As of now. A request asks once.
    pub fn get(&self) -> Arc<Experiments> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the topic was read to where it ended at start: before, users would be served by other
    /// arms than theirs.
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    fn set(&self, experiments: &Experiments) {
        let experiments = Arc::new(experiments.clone());
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = experiments;
    }
}

/// Starts the thread that follows the topic.
pub fn start(context: &Context) -> Result<JoinHandle<()>, WorkerError> {
    let context = context.clone();
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    runtime::spawn("experiments", Urgency::Soon, move || {
        while !context.stop.is_requested() {
            match follow(&context) {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the experiments wait for the broker"),
            }
            context.stop.sleep(Duration::from_secs(1));
        }
    })
    .map_err(io)
}

fn follow(context: &Context) -> Result<(), KafkaError> {
    let client = context.config.kafka.client();
    let name = context.config.topics.experiments();
    let mut topic = WholeTopic::open(&client, &name, "driftline-experiments")?;
    let mut experiments = Experiments::default();
    topic.mark_end()?;
    while !context.stop.is_requested() {
        let shared = &context.experiments;
        if !shared.is_read() && topic.is_at_mark() {
            shared.set(&experiments);
            shared.is_read.store(true, Ordering::Release);
        }
        let Some(record) = topic.poll(POLL) else { continue };
        match experiments.take(record.key().unwrap_or_default(), record.value()) {
            Ok(false) => {}
            Ok(true) => {
                let key = String::from_utf8_lossy(record.key().unwrap_or_default());
                tracing::info!(experiment = %key, offset = record.offset(), "an experiment has changed");
                // What is read at start is shown whole.
                if shared.is_read() {
                    shared.set(&experiments);
                }
            }
            Err(error) => {
                let offset = record.offset();
                tracing::warn!(%error, offset, "an experiment is passed over");
                if shared.is_read() {
                    shared.set(&experiments);
                }
            }
        }
    }
    Ok(())
}

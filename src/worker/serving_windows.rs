//! What this worker answered, minute by minute, told on `metrics`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Context, WorkerError};
use crate::event::{NamedCount, Reply, ServingWindow};
use crate::kafka::{Outgoing, Producer, ProducerKind};
use crate::runtime::{self, Urgency};
use crate::serving;
use crate::time::{MINUTE_MS, wall_now};

/// Bins of latency: half octaves of microseconds.
pub const LATENCY_BINS: usize = 48;
/// How often it is looked whether a minute is over.
const LOOK: Duration = Duration::from_millis(500);
/// How long what is on its way is waited for at the end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// What was answered since the minute began.
#[derive(Default)]
pub struct ServingWindows(Mutex<Minute>);

#[derive(Default)]
struct Minute {
    requests: i64,
    empty_lists: i64,
    errors: BTreeMap<String, i64>,
    degradations: BTreeMap<String, i64>,
    latency: Vec<i64>,
}

impl ServingWindows {
    /// Counts an answer that took so long.
    pub fn note(&self, reply: &Reply, took: Duration) {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        minute.requests += 1;
        match &reply.error {
            Some(error) => *minute.errors.entry(error.kind.name().into()).or_default() += 1,
            None => minute.empty_lists += i64::from(reply.items.is_empty()),
        }
        for degradation in &reply.degraded {
            *minute.degradations.entry(degradation.part.clone()).or_default() += 1;
        }
        minute.latency.resize(LATENCY_BINS, 0);
        minute.latency[latency_bin(took)] += 1;
    }

    fn take(&self) -> Minute {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The bin of a latency: n for 2^(n/2) to 2^((n+1)/2) microseconds.
pub fn latency_bin(took: Duration) -> usize {
    let micros = (took.as_micros() as f64).max(1.0);
    ((2.0 * micros.log2()) as usize).min(LATENCY_BINS - 1)
}

fn counts(of: BTreeMap<String, i64>) -> Vec<NamedCount> {
    of.into_iter().map(|(name, count)| NamedCount { name, count }).collect()
}

/// Starts the thread that tells minutes.
pub fn start(context: &Context) -> Result<JoinHandle<()>, WorkerError> {
    let client = context.config.kafka.client();
    let producer = Producer::new(&client, ProducerKind::BestEffort, "driftline-metrics")?;
    let context = context.clone();
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    runtime::spawn("serving-windows", Urgency::Later, move || run(&context, &producer)).map_err(io)
}

fn run(context: &Context, producer: &Producer) {
    let boot = uuid::Uuid::new_v4().to_string();
    let mut minute = wall_now().div_euclid(MINUTE_MS);
    let mut begun = Instant::now();
    while !context.stop.sleep(LOOK) {
        let now = wall_now().div_euclid(MINUTE_MS);
        if now != minute {
            tell(context, producer, &boot, minute, begun.elapsed());
            (minute, begun) = (now, Instant::now());
        }
    }
    tell(context, producer, &boot, minute, begun.elapsed());
    if let Err(error) = producer.flush(END_LIMIT) {
        tracing::warn!(%error, "the last minute of metrics was still on its way at shutdown");
    }
}

fn tell(context: &Context, producer: &Producer, boot: &str, minute: i64, length: Duration) {
    let Minute { requests, empty_lists, errors, degradations, latency } =
        context.serving_windows.take();
    let learnt = context.ranking.weights().learnt();
    let window = ServingWindow {
        worker: context.name.to_string(),
        boot: boot.to_owned(),
        start: minute * MINUTE_MS,
        length_ms: (length.as_millis() as i64).min(MINUTE_MS),
        model_version: serving::model_version(context.items.tables().champion()).into_owned(),
        ranker_examples: i64::try_from(learnt).unwrap_or(i64::MAX),
        requests,
        empty_lists,
        errors: counts(errors),
        degradations: counts(degradations),
        latency,
    };
    let told = window.encode().map_err(|error| error.to_string()).and_then(|value| {
        let key = format!("{}/{}", window.worker, window.boot);
        let topic = context.config.topics.metrics();
        let outgoing = Outgoing {
            topic: &topic,
            key: Some(key.as_bytes()),
            value: &value,
            ..Outgoing::default()
        };
        let on_end = Box::new(|result: Result<_, String>| {
            if let Err(error) = result {
                tracing::warn!(error, "a minute of metrics was not delivered");
            }
        });
        producer.offer(&outgoing, on_end).map_err(|error| error.to_string())
    });
    match told {
        Ok(true) => {}
        Ok(false) => tracing::warn!("a minute of metrics was dropped: the broker does not keep up"),
        Err(error) => tracing::warn!(error, "a minute of metrics was not sent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ErrorKind;

    #[test]
    fn latencies_fall_into_half_octaves() {
        let bins = [0, 1, 2, 3, 1_000, 1_000_000, u64::MAX / 2]
            .map(Duration::from_micros)
            .map(latency_bin);
        assert_eq!(bins, [0, 0, 2, 3, 19, 39, LATENCY_BINS - 1]);
    }

    #[test]
    fn answers_are_counted_by_what_was_wrong_with_them() {
        let windows = ServingWindows::default();
        let error = Reply::error("r", "u", ErrorKind::Expired, "late");
        windows.note(&error, Duration::from_micros(5));
        windows.note(&Reply::default(), Duration::from_micros(5));
        let minute = windows.take();
        assert_eq!((minute.requests, minute.empty_lists), (2, 1));
        assert_eq!(minute.errors.values().sum::<i64>(), 1);
        assert_eq!(minute.latency.iter().sum::<i64>(), 2);
        assert_eq!(windows.take().requests, 0);
    }
}

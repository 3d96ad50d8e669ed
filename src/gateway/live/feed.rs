//! Reads the topics of which the page shows what they say, whole or from their newest records on.

use std::time::{Duration, Instant};

use super::Live;
use super::measures::Measures;
use super::told::{Acks, Control, Experiments, Letters, Runs, Triggers};
use crate::config::Config;
use crate::kafka::{KafkaError, Record, WholeTopic};
use crate::runtime::Stop;

/// Between two messages to pages.
const EVERY: Duration = Duration::from_millis(500);
/// Between two looks at topics that have nothing new.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two attempts to open a topic.
const AGAIN: Duration = Duration::from_secs(3);
/// Records of one topic before the others have their turn.
const TURN: usize = 2_000;
/// Newest records that are read of topics that say little.
const FEW: i64 = 500;

/// Takes in what a topic says.
pub trait Listener {
    /// A record; what it holds that cannot be read is passed over, and logged.
    fn hear(&mut self, record: &Record<'_>);
    /// Tells pages what is new.
    fn publish(&mut self, live: &Live);
}

/// A topic and who listens to it.
struct Source {
    topic: String,
    newest: i64,
    reader: Option<WholeTopic>,
    tried: Option<Instant>,
    listener: Box<dyn Listener>,
}

impl Source {
    fn new(topic: String, newest: i64, listener: impl Listener + 'static) -> Self {
        Self { topic, newest, reader: None, tried: None, listener: Box::new(listener) }
    }

    /// Reads some records. Returns whether there may be more at once.
    fn read(&mut self, config: &Config) -> bool {
        if self.reader.is_none() && self.tried.is_none_or(|at| at.elapsed() > AGAIN) {
            self.tried = Some(Instant::now());
            match open(config, &self.topic, self.newest) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => tracing::debug!(topic = self.topic, %error, "not read yet"),
            }
        }
        let Some(reader) = &mut self.reader else { return false };
        for _ in 0..TURN {
            let Some(record) = reader.poll(Duration::ZERO) else { return false };
            self.listener.hear(&record);
        }
        true
    }

    fn is_behind(&self) -> bool {
        self.reader.as_ref().is_none_or(|reader| !reader.is_at_mark())
    }
}

/// The topic, from its newest records on.
fn open(config: &Config, topic: &str, newest: i64) -> Result<WholeTopic, KafkaError> {
    let mut reader = WholeTopic::open(&config.kafka.client(), topic, "driftline-gateway")?;
    for partition in 0..reader.partitions() {
        let (_, end) = reader.bounds(partition)?;
        reader.start_at(partition, (end - newest).max(0));
    }
    reader.mark_end()?;
    Ok(reader)
}

/// Reads until it is told to stop.
pub fn run(config: &Config, live: &Live, stop: &Stop) {
    let measures = match Measures::new(config) {
        Ok(measures) => measures,
        Err(error) => return tracing::error!(error, "the page shows no metrics"),
    };
    let topics = &config.topics;
    let mut sources = [
        Source::new(topics.metrics(), config.gateway.metrics_records, measures),
        Source::new(topics.retrain_triggers(), FEW, Triggers::default()),
        Source::new(topics.training_runs(), FEW, Runs::default()),
        Source::new(topics.model_control(), FEW, Control::default()),
        Source::new(topics.model_acks(), FEW, Acks::default()),
        Source::new(topics.experiments(), FEW, Experiments::default()),
        Source::new(topics.dead_letters(), FEW, Letters::new(&topics.prefix)),
    ];
    let mut published = Instant::now();
    while !stop.is_requested() {
        let mut is_busy = false;
        for source in &mut sources {
            is_busy |= source.read(config);
        }
        if published.elapsed() >= EVERY {
            published = Instant::now();
            let behind: Vec<&str> =
                sources.iter().filter(|s| s.is_behind()).map(|s| s.topic.as_str()).collect();
            live.set("reading", &behind);
            sources.iter_mut().for_each(|source| source.listener.publish(live));
        }
        if !is_busy {
            stop.sleep(PAUSE);
        }
    }
}

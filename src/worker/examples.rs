//! Reads `training-examples`, from near its end on: what all workers learn alike of what came of
//! lists. Which places of a list are looked at, and the ranker's counters.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};

use super::{Context, WorkerError, ranking};
use crate::event::{ExamplePlace, TrainingExample};
use crate::kafka::{KafkaError, Position, Reader, TopicPartition};
use crate::model::{Curves, Examination};
use crate::ranking::Lesson;
use crate::runtime::{self, Urgency};
use crate::telemetry::names;

/// How often what was learnt is shown to requests.
const REFRESH: Duration = Duration::from_secs(2);
/// How long a poll waits.
const POLL: Duration = Duration::from_millis(100);
/// How often the ranker's counters learn, where little comes.
const COUNT: Duration = Duration::from_millis(100);
/// Examples that they learn at once.
const BATCH: usize = 256;
/// The place whose curve is shown as a metric: the last of half a list.
const SHOWN_PLACE: usize = 9;

/// Which places are looked at, as requests use it.
#[derive(Default)]
pub struct SharedCurves(RwLock<Arc<Curves>>);

impl SharedCurves {
    /// The newest ones.
    pub fn get(&self) -> Arc<Curves> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, curves: Curves) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(curves);
    }
}

/// Starts the thread, where there are examples to read.
pub fn start(context: &Context) -> Result<Option<JoinHandle<()>>, WorkerError> {
    let config = &context.config;
    if !config.quality.enabled {
        return Ok(None);
    }
    // The group only names where positions would be noted; this reader never notes any.
    let group = format!("{}-examples", config.kafka.group);
    let reader = Reader::new(&config.kafka.client(), &group, "driftline-examples")?;
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    let mut feed = Feed {
        context: context.clone(),
        examination: Examination::default(),
        last: HashMap::new(),
        lessons: Vec::new(),
    };
    let body = move || feed.run(&reader);
    runtime::spawn("examples", Urgency::Later, body).map(Some).map_err(io)
}

struct Feed {
    context: Context,
    examination: Examination,
    /// The last example of each partition.
    last: HashMap<i32, ExamplePlace>,
    lessons: Vec<Lesson>,
}

impl Feed {
    fn run(&mut self, reader: &Reader) {
        while !self.context.stop.is_requested() {
            match self.begin(reader) {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "examples wait for the broker");
                    self.context.stop.sleep(Duration::from_secs(1));
                }
            }
        }
        let (mut refreshed, mut counted, mut is_new) = (Instant::now(), Instant::now(), false);
        while !self.context.stop.is_requested() {
            if let Some(record) = reader.poll(POLL) {
                match TrainingExample::decode(record.value()) {
                    Ok(example) => is_new |= self.learn(record.partition(), &example),
                    // The topic is our own: this is a newer worker's record, or a foreign one.
                    Err(rejection) => tracing::warn!(%rejection, "an unreadable example"),
                }
            }
            if self.lessons.len() >= BATCH || counted.elapsed() >= COUNT {
                self.context.ranking.learn(&self.lessons);
                self.lessons.clear();
                counted = Instant::now();
            }
            if is_new && refreshed.elapsed() >= REFRESH {
                self.refresh();
                (refreshed, is_new) = (Instant::now(), false);
            }
        }
    }

    fn begin(&self, reader: &Reader) -> Result<(), KafkaError> {
        let topic = self.context.config.topics.training_examples();
        let at = |partition| TopicPartition { topic: topic.clone(), partition };
        let bounds = |partition| reader.bounds(&at(partition)).map(|bounds| (partition, bounds));
        // All of them before anything is read: a broker answers a client in order.
        let all: Vec<_> = (0..reader.partitions(&topic)?).map(bounds).collect::<Result<_, _>>()?;
        for (partition, (low, high)) in all {
            let back = self.context.config.ranker.warm_records;
            reader.add(&at(partition), Position::At((high - back).max(low)))?;
        }
        Ok(())
    }

    /// Whether it says something of a place.
    fn learn(&mut self, partition: i32, example: &TrainingExample<'_>) -> bool {
        let place = ranking::place_of(example);
        let last = self.last.entry(partition).or_default();
        // A worker that ended before it could note that it was written wrote it again.
        if !place.is_after(last) {
            return false;
        }
        *last = place;
        counter!(names::EXAMPLES_READ).increment(1);
        if self.context.ranks() {
            match Lesson::of(example) {
                Ok(lesson) => self.lessons.extend(lesson),
                Err(error) => tracing::warn!(%error, "an unreadable example"),
            }
        }
        let place = usize::try_from(example.position).ok().filter(|_| example.explored);
        if let Some(place) = place {
            self.examination.observe(example.surface, place, example.clicked);
        }
        place.is_some()
    }

    fn refresh(&self) {
        let curves = self.examination.curves();
        gauge!(names::EXAMINATION).set(f64::from(curves.of("").weight(SHOWN_PLACE)));
        self.context.curves.set(curves);
    }
}

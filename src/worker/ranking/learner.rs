//! Learns weights from `training-examples`, in one worker: the owner of item shard 0.
//!
//! It takes what has come since the last version, in the order of partitions and within them of
//! offsets, and publishes what it then knows. So a version is a function of the one before and of the
//! offsets that both name. It keeps nothing of its own: whoever is next goes on from the last version.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::counter;

use super::versions;
use crate::event::{ExamplePlace, RankerManifest, TrainingExample};
use crate::kafka::{
    Delivery, Outgoing, Position, Producer, ProducerKind, Reader, Record, TopicPartition, Tracker,
};
use crate::ranking::{Kind, Learner, Lesson};
use crate::runtime::{self, Urgency};
use crate::telemetry::names;
use crate::worker::{Context, WorkerError};

/// How often it is looked whether this is ours to do.
const LOOK: Duration = Duration::from_millis(500);
/// How long a poll waits.
const POLL: Duration = Duration::from_millis(100);
/// Examples that wait for a version, at most: 40 MB.
const MOST_WAITING: usize = 50_000;
/// How long deliveries may take.
const DELIVERY_LIMIT: Duration = Duration::from_secs(150);

/// Starts the thread, where a ranker is wanted.
pub fn start(context: &Context) -> Result<Option<JoinHandle<()>>, WorkerError> {
    if !context.ranks() {
        return Ok(None);
    }
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    let context = context.clone();
    let body = move || {
        while !context.stop.sleep(LOOK) {
            if is_ours(&context)
                && let Err(error) = follow(&context)
            {
                tracing::warn!(%error, "the ranker does not learn; trying again");
            }
        }
    };
    runtime::spawn("ranker", Urgency::Later, body).map(Some).map_err(io)
}

/// Whether this worker is to learn: the topic of models has been read to its end.
fn is_ours(context: &Context) -> bool {
    context.items.owns_first() && context.items.is_loaded()
}

/// Learns and publishes while that is ours to do.
fn follow(context: &Context) -> Result<(), Box<dyn std::error::Error>> {
    let config = &context.config;
    let client = config.kafka.client();
    // The group only names where positions would be noted; this reader never notes any.
    let group = format!("{}-ranker", config.kafka.group);
    let reader = Reader::new(&client, &group, "driftline-ranker")?;
    let producer = Producer::new(&client, ProducerKind::Durable, "driftline-ranker")?;
    let mut course = Course::resume(context, &reader)?;
    let mut published = Instant::now();
    while !context.stop.is_requested() && is_ours(context) {
        if let Some(record) = reader.poll(POLL) {
            course.take(&record);
        }
        let is_time = published.elapsed() >= config.ranker.publish_interval();
        if course.waiting > 0 && (is_time || course.waiting >= MOST_WAITING) {
            let newest = context.ranking.newest().map_or(0, |newest| newest.manifest.version);
            if newest > course.manifest.version {
                // Another worker took over meanwhile: its version is the one to go on from.
                return Ok(());
            }
            course.learn();
            publish(context, &producer, &course)?;
            published = Instant::now();
        }
    }
    Ok(())
}

/// A learner, how far it has read, and what it is to learn next.
struct Course {
    learner: Learner,
    manifest: RankerManifest,
    /// By partition.
    lessons: Vec<Vec<Lesson>>,
    waiting: usize,
}

impl Course {
    /// Goes on from the newest version.
    fn resume(context: &Context, reader: &Reader) -> Result<Self, Box<dyn std::error::Error>> {
        let newest = context.ranking.newest();
        let mut manifest = newest.as_ref().map(|v| v.manifest.clone()).unwrap_or_default();
        let learner = newest.map(|newest| newest.learner());
        let learner = match learner {
            Some(Ok(learner)) => learner,
            fresh => {
                if let Some(Err(error)) = fresh {
                    tracing::warn!(error, "the ranker begins anew");
                }
                // The number goes on, so that nobody takes it for an older one.
                manifest = RankerManifest { version: manifest.version, ..Default::default() };
                Learner::new(Kind::Kalman)
            }
        };
        let topic = context.config.topics.training_examples();
        let at = |partition| TopicPartition { topic: topic.clone(), partition };
        let partitions = reader.partitions(&topic)?;
        let bounds = |partition| reader.bounds(&at(partition));
        // All of them before anything is read: a broker answers a client in order.
        let bounds = (0..partitions).map(bounds).collect::<Result<Vec<_>, _>>()?;
        manifest.offsets.resize(bounds.len(), 0);
        manifest.last.resize(bounds.len(), ExamplePlace::default());
        for (n, (low, high)) in bounds.into_iter().enumerate() {
            // A topic that was made anew ends before what was read of the old one.
            if manifest.offsets[n] > high {
                manifest.last[n] = ExamplePlace::default();
                manifest.offsets[n] = low;
            }
            manifest.offsets[n] = manifest.offsets[n].max(low);
            reader.add(&at(n as i32), Position::At(manifest.offsets[n]))?;
        }
        let lessons = vec![Vec::new(); manifest.offsets.len()];
        Ok(Self { learner, manifest, lessons, waiting: 0 })
    }

    fn take(&mut self, record: &Record<'_>) {
        let Ok(partition) = usize::try_from(record.partition()) else { return };
        let Some(next) = self.manifest.offsets.get_mut(partition) else { return };
        *next = record.offset() + 1;
        let outcome = match TrainingExample::decode(record.value()) {
            Ok(example) => self.consider(partition, &example),
            // The topic is our own: this is a newer worker's record, or a foreign one.
            Err(rejection) => {
                tracing::warn!(%rejection, "an unreadable example");
                "unreadable"
            }
        };
        counter!(names::RANKER_LESSONS, "outcome" => outcome).increment(1);
    }

    fn consider(&mut self, partition: usize, example: &TrainingExample<'_>) -> &'static str {
        let place = place_of(example);
        if !place.is_after(&self.manifest.last[partition]) {
            return "repeated";
        }
        self.manifest.last[partition] = place;
        match Lesson::of(example) {
            Ok(Some(lesson)) => {
                self.lessons[partition].push(lesson);
                self.waiting += 1;
                "learnt"
            }
            Ok(None) => "other_features",
            Err(error) => {
                tracing::warn!(%error, "an unreadable example");
                "unreadable"
            }
        }
    }

    fn learn(&mut self) {
        for lesson in self.lessons.iter_mut().flat_map(|lessons| lessons.drain(..)) {
            self.learner.learn(&lesson.served, &lesson.example());
        }
        self.waiting = 0;
        self.manifest.version += 1;
    }
}

/// The place of an example in the order of its shard.
pub fn place_of(example: &TrainingExample<'_>) -> ExamplePlace {
    let TrainingExample { event_time, list, position, .. } = *example;
    ExamplePlace { event_time, list, position }
}

fn publish(
    context: &Context,
    producer: &Producer,
    course: &Course,
) -> Result<(), Box<dyn std::error::Error>> {
    let topic = context.config.topics.models();
    let tracker = Arc::new(Tracker::default());
    for (key, value) in versions::records(&course.learner, course.manifest.clone())? {
        let outgoing = Outgoing {
            topic: &topic,
            partition: Some(0),
            key: Some(key.as_bytes()),
            value: &value,
            ..Outgoing::default()
        };
        producer.send(&outgoing, Delivery::Tracked(Arc::clone(&tracker)))?;
    }
    tracker.wait(DELIVERY_LIMIT)?;
    counter!(names::RANKER_VERSIONS).increment(1);
    Ok(())
}

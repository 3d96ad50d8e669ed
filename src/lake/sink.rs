//! Threads that make cuts and write them to the lake, in the order in which a partition's cuts were
//! handed over. What fails and may pass is tried again, for as long as it takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::cut::TopicWriter;
use super::manifest::Manifest;
use super::store::{Job, Lake, LakeError};
use crate::ids::stable_hash;
use crate::runtime::{Stop, Urgency, join, spawn};
use crate::telemetry::names;

/// Waits between attempts, the last one over and over.
const BACKOFF: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
];
/// Cuts handed to a thread and not begun: memory is bounded by bytes, elsewhere.
const QUEUE: usize = 1_024;

/// A job and what it takes.
pub struct Handed {
    /// What to do.
    pub job: Job,
    /// The writer of its topic.
    pub writer: Arc<TopicWriter>,
    /// Memory that it holds until it is done.
    pub bytes: usize,
}

/// What became of a job.
pub struct Done {
    /// What the lake now says of the cut.
    pub written: Result<Manifest, LakeError>,
    /// Memory that is free again.
    pub bytes: usize,
}

/// The threads.
pub struct Sink {
    jobs: Vec<Sender<Handed>>,
    done: Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
    stop: Stop,
}

impl Sink {
    /// Starts them. Cuts that are not begun when `stop` is requested are dropped: they are read again.
    ///
    /// # Errors
    /// Where the system has no more threads.
    pub fn start(lake: &Lake, threads: usize, stop: Stop) -> std::io::Result<Self> {
        let (tell, done) = crossbeam_channel::unbounded();
        let mut sink = Self { jobs: Vec::new(), done, threads: Vec::new(), stop };
        for number in 0..threads {
            let (jobs, todo) = crossbeam_channel::bounded::<Handed>(QUEUE);
            let (lake, tell, stop) = (lake.clone(), tell.clone(), sink.stop.clone());
            let body = move || work(&lake, &todo, &tell, &stop);
            sink.jobs.push(jobs);
            sink.threads.push(spawn(&format!("lake-{number}"), Urgency::Soon, body)?);
        }
        Ok(sink)
    }

    /// Hands a job over; gives it back where the thread has too many.
    ///
    /// # Errors
    /// The job.
    pub fn hand(&self, handed: Handed) -> Result<(), Box<Handed>> {
        let chain = &handed.job.chain;
        let hash = stable_hash(format!("{}/{}", chain.topic, chain.partition).as_bytes());
        let thread = usize::try_from(hash % self.jobs.len() as u64).unwrap_or(0);
        self.jobs[thread].try_send(handed).map_err(|error| Box::new(error.into_inner()))
    }

    /// What was done since it was last asked; waits up to `timeout` for the first.
    pub fn done(&self, timeout: Duration) -> Vec<Done> {
        let mut all: Vec<Done> = self.done.try_iter().collect();
        if all.is_empty() && !timeout.is_zero() {
            all.extend(self.done.recv_timeout(timeout));
        }
        all
    }

    /// Ends the threads after the jobs that they are at.
    ///
    /// # Errors
    /// Where one panicked.
    pub fn close(self) -> Result<(), String> {
        drop(self.jobs);
        self.threads.into_iter().try_for_each(join)
    }
}

fn work(lake: &Lake, todo: &Receiver<Handed>, tell: &Sender<Done>, stop: &Stop) {
    for Handed { mut job, writer, bytes } in todo {
        if stop.is_requested() {
            break;
        }
        let begun = Instant::now();
        let written = write(lake, &writer, &mut job, stop);
        match &written {
            Ok(manifest) => count(manifest, begun.elapsed()),
            Err(error) => tracing::debug!(%error, "a cut was not written"),
        }
        let failed = written.is_err();
        // Nobody listens any more where the archiver has ended.
        let told = tell.send(Done { written, bytes });
        if failed || told.is_err() {
            break;
        }
    }
}

fn write(
    lake: &Lake,
    writer: &TopicWriter,
    job: &mut Job,
    stop: &Stop,
) -> Result<Manifest, LakeError> {
    let mut cut = Lake::prepare(writer, job)?;
    let mut waits = BACKOFF.into_iter();
    let mut wait = BACKOFF[BACKOFF.len() - 1];
    loop {
        match lake.commit(job, &mut cut) {
            Ok(()) => return Ok(cut.manifest),
            Err(error) if error.may_pass() => {
                metrics::counter!(names::LAKE_RETRIES).increment(1);
                wait = waits.next().unwrap_or(wait);
                tracing::warn!(%error, again_in = ?wait, "the lake cannot be written");
                if stop.sleep(wait) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn count(manifest: &Manifest, took: Duration) {
    let topic = manifest.topic.clone();
    metrics::counter!(names::LAKE_ROWS, "topic" => topic.clone()).increment(manifest.rows);
    metrics::counter!(names::LAKE_CUTS, "topic" => topic.clone()).increment(1);
    let bytes: u64 = manifest.files.iter().map(|f| f.bytes).sum();
    metrics::counter!(names::LAKE_BYTES, "topic" => topic.clone()).increment(bytes);
    for (class, records) in &manifest.passed.by_class {
        let labels = [("topic", topic.clone()), ("class", class.clone())];
        metrics::counter!(names::LAKE_PASSED, &labels).increment(*records);
    }
    if let Some((first, last)) = manifest.lost {
        let lost = (last - first + 1).unsigned_abs();
        metrics::counter!(names::LAKE_LOST, "topic" => topic).increment(lost);
    }
    metrics::histogram!(names::LAKE_CUT_SECONDS).record(took.as_secs_f64());
}

/// What cuts came to, by topic.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Tally {
    /// Cuts written.
    pub cuts: u64,
    /// Files of them.
    pub files: u64,
    /// Rows in the files.
    pub rows: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Records without a row, by why.
    pub passed: HashMap<String, u64>,
    /// Offsets that the log had lost before they were read.
    pub lost: u64,
}

impl Tally {
    /// Adds a cut.
    pub fn add(&mut self, manifest: &Manifest) {
        self.cuts += 1;
        self.files += manifest.files.len() as u64;
        self.rows += manifest.rows;
        self.bytes += manifest.files.iter().map(|f| f.bytes).sum::<u64>();
        for (class, records) in &manifest.passed.by_class {
            *self.passed.entry(class.clone()).or_default() += records;
        }
        self.lost += manifest.lost.map_or(0, |(first, last)| (last - first + 1).unsigned_abs());
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.files += other.files;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.lost += other.lost;
        for (class, records) in other.passed {
            *self.passed.entry(class).or_default() += records;
        }
    }
}

//! Snapshots of owned shards: when each is due, and the thread that sends them.
//!
//! Whoever commits a shard makes its checkpoint between two commits, where it is due, and goes on. A
//! thread of the lowest priority sends it, one shard at a time, no faster than it may. Nobody waits
//! for the object store, but a shutdown, for so long as it may take.

pub mod restoring;
mod schedule;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use metrics::{counter, gauge, histogram};

use super::WorkerError;
use crate::config::Config;
use crate::objects::Objects;
use crate::runtime::{self, Stop, Urgency};
use crate::state::StoreError;
use crate::state::snapshots::{
    Checkpoint, Depot, Known, Retention, ShardName, SnapshotError, SourcePosition, Uploaded,
};
use crate::telemetry::names;
use schedule::Schedule;

/// How often the age of snapshots is shown.
const SHOW: Duration = Duration::from_secs(5);
/// Longest sleep of a sender that is too fast: a request to stop is heard after it.
const STEP: Duration = Duration::from_millis(100);
/// How long ending waits beyond what the last snapshots may take.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Reads how far a checkpoint has come from itself, given an empty folder for notes.
pub type ReadSources =
    Arc<dyn Fn(&Path, &Path) -> Result<Vec<SourcePosition>, StoreError> + Send + Sync>;

/// A shard, as its snapshots need it.
#[derive(Clone)]
pub struct Subject {
    /// What its store says that it was folded from.
    pub identity: String,
    /// Reads its checkpoints.
    pub read: ReadSources,
}

/// The snapshots of a worker, as those see them who commit shards.
pub struct Snapshots {
    schedule: Mutex<Schedule>,
    orders: Sender<Order>,
    data_dir: PathBuf,
    /// How long the last snapshots may take.
    patience: Duration,
    /// When the last must be done; none before the end.
    until: Arc<Mutex<Option<Instant>>>,
}

enum Order {
    Send(Job),
    End,
}

/// A checkpoint to be sent.
struct Job {
    shard: ShardName,
    subject: Subject,
    folder: PathBuf,
    /// The worker ends: nothing is tidied up after it.
    is_last: bool,
}

/// Snapshots, and the thread that sends them.
type Started = (Arc<Snapshots>, JoinHandle<()>);

/// The snapshots of a worker, where they are wanted.
///
/// # Errors
/// [`WorkerError`] where the object store's settings make no sense.
pub fn start(config: &Config, stop: &Stop) -> Result<Option<Started>, WorkerError> {
    let settings = &config.snapshots;
    if !settings.enabled {
        return Ok(None);
    }
    // Found out now; the sender opens one of its own, whose threads have its priority.
    Objects::open(&config.objects.settings()).map_err(|e| WorkerError::Objects(e.to_string()))?;
    let data_dir = config.worker.data_dir.clone();
    let io = |what: &str, source| WorkerError::Io { what: what.into(), source };
    remove_left_behind(&data_dir).map_err(|e| io("removing old checkpoints", e))?;
    let (orders, inbox) = unbounded();
    let until = Arc::default();
    let snapshots = Arc::new(Snapshots {
        schedule: Mutex::new(Schedule::new(settings.interval())),
        orders,
        data_dir,
        patience: Duration::from_secs(settings.shutdown_seconds),
        until: Arc::clone(&until),
    });
    let sender = Sending {
        config: config.clone(),
        snapshots: Arc::downgrade(&snapshots),
        inbox,
        author: uuid::Uuid::new_v4().simple().to_string(),
        attempts: 0,
        pace: Pace {
            bytes_per_second: settings.bytes_per_second,
            free: Instant::now(),
            stop: stop.clone(),
            until,
        },
    };
    let body = move || sender.run();
    let thread = runtime::spawn("snapshots", Urgency::Later, body);
    Ok(Some((snapshots, thread.map_err(|e| io("starting a thread", e))?)))
}

/// Removes checkpoints that a process before this one has left behind.
fn remove_left_behind(data_dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(data_dir)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        if extension.is_some_and(|e| e.starts_with("checkpoint-")) {
            std::fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

impl Snapshots {
    /// A shard is ours from now on.
    pub fn open(&self, shard: ShardName, subject: Subject) {
        self.schedule().open(shard, subject, Instant::now());
    }

    /// A shard is no longer ours.
    pub fn close(&self, shard: ShardName) {
        self.schedule().close(shard);
    }

    /// To be called between two commits of a shard that has folded so many records: has a checkpoint
    /// made where a snapshot is due.
    pub fn offer(
        &self,
        shard: ShardName,
        position: u64,
        checkpoint: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) {
        let begun = self.schedule().begin(shard, position, Instant::now());
        if let Some(subject) = begun {
            self.make(shard, subject, false, checkpoint);
        }
    }

    /// The same where the worker ends: it is due if anything was folded since the last one.
    pub fn offer_last(
        &self,
        shard: ShardName,
        position: u64,
        checkpoint: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) {
        if self.patience.is_zero() {
            return;
        }
        let begun = self.schedule().begin_last(shard, position);
        if let Some(subject) = begun {
            self.make(shard, subject, true, checkpoint);
        }
    }

    fn make(
        &self,
        shard: ShardName,
        subject: Subject,
        is_last: bool,
        checkpoint: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) {
        let unique = uuid::Uuid::new_v4().simple();
        let folder = self.data_dir.join(format!("{shard}.checkpoint-{unique}"));
        match checkpoint(&folder) {
            // Refused only once the thread has ended, and the worker with it.
            Ok(()) => {
                let _ = self.orders.send(Order::Send(Job { shard, subject, folder, is_last }));
            }
            Err(error) => {
                tracing::error!(%error, %shard, "no checkpoint could be made");
                count(shard, "failed");
                self.schedule().failed(shard, Instant::now());
            }
        }
    }

    /// Lets the thread end, once what it has is sent or the time for it is over. Returns for how long
    /// to wait for it.
    pub fn end(&self) -> Duration {
        let until = Instant::now() + self.patience;
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        let _ = self.orders.send(Order::End);
        self.patience + END_LIMIT
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // Nothing that holds the lock panics half-way through an update.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(shard: ShardName, outcome: &'static str) {
    let kind = shard.kind.name();
    counter!(names::SNAPSHOTS, "kind" => kind, "outcome" => outcome).increment(1);
}

/// Lets bytes through no faster than it may.
struct Pace {
    bytes_per_second: u64,
    /// From when on there may be more.
    free: Instant,
    stop: Stop,
    until: Arc<Mutex<Option<Instant>>>,
}

impl Pace {
    /// Waits until so many bytes may be read or sent. False once there is no more time.
    fn wait(&mut self, bytes: u64) -> bool {
        loop {
            let now = Instant::now();
            let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
            if until.is_some_and(|until| now >= until) {
                return false;
            }
            // At the end nobody is served here that could be disturbed.
            if self.bytes_per_second == 0 || self.stop.is_requested() {
                return true;
            }
            if now >= self.free {
                let seconds = bytes as f64 / self.bytes_per_second as f64;
                self.free = now + Duration::from_secs_f64(seconds);
                return true;
            }
            self.stop.sleep(STEP.min(self.free - now));
        }
    }
}

/// The thread that sends.
struct Sending {
    config: Config,
    snapshots: std::sync::Weak<Snapshots>,
    inbox: Receiver<Order>,
    /// A name that nobody else has.
    author: String,
    attempts: u64,
    pace: Pace,
}

impl Sending {
    fn run(mut self) {
        // By shard and identity: of another store nothing is known.
        let mut known: std::collections::HashMap<(ShardName, String), Known> = Default::default();
        loop {
            match self.inbox.recv_timeout(SHOW) {
                Ok(Order::Send(job)) => {
                    let key = (job.shard, job.subject.identity.clone());
                    self.send(&job, known.entry(key).or_default());
                    if let Err(error) = std::fs::remove_dir_all(&job.folder) {
                        tracing::warn!(%error, folder = %job.folder.display(), "a checkpoint stays");
                    }
                }
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(snapshots) = self.snapshots.upgrade() {
                let age = snapshots.schedule().oldest(Instant::now());
                gauge!(names::SNAPSHOT_AGE).set(age.as_secs_f64());
            }
        }
    }

    fn send(&mut self, job: &Job, known: &mut Known) {
        let begun = Instant::now();
        let sent = self.upload(job, known);
        let Some(snapshots) = self.snapshots.upgrade() else { return };
        let shard = job.shard;
        match sent {
            Ok(Uploaded { key, bytes, new_bytes }) => {
                let took = begun.elapsed();
                tracing::info!(%shard, key, bytes, new_bytes, ?took, "a snapshot is made");
                counter!(names::SNAPSHOT_BYTES).increment(new_bytes);
                histogram!(names::SNAPSHOT_SECONDS).record(took);
                count(shard, "made");
                snapshots.schedule().made(shard, Instant::now());
            }
            Err(error) => {
                tracing::warn!(%error, %shard, "a snapshot is not made; it is tried again");
                count(shard, "failed");
                snapshots.schedule().failed(shard, Instant::now());
            }
        }
    }

    fn upload(&mut self, job: &Job, known: &mut Known) -> Result<Uploaded, Unsent> {
        let scratch = job.folder.with_extension("checkpoint-notes");
        std::fs::create_dir_all(&scratch)?;
        let sources = (job.subject.read)(&job.folder, &scratch);
        std::fs::remove_dir_all(&scratch)?;
        let checkpoint = Checkpoint { folder: &job.folder, sources: sources? };
        let objects = Arc::new(Objects::open(&self.config.objects.settings())?);
        let prefix = &self.config.topics.prefix;
        let depot = Depot::new(objects, prefix, job.shard, &job.subject.identity);
        self.attempts += 1;
        let name = (self.author.as_str(), self.attempts);
        let pace = &mut self.pace;
        let uploaded = depot.upload(checkpoint, name, known, &mut |bytes| pace.wait(bytes))?;
        if !job.is_last {
            self.collect(job.shard, &depot, self.config.snapshots.retention());
        }
        Ok(uploaded)
    }

    /// Gives up what is no longer wanted. The snapshot is made, whatever comes of this.
    fn collect(&self, shard: ShardName, depot: &Depot, retention: Retention) {
        let plan = format!("{}-{}", self.author, self.attempts);
        match depot.collect(retention, &plan) {
            Ok(gone) => {
                counter!(names::SNAPSHOT_PARTS_DELETED).increment(gone.parts as u64);
                if gone.parts + gone.manifests > 0 {
                    tracing::info!(%shard, ?gone, "old snapshots are given up");
                }
            }
            Err(error) => tracing::warn!(%error, %shard, "old snapshots stay for now"),
        }
    }
}

/// Why a checkpoint was not sent.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the checkpoint cannot be read: {0}")]
    Checkpoint(#[from] StoreError),
    #[error("the checkpoint's notes: {0}")]
    Notes(#[from] std::io::Error),
}

impl From<crate::objects::ObjectError> for Unsent {
    fn from(error: crate::objects::ObjectError) -> Self {
        Self::Snapshot(error.into())
    }
}

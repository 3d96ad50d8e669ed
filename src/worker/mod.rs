//! The worker role: wires Kafka, the fold, the stores and serving together.
//!
//! Kinds of threads: ingest (consumes and folds events, member of the group), requests (reads the
//! requests of owned shards, a pool answers them), items (folds `interactions` into item states,
//! member of a group of its own) with the first basis, the feeds of the global tables, of the
//! catalog, of the item tables and of what came
//! of lists, dead letters of the catalog (told by one worker for all), transitions (solves what the first of the feeds collects), and snapshots (sends checkpoints to the object store). They meet in [`Shards`]
//! and in the tables.

mod catalog_feed;
mod catalog_letters;
mod commit;
mod dead_letter;
mod examples;
mod experiments;
mod generations;
mod global_feed;
mod histories;
mod hot;
mod impressions;
mod ingest;
mod items;
mod joining;
mod ranking;
mod replies;
mod requests;
mod rollout;
mod serving_windows;
mod shards;
mod shown;
mod snapshots;
mod stores;
mod transitions;

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::catalog::Catalog;
use crate::config::Config;
use crate::embedding::ItemTables;
use crate::global::GlobalTables;
use crate::kafka::{Admin, KafkaError, TopicMetadata, has_lost_brokers};
use crate::runtime::{self, Stop, Urgency};
use crate::telemetry::HealthReport;

use hot::HotTier;

pub use dead_letter::{CLASS_HEADER, MESSAGE_HEADER, TOPIC_HEADER};
pub use shards::Shards;

/// Why a worker did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Kafka does not answer or refuses.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The topics are not as they must be.
    #[error("{0}")]
    Topics(String),
    /// A folder or thread could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The object store's settings make no sense.
    #[error("snapshots: {0}")]
    Objects(String),
    /// A thread ended that should not have.
    #[error("{0}")]
    Thread(String),
}

/// A running worker.
pub struct Worker {
    stop: Stop,
    shards: Arc<Shards>,
    global: Arc<RwLock<GlobalTables>>,
    feed: Arc<global_feed::FeedState>,
    catalog: Arc<catalog_feed::SharedCatalog>,
    hot: Option<Arc<HotTier>>,
    snapshots: Option<Arc<snapshots::Snapshots>>,
    items: Arc<items::SharedItems>,
    rollout: Arc<rollout::Rollout>,
    experiments: Arc<experiments::SharedExperiments>,
    isolation: Duration,
    threads: Vec<JoinHandle<()>>,
    /// They end when the others no longer need them.
    hot_threads: Vec<JoinHandle<()>>,
    /// It ends when the last snapshots are sent.
    snapshot_thread: Option<JoinHandle<()>>,
    shutdown_limit: Duration,
}

/// What every thread of a worker needs.
#[derive(Clone)]
struct Context {
    config: Arc<Config>,
    cluster_id: String,
    partitions: i32,
    interaction_partitions: i32,
    shards: Arc<Shards>,
    global: Arc<RwLock<GlobalTables>>,
    catalog: Arc<catalog_feed::SharedCatalog>,
    items: Arc<items::SharedItems>,
    blends: Arc<global_feed::SharedBlends>,
    curves: Arc<examples::SharedCurves>,
    ranking: Arc<ranking::SharedRanking>,
    serving_windows: Arc<serving_windows::ServingWindows>,
    rollout: Arc<rollout::Rollout>,
    experiments: Arc<experiments::SharedExperiments>,
    /// Host and process, for people.
    name: Arc<str>,
    hot: Option<Arc<HotTier>>,
    snapshots: Option<Arc<snapshots::Snapshots>>,
    stop: Stop,
}

impl Context {
    /// What shard `partition` is folded from. `feedback-events` has the same prefix and is not
    /// named: stores of before there was feedback go on.
    fn folded_from(&self, partition: i32) -> String {
        let topics = &self.config.topics;
        format!(
            "cluster {}, topics {} and {}, partition {partition} of {}",
            self.cluster_id,
            topics.watch_events(),
            topics.click_events(),
            self.partitions
        )
    }
}

impl Context {
    /// Whether a ranker learns and ranks.
    fn ranks(&self) -> bool {
        self.config.ranker.enabled && self.config.quality.enabled
    }
}

impl Worker {
    /// Checks the topics and starts all threads. Returns before the shards are restored.
    ///
    /// # Errors
    /// [`WorkerError`] that says what to do.
    pub fn start(config: Config) -> Result<Self, WorkerError> {
        let admin = Admin::new(&config.kafka.client())?;
        let (partitions, interaction_partitions) = check_topics(&config, &admin.topics()?)?;
        let cluster_id = admin.cluster_id().unwrap_or_default();
        make_folder(&config.worker.data_dir)?;

        let global = Arc::new(RwLock::new(config.global.tables()));
        let catalog = Arc::new(catalog_feed::SharedCatalog::new(config.catalog.required));
        let rollout = Arc::new(rollout::Rollout::default());
        let experiments = Arc::new(experiments::SharedExperiments::default());
        let (hot, start_hot) = HotTier::start(&config.hot).unzip();
        let hot = hot.map(Arc::new);
        let items = Arc::new(items::SharedItems::new(config.items.tables()));
        let stop = Stop::default();
        let (snapshots, snapshot_thread) = snapshots::start(&config, &stop)?.unzip();
        let shutdown_limit = Duration::from_secs(config.worker.shutdown_seconds);
        let isolation = Duration::from_secs(config.deployment.isolation_seconds);
        let context = Context {
            shards: Arc::new(Shards::default()),
            config: Arc::new(config),
            cluster_id,
            partitions,
            interaction_partitions,
            global: Arc::clone(&global),
            catalog: Arc::clone(&catalog),
            items: Arc::clone(&items),
            blends: Arc::default(),
            curves: Arc::default(),
            ranking: Arc::default(),
            serving_windows: Arc::default(),
            rollout: Arc::clone(&rollout),
            experiments: Arc::clone(&experiments),
            name: name().into(),
            hot: hot.clone(),
            snapshots: snapshots.clone(),
            stop,
        };
        let mut worker = Self {
            stop: context.stop.clone(),
            shards: Arc::clone(&context.shards),
            global,
            feed: Arc::default(),
            catalog,
            hot,
            snapshots,
            items,
            rollout,
            experiments,
            isolation,
            threads: Vec::new(),
            hot_threads: Vec::new(),
            snapshot_thread,
            shutdown_limit,
        };
        let started = start_hot.map_or(Ok(Vec::new()), |start| start(&context));
        let started = started.and_then(|threads| {
            worker.hot_threads = threads;
            worker.start_threads(&context)
        });
        if let Err(error) = started {
            worker.stop.request();
            worker.end_hot_tier();
            worker.end_snapshots()?;
            return Err(error);
        }
        Ok(worker)
    }

    fn start_threads(&mut self, context: &Context) -> Result<(), WorkerError> {
        let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
        self.threads.push(global_feed::start(context.clone(), Arc::clone(&self.feed))?);
        self.threads.extend(transitions::start(context)?);
        self.threads.extend(examples::start(context)?);
        self.threads.extend(ranking::start(context)?);
        self.threads.push(catalog_feed::start(context.clone())?);
        self.threads.push(catalog_letters::start(context)?);
        self.threads.extend(items::start(context)?);
        self.threads.push(serving_windows::start(context)?);
        self.threads.push(rollout::start(context)?);
        self.threads.push(experiments::start(context)?);
        let (control, threads) = requests::start(context.clone(), Arc::clone(&self.feed))?;
        self.threads.extend(threads);
        for number in 0..context.config.worker.ingest_threads {
            let (context, control) = (context.clone(), control.clone());
            let name = format!("ingest-{number}");
            let body = move || ingest::run(&context, number, &control);
            self.threads.push(runtime::spawn(&name, Urgency::Soon, body).map_err(io)?);
        }
        Ok(())
    }

    /// Whether it can take traffic: global tables warmed, catalog and item tables read to their
    /// ends, shards restored to where the log ended when they were assigned, what their users were
    /// shown read back.
    pub fn health(&self) -> HealthReport {
        (self.health_source())()
    }

    /// The same, to be asked by whoever outlives this borrow.
    pub fn health_source(&self) -> crate::telemetry::HealthSource {
        let (shards, feed) = (Arc::clone(&self.shards), Arc::clone(&self.feed));
        let (catalog, items) = (Arc::clone(&self.catalog), Arc::clone(&self.items));
        let (rollout, isolation) = (Arc::clone(&self.rollout), self.isolation);
        let experiments = Arc::clone(&self.experiments);
        Arc::new(move || {
            let mut report = health(&shards, &feed, &catalog, &items);
            if !experiments.is_read() {
                report.details.push("experiments: being read".into());
            }
            let is_connected = rollout.is_connected(isolation);
            if !is_connected {
                let silent = "broker: has not heard of this worker for too long";
                report.details.push(silent.into());
            }
            report.ready &= experiments.is_read() && is_connected;
            report
        })
    }

    /// The shards that this worker owns.
    pub fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// The tables over all users.
    pub fn global(&self) -> &Arc<RwLock<GlobalTables>> {
        &self.global
    }

    /// The catalog of items.
    pub fn catalog(&self) -> &RwLock<Catalog> {
        self.catalog.table()
    }

    /// What is known of all items: vectors, statistics, names.
    pub fn items(&self) -> &ItemTables {
        self.items.tables()
    }

    /// Whether a thread has ended though nobody asked, or a client of Kafka has lost all brokers for
    /// good.
    pub fn has_failed(&self) -> bool {
        // The first basis is done where it is not wanted.
        let ended = |thread: &JoinHandle<()>| {
            thread.is_finished() && thread.thread().name() != Some(items::FIRST_BASIS_THREAD)
        };
        let mut threads = self.threads.iter().chain(&self.hot_threads).chain(&self.snapshot_thread);
        !self.stop.is_requested() && (threads.any(ended) || has_lost_brokers())
    }

    fn end_hot_tier(&self) {
        if let Some(hot) = &self.hot {
            hot.end();
        }
    }

    /// Waits for the last snapshots, as long as they may take.
    fn end_snapshots(&mut self) -> Result<(), WorkerError> {
        let (Some(snapshots), Some(thread)) = (&self.snapshots, self.snapshot_thread.take()) else {
            return Ok(());
        };
        for name in join(vec![thread], snapshots.end())? {
            tracing::warn!(name, "this thread waits for the object store and is left behind");
        }
        Ok(())
    }

    /// Drains and stops: what was folded is committed, what was accepted is answered.
    ///
    /// # Errors
    /// [`WorkerError::Thread`] where a thread panicked or did not end in time; the stores are
    /// consistent all the same.
    pub fn shutdown(mut self) -> Result<(), WorkerError> {
        self.stop.request();
        let hanging = join(std::mem::take(&mut self.threads), self.shutdown_limit)?;
        if let Some(name) = hanging.first() {
            return Err(WorkerError::Thread(format!("{name} did not end in time")));
        }
        self.end_hot_tier();
        self.end_snapshots()?;
        // Nothing depends on them, and a TLS handshake with a Redis that hangs has no timeout.
        for name in join(self.hot_threads, hot::END_LIMIT)? {
            tracing::warn!(name, "this thread waits for Redis and is left behind");
        }
        Ok(())
    }
}

/// Waits for threads that have been told to end. Returns the names of those that have not.
fn join(threads: Vec<JoinHandle<()>>, patience: Duration) -> Result<Vec<String>, WorkerError> {
    let until = Instant::now() + patience;
    let mut hanging = Vec::new();
    for thread in threads {
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            runtime::join(thread).map_err(WorkerError::Thread)?;
        } else {
            hanging.push(thread.thread().name().unwrap_or("a thread").to_owned());
        }
    }
    Ok(hanging)
}

fn health(
    shards: &Shards,
    feed: &global_feed::FeedState,
    catalog: &catalog_feed::SharedCatalog,
    items: &items::SharedItems,
) -> HealthReport {
    let mut details = Vec::new();
    let warmed = feed.is_warmed();
    details.push(format!("global tables: {}", if warmed { "warmed" } else { "warming" }));
    let listed = catalog.is_loaded();
    details.push(format!("catalog: {}", if listed { "read" } else { "being read" }));
    let items = items.is_loaded();
    details.push(format!("items: {}", if items { "read" } else { "being read" }));
    let shown = shards.know_what_was_shown();
    details.push(format!("shown: {}", if shown { "read" } else { "being read" }));
    let (owned, restoring) = shards.counts();
    let joined = shards.has_joined();
    if joined {
        details.push(format!("shards: {owned} owned, {restoring} restoring"));
    } else {
        details.push("shards: waiting for an assignment".into());
    }
    let read = warmed && listed && items && shown;
    HealthReport { ready: read && joined && restoring == 0, details }
}

/// Host and process.
fn name() -> String {
    let host = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    format!("{}:{}", host.as_deref().map_or("worker", str::trim), std::process::id())
}

fn make_folder(path: &PathBuf) -> Result<(), WorkerError> {
    std::fs::create_dir_all(path).map_err(|source| WorkerError::Io {
        what: format!("making worker.data_dir {}", path.display()),
        source,
    })
}

/// The number of partitions of the user-keyed topics, which must agree, and of `interactions`; and
/// whether the rest is there.
fn check_topics(config: &Config, cluster: &[TopicMetadata]) -> Result<(i32, i32), WorkerError> {
    let topics = &config.topics;
    let count = |name: &str| {
        cluster.iter().find(|t| t.name == name).map(|t| t.partitions).ok_or_else(|| {
            WorkerError::Topics(format!(
                "topic {name} does not exist: run `driftline topics apply` first"
            ))
        })
    };
    let names = config.user_keyed_topics();
    let counts = names.iter().map(|n| count(n)).collect::<Result<Vec<_>, _>>()?;
    if counts.iter().any(|c| *c != counts[0]) {
        let found: Vec<_> =
            names.iter().zip(&counts).map(|(n, c)| format!("{n} has {c}")).collect();
        return Err(WorkerError::Topics(format!(
            "the user-keyed topics must have the same number of partitions, so that a user's \
             events and requests meet in one shard; {}. Make the odd one out anew with the same \
             number (its records are lost), or start under another topics.prefix",
            found.join(", ")
        )));
    }
    count(&topics.dead_letters())?;
    count(&topics.metrics())?;
    count(&topics.item_catalog())?;
    count(&topics.models())?;
    count(&topics.model_control())?;
    count(&topics.model_acks())?;
    count(&topics.experiments())?;
    let interactions = count(&topics.interactions())?;
    for name in [topics.item_embeddings(), topics.item_features()] {
        let found = count(&name)?;
        if found != interactions {
            return Err(WorkerError::Topics(format!(
                "{name} has {found} partitions and {} has {interactions}: an item shard writes the \
                 partition it reads. Make {name} anew with {interactions}; item shards fill it",
                topics.interactions()
            )));
        }
    }
    Ok((counts[0], interactions))
}

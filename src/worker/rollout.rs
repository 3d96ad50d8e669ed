//! What a worker does about decisions on models: who answers a request, and what is said of it on
//! `model-acks`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::serving_windows::{LATENCY_BINS, latency_bin};
use super::{Context, WorkerError};
use crate::deployment::{CONTROLLED, Route, Routing};
use crate::embedding::ItemTables;
use crate::event::{CandidateState, ModelAck, ModelControl, Phase, RolloutArm, ServedBy};
use crate::ids::{Prehashed, stable_hash};
use crate::kafka::{Outgoing, Producer, ProducerKind};
use crate::model::BasisVersion;
use crate::runtime::{self, Urgency};
use crate::time::wall_now;

/// Users told apart since an epoch began; those beyond are in no count.
const MOST_USERS: usize = 65_536;
/// How much more often a worker speaks while lists of a candidate are made.
const TRIAL_RATE: u64 = 5;
/// How long the last word is waited for.
const END_LIMIT: Duration = Duration::from_secs(2);

/// What is decided, and what this worker has made of it.
pub struct Rollout {
    state: Mutex<State>,
    routing: RwLock<Arc<Routing>>,
    wake: (Sender<()>, Receiver<()>),
    begun: Instant,
    /// When the broker last took a word, in milliseconds after `begun`.
    heard: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    control: ModelControl,
    tried: HashMap<BasisVersion, Tried>,
    served: BTreeMap<RolloutArm, ServedBy>,
    users: HashSet<u64, Prehashed>,
}

/// What came of the times that a version's bytes were sent.
#[derive(Default)]
struct Tried {
    attempts: i32,
    error: Option<String>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            routing: RwLock::default(),
            wake: bounded(1),
            begun: Instant::now(),
            heard: Arc::default(),
        }
    }
}

impl Rollout {
    /// Follows a decision from the next request on.
    pub fn obey(&self, control: &ModelControl, tables: &ItemTables) {
        {
            let mut state = self.lock();
            state.control = control.clone();
            state.served.clear();
            state.users.clear();
        }
        self.refresh(tables);
    }

    /// A version has been sent: it is loaded, or why not.
    pub fn note_tried(
        &self,
        version: BasisVersion,
        outcome: Result<(), String>,
        tables: &ItemTables,
    ) {
        {
            let mut state = self.lock();
            let tried = state.tried.entry(version).or_default();
            tried.attempts += 1;
            tried.error = outcome.err();
        }
        self.refresh(tables);
    }

    /// A version is gone.
    pub fn note_retired(&self, version: BasisVersion, tables: &ItemTables) {
        self.lock().tried.remove(&version);
        self.refresh(tables);
    }

    fn refresh(&self, tables: &ItemTables) {
        let routing = {
            let state = self.lock();
            Routing::new(&state.control, |version| tables.basis(version).is_some())
        };
        *self.routing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routing);
        // One that is waiting says it all.
        let _ = self.wake.0.try_send(());
    }

    /// Who answers, as of now. A request asks once.
    pub fn routing(&self) -> Arc<Routing> {
        Arc::clone(&self.routing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a list that took so long; of an epoch that is over, nothing.
    pub fn note_served(&self, route: &Route, user: &str, list: &ServedList) {
        let mut state = self.lock();
        if state.control.epoch != route.epoch || state.control.phase == Phase::Serving {
            return;
        }
        let is_new = !user.is_empty()
            && state.users.len() < MOST_USERS
            && state.users.insert(stable_hash(user.as_bytes()));
        let served = state.served.entry(route.arm).or_default();
        served.requests += 1;
        served.failures += i64::from(list.failed);
        served.empty_lists += i64::from(list.items == 0);
        served.users += i64::from(is_new);
        if route.arm == RolloutArm::Shadow {
            served.items += list.items as i64;
            served.overlap_items += list.overlap as i64;
        }
        served.latency.resize(LATENCY_BINS, 0);
        served.latency[latency_bin(list.took)] += 1;
    }

    /// Whether the broker has heard of this worker within `limit`.
    pub fn is_connected(&self, limit: Duration) -> bool {
        let silent = self.now_ms().saturating_sub(self.heard.load(Ordering::Acquire));
        silent < limit.as_millis() as u64
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn ack(&self, context: &Context, boot: &str) -> ModelAck {
        let tables = context.items.tables();
        let loaded = tables.versions();
        let state = self.lock();
        let candidate = BasisVersion::parse(&state.control.candidate);
        let tried = candidate.and_then(|candidate| state.tried.get(&candidate));
        let error = tried.and_then(|tried| tried.error.clone());
        let is_loaded = candidate.is_some_and(|candidate| loaded.contains(&candidate));
        let named = |version: &BasisVersion| version.to_string();
        let served = state.served.iter().map(|(arm, served)| ServedBy {
            arm: *arm,
            version: match arm {
                RolloutArm::Champion => state.control.champion.clone(),
                _ => state.control.candidate.clone(),
            },
            ..served.clone()
        });
        ModelAck {
            worker: context.name.to_string(),
            boot: boot.to_owned(),
            epoch: state.control.epoch,
            champion: tables.champion().as_ref().map(named).unwrap_or_default(),
            loaded: loaded.iter().map(named).collect(),
            candidate: state.control.candidate.clone(),
            state: match candidate {
                None => CandidateState::None,
                // What was sent again and is torn is no reason to let go of what is whole.
                Some(_) if is_loaded => CandidateState::Loaded,
                Some(_) if error.is_some() => CandidateState::Failed,
                Some(_) => CandidateState::Loading,
            },
            error: error.filter(|_| !is_loaded).unwrap_or_default(),
            attempts: tried.map_or(0, |tried| tried.attempts),
            lease_ms: i32::try_from(context.config.deployment.lease_ms).unwrap_or(i32::MAX),
            event_time: tables.watermark().millis().max(0),
            sent_at: wall_now(),
            served: served.collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted of a list.
pub struct ServedList {
    /// How long it took to make.
    pub took: Duration,
    /// Whether it could not be made, or made no sense.
    pub failed: bool,
    /// Its items.
    pub items: usize,
    /// Those of them that were answered too.
    pub overlap: usize,
}

/// Starts the thread that speaks for this worker.
pub fn start(context: &Context) -> Result<JoinHandle<()>, WorkerError> {
    let client = context.config.kafka.client();
    let producer = Producer::new(&client, ProducerKind::LowLatency, "driftline-acks")?;
    let context = context.clone();
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    runtime::spawn("model-acks", Urgency::Soon, move || run(&context, &producer)).map_err(io)
}

fn run(context: &Context, producer: &Producer) {
    let (rollout, boot) = (&context.rollout, uuid::Uuid::new_v4().to_string());
    let heartbeat = Duration::from_millis(context.config.deployment.heartbeat_ms);
    let mut spoken: Option<Instant> = None;
    while !context.stop.is_requested() {
        let is_trial = matches!(rollout.lock().control.phase, Phase::Shadow | Phase::Canary);
        let interval = if is_trial { heartbeat / TRIAL_RATE as u32 } else { heartbeat };
        let wait = spoken.map_or(Duration::ZERO, |at| interval.saturating_sub(at.elapsed()));
        // Told to stop, it is not asleep for long.
        let wait = wait.min(Duration::from_millis(100));
        let is_woken = rollout.wake.1.recv_timeout(wait).is_ok();
        let is_due = spoken.is_none_or(|at| at.elapsed() >= interval);
        // Before the tables are read it knows of no decision, and would seem to disobey.
        if (is_woken || is_due) && context.items.is_loaded() {
            speak(context, producer, Some(&rollout.ack(context, &boot)));
            spoken = Some(Instant::now());
        } else if spoken.is_none() {
            context.stop.sleep(Duration::from_millis(20));
        }
    }
    speak(context, producer, None);
    if let Err(error) = producer.flush(END_LIMIT) {
        tracing::warn!(%error, "that this worker ends is not told");
    }
}

/// Tells a word, or that this was the last.
fn speak(context: &Context, producer: &Producer, ack: Option<&ModelAck>) {
    let value = match ack.map(ModelAck::encode).transpose() {
        Ok(value) => value,
        Err(error) => return tracing::error!(%error, "what was made of a decision is not told"),
    };
    let (topic, key) =
        (context.config.topics.model_acks(), format!("{CONTROLLED}/{}", context.name));
    let outgoing = Outgoing {
        topic: &topic,
        partition: Some(0),
        key: Some(key.as_bytes()),
        value: value.as_deref().unwrap_or_default(),
        is_tombstone: value.is_none(),
        ..Outgoing::default()
    };
    let (heard, begun) = (Arc::clone(&context.rollout.heard), context.rollout.begun);
    let on_end = Box::new(move |result: Result<_, String>| match result {
        Ok(_) => heard.store(begun.elapsed().as_millis() as u64, Ordering::Release),
        Err(error) => tracing::warn!(error, "what was made of a decision is not told"),
    });
    if let Err(error) = producer.offer(&outgoing, on_end) {
        tracing::warn!(%error, "what was made of a decision is not told");
    }
}

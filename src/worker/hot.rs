//! The hot tier's two threads: one writes committed states through, one looks users up.
//!
//! Nobody waits for Redis: committing only names users in a bounded queue, and an answer waits a
//! few milliseconds for the looking-up thread, or not at all while the breaker is open. Each
//! thread has a breaker of its own: a Redis that is full takes nothing and still tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use metrics::{counter, gauge, histogram};

use super::shards::OwnedShard;
use super::{Context, WorkerError};
use crate::config::HotConfig;
use crate::event::EventTopic;
use crate::feature::UserState;
use crate::runtime::{self, Urgency};
use crate::state::hot::{
    Backoff, Breaker, BreakerState, HotConnection, HotError, HotIdentity, HotQueue, HotServer,
    HotValue, Permit, Put, Version,
};
use crate::state::{AsOf, Frozen, StoreError};
use crate::telemetry::names;
use crate::time::{EventTime, SECOND_MS, wall_now};

/// Users in one round trip of the writer: some 200 KB, and 2 ms of reading the store, for which
/// closing a shard has to wait.
const BATCH: usize = 128;
/// Look-ups in one round trip.
const READS: usize = 64;
/// Look-ups that may wait for the reading thread; more than serving threads is never needed.
const READS_WAITING: usize = 256;
/// How long connecting may take, and how long Redis may take over a batch of writes. Nobody
/// waits for either.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often an idle connection is tried, so that a dead one is noticed before it is needed.
const IDLE: Duration = Duration::from_secs(1);
/// How long giving a shard away waits for its last users to be written: they are those that the
/// next owner will be asked for.
const CLOSE_LIMIT: Duration = Duration::from_millis(100);

/// How long ending waits for the threads: as long as they may be connecting and writing.
pub const END_LIMIT: Duration = Duration::from_secs(3);

/// Starts the threads of a tier.
pub type StartThreads = Box<dyn FnOnce(&Context) -> Result<Vec<JoinHandle<()>>, WorkerError>>;

/// What is said of a Redis that has failed lately.
const AWAY: &str = "is away";

/// The hot tier, as the other threads of a worker see it.
pub struct HotTier {
    queue: Arc<HotQueue<OwnedShard>>,
    lookups: Sender<Lookup>,
    status: Arc<Status>,
    read_timeout: Duration,
    /// See [`HotConfig::ttl_seconds`], in milliseconds.
    active_ms: i64,
    limit: usize,
}

/// Which breaker is closed.
#[derive(Default)]
struct Status {
    reads: AtomicBool,
    writes: AtomicBool,
}

enum Lookup {
    User { user: String, until: Instant, answer: Sender<Result<Option<Vec<u8>>, &'static str>> },
    End,
}

impl HotTier {
    /// The tier, where the configuration names a Redis, and what starts its threads.
    pub fn start(config: &HotConfig) -> Option<(Self, StartThreads)> {
        let server = config.server()?;
        let (lookups, inbox) = bounded(READS_WAITING);
        let tier = Self {
            queue: Arc::new(HotQueue::new(config.queue_limit)),
            lookups,
            status: Arc::default(),
            read_timeout: Duration::from_millis(config.read_timeout_ms),
            active_ms: i64::try_from(config.ttl_seconds).unwrap_or(i64::MAX) * SECOND_MS,
            limit: config.queue_limit,
        };
        let (queue, status) = (Arc::clone(&tier.queue), Arc::clone(&tier.status));
        let (timeout, active_ms) = (tier.read_timeout, tier.active_ms);
        let start = move |context: &Context| {
            let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
            let reader = Reader {
                link: Link::new("read", server.clone(), timeout),
                inbox,
                status: Arc::clone(&status),
            };
            let writer = Writer {
                link: Link::new("write", server, PATIENCE),
                queue,
                status,
                context: context.clone(),
                active_ms,
            };
            // Folding comes first: a writer that lags leaves users out.
            Ok(vec![
                runtime::spawn("hot-read", Urgency::Now, || reader.run()).map_err(io)?,
                runtime::spawn("hot-write", Urgency::Later, || writer.run()).map_err(io)?,
            ])
        };
        Some((tier, Box::new(start)))
    }

    /// Offers the users of a commit to be written, where it is of these days: users of a log that
    /// is read again from long ago are not active.
    pub fn offer(&self, owned: &Arc<OwnedShard>, frozen: &Frozen) {
        let newest = EventTopic::ALL.iter().filter_map(|t| frozen.progress.of(*t).watermark).max();
        let active = active_since(self.active_ms);
        if newest.is_none_or(|at| at < active.millis()) {
            return;
        }
        let users = frozen.pending.user_ids().take(self.limit);
        let offered = self.queue.offer(owned.shard.id(), owned, users);
        let beyond = frozen.pending.users().saturating_sub(self.limit);
        count_writes("dropped", offered.dropped + beyond);
    }

    /// Lets go of a shard, whose store is about to be closed. Its last users are written first,
    /// where that takes no longer than a moment.
    pub fn close(&self, partition: i32) {
        let writes = self.status.writes.load(Ordering::Acquire);
        let patience = if writes { CLOSE_LIMIT } else { Duration::ZERO };
        count_writes("dropped", self.queue.close(partition, patience));
    }

    /// A user's value, if there is one.
    ///
    /// # Errors
    /// Why it is not known: a Redis that does not answer in time, or has not lately.
    pub fn get(&self, user: &str) -> Result<Option<Vec<u8>>, &'static str> {
        if !self.status.reads.load(Ordering::Acquire) {
            return Err(AWAY);
        }
        let begun = Instant::now();
        let (answer, wait) = bounded(1);
        let lookup = Lookup::User { user: user.into(), until: begun + self.read_timeout, answer };
        let late = "timed out";
        let found = match self.lookups.try_send(lookup) {
            Ok(()) => match wait.recv_timeout(self.read_timeout) {
                Ok(found) => found,
                Err(RecvTimeoutError::Timeout) => Err(late),
                Err(RecvTimeoutError::Disconnected) => Err(AWAY),
            },
            Err(_) => Err(late),
        };
        histogram!(names::HOT_SECONDS, "side" => "read").record(begun.elapsed());
        found
    }

    /// Ends both threads, once nobody offers or asks any more.
    pub fn end(&self) {
        self.queue.end();
        // Refused only where the thread has ended already, or has so much to do that it finds
        // its inbox closed soon after.
        let _ = self.lookups.send_timeout(Lookup::End, PATIENCE);
    }
}

/// Users whose newest event is older are not written.
fn active_since(active_ms: i64) -> EventTime {
    EventTime::from_millis(wall_now()).plus_millis(-active_ms)
}

fn count_writes(outcome: &'static str, users: usize) {
    if users > 0 {
        counter!(names::HOT_WRITES, "outcome" => outcome).increment(users as u64);
    }
}

/// A connection that is made when needed and dropped when it fails, and the breaker before it.
struct Link {
    side: &'static str,
    server: HotServer,
    /// How long Redis may take over one command.
    timeout: Duration,
    breaker: Breaker,
    connection: Option<HotConnection>,
    begun: Instant,
}

impl Link {
    fn new(side: &'static str, server: HotServer, timeout: Duration) -> Self {
        let breaker = Breaker::new(Backoff::default());
        Self { side, server, timeout, breaker, connection: None, begun: Instant::now() }
    }

    fn permit(&mut self) -> Permit {
        let permit = self.breaker.permit(self.begun.elapsed());
        self.show();
        permit
    }

    /// Runs commands; tells the breaker how they went.
    fn run<T>(
        &mut self,
        commands: impl FnOnce(&mut HotConnection) -> Result<T, HotError>,
    ) -> Result<T, HotError> {
        let result = match self.connection.take() {
            Some(open) => Ok(open),
            None => HotConnection::open(&self.server, PATIENCE, self.timeout),
        }
        .and_then(|mut connection| Ok((commands(&mut connection)?, connection)));
        match result {
            Ok((result, connection)) => {
                self.connection = Some(connection);
                let was = self.breaker.state();
                self.breaker.succeeded();
                if was != BreakerState::Closed {
                    tracing::info!(side = self.side, server = %self.server, "the hot tier is back");
                }
                self.show();
                Ok(result)
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    fn failed(&mut self, error: &HotError) {
        let was = self.breaker.state();
        self.breaker.failed(self.begun.elapsed(), rand::random());
        counter!(names::HOT_ERRORS, "side" => self.side, "reason" => error.reason()).increment(1);
        if was == BreakerState::Closed && self.breaker.state() == BreakerState::Open {
            tracing::warn!(side = self.side, %error, "the hot tier is away; all goes on without");
        }
        self.show();
    }

    fn is_closed(&self) -> bool {
        self.breaker.state() == BreakerState::Closed
    }

    fn show(&self) {
        let state = match self.breaker.state() {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        gauge!(names::HOT_BREAKER, "side" => self.side).set(state);
    }
}

struct Reader {
    link: Link,
    inbox: Receiver<Lookup>,
    status: Arc<Status>,
}

impl Reader {
    fn run(mut self) {
        loop {
            let wait = match self.link.permit() {
                Permit::Wait(wait) => wait,
                // A probe, or a connection that is made before somebody needs it.
                Permit::Attempt if self.link.connection.is_none() => {
                    // Connecting takes long, or hangs in a TLS handshake: nobody waits for it.
                    self.status.reads.store(false, Ordering::Release);
                    let _ = self.link.run(HotConnection::ping);
                    Duration::ZERO
                }
                Permit::Attempt => IDLE,
            };
            let readable = self.link.is_closed() && self.link.connection.is_some();
            self.status.reads.store(readable, Ordering::Release);
            match self.inbox.recv_timeout(wait) {
                Ok(first) => {
                    if !self.answer(first) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) if readable => {
                    let _ = self.link.run(HotConnection::ping);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Answers all that wait. Returns whether to go on.
    fn answer(&mut self, first: Lookup) -> bool {
        let mut users = Vec::new();
        let mut answers = Vec::new();
        let mut goes_on = true;
        let now = Instant::now();
        for lookup in std::iter::once(first).chain(self.inbox.try_iter().take(READS - 1)) {
            match lookup {
                Lookup::User { user, until, answer } if until > now => {
                    users.push(user);
                    answers.push(answer);
                }
                Lookup::User { .. } => {}
                Lookup::End => goes_on = false,
            }
        }
        // Without a connection they are refused at once: making one takes too long for them.
        if !users.is_empty() && self.link.connection.is_some() {
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            let found = self.link.run(|connection| connection.get(&users));
            let found: Vec<_> = match found {
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(error) => users.iter().map(|_| Err(error.reason())).collect(),
            };
            for (answer, found) in answers.into_iter().zip(found) {
                // Refused where nobody waits any more.
                let _ = answer.try_send(found);
            }
        }
        goes_on
    }
}

struct Writer {
    link: Link,
    queue: Arc<HotQueue<OwnedShard>>,
    status: Arc<Status>,
    context: Context,
    active_ms: i64,
}

/// An error where a Redis takes nothing: full, or a replica by now. Pausing helps, as with one
/// that is away.
fn all_refused(mut outcomes: Vec<Put>) -> Result<Vec<Put>, HotError> {
    match outcomes.pop() {
        Some(Put::Refused(error)) if outcomes.iter().all(|o| matches!(o, Put::Refused(_))) => {
            Err(error)
        }
        last => {
            outcomes.extend(last);
            Ok(outcomes)
        }
    }
}

/// Users of one shard and their values.
struct Batch {
    partition: i32,
    values: Vec<(Arc<str>, Vec<u8>)>,
}

impl Writer {
    fn run(mut self) {
        self.status.writes.store(true, Ordering::Release);
        loop {
            self.queue.wait(IDLE);
            gauge!(names::HOT_QUEUE).set(self.queue.len() as f64);
            if self.queue.has_ended() && (self.queue.is_empty() || !self.link.is_closed()) {
                return;
            }
            if self.queue.is_empty() {
                continue;
            }
            match self.link.permit() {
                Permit::Wait(wait) => self.queue.pause(wait),
                Permit::Attempt => self.write_some(),
            }
            self.status.writes.store(self.link.is_closed(), Ordering::Release);
        }
    }

    fn write_some(&mut self) {
        let queue = Arc::clone(&self.queue);
        let read = |owned: &OwnedShard, partition, users| self.read(owned, partition, users);
        let batch = match queue.take(BATCH, read) {
            Some(Ok(batch)) if !batch.values.is_empty() => batch,
            Some(Ok(_)) | None => return,
            Some(Err(error)) => {
                // Ingest meets the same error and deals with it.
                tracing::warn!(%error, "users could not be read for the hot tier");
                return;
            }
        };
        let values: Vec<_> = batch.values.iter().map(|(u, v)| (&**u, v.clone())).collect();
        let begun = Instant::now();
        let outcomes = self.link.run(|connection| all_refused(connection.put(&values)?));
        histogram!(names::HOT_SECONDS, "side" => "write").record(begun.elapsed());
        let outcomes = outcomes.unwrap_or_default();
        let written = outcomes.iter().filter(|o| matches!(o, Put::Written)).count();
        let older = outcomes.iter().filter(|o| matches!(o, Put::Older)).count();
        count_writes("written", written);
        count_writes("older", older);
        let failed = batch.values.len() - written - older;
        if failed == 0 {
            return;
        }
        count_writes("failed", failed);
        let again = batch.values.iter().enumerate().filter(|(n, _)| {
            outcomes.get(*n).is_none_or(|outcome| matches!(outcome, Put::Refused(_)))
        });
        let left = self.queue.put_back(batch.partition, again.map(|(_, (user, _))| &**user));
        count_writes("dropped", left.dropped);
    }

    fn read(
        &self,
        owned: &OwnedShard,
        partition: i32,
        users: Vec<Arc<str>>,
    ) -> Result<Batch, StoreError> {
        let AsOf { progress, states } = owned.shard.store().get_at(users.iter().map(|u| &**u))?;
        let version = Version::new(|topic| progress.of(topic).next_offset);
        let identity = self.context.hot_identity(partition);
        let active = active_since(self.active_ms);
        let values = users.into_iter().zip(states).filter_map(|(user, state)| {
            let state = state?;
            // Damage is ingest's and the answers' to tell.
            let heard = UserState::last_heard(&state).ok()?;
            let newest = heard.event.max(heard.feedback)?;
            let value = HotValue { identity, version, shard: partition, state: &state };
            (newest >= active).then(|| (user, value.encode()))
        });
        Ok(Batch { partition, values: values.collect() })
    }
}

impl Context {
    /// What shard `partition` is folded from, and how, in the hot tier's words.
    pub(super) fn hot_identity(&self, partition: i32) -> HotIdentity {
        HotIdentity::of(&self.folded_from(partition), &self.config.state.rules())
    }
}

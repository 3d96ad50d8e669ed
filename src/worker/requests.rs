//! Requests of owned shards: read apart from events, so that a backlog of events delays no
//! answer; answered by a pool; positions noted once the reply is delivered.

mod answerer;
mod pipelines;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use metrics::{counter, gauge, histogram};

use answerer::Answerer;
use pipelines::Pipelines;

use super::global_feed::FeedState;
use super::impressions::{Impressions, warmer};
use super::replies::{self, KnownTopics, ReturnAddress};
use super::{Context, WorkerError};
use crate::event::{After, ErrorKind, EventTopic, Reply, Request, decode_request};
use crate::kafka::{
    Delivery, KafkaError, Outgoing, Position, Producer, ProducerKind, Reader, Record,
    TopicPartition, headers, partition_of,
};
use crate::runtime::{self, Urgency};
use crate::telemetry::names;
use crate::time::{EventTime, wall_now};

/// An answer that waits for the fold is made this long before its deadline, in milliseconds, so
/// that it still arrives in time: about three hops.
const ANSWER_MARGIN_MS: i64 = 15;
/// How often waiting requests are looked at.
const WAIT_STEP: Duration = Duration::from_micros(500);
/// How long the reader waits for a request when none waits for the fold.
const POLL: Duration = Duration::from_millis(20);
/// How often positions are noted.
const NOTE_INTERVAL: Duration = Duration::from_millis(500);
/// How long closing a shard waits for its answers.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

enum Order {
    Open(i32),
    Close(i32, Sender<()>),
}

/// Tells the request thread which shards are ours.
#[derive(Clone)]
pub struct Control {
    orders: Sender<Order>,
}

impl Control {
    /// Requests of this shard are ours to answer.
    pub fn open(&self, partition: i32) {
        // Only refused once the request thread has ended, and then nothing is answered anyway.
        let _ = self.orders.send(Order::Open(partition));
    }

    /// They no longer are: returns when those read have been answered and noted.
    pub fn close(&self, partition: i32) {
        let (done, wait) = bounded(1);
        if self.orders.send(Order::Close(partition, done)).is_ok() {
            let _ = wait.recv_timeout(CLOSE_LIMIT);
        }
    }
}

/// Starts the request thread and the pool.
pub fn start(
    context: Context,
    feed: Arc<FeedState>,
) -> Result<(Control, Vec<JoinHandle<()>>), WorkerError> {
    let config = Arc::clone(&context.config);
    let client = config.kafka.client();
    let group = format!("{}-requests", config.kafka.group);
    let reader = Reader::new(&client, &group, "driftline-requests")?;
    let producer = Arc::new(Producer::new(&client, ProducerKind::LowLatency, "driftline-replies")?);
    let (orders, inbox) = unbounded();
    let (jobs, work) = bounded::<Job>(config.serving.queue_limit);
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };

    let mut threads = Vec::new();
    let impressions = Impressions::start(&context, config.topics.impressions())?;
    let unseen = Impressions::start(&context, config.topics.shadow_impressions())?;
    let pipelines = Arc::new(Pipelines::new(context.clone(), impressions.clone(), unseen));
    for number in 0..config.worker.serving_threads {
        let answerer = Answerer {
            context: context.clone(),
            feed: Arc::clone(&feed),
            producer: Arc::clone(&producer),
            pipelines: Arc::clone(&pipelines),
            seconds: histogram!(names::REQUEST_SECONDS),
        };
        let work: Receiver<Job> = work.clone();
        let body = move || work.iter().for_each(|job| answerer.answer(job));
        threads.push(runtime::spawn(&format!("serving-{number}"), Urgency::Now, body).map_err(io)?);
    }
    let warmer = match &impressions {
        Some(_) => {
            let (warmer, thread) = warmer::start(&context)?;
            threads.push(thread);
            Some(warmer)
        }
        None => None,
    };
    let requests = Requests {
        topic: config.topics.requests(),
        context,
        feed,
        reader,
        reply_topics: RefCell::default(),
        producer,
        impressions,
        warmer,
        jobs,
        waiting: Vec::new(),
        in_flight: HashMap::new(),
        unopened: Vec::new(),
        noted: Instant::now(),
    };
    let body = move || requests.run(&inbox);
    threads.push(runtime::spawn("requests", Urgency::Now, body).map_err(io)?);
    Ok((Control { orders }, threads))
}

/// A request on its way to an answer.
struct Job {
    request: Request,
    address: ReturnAddress,
    partition: i32,
    deadline: i64,
    received: Instant,
    after: AfterPositions,
    done: Arc<AtomicBool>,
}

/// The events that an answer must know.
#[derive(Clone, Debug, Default)]
struct AfterPositions {
    asked: bool,
    /// Topic, partition, offset.
    positions: Vec<(EventTopic, i32, i64)>,
}

struct Requests {
    context: Context,
    feed: Arc<FeedState>,
    topic: String,
    reader: Reader,
    reply_topics: RefCell<KnownTopics>,
    producer: Arc<Producer>,
    /// None where they are not wanted, and then nothing is read back either.
    impressions: Option<Arc<Impressions>>,
    warmer: Option<Sender<warmer::Order>>,
    jobs: Sender<Job>,
    waiting: Vec<Job>,
    in_flight: HashMap<i32, InFlight>,
    /// Ours, but the broker was away: tried again.
    unopened: Vec<i32>,
    noted: Instant,
}

/// Requests of one partition, in order, that are read and not known to be answered.
struct InFlight {
    next: i64,
    noted: i64,
    open: VecDeque<(i64, Arc<AtomicBool>)>,
}

impl InFlight {
    /// The position up to which everything is answered.
    fn answered(&mut self) -> i64 {
        while self.open.front().is_some_and(|(_, done)| done.load(Ordering::Acquire)) {
            self.open.pop_front();
        }
        self.open.front().map_or(self.next, |(offset, _)| *offset)
    }
}

impl Requests {
    fn run(mut self, inbox: &Receiver<Order>) {
        // A client that does not know the topic's leaders when it is given a partition finds them
        // within a second: too late for who asks meanwhile.
        if let Err(error) = self.reader.partitions(&self.topic) {
            tracing::debug!(%error, "requests are read as soon as the broker is back");
        }
        // After the request to stop, ingest closes its shards first; this loop ends when all
        // senders of orders are gone.
        loop {
            loop {
                match inbox.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(crossbeam_channel::TryRecvError::Empty) => break,
                    Err(crossbeam_channel::TryRecvError::Disconnected) => return self.end(),
                }
            }
            let timeout = if self.waiting.is_empty() { POLL } else { Duration::ZERO };
            // Borrowed by the record while it is accepted.
            let reader = &self.reader;
            let accepted = reader.poll(timeout).map(|record| self.accept(&record));
            if let Some((partition, offset, verdict)) = accepted {
                self.dispatch_read(partition, offset, verdict);
            } else if !self.waiting.is_empty() {
                // The client counts in milliseconds: it would spin through so short a wait.
                std::thread::sleep(WAIT_STEP);
            }
            self.dispatch_waiting();
            if self.noted.elapsed() >= NOTE_INTERVAL {
                self.noted = Instant::now();
                self.note_all();
                std::mem::take(&mut self.unopened).into_iter().for_each(|p| self.open(p));
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open(partition) => self.open(partition),
            Order::Close(partition, done) => {
                self.close(partition);
                let _ = done.send(());
            }
        }
    }

    fn partition(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition }
    }

    fn open(&mut self, partition: i32) {
        if self.in_flight.contains_key(&partition) {
            return;
        }
        let tp = self.partition(partition);
        // From where the last owner had answered; without a note from the first request there
        // is, since a request is never met with silence.
        let started = self.reader.noted(&tp).and_then(|noted| {
            let (low, high) = self.producer.bounds(&tp)?;
            let from = noted.filter(|n| (low..=high).contains(n)).unwrap_or(low);
            // Before anything is answered: what was shown here comes after the end found now.
            self.read_back_shown(partition)?;
            self.reader.add(&tp, Position::At(from)).map(|()| from)
        });
        match started {
            Ok(from) => {
                let fresh = InFlight { next: from, noted: from, open: VecDeque::new() };
                self.in_flight.insert(partition, fresh);
            }
            Err(error) => {
                tracing::warn!(%error, partition, "requests cannot be read yet; trying again");
                self.unopened.push(partition);
            }
        }
    }

    fn read_back_shown(&self, partition: i32) -> Result<(), KafkaError> {
        let Some(owned) = self.context.shards.get(partition) else { return Ok(()) };
        let memory = Arc::clone(owned.shown());
        let Some(warmer) = &self.warmer else {
            memory.set_warm();
            return Ok(());
        };
        let config = &self.context.config;
        let tp = TopicPartition { topic: config.topics.impressions(), partition };
        let (from, until) = warmer::tail(&self.producer, &tp, config.serving.shown_warm_records)?;
        // Only refused once the worker stops.
        let _ = warmer.send(warmer::Order { partition, from, until, memory });
        Ok(())
    }

    fn close(&mut self, partition: i32) {
        let tp = self.partition(partition);
        self.unopened.retain(|p| *p != partition);
        if !self.in_flight.contains_key(&partition) {
            return;
        }
        if let Err(error) = self.reader.remove(&tp) {
            tracing::warn!(%error, "closing requests");
        }
        // What waits for the fold cannot be satisfied here any more: the next owner reads it
        // again, from the position noted below.
        self.waiting.retain(|job| job.partition != partition);
        let until = Instant::now() + CLOSE_LIMIT;
        if let Some(in_flight) = self.in_flight.get_mut(&partition) {
            let busy = |f: &mut InFlight| {
                f.answered();
                // Jobs that waited are dropped: their flags never turn, and nobody else holds them.
                f.open.iter().any(|(_, done)| Arc::strong_count(done) > 1)
            };
            while busy(in_flight) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            let answered = in_flight.answered();
            if answered != in_flight.noted
                && let Err(error) = self.reader.note(&[(tp, answered)], true)
            {
                tracing::warn!(%error, "noting answered requests; some may be answered twice");
            }
        }
        self.in_flight.remove(&partition);
        if let Some(impressions) = &self.impressions {
            impressions.flush_for_handover();
        }
    }

    fn note_all(&mut self) {
        gauge!(names::REQUESTS_WAITING).set(self.waiting.len() as f64);
        let shown: usize = self.context.shards.all().iter().map(|o| o.shown().bytes()).sum();
        gauge!(names::SHOWN_BYTES).set(shown as f64);
        let mut positions = Vec::new();
        for (&partition, in_flight) in &mut self.in_flight {
            let answered = in_flight.answered();
            if answered != in_flight.noted {
                in_flight.noted = answered;
                let tp = TopicPartition { topic: self.topic.clone(), partition };
                positions.push((tp, answered));
            }
        }
        if !positions.is_empty()
            && let Err(error) = self.reader.note(&positions, false)
        {
            tracing::warn!(%error, "noting answered requests");
        }
    }

    fn end(mut self) {
        let partitions: Vec<i32> = self.in_flight.keys().copied().collect();
        partitions.into_iter().for_each(|p| self.close(p));
        // Dropping `jobs` ends the pool.
        drop(self.jobs);
        if let Err(error) = self.producer.flush(Duration::from_secs(5)) {
            tracing::warn!(%error, "replies were still on their way at shutdown");
        }
    }

    /// Turns a record into a job, or into an answer that needs no thinking.
    fn accept(&self, record: &Record<'_>) -> (i32, i64, Verdict) {
        let verdict = self.judge(record);
        (record.partition(), record.offset(), verdict)
    }

    fn judge(&self, record: &Record<'_>) -> Verdict {
        let received = Instant::now();
        let config = &self.context.config;
        let (encoding, decoded) = decode_request(record.value());
        let (mut address, mut addressed) = replies::return_address(record, encoding, config);
        let found = self.reply_topics.borrow_mut().check(&address, |t| self.reader.partitions(t));
        if let Err(message) = found {
            let topic = config.topics.replies();
            address = ReturnAddress { topic, partition: None, ..address };
            addressed = addressed.and(Err(message));
        }
        let bad = |message: String, id: &str, user: &str| {
            let reply = Reply::error(id, user, ErrorKind::BadRequest, message);
            Verdict::Answer(Box::new((address.clone(), reply)))
        };
        let mut request = match decoded {
            Ok(request) => request,
            Err(rejection) => return bad(rejection.to_string(), "", ""),
        };
        if request.request_id.is_empty() {
            request.request_id = format!("{}-{}", record.partition(), record.offset());
        }
        if request.at.is_none() && record.timestamp_ms() > 0 {
            request.at = Some(EventTime::from_millis(record.timestamp_ms()));
        }
        let (id, user) = (request.request_id.as_str(), request.user.as_str());
        if let Err(message) = addressed {
            return bad(message, id, user);
        }
        let home = partition_of(user.as_bytes(), self.context.partitions);
        // Somebody not known is at home everywhere.
        if !user.is_empty() && home != record.partition() {
            return self.reroute(record, user, home);
        }
        let deadline = match deadline(record, config.serving.default_deadline_ms) {
            Ok(deadline) => deadline,
            Err(message) => return bad(message, id, user),
        };
        let after = match self.after(record) {
            Ok(after) if after.asked && !request.needs_state() => {
                let name = headers::AFTER;
                let message = format!(
                    "header {name} asks for events of a user, but the request names none: leave it \
                     out"
                );
                return bad(message, id, user);
            }
            Ok(after) => after,
            Err(message) => return bad(message, id, user),
        };
        Verdict::Job(Box::new(Job {
            partition: record.partition(),
            request,
            address,
            deadline,
            received,
            after,
            done: Arc::default(),
        }))
    }

    fn reroute(&self, record: &Record<'_>, user: &str, home: i32) -> Verdict {
        counter!(names::REROUTED, "topic" => self.topic.clone()).increment(1);
        let done = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&done);
        let outgoing = Outgoing {
            topic: &self.topic,
            partition: Some(home),
            key: Some(user.as_bytes()),
            value: record.value(),
            headers: record.headers(),
            ..Outgoing::default()
        };
        let delivery = Delivery::Call(Box::new(move |result| {
            if let Err(error) = result {
                tracing::warn!(error, "a request could not be sent on to its shard");
            }
            heard.store(true, Ordering::Release);
        }));
        if let Err(error) = self.producer.send(&outgoing, delivery) {
            tracing::warn!(%error, "a request could not be sent on to its shard");
        }
        Verdict::Rerouted(done)
    }

    /// Reads `after: topic-partition@offset,…`.
    fn after(&self, record: &Record<'_>) -> Result<AfterPositions, String> {
        let Some(bytes) = record.header(headers::AFTER) else {
            return Ok(AfterPositions::default());
        };
        let shape =
            || format!("header {} must be topic-partition@offset,… in UTF-8", headers::AFTER);
        let text = std::str::from_utf8(bytes).map_err(|_| shape())?;
        let topics = &self.context.config.topics;
        let mut positions = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (place, offset) = part.split_once('@').ok_or_else(shape)?;
            let (topic, partition) = place.rsplit_once('-').ok_or_else(shape)?;
            let is_named = |known: &EventTopic| topics.events(*known) == topic;
            let Some(topic) = EventTopic::ALL.into_iter().find(is_named) else {
                return Err(format!("header {}: {topic} is no event topic", headers::AFTER));
            };
            let partition: i32 = partition.parse().map_err(|_| shape())?;
            if partition != record.partition() {
                return Err(format!(
                    "header {}: {place} is not of the user's shard {}",
                    headers::AFTER,
                    record.partition()
                ));
            }
            positions.push((topic, partition, offset.parse().map_err(|_| shape())?));
        }
        Ok(AfterPositions { asked: true, positions })
    }

    fn dispatch_read(&mut self, partition: i32, offset: i64, verdict: Verdict) {
        let Some(in_flight) = self.in_flight.get_mut(&partition) else {
            return; // Closed since it was fetched: the next owner answers it.
        };
        if offset < in_flight.next {
            return;
        }
        in_flight.next = offset + 1;
        match verdict {
            Verdict::Rerouted(done) => in_flight.open.push_back((offset, done)),
            Verdict::Answer(answer) => {
                let (address, reply) = *answer;
                let done = Arc::new(AtomicBool::new(false));
                in_flight.open.push_back((offset, Arc::clone(&done)));
                reply_now(&self.producer, &address, &reply, done);
            }
            Verdict::Job(job) => {
                in_flight.open.push_back((offset, Arc::clone(&job.done)));
                if self.is_answerable(&job) {
                    self.dispatch(*job);
                } else if self.waiting.len() < self.context.config.serving.queue_limit {
                    self.waiting.push(*job);
                } else {
                    self.refuse_overload(*job);
                }
            }
        }
    }

    /// Whether a job has nothing more to wait for. A shard that is being restored answers at once
    /// and says so, and so do tables that are being read: a backlog must not delay an answer. The
    /// catalog must: what it forbids is not known otherwise.
    fn is_answerable(&self, job: &Job) -> bool {
        if wall_now() >= job.deadline - ANSWER_MARGIN_MS {
            return true;
        }
        let owned = self.context.shards.get(job.partition);
        let may_begin = self.feed.has_begun() && self.context.catalog.is_loaded();
        may_begin && owned.is_some_and(|owned| job.after.is_passed(&owned.shard))
    }

    fn dispatch_waiting(&mut self) {
        let mut i = 0;
        while i < self.waiting.len() {
            if self.is_answerable(&self.waiting[i]) {
                let job = self.waiting.swap_remove(i);
                self.dispatch(job);
            } else {
                i += 1;
            }
        }
    }

    fn dispatch(&self, job: Job) {
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                self.refuse_overload(job);
            }
        }
    }

    fn refuse_overload(&self, job: Job) {
        let message = format!(
            "{} requests are waiting already; try again",
            self.context.config.serving.queue_limit
        );
        let reply = Reply::error(
            &job.request.request_id,
            job.request.user.as_str(),
            ErrorKind::Overloaded,
            message,
        );
        reply_now(&self.producer, &job.address, &reply, job.done);
    }
}

enum Verdict {
    Job(Box<Job>),
    Answer(Box<(ReturnAddress, Reply)>),
    Rerouted(Arc<AtomicBool>),
}

fn reply_now(
    producer: &Arc<Producer>,
    address: &ReturnAddress,
    reply: &Reply,
    done: Arc<AtomicBool>,
) {
    let outcome = match &reply.error {
        Some(error) => error.kind.name(),
        None if reply.degraded.is_empty() => "ok",
        None => "degraded",
    };
    counter!(names::REQUESTS, "outcome" => outcome).increment(1);
    replies::send(producer, address, reply, move || done.store(true, Ordering::Release));
}

fn deadline(record: &Record<'_>, default_ms: i64) -> Result<i64, String> {
    match record.header(headers::DEADLINE) {
        None => Ok(record.timestamp_ms().max(wall_now() - default_ms) + default_ms),
        Some(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| {
                format!(
                    "header {} must be milliseconds since the Unix epoch in decimal UTF-8",
                    headers::DEADLINE
                )
            }),
    }
}

impl AfterPositions {
    fn is_passed(&self, shard: &crate::state::Shard) -> bool {
        self.is_passed_at(|source| shard.position(source))
    }

    fn is_passed_at(&self, position: impl Fn(EventTopic) -> i64) -> bool {
        self.positions.iter().all(|(source, _, offset)| position(*source) > *offset)
    }

    fn outcome(&self, shard: Option<&crate::state::Shard>) -> After {
        match shard {
            Some(shard) => self.outcome_at(|source| shard.position(source)),
            None if self.asked => After::Missed,
            None => After::NotAsked,
        }
    }

    fn outcome_at(&self, position: impl Fn(EventTopic) -> i64) -> After {
        if !self.asked {
            After::NotAsked
        } else if self.is_passed_at(position) {
            After::Satisfied
        } else {
            After::Missed
        }
    }
}

//! Reads back what users were shown, when their shard is opened: the tail of its partition of
//! `impressions`, up to where that ended before the first answer here. What is answered from then on
//! lies behind that end and is noted when it is answered, so nothing counts twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::event::Impression;
use crate::kafka::{KafkaError, Position, Producer, Reader, TopicPartition};
use crate::runtime::{self, Urgency};
use crate::time::EventTime;
use crate::worker::shown::ShownMemory;
use crate::worker::{Context, WorkerError};

/// How often a partition that brings nothing is asked whether there is still something.
const LOOK: Duration = Duration::from_secs(1);

/// What is to be read.
pub struct Order {
    /// The shard.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The one after the last.
    pub until: i64,
    /// Where it is noted. Held by nobody else once the shard is given away.
    pub memory: Arc<ShownMemory>,
}

/// Starts the thread. It ends with the worker.
pub fn start(context: &Context) -> Result<(Sender<Order>, JoinHandle<()>), WorkerError> {
    let config = &context.config;
    // The group only names where positions would be noted; this reader never notes any.
    let group = format!("{}-impressions", config.kafka.group);
    let reader = Reader::new(&config.kafka.client(), &group, "driftline-impressions")?;
    let (sender, orders) = unbounded();
    let topic = config.topics.impressions();
    let warmer = Warmer {
        context: context.clone(),
        topic,
        reader,
        open: HashMap::new(),
        looked: Instant::now(),
    };
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    let body = move || warmer.run(&orders);
    let thread = runtime::spawn("impressions", Urgency::Soon, body).map_err(io)?;
    Ok((sender, thread))
}

struct Warmer {
    context: Context,
    topic: String,
    reader: Reader,
    open: HashMap<i32, Order>,
    looked: Instant,
}

impl Warmer {
    fn run(mut self, orders: &Receiver<Order>) {
        while !self.context.stop.is_requested() {
            // Nothing to read: nothing to poll for.
            let wait = if self.open.is_empty() { 100 } else { 0 };
            match orders.recv_timeout(Duration::from_millis(wait)) {
                Ok(order) => self.begin(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // Whoever orders has ended: so does the worker.
                    self.context.stop.sleep(LOOK);
                }
            }
            self.read();
            if self.looked.elapsed() >= LOOK {
                self.looked = Instant::now();
                self.look();
            }
        }
    }

    fn begin(&mut self, order: Order) {
        if order.from >= order.until {
            return order.memory.set_warm();
        }
        self.end(order.partition);
        match self.reader.add(&self.at(order.partition), Position::At(order.from)) {
            Ok(()) => drop(self.open.insert(order.partition, order)),
            // Of a state of the client that none of us can bring about: go on without.
            Err(error) => {
                tracing::error!(%error, "what was shown cannot be read");
                order.memory.set_warm();
            }
        }
    }

    fn read(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let Some(record) = self.reader.poll(Duration::from_millis(20)) else { return };
        let partition = record.partition();
        let Some(order) = self.open.get_mut(&partition) else { return };
        if record.offset() < order.until {
            match Impression::decode(record.value()) {
                Ok(list) => {
                    let at = EventTime::from_millis(list.event_time);
                    let items = list.items.iter().map(|shown| shown.item);
                    let curves = self.context.curves.get();
                    let curve = curves.of(list.surface);
                    let names = (list.user, list.request_id, list.surface);
                    order.memory.recall(names, at, items, curve);
                }
                // The topic is our own: this is a newer worker's record, or a foreign one.
                Err(rejection) => tracing::warn!(%rejection, "an unreadable impression"),
            }
        }
        order.from = record.offset() + 1;
        if order.from >= order.until {
            order.memory.set_warm();
            self.end(partition);
        }
    }

    /// Gives up shards that are no longer owned, and ends where retention took what was to be read.
    fn look(&mut self) {
        let partitions: Vec<i32> = self.open.keys().copied().collect();
        for partition in partitions {
            let at = self.at(partition);
            let Some(order) = self.open.get(&partition) else { continue };
            if Arc::strong_count(&order.memory) == 1 {
                self.end(partition);
                continue;
            }
            match self.reader.bounds(&at) {
                Ok((low, _)) if low >= order.until => {
                    order.memory.set_warm();
                    self.end(partition);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "what was shown cannot be read yet"),
            }
        }
    }

    fn end(&mut self, partition: i32) {
        if self.open.remove(&partition).is_some()
            && let Err(error) = self.reader.remove(&self.at(partition))
        {
            tracing::warn!(%error, "no longer reading what was shown");
        }
    }

    fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition }
    }
}

/// What is to be read of a partition: its newest `records`.
pub fn tail(
    client: &Producer,
    partition: &TopicPartition,
    records: i64,
) -> Result<(i64, i64), KafkaError> {
    let (low, high) = client.bounds(partition)?;
    Ok(((high - records).max(low), high))
}

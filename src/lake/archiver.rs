//! Records of event topics → cuts. Reads from where the lake says that it has come to, whatever
//! offsets are noted in Kafka; those are for tools that show lag.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cut::{Batch, TopicWriter};
use super::manifest::{Anchor, Plan};
use super::sink::{Handed, Sink, Tally};
use super::store::{Job, Lake, LakeError, Tail};
use crate::kafka::{
    Assigned, HandlerError, Log, Record, RecordHandler, TopicPartition, WholeTopic,
};
use crate::telemetry::names;

/// When a cut ends. A cut that was planned ends where its plan says, whatever these say then.
#[derive(Clone, Copy, Debug)]
pub struct CutRules {
    /// Records of a cut.
    pub records: usize,
    /// Bytes of its records.
    pub bytes: usize,
    /// How long its first record waits for the last.
    pub wait: Duration,
    /// Bytes of records in memory, all cuts together, at which no more are read.
    pub memory: usize,
}

/// Why an archiver has to begin again from what the lake says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BeginAgain(pub String);

/// One partition that is archived.
struct Partition {
    writer: Arc<TopicWriter>,
    tail: Tail,
    /// The offset at which the next cut begins.
    start: i64,
    /// The first offset that has not been seen.
    next: i64,
    /// What the record at its offset must be.
    verify: Option<Anchor>,
    whole: bool,
    lost: Option<(i64, i64)>,
    batch: Batch,
    /// When the first record of the batch came.
    since: Instant,
}

/// Takes records and makes them cuts. A handler of a group, or driven by [`Archiver::catch_up`].
pub struct Archiver {
    lake: Lake,
    writers: HashMap<String, Arc<TopicWriter>>,
    rules: CutRules,
    sink: Sink,
    partitions: BTreeMap<TopicPartition, Partition>,
    ready: VecDeque<Handed>,
    /// Bytes of batches, and of what was handed over and is not done.
    filling: usize,
    handed: usize,
    under_way: usize,
    noted: Vec<(TopicPartition, i64)>,
    /// What was written, by topic.
    pub tally: BTreeMap<String, Tally>,
}

impl Archiver {
    /// An archiver of these topics.
    pub fn new(
        lake: Lake,
        writers: HashMap<String, Arc<TopicWriter>>,
        rules: CutRules,
        sink: Sink,
    ) -> Self {
        Self {
            lake,
            writers,
            rules,
            sink,
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            filling: 0,
            handed: 0,
            under_way: 0,
            noted: Vec::new(),
            tally: BTreeMap::new(),
        }
    }

    /// Looks how far a partition has come, and says from which offset on it is read.
    fn open(&mut self, tp: &TopicPartition, bounds: (i64, i64)) -> Result<i64, HandlerError> {
        let writer = self.writers.get(&tp.topic).ok_or_else(|| format!("{tp} is not archived"))?;
        let (low, high) = bounds;
        let tail = self.lake.tail(&tp.topic, tp.partition)?;
        if let Some(reason) = was_made_anew(&tail, high) {
            self.lake.begin_anew(&tail.chain)?;
            return Err(BeginAgain(format!("{tp} was made anew: {reason}")).into());
        }
        let begins = tail.next.unwrap_or(low);
        let start = tail.plan.as_ref().map_or(begins.max(low), |plan| plan.start);
        let lost = (start > begins).then_some((begins, start - 1));
        if let Some((first, last)) = lost {
            tracing::warn!(%tp, first, last, "the log lost records before they were archived");
        }
        let verify = tail.anchor.filter(|anchor| anchor.offset >= low);
        let from = verify.map_or(start.max(low), |anchor| anchor.offset);
        let partition = Partition {
            writer: Arc::clone(writer),
            whole: low <= start,
            start,
            next: start,
            verify,
            lost,
            batch: Batch::default(),
            since: Instant::now(),
            tail,
        };
        let gone = partition.tail.plan.as_ref().is_some_and(|plan| plan.end <= low);
        self.partitions.insert(tp.clone(), partition);
        if gone {
            // Of a cut that was begun, only what is in the lake already is left.
            self.close(tp);
        }
        Ok(from)
    }

    fn take(&mut self, tp: &TopicPartition, record: &Record<'_>) -> Result<(), HandlerError> {
        let Some(partition) = self.partitions.get_mut(tp) else { return Ok(()) };
        let (offset, value) = (record.offset(), record.value());
        if let Some(anchor) = partition.verify.take() {
            let found = Anchor::of(offset, record.timestamp_ms(), value);
            if found.offset == anchor.offset {
                if found == anchor {
                    return Ok(());
                }
                self.lake.begin_anew(&partition.tail.chain)?;
                let why = format!("{tp} was made anew: another record at {offset}");
                return Err(BeginAgain(why).into());
            }
        }
        if offset < partition.next {
            // Offsets of a topic only grow: this is another topic by now.
            return Err(BeginAgain(format!("{tp} went back to {offset}")).into());
        }
        let ends = |p: &Partition| p.tail.plan.as_ref().is_some_and(|plan| offset >= plan.end);
        if ends(partition) {
            self.close(tp);
        }
        let Some(partition) = self.partitions.get_mut(tp) else { return Ok(()) };
        if partition.batch.is_empty() {
            partition.since = Instant::now();
        }
        let before = partition.batch.bytes();
        let value = (!record.is_tombstone()).then_some(value);
        partition.batch.push(offset, record.timestamp_ms(), value);
        partition.next = offset + 1;
        self.filling += partition.batch.bytes() - before;
        let is_last = match &partition.tail.plan {
            Some(plan) => partition.next >= plan.end,
            None => {
                let batch = &partition.batch;
                batch.len() >= self.rules.records || batch.bytes() >= self.rules.bytes
            }
        };
        if is_last {
            self.close(tp);
        }
        Ok(())
    }

    /// Ends the cut of a partition, where there is one, and hands it over.
    fn close(&mut self, tp: &TopicPartition) {
        let Some(partition) = self.partitions.get_mut(tp) else { return };
        let resumed = partition.tail.plan.is_some();
        let plan = match (partition.tail.plan.take(), partition.batch.end()) {
            (Some(plan), _) => plan,
            (None, Some(end)) => Plan { start: partition.start, end },
            (None, None) => return,
        };
        partition.start = plan.end;
        partition.next = partition.next.max(plan.end);
        let batch = std::mem::take(&mut partition.batch);
        let bytes = batch.bytes();
        let job = Job {
            chain: partition.tail.chain.clone(),
            cut: partition.tail.cut,
            plan,
            resumed,
            whole: std::mem::replace(&mut partition.whole, true),
            lost: partition.lost.take(),
            batch,
        };
        partition.tail.cut += 1;
        self.filling -= bytes;
        self.handed += bytes;
        self.under_way += 1;
        self.ready.push_back(Handed { job, writer: Arc::clone(&partition.writer), bytes });
    }

    /// Ends the largest cuts where many that are not full take half of the memory together.
    fn relieve(&mut self) {
        while self.filling > self.rules.memory / 2 {
            let open = self.partitions.iter();
            let open = open.filter(|(_, p)| p.tail.plan.is_none() && !p.batch.is_empty());
            let Some((largest, _)) = open.max_by_key(|(_, p)| p.batch.bytes()) else { return };
            let largest = largest.clone();
            self.close(&largest);
        }
    }

    /// Hands over what is ready, and notes what is done.
    fn exchange(&mut self, wait: Duration) -> Result<(), HandlerError> {
        self.relieve();
        while let Some(handed) = self.ready.pop_front() {
            if let Err(back) = self.sink.hand(handed) {
                self.ready.push_front(*back);
                break;
            }
        }
        for done in self.sink.done(wait) {
            self.handed -= done.bytes;
            self.under_way -= 1;
            let manifest = match done.written {
                Ok(manifest) => manifest,
                Err(LakeError::Conflict(key)) => {
                    return Err(BeginAgain(LakeError::Conflict(key).to_string()).into());
                }
                Err(error) => return Err(error.into()),
            };
            let (topic, partition) = (manifest.topic.clone(), manifest.partition);
            self.tally.entry(topic.clone()).or_default().add(&manifest);
            self.noted.push((TopicPartition { topic, partition }, manifest.end));
        }
        metrics::gauge!(names::LAKE_PENDING_BYTES).set((self.filling + self.handed) as f64);
        Ok(())
    }

    /// Archives a topic from where the lake is up to where the topic ends now; `progress` is told
    /// of records read and of those there are.
    ///
    /// # Errors
    /// [`BeginAgain`] where another archiver was faster, or whatever Kafka or the lake said.
    pub fn catch_up(
        &mut self,
        topic: &mut WholeTopic,
        name: &str,
        stop: impl Fn() -> bool,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), HandlerError> {
        let mut total = 0;
        for number in 0..topic.partitions() {
            let tp = TopicPartition { topic: name.to_owned(), partition: number };
            let bounds = topic.bounds(number)?;
            let from = self.open(&tp, bounds)?;
            topic.start_at(number, from);
            total += (bounds.1 - from).max(0).unsigned_abs();
        }
        topic.mark_end()?;
        let mut read = 0;
        while !topic.is_at_mark() && !stop() {
            let wait = if self.is_full() { Duration::from_millis(20) } else { Duration::ZERO };
            self.exchange(wait)?;
            if !wait.is_zero() {
                continue;
            }
            for _ in 0..crate::kafka::BURST {
                let Some(record) = topic.poll(Duration::from_millis(20)) else { break };
                let tp = TopicPartition { topic: name.to_owned(), partition: record.partition() };
                self.take(&tp, &record)?;
                read += 1;
            }
            progress(read, total.max(read));
        }
        let all: Vec<_> = self.partitions.keys().cloned().collect();
        if !stop() {
            all.iter().for_each(|tp| self.close(tp));
        }
        while self.under_way > 0 && !stop() {
            self.exchange(Duration::from_millis(50))?;
        }
        self.partitions.clear();
        Ok(())
    }

    /// Ends its threads. What was not written is read again by whoever comes next.
    ///
    /// # Errors
    /// Where one panicked.
    pub fn end(self) -> Result<BTreeMap<String, Tally>, String> {
        self.sink.close()?;
        Ok(self.tally)
    }
}

/// Why a log that ends at `high` is not the one that `tail` was read from, where it is not.
fn was_made_anew(tail: &Tail, high: i64) -> Option<String> {
    let next = tail.next?;
    (high < next).then(|| format!("it ends at {high}, and was archived to {next}"))
}

impl RecordHandler for Archiver {
    fn assigned(
        &mut self,
        partitions: &[TopicPartition],
        log: &Log<'_>,
    ) -> Result<Vec<Assigned>, HandlerError> {
        partitions
            .iter()
            .map(|tp| {
                let offset = self.open(tp, log.bounds(tp)?)?;
                Ok(Assigned { partition: tp.clone(), offset })
            })
            .collect()
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), HandlerError> {
        // What is in memory is read again by the next owner. What was handed over may still be
        // written: it is planned, so the next owner makes the same cut or finds it made.
        for tp in partitions {
            if let Some(partition) = self.partitions.remove(tp) {
                self.filling -= partition.batch.bytes();
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), HandlerError> {
        let tp = TopicPartition { topic: record.topic().to_owned(), partition: record.partition() };
        self.take(&tp, record)
    }

    fn tick(&mut self, busy: bool) -> Result<Vec<(TopicPartition, i64)>, HandlerError> {
        if !busy {
            let wait = self.rules.wait;
            let is_due = |p: &Partition| !p.batch.is_empty() && p.since.elapsed() >= wait;
            let partitions = self.partitions.iter();
            let due: Vec<_> = partitions
                .filter(|(_, p)| p.tail.plan.is_none() && is_due(p))
                .map(|(tp, _)| tp.clone())
                .collect();
            due.iter().for_each(|tp| self.close(tp));
        }
        self.exchange(Duration::ZERO)?;
        Ok(std::mem::take(&mut self.noted))
    }

    fn is_full(&self) -> bool {
        // Where nothing is handed over, only reading on can end a cut.
        self.handed > 0 && self.filling + self.handed >= self.rules.memory
    }
}

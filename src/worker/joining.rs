//! Joins what a shard folded with what its users were shown: feeds the shard's join, and sends the
//! examples and corrections that leave it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, counter, gauge};

use super::Context;
use super::commit::CommitError;
use super::shards::OwnedShard;
use crate::event::{Impression, MetricsWindow, TrainingExample, UserEvent};
use crate::feature::FoldRecord;
use crate::ids::stable_hash;
use crate::kafka::{Delivery, Outgoing, Producer, TopicPartition, Tracker, partition_of};
use crate::quality::windows::Windows;
use crate::quality::{
    self, Arrival, Change, Closing, Correction, Counts, Join, Listed, Outcome, Rules,
};
use crate::ranking::{Lesson, UserCounters};
use crate::state::{Frozen, Origin, Shard, StoreError, user_row};
use crate::telemetry::names;
use crate::time::EventTime;

/// What the join asks of an event beyond what the fold keeps.
pub fn origin(event: &UserEvent<'_>, appended: EventTime) -> Origin {
    let request = event.request.as_deref().filter(|request| !request.is_empty());
    Origin {
        request: request.map_or(0, |request| stable_hash(request.as_bytes())),
        ahead_ms: u32::try_from(event.at.since(appended).max(0)).unwrap_or(u32::MAX),
    }
}

/// What a shard joins and counts.
pub struct JoinState {
    /// Its lists and what came of them.
    pub join: Join,
    /// Minutes that may still change.
    windows: Windows,
    ends: Option<Ends>,
}

/// Where the logs of topics that seem to bring nothing ended.
struct Ends {
    /// The newest event time that was read then.
    newest: EventTime,
    ends: [i64; 3],
    looked: Instant,
}

/// How long a log is waited for to be read to its end. Its last offsets may be no records: a producer's
/// transaction ends with a mark that no reader is given.
const READ_LIMIT: Duration = Duration::from_secs(60);

impl Ends {
    fn are_reached(&self, next: [i64; 3]) -> bool {
        let are_read = next.iter().zip(self.ends).all(|(next, end)| *next >= end);
        are_read || self.looked.elapsed() >= READ_LIMIT
    }
}

/// The join of a shard as its store has it, and whether it begins anew although the shard does not.
/// `None` where lists are not joined.
pub fn open(context: &Context, shard: &Shard) -> Result<Option<(JoinState, bool)>, StoreError> {
    let config = &context.config.quality;
    if !config.enabled {
        return Ok(None);
    }
    let rules = config.rules(context.partitions.max(1) as usize);
    let store = shard.store();
    let next = next_offsets(&shard.progress());
    let rows = store.joined(quality::RECORDS).map(|row| row.map_err(Unloaded::Store));
    match Join::load(rules, rows) {
        Err(Unloaded::Store(error)) => return Err(error),
        // What was folded while lists were not joined is not told again.
        Ok(Some(join)) if join.next().iter().zip(next).all(|(has, folded)| *has >= folded) => {
            let first = Windows::first_row();
            let rows = store.joined_from(&first);
            match Windows::load(rows.map(|row| row.map_err(Unloaded::Store))) {
                Ok(windows) => {
                    return Ok(Some((JoinState { join, windows, ends: None }, false)));
                }
                Err(Unloaded::Store(error)) => return Err(error),
                Err(Unloaded::Corrupt(error)) => {
                    tracing::error!(shard = shard.id(), %error, "what was joined is given up");
                }
            }
        }
        Ok(None) if next == [0; 3] => return Ok(Some((anew(rules, next), false))),
        Ok(_) => tracing::info!(shard = shard.id(), "lists are joined from now on"),
        Err(Unloaded::Corrupt(error)) => {
            tracing::error!(shard = shard.id(), %error, "what was joined is given up");
        }
    }
    store.forget_joined()?;
    Ok(Some((anew(rules, [next[0], next[1], 0]), true)))
}

fn anew(rules: Rules, next: [i64; 3]) -> JoinState {
    JoinState { join: Join::new(rules, next), windows: Windows::default(), ends: None }
}

enum Unloaded {
    Store(StoreError),
    Corrupt(quality::Corrupt),
}

impl From<quality::Corrupt> for Unloaded {
    fn from(error: quality::Corrupt) -> Self {
        Self::Corrupt(error)
    }
}

fn next_offsets(progress: &crate::state::Progress) -> [i64; 3] {
    [progress.watch, progress.click, progress.impressions].map(|source| source.next_offset)
}

/// Joins, and sends what leaves, on the thread that commits.
pub struct Joining {
    producer: Arc<Producer>,
    tracker: Arc<Tracker>,
    /// In the order of [`quality::Input::ALL`].
    inputs: [String; 3],
    examples_topic: String,
    corrections_topic: String,
    metrics_topic: String,
    partitions: i32,
    rules: Rules,
    long_view_ms: u64,
    ranks: bool,
    examples: Counter,
    corrections: Counter,
    windows: Counter,
    unreadable: Counter,
    lists: [Counter; 4],
    outcomes: [Counter; 6],
    hurried: Counter,
}

impl Joining {
    pub fn new(context: &Context, producer: Arc<Producer>, tracker: Arc<Tracker>) -> Self {
        let config = &context.config;
        let lists = |outcome| counter!(names::JOINED_LISTS, "outcome" => outcome);
        let outcomes = |outcome| counter!(names::JOINED_OUTCOMES, "outcome" => outcome);
        Self {
            producer,
            tracker,
            inputs: [
                config.topics.watch_events(),
                config.topics.click_events(),
                config.topics.impressions(),
            ],
            examples_topic: config.topics.training_examples(),
            corrections_topic: config.topics.label_corrections(),
            metrics_topic: config.topics.metrics(),
            partitions: context.partitions,
            rules: config.quality.rules(context.partitions.max(1) as usize),
            long_view_ms: config.quality.long_view_ms,
            ranks: context.ranks(),
            examples: counter!(names::EXAMPLES),
            corrections: counter!(names::CORRECTIONS),
            windows: counter!(names::METRICS_WINDOWS),
            unreadable: lists("unreadable"),
            lists: ["opened", "duplicate", "late", "refused"].map(lists),
            outcomes: ["joined", "corrected", "duplicate", "orphan", "too_late", "surplus"]
                .map(outcomes),
            hurried: counter!(names::HURRIED_OUTCOMES),
        }
    }

    /// Joins what one commit brings, and hands what leaves to the producer: the commit waits for its
    /// delivery before it writes the rows that are returned.
    pub fn join(&self, owned: &OwnedShard, frozen: &Frozen) -> Result<Vec<Change>, CommitError> {
        let Some(mut state) = owned.join() else { return Ok(Vec::new()) };
        let JoinState { join, windows, ends } = &mut *state;
        self.show(owned.shard.id(), join, frozen);
        for one in frozen.pending.events() {
            let FoldRecord::Event(event) = one.record else { continue };
            let outcome = Outcome {
                source: event.source,
                user: one.user_hash,
                item: stable_hash(event.item.as_bytes()),
                request: one.origin.request,
                at: event.at,
                id: event.id,
                watched_ms: event.watched_ms,
                duration_ms: event.duration_ms,
            };
            let appended = event.at.plus_millis(-i64::from(one.origin.ahead_ms));
            join.happen(outcome, Arrival { offset: one.offset, appended });
        }
        let progress = &frozen.progress;
        let next = next_offsets(progress);
        self.look_ahead(owned.shard.id(), join, ends, next);
        let mut step = join.advance(next);
        *owned.join_size() = join.size();
        // What opens and closes at once is in no store yet.
        let new: HashMap<&[u8], &[u8]> = if step.closings.is_empty() && step.corrections.is_empty()
        {
            HashMap::new()
        } else {
            let rows = step.changes.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
            rows.map(|(key, value)| (&key[..], &value[..])).collect()
        };
        let row = |key: &[u8]| match new.get(key) {
            Some(value) => Ok(Some(value.to_vec())),
            None => owned.shard.store().joined_row(key),
        };
        let failed = |source| CommitError::Store { shard: owned.shard.id(), source };
        let mut users = Users::default();
        for closing in &step.closings {
            let record = row(&closing.key.record_row()).map_err(failed)?;
            let list = decoded(owned, record.as_deref())?;
            self.tell_examples(owned, closing, &list, &mut users)?;
            windows.add(&list, closing, owned.shard.id(), self.long_view_ms);
        }
        for correction in &step.corrections {
            let names = row(&correction.key.names_row()).map_err(failed)?;
            let list = decoded(owned, names.as_deref())?;
            self.tell_correction(owned, correction, &list)?;
            windows.correct(&list, correction, owned.shard.id());
        }
        self.count(&step.counts);
        drop(new);
        step.changes.extend(users.rows());
        let [closed, forgotten] = join.closed();
        let (told, changes) = windows.advance(closed, forgotten);
        step.changes.extend(changes);
        for window in &told {
            self.tell_window(window)?;
        }
        Ok(step.changes)
    }

    /// Tells the join that all is read, once those topics that it waits for in vain are read to where
    /// their logs ended. What was waited for may have moved the newest event time on: then the logs are
    /// looked at once more, since no other commit may come.
    fn look_ahead(&self, shard: i32, join: &mut Join, ends: &mut Option<Ends>, next: [i64; 3]) {
        loop {
            if ends.is_none() {
                *ends = self.look(shard, join);
            }
            let Some(known) = ends.take_if(|known| known.are_reached(next)) else { return };
            join.read_all(known.newest);
        }
    }

    /// Where the logs end of the topics that the join waits for; none where it waits for none, or the
    /// broker does not say.
    fn look(&self, shard: i32, join: &Join) -> Option<Ends> {
        let (newest, topics) = join.held_up()?;
        let mut known = Ends { newest, ends: [0; 3], looked: Instant::now() };
        for input in topics {
            let topic = self.inputs[input as usize].clone();
            match self.producer.bounds(&TopicPartition { topic, partition: shard }) {
                Ok((_, end)) => known.ends[input as usize] = end,
                Err(error) => {
                    tracing::warn!(shard, %error, "lists close later");
                    return None;
                }
            }
        }
        Some(known)
    }

    fn show(&self, shard: i32, join: &mut Join, frozen: &Frozen) {
        for noted in &frozen.lists {
            let arrival = Arrival { offset: noted.offset, appended: noted.appended };
            let list = Impression::decode(&noted.value).map_err(|error| error.to_string());
            let listed = list.and_then(|list| {
                // Of nobody in particular nothing comes; who is at home elsewhere clicks there.
                if list.user.is_empty() {
                    return Ok(None);
                }
                if partition_of(list.user.as_bytes(), self.partitions) != shard {
                    return Err("its user is at home in another partition".to_owned());
                }
                Listed::of(&list, &noted.value).map(Some).map_err(|error| error.to_string())
            });
            match listed {
                Ok(Some(list)) => join.show(list, arrival),
                Ok(None) => {}
                // The topic is our own: this is a newer worker's record, or a foreign one.
                Err(error) => {
                    self.unreadable.increment(1);
                    tracing::warn!(shard, offset = noted.offset, error, "a list is not joined");
                }
            }
        }
    }

    fn tell_examples(
        &self,
        owned: &OwnedShard,
        closing: &Closing,
        list: &Impression<'_>,
        users: &mut Users,
    ) -> Result<(), CommitError> {
        let shard = owned.shard.id();
        for example in quality::examples(list, closing, shard, &self.rules, self.long_view_ms) {
            if self.ranks {
                users.learn(owned, &example)?;
            }
            let value = example.encode().map_err(|e| CommitError::Delivery(e.to_string()))?;
            self.send(&self.examples_topic, Some(shard), list.user, &value)?;
            self.examples.increment(1);
        }
        Ok(())
    }

    fn tell_correction(
        &self,
        owned: &OwnedShard,
        correction: &Correction,
        list: &Impression<'_>,
    ) -> Result<(), CommitError> {
        let shard = owned.shard.id();
        let Some(correction) = quality::correction(list, correction, shard) else {
            return Err(damaged(owned, &"a list has lost an item"));
        };
        let value = correction.encode().map_err(|e| CommitError::Delivery(e.to_string()))?;
        self.send(&self.corrections_topic, Some(shard), list.user, &value)?;
        self.corrections.increment(1);
        Ok(())
    }

    /// The key says which window it is, whatever its revision.
    fn tell_window(&self, window: &MetricsWindow) -> Result<(), CommitError> {
        let MetricsWindow { shard, start, model_version, arm, surface, .. } = window;
        let key = format!("{start}/{shard}/{model_version}/{arm}/{surface}");
        let value = window.encode().map_err(|e| CommitError::Delivery(e.to_string()))?;
        self.windows.increment(1);
        self.send(&self.metrics_topic, None, &key, &value)
    }

    fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: &str,
        value: &[u8],
    ) -> Result<(), CommitError> {
        let outgoing =
            Outgoing { topic, partition, key: Some(key.as_bytes()), value, ..Outgoing::default() };
        self.producer
            .send(&outgoing, Delivery::Tracked(Arc::clone(&self.tracker)))
            .map_err(|e| CommitError::Delivery(e.to_string()))
    }

    fn count(&self, counts: &Counts) {
        let Counts { lists, duplicate_lists, late_lists, refused_lists, .. } = *counts;
        let read = [lists, duplicate_lists, late_lists, refused_lists];
        let Counts { joined, corrected, duplicates, orphans, too_late, surplus, .. } = *counts;
        let came = [joined, corrected, duplicates, orphans, too_late, surplus];
        let both = self.lists.iter().zip(read).chain(self.outcomes.iter().zip(came));
        both.for_each(|(counter, count)| counter.increment(count));
        self.hurried.increment(counts.hurried);
    }
}

/// The ranker's counters of users whose lists close in one commit.
#[derive(Default)]
struct Users(HashMap<String, Option<UserCounters>>);

impl Users {
    fn learn(
        &mut self,
        owned: &OwnedShard,
        example: &TrainingExample<'_>,
    ) -> Result<(), CommitError> {
        let lesson = match Lesson::of(example) {
            Ok(Some(lesson)) => lesson,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the counters of a user do not learn an example");
                return Ok(());
            }
        };
        let failed = |source| CommitError::Store { shard: owned.shard.id(), source };
        if !self.0.contains_key(example.user) {
            // Who never did anything has no state that could age out, so there are no counters either.
            let is_known = owned.shard.knows(example.user).map_err(failed)?;
            let counters = is_known.then(|| counters(owned, example.user).map_err(failed));
            self.0.insert(example.user.to_owned(), counters.transpose()?);
        }
        if let Some(Some(counters)) = self.0.get_mut(example.user) {
            counters.learn(&lesson.example());
        }
        Ok(())
    }

    fn rows(self) -> impl Iterator<Item = Change> {
        let known = self.0.into_iter().filter_map(|(user, counters)| Some((user, counters?)));
        known.map(|(user, counters)| (user_row(&user), Some(counters.encode())))
    }
}

/// What the ranker counted of a user's closed examples.
///
/// # Errors
/// [`StoreError`] where the store cannot be read.
pub fn counters(owned: &OwnedShard, user: &str) -> Result<UserCounters, StoreError> {
    let row = owned.shard.store().joined_row(&user_row(user))?;
    Ok(row
        .map(|row| UserCounters::decode(&row))
        .transpose()
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "the counters of a user begin anew");
            None
        })
        .unwrap_or_default())
}

fn decoded<'a>(owned: &OwnedShard, row: Option<&'a [u8]>) -> Result<Impression<'a>, CommitError> {
    let row = row.ok_or_else(|| damaged(owned, &"a list has lost its record"))?;
    Impression::decode(row).map_err(|error| damaged(owned, &error))
}

fn damaged(owned: &OwnedShard, what: &dyn std::fmt::Display) -> CommitError {
    let source = owned.shard.store().damaged_join(what);
    CommitError::Store { shard: owned.shard.id(), source }
}

/// What joins hold, over shards.
#[derive(Default)]
pub struct JoinGauges {
    open: usize,
    closed: usize,
    held: usize,
    memory: usize,
    stored: u64,
}

impl JoinGauges {
    pub fn add(&mut self, owned: &OwnedShard) {
        let size = *owned.join_size();
        self.open += size.open_lists;
        self.closed += size.closed_lists;
        self.held += size.held_outcomes;
        self.memory += size.bytes;
        // What cannot be read is told where it is needed.
        self.stored += owned.shard.store().joined_bytes().unwrap_or(0);
    }

    pub fn set(&self) {
        gauge!(names::OPEN_LISTS, "state" => "open").set(self.open as f64);
        gauge!(names::OPEN_LISTS, "state" => "closed").set(self.closed as f64);
        gauge!(names::HELD_OUTCOMES).set(self.held as f64);
        gauge!(names::JOIN_BYTES).set(self.memory as f64);
        gauge!(names::JOIN_STORE_BYTES).set(self.stored as f64);
    }
}

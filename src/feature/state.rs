//! Everything that is kept for one user.

use super::counters::{self, Bucket, Counts, PERIOD_MS, Period, Tally};
use super::fold_event::{FoldEvent, FoldRecord, fold_records};
use super::recent::{Entry, Inserted, Recent};
use super::refusals::{Refusals, Verdict};
use super::{Corrupt, codec};
use crate::event::{FeedbackKind, Source, Subject};
use crate::ids::stable_hash;
use crate::time::{DAY_MS, EventTime};

/// A watch of at least this part of the duration is a completion, in 1/100.
const COMPLETION_PERCENT: u64 = 95;
/// A watch shorter than this, and of less than half of the item, is a skip.
const SKIP_MS: u64 = 3_000;

/// Longest time to live of a user's data that may be configured, in days.
pub const MAX_TTL_DAYS: u32 = 3_650;

/// The configured part of the fold. Two stores that folded the same events under the same rules
/// hold the same state; a store remembers its rules and is rebuilt where they change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FoldRules {
    /// Newest events kept per user and topic. Larger: longer memory and duplicate window, more
    /// bytes. Smaller: the sources see less of the user.
    pub history_limit: usize,
    /// Days after which an event is forgotten, counted back from the user's newest one.
    pub ttl_days: u32,
}

impl Default for FoldRules {
    fn default() -> Self {
        Self { history_limit: 100, ttl_days: 180 }
    }
}

impl FoldRules {
    fn ttl_ms(&self) -> i64 {
        i64::from(self.ttl_days) * DAY_MS
    }

    /// Whether an event comes too late to be folded, where the newest event of its topic and
    /// partition was at `watermark`.
    pub fn is_too_late(&self, at: EventTime, watermark: EventTime) -> bool {
        watermark.since(at) > self.ttl_ms()
    }

    /// Whether a user's events, or what they refused, have aged out, where the newest was at
    /// `newest`. By then any that is not too late would make the fold forget all older ones
    /// anyway, so whether the bytes are already gone or not makes no difference to what the user's
    /// state becomes.
    pub fn is_aged_out(&self, newest: EventTime, watermark: EventTime) -> bool {
        watermark.since(newest) > 2 * self.ttl_ms() + PERIOD_MS
    }

    /// Events before this are forgotten once a user's newest is at `newest`: aligned to periods,
    /// so that no bucket holds both remembered and forgotten events.
    fn floor(&self, newest: EventTime) -> EventTime {
        let cut = newest.plus_millis(-self.ttl_ms()).millis();
        EventTime::from_millis(cut.div_euclid(PERIOD_MS) * PERIOD_MS)
    }
}

/// When a user was last heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastHeard {
    /// Their newest watch or click.
    pub event: Option<EventTime>,
    /// Their newest feedback.
    pub feedback: Option<EventTime>,
}

/// The state of one user: a function of the set of their events.
#[derive(Clone, Debug, Default)]
pub struct UserState<'a> {
    refusals: Refusals<'a>,
    recent: [Recent<'a>; 2],
    buckets: Vec<Bucket>,
    periods: Vec<Period>,
}

impl<'a> UserState<'a> {
    pub(super) fn from_parts(
        refusals: Refusals<'a>,
        watches: Vec<Entry<'a>>,
        clicks: Vec<Entry<'a>>,
        buckets: Vec<Bucket>,
        periods: Vec<Period>,
    ) -> Self {
        let recent = [Recent::from_entries(watches), Recent::from_entries(clicks)];
        Self { refusals, recent, buckets, periods }
    }

    /// Reads a state from its bytes, borrowing the texts.
    ///
    /// # Errors
    /// [`Corrupt`] where the bytes are no state.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        codec::decode(bytes)
    }

    /// When the user of an encoded state was last heard of, without decoding the rest.
    ///
    /// # Errors
    /// [`Corrupt`] where the bytes are no state.
    pub fn last_heard(bytes: &[u8]) -> Result<LastHeard, Corrupt> {
        codec::last_heard(bytes)
    }

    /// The state's canonical bytes: equal states have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Folds the records of an operand.
    ///
    /// # Errors
    /// [`Corrupt`] where the bytes are no operand.
    pub fn fold(&mut self, operand: &'a [u8], rules: &FoldRules) -> Result<(), Corrupt> {
        for record in fold_records(operand) {
            match record? {
                FoldRecord::Event(event) => self.learn_one(&event, rules),
                FoldRecord::Verdict(verdict) => self.refusals.learn(verdict),
            }
        }
        self.forget(rules);
        Ok(())
    }

    /// Folds one event. [`UserState::forget`] must follow before the state is read or encoded.
    fn learn_one(&mut self, event: &FoldEvent<'a>, rules: &FoldRules) {
        let limit = rules.history_limit;
        let left = match self.recent[event.source as usize].insert(event, limit) {
            Inserted::Duplicate => return,
            Inserted::New { left } => left,
        };
        if let Some(entry) = left {
            let period = counters::period_of(&mut self.periods, entry.at);
            period.see(fingerprint(entry.item));
        }
        let newest = self.newest().unwrap_or(event.at);
        counters::count(&mut self.buckets, event.at, newest, &counts_of(event));
        let hour = event.at.millis().rem_euclid(DAY_MS) / crate::time::HOUR_MS;
        counters::period_of(&mut self.periods, event.at).by_hour[hour as usize] += 1;
    }

    /// Drops what is too old next to the newest event and lets buckets age. What was refused ages
    /// by itself: who goes on watching does not so take back what they said, and how far the
    /// topics have come next to each other does not show.
    fn forget(&mut self, rules: &FoldRules) {
        if let Some(newest) = self.refusals.newest() {
            self.refusals.drop_before(rules.floor(newest));
        }
        let Some(newest) = self.newest() else { return };
        let floor = rules.floor(newest);
        self.recent.iter_mut().for_each(|r| r.drop_before(floor));
        counters::age(&mut self.buckets, newest, floor);
        let oldest = Period::index_of(floor);
        self.periods.retain(|p| p.index >= oldest);
    }

    /// Drops watches and clicks and all that is counted of them.
    pub fn forget_events(&mut self) {
        *self = Self { refusals: std::mem::take(&mut self.refusals), ..Self::default() };
    }

    /// Drops what the user refused and took back.
    pub fn forget_refusals(&mut self) {
        self.refusals = Refusals::default();
    }

    /// When the user's newest watch or click happened; `None` for a user without any.
    pub fn newest(&self) -> Option<EventTime> {
        self.recent.iter().filter_map(Recent::newest).max()
    }

    /// What the user said of subjects that they refused or took back, oldest first: the last word
    /// on each of the newest [`MAX_REFUSALS`](super::MAX_REFUSALS).
    pub fn verdicts(&self) -> &[Verdict<'a>] {
        self.refusals.verdicts()
    }

    /// What the user does not want to see, oldest first.
    pub fn refused(&self) -> impl Iterator<Item = Subject<'a>> {
        let refused = self.verdicts().iter().filter(|v| v.kind == FeedbackKind::NotInterested);
        refused.map(|verdict| verdict.subject)
    }

    pub(super) fn refusals(&self) -> &Refusals<'a> {
        &self.refusals
    }

    /// The newest events of one topic, oldest first.
    pub fn recent(&self, source: Source) -> &[Entry<'a>] {
        self.recent[source as usize].entries()
    }

    /// Counts by time, oldest first.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Habits and seen items by four weeks, oldest first.
    pub fn periods(&self) -> &[Period] {
        &self.periods
    }

    /// All counts that are kept, undecayed.
    pub fn totals(&self) -> Counts {
        let mut totals = Counts::default();
        self.buckets.iter().for_each(|b| totals.add(&b.counts));
        totals
    }

    /// Whether the user has watched or clicked the item: exact within the history, beyond it by
    /// fingerprint.
    pub fn has_seen(&self, item: &str) -> bool {
        self.recent.iter().any(|r| r.entries().iter().any(|e| e.item == item))
            || self.has_seen_before(item)
    }

    /// Whether the item is among those that have left the history.
    pub fn has_seen_before(&self, item: &str) -> bool {
        let fingerprint = fingerprint(item);
        self.periods.iter().any(|p| p.seen.binary_search(&fingerprint).is_ok())
    }
}

/// The 24 bits by which an item is remembered beyond the history.
fn fingerprint(item: &str) -> u32 {
    (stable_hash(item.as_bytes()) >> 40) as u32
}

fn counts_of(event: &FoldEvent<'_>) -> Counts {
    match event.source {
        Source::Click => Counts { clicks: 1, ..Counts::default() },
        Source::Watch => {
            let known = event.duration_ms > 0;
            let completed = event.watched_ms.saturating_mul(100)
                >= event.duration_ms.saturating_mul(COMPLETION_PERCENT);
            let half = event.watched_ms.saturating_mul(2) >= event.duration_ms;
            Counts {
                watches: 1,
                watched_ms: event.watched_ms,
                completions: u64::from(known && completed),
                skips: u64::from(event.watched_ms < SKIP_MS && !(known && half)),
                ..Counts::default()
            }
        }
    }
}

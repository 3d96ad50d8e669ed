//! The newest events of one user and topic: history and duplicate window in one.

use super::fold_event::FoldEvent;
use crate::time::EventTime;

/// One remembered event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it happened.
    pub at: EventTime,
    /// Hash of the event id, 24 bits.
    pub id: u32,
    /// What it was about.
    pub item: &'a str,
    /// Watched part in 1/200, held at 255; 0 for a click and where the duration is not known.
    pub fraction: u8,
    /// The item's length in seconds, rounded up; 0 where not known and for a click.
    pub duration_s: u32,
    /// Where in the product.
    pub surface: &'a str,
    /// The session's key.
    pub session: u64,
}

impl<'a> Entry<'a> {
    fn new(event: &FoldEvent<'a>) -> Self {
        let fraction =
            event.watched_ms.saturating_mul(200).checked_div(event.duration_ms).unwrap_or(0);
        Self {
            at: event.at,
            id: event.id,
            item: event.item,
            fraction: u8::try_from(fraction).unwrap_or(u8::MAX),
            duration_s: u32::try_from(event.duration_ms.div_ceil(1000)).unwrap_or(u32::MAX),
            surface: event.surface,
            session: event.session,
        }
    }

    /// Watched part of the duration, 0 to 1.275.
    pub fn watched_fraction(&self) -> f32 {
        f32::from(self.fraction) / 200.0
    }

    fn key(&self) -> (EventTime, u32) {
        (self.at, self.id)
    }
}

/// The newest events by (event time, id hash), at most `limit` of them, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent<'a> {
    entries: Vec<Entry<'a>>,
    /// Entries before this have left. Kept apart so that leaving costs nothing.
    start: usize,
}

/// What inserting an event did.
pub(super) enum Inserted<'a> {
    /// It was there already.
    Duplicate,
    /// It is new. `left` is what no longer fits, possibly the event itself.
    New { left: Option<Entry<'a>> },
}

impl<'a> Recent<'a> {
    pub(super) fn from_entries(entries: Vec<Entry<'a>>) -> Self {
        Self { entries, start: 0 }
    }

    pub(super) fn entries(&self) -> &[Entry<'a>] {
        &self.entries[self.start..]
    }

    pub(super) fn newest(&self) -> Option<EventTime> {
        self.entries().last().map(|e| e.at)
    }

    /// Inserts one event where it belongs.
    ///
    /// An event older than everything in a full list cannot be told from a duplicate: it counts
    /// as new, so that nothing is lost.
    pub(super) fn insert(&mut self, event: &FoldEvent<'a>, limit: usize) -> Inserted<'a> {
        let entry = Entry::new(event);
        // Events mostly come in order: look from the end.
        let held = self.entries();
        let place =
            held.len() - held.iter().rev().take_while(|other| other.key() > entry.key()).count();
        if place > 0 && held[place - 1].key() == entry.key() {
            return Inserted::Duplicate;
        }
        let full = held.len() >= limit;
        if full && place == 0 {
            return Inserted::New { left: Some(entry) };
        }
        self.entries.insert(self.start + place, entry);
        let left = full.then(|| self.entries[self.start]);
        self.start += usize::from(full);
        Inserted::New { left }
    }

    pub(super) fn drop_before(&mut self, floor: EventTime) {
        self.start += self.entries().iter().take_while(|e| e.at < floor).count();
    }
}

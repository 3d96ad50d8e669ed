//! What came of what was shown.

use super::Corrupt;
use crate::event::Source;
use crate::time::EventTime;

/// A watch or a click, as far as the join asks. Names are known by their
/// [`stable_hash`](crate::ids::stable_hash), as everywhere between topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which of the two.
    pub source: Source,
    /// Who.
    pub user: u64,
    /// What.
    pub item: u64,
    /// The list that it says it came from; 0 where it says nothing.
    pub request: u64,
    /// When.
    pub at: EventTime,
    /// 24 bits of the event's id: with source and time, what it is known again by.
    pub id: u32,
    /// Milliseconds watched; 0 for a click.
    pub watched_ms: u64,
    /// The item's length in milliseconds; 0 where not known and for a click.
    pub duration_ms: u64,
}

/// Bytes of an outcome with the clock that it came at.
const ENCODED: usize = 65;

impl Outcome {
    /// Whether they are records of the same event.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.source, self.at, self.id, self.item) == (other.source, other.at, other.id, other.item)
    }

    /// Appends 65 bytes. `came_at` is the clock of its topic before it.
    pub(super) fn encode(&self, came_at: Option<EventTime>, out: &mut Vec<u8>) {
        out.push(self.source as u8);
        let came_at = came_at.map_or(i64::MIN, EventTime::millis);
        let words = [self.user, self.item, self.request, self.at.millis() as u64, came_at as u64];
        let lengths = [self.watched_ms, self.duration_ms, u64::from(self.id)];
        for word in words.into_iter().chain(lengths) {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads what [`Self::encode`] wrote, one after the other.
    pub(super) fn decode_all(bytes: &[u8]) -> Result<Vec<(Self, Option<EventTime>)>, Corrupt> {
        let (records, rest) = bytes.as_chunks::<ENCODED>();
        if !rest.is_empty() {
            return Err(Corrupt("outcomes end early"));
        }
        records.iter().map(Self::decode).collect()
    }

    fn decode(record: &[u8; ENCODED]) -> Result<(Self, Option<EventTime>), Corrupt> {
        let (words, _) = record[1..].as_chunks();
        let word = |n: usize| u64::from_le_bytes(words[n]);
        let source = match record[0] {
            0 => Source::Watch,
            1 => Source::Click,
            _ => return Err(Corrupt("an outcome of an unknown topic")),
        };
        let came_at = Some(word(4) as i64).filter(|at| *at != i64::MIN);
        let outcome = Self {
            source,
            user: word(0),
            item: word(1),
            request: word(2),
            at: EventTime::from_millis(word(3) as i64),
            id: u32::try_from(word(7)).map_err(|_| Corrupt("an event id is out of range"))?,
            watched_ms: word(5),
            duration_ms: word(6),
        };
        Ok((outcome, came_at.map(EventTime::from_millis)))
    }
}

/// What came of one item of a list within the label windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Milliseconds from the list to the first click; none without one.
    pub click_delay_ms: Option<i64>,
    /// Watches.
    pub watches: u32,
    /// Milliseconds watched in all of them.
    pub watched_ms: u64,
    /// The longest length that a watch gave, in milliseconds; 0 where none did.
    pub duration_ms: u64,
}

impl Labels {
    /// Adds an outcome that came `delay_ms` after the list. The order does not matter.
    pub(super) fn add(&mut self, outcome: &Outcome, delay_ms: i64) {
        match outcome.source {
            Source::Click => {
                let first = self.click_delay_ms.map_or(delay_ms, |first| first.min(delay_ms));
                self.click_delay_ms = Some(first);
            }
            Source::Watch => {
                self.watches += 1;
                self.watched_ms = self.watched_ms.saturating_add(outcome.watched_ms);
                self.duration_ms = self.duration_ms.max(outcome.duration_ms);
            }
        }
    }

    /// Whether the item was watched for `enough_ms`, or whole where it is shorter.
    pub fn is_long_view(&self, enough_ms: u64) -> bool {
        let whole = if self.duration_ms == 0 { enough_ms } else { self.duration_ms };
        self.watches > 0 && self.watched_ms >= whole.min(enough_ms)
    }
}

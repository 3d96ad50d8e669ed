//! The rows that a store keeps of a join. Rows of lists sort by time, so that what is oldest lies
//! together and goes together.

use super::Corrupt;
use super::clocks::Clocks;
use crate::event::Source;
use crate::time::EventTime;

/// A row to put, or to take away where it has no value. All of a step go in one batch.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Which list: the order in which lists close, and their examples leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListKey {
    /// When it was wanted.
    pub at: EventTime,
    /// XXH3-64 of the hashes of its user and its request's id, each 8 bytes, little-endian.
    pub list: u64,
}

/// What comes first in a row's key.
pub(super) mod kind {
    /// Clocks and positions; one row.
    pub const PROGRESS: u8 = b'c';
    /// Outcomes that are held: those of one step.
    pub const HELD: u8 = b'h';
    /// Whose list it was and what was on it.
    pub const LIST: u8 = b'l';
    /// An outcome that belongs to a list.
    pub const OUTCOME: u8 = b'o';
    /// A list's whole record, until it closes.
    pub const RECORD: u8 = b'r';
}

/// Before the rows of whole records, which memory has no part of, and after all others.
pub const RECORDS: &[u8] = &[kind::RECORD];

/// So that earlier times, those before 1970 too, sort first.
const SIGN: u64 = 1 << 63;

fn list_row(kind: u8, key: &ListKey) -> Vec<u8> {
    let mut row = Vec::with_capacity(29);
    row.push(kind);
    row.extend_from_slice(&(key.at.millis() as u64 ^ SIGN).to_be_bytes());
    row.extend_from_slice(&key.list.to_be_bytes());
    row
}

impl ListKey {
    /// Where the list's whole record is until it closes.
    pub fn record_row(&self) -> Vec<u8> {
        list_row(kind::RECORD, self)
    }

    /// Where it is said whose the list was and what was on it, as long as it is corrected.
    pub fn names_row(&self) -> Vec<u8> {
        list_row(kind::LIST, self)
    }

    /// Of an outcome: one for each event, however often it comes.
    pub(super) fn outcome_row(&self, outcome: &super::Outcome) -> Vec<u8> {
        let mut row = list_row(kind::OUTCOME, self);
        row.push(match outcome.source {
            Source::Watch => 0,
            Source::Click => 1,
        });
        row.extend_from_slice(&(outcome.at.millis() as u64).to_be_bytes());
        row.extend_from_slice(&outcome.id.to_be_bytes());
        row.extend_from_slice(&outcome.item.to_be_bytes());
        row
    }

    /// The list of a row of lists or outcomes.
    pub(super) fn of_row(row: &[u8]) -> Result<Self, Corrupt> {
        let (words, _) = row.get(1..17).unwrap_or_default().as_chunks();
        let [at, list] = words else { return Err(Corrupt("a key is too short")) };
        let at = EventTime::from_millis((u64::from_be_bytes(*at) ^ SIGN) as i64);
        Ok(Self { at, list: u64::from_be_bytes(*list) })
    }
}

pub(super) fn held_row(page: u64) -> Vec<u8> {
    let mut row = vec![kind::HELD];
    row.extend_from_slice(&page.to_be_bytes());
    row
}

pub(super) fn page_of(row: &[u8]) -> Result<u64, Corrupt> {
    let page = row.get(1..).and_then(|bytes| bytes.try_into().ok());
    page.map(u64::from_be_bytes).ok_or(Corrupt("a key of held outcomes is too short"))
}

/// How far a join has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The next offset of each topic, in the order of [`super::Input::ALL`].
    pub next: [i64; 3],
    pub clocks: Clocks,
    /// Outcomes up to here have been given to lists.
    pub settled: Option<EventTime>,
    /// Lists up to here are closed.
    pub closed: Option<EventTime>,
}

impl Progress {
    pub fn encode(&self) -> Vec<u8> {
        let clocks = super::Input::ALL.map(|input| self.clocks.get(input));
        let times = clocks.into_iter().chain([self.settled, self.closed]);
        let times = times.map(|at| at.map_or(i64::MIN, EventTime::millis));
        self.next.into_iter().chain(times).flat_map(i64::to_le_bytes).collect()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let ([a, b, c, watch, click, list, settled, closed], []) = bytes.as_chunks() else {
            return Err(Corrupt("its progress is of another length"));
        };
        let time = |word: &[u8; 8]| {
            let ms = i64::from_le_bytes(*word);
            (ms != i64::MIN).then(|| EventTime::from_millis(ms))
        };
        Ok(Self {
            next: [a, b, c].map(|word| i64::from_le_bytes(*word)),
            clocks: Clocks::of([watch, click, list].map(time)),
            settled: time(settled),
            closed: time(closed),
        })
    }
}

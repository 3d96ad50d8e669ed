//! Finds users that have aged out, a few at each commit.
//!
//! Not a compaction filter: it sees one version of a user's bytes alone, and would drop an old
//! state under newer events that wait in the memtable or in a higher level, although the user as
//! a whole has not aged out.

use crate::time::{DAY_MS, EventTime};

/// Users looked at in one commit: some 200 µs. At four commits a second a shard of 600,000 users
/// is through in half an hour.
pub(super) const USERS_PER_COMMIT: usize = 100;

/// Event time between the beginnings of two rounds. Users age by months, so that a week more
/// makes no difference; every hour would read the whole store all the time.
const EVERY_MS: i64 = 7 * DAY_MS;

/// Where the round stands.
#[derive(Default)]
pub(super) struct Sweep {
    /// The watermark at which the last round began.
    begun: Option<EventTime>,
    /// The first key not looked at; `None` between rounds.
    next: Option<Vec<u8>>,
}

impl Sweep {
    /// The key to go on from, where it is time to look.
    pub(super) fn resume(&mut self, watermark: EventTime) -> Option<Vec<u8>> {
        if self.next.is_none() && self.begun.is_none_or(|at| watermark.since(at) >= EVERY_MS) {
            self.begun = Some(watermark);
            self.next = Some(Vec::new());
        }
        self.next.take()
    }

    /// Notes the last key looked at of a round that is not over.
    pub(super) fn pause_after(&mut self, mut last: Vec<u8>) {
        last.push(0);
        self.next = Some(last);
    }
}

//! Event → user-feature update, pure. One definition serves the fold, serving and training.
//!
//! Enters: [`FoldRecord`]s and the bytes of a [`UserState`]. Leaves: the next bytes. Never a
//! clock, never randomness, never a look-up: the state is a function of the *set* of a user's
//! events, however their topics interleave.

mod codec;
pub mod counters;
mod fold_event;
mod positives;
mod recent;
mod refusals;
mod state;
#[cfg(test)]
mod tests;
pub mod varint;

pub use codec::VERSION as STATE_VERSION;
pub use counters::{Bucket, Counts, Period, Resolution};
pub use fold_event::{FoldEvent, FoldRecord, fold_records, session_key};
pub use positives::Positives;
pub use recent::Entry;
pub use refusals::{MAX_REFUSALS, Verdict};
pub use state::{FoldRules, LastHeard, MAX_TTL_DAYS, UserState};

/// The bytes are no state or no fold event: a damaged store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("corrupt state: {0}")]
pub struct Corrupt(&'static str);

impl Corrupt {
    /// What is wrong with them.
    pub fn what(self) -> &'static str {
        self.0
    }
}

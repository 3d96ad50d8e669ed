//! Joins what was shown with what came of it, in event time.
//!
//! Enters: lists as they were answered, watches and clicks of the same users. Leaves: one example for
//! every item shown, once its label window has passed, corrections for what came later, and the rows
//! that a store keeps of both; and windows of sums over what is closed, by the minute. Never: I/O, a
//! clock, a decision about models.
//!
//! # What belongs to what
//! An outcome belongs to a list of its user that showed its item at or before it, within the label
//! window of its kind: to the list that it names, where it names one, else to the newest such list
//! (last touch). Of one that names a list that is not such a one, nothing is guessed: it is an orphan.
//!
//! # When it is decided
//! Topics are read apart, so each has a clock of its own: the newest event time read, held back to
//! when the broker had it. An outcome is held until the clock of lists has passed it by
//! [`Rules::lateness_ms`]: then all lists before it are known. A list closes when every clock has
//! passed its longest window by as much. So what leaves is a function of each topic's records in
//! their order, whatever the order between topics. The exception is [`Clocks::effective`]: a topic
//! that brings nothing is not waited for much longer than [`Rules::idle_ms`] of event time, once its
//! log is known to hold nothing more.

mod clocks;
mod example;
mod join;
mod outcome;
mod rows;
#[cfg(test)]
mod tests;
pub mod windows;

pub use clocks::{Clocks, Input};
pub use example::{correction, examples};
pub use join::{Arrival, Closing, Correction, Counts, Join, Listed, Rules, Size, Step};
pub use outcome::{Labels, Outcome};
pub use rows::{Change, ListKey, RECORDS};

/// Rows of a join that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of the join is damaged: {0}")]
pub struct Corrupt(pub(crate) &'static str);

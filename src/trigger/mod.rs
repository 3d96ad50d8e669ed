//! What is found becomes triggers: what to do, when, and when not.
//!
//! Enters: what is true at a minute, as findings with their evidence, and the timer. Leaves:
//! triggers to be told. Never: I/O, a clock, a look at data. State can be written by serde and read
//! back; a replay of the same steps gives the same triggers with the same ids.
//!
//! | found | asks for |
//! |---|---|
//! | the data themselves (gaps, what is missing, degraded) | INVESTIGATE, and no RETRAIN while it lasts |
//! | errors, latency | ROLLBACK where the version changed lately, else INVESTIGATE |
//! | what came of lists, for the worse; losses of predictions | RETRAIN |
//! | the same for the better | nothing: it is told |
//! | distributions of features or of predictions | nothing, or RETRAIN where another kind agrees |
//! | the timer | RETRAIN |
//!
//! A finding is pending until it has lasted, fires, and is resolved when it has been untrue for a
//! while. Who asks for a RETRAIN starts the cooldown, in which no other is asked for; what still
//! fires when it ends asks again, and after a few times asks for people instead.

mod finding;
mod policy;
mod schedule;
#[cfg(test)]
mod tests;

pub use finding::{ALL, Finding, dedup_key};
pub use policy::{Moment, Policy, Rules, manual};
pub use schedule::{BadSchedule, Schedule};

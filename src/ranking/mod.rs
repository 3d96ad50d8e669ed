//! The ranker: how likely somebody takes what is shown to them, learnt from what came of what was
//! shown before.
//!
//! Enters: a request's user, surface and time, candidates with what is known of them, and closed
//! examples. Leaves: the probabilities of a click and of a long view, and the seconds that it will
//! be watched. Pure: event time only, no clock, no randomness, no I/O; the same examples in the same order give
//! the same bytes on every machine.
//!
//! | module | does |
//! |---|---|
//! | [`UserCounters`], [`Exposures`] | what a user's shard knows of them |
//! | [`Globals`] | what every worker knows of items, creators, categories and surfaces |
//! | [`Viewer`] | a request → features of its candidates: the one definition |
//! | [`Lesson`] | a record of `training-examples` → what is learnt from it |
//! | [`Served`] | the features and log-odds of an exposure, as examples carry them |
//! | [`Learner`] | what was served and what came of it → weights |
//! | [`Weights`] | features → scores |
//!
//! What came of an exposure is learnt when its label windows have closed; features are read when it is
//! made, and learnt from as they were then. Nobody may compute them again for learning.

mod base;
mod co_visits;
mod counter;
mod features;
mod globals;
mod learner;
mod lesson;
mod math;
mod served;
mod table;
#[cfg(test)]
mod tests;
mod user;
mod user_codec;

pub use co_visits::{CoVisit, CoVisits, NEWEST};
pub use features::{DENSE, Features, History, Viewer, Watch, names, schema, user_rate};
pub use globals::{Globals, Limits};
pub use learner::{Kind, Learner, Logged, Scores, Unreadable, Weights};
pub use lesson::{Lesson, schema_name};
pub use served::{NotServed, Served};
pub use user::{Exposures, UserCounters};
pub use user_codec::Corrupt;

use self::counter::Trial;
use crate::ids::stable_hash;
use crate::time::EventTime;

/// What is predicted, in the order of all arrays of targets.
pub const TARGETS: usize = 2;
/// The place of "it is clicked" among targets.
pub const CLICK: usize = 0;
/// The place of "it is viewed long" among targets.
pub const LONG_VIEW: usize = 1;

/// Who is shown something where and when. Keys are hashes of ids.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The user.
    pub user: u64,
    /// The surface.
    pub surface: u64,
    /// When.
    pub at: EventTime,
    /// What else is known of the user, each a hash of what and its value.
    pub profile: &'a [u64],
}

/// What is known of an item before it is shown. Keys are hashes of ids; 0 where not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item {
    /// The item.
    pub id: u64,
    /// Who made it.
    pub creator: u64,
    /// Its main category or tag.
    pub category: u64,
    /// Length in milliseconds.
    pub duration_ms: u64,
    /// When it was published.
    pub published: Option<EventTime>,
    /// What else is known of it, each a hash of what and its value.
    pub attributes: Vec<u64>,
}

/// What came of an exposure within its label windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it was clicked.
    pub clicked: bool,
    /// Whether it was viewed long.
    pub long_view: bool,
    /// Milliseconds watched.
    pub watched_ms: u64,
}

impl Outcome {
    /// Whether each target came: 0 or 1.
    pub fn targets(&self) -> [f32; TARGETS] {
        [self.clicked, self.long_view].map(|came| f32::from(u8::from(came)))
    }
}

/// An exposure and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// Who, where and when.
    pub context: Context<'a>,
    /// What.
    pub item: &'a Item,
    /// The base rates as they were when it was shown: [`Features::base_rates`].
    pub base: [f32; TARGETS],
    /// What came of it.
    pub outcome: Outcome,
}

impl Example<'_> {
    fn trial(&self) -> Trial {
        Trial { at: self.context.at, outcomes: self.outcome.targets(), base: self.base }
    }
}

/// The key of two things together, in this order.
fn pair(a: u64, b: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&a.to_le_bytes());
    bytes[8..].copy_from_slice(&b.to_le_bytes());
    stable_hash(&bytes)
}

/// The key of what has a name; 0 where it has none.
pub fn key_of(name: &str) -> u64 {
    if name.is_empty() { 0 } else { stable_hash(name.as_bytes()) }
}

/// A key as it is kept within one user, where few are told apart.
fn narrow(key: u64) -> u32 {
    (key ^ (key >> 32)) as u32
}

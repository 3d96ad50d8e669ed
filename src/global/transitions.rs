//! Next-item transitions: what follows a history, by one linear map for all items.
//!
//! Enters: positive interactions with what their user had liked before (topic `interactions`).
//! Leaves: ranked candidates for a history, each with the item of it that spoke for it most. A
//! history is the features x: of each item γ^k, where k is how many were liked since, at two
//! scales. What was liked next is y. The map is the ridge regression of y on x, a closed form of
//! their sums ([`ridge`](crate::model::ridge)); a higher-order Markov chain that weighs the items of
//! a history against each other, where counted transitions add up what is said twice.
//!
//! Three parts, so that the feed never waits: [`Transitions`] in the tables takes interactions as
//! they come and answers queries; a [`TransitionLearner`], which is somebody else's, holds the
//! newest rows and says when enough are new; [`Solving`] makes the map of them, which takes seconds.
//! Rows are kept rather than their sums: the sums then are those of the newest rows exactly, whatever
//! order they came in and whichever items were frequent before.
//!
//! Must never: read a clock, hold more rows than its budget, or let the order of arrival decide.

mod learner;
mod map;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use learner::{Solving, TransitionLearner};
pub use map::{Follower, FollowerScratch, TransitionMap};

use crate::event::Interaction;
use crate::time::EventTime;

/// Rows that wait for the learner, at most: 18 MB with full histories. At 300,000 a second it has a
/// fifth of a second; what comes beyond is left out and counted.
const WAITING: usize = 1 << 16;

/// What is held and how it is solved. The weights are those that did best on a million ratings of
/// 3,400 films.
#[derive(Clone, Debug, PartialEq)]
pub struct TransitionsConfig {
    /// Items that histories and predictions are made of: the most frequent among the rows. Memory
    /// while solving goes with the square, the time with the cube.
    pub items: usize,
    /// Newest rows held, 16 bytes each and 4 for each item of its history.
    pub rows: usize,
    /// λ of the ridge. Larger: rare items say less.
    pub lambda: f32,
    /// A row counts its item's frequency to the power of minus this: at 0 errors about the popular
    /// are all that is made small.
    pub rarity_power: f32,
    /// Items that each feature may speak for, the strongest.
    pub kept: usize,
}

impl Default for TransitionsConfig {
    fn default() -> Self {
        Self { items: 3_000, rows: 1_000_000, lambda: 300.0, rarity_power: 0.3, kept: 200 }
    }
}

/// Decay and length of the scales on which a history is read: what was liked just now, and what the
/// user has liked lately.
const SCALES: [(f32, usize); 2] = [(0.4, 5), (0.9, 40)];

/// The weights of the item at each place of a history, the newest first, by scale; 0 beyond.
fn weights(place: usize) -> [f32; SCALES.len()] {
    let exponent = i32::try_from(place).unwrap_or(i32::MAX);
    SCALES.map(|(decay, length)| if place < length { decay.powi(exponent) } else { 0.0 })
}

/// Interactions as they come, until a learner takes them. Histories lie one after the other, so that
/// noting one is a copy of its bytes.
#[derive(Default)]
pub struct Waiting {
    rows: Vec<WaitingRow>,
    histories: Vec<u64>,
    left_out: u64,
}

struct WaitingRow {
    at: EventTime,
    event: u64,
    item: u64,
    length: usize,
}

impl Waiting {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many were left out since the last were taken.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.histories.clear();
        self.left_out = 0;
    }
}

/// The part that stands in the tables. Who learns takes and publishes beside readers of the tables:
/// a writer's lock over all of them would keep requests waiting.
#[derive(Default)]
pub struct Transitions {
    waiting: Mutex<Waiting>,
    is_followed: AtomicBool,
    map: RwLock<Arc<TransitionMap>>,
}

impl Transitions {
    /// Notes an interaction with the item of this hash, where its user liked it and somebody learns.
    pub(super) fn observe(&mut self, one: &Interaction<'_>, item: u64) {
        let is_followed = *self.is_followed.get_mut();
        let Some(history) = one.history.as_ref().filter(|_| is_followed) else { return };
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        if waiting.rows.len() == WAITING {
            waiting.left_out += 1;
            return;
        }
        let before = waiting.histories.len();
        waiting.histories.extend(history.iter());
        waiting.rows.push(WaitingRow {
            at: EventTime::from_millis(one.event_time),
            event: one.event as u64,
            item,
            length: waiting.histories.len() - before,
        });
    }

    /// From now on interactions wait for a learner.
    pub fn follow(&self) {
        self.is_followed.store(true, Ordering::Release);
    }

    /// How many interactions wait.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// Takes those that wait into `emptied`, whose memory is used for the next.
    pub fn take(&self, emptied: &mut Waiting) {
        emptied.clear();
        std::mem::swap(&mut *self.lock(), emptied);
    }

    /// Lets queries use a newer map. Returns the one before, to be dropped where nobody waits.
    pub fn publish(&self, map: Arc<TransitionMap>) -> Arc<TransitionMap> {
        let mut published = self.map.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *published, map)
    }

    /// The newest map; empty until one is published.
    pub fn map(&self) -> Arc<TransitionMap> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Memory held, in bytes, estimated.
    pub(super) fn bytes(&self) -> usize {
        let waiting = self.lock();
        waiting.rows.capacity() * size_of::<WaitingRow>()
            + waiting.histories.capacity() * size_of::<u64>()
            + self.map().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

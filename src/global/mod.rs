//! Tables that every worker holds whole: session neighbours, trending and next-item transitions, over all
//! users.
//!
//! Enters: interactions, as every user shard publishes them. Leaves: candidates. Like a
//! GlobalKTable of Kafka Streams, but of bounded memory: warmed from the topic's tail, the
//! oldest sessions go first. Tables that read the same interactions rank alike, in whatever
//! order they came. Never reads user state, never a clock.

mod interner;
mod mix_hasher;
mod neighbours;
mod replay_guard;
#[cfg(test)]
mod tests;
mod transitions;
mod trending;

pub use interner::{ItemHandle, Items};
pub use neighbours::{Neighbour, NeighboursConfig, Scratch, SessionNeighbours};
pub use transitions::{
    Follower, FollowerScratch, Solving, TransitionLearner, TransitionMap, Transitions,
    TransitionsConfig, Waiting,
};
pub use trending::{HalfLives, Ranking, Trending};

use std::sync::Arc;

use crate::event::{Interaction, Source};
use crate::time::EventTime;
use replay_guard::ReplayGuard;

/// What is watched for less than this part, its length being known, was not liked enough to say
/// anything about what goes together.
pub const POSITIVE_FRACTION: f32 = 0.1;

/// All global tables of a process.
pub struct GlobalTables {
    items: Items,
    neighbours: SessionNeighbours,
    trending: Trending,
    transitions: Transitions,
    guard: ReplayGuard,
    watermark: EventTime,
}

impl GlobalTables {
    /// Empty tables.
    pub fn new(neighbours: NeighboursConfig, half_lives: HalfLives) -> Self {
        Self {
            items: Items::default(),
            neighbours: SessionNeighbours::new(neighbours),
            trending: Trending::new(half_lives),
            transitions: Transitions::default(),
            guard: ReplayGuard::default(),
            watermark: EventTime::default(),
        }
    }

    /// Learns interactions of a `shard` that were read from `partition`. Returns how many were new.
    pub fn learn(&mut self, partition: i32, shard: i32, batch: &[Interaction<'_>]) -> usize {
        let mut new = 0;
        for one in batch {
            if self.guard.is_new(partition, shard, one) {
                self.learn_one(one);
                new += 1;
            }
        }
        new
    }

    /// Learns one interaction that is known to be new.
    pub fn learn_one(&mut self, one: &Interaction<'_>) {
        let at = EventTime::from_millis(one.event_time);
        self.watermark = self.watermark.max(at);
        let weight = weight_of(one);
        if weight == 0 {
            return;
        }
        let item = self.items.handle(one.item);
        self.neighbours.observe(one.session as u64, item, at, one.event as u64);
        self.trending.observe(one.surface, item, at, weight);
        self.transitions.observe(one, self.items.hash(item));
    }

    /// Names of items.
    pub fn items(&self) -> &Items {
        &self.items
    }

    /// Session neighbours.
    pub fn neighbours(&self) -> &SessionNeighbours {
        &self.neighbours
    }

    /// Trending items.
    pub fn trending(&self) -> &Trending {
        &self.trending
    }

    /// Next-item transitions.
    pub fn transitions(&self) -> &Transitions {
        &self.transitions
    }

    /// How much each item, by its XXH3-64, is watched over all surfaces, as of the last ranking.
    pub fn watched(&self) -> Arc<[(u64, f32)]> {
        self.trending.watched()
    }

    /// Ranks what trends, for [`GlobalTables::show`]. It looks at all items, which is too much to
    /// do for a request, and for a writer's lock: the owner does it about once a second, beside
    /// requests.
    pub fn rank(&self) -> Ranking {
        self.trending.rank(&self.items)
    }

    /// Shows what was ranked.
    pub fn show(&mut self, ranking: Ranking) {
        self.trending.show(ranking);
    }

    /// Brings the trending lists up to date, where nobody waits.
    pub fn refresh(&mut self) {
        let ranking = self.rank();
        self.show(ranking);
    }

    /// The newest event time learnt.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Memory held, in bytes, estimated.
    pub fn bytes(&self) -> usize {
        self.items.bytes()
            + self.neighbours.bytes()
            + self.trending.bytes()
            + self.transitions.bytes()
            + self.guard.bytes()
    }
}

/// Whether an interaction says anything for its item.
pub fn is_liked(one: &Interaction<'_>) -> bool {
    weight_of(one) > 0
}

/// How much an interaction says for its item: a long watch counts double, a skip nothing.
fn weight_of(one: &Interaction<'_>) -> u32 {
    match one.source {
        Source::Click => 1,
        // A fraction of exactly 0 is a watch of unknown length.
        Source::Watch if one.fraction == 0.0 => 1,
        Source::Watch if one.fraction < POSITIVE_FRACTION => 0,
        Source::Watch if one.fraction < 0.5 => 1,
        Source::Watch => 2,
    }
}

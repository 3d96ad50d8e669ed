//! Interactions are delivered at least once, and producers send events twice: both are dropped.

use std::collections::{HashMap, HashSet};

use super::mix_hasher::MixBuilder;
use crate::event::{Interaction, Source};

/// Event ids remembered per generation; two generations are held. A producer's duplicate that
/// comes later than this many events counts twice in trending. 8 bytes each.
const GENERATION: usize = 500_000;

#[derive(Default)]
pub(super) struct ReplayGuard {
    /// Highest offset seen, by partition of `interactions`, shard and source.
    positions: HashMap<(i32, i32, Source), i64, MixBuilder>,
    young: HashSet<i64, MixBuilder>,
    old: HashSet<i64, MixBuilder>,
}

impl ReplayGuard {
    pub(super) fn is_new(&mut self, partition: i32, shard: i32, one: &Interaction<'_>) -> bool {
        let highest = self.positions.entry((partition, shard, one.source)).or_insert(-1);
        if one.offset <= *highest {
            return false;
        }
        *highest = one.offset;
        if self.old.contains(&one.event) || !self.young.insert(one.event) {
            return false;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        true
    }

    pub(super) fn bytes(&self) -> usize {
        (self.young.capacity() + self.old.capacity()) * 9 + self.positions.len() * 40
    }
}

//! What is kept of one item, and how an interaction changes it.
//!
//! Enters: the interactions of one item, in the order of their partition. Leaves: an [`ItemState`],
//! its bytes, and the [`ItemFeatures`] that workers read. Everything but the vectors is a fold over
//! the interactions alone; a vector is one over a basis and the interactions from some offset on.

mod co_watched;
mod codec;
mod features;
mod fold;
mod live_basis;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;

pub use codec::VERSION as ITEM_STATE_VERSION;
pub use features::{Decayed, ItemFeatures};
pub use fold::ItemFold;
pub use live_basis::LiveBasis;

use super::online::ItemVector;
use crate::event::{Interaction, Source};
use crate::feature::counters::{self, Tally};
use crate::feature::{Bucket, Resolution};
use crate::model::BasisVersion;
use crate::time::EventTime;
use co_watched::CoWatched;

/// A watch of at least this part of the item is a long view.
const LONG_VIEW: f32 = 0.5;
/// Weeks of counts that are kept. Longer: what was loved in spring counts in autumn.
const WEEKS_KEPT: i64 = 8;

/// What is counted of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemCounts {
    /// Watch events.
    pub watches: u64,
    /// Watches of at least half of the item.
    pub long_views: u64,
    /// Click events.
    pub clicks: u64,
}

impl Tally for ItemCounts {
    fn add(&mut self, other: &Self) {
        self.watches += other.watches;
        self.long_views += other.long_views;
        self.clicks += other.clicks;
    }
}

impl ItemCounts {
    fn of(one: &Interaction<'_>) -> Self {
        match one.source {
            Source::Click => Self { clicks: 1, ..Self::default() },
            Source::Watch => {
                Self { watches: 1, long_views: u64::from(one.fraction >= LONG_VIEW), clicks: 0 }
            }
        }
    }
}

/// Everything that is kept of one item.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemState {
    newest: Option<EventTime>,
    /// Counts by time, oldest first.
    buckets: Vec<Bucket<ItemCounts>>,
    co_watched: CoWatched,
    vectors: BTreeMap<BasisVersion, ItemVector>,
}

impl ItemState {
    /// Counts an interaction, and notes what the user had liked just before.
    pub fn learn_statistics(&mut self, item: u64, one: &Interaction<'_>) {
        // Events before 1970 are refused when they come in; the bytes hold none.
        let at = EventTime::from_millis(one.event_time.max(0));
        let newest = self.newest.map_or(at, |newest| newest.max(at));
        counters::count(&mut self.buckets, at, newest, &ItemCounts::of(one));
        let week = Resolution::Week.width_ms();
        let floor = (newest.millis().div_euclid(week) - WEEKS_KEPT) * week;
        counters::age(&mut self.buckets, newest, EventTime::from_millis(floor));
        if let Some(history) = &one.history {
            self.co_watched.learn(item, history.iter(), at);
        }
        self.newest = Some(newest);
    }

    /// When its newest event happened.
    pub fn newest(&self) -> Option<EventTime> {
        self.newest
    }

    /// Counts by time, the oldest first.
    pub fn buckets(&self) -> &[Bucket<ItemCounts>] {
        &self.buckets
    }

    /// Its live vectors by basis.
    pub fn vectors(&self) -> impl Iterator<Item = (BasisVersion, &ItemVector)> {
        self.vectors.iter().map(|(version, vector)| (*version, vector))
    }

    /// Its live vector over one basis; none where it has learnt nothing over it.
    pub fn vector(&self, version: BasisVersion) -> Option<&ItemVector> {
        self.vectors.get(&version)
    }

    /// Forgets vectors over bases that are no longer live.
    pub fn retain_vectors(&mut self, is_live: impl Fn(BasisVersion) -> bool) {
        self.vectors.retain(|version, _| is_live(*version));
    }

    /// What workers are told of it.
    pub fn features(&self) -> ItemFeatures {
        ItemFeatures::of(self)
    }
}

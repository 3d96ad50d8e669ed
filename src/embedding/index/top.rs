//! The best k of what a search comes by.

use std::cmp::Ordering;

use super::Found;
use crate::global::ItemHandle;

/// Keeps the `k` best by (score, then smaller handle), each item once.
///
/// Up to twice as many are held before the worse half is cut off: one sort for k pushes.
pub(super) struct Top {
    k: usize,
    held: Vec<Found>,
    floor: f32,
}

impl Top {
    pub(super) fn new(k: usize) -> Self {
        Self { k, held: Vec::with_capacity(2 * k.min(1 << 16)), floor: f32::NEG_INFINITY }
    }

    /// What is below this score is not among the best any more.
    pub(super) fn floor(&self) -> f32 {
        self.floor
    }

    pub(super) fn push(&mut self, item: ItemHandle, score: f32) {
        if score < self.floor {
            return;
        }
        self.held.push(Found { item, score });
        let most = if self.floor == f32::NEG_INFINITY { self.k } else { 2 * self.k };
        if self.held.len() >= most {
            self.cut();
        }
    }

    /// Cuts down to k, and to one entry an item: one that moved during the search shows up twice.
    fn cut(&mut self) {
        self.held.sort_unstable_by(|a, b| a.item.cmp(&b.item).then(best_first(a, b)));
        self.held.dedup_by_key(|found| found.item);
        if self.held.len() >= self.k && self.k > 0 {
            let (_, last, _) = self.held.select_nth_unstable_by(self.k - 1, best_first);
            self.floor = last.score;
        }
        self.held.truncate(self.k);
    }

    /// The best, best first.
    pub(super) fn into_sorted(mut self) -> Vec<Found> {
        self.cut();
        self.held.sort_unstable_by(best_first);
        self.held
    }
}

fn best_first(a: &Found, b: &Found) -> Ordering {
    b.score.total_cmp(&a.score).then(a.item.cmp(&b.item))
}

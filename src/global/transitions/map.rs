//! The map from histories to what follows, cut to its strongest coefficients.

use std::collections::HashMap;

use super::learner::feature;
use super::{SCALES, weights};
use crate::ids::Prehashed;
use crate::model::ridge::Coefficients;

/// See the module. Features speak for the same number of items each.
#[derive(Default)]
pub struct TransitionMap {
    /// By place: the most frequent first.
    items: Vec<u64>,
    places: HashMap<u64, u32, Prehashed>,
    /// Items that a feature speaks for.
    kept: usize,
    /// `kept` places for each feature.
    targets: Vec<u32>,
    /// What it says for each.
    values: Vec<f32>,
}

/// An item that may follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Follower {
    /// XXH3-64 of the item.
    pub item: u64,
    /// Above 0; proportional to how likely it is, as far as a linear map can say.
    pub score: f32,
    /// XXH3-64 of the item of the history that adds most to the score.
    pub because: u64,
}

/// Memory that queries share.
#[derive(Default)]
pub struct FollowerScratch {
    /// By place of the item; all 0 between queries.
    scores: Vec<f32>,
    /// By place: 1 + the rank of a follower; all 0 between queries.
    ranks: Vec<u32>,
}

impl TransitionMap {
    pub(super) fn new(items: Vec<u64>, kept: usize, coefficients: &Coefficients) -> Self {
        let kept = kept.min(items.len());
        let features = items.len() * SCALES.len();
        let mut map = Self {
            places: items.iter().zip(0..).map(|(item, place)| (*item, place)).collect(),
            targets: Vec::with_capacity(features * kept),
            values: Vec::with_capacity(features * kept),
            items,
            kept,
        };
        let mut order: Vec<u32> = Vec::new();
        for feature in 0..features {
            let row = coefficients.row(feature);
            let size = |place: &u32| row[*place as usize].abs();
            let stronger = |a: &u32, b: &u32| size(b).total_cmp(&size(a)).then(a.cmp(b));
            order.clear();
            order.extend(0..map.items.len() as u32);
            if kept < order.len() {
                order.select_nth_unstable_by(kept, stronger);
                order.truncate(kept);
            }
            // Ascending, so that sums go through memory in one direction.
            order.sort_unstable();
            map.values.extend(order.iter().map(|place| row[*place as usize]));
            map.targets.extend_from_slice(&order);
        }
        map
    }

    /// Items that it knows.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Memory held, in bytes, estimated.
    pub fn bytes(&self) -> usize {
        self.targets.len() * (size_of::<u32>() + size_of::<f32>())
            + self.items.len() * 2 * (size_of::<u64>() + size_of::<u32>())
    }

    /// What follows a history of items, the newest first, each once: the best `limit` of those
    /// that are `wanted`, the best first.
    pub fn followers(
        &self,
        history: &[u64],
        limit: usize,
        wanted: impl Fn(u64) -> bool,
        scratch: &mut FollowerScratch,
    ) -> Vec<Follower> {
        let FollowerScratch { scores, ranks } = scratch;
        scores.resize(self.items.len().max(scores.len()), 0.0);
        ranks.resize(scores.len(), 0);
        for (place, item) in history.iter().enumerate() {
            self.each(place, *item, |target, value| scores[target] += value);
        }
        let scored = self.items.iter().zip(scores.iter().zip(0u32..));
        let scored = scored.filter(|(item, (score, _))| **score > 0.0 && wanted(**item));
        let mut best: Vec<(f32, u32)> = scored.map(|(_, (score, at))| (*score, at)).collect();
        scores[..self.items.len()].fill(0.0);
        // Places go by frequency, then hash: the same in every process.
        let better = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if limit < best.len() {
            best.select_nth_unstable_by(limit, better);
            best.truncate(limit);
        }
        best.sort_unstable_by(better);
        let causes = self.causes(history, &best, ranks);
        let follower = |(&(score, place), because): (&(f32, u32), u64)| Follower {
            item: self.items[place as usize],
            score,
            because,
        };
        best.iter().zip(causes).map(follower).collect()
    }

    /// For each of the best, the item of the history that says most for it.
    fn causes(&self, history: &[u64], best: &[(f32, u32)], ranks: &mut [u32]) -> Vec<u64> {
        best.iter().zip(1..).for_each(|((_, place), rank)| ranks[*place as usize] = rank);
        let mut causes = vec![(f32::MIN, 0); best.len()];
        let mut parts = vec![0.0f32; best.len()];
        for (place, item) in history.iter().enumerate() {
            parts.fill(0.0);
            self.each(place, *item, |target, value| {
                if let Some(rank) = (ranks[target] as usize).checked_sub(1) {
                    parts[rank] += value;
                }
            });
            for (cause, part) in causes.iter_mut().zip(&parts).filter(|(c, part)| **part > c.0) {
                *cause = (*part, *item);
            }
        }
        best.iter().for_each(|(_, place)| ranks[*place as usize] = 0);
        causes.into_iter().map(|(_, item)| item).collect()
    }

    /// What an item at a place of the history says for each item that it speaks for.
    fn each(&self, place: usize, item: u64, mut say: impl FnMut(usize, f32)) {
        let Some(number) = self.places.get(&item) else { return };
        for (scale, weight) in weights(place).into_iter().enumerate().filter(|(_, w)| *w > 0.0) {
            let from = feature(*number, scale) as usize * self.kept;
            let said = self.targets[from..].iter().zip(&self.values[from..]).take(self.kept);
            said.for_each(|(target, value)| say(*target as usize, weight * value));
        }
    }
}

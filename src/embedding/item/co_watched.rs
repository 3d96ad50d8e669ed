//! What users liked shortly before an item: the heaviest of a stream of weights, in bounded memory.
//!
//! Space-Saving (Metwally, Agrawal and El Abbadi, ICDT 2005) over decayed weights: a new item takes
//! the place of the lightest and begins with its weight, which is noted as the error. Every item
//! whose true weight is above a K-th of all weights is held, and the truth lies between weight −
//! error and weight.

use crate::model::decayed;
use crate::time::{DAY_MS, EventTime, HOUR_MS};

/// Items held. 16 bytes each in the state of every item.
const HELD: usize = 32;
/// Items of a history that an interaction goes together with.
const NEWEST: usize = 5;
/// What an item further back has of the next newer one's weight.
const RATIO: f32 = 0.7;
/// Milliseconds in which weights halve.
const HALF_LIFE_MS: i64 = 7 * DAY_MS;
/// The grid of event time at which they decay, so that most events cost no power of two.
const STEP_MS: i64 = 6 * HOUR_MS;

/// One item that goes together with another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weighted {
    pub item: u64,
    pub weight: f32,
    /// What the weight may be too large by.
    pub error: f32,
}

/// The items that were liked shortly before one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CoWatched {
    /// In the order they came.
    held: Vec<Weighted>,
    /// The step of event time that weights are as of.
    step: i64,
}

impl CoWatched {
    pub(super) fn from_parts(held: Vec<Weighted>, step: i64) -> Self {
        Self { held, step }
    }

    pub(super) fn held(&self) -> &[Weighted] {
        &self.held
    }

    pub(super) fn step(&self) -> i64 {
        self.step
    }

    /// Learns that a user liked `item` at `at` after `history`, the newest first.
    pub fn learn(&mut self, item: u64, history: impl Iterator<Item = u64>, at: EventTime) {
        let step = at.millis().div_euclid(STEP_MS);
        if self.held.is_empty() {
            self.step = step;
        } else if step > self.step {
            let half_lives = (step - self.step) as f64 * STEP_MS as f64 / HALF_LIFE_MS as f64;
            let kept = decayed(half_lives) as f32;
            for one in &mut self.held {
                one.weight *= kept;
                one.error *= kept;
            }
            self.held.retain(|one| one.weight > 0.0);
            self.step = step;
        }
        // An event older than the newest counts in full, as if it were as new.
        let mut weight = 1.0;
        for other in history.filter(|other| *other != item).take(NEWEST) {
            self.add(other, weight);
            weight *= RATIO;
        }
    }

    fn add(&mut self, item: u64, weight: f32) {
        if let Some(known) = self.held.iter_mut().find(|one| one.item == item) {
            known.weight += weight;
            return;
        }
        if self.held.len() < HELD {
            return self.held.push(Weighted { item, weight, error: 0.0 });
        }
        // Of equals the first, which came first: the same in every replay.
        let lightest = self.held.iter_mut().min_by(|a, b| a.weight.total_cmp(&b.weight));
        if let Some(lightest) = lightest {
            let error = lightest.weight;
            *lightest = Weighted { item, weight: error + weight, error };
        }
    }

    /// Items by the weight that is certain, the heaviest first, as of the newest event's step.
    pub fn top(&self, count: usize) -> Vec<(u64, f32)> {
        let certain = self.held.iter().map(|one| (one.item, one.weight - one.error));
        let mut top: Vec<(u64, f32)> = certain.filter(|(_, weight)| *weight > 0.0).collect();
        top.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        top.truncate(count);
        top
    }
}

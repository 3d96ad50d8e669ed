//! Content: what is most watched under the labels that the user likes.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::Shelved;
use crate::ids::Prehashed;
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Leaning, Query, SourceKind, Why};

/// Labels looked at: the ones that weigh most.
const LABELS: usize = 12;

/// p(item) = Σ p(label of the user) · p(item under the label).
pub struct Content;

impl CandidateSource for Content {
    fn kind(&self) -> SourceKind {
        SourceKind::Content
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let shelves = query.world.catalog.shelves();
        Ok(mixed(query, &query.taste.labels[..query.taste.labels.len().min(LABELS)], |leaning| {
            let label = query.world.catalog.label(leaning.number);
            let why = Why::MoreLike { label: label.into(), cause: leaning.because.into() };
            (shelves.of_label(leaning.number), why)
        }))
    }
}

/// Puts forward what is on the shelves of the leanings, each shelf weighed as its leaning is.
/// An item is explained by the shelf that says most for it.
pub(super) fn mixed<'q>(
    query: &'q Query<'_>,
    leanings: &[Leaning<'q>],
    shelf_of: impl Fn(&Leaning<'q>) -> (&'q [Shelved], Why),
) -> Vec<Proposal> {
    let limit = query.proposals();
    let shelves: Vec<(&[Shelved], Why)> = leanings.iter().map(shelf_of).collect();
    let mut sums = Sums::default();
    for (shelf, ((shelved, _), leaning)) in shelves.iter().zip(leanings).enumerate() {
        for shelved in shelved.iter().filter(|shelved| query.wants(shelved.hash)).take(limit) {
            sums.add(shelved.hash, shelved, leaning.weight * shelved.share, shelf);
        }
    }
    let best = sums.best(limit, |a, b| a.item.cmp(&b.item));
    let proposal = |found: &Sum<&Shelved>| Proposal {
        item: Arc::clone(&found.item.item),
        hash: found.item.hash,
        score: found.score,
        why: shelves[found.cause].1.clone(),
    };
    best.iter().map(proposal).collect()
}

/// What several causes say for an item together.
pub(super) struct Sum<T> {
    pub(super) item: T,
    pub(super) score: f32,
    /// The most that one of them says for it, and which.
    most: f32,
    pub(super) cause: usize,
}

/// The items that causes speak for, by hash.
pub(super) struct Sums<T> {
    places: HashMap<u64, usize, Prehashed>,
    sums: Vec<Sum<T>>,
}

impl<T> Default for Sums<T> {
    fn default() -> Self {
        Self { places: HashMap::default(), sums: Vec::new() }
    }
}

impl<T> Sums<T> {
    /// Adds what a cause says for an item.
    pub(super) fn add(&mut self, hash: u64, item: T, score: f32, cause: usize) {
        let place = *self.places.entry(hash).or_insert_with(|| {
            self.sums.push(Sum { item, score: 0.0, most: 0.0, cause });
            self.sums.len() - 1
        });
        let sum = &mut self.sums[place];
        sum.score += score;
        if score > sum.most {
            (sum.most, sum.cause) = (score, cause);
        }
    }

    /// The best `limit` in order; `equals` orders those of one score.
    pub(super) fn best(self, limit: usize, equals: impl Fn(&T, &T) -> Ordering) -> Vec<Sum<T>> {
        let order = |a: &Sum<T>, b: &Sum<T>| {
            b.score.total_cmp(&a.score).then_with(|| equals(&a.item, &b.item))
        };
        let mut all = self.sums;
        if all.len() > limit {
            all.select_nth_unstable_by(limit, order);
            all.truncate(limit);
        }
        all.sort_unstable_by(order);
        all
    }
}

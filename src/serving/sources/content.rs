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

/// An item that is on some of the shelves.
struct Found<'q> {
    shelved: &'q Shelved,
    score: f32,
    /// The most that one shelf says for it, and which.
    most: f32,
    shelf: usize,
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
    let mut places: HashMap<u64, usize, Prehashed> = HashMap::default();
    let mut found: Vec<Found<'_>> = Vec::new();
    for (shelf, ((shelved, _), leaning)) in shelves.iter().zip(leanings).enumerate() {
        for shelved in shelved.iter().filter(|shelved| query.wants(shelved.hash)).take(limit) {
            let score = leaning.weight * shelved.share;
            let place = *places.entry(shelved.hash).or_insert_with(|| {
                found.push(Found { shelved, score: 0.0, most: 0.0, shelf });
                found.len() - 1
            });
            let found = &mut found[place];
            found.score += score;
            if score > found.most {
                (found.most, found.shelf) = (score, shelf);
            }
        }
    }
    let better = |a: &Found<'_>, b: &Found<'_>| {
        b.score.total_cmp(&a.score).then_with(|| a.shelved.item.cmp(&b.shelved.item))
    };
    keep_best(&mut found, limit, better);
    let proposal = |found: &Found<'_>| Proposal {
        item: Arc::clone(&found.shelved.item),
        hash: found.shelved.hash,
        score: found.score,
        why: shelves[found.shelf].1.clone(),
    };
    found.iter().map(proposal).collect()
}

/// Keeps the first `limit` in order.
pub(super) fn keep_best<T>(
    all: &mut Vec<T>,
    limit: usize,
    order: impl Fn(&T, &T) -> Ordering + Copy,
) {
    if all.len() > limit {
        all.select_nth_unstable_by(limit, order);
        all.truncate(limit);
    }
    all.sort_unstable_by(order);
}

//! Content: what is most watched under the labels that the user likes.

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
    let mut places: HashMap<u64, usize, Prehashed> = HashMap::default();
    let mut found: Vec<(Proposal, f32)> = Vec::new();
    for leaning in leanings {
        let (shelf, why) = shelf_of(leaning);
        let wanted = shelf.iter().filter(|shelved| query.wants(shelved.hash));
        for shelved in wanted.take(query.proposals()) {
            let score = leaning.weight * shelved.share;
            match places.get(&shelved.hash) {
                None => {
                    places.insert(shelved.hash, found.len());
                    let item = Arc::clone(&shelved.item);
                    let why = why.clone();
                    found.push((Proposal { item, hash: shelved.hash, score, why }, score));
                }
                Some(&place) => {
                    let (proposal, best) = &mut found[place];
                    proposal.score += score;
                    if score > *best {
                        *best = score;
                        proposal.why = why.clone();
                    }
                }
            }
        }
    }
    let mut proposals: Vec<Proposal> = found.into_iter().map(|(proposal, _)| proposal).collect();
    proposals.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.item.cmp(&b.item)));
    proposals.truncate(query.proposals());
    proposals
}

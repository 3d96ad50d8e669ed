//! Fresh: what was published lately under the labels that the user likes. New items have no
//! watchers yet: no source that goes by what people did can find them.

use super::content::mixed;
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Leaning, Query, SourceKind, Why};

/// Labels looked at.
const LABELS: usize = 6;
/// The weight of what is new under any label, next to 1 for the user's own.
const ANY: f32 = 0.1;

/// See the module.
pub struct Fresh;

impl CandidateSource for Fresh {
    fn kind(&self) -> SourceKind {
        SourceKind::Fresh
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let catalog = query.world.catalog;
        let mut leanings: Vec<Leaning<'_>> =
            query.taste.labels.iter().take(LABELS).copied().collect();
        leanings.push(Leaning { number: ANY_LABEL, weight: ANY, because: "" });
        Ok(mixed(query, &leanings, |leaning| match leaning.number {
            ANY_LABEL => (catalog.shelves().fresh(None), Why::New { label: None }),
            label => {
                let why = Why::New { label: Some(catalog.label(label).into()) };
                (catalog.shelves().fresh(Some(label)), why)
            }
        }))
    }
}

/// No label has this number: a catalog of so many would not fit in memory.
const ANY_LABEL: u32 = u32::MAX;

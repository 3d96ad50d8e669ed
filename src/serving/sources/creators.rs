//! Creators: more of those whom the user follows by habit.

use super::content::mixed;
use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Query, SourceKind, Why};

/// See the module.
pub struct Creators;

impl CandidateSource for Creators {
    fn kind(&self) -> SourceKind {
        SourceKind::Creators
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let shelves = query.world.catalog.shelves();
        Ok(mixed(query, &query.taste.creators, |leaning| {
            let why = Why::FromCreator { cause: leaning.because.into() };
            (shelves.of_creator(leaning.number), why)
        }))
    }
}

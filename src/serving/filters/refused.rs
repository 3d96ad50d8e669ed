//! What the user has said that they do not want: items, and all of creators and categories.

use crate::serving::pipeline::Filter;
use crate::serving::query::{Candidate, Query};

/// See the module.
pub struct Refused;

impl Filter for Refused {
    fn name(&self) -> &'static str {
        "refused"
    }

    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool {
        !query.refused.has(candidate.hash, query.world.catalog)
    }
}

//! What the platform has delisted or blocked, and what it never listed where it must have.

use crate::catalog::Standing;
use crate::serving::pipeline::Filter;
use crate::serving::query::{Candidate, Query};

/// See the module.
pub struct Listed;

impl Filter for Listed {
    fn name(&self) -> &'static str {
        "listed"
    }

    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool {
        match candidate.standing(query) {
            Standing::Listed(listing) => !listing.is_blocked(),
            Standing::Delisted => false,
            Standing::Unknown => !query.world.catalog.is_required(),
        }
    }
}

//! What is not available where and when the list is wanted.

use crate::serving::pipeline::Filter;
use crate::serving::query::{Candidate, Query};

/// See the module.
pub struct Available;

impl Filter for Available {
    fn name(&self) -> &'static str {
        "available"
    }

    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool {
        let listing = candidate.listing(query);
        listing.is_none_or(|listing| listing.is_available(&query.country, query.at))
    }
}

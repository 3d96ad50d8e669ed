//! What is older than the request allows, or of unknown age where it names a limit.

use crate::serving::pipeline::Filter;
use crate::serving::query::{Candidate, Query};

/// See the module.
pub struct Age;

impl Filter for Age {
    fn name(&self) -> &'static str {
        "age"
    }

    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool {
        query.request.max_age_days.is_none_or(|days| {
            candidate.listing(query).is_some_and(|listing| listing.is_younger(days, query.at))
        })
    }
}

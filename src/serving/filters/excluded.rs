//! What the request excludes, and the item being watched.

use crate::serving::pipeline::Filter;
use crate::serving::query::{Candidate, Query};

/// See the module.
pub struct Excluded;

impl Filter for Excluded {
    fn name(&self) -> &'static str {
        "excluded"
    }

    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool {
        let request = query.request;
        let is = |item: &crate::ids::ItemId| *item.as_str() == *candidate.item;
        !request.exclude.iter().any(is) && !request.context_item.as_ref().is_some_and(is)
    }
}

//! Categories that the request leaves out, and items of none that it names where it names some.

use crate::event::Request;
use crate::serving::pipeline::Filter;
use crate::serving::query::{Candidate, Query};

/// See the module.
pub struct Categories;

impl Filter for Categories {
    fn name(&self) -> &'static str {
        "categories"
    }

    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool {
        let Request { categories: wanted, blocked_categories: blocked, .. } = query.request;
        if wanted.is_empty() && blocked.is_empty() {
            return true;
        }
        let listing = candidate.listing(query);
        let has_any_of = |names: &[String]| {
            listing.is_some_and(|l| l.categories().any(|own| names.iter().any(|n| n == own)))
        };
        !has_any_of(blocked) && (wanted.is_empty() || has_any_of(wanted))
    }
}

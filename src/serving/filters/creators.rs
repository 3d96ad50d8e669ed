//! Creators that the request leaves out, and those that it does not name where it names some.

use crate::event::Request;
use crate::serving::pipeline::Filter;
use crate::serving::query::{Candidate, Query};

/// See the module.
pub struct Creators;

impl Filter for Creators {
    fn name(&self) -> &'static str {
        "creators"
    }

    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool {
        let Request { creators: wanted, blocked_creators: blocked, .. } = query.request;
        if wanted.is_empty() && blocked.is_empty() {
            return true;
        }
        let creator = candidate.listing(query).map_or("", |listing| listing.creator());
        let is = |name: &String| name == creator;
        !blocked.iter().any(is) && (wanted.is_empty() || wanted.iter().any(is))
    }
}

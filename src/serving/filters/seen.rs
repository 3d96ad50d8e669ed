//! What the user has watched or clicked: exactly within the history, by fingerprint beyond it.

use crate::serving::pipeline::Filter;
use crate::serving::query::{Candidate, Query, SourceKind};

/// See the module.
pub struct Seen;

impl Filter for Seen {
    fn name(&self) -> &'static str {
        "seen"
    }

    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool {
        // To go on watching, an item must have been seen.
        query.request.include_seen
            || candidate.is_from(SourceKind::Unfinished)
            || !query.has_had(candidate)
    }
}

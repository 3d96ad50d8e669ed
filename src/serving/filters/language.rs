//! What is known to be in none of the languages that the request names.

use crate::serving::pipeline::Filter;
use crate::serving::query::{Candidate, Query};

/// See the module.
pub struct Language;

impl Filter for Language {
    fn name(&self) -> &'static str {
        "language"
    }

    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool {
        let languages = &query.request.languages;
        languages.is_empty()
            || candidate.listing(query).is_none_or(|listing| listing.speaks(languages))
    }
}

//! Side effects: what happens with a list once it is made.

use metrics::counter;

use super::pipeline::{Scored, SideEffect};
use super::query::Query;
use crate::telemetry::names;

/// Counts served items by the source that put them forward most strongly.
pub struct CountServed;

impl SideEffect for CountServed {
    fn name(&self) -> &'static str {
        "count_served"
    }

    fn after(&self, _query: &Query<'_>, list: &[Scored]) {
        for scored in list {
            counter!(names::ITEMS_SERVED, "source" => scored.source()).increment(1);
        }
    }
}

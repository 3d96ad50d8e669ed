//! From a model to what serves: its records in the topic `models`, and the word on which one serves
//! in `model-control`.
//!
//! Enters: a basis, what is known of it, a decision; what workers say, what came of lists. Leaves:
//! records, and from records the basis again, whole and checked; who answers a request; the next
//! decision. Never serves, never trains.

mod control;
mod decide;
mod fleet;
mod golden;
mod models;
mod outcomes;
mod routing;
#[cfg(test)]
mod tests;

/// The file of a version in the registry that holds its golden lists.
pub const GOLDEN_FILE: &str = "golden.json";

pub use control::{CONTROLLED, Control, ControlError, Controller};
pub use decide::{Decision, Plan, View, begin, decide, promote, reject, roll_back};
pub use fleet::{Fleet, quantile_bin};
pub use golden::{golden_lists, verify_golden};
pub use models::{Announced, Assembly, Refused, keys, records};
pub use outcomes::Outcomes;
pub use routing::{ALL_USERS, Route, Routing};

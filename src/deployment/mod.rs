//! From a model to what serves: its records in the topic `models`, and the word on which one serves
//! in `model-control`.
//!
//! Enters: a basis, what is known of it, a decision. Leaves: records, and from records the basis
//! again, whole and checked. Never serves, never trains.

mod control;
mod golden;
mod models;

pub use control::{CONTROLLED, Control, ControlError, Controller};
pub use golden::{golden_lists, verify_golden};
pub use models::{Announced, Assembly, keys, records};

//! Filters: what must not be in a list. Each is one file.

mod excluded;
mod seen;

pub use excluded::Excluded;
pub use seen::Seen;

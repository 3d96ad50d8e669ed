//! Filters: what must not be in a list. Each is one file.
//!
//! What a request wants must be known of an item, what it leaves out must be known of an item: an
//! item of which nothing is known is of no wanted creator, and of no blocked one.

mod age;
mod available;
mod categories;
mod creators;
mod excluded;
mod language;
mod listed;
mod refused;
mod seen;

pub use age::Age;
pub use available::Available;
pub use categories::Categories;
pub use creators::Creators;
pub use excluded::Excluded;
pub use language::Language;
pub use listed::Listed;
pub use refused::Refused;
pub use seen::Seen;

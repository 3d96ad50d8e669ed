//! Sources: where candidates come from. Each is one file.

mod neighbours;
mod trending;
mod unfinished;

pub use neighbours::Neighbours;
pub use trending::Trending;
pub use unfinished::Unfinished;

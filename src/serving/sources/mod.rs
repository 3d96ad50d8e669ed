//! Sources: where candidates come from. Each is one file.

mod content;
mod creators;
mod fresh;
mod neighbours;
mod trending;
mod unfinished;

pub use content::Content;
pub use creators::Creators;
pub use fresh::Fresh;
pub use neighbours::Neighbours;
pub use trending::Trending;
pub use unfinished::Unfinished;

//! Sources: where candidates come from. Each is one file.

mod co_watched;
mod content;
mod creators;
mod fresh;
mod nearest;
mod nearest_lifted;
mod neighbours;
mod transitions;
mod trending;
mod unfinished;

pub use co_watched::CoWatched;
pub use content::Content;
pub use creators::Creators;
pub use fresh::Fresh;
pub use nearest::Nearest;
pub use nearest_lifted::NearestLifted;
pub use neighbours::Neighbours;
pub use transitions::Transitions;
pub use trending::Trending;
pub use unfinished::Unfinished;

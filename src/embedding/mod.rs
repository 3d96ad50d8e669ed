//! Item vectors that learn between retrains, and the index that searches them.
//!
//! Enters: a user vector folded in from the history before an event, and the item that was liked.
//! Leaves: that item's live vector, and its bytes for the item's state; from all items' vectors,
//! the nearest to a query. It never reads user state or a clock, and learns no item from another:
//! an update depends on the basis, the user's history and the item's own events in the order of
//! its partition. So there is one writer an item, and partitions need no order among them.
//!
//! | module | does |
//! |---|---|
//! | [`online`] | the update and the bytes of a live vector |
//! | `item` | what is kept of one item, and how an interaction changes it |
//! | `tables` | what every worker knows of all items: vectors by basis, statistics, names |
//! | `first_basis` | a basis from the interactions at hand |
//! | [`content`] | where the vector of a new item begins |
//! | `beginnings` | gives items that nobody has watched the vector of their content |
//! | `index` | the nearest items, while vectors come, move and go |

mod beginnings;
pub mod content;
mod first_basis;
mod index;
mod item;
pub mod online;
mod tables;

pub use beginnings::Beginnings;
pub use content::{ContentConfig, ContentFeature, ContentMap};
pub use first_basis::{Choice, FirstBasis, FirstBasisLimits, Settings, TrainedBasis, Trial};
pub use index::{Found, IndexError, IndexStats, ItemIndex, Reach};
pub use item::{
    Decayed, ITEM_STATE_VERSION, ItemCounts, ItemFeatures, ItemFold, ItemState, LiveBasis,
};
pub use online::{EmbeddingError, ItemVector, Lms, LmsConfig, Origin};
pub use tables::{ItemTables, Nearest, TablesConfig, TablesError};

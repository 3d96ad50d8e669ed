//! Item vectors that learn between retrains.
//!
//! Enters: a user vector folded in from the history before an event, and the item that was liked.
//! Leaves: that item's live vector, and its bytes for the item's state. It never reads user state,
//! a clock or another item: an update depends on the basis, the user's history and the item's own
//! events in the order of its partition. So there is one writer an item, and partitions need no
//! order among them.
//!
//! | module | does |
//! |---|---|
//! | [`online`] | the update and the bytes of a live vector |
//! | [`content`] | where the vector of a new item begins |

pub mod content;
pub mod online;

pub use content::{ContentConfig, ContentFeature, ContentMap};
pub use online::{ItemVector, Lms, LmsConfig, Origin};

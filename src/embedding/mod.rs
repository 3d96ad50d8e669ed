//! Items as vectors: what each model version knows of every item, in memory, to be searched.
//!
//! Enters: item vectors, as trained and as learnt since. Leaves: the nearest items of a query.
//! Never reads user state, never a clock.

mod index;

pub use index::{Found, IndexError, IndexStats, ItemIndex, Reach};

//! RocksDB stores, one per user shard and one per item shard, with their offsets in the same batch.
//!
//! Enters: fold events with their log positions. Leaves: user states, digests. A shard's events
//! are first folded into a bounded map in memory ([`Pending`]), which reads look at, and are
//! committed with their offsets a few times a second: the topic is the write-ahead log. Never
//! knows what a topic's records mean; what an event does to a state is `feature`'s question.

mod bulk;
mod checkpoint;
mod database;
pub mod hot;
mod items;
mod joined;
mod pending;
mod progress;
mod shard;
pub mod snapshots;
mod store;
mod sweep;
#[cfg(test)]
mod tests;

pub use items::{ItemDigest, ItemStore};
pub use joined::{Row, user_row};
pub use pending::{Origin, Pending, PendingEvent};
pub use progress::{Anchor, Input, Progress, SourceProgress};
pub use shard::{Folding, Frozen, NotedList, Shard, UserBytes};
pub use store::{Access, AsOf, Digest, ShardStore, Stats, StoreError, StoreResources, identity_of};

//! The hot tier: states of recently active users in a Redis that all workers share.
//!
//! Enters: committed states with the log positions they are folded to. Leaves: the same, to
//! whoever answers for a shard that is not restored yet. A value is a function of the log like
//! the store's, so it needs no lock and no owner: [`Version`] says which of two is newer, and
//! Redis keeps that one. The tier is never needed: what it cannot take or tell is left out, and
//! the topics and RocksDB have all of it. Knows no clock: callers say when they try.

mod breaker;
mod connection;
mod queue;
mod value;

pub use breaker::{Backoff, Breaker, BreakerState, Permit};
pub use connection::{HotConnection, HotError, HotServer, HotTls, Put};
pub use queue::{HotQueue, Offered};
pub use value::{HotDamage, HotIdentity, HotValue, Version};

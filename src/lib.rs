//! Driftline: an event-driven streaming recommender. See ARCHITECTURE.md for the rooms.

pub mod config;
pub mod event;
pub mod feature;
pub mod ids;
pub mod kafka;
pub mod state;
pub mod telemetry;
pub mod time;

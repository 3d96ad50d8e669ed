//! Driftline: an event-driven streaming recommender. See ARCHITECTURE.md for the rooms.

pub mod catalog;
pub mod cli;
pub mod client;
pub mod config;
pub mod dataset;
pub mod deployer;
pub mod deployment;
pub mod drift;
pub mod embedding;
pub mod evaluation;
pub mod event;
pub mod experiment;
pub mod feature;
#[cfg(test)]
mod fixtures;
pub mod gateway;
pub mod global;
pub mod ids;
pub mod kafka;
pub mod lake;
pub mod model;
pub mod monitor;
pub mod objects;
pub mod quality;
pub mod ranking;
pub mod registry;
pub mod runtime;
pub mod serving;
pub mod simulation;
pub mod state;
pub mod telemetry;
pub mod time;
pub mod training;
pub mod trigger;
pub mod worker;

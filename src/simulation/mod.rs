//! A synthetic video platform: people with tastes, a catalogue with creators, and behaviour that
//! answers whatever list it is shown. It is what `simulate` and `demo` drive, and what scenarios
//! and experiments are measured against.
//!
//! Enters: a [`WorldConfig`] with a seed, lists of recommended items, [`Shift`]s, or a [`Scenario`]
//! that plans them.
//! Leaves: [`Visit`]s in event-time order, and [`Response`]s with the clicks and watches they
//! caused, with session and event ids that are the same on every run.
//!
//! ```text
//! next_visit ──▶ Intent::Feed   ──▶ (ask a recommender) ──▶ respond(visit, list) ──▶ actions
//!            └─▶ Intent::Search ──▶ organic(visit) ──────────────────────────────▶ actions
//! ```
//!
//! Randomness is drawn per occasion, not from one running generator: the dice of "user 7 looks
//! at item 9 on page 2 of session 4" are the same whatever was served before. Two recommenders
//! run over the same seed therefore meet the same people in the same moods, and their difference
//! is their own.
//!
//! It must never read a clock, do I/O, or be used by serving: it knows the true tastes.

mod behaviour;
mod catalog;
mod config;
mod dice;
mod fault;
mod people;
mod scenario;
mod shift;
mod taste;
mod world;

#[cfg(test)]
mod tests;

pub use behaviour::{Action, Response};
pub use catalog::Item;
pub use config::{WorldConfig, WorldError};
pub use fault::{Fate, Fault};
pub use people::Person;
pub use scenario::{Asked, Plan, Scenario, Truth};
pub use shift::Shift;
pub use world::{Intent, Visit, World};

//! Which arm of an experiment a user is in, and what the arms' metrics say.
//!
//! Enters: names, shares, sums of windows. Leaves: assignments, and comparisons that hold at any
//! number of looks. Never: I/O, a clock, randomness. Who is in which arm is a function of names
//! alone, so every worker says the same without asking anybody.
//!
//! - [`definition`] is an experiment that makes sense, [`settings`] what an arm may serve otherwise.
//! - [`running`] is how all of them together serve a request.
//! - [`hash`] places a user: GrowthBook's open specification, number for number.
//! - [`sequential`] compares two arms as often as one likes.
//! - [`report`] is what an experiment says so far.
//! - [`tallies`] adds windows of `metrics` up to what is compared.
//! - [`ratio_mismatch`] finds that users did not land in arms as they should have.

pub mod definition;
pub mod hash;
pub mod ratio_mismatch;
pub mod report;
pub mod running;
pub mod sequential;
pub mod settings;
pub mod tallies;
#[cfg(test)]
mod tests;

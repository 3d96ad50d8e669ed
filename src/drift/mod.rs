//! Whether something has changed, and the evidence for it.
//!
//! Enters: windows of metrics, values of streams, histograms of features, one at a time and in
//! order. Leaves: verdicts with their evidence. Never: I/O, a clock, a decision about what to do.
//! All state can be written by serde and read back; a replay of the same input gives the same
//! verdicts, bit for bit.
//!
//! - [`seasonal`] is the main alarm: windows of a rate against its season, many metrics pooled.
//! - [`detectors`] are those that are known by name from River and MOA.
//! - [`distribution`] compares what is live with the reference window of a model.

pub mod detectors;
pub mod distribution;
pub mod seasonal;
#[cfg(test)]
mod tests;

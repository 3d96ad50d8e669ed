//! The maths of item vectors and their format on disk, and of judging scores.
//!
//! Enters: interactions as pairs of numbers, histories as positions, bytes. Leaves: trained item
//! vectors, user vectors, bytes. Part of the floor. It does no I/O, looks at no clock, imports ids
//! and times only, and gives the same bytes for the same input on every machine of an
//! architecture, whatever the number of threads.
//!
//! | module | does |
//! |---|---|
//! | [`vector`] | inner products and sums in fixed lanes |
//! | [`ials`] | trains user and item vectors |
//! | [`ridge`] | solves the normal equations of ridge regressions |
//! | [`Basis`] | the frozen outcome of a training run, with its byte format |
//! | [`FoldIn`] | history → user vector |
//! | [`decayed`], [`HistoryWeights`] | forgetting |
//! | [`Examination`] | which places of a list are looked at |
//! | [`ConditionalLogit`] | which of several options is chosen |
//! | [`outcomes`] | AUC, log loss and calibration of scores, whoever made them |

mod basis;
mod cholesky;
mod decay;
mod examination;
mod fold_in;
pub mod ials;
mod logit;
pub mod outcomes;
mod parallel;
mod principal;
pub mod ridge;
pub mod vector;

pub use basis::{Basis, BasisVersion, Hyperparameters, Position, Trained, Training};
pub use decay::{HistoryWeights, decayed};
pub use examination::{Curve, Curves, Examination};
pub use fold_in::FoldIn;
pub use logit::ConditionalLogit;
pub use vector::{Dim, Vectors};

/// Why something cannot be trained or read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// A dimension that SIMD lanes do not divide.
    #[error("{components} components: use a multiple of 8 from 8 to 1024")]
    Dim {
        /// What was asked for.
        components: usize,
    },
    /// Lengths that do not go together.
    #[error("{given} {what} where {of} belong")]
    Shape {
        /// What there is too many or too few of.
        what: &'static str,
        /// How many.
        given: usize,
        /// Of how many there should be one each, or whole rows.
        of: usize,
    },
    /// A number of a user or item that is not there.
    #[error("{what} {number} is not below their number, {of}")]
    OutOfRange {
        /// User or item.
        what: &'static str,
        /// Its number.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// A hyperparameter that must be positive.
    #[error("{name} is {value}; it must be positive and finite")]
    NotPositive {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f32,
    },
    /// A vector that overflowed, or was none.
    #[error("a component of a vector is not finite: train with more regularization")]
    NotFinite,
    /// Nothing to train on.
    #[error("there are no interactions to train on")]
    NoInteractions,
    /// The caller broke off.
    #[error("training was stopped after {done} of {of} epochs")]
    Stopped {
        /// Epochs done.
        done: u32,
        /// Epochs in all.
        of: u32,
    },
    /// An item id that comes twice, or is empty or too long.
    #[error("item id {id:?} is empty, too long or there twice")]
    ItemId {
        /// The id.
        id: String,
    },
    /// Bytes that are no basis, or a damaged one.
    #[error("not a readable basis: {0}; fetch it again, or train a new one")]
    Corrupt(&'static str),
}

//! Latent taste vectors. Enters: directions and dice. Leaves: unit vectors whose dot product is
//! how well a person and an item fit, from -1 to 1. Never seen by a recommender.

use super::dice::Dice;

/// Dimensions of taste. With fewer, a dozen categories cannot be told apart; with many more,
/// a person's taste would need more watches to learn than most people ever give.
pub(super) const DIMENSIONS: usize = 8;

/// A direction in taste space.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Taste([f64; DIMENSIONS]);

impl Taste {
    /// The empty sum, to be added to.
    pub(super) const ZERO: Taste = Taste([0.0; DIMENSIONS]);

    /// A direction with no preference at all.
    pub(super) fn random(dice: &mut Dice) -> Self {
        Taste(std::array::from_fn(|_| dice.normal())).unit()
    }

    /// `self + weight · other`.
    pub(super) fn plus(self, weight: f64, other: Taste) -> Self {
        Taste(std::array::from_fn(|d| self.0[d] + weight * other.0[d]))
    }

    /// Scaled to length 1; a zero vector stays zero.
    pub(super) fn unit(self) -> Self {
        let length = self.dot(self).sqrt();
        if length > 0.0 { Taste(self.0.map(|x| x / length)) } else { self }
    }

    /// The dot product: for unit vectors, the cosine.
    pub(super) fn dot(self, other: Taste) -> f64 {
        self.0.iter().zip(other.0).map(|(a, b)| a * b).sum()
    }
}

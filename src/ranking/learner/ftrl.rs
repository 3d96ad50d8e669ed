//! Follow-the-regularized-leader with a learning rate of its own for each weight (McMahan et al., "Ad
//! Click Prediction: a View from the Trenches", KDD 2013), without the L1 term.
//!
//! w = −z / ((β + √n)/α + λ₂); with the gradient g: z += g − (√(n + g²) − √n)/α · w, n += g².

/// What it is learnt by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    /// α: how far a weight moves.
    pub rate: f32,
    /// λ₂: how strongly weights are drawn to 0.
    pub ridge: f32,
}

/// β: keeps the first steps short.
const BETA: f32 = 1.0;

/// What a weight is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub z: f32,
    pub n: f32,
}

impl Rule {
    /// What gives the weight `w` before anything is learnt.
    pub fn beginning(self, w: f32) -> Memory {
        Memory { z: -w * (BETA / self.rate + self.ridge), n: 0.0 }
    }

    /// The weight.
    pub fn weight(self, Memory { z, n }: Memory) -> f32 {
        -z / ((BETA + n.sqrt()) / self.rate + self.ridge)
    }

    /// Takes a step against the gradient, and says what the weight, `w` until now, is then.
    pub fn step(self, memory: &mut Memory, w: f32, gradient: f32) -> f32 {
        let n = memory.n + gradient * gradient;
        memory.z += gradient - (n.sqrt() - memory.n.sqrt()) / self.rate * w;
        memory.n = n;
        self.weight(*memory)
    }
}

//! What surfaces lack of being calibrated: an odds multiplier each.
//!
//! The model as a whole calibrates itself, small surfaces drift. (Σy + 20) / (Σp + 20) over the exposures
//! of the last days, p as it was without the multiplier.

use crate::ranking::TARGETS;
use crate::ranking::counter::{Counter, Rates, Sums, Trial};
use crate::ranking::math::ln;
use crate::ranking::table::{Table, Touched};
use crate::time::{EventTime, HOUR_MS};

const HALF_LIFE_MS: [i64; 1] = [24 * HOUR_MS];
const PRIOR: f32 = 20.0;
/// Surfaces known at a time.
const SURFACES: usize = 1_024;

/// Σy and Σp of a surface.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Surface {
    pub came: Counter<Rates, 1>,
    pub predicted: Counter<Rates, 1>,
}

impl Touched for Surface {
    fn touched(&self) -> EventTime {
        self.came.at
    }
}

/// Of all surfaces.
#[derive(Clone, Debug)]
pub(super) struct Surfaces(pub Table<Surface>);

impl Default for Surfaces {
    fn default() -> Self {
        Self(Table::new(SURFACES))
    }
}

impl Surfaces {
    /// Learns what came of an exposure that had the probabilities `predicted`.
    pub fn learn(
        &mut self,
        surface: u64,
        at: EventTime,
        outcomes: [f32; TARGETS],
        predicted: [f32; TARGETS],
    ) {
        let known = self.0.entry(surface);
        let trial = |outcomes| Trial { at, outcomes, base: [0.0; TARGETS] };
        known.came.learn(&HALF_LIFE_MS, &trial(outcomes));
        known.predicted.learn(&HALF_LIFE_MS, &trial(predicted));
    }

    /// What is added to the log-odds on a surface, by target. As of its newest exposure: while a
    /// surface is silent nothing is known to have changed.
    pub fn shift(&self, surface: u64) -> [f32; TARGETS] {
        let Some(known) = self.0.get(surface) else { return [0.0; TARGETS] };
        let ([came], [predicted]) = (known.came.sums, known.predicted.sums);
        let (came, predicted) = (came.rates().s, predicted.rates().s);
        std::array::from_fn(|t| ln((came[t] + PRIOR) / (predicted[t] + PRIOR)))
    }
}

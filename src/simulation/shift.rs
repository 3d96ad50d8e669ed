//! Changes of the world at an event time: what drift detection and retraining are tried on.
//! Enters: a [`Shift`] and its time. Leaves: people with other tastes. Never changes what has
//! already happened.

use crate::time::EventTime;

use super::catalog::Catalog;
use super::dice::{Dice, Purpose};
use super::people::Person;

/// A change of the world. It takes effect before the first visit at or after its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shift {
    /// A share of people turn to other categories: each of their likes moves `by` categories
    /// on, in the order of category names, round the end. Their own quirks stay.
    TasteShift {
        /// When it happens.
        at: EventTime,
        /// Share of people, 0 to 1; who they are is drawn from the world's seed.
        share: f64,
        /// How many categories on; 0 or a multiple of their number changes nothing.
        by: usize,
    },
}

impl Shift {
    /// When it happens.
    pub fn at(&self) -> EventTime {
        match *self {
            Shift::TasteShift { at, .. } => at,
        }
    }

    /// Applies the `number`th shift of a world, counted in the order they take effect.
    pub(super) fn take_effect(
        self,
        seed: u64,
        number: u64,
        people: &mut [Person],
        catalog: &Catalog,
    ) {
        match self {
            Shift::TasteShift { share, by, .. } => {
                for (index, person) in people.iter_mut().enumerate() {
                    let occasion = [number, index as u64, 0, 0];
                    if Dice::new(seed, Purpose::Shift, occasion).chance(share) {
                        for (category, _) in &mut person.likes {
                            *category = (*category + by) % catalog.categories.len();
                        }
                        person.settle(catalog);
                    }
                }
            }
        }
    }
}

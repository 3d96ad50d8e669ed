//! What a candidate was served with, as examples carry it: features, and what they scored.

use super::TARGETS;
use super::features::{DENSE, Features, SLOTS};
use super::learner::Logged;

/// Features of an exposure and the log-odds that they had when it was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Served {
    /// As they were.
    pub features: Features,
    /// As they were.
    pub logged: Logged,
}

/// Numbers before the ids of a record.
const HEAD: usize = DENSE + 2 * TARGETS;
/// Ids of an exposure, at most. A record of more was not written by a ranker.
const MOST_IDS: usize = 512;

/// Why numbers are no record of a served candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// There are too few, or too many.
    #[error("{found} numbers, where a served candidate has {HEAD} and up to {MOST_IDS} ids")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// One is not finite or no slot.
    #[error("number {place} of a served candidate is not finite, or no slot of an id")]
    Number {
        /// Its place, from 0.
        place: usize,
    },
}

impl Served {
    /// Dense features, log-odds of the dense features and of all by target, then the slots of ids, which are
    /// whole numbers that an f32 holds.
    pub fn to_record(&self) -> Vec<f32> {
        let Self { features, logged } = self;
        let mut record = Vec::with_capacity(HEAD + features.ids.len());
        record.extend_from_slice(&features.dense);
        record.extend_from_slice(&logged.dense);
        record.extend_from_slice(&logged.all);
        record.extend(features.ids.iter().map(|&slot| slot as f32));
        record
    }

    /// Reads what [`Served::to_record`] gave, as examples carry it.
    ///
    /// # Errors
    /// [`NotServed`] where it is something else: the features of another schema.
    pub fn from_record(record: &[f32]) -> Result<Self, NotServed> {
        if !(HEAD..=HEAD + MOST_IDS).contains(&record.len()) {
            return Err(NotServed::Length { found: record.len() });
        }
        let number = |place: usize| {
            let value = Some(record[place]).filter(|value| value.is_finite());
            value.ok_or(NotServed::Number { place })
        };
        let mut served = Self::default();
        for (place, value) in served.features.dense.iter_mut().enumerate() {
            *value = number(place)?;
        }
        for target in 0..TARGETS {
            served.logged.dense[target] = number(DENSE + target)?;
            served.logged.all[target] = number(DENSE + TARGETS + target)?;
        }
        for place in HEAD..record.len() {
            let slot = number(place)?;
            if slot.fract() != 0.0 || !(0.0..SLOTS as f32).contains(&slot) {
                return Err(NotServed::Number { place });
            }
            served.features.ids.push(slot as u32);
        }
        Ok(served)
    }
}

const _: () = assert!(SLOTS <= 1 << 24, "an f32 holds whole numbers up to 2^24");

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Served {
        let mut served = Served::default();
        served.features.dense.iter_mut().enumerate().for_each(|(n, x)| *x = n as f32 / 7.0 - 3.0);
        served.features.ids = vec![0, 77, SLOTS as u32 - 1];
        served.logged = Logged { dense: [0.1, -2.5], all: [0.3, -2.25] };
        served
    }

    #[test]
    fn a_record_gives_back_what_was_served() {
        assert_eq!(Served::from_record(&served().to_record()), Ok(served()));
        let none = Served { features: Features::default(), ..served() };
        assert_eq!(Served::from_record(&none.to_record()), Ok(none));
    }

    #[test]
    fn what_no_ranker_served_is_refused_with_its_place() {
        let record = served().to_record();
        let short = &record[..HEAD - 1];
        assert_eq!(Served::from_record(short), Err(NotServed::Length { found: HEAD - 1 }));
        let long = vec![0.0; HEAD + MOST_IDS + 1];
        assert!(matches!(Served::from_record(&long), Err(NotServed::Length { .. })));
        for (place, value) in [
            (4, f32::NAN),
            (HEAD - 1, f32::INFINITY),
            (HEAD, 0.5),
            (HEAD + 1, -1.0),
            (HEAD + 2, SLOTS as f32),
        ] {
            let mut broken = record.clone();
            broken[place] = value;
            assert_eq!(Served::from_record(&broken), Err(NotServed::Number { place }));
        }
    }
}

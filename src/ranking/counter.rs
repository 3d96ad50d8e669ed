//! Sums over what came of exposures, that decay with event time.
//!
//! For a key: N exposures, and for each target y the sums S = Σy, E = Σb and V = Σb(1−b), where b is
//! the base rate at the exposure. Sums of a half-life are held as of the newest exposure and decay when
//! they are read. So a counter is a function of the set of exposures, but for the rounding of sums.

use super::math::{left, ln, logit};
use super::{LONG_VIEW, TARGETS};
use crate::time::EventTime;

/// A half-life of sums that never decay.
pub(super) const FOREVER: i64 = i64::MAX;
/// Sums that never decay are halved at so many exposures. Far above it an f32 no longer counts by
/// ones: N would stand still while S still rose.
const MOST: f32 = 4_194_304.0;

/// What came of one exposure, and the base rates when it was made, in the order of targets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub at: EventTime,
    pub outcomes: [f32; TARGETS],
    pub base: [f32; TARGETS],
}

/// Sums of one half-life.
pub(super) trait Sums: Copy + Default {
    /// Numbers that they are, in [`Sums::to_slice`].
    const LEN: usize;
    fn add(&mut self, trial: &Trial, weight: f32);
    fn scale(&mut self, by: f32);
    fn plus(&mut self, other: &Self);
    fn rates(&self) -> &Rates;
    fn to_slice(self, out: &mut [f32]);
    fn from_slice(values: &[f32]) -> Self;
}

/// N and S.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub n: f32,
    pub s: [f32; TARGETS],
}

impl Rates {
    /// ln(1 + N).
    pub fn count(&self) -> f32 {
        ln(1.0 + self.n)
    }

    /// The rate's log-odds, where `prior` exposures at the base rate are added to those that were.
    pub fn logit(&self, target: usize, base: &[f32; TARGETS], prior: f32) -> f32 {
        logit((self.s[target] + prior * base[target]) / (self.n + prior))
    }
}

impl Sums for Rates {
    const LEN: usize = 1 + TARGETS;

    fn add(&mut self, trial: &Trial, weight: f32) {
        self.n += weight;
        for (s, y) in self.s.iter_mut().zip(trial.outcomes) {
            *s += weight * y;
        }
    }

    fn scale(&mut self, by: f32) {
        self.n *= by;
        self.s.iter_mut().for_each(|s| *s *= by);
    }

    fn plus(&mut self, other: &Self) {
        self.n += other.n;
        self.s.iter_mut().zip(other.s).for_each(|(s, other)| *s += other);
    }

    fn rates(&self) -> &Rates {
        self
    }

    fn to_slice(self, out: &mut [f32]) {
        out[0] = self.n;
        out[1..].copy_from_slice(&self.s);
    }

    fn from_slice(values: &[f32]) -> Self {
        Self { n: values[0], s: [values[1], values[2]] }
    }
}

/// N and S, and what was expected: E and V.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Surplus {
    pub rates: Rates,
    pub e: [f32; TARGETS],
    pub v: [f32; TARGETS],
}

impl Surplus {
    /// (S − E) / (V + prior / 4): how much more came than the places that it was shown at explain, in
    /// log-odds. One Newton step from 0 of a logistic regression on one constant.
    pub fn excess(&self, target: usize, prior: f32) -> f32 {
        (self.rates.s[target] - self.e[target]) / (self.v[target] + prior / 4.0)
    }
}

impl Sums for Surplus {
    const LEN: usize = 1 + 3 * TARGETS;

    fn add(&mut self, trial: &Trial, weight: f32) {
        self.rates.add(trial, weight);
        for (target, b) in trial.base.into_iter().enumerate() {
            self.e[target] += weight * b;
            self.v[target] += weight * b * (1.0 - b);
        }
    }

    fn scale(&mut self, by: f32) {
        self.rates.scale(by);
        self.e.iter_mut().chain(&mut self.v).for_each(|sum| *sum *= by);
    }

    fn plus(&mut self, other: &Self) {
        self.rates.plus(&other.rates);
        self.e.iter_mut().zip(other.e).for_each(|(sum, other)| *sum += other);
        self.v.iter_mut().zip(other.v).for_each(|(sum, other)| *sum += other);
    }

    fn rates(&self) -> &Rates {
        &self.rates
    }

    fn to_slice(self, out: &mut [f32]) {
        self.rates.to_slice(&mut out[..3]);
        out[3..5].copy_from_slice(&self.e);
        out[5..].copy_from_slice(&self.v);
    }

    fn from_slice(values: &[f32]) -> Self {
        let rates = Rates::from_slice(&values[..3]);
        Self { rates, e: [values[3], values[4]], v: [values[5], values[6]] }
    }
}

const _: () = assert!(TARGETS == 2 && LONG_VIEW == 1, "slices of sums have places for two");

/// The sums of one key, by half-life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counter<S, const H: usize> {
    /// The newest exposure: when sums are as of.
    pub at: EventTime,
    pub sums: [S; H],
}

impl<S: Sums, const H: usize> Default for Counter<S, H> {
    fn default() -> Self {
        Self { at: EventTime::from_millis(i64::MIN), sums: [S::default(); H] }
    }
}

impl<S: Sums, const H: usize> Counter<S, H> {
    /// Adds what came of an exposure, whether or not it is the newest.
    pub fn learn(&mut self, half_lives: &[i64; H], trial: &Trial) {
        let newest = self.at.max(trial.at);
        for (sums, &half_life) in self.sums.iter_mut().zip(half_lives) {
            sums.scale(left(newest.since(self.at), half_life));
            sums.add(trial, left(newest.since(trial.at), half_life));
            Self::halve(sums);
        }
        self.at = newest;
    }

    /// The sums as of `at`, or of the newest exposure where that is later.
    pub fn read(&self, half_lives: &[i64; H], at: EventTime) -> [S; H] {
        let mut sums = self.sums;
        for (sums, &half_life) in sums.iter_mut().zip(half_lives) {
            sums.scale(left(at.since(self.at), half_life));
        }
        sums
    }

    /// Adds another counter of the same key, of other exposures.
    pub fn merge(&mut self, half_lives: &[i64; H], other: &Self) {
        let newest = self.at.max(other.at);
        let (ours, theirs) = (self.read(half_lives, newest), other.read(half_lives, newest));
        self.sums = ours;
        for (sums, other) in self.sums.iter_mut().zip(&theirs) {
            sums.plus(other);
            Self::halve(sums);
        }
        self.at = newest;
    }

    fn halve(sums: &mut S) {
        if sums.rates().n >= MOST {
            sums.scale(0.5);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::HOUR_MS;

    const HALF_LIVES: [i64; 2] = [FOREVER, 6 * HOUR_MS];

    pub fn trials() -> impl Strategy<Value = Vec<Trial>> {
        let one = (0i64..100 * HOUR_MS, any::<[bool; 2]>(), 0.05f32..0.9, 0.05f32..0.9).prop_map(
            |(at, [click, long], a, b)| Trial {
                at: EventTime::from_millis(at),
                outcomes: [f32::from(u8::from(click)), f32::from(u8::from(long))],
                base: [a, b],
            },
        );
        prop::collection::vec(one, 0..40)
    }

    /// Every sum anew, in f64.
    fn naive(trials: &[Trial], half_life: i64, at: EventTime) -> [f64; 7] {
        let mut sums = [0.0; 7];
        for trial in trials {
            let weight = match half_life {
                FOREVER => 1.0,
                _ => (-(at.since(trial.at) as f64) / half_life as f64).exp2(),
            };
            let [a, b] = trial.base.map(f64::from);
            let [y, z] = trial.outcomes.map(f64::from);
            let each = [1.0, y, z, a, b, a * (1.0 - a), b * (1.0 - b)];
            sums.iter_mut().zip(each).for_each(|(sum, one)| *sum += weight * one);
        }
        sums
    }

    fn close(found: &Surplus, expected: [f64; 7]) -> bool {
        let mut values = [0.0; 7];
        found.to_slice(&mut values);
        values.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4 * b.max(1.0))
    }

    fn counter(trials: &[Trial]) -> Counter<Surplus, 2> {
        let mut counter = Counter::default();
        trials.iter().for_each(|trial| counter.learn(&HALF_LIVES, trial));
        counter
    }

    proptest! {
        #[test]
        fn sums_are_those_of_all_exposures_in_any_order(trials in trials(), later in 0i64..HOUR_MS) {
            let newest = trials.iter().map(|t| t.at).max().unwrap_or_default();
            let at = newest.plus_millis(later);
            let read = counter(&trials).read(&HALF_LIVES, at);
            for (sums, half_life) in read.iter().zip(HALF_LIVES) {
                prop_assert!(close(sums, naive(&trials, half_life, at)), "{sums:?}");
            }
        }

        #[test]
        fn merging_parts_is_counting_the_whole(trials in trials(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(trials.len() + 1);
            let mut merged = counter(&trials[..cut]);
            merged.merge(&HALF_LIVES, &counter(&trials[cut..]));
            let at = merged.at;
            for (sums, half_life) in merged.sums.iter().zip(HALF_LIVES) {
                prop_assert!(close(sums, naive(&trials, half_life, at)), "{sums:?}");
            }
        }
    }

    #[test]
    fn what_never_decays_is_halved_before_it_stops_counting() {
        let at = EventTime::from_millis(0);
        let trial = Trial { at, outcomes: [1.0, 0.0], base: [0.5, 0.5] };
        let mut counter = Counter::<Rates, 1>::default();
        counter.sums[0] = Rates { n: MOST - 1.0, s: [MOST / 4.0, 0.0] };
        counter.at = at;
        counter.learn(&[FOREVER], &trial);
        assert_eq!(counter.sums[0].n, MOST / 2.0);
        let rate = counter.sums[0].s[0] / counter.sums[0].n;
        assert!((rate - 0.25).abs() < 1e-6, "{rate}");
    }
}

//! Changes of the world at an event time: what drift detection and retraining are tried on.
//! Enters: a [`Shift`] and its time. Leaves: a world with other tastes, items, seasons or crowds.
//! Never changes what has already happened.

use std::cmp::Reverse;
use std::f64::consts::TAU;

use crate::time::{DAY_MS, EventTime, HOUR_MS};

use super::dice::{Dice, Purpose};
use super::world::{Due, World};

/// Share of visits in a crowd that begin with looking for what the crowd has come for.
const CROWD_SEARCHES: f64 = 0.7;
/// Popularity from which on an item is too well known to be what a crowd discovers, as a share of
/// the best-known item's.
const KNOWN: f64 = 0.05;

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
    /// The same, each of them at a time of their own, drawn evenly.
    TasteDrift {
        /// When the first of them may turn.
        from: EventTime,
        /// When all of them have.
        until: EventTime,
        /// As in a [`Shift::TasteShift`].
        share: f64,
        /// As in a [`Shift::TasteShift`].
        by: usize,
    },
    /// The best-known creators leave, and all their items with them.
    CreatorsLeave {
        /// When they leave.
        at: EventTime,
        /// Share of what people find without a recommender that goes, 0 to 1: creators leave, the
        /// best-known first, until so much has gone.
        share: f64,
    },
    /// From now on people click more in the evening than in the morning, and more at the weekend.
    Season {
        /// When it begins.
        at: EventTime,
        /// What a day moves the log-odds of a click by, up at 18:00 UTC and down at 6:00.
        daily: f64,
        /// What is added to them on Saturdays and Sundays.
        weekly: f64,
    },
    /// People come who would not have come yet, for one item that few knew.
    Crowd {
        /// When the first of them come.
        from: EventTime,
        /// When it is over.
        until: EventTime,
        /// Sessions that begin meanwhile, as a multiple of the usual. Nobody comes twice for it, so
        /// at busy hours it may be less.
        times: f64,
    },
}

/// What the hour and the weekday do to clicks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Season {
    daily: f64,
    weekly: f64,
}

impl Season {
    /// What is added to the log-odds of a click.
    pub(super) fn log_odds(self, at: EventTime) -> f64 {
        let hour = at.millis().rem_euclid(DAY_MS) as f64 / HOUR_MS as f64;
        // The epoch was a Thursday: days 2 and 3 after it, and every seventh, are weekends.
        let is_weekend = [2, 3].contains(&at.millis().div_euclid(DAY_MS).rem_euclid(7));
        self.daily * (TAU * (hour - 12.0) / 24.0).sin() + if is_weekend { self.weekly } else { 0.0 }
    }
}

/// A crowd that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    pub(super) until: EventTime,
    /// What it has come for.
    pub(super) item: usize,
}

impl Crowd {
    /// Share of visits that begin with a search, where it is usually `usual`.
    pub(super) fn searches(usual: f64) -> f64 {
        usual.max(CROWD_SEARCHES)
    }
}

impl Shift {
    /// When it begins.
    pub fn at(&self) -> EventTime {
        match *self {
            Shift::TasteShift { at, .. }
            | Shift::CreatorsLeave { at, .. }
            | Shift::Season { at, .. } => at,
            Shift::TasteDrift { from, .. } | Shift::Crowd { from, .. } => from,
        }
    }
}

impl World {
    /// Applies the `number`th shift of the world, counted in the order they take effect.
    pub(super) fn take_effect(&mut self, shift: Shift, number: u64) {
        match shift {
            Shift::TasteShift { share, by, .. } => {
                for person in 0..self.people.len() {
                    if self.shift_dice(number, person).chance(share) {
                        self.people[person].turn(by, &self.catalog);
                    }
                }
            }
            Shift::TasteDrift { from, until, share, by } => {
                for person in 0..self.people.len() {
                    let mut dice = self.shift_dice(number, person);
                    if dice.chance(share) {
                        let after = dice.unit() * until.since(from) as f64;
                        self.turns.push((from.plus_millis(after as i64), person, by));
                    }
                }
                // The next one last.
                self.turns.sort_by_key(|&(at, person, _)| Reverse((at, person)));
            }
            Shift::CreatorsLeave { at, share } => {
                self.catalog.withdraw(at, share);
                self.forget_discovery();
            }
            Shift::Season { daily, weekly, .. } => self.season = Some(Season { daily, weekly }),
            Shift::Crowd { from, until, times } => self.gather(from, until, times, number),
        }
    }

    fn shift_dice(&self, number: u64, person: usize) -> Dice {
        Dice::new(self.config.seed, Purpose::Shift, [number, person as u64, 0, 0])
    }

    /// Lets people come earlier than they would have.
    fn gather(&mut self, from: EventTime, until: EventTime, times: f64, number: u64) {
        let Some(item) = self.catalog.discovery_of_a_crowd(from, KNOWN) else { return };
        self.crowd = Some(Crowd { until, item });
        let length = until.since(from).max(0) as f64;
        let middle = from.plus_millis((length / 2.0) as i64);
        for index in 0..self.people.len() {
            let person = &self.people[index];
            let expected = person.sessions_per_ms(middle) * length;
            let session = person.session + 1;
            let mut dice = self.shift_dice(number, index);
            if dice.chance((times - 1.0).max(0.0) * expected) {
                let at = from.plus_millis((dice.unit() * length) as i64);
                // Their next session; what was queued for it before is passed over when it comes.
                self.queue.push(Reverse(Due {
                    at,
                    person: index,
                    page: None,
                    session,
                    context: None,
                }));
            }
        }
    }
}

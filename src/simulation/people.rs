//! The people: tastes, habits, daily rhythm. Enters: the configuration and the categories.
//! Leaves: people whose next session can be asked for. Never decides what a person clicks.

use std::collections::VecDeque;
use std::f64::consts::TAU;

use crate::ids::UserId;
use crate::time::{DAY_MS, EventTime, HOUR_MS};

use super::catalog::Catalog;
use super::config::WorldConfig;
use super::dice::{Dice, Purpose};
use super::taste::Taste;

/// How far a person's taste departs from the mixture of their categories.
const PERSONAL_NOISE: f64 = 0.25;
/// Weights of a person's first, second and third category before scaling.
const CATEGORY_WEIGHTS: [f64; 3] = [1.0, 0.55, 0.3];
/// Spread of sessions a day around the median (standard deviation of the logarithm): the most
/// active tenth makes about half of the traffic.
const ACTIVITY_SPREAD: f64 = 0.9;
/// The least rate of sessions at a person's quietest hour, as a share of their peak.
const NIGHT_FLOOR: f64 = 0.04;
/// The mean of [`Person::rhythm`] over a day: ∫ ((1 + cos)/2)² = 3/8.
const MEAN_RHYTHM: f64 = NIGHT_FLOOR + (1.0 - NIGHT_FLOOR) * 0.375;
/// Items a person remembers having watched. Beyond it they forget, and memory stays bounded.
const REMEMBERED_WATCHES: usize = 400;
/// Items a person remembers having been shown without a click.
const REMEMBERED_SIGHTS: usize = 60;

const LOCALES: [(&str, f64); 6] = [
    ("en-US", 0.4),
    ("es-ES", 0.6),
    ("pt-BR", 0.75),
    ("de-DE", 0.87),
    ("ja-JP", 0.95),
    ("fr-FR", 1.0),
];
const DEVICES: [(&str, f64); 4] =
    [("phone", 0.62), ("tv", 0.8), ("desktop", 0.93), ("tablet", 1.0)];

/// One person.
#[derive(Clone, Debug)]
pub struct Person {
    /// Their id, `u` and seven digits.
    pub id: UserId,
    /// BCP 47 locale.
    pub locale: &'static str,
    /// `phone`, `tv`, `desktop` or `tablet`.
    pub device: &'static str,
    /// Sessions a day on average.
    pub sessions_per_day: f64,
    /// Hour of the day (UTC, 0 to 24) at which they watch most.
    pub peak_hour: f64,
    /// Readiness to go on after an indifferent page, as log-odds.
    pub patience: f64,
    /// Category index and weight, the favourite first; weights sum to 1.
    pub(super) likes: Vec<(usize, f64)>,
    /// What is theirs alone; kept apart so that a taste can be mixed anew.
    pub(super) quirk: Taste,
    pub(super) taste: Taste,
    /// When the last page was done; a new session starts only some time after it.
    pub(super) busy_until: EventTime,
    /// Number of the session now open or last closed, from 1; 0 before the first.
    pub(super) session: u64,
    pub(super) memory: Memory,
}

/// What a person has lately watched and been shown, newest last; item indexes.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    watched: VecDeque<u32>,
    sights: VecDeque<u32>,
}

impl Memory {
    pub(super) fn watch(&mut self, item: usize) {
        remember(&mut self.watched, item, REMEMBERED_WATCHES);
    }

    pub(super) fn sight(&mut self, item: usize) {
        remember(&mut self.sights, item, REMEMBERED_SIGHTS);
    }

    pub(super) fn watched(&self, item: usize) -> bool {
        self.watched.contains(&(item as u32))
    }

    pub(super) fn sights(&self, item: usize) -> usize {
        self.sights.iter().filter(|&&seen| seen == item as u32).count()
    }
}

fn remember(ring: &mut VecDeque<u32>, item: usize, limit: usize) {
    if ring.len() == limit {
        ring.pop_front();
    }
    // World sizes are held below ten million, so an index always fits.
    ring.push_back(item as u32);
}

impl Person {
    pub(super) fn new(config: &WorldConfig, index: usize, catalog: &Catalog) -> Self {
        let mut dice = Dice::new(config.seed, Purpose::Person, [index as u64, 0, 0, 0]);
        let likes = likes(&mut dice, catalog);
        let quirk = Taste::random(&mut dice);
        // Most people watch in the evening, some at midday.
        let peak =
            if dice.chance(0.7) { 20.0 + 2.0 * dice.normal() } else { 12.5 + 2.5 * dice.normal() };
        let patience = 0.1 + 0.5 * dice.normal();
        let sessions = dice.log_normal(config.sessions_per_day, ACTIVITY_SPREAD).min(48.0);
        let mut person = Self {
            id: UserId::new(format!("u{index:07}")),
            locale: pick(&LOCALES, dice.unit()),
            device: pick(&DEVICES, dice.unit()),
            sessions_per_day: sessions,
            peak_hour: peak.rem_euclid(24.0),
            patience,
            likes,
            quirk,
            taste: quirk,
            busy_until: EventTime::from_millis(i64::MIN),
            session: 0,
            memory: Memory::default(),
        };
        person.settle(catalog);
        person
    }

    /// Mixes the taste anew from the likes; to be called when they change.
    pub(super) fn settle(&mut self, catalog: &Catalog) {
        let mix = self.likes.iter().fold(Taste::ZERO, |sum, &(category, weight)| {
            sum.plus(weight, catalog.categories[category])
        });
        self.taste = mix.unit().plus(PERSONAL_NOISE, self.quirk).unit();
    }

    /// Moves each like `by` categories on.
    pub(super) fn turn(&mut self, by: usize, catalog: &Catalog) {
        for (category, _) in &mut self.likes {
            *category = (*category + by) % catalog.categories.len();
        }
        self.settle(catalog);
    }

    /// Sessions that begin in a millisecond at `at`, on average.
    pub(super) fn sessions_per_ms(&self, at: EventTime) -> f64 {
        self.sessions_per_day / DAY_MS as f64 * self.rhythm(at) / MEAN_RHYTHM
    }

    /// The rate of sessions at `at` as a share of the peak's, [`NIGHT_FLOOR`] to 1.
    pub(super) fn rhythm(&self, at: EventTime) -> f64 {
        let hour = at.millis().rem_euclid(DAY_MS) as f64 / HOUR_MS as f64;
        let wave = (1.0 + (TAU * (hour - self.peak_hour) / 24.0).cos()) / 2.0;
        NIGHT_FLOOR + (1.0 - NIGHT_FLOOR) * wave * wave
    }

    /// When the session after `session` starts, not before `from`: a Poisson process whose rate
    /// follows the day, drawn by thinning.
    pub(super) fn next_start(&self, seed: u64, index: usize, from: EventTime) -> EventTime {
        let occasion = [index as u64, self.session, from.millis() as u64, 0];
        let mut dice = Dice::new(seed, Purpose::SessionStart, occasion);
        let mean_gap = DAY_MS as f64 / (self.sessions_per_day / MEAN_RHYTHM);
        let mut at = from;
        // Acceptance is above 1/3 on average; the bound only guards the loop's end.
        for _ in 0..10_000 {
            at = at.plus_millis(1 + dice.exponential(mean_gap) as i64);
            if dice.chance(self.rhythm(at)) {
                break;
            }
        }
        at
    }
}

fn likes(dice: &mut Dice, catalog: &Catalog) -> Vec<(usize, f64)> {
    let wanted = 1 + dice.below(CATEGORY_WEIGHTS.len());
    let mut likes: Vec<(usize, f64)> = Vec::new();
    for weight in CATEGORY_WEIGHTS.into_iter().take(wanted) {
        let category = dice.weighted(&catalog.category_weights);
        if likes.iter().all(|&(known, _)| known != category) {
            likes.push((category, weight));
        }
    }
    let total: f64 = likes.iter().map(|&(_, weight)| weight).sum();
    likes.iter_mut().for_each(|(_, weight)| *weight /= total);
    likes
}

fn pick(table: &[(&'static str, f64)], point: f64) -> &'static str {
    let found = table.iter().find(|&&(_, upto)| point < upto).or(table.last());
    found.map_or("", |&(name, _)| name)
}

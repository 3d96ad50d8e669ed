//! What all users did with items, creators, categories and surfaces: the state that every worker
//! has. A fold over closed examples, in bounded memory.

use super::base::BaseRates;
use super::co_visits::CoVisits;
use super::counter::{Counter, FOREVER, Rates, Surplus, Trial};
use super::table::{Table, Touched};
use super::{Example, Watch, pair};
use crate::time::{EventTime, HOUR_MS};

pub(super) const ITEM_HALF_LIVES: [i64; 2] = [FOREVER, 24 * HOUR_MS];
pub(super) const FOREVER_ONLY: [i64; 1] = [FOREVER];

/// What is known of an item beyond its counters: of watches, wherever they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LongRun {
    /// Watches.
    pub n: f32,
    /// Long views among them.
    pub s: f32,
    /// Σ(y − r_u): how much more than its viewers otherwise do.
    pub excess: f32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ItemCounters {
    pub exposures: Counter<Surplus, 2>,
    pub long_run: LongRun,
    watched: EventTime,
}

impl Touched for ItemCounters {
    fn touched(&self) -> EventTime {
        self.exposures.at.max(self.watched)
    }
}

impl Touched for Counter<Rates, 1> {
    fn touched(&self) -> EventTime {
        self.at
    }
}

/// How much is remembered. A key that is forgotten begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Items: about 130 bytes each.
    pub items: usize,
    /// Creators, items on a surface, categories on a surface: so many each, about 50 bytes each.
    pub keys: usize,
    /// Pairs of items that were taken by the same users: about 30 bytes each.
    pub pairs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { items: 1 << 20, keys: 1 << 20, pairs: 1 << 22 }
    }
}

/// The counters that users share.
#[derive(Clone, Debug)]
pub struct Globals {
    pub(super) base: BaseRates,
    pub(super) items: Table<ItemCounters>,
    pub(super) creators: Table<Counter<Rates, 1>>,
    pub(super) categories: Table<Counter<Rates, 1>>,
    pub(super) item_surfaces: Table<Counter<Rates, 1>>,
    pub(super) category_surfaces: Table<Counter<Rates, 1>>,
    /// What goes together with what.
    pub co_visits: CoVisits,
    watches: f64,
    long_views: f64,
}

impl Globals {
    /// Nothing known yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            base: BaseRates::default(),
            items: Table::new(limits.items),
            creators: Table::new(limits.keys),
            categories: Table::new(limits.keys),
            item_surfaces: Table::new(limits.keys),
            category_surfaces: Table::new(limits.keys),
            co_visits: CoVisits::new(limits.pairs),
            watches: 0.0,
            long_views: 0.0,
        }
    }

    /// Items known.
    pub fn items(&self) -> usize {
        self.items.len()
    }

    /// Learns what came of an exposure, once its label windows have closed.
    pub fn learn(&mut self, example: &Example<'_>) {
        let Example { context, item, .. } = example;
        let trial = example.trial();
        self.base.learn(context.surface, item.duration_ms, &trial);
        self.items.entry(item.id).exposures.learn(&ITEM_HALF_LIVES, &trial);
        let learn = |table: &mut Table<Counter<Rates, 1>>, key: u64, trial: &Trial| {
            table.entry(key).learn(&FOREVER_ONLY, trial);
        };
        learn(&mut self.item_surfaces, pair(item.id, context.surface), &trial);
        if item.creator != 0 {
            learn(&mut self.creators, item.creator, &trial);
        }
        if item.category != 0 {
            learn(&mut self.categories, item.category, &trial);
            learn(&mut self.category_surfaces, pair(item.category, context.surface), &trial);
        }
    }

    /// Learns that somebody watched something, from a list or not, whose watches before that were long
    /// views at this rate: [`user_rate`](super::user_rate), or [`Features::user_rate`](super::Features::user_rate).
    pub fn watched(&mut self, watch: &Watch, user_rate: f32) {
        let y = f32::from(u8::from(watch.long_view));
        self.watches += 1.0;
        self.long_views += f64::from(y);
        let item = self.items.entry(watch.item);
        item.watched = item.watched.max(watch.at);
        let long_run = &mut item.long_run;
        long_run.n += 1.0;
        long_run.s += y;
        long_run.excess += y - user_rate;
    }

    /// The share of watches that are long views; the half before there is any.
    pub fn long_view_rate(&self) -> f32 {
        ((self.long_views + 5.0) / (self.watches + 10.0)) as f32
    }

    /// Adds what another fold learnt from other examples and watches.
    pub fn merge(&mut self, other: &Self) {
        self.base.merge(&other.base);
        self.items.merge(&other.items, |ours, theirs| {
            ours.exposures.merge(&ITEM_HALF_LIVES, &theirs.exposures);
            ours.watched = ours.watched.max(theirs.watched);
            let (ours, theirs) = (&mut ours.long_run, &theirs.long_run);
            ours.n += theirs.n;
            ours.s += theirs.s;
            ours.excess += theirs.excess;
        });
        let merge = |ours: &mut Counter<Rates, 1>, theirs: &Counter<Rates, 1>| {
            ours.merge(&FOREVER_ONLY, theirs);
        };
        self.creators.merge(&other.creators, merge);
        self.categories.merge(&other.categories, merge);
        self.item_surfaces.merge(&other.item_surfaces, merge);
        self.category_surfaces.merge(&other.category_surfaces, merge);
        self.co_visits.merge(&other.co_visits);
        self.watches += other.watches;
        self.long_views += other.long_views;
    }
}

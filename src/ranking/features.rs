//! The features: one definition for serving, learning and training.
//!
//! Rates become log-odds, counts and times logarithms, so that a linear model reads them. All are
//! scaled by fixed constants, so that nothing is fitted, and kept within ±[`CLIP`]. What belongs to the
//! request is computed once for all of its candidates.

use std::sync::LazyLock;

use super::base::{BUCKETS, SurfaceRates, bucket};
use super::co_visits::{CoVisit, NEWEST};
use super::counter::{Counter, Rates, Sums, Surplus};
use super::globals::{self, Globals, LongRun};
use super::math::{ln, logit, sigmoid};
use super::user::{self, Exposures, Recency, UserCounters, length_key};
use super::{Context, Item, TARGETS, narrow, pair};
use crate::ids::stable_hash;
use crate::time::{EventTime, HOUR_MS};

/// Features that a request's candidates share.
const SHARED: usize = 35;
/// Dense features. A multiple of eight, so that SIMD lanes divide it.
pub const DENSE: usize = 88;
/// Slots of hashed features, shared by all of them.
pub const SLOTS: usize = 1 << 20;
/// No feature is further from 0.
const CLIP: f32 = 4.0;
/// Where the base rates are among the candidate's features.
const BASE: usize = SHARED;
/// Where the share of long views among the user's watches is.
const TASTE: usize = 29;

/// Exposures at the base rate that each family's rates are drawn to: the more, the more there are of
/// a key and the less keys differ.
mod prior {
    pub const USER: f32 = 8.0;
    pub const ITEM: f32 = 20.0;
    pub const CREATOR: f32 = 20.0;
    pub const CATEGORY: f32 = 100.0;
    pub const USER_SURFACE: f32 = 8.0;
    pub const USER_CATEGORY: f32 = 4.0;
    pub const USER_CREATOR: f32 = 4.0;
    pub const USER_LENGTH: f32 = 4.0;
    pub const ITEM_SURFACE: f32 = 20.0;
    pub const CATEGORY_SURFACE: f32 = 60.0;
}

/// A watch of a user's history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watch {
    /// The item.
    pub item: u64,
    /// Its main category; 0 where not known.
    pub category: u64,
    /// Its length in milliseconds; 0 where not known.
    pub duration_ms: u64,
    /// Whether it was viewed long.
    pub long_view: bool,
    /// When.
    pub at: EventTime,
}

impl Watch {
    /// A watch of an item.
    pub fn of(item: &Item, long_view: bool, at: EventTime) -> Self {
        let Item { id, category, duration_ms, .. } = *item;
        Self { item: id, category, duration_ms, long_view, at }
    }
}

/// What a user did, as far as it is known, the newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// What they watched.
    pub watches: &'a [Watch],
    /// What they took, by target: clicked, viewed long. Only the newest [`NEWEST`] count.
    pub taken: [&'a [u64]; TARGETS],
}

/// Features of one candidate, as they are served, logged and learnt from.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// As [`names`] has them.
    pub dense: [f32; DENSE],
    /// Slots below [`SLOTS`] whose value is 1.
    pub ids: Vec<u32>,
}

impl Default for Features {
    fn default() -> Self {
        Self { dense: [0.0; DENSE], ids: Vec::new() }
    }
}

impl Features {
    /// The base rates that they were computed with.
    pub fn base_rates(&self) -> [f32; TARGETS] {
        std::array::from_fn(|target| sigmoid(self.dense[BASE + target] - RATE_SHIFT))
    }

    /// The share of the user's watches that are long views, as they were computed with:
    /// [`user_rate`], between .01 and .97.
    pub fn user_rate(&self) -> f32 {
        sigmoid(self.dense[TASTE] - RATE_SHIFT)
    }
}

const RATE_SHIFT: f32 = 0.5;

/// Takes features one by one, in their order.
trait Sink {
    /// A feature and its name, in parts.
    fn put(&mut self, name: [&str; 3], value: f32);

    fn rate(&mut self, name: [&str; 3], log_odds: f32) {
        self.put(name, log_odds + RATE_SHIFT);
    }

    fn excess(&mut self, name: [&str; 3], excess: f32) {
        self.put(name, 3.0 * excess);
    }

    fn count(&mut self, name: [&str; 3], log_count: f32) {
        self.put(name, (log_count - 2.0) / 1.5);
    }

    /// Seconds since something; what never was is a month ago.
    fn gap(&mut self, name: [&str; 3], seconds: Option<f32>) {
        const MONTH: f32 = 30.0 * 86_400.0;
        self.put(name, (ln(1.0 + seconds.map_or(MONTH, |s| s.min(MONTH))) - 10.0) / 4.0);
    }

    fn length(&mut self, name: [&str; 3], seconds: f32) {
        self.put(name, ln(seconds) - 4.0);
    }

    fn co_visit(&mut self, target: &str, given: &CoVisit) {
        self.put(["co_visit", target, "sum"], (ln(0.001 + given.sum) + 3.0) / 1.5);
        self.put(["co_visit", target, "max"], (ln(0.001 + given.max) + 3.0) / 1.5);
        self.put(["co_visit", target, "information"], given.information / 2.0);
    }

    /// Count and rates of a key.
    fn rates(&mut self, family: &str, age: &str, rates: &Rates, b: &[f32; TARGETS], prior: f32) {
        self.count([family, age, "count"], rates.count());
        for (target, name) in TARGET_NAMES.into_iter().enumerate() {
            self.rate([family, age, name], rates.logit(target, b, prior));
        }
    }

    /// Count, rates and surplus of a key.
    fn surplus(&mut self, family: &str, age: &str, sums: &Surplus, b: &[f32; TARGETS], prior: f32) {
        self.rates(family, age, &sums.rates, b, prior);
        for (target, name) in EXCESS_NAMES.into_iter().enumerate() {
            self.excess([family, age, name], sums.excess(target, prior));
        }
    }
}

const TARGET_NAMES: [&str; TARGETS] = ["click", "long_view"];
const EXCESS_NAMES: [&str; TARGETS] = ["click_excess", "long_view_excess"];

/// Puts values into a slice.
struct Values<'a> {
    out: &'a mut [f32],
    at: usize,
}

impl Sink for Values<'_> {
    fn put(&mut self, _: [&str; 3], value: f32) {
        self.out[self.at] = value.clamp(-CLIP, CLIP);
        self.at += 1;
    }
}

struct Names(Vec<String>);

impl Sink for Names {
    fn put(&mut self, name: [&str; 3], _: f32) {
        let parts: Vec<&str> = name.into_iter().filter(|part| !part.is_empty()).collect();
        self.0.push(parts.join("."));
    }
}

/// The names of the dense features, in their order.
pub fn names() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let globals = Globals::new(globals::Limits { items: 1, keys: 1, pairs: 1 });
        let at = EventTime::from_millis(0);
        let context = Context { user: 0, surface: 0, at, profile: &[] };
        let (counters, exposures) = Default::default();
        let viewer = Viewer::new(&globals, context, &counters, &exposures, History::default());
        let mut names = Names(Vec::new());
        viewer.put_shared(&mut names);
        viewer.put_own(&Item::default(), &[CoVisit::default(); TARGETS], &mut names);
        names.0
    });
    &NAMES
}

/// Names the meaning and order of the features: a number that changes where names, order or scales do,
/// which weights and examples carry.
pub fn schema() -> u64 {
    /// To be raised where a feature means something else under the same name.
    const MEANING: &str = "ranking.v1";
    stable_hash(format!("{MEANING} {} {SLOTS}", names().join(" ")).as_bytes())
}

/// What the user's watches say in the long run. Rates are of long views.
#[derive(Clone, Debug, Default)]
struct Taste {
    rate: f32,
    excess: f32,
    recent_excess: f32,
    watches: f32,
    /// Mean of ln seconds of what they watched.
    mean_length: Option<f32>,
    oldest: Option<EventTime>,
    /// Residuals and watches by category.
    by_category: Vec<(u64, f32, f32)>,
    by_length: [(f32, f32); BUCKETS],
}

/// A request, ready to say what a candidate's features are.
pub struct Viewer<'a> {
    globals: &'a Globals,
    context: Context<'a>,
    user: &'a UserCounters,
    exposures: &'a Exposures,
    history: History<'a>,
    recency: Recency,
    rates: SurfaceRates,
    taste: Taste,
    shared: [f32; SHARED],
}

impl<'a> Viewer<'a> {
    /// Reads what is known of the user and of the surface: once a request.
    pub fn new(
        globals: &'a Globals,
        context: Context<'a>,
        user: &'a UserCounters,
        exposures: &'a Exposures,
        history: History<'a>,
    ) -> Self {
        let mut viewer = Self {
            globals,
            context,
            user,
            exposures,
            history,
            recency: exposures.recency(context.surface, context.at),
            rates: globals.base.read(context.surface, context.at),
            taste: Taste::of(history.watches, globals),
            shared: [0.0; SHARED],
        };
        let mut shared = [0.0; SHARED];
        viewer.put_shared(&mut Values { out: &mut shared, at: 0 });
        viewer.shared = shared;
        viewer
    }

    /// The features of a candidate. `given` is what it has to do with what the user took, by target:
    /// [`CoVisits::of`](super::CoVisits::of). `out` is written over.
    pub fn features(&self, item: &Item, given: &[CoVisit; TARGETS], out: &mut Features) {
        out.dense[..SHARED].copy_from_slice(&self.shared);
        let own = &mut out.dense[SHARED..];
        own.fill(0.0);
        self.put_own(item, given, &mut Values { out: own, at: 0 });
        out.ids.clear();
        self.put_ids(item, &mut out.ids);
    }

    /// The same with what the tables of co-visits say.
    pub fn features_of(&self, item: &Item, out: &mut Features) {
        let given = std::array::from_fn(|target| {
            let newest = self.history.taken[target];
            self.globals.co_visits.of(target, item.id, &newest[..newest.len().min(NEWEST)])
        });
        self.features(item, &given, out);
    }

    /// What is the same for all candidates.
    fn put_shared(&self, out: &mut impl Sink) {
        let at = self.context.at;
        let base = &self.rates.surface;
        out.put(["constant", "", ""], 1.0);
        for (target, name) in TARGET_NAMES.into_iter().enumerate() {
            out.rate(["surface", name, ""], logit(base[target]));
        }
        let all = self.user.all.read(&user::USER_HALF_LIVES, at);
        for (sums, age) in all.iter().zip(["ever", "day", "hours"]) {
            out.surplus("user", age, sums, base, prior::USER);
        }
        let known = self.user.surfaces.get(narrow(self.context.surface));
        let here = read(known, &user::SURFACE_HALF_LIVES, at);
        for (rates, age) in here.iter().zip(["ever", "day"]) {
            out.rates("user_surface", age, rates, base, prior::USER_SURFACE);
        }
        let Recency { newest, on_surface, in_session } = self.recency;
        out.gap(["exposure", "newest", "gap"], newest[0]);
        out.gap(["exposure", "second", "gap"], newest[1]);
        out.gap(["exposure", "newest_on_surface", "gap"], on_surface[0]);
        out.gap(["exposure", "second_on_surface", "gap"], on_surface[1]);
        out.count(["session", "exposures", ""], ln(1.0 + in_session as f32));
        let taste = &self.taste;
        out.rate(["taste", "rate", ""], logit(taste.rate));
        out.excess(["taste", "excess", ""], taste.excess);
        out.excess(["taste", "recent_excess", ""], taste.recent_excess);
        out.count(["taste", "watches", ""], ln(1.0 + taste.watches));
        let newest = self.history.watches.first().map(|watch| since(watch.at, at));
        out.gap(["taste", "newest_watch", "gap"], newest);
        out.gap(["taste", "oldest_watch", "gap"], taste.oldest.map(|oldest| since(oldest, at)));
    }

    /// What is the candidate's own.
    fn put_own(&self, item: &Item, given: &[CoVisit; TARGETS], out: &mut impl Sink) {
        let at = self.context.at;
        let surface = self.context.surface;
        let base = &self.rates.by_bucket[bucket(item.duration_ms)];
        for (target, name) in TARGET_NAMES.into_iter().enumerate() {
            out.rate(["base", name, ""], logit(base[target]));
        }
        let globals = self.globals;
        let known = globals.items.get(item.id).copied().unwrap_or_default();
        let all = known.exposures.read(&globals::ITEM_HALF_LIVES, at);
        for (sums, age) in all.iter().zip(["ever", "day"]) {
            out.surplus("item", age, sums, base, prior::ITEM);
        }
        for (family, table, key, prior) in [
            ("creator", &globals.creators, item.creator, prior::CREATOR),
            ("category", &globals.categories, item.category, prior::CATEGORY),
            ("item_surface", &globals.item_surfaces, pair(item.id, surface), prior::ITEM_SURFACE),
            (
                "category_surface",
                &globals.category_surfaces,
                pair(item.category, surface),
                prior::CATEGORY_SURFACE,
            ),
        ] {
            let [rates] = read(table.get(key), &globals::FOREVER_ONLY, at);
            out.rates(family, "", &rates, base, prior);
        }
        self.put_both(item, base, out);
        let seen = (known.exposures.sums[0].rates.n > 0.0).then(|| since(known.exposures.at, at));
        out.gap(["item", "gap", ""], seen);
        self.put_long_run(item, &known.long_run, out);
        for (target, name) in TARGET_NAMES.into_iter().enumerate() {
            out.co_visit(name, &given[target]);
        }
        self.put_static(item, out);
    }

    /// What the user did with what is like the candidate.
    fn put_both(&self, item: &Item, base: &[f32; TARGETS], out: &mut impl Sink) {
        let at = self.context.at;
        let user = self.user;
        let [sums] = read(user.categories.get(narrow(item.category)), &user::FOREVER_ONLY, at);
        out.surplus("user_category", "", &sums, base, prior::USER_CATEGORY);
        let [rates] = read(user.creators.get(narrow(item.creator)), &user::FOREVER_ONLY, at);
        out.rates("user_creator", "", &rates, base, prior::USER_CREATOR);
        let length = length_key(item.duration_ms);
        let [rates] = read(user.lengths.get(length), &user::FOREVER_ONLY, at);
        out.rates("user_length", "", &rates, base, prior::USER_LENGTH);
        let shown = self.exposures.of_item(item.id, at);
        out.gap(["user_item", "gap", ""], shown.map(|(gap, _)| gap));
        out.count(["user_item", "exposures", ""], ln(1.0 + shown.map_or(0.0, |(_, n)| n as f32)));
    }

    /// Long views in the long run, freed of who watches and of what is watched.
    fn put_long_run(&self, item: &Item, long_run: &LongRun, out: &mut impl Sink) {
        let rate = long_run.rate(self.globals.long_view_rate());
        let taste = &self.taste;
        out.rate(["long_run", "item", "rate"], logit(rate));
        out.rate(["long_run", "both", "rate"], logit(expected(rate, taste.excess)));
        out.excess(["long_run", "item", "excess"], long_run.excess / (long_run.n + 10.0));
        out.count(["long_run", "item", "watches"], ln(1.0 + long_run.n));
        let category = taste.by_category.iter().find(|one| one.0 == item.category);
        let of_category = category.map_or(0.0, |(_, sum, n)| sum / (n + 3.0));
        out.excess(["long_run", "category", "excess"], of_category);
        let (sum, n) = taste.by_length[bucket(item.duration_ms) / 2];
        out.excess(["long_run", "length", "excess"], sum / (n + 3.0));
    }

    fn put_static(&self, item: &Item, out: &mut impl Sink) {
        let seconds = seconds_of(item.duration_ms);
        out.length(["length", "", ""], seconds);
        let mean = self.taste.mean_length.unwrap_or_else(|| ln(seconds));
        out.put(["length", "difference", ""], ln(seconds) - mean);
        let age = item.published.map(|published| since(published, self.context.at));
        out.gap(["item", "age", ""], age);
    }

    fn put_ids(&self, item: &Item, out: &mut Vec<u32>) {
        let Context { user, surface, at, profile } = self.context;
        let length = bucket(item.duration_ms) as u64;
        let hour = (at.millis().div_euclid(HOUR_MS)).rem_euclid(24) as u64;
        let Item { id, creator, category, .. } = *item;
        let crossed = [
            (user, 0),
            (id, 0),
            (creator, 0),
            (user, surface),
            (user, category),
            (id, surface),
            (category, surface),
            (user, length),
            (category, length),
            (length, surface),
            (hour, surface),
        ];
        let slots = crossed.into_iter().zip(1u64..);
        out.extend(slots.map(|((a, b), kind)| slot(kind, a, b)));
        let categories = profile.iter().chain(&item.attributes);
        out.extend(categories.map(|&category| slot(0, category, 0)));
    }
}

fn slot(kind: u64, a: u64, b: u64) -> u32 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&kind.to_le_bytes());
    bytes[8..16].copy_from_slice(&a.to_le_bytes());
    bytes[16..].copy_from_slice(&b.to_le_bytes());
    (stable_hash(&bytes) % SLOTS as u64) as u32
}

fn read<S: Sums, const H: usize>(
    counter: Option<&Counter<S, H>>,
    half_lives: &[i64; H],
    at: EventTime,
) -> [S; H] {
    counter.map_or([S::default(); H], |counter| counter.read(half_lives, at))
}

/// Seconds between.
fn since(earlier: EventTime, at: EventTime) -> f32 {
    (at.since(earlier).max(0) as f64 / 1_000.0) as f32
}

/// What is not known counts as a middling length.
fn seconds_of(duration_ms: u64) -> f32 {
    if duration_ms == 0 { 30.0 } else { (duration_ms as f32 / 1_000.0).max(0.5) }
}

/// The rate at which somebody views something long, from the item's rate and how much more than
/// others they do.
fn expected(item_rate: f32, user_excess: f32) -> f32 {
    (item_rate + user_excess).clamp(0.02, 0.98)
}

impl LongRun {
    /// r_i = (Σy + 10ȳ)/(n + 10).
    fn rate(&self, mean: f32) -> f32 {
        (self.s + 10.0 * mean) / (self.n + 10.0)
    }
}

/// r_u = (Σy + 4ȳ)/(n + 4): the share of a user's watches that are long views, drawn to that of all.
pub fn user_rate(watches: &[Watch], mean: f32) -> f32 {
    let long = watches.iter().filter(|watch| watch.long_view).count() as f32;
    (long + 4.0 * mean) / (watches.len() as f32 + 4.0)
}

impl Taste {
    fn of(watches: &[Watch], globals: &Globals) -> Self {
        let mean = globals.long_view_rate();
        let mut taste = Self { rate: user_rate(watches, mean), ..Self::default() };
        let rate_of = |watch: &Watch| {
            globals.items.get(watch.item).map_or(mean, |known| known.long_run.rate(mean))
        };
        let y = |watch: &Watch| f32::from(u8::from(watch.long_view));
        let (mut weight, mut weights, mut recent, mut lengths) = (1.0f32, 0.0, 0.0, (0.0, 0.0));
        for watch in watches {
            let residual = y(watch) - rate_of(watch);
            taste.excess += residual;
            recent += weight * residual;
            weights += weight;
            weight *= 0.9;
            if watch.duration_ms > 0 {
                lengths = (lengths.0 + ln(seconds_of(watch.duration_ms)), lengths.1 + 1.0);
            }
        }
        taste.watches = watches.len() as f32;
        taste.excess /= taste.watches + 4.0;
        taste.recent_excess = recent / (weights + 2.0);
        taste.mean_length = (lengths.1 > 0.0).then(|| lengths.0 / lengths.1);
        taste.oldest = watches.last().map(|watch| watch.at);
        for watch in watches {
            let residual = y(watch) - expected(rate_of(watch), taste.excess);
            let (sum, n) = &mut taste.by_length[bucket(watch.duration_ms) / 2];
            (*sum, *n) = (*sum + residual, *n + 1.0);
            match taste.by_category.iter_mut().find(|one| one.0 == watch.category) {
                Some((_, sum, n)) => (*sum, *n) = (*sum + residual, *n + 1.0),
                None => taste.by_category.push((watch.category, residual, 1.0)),
            }
        }
        taste
    }
}

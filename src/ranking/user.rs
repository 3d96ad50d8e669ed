//! What one user did, as their shard keeps it: counters of closed examples, and what was shown to them
//! last.

use super::base::bucket;
use super::counter::{Counter, FOREVER, Rates, Sums, Surplus};
use super::{Example, narrow};
use crate::time::{EventTime, HOUR_MS, MINUTE_MS, SECOND_MS};

pub(super) const USER_HALF_LIVES: [i64; 3] = [FOREVER, 24 * HOUR_MS, 6 * HOUR_MS];
pub(super) const SURFACE_HALF_LIVES: [i64; 2] = [FOREVER, 24 * HOUR_MS];
pub(super) const FOREVER_ONLY: [i64; 1] = [FOREVER];

/// Surfaces of a user counted apart. More: more bytes, 36 each. Fewer: rare ones begin anew.
pub const SURFACES: usize = 16;
/// Categories of a user counted apart, 40 bytes each.
pub const CATEGORIES: usize = 64;
/// Creators of a user counted apart, 24 bytes each.
pub const CREATORS: usize = 64;
/// A pause after which a user's next exposure begins a session.
const SESSION_GAP_MS: i64 = 30 * MINUTE_MS;
/// Items shown last that are remembered, 24 bytes each.
const SHOWN: usize = 100;

/// Counters by a short key, in its order: at most so many; the one touched the longest ago goes, of
/// one time the smallest key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Few<S, const H: usize, const MOST: usize>(pub(super) Vec<(u32, Counter<S, H>)>);

impl<S, const H: usize, const MOST: usize> Default for Few<S, H, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S: Sums, const H: usize, const MOST: usize> Few<S, H, MOST> {
    pub fn get(&self, key: u32) -> Option<&Counter<S, H>> {
        let place = self.0.binary_search_by_key(&key, |one| one.0).ok()?;
        Some(&self.0[place].1)
    }

    fn entry(&mut self, key: u32) -> &mut Counter<S, H> {
        let place = match self.0.binary_search_by_key(&key, |one| one.0) {
            Ok(place) => place,
            Err(_) => {
                let oldest = || (0..self.0.len()).min_by_key(|&at| (self.0[at].1.at, self.0[at].0));
                if let Some(oldest) = oldest().filter(|_| self.0.len() >= MOST) {
                    self.0.remove(oldest);
                }
                let place = self.0.partition_point(|one| one.0 < key);
                self.0.insert(place, (key, Counter::default()));
                place
            }
        };
        &mut self.0[place].1
    }
}

/// Counters of one user's closed examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserCounters {
    pub(super) all: Counter<Surplus, 3>,
    pub(super) surfaces: Few<Rates, 2, SURFACES>,
    pub(super) categories: Few<Surplus, 1, CATEGORIES>,
    pub(super) creators: Few<Rates, 1, CREATORS>,
    /// By bucket of length / 3.
    pub(super) lengths: Few<Rates, 1, 8>,
}

/// The lengths that a user's counters tell apart: an octave and a half each.
pub(super) fn length_key(duration_ms: u64) -> u32 {
    // Buckets count from two half octaves: ⌊(bucket + 2) / 3⌋.
    bucket(duration_ms).div_ceil(3) as u32
}

impl UserCounters {
    /// Learns what came of an exposure of this user, once its label windows have closed.
    pub fn learn(&mut self, example: &Example<'_>) {
        let Example { context, item, .. } = example;
        let trial = example.trial();
        self.all.learn(&USER_HALF_LIVES, &trial);
        self.surfaces.entry(narrow(context.surface)).learn(&SURFACE_HALF_LIVES, &trial);
        self.lengths.entry(length_key(item.duration_ms)).learn(&FOREVER_ONLY, &trial);
        if item.category != 0 {
            self.categories.entry(narrow(item.category)).learn(&FOREVER_ONLY, &trial);
        }
        if item.creator != 0 {
            self.creators.entry(narrow(item.creator)).learn(&FOREVER_ONLY, &trial);
        }
    }
}

/// What was shown to a user last: known at once, whatever comes of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposures {
    /// The newest two, anywhere.
    newest: [Option<EventTime>; 2],
    /// Exposures of the session that the newest belongs to.
    in_session: u32,
    /// The newest two by surface.
    surfaces: Vec<(u32, [Option<EventTime>; 2])>,
    /// Items: when last, and how often; the newest last.
    items: Vec<(u64, EventTime, u32)>,
}

/// What [`Exposures`] say at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Recency {
    /// Seconds since the newest two; none before there were.
    pub newest: [Option<f32>; 2],
    /// The same on one surface.
    pub on_surface: [Option<f32>; 2],
    /// Exposures of the session at that time.
    pub in_session: u32,
}

fn seconds(from: EventTime, to: EventTime) -> f32 {
    (to.since(from).max(0) as f64 / SECOND_MS as f64) as f32
}

/// Notes a time among the newest two. What is shown in one list is shown at one time.
fn put(newest: &mut [Option<EventTime>; 2], at: EventTime) {
    if newest.contains(&Some(at)) {
        return;
    }
    if newest[0].is_none_or(|first| first <= at) {
        *newest = [Some(at), newest[0]];
    } else if newest[1].is_none_or(|second| second < at) {
        newest[1] = Some(at);
    }
}

impl Exposures {
    /// Notes that an item was shown.
    pub fn learn(&mut self, surface: u64, item: u64, at: EventTime) {
        let same = self.newest[0].is_some_and(|newest| at.since(newest) <= SESSION_GAP_MS);
        self.in_session = if same { self.in_session.saturating_add(1) } else { 1 };
        put(&mut self.newest, at);
        let key = narrow(surface);
        match self.surfaces.iter_mut().find(|one| one.0 == key) {
            Some((_, newest)) => put(newest, at),
            None => {
                if self.surfaces.len() >= SURFACES {
                    let oldest = (0..self.surfaces.len()).min_by_key(|&n| self.surfaces[n].1[0]);
                    oldest.map(|oldest| self.surfaces.swap_remove(oldest));
                }
                self.surfaces.push((key, [Some(at), None]));
            }
        }
        let before = self.items.iter().position(|one| one.0 == item);
        let (mut newest, mut times) = (at, 1);
        if let Some(place) = before {
            let (_, earlier, shown) = self.items.remove(place);
            (newest, times) = (at.max(earlier), shown.saturating_add(1));
        } else if self.items.len() >= SHOWN {
            self.items.remove(0);
        }
        self.items.push((item, newest, times));
    }

    /// Memory held beside the struct itself, in bytes.
    pub fn bytes(&self) -> usize {
        self.items.capacity() * size_of_val(&(0u64, EventTime::default(), 0u32))
            + self.surfaces.capacity() * size_of_val(&(0u32, [None::<EventTime>; 2]))
    }

    /// How long ago the newest were.
    pub(super) fn recency(&self, surface: u64, at: EventTime) -> Recency {
        let ago = |newest: &[Option<EventTime>; 2]| newest.map(|n| n.map(|n| seconds(n, at)));
        let key = narrow(surface);
        let on_surface = self.surfaces.iter().find(|one| one.0 == key);
        let same = self.newest[0].is_some_and(|newest| at.since(newest) <= SESSION_GAP_MS);
        Recency {
            newest: ago(&self.newest),
            on_surface: on_surface.map_or([None; 2], |one| ago(&one.1)),
            in_session: if same { self.in_session } else { 0 },
        }
    }

    /// Seconds since an item was shown, and how often it was; none where it is not remembered.
    pub(super) fn of_item(&self, item: u64, at: EventTime) -> Option<(f32, u32)> {
        let one = self.items.iter().rev().find(|one| one.0 == item)?;
        Some((seconds(one.1, at), one.2))
    }
}

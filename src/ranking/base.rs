//! Base rates: how often what is shown is taken, before anything is known of user or item.
//!
//! Three levels, each drawn towards the one before by so many exposures at its rate: all, the surface,
//! and the item's length on that surface. Half-life 72 hours.

use super::TARGETS;
use super::counter::{Counter, Rates, Trial};
use super::table::{Table, Touched};
use crate::time::{EventTime, HOUR_MS};

/// What is expected before anything is known, by target: as short videos have it.
const UNKNOWN: [f32; TARGETS] = [0.42, 0.30];
/// Exposures at [`UNKNOWN`] that all are drawn to.
const ALL_PRIOR: f32 = 200.0;
/// Exposures at the rate above that surfaces, and lengths on them, are drawn to.
const PRIOR: f32 = 20.0;
const HALF_LIFE_MS: [i64; 1] = [72 * HOUR_MS];
/// Surfaces known at a time. A platform has tens; who sends others fills no memory.
const SURFACES: usize = 1_024;
/// Buckets of length: half octaves of seconds.
pub(super) const BUCKETS: usize = 19;

type Tally = Counter<Rates, 1>;

/// The bucket of an item's length: ⌊2·log₂ seconds⌋ from 2 (up to 2.8 s) to 20 (17 minutes and
/// more), from 0. What is not known counts as the shortest.
pub(super) fn bucket(duration_ms: u64) -> usize {
    // 2·log₂ s = log₂ s². In whole numbers, so that a limit is the same on every machine.
    let seconds_squared = duration_ms.clamp(2_000, 1_024_000).pow(2) / 1_000_000;
    seconds_squared.ilog2() as usize - 2
}

#[derive(Clone, Copy, Debug, Default)]
struct Surface {
    all: Tally,
    by_bucket: [Tally; BUCKETS],
}

impl Touched for Surface {
    fn touched(&self) -> EventTime {
        self.all.at
    }
}

/// Of all surfaces.
#[derive(Clone, Debug)]
pub(super) struct BaseRates {
    all: Tally,
    surfaces: Table<Surface>,
}

/// The rates of one surface at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SurfaceRates {
    pub surface: [f32; TARGETS],
    pub by_bucket: [[f32; TARGETS]; BUCKETS],
}

impl Default for BaseRates {
    fn default() -> Self {
        Self { all: Tally::default(), surfaces: Table::new(SURFACES) }
    }
}

fn shrunk(tally: &Tally, at: EventTime, to: [f32; TARGETS], prior: f32) -> [f32; TARGETS] {
    let [Rates { n, s }] = tally.read(&HALF_LIFE_MS, at);
    std::array::from_fn(|target| (s[target] + prior * to[target]) / (n + prior))
}

impl BaseRates {
    pub fn learn(&mut self, surface: u64, duration_ms: u64, trial: &Trial) {
        self.all.learn(&HALF_LIFE_MS, trial);
        let surface = self.surfaces.entry(surface);
        surface.all.learn(&HALF_LIFE_MS, trial);
        surface.by_bucket[bucket(duration_ms)].learn(&HALF_LIFE_MS, trial);
    }

    pub fn read(&self, surface: u64, at: EventTime) -> SurfaceRates {
        let all = shrunk(&self.all, at, UNKNOWN, ALL_PRIOR);
        let Some(known) = self.surfaces.get(surface) else {
            return SurfaceRates { surface: all, by_bucket: [all; BUCKETS] };
        };
        let surface = shrunk(&known.all, at, all, PRIOR);
        let by_bucket = known.by_bucket.map(|tally| shrunk(&tally, at, surface, PRIOR));
        SurfaceRates { surface, by_bucket }
    }

    pub fn merge(&mut self, other: &Self) {
        self.all.merge(&HALF_LIFE_MS, &other.all);
        self.surfaces.merge(&other.surfaces, |ours, theirs| {
            ours.all.merge(&HALF_LIFE_MS, &theirs.all);
            for (ours, theirs) in ours.by_bucket.iter_mut().zip(&theirs.by_bucket) {
                ours.merge(&HALF_LIFE_MS, theirs);
            }
        });
    }
}

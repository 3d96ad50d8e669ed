//! What many people watch now, by surface: counts by time bucket, decayed when ranked.
//!
//! Counts are integers, so that the order of interactions does not matter. Exponential decay
//! scales all items alike as time passes: a ranking only changes when something is counted.

use std::collections::HashMap;
use std::sync::Arc;

use super::interner::ItemHandle;
use crate::time::{EventTime, HOUR_MS};

/// Buckets per half-life. More: smoother decay, more memory. Eight keeps the step at 9 %.
const BUCKETS_PER_HALF_LIFE: f64 = 8.0;
/// Buckets kept per item: eight half-lives, after which 0.4 % of a count is left.
const BUCKETS_KEPT: i64 = 64;
/// Length of a ranked list. A request for 500 items of a user who has seen half of it still
/// finds enough.
const TOP: usize = 1_000;

/// Surfaces counted apart. Clients name them, and each costs memory by item: what comes after so
/// many different ones counts over all surfaces only.
const MAX_SURFACES: usize = 64;

/// Hours in which counts halve.
#[derive(Clone, Debug)]
pub struct HalfLives {
    /// Where the surface has none of its own, and over all surfaces.
    pub default_hours: f64,
    /// By surface.
    pub by_surface: HashMap<String, f64>,
}

/// Decayed counts of items, by surface and over all.
pub struct Trending {
    half_lives: HalfLives,
    /// The empty surface counts all.
    surfaces: HashMap<Box<str>, SurfaceCounts>,
}

struct SurfaceCounts {
    half_life_ms: f64,
    bucket_ms: i64,
    /// By item handle, which are dense: a hash table would cost a cache miss more per event.
    counts: Vec<Vec<(i64, u32)>>,
    newest: i64,
    ranked: Arc<[(ItemHandle, f32)]>,
    stale: bool,
}

impl Trending {
    /// Nothing counted yet.
    pub fn new(half_lives: HalfLives) -> Self {
        Self { half_lives, surfaces: HashMap::new() }
    }

    /// Counts one interaction, for its surface and for all.
    pub fn observe(&mut self, surface: &str, item: ItemHandle, at: EventTime, weight: u32) {
        self.surface("").observe(item, at, weight);
        let known = self.surfaces.contains_key(surface);
        if !surface.is_empty() && (known || self.surfaces.len() <= MAX_SURFACES) {
            self.surface(surface).observe(item, at, weight);
        }
    }

    fn surface(&mut self, name: &str) -> &mut SurfaceCounts {
        if !self.surfaces.contains_key(name) {
            let hours = self.half_lives.by_surface.get(name);
            let hours = hours.copied().unwrap_or(self.half_lives.default_hours);
            self.surfaces.insert(name.into(), SurfaceCounts::new(hours));
        }
        match self.surfaces.get_mut(name) {
            Some(counts) => counts,
            None => unreachable!("it was inserted above"),
        }
    }

    /// The items of a surface by decayed count, best first, as of the last refresh. Empty for
    /// a surface without any.
    pub fn top(&self, surface: &str) -> Arc<[(ItemHandle, f32)]> {
        self.surfaces.get(surface).map_or_else(|| Arc::from([]), |s| Arc::clone(&s.ranked))
    }

    /// The decayed count of every item that has one, over all surfaces.
    pub fn counts(&self) -> impl Iterator<Item = (ItemHandle, f32)> {
        self.surfaces.get("").into_iter().flat_map(SurfaceCounts::decayed)
    }

    /// Ranks what was counted since the last call.
    pub fn refresh(&mut self) {
        self.surfaces.values_mut().filter(|s| s.stale).for_each(SurfaceCounts::rank);
    }

    /// Memory held, in bytes, estimated.
    pub fn bytes(&self) -> usize {
        let entries = |s: &SurfaceCounts| {
            s.counts.iter().map(|b| 24 + b.capacity() * 16).sum::<usize>() + s.ranked.len() * 8
        };
        self.surfaces.values().map(entries).sum()
    }
}

impl SurfaceCounts {
    fn new(half_life_hours: f64) -> Self {
        let half_life_ms = half_life_hours * HOUR_MS as f64;
        Self {
            half_life_ms,
            bucket_ms: ((half_life_ms / BUCKETS_PER_HALF_LIFE) as i64).max(1),
            counts: Vec::new(),
            newest: i64::MIN,
            ranked: Arc::from([]),
            stale: false,
        }
    }

    fn observe(&mut self, item: ItemHandle, at: EventTime, weight: u32) {
        let bucket = at.millis().div_euclid(self.bucket_ms);
        self.newest = self.newest.max(bucket);
        if bucket <= self.newest - BUCKETS_KEPT {
            return;
        }
        let place = item.0 as usize;
        if place >= self.counts.len() {
            self.counts.resize_with(place + 1, Vec::new);
        }
        let buckets = &mut self.counts[place];
        match buckets.binary_search_by_key(&bucket, |b| b.0) {
            Ok(found) => buckets[found].1 = buckets[found].1.saturating_add(weight),
            Err(place) => buckets.insert(place, (bucket, weight)),
        }
        self.stale = true;
    }

    /// Items that have a count, with what is left of it.
    fn decayed(&self) -> impl Iterator<Item = (ItemHandle, f32)> {
        let per_bucket = self.bucket_ms as f64 / self.half_life_ms;
        let (newest, oldest) = (self.newest, self.newest - BUCKETS_KEPT);
        self.counts.iter().enumerate().filter(|(_, buckets)| !buckets.is_empty()).map(
            move |(item, buckets)| {
                // Buckets ascend, so the sum has one order whatever order the counts came in.
                let decayed = |b: &(i64, u32)| {
                    f64::from(b.1) * (-((newest - b.0) as f64) * per_bucket).exp2()
                };
                let kept = buckets.iter().filter(|b| b.0 > oldest);
                (ItemHandle(item as u32), kept.map(decayed).sum::<f64>() as f32)
            },
        )
    }

    fn rank(&mut self) {
        let oldest = self.newest - BUCKETS_KEPT;
        for buckets in &mut self.counts {
            if buckets.first().is_some_and(|b| b.0 <= oldest) {
                buckets.retain(|b| b.0 > oldest);
                buckets.shrink_to_fit();
            }
        }
        let mut all: Vec<(ItemHandle, f32)> = self.decayed().collect();
        // Ties by handle: handles differ between processes, the serving seed orders them anyway.
        let better =
            |a: &(ItemHandle, f32), b: &(ItemHandle, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if all.len() > TOP {
            all.select_nth_unstable_by(TOP, better);
            all.truncate(TOP);
        }
        all.sort_unstable_by(better);
        self.ranked = all.into();
        self.stale = false;
    }
}

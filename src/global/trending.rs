//! What many people watch now, by surface: counts by time bucket, decayed when ranked.
//!
//! Counts are integers, so that the order of interactions does not matter. Exponential decay
//! scales all items alike as time passes: a ranking only changes when something is counted.

use std::collections::HashMap;
use std::sync::Arc;

use super::interner::{ItemHandle, Items};
use crate::time::{EventTime, HOUR_MS};

/// Buckets per half-life. More: smoother decay, more memory. Eight keeps the step at 9 %.
const BUCKETS_PER_HALF_LIFE: f64 = 8.0;
/// Buckets kept per item: eight half-lives, after which 0.4 % of a count is left.
const BUCKETS_KEPT: i64 = 64;
/// Length of a ranked list. A request for 500 items of a user who has seen half of it still
/// finds enough.
const TOP: usize = 1_000;

/// Items of a surface whose old buckets are let go of with each ranking: few enough that nobody
/// notices. A million are gone through in a quarter of an hour.
const SWEPT: usize = 1_024;

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
    watched: Arc<[(u64, f32)]>,
}

/// What is ranked, and not yet shown.
pub struct Ranking {
    surfaces: Vec<(Box<str>, u64, Ranked)>,
    watched: Option<Arc<[(u64, f32)]>>,
}

/// Items with what is left of their counts.
type Ranked = Arc<[(ItemHandle, f32)]>;

struct SurfaceCounts {
    bucket_ms: i64,
    /// What is left of a count, by buckets since.
    left: Vec<f64>,
    /// By item handle, which are dense: a hash table would cost a cache miss more per event.
    counts: Vec<Vec<(i64, u32)>>,
    newest: i64,
    /// Interactions counted, and those that the ranking knows.
    observed: u64,
    ranked_at: u64,
    ranked: Ranked,
    /// Where old buckets are let go next.
    sweep: usize,
}

impl Trending {
    /// Nothing counted yet.
    pub fn new(half_lives: HalfLives) -> Self {
        Self { half_lives, surfaces: HashMap::new(), watched: Arc::from([]) }
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

    /// The items of a surface by decayed count, best first, as of the last ranking. Empty for
    /// a surface without any.
    pub fn top(&self, surface: &str) -> Ranked {
        self.surfaces.get(surface).map_or_else(|| Arc::from([]), |s| Arc::clone(&s.ranked))
    }

    /// What is left of an item's count on a surface, as of the newest event there; over all surfaces
    /// where nothing was counted on this one.
    pub fn count(&self, surface: &str, item: ItemHandle) -> f32 {
        let surface = self.surfaces.get(surface).or_else(|| self.surfaces.get(""));
        surface.map_or(0.0, |s| s.counts.get(item.0 as usize).map_or(0.0, |b| s.left_of(b)))
    }

    /// The decayed count of every item that has one, by its XXH3-64, over all surfaces, as of the
    /// last ranking.
    pub fn watched(&self) -> Arc<[(u64, f32)]> {
        Arc::clone(&self.watched)
    }

    /// Ranks the surfaces on which something was counted since they were ranked: looks at every
    /// item.
    pub fn rank(&self, items: &Items) -> Ranking {
        let stale = self.surfaces.iter().filter(|(_, s)| s.observed > s.ranked_at);
        let ranked = stale.map(|(name, s)| (name.clone(), s.observed, s.rank()));
        let surfaces: Vec<_> = ranked.collect();
        let is_new = surfaces.iter().any(|(name, ..)| name.is_empty());
        let all = self.surfaces.get("").filter(|_| is_new);
        let watched = all.map(|s| s.decayed().map(|(item, n)| (items.hash(item), n)).collect());
        Ranking { surfaces, watched }
    }

    /// Shows a ranking; lets go of some of what is too old to count.
    pub fn show(&mut self, ranking: Ranking) {
        for (name, observed, ranked) in ranking.surfaces {
            if let Some(surface) = self.surfaces.get_mut(&name) {
                (surface.ranked, surface.ranked_at) = (ranked, observed);
                surface.let_go();
            }
        }
        if let Some(watched) = ranking.watched {
            self.watched = watched;
        }
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
        let bucket_ms = ((half_life_ms / BUCKETS_PER_HALF_LIFE) as i64).max(1);
        let per_bucket = bucket_ms as f64 / half_life_ms;
        Self {
            bucket_ms,
            left: (0..BUCKETS_KEPT).map(|age| (-(age as f64) * per_bucket).exp2()).collect(),
            counts: Vec::new(),
            newest: i64::MIN,
            observed: 0,
            ranked_at: 0,
            ranked: Arc::from([]),
            sweep: 0,
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
        self.observed += 1;
    }

    /// Items that have a count, with what is left of it.
    fn decayed(&self) -> impl Iterator<Item = (ItemHandle, f32)> {
        let items = self.counts.iter().enumerate();
        let counted = items.map(|(item, buckets)| (ItemHandle(item as u32), self.left_of(buckets)));
        counted.filter(|(_, left)| *left > 0.0)
    }

    /// What is left of a count.
    fn left_of(&self, buckets: &[(i64, u32)]) -> f32 {
        // Buckets ascend, so the sum has one order whatever order the counts came in.
        let left = |b: &(i64, u32)| {
            let age = usize::try_from(self.newest - b.0).unwrap_or(usize::MAX);
            self.left.get(age).map(|left| f64::from(b.1) * left)
        };
        buckets.iter().filter_map(left).sum::<f64>() as f32
    }

    /// Lets go of old buckets of the next items.
    fn let_go(&mut self) {
        let oldest = self.newest - BUCKETS_KEPT;
        let from = if self.sweep < self.counts.len() { self.sweep } else { 0 };
        self.sweep = (from + SWEPT).min(self.counts.len());
        for buckets in &mut self.counts[from..self.sweep] {
            if buckets.first().is_some_and(|b| b.0 <= oldest) {
                buckets.retain(|b| b.0 > oldest);
                buckets.shrink_to_fit();
            }
        }
    }

    fn rank(&self) -> Ranked {
        let mut all: Vec<(ItemHandle, f32)> = self.decayed().collect();
        // Ties by handle: handles differ between processes, the serving seed orders them anyway.
        let better =
            |a: &(ItemHandle, f32), b: &(ItemHandle, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if all.len() > TOP {
            all.select_nth_unstable_by(TOP, better);
            all.truncate(TOP);
        }
        all.sort_unstable_by(better);
        all.into()
    }
}

//! Exploration: some places are given to new or little known items, drawn at random, so that the
//! platform learns of them, and so that what is learnt from lists is not only about what lists
//! held before.
//!
//! Each place is, independently and with probability ε, an exploration place. An item of the pool
//! then stands in for the one that would be there. Drawn is by systematic sampling with unequal
//! probabilities (Madow, 1949): the items of the pool lie on a circle of length 1, item i on an
//! arc of length q(i); one point is drawn uniformly, and place k of n takes the arc that lies k/n
//! further on. Every point by itself is uniform, and no arc is longer than 1/n, the distance of
//! two points. So no item comes twice, and exactly:
//!
//! ```text
//! P(pool item i is at place k) = ε · q(i)
//! P(item k of the list is at place k) = 1 − ε · Σ q
//! ```
//!
//! for every place: propensities do not depend on the place, which is what makes the effect of a
//! place measurable. They are marginal probabilities of an item at a place, given the candidates,
//! their scores and the order in which the seed puts equals. They say nothing of two places at
//! once: those are not independent.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::embedding::ItemCounts;
use crate::ids::stable_hash;
use crate::serving::pipeline::Scored;
use crate::serving::query::{Candidate, Query, SourceKind};

/// Items with fewer watches and clicks than this are little known.
const LITTLE_KNOWN: u64 = 20;
/// How much an item that promises more is preferred: of one that nobody has watched, 16 are drawn
/// for one of 20 watches that nobody finished.
const SHARPNESS: f64 = 4.0;

/// An item that may be drawn, and its weight.
pub(super) struct Unproven {
    pub(super) candidate: Candidate,
    pub(super) weight: f64,
}

/// Those of the candidates that are new or little known, in an order that is always the same.
pub(super) fn pool(query: &Query<'_>, candidates: Vec<Candidate>) -> Vec<Unproven> {
    let mut pool: Vec<Unproven> = Vec::new();
    let totals = query.world.items.totals(candidates.iter().map(|c| c.hash));
    for (candidate, totals) in candidates.into_iter().zip(&totals) {
        let events = totals.watches + totals.clicks;
        if events < LITTLE_KNOWN || candidate.is_from(SourceKind::Fresh) {
            let weight = (SHARPNESS * promise(totals)).exp();
            pool.push(Unproven { candidate, weight });
        }
    }
    pool.sort_unstable_by_key(|unproven| unproven.candidate.hash);
    pool
}

/// What may be hoped of an item: mean and one standard deviation of Beta(hits + 1, misses + 1),
/// where a click and a watch of at least half of the item are hits. 0.79 where nothing is known.
fn promise(totals: &ItemCounts) -> f64 {
    let events = (totals.watches + totals.clicks) as f64;
    let hits = ((totals.long_views + totals.clicks) as f64).min(events);
    let (a, b) = (hits + 1.0, events - hits + 1.0);
    let mean = a / (a + b);
    mean + (mean * (1.0 - mean) / (a + b + 1.0)).sqrt()
}

/// The list with `share` of its places, on average, given to the pool; see the module.
pub(super) fn explore(
    share: f64,
    seed: u64,
    list: Vec<Candidate>,
    pool: Vec<Unproven>,
) -> Vec<Scored> {
    let weights: Vec<f64> = pool.iter().map(|unproven| unproven.weight).collect();
    let arcs = arcs(&weights, 1.0 / list.len() as f64);
    let kept = 1.0 - share * arcs.iter().sum::<f64>();
    let mut ends = arcs.clone();
    for place in 1..ends.len() {
        ends[place] += ends[place - 1];
    }
    let mut pool: Vec<Option<Candidate>> =
        pool.into_iter().map(|unproven| Some(unproven.candidate)).collect();
    let mut random = ChaCha8Rng::seed_from_u64(stable_hash(&seed.to_le_bytes()));
    let start = random.random::<f64>();
    let places = list.len() as f64;
    let mut explored = Vec::with_capacity(list.len());
    for (place, own) in list.into_iter().enumerate() {
        let point = (start + place as f64 / places).fract();
        let is_explored = random.random::<f64>() < share;
        let arc = ends.partition_point(|end| *end <= point);
        // Where the pool is smaller than the list, the circle has an empty arc: its own item
        // stays. So it does where rounding has two points at the same end of an arc.
        let drawn = pool.get_mut(arc).filter(|_| is_explored).and_then(Option::take);
        explored.push(match drawn {
            Some(candidate) => Scored { candidate, propensity: share * arcs[arc], explored: true },
            None => Scored { candidate: own, propensity: kept, explored: false },
        });
    }
    explored
}

/// Shares of 1 in proportion to the weights, none above `most`: what is above it goes to the
/// others. They add up to less than 1 where all are at `most`.
fn arcs(weights: &[f64], most: f64) -> Vec<f64> {
    let mut heaviest_first: Vec<f64> = weights.to_vec();
    heaviest_first.sort_by(|a, b| b.total_cmp(a));
    let mut left: f64 = weights.iter().sum();
    let mut free = 1.0;
    // How long an arc a weight of 1 gets, once the heaviest are cut.
    let mut scale = free / left;
    for weight in heaviest_first {
        if weight * scale <= most {
            break;
        }
        free -= most;
        left -= weight;
        scale = if free > 0.0 && left > 0.0 { free / left } else { f64::INFINITY };
    }
    weights.iter().map(|weight| (weight * scale).min(most)).collect()
}

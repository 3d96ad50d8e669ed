//! Maximal marginal relevance (Carbonell and Goldstein, 1998), greedily, one place at a time:
//!
//! ```text
//! next = argmax_i  s(i) / max_j s(j)  −  λ · max_{c on the list} sim(i, c)
//! ```
//!
//! over what is left. Relevance is relative to the best that is left, so that λ means the same at
//! every place, however steeply scores fall.
//!
//! Of an item of which nothing is known nobody can say what it is like. It counts as like as the
//! others are on average: if it counted as unlike all, what is new would be lifted for being unknown.

use std::collections::HashMap;

use super::{ListRules, WINDOW};
use crate::catalog::{Catalog, Standing};
use crate::embedding::ItemTables;
use crate::model::BasisVersion;
use crate::model::vector::dot;
use crate::serving::query::{Candidate, Query};

/// Places that are diversified: more than a screen shows. Longer lists go on by score, so that
/// their price does not grow with the square of their length.
const PLACES: usize = 100;

/// What is known of an item that makes it like another.
struct Traits<'a> {
    /// Of length 1, over the basis that serves.
    vector: Option<Vec<f32>>,
    creator: Option<u32>,
    labels: &'a [u32],
}

impl<'a> Traits<'a> {
    /// Those of items given by hash.
    fn of(
        hashes: &[u64],
        catalog: &'a Catalog,
        items: &ItemTables,
        basis: Option<BasisVersion>,
    ) -> Vec<Self> {
        let vectors = match basis {
            Some(basis) => items.vectors(basis, hashes.iter().copied()),
            None => vec![None; hashes.len()],
        };
        let traits = |(hash, vector): (&u64, Option<Vec<f32>>)| {
            let (creator, labels) = match catalog.find(*hash) {
                Standing::Listed(listing) => (listing.creator_number(), listing.labels()),
                Standing::Delisted | Standing::Unknown => (None, &[][..]),
            };
            Self { vector: vector.and_then(unit), creator, labels }
        };
        hashes.iter().zip(vectors).map(traits).collect()
    }

    /// How alike two items are, 0 to 1: the cosine of their live vectors; where one has none, 1
    /// for the same creator, else the share of their labels that they have in common. None where
    /// they have nothing of one kind to compare.
    fn similarity(&self, other: &Self) -> Option<f64> {
        if let (Some(a), Some(b)) = (&self.vector, &other.vector) {
            return Some(f64::from(dot(a, b)).clamp(0.0, 1.0));
        }
        let creators = self.creator.zip(other.creator);
        if creators.is_some_and(|(a, b)| a == b) {
            return Some(1.0);
        }
        let have_labels = !self.labels.is_empty() && !other.labels.is_empty();
        let common = self.labels.iter().filter(|label| other.labels.contains(label)).count();
        let all = self.labels.len() + other.labels.len() - common;
        (creators.is_some() || have_labels).then(|| common as f64 / all.max(1) as f64)
    }
}

/// The mean of what is known; 0 where nothing is.
fn mean(similarities: &[Option<f64>]) -> f64 {
    let known = || similarities.iter().flatten();
    known().sum::<f64>() / known().count().max(1) as f64
}

fn unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let length = dot(&vector, &vector).sqrt();
    let has_direction = length > 0.0 && length.is_finite();
    has_direction.then(|| {
        vector.iter_mut().for_each(|x| *x /= length);
        vector
    })
}

/// The mean of 1 − similarity over the pairs of a list, given by hash, that can be compared: 0 where
/// all are alike, 1 where none is like another. None where no two can be.
pub fn intra_list_diversity(list: &[u64], catalog: &Catalog, items: &ItemTables) -> Option<f64> {
    let traits = Traits::of(list, catalog, items, items.serving());
    let (mut sum, mut pairs) = (0.0, 0);
    for (place, one) in traits.iter().enumerate() {
        for similarity in traits[place + 1..].iter().filter_map(|other| one.similarity(other)) {
            sum += 1.0 - similarity;
            pairs += 1;
        }
    }
    (pairs > 0).then(|| sum / f64::from(pairs))
}

/// `count` of the `window`, which is sorted best first, in the order in which they are chosen;
/// and those that are not. Where the cap on creators would leave the list short, it does not hold.
pub(super) fn diversify(
    rules: &ListRules,
    query: &Query<'_>,
    window: Vec<Candidate>,
    count: usize,
) -> (Vec<Candidate>, Vec<Candidate>) {
    let (catalog, items) = (query.world.catalog, query.world.items);
    let places = if rules.diversity > 0.0 { count.min(PLACES) } else { 0 };
    let near = window.len().min(places * WINDOW);
    let hashes: Vec<u64> = window[..near].iter().map(|c| c.hash).collect();
    let traits = Traits::of(&hashes, catalog, items, query.basis);
    let creators: Vec<Option<u32>> =
        window.iter().map(|c| c.listing(query).and_then(|l| l.creator_number())).collect();
    let mut of_creator: HashMap<u32, usize> = HashMap::new();
    let mut closest = vec![0.0; near];
    let mut left: Vec<usize> = (0..window.len()).collect();
    let mut chosen = Vec::with_capacity(count.min(window.len()));
    while chosen.len() < count && !left.is_empty() {
        let is_full = |place: usize| {
            let creator = creators[place].and_then(|creator| of_creator.get(&creator));
            creator.is_some_and(|there| *there >= rules.max_per_creator)
        };
        let diversified = chosen.len() < places;
        let reach = if diversified { near } else { window.len() };
        let within = || left.iter().enumerate().filter(|(_, place)| **place < reach);
        let next = {
            let open = within().filter(|(_, place)| !is_full(**place));
            let value = |place: usize, best: f64| {
                let relevance = if best > 0.0 { window[place].score / best } else { 1.0 };
                let price = if diversified { rules.diversity * closest[place] } else { 0.0 };
                (relevance, relevance - price)
            };
            first_best(open.map(|(at, place)| (at, *place)), |place| window[place].score, value)
        };
        // The window holds more than the list: where all that is left is of full creators, the
        // best of them fill it.
        let at = next.unwrap_or(0);
        let place = left.remove(at);
        if diversified {
            let others = || left.iter().copied().filter(|other| *other < near);
            let similarities: Vec<Option<f64>> =
                others().map(|other| traits[other].similarity(&traits[place])).collect();
            let mean = mean(&similarities);
            for (other, similarity) in others().zip(similarities) {
                closest[other] = f64::max(closest[other], similarity.unwrap_or(mean));
            }
        }
        if let Some(creator) = creators[place] {
            *of_creator.entry(creator).or_default() += 1;
        }
        chosen.push(place);
    }
    let mut window: Vec<Option<Candidate>> = window.into_iter().map(Some).collect();
    let list = chosen.into_iter().filter_map(|place| window[place].take()).collect();
    (list, window.into_iter().flatten().collect())
}

/// Where the first of the best is, among places sorted by score. Stops where what is left is too
/// far below: similarity only takes away.
fn first_best(
    places: impl Iterator<Item = (usize, usize)>,
    score: impl Fn(usize) -> f64,
    value: impl Fn(usize, f64) -> (f64, f64),
) -> Option<usize> {
    let mut best_score = None;
    let mut best: Option<(usize, f64)> = None;
    for (at, place) in places {
        let (relevance, value) = value(place, *best_score.get_or_insert(score(place)));
        match best {
            Some((_, highest)) if relevance <= highest => break,
            Some((_, highest)) if value <= highest => {}
            _ => best = Some((at, value)),
        }
    }
    best.map(|(at, _)| at)
}

//! The ranker in the pipeline: the best candidates of the mixture, weighed by how likely they are taken.
//!
//! ```text
//! score(i) ∝ mixture(i) · (w_c · p_click(i) + w_l · p_long(i))^strength
//! ```
//!
//! The mixture says what somebody like this chooses next, of all there is; the ranker how likely an item
//! is taken once it is shown. It sees the best of the mixture only, each with the features of
//! [`crate::ranking`]; they and what they scored go into the list's record, which it learns from.
//! Before it has learnt from enough it looks, so that there is something to learn from, and changes
//! nothing.

use super::pipeline::{Scored, Scorer};
use super::query::{Candidate, Query};
use crate::event::Source;
use crate::ids::stable_hash;
use crate::ranking::{
    CLICK, Context, Globals, History, Item, LONG_VIEW, NEWEST, Scores, Served, UserCounters,
    Viewer, Watch, Weights, key_of,
};

/// Labels of an item that are hashed features; more are rare, and each costs a look-up.
const LABELS: usize = 8;

/// What the ranker saw of a candidate, and what it says of it.
#[derive(Clone, Debug)]
pub struct Look {
    /// The features and log-odds.
    pub served: Served,
    /// What is predicted.
    pub scores: Scores,
}

/// What decides about how the ranker is heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankerRules {
    /// Best candidates of the mixture that it sees.
    pub candidates: usize,
    /// Examples from which on it is heard.
    pub min_examples: u64,
    /// What the probability of a click counts.
    pub click: f64,
    /// What the probability of a long view counts.
    pub long_view: f64,
    /// How much it counts next to the mixture; 0 for not at all.
    pub strength: f64,
    /// Milliseconds of a watch from which it is a long view.
    pub long_view_ms: u64,
}

impl Default for RankerRules {
    fn default() -> Self {
        Self {
            candidates: 100,
            min_examples: 5_000,
            click: 1.0,
            long_view: 1.0,
            strength: 5.0,
            long_view_ms: 18_000,
        }
    }
}

/// What the ranker knows.
#[derive(Clone, Copy)]
pub struct Ranking<'a> {
    /// Of items, creators, categories and surfaces.
    pub globals: &'a Globals,
    /// What it learnt.
    pub weights: &'a Weights,
    /// Of the user; empty for a user never seen, or where it is missing.
    pub user: &'a UserCounters,
    /// How it is heard.
    pub rules: RankerRules,
}

impl Ranking<'_> {
    /// Whether it has learnt enough to be heard.
    pub fn is_heard(&self) -> bool {
        self.rules.strength > 0.0 && self.weights.learnt() >= self.rules.min_examples.max(1)
    }

    fn value(&self, scores: &Scores) -> f64 {
        let [click, long_view] = [CLICK, LONG_VIEW].map(|t| f64::from(scores.probabilities[t]));
        self.rules.click * click + self.rules.long_view * long_view
    }
}

/// See the module. Scores keep their sum.
pub struct Ranked;

impl Scorer for Ranked {
    fn name(&self) -> &'static str {
        "ranked"
    }

    fn score(&self, query: &Query<'_>, candidates: &mut [Candidate]) {
        let Some(ranking) = &query.world.ranking else { return };
        let mut best: Vec<usize> = (0..candidates.len()).collect();
        let rank = |n: &usize| (candidates[*n].score, candidates[*n].hash);
        best.sort_unstable_by(|a, b| {
            let (a, b) = (rank(a), rank(b));
            b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
        });
        best.truncate(ranking.rules.candidates);
        let mut values = vec![None; candidates.len()];
        look(query, ranking, |look| {
            for place in best {
                let seen = look(&candidates[place]);
                values[place] = Some(ranking.value(&seen.scores));
                candidates[place].ranked = Some(Box::new(seen));
            }
        });
        if ranking.is_heard() {
            weigh(candidates, &values, ranking.rules.strength);
        }
    }
}

/// Multiplies scores with the values' power. What has none counts as the least.
fn weigh(candidates: &mut [Candidate], values: &[Option<f64>], strength: f64) {
    let least = values.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let sum = |candidates: &[Candidate]| candidates.iter().map(|c| c.score).sum::<f64>();
    let before = sum(candidates);
    for (candidate, value) in candidates.iter_mut().zip(values) {
        candidate.score *= value.unwrap_or(least).powf(strength);
    }
    let after = sum(candidates);
    if after > 0.0 {
        candidates.iter_mut().for_each(|candidate| candidate.score *= before / after);
    }
}

/// What the ranker saw of each item of a list, in its order: what was drawn from beyond the best is
/// looked at now. Nothing where there is no ranker.
pub(super) fn seen(query: &Query<'_>, list: &[Scored]) -> Vec<Look> {
    let Some(ranking) = &query.world.ranking else { return Vec::new() };
    let known = list.iter().map(|scored| scored.candidate.ranked.as_deref().cloned());
    let known: Vec<Option<Look>> = known.collect();
    if known.iter().all(Option::is_some) {
        return known.into_iter().flatten().collect();
    }
    look(query, ranking, |look| {
        let of = |(known, scored): (Option<Look>, &Scored)| {
            known.unwrap_or_else(|| look(&scored.candidate))
        };
        known.into_iter().zip(list).map(of).collect()
    })
}

/// Lets `then` look at candidates of a query.
fn look<R>(
    query: &Query<'_>,
    ranking: &Ranking<'_>,
    then: impl FnOnce(&dyn Fn(&Candidate) -> Look) -> R,
) -> R {
    let surface = stable_hash(query.request.surface.as_str().as_bytes());
    let user = stable_hash(query.request.user.as_str().as_bytes());
    let context = Context { user, surface, at: query.at, profile: &[] };
    let watches = watches(query, ranking.rules.long_view_ms);
    let clicked = query.history.iter().rev().filter(|past| past.source == Source::Click);
    let clicked: Vec<u64> = clicked.take(NEWEST).map(|past| past.hash).collect();
    let long = watches.iter().filter(|watch| watch.long_view);
    let long: Vec<u64> = long.take(NEWEST).map(|watch| watch.item).collect();
    let history = History { watches: &watches, taken: [&clicked, &long] };
    let exposures = query.world.shown.exposures();
    let viewer = Viewer::new(ranking.globals, context, ranking.user, exposures, history);
    let shift = ranking.weights.shift(surface);
    then(&|candidate| {
        let item = item(query, candidate);
        let mut served = Served::default();
        viewer.features_of(&item, &mut served.features);
        let scores = ranking.weights.score_on(&served.features, &shift, item.duration_ms);
        served.logged = scores.logged;
        Look { served, scores }
    })
}

/// The user's watches, the newest first.
fn watches(query: &Query<'_>, long_view_ms: u64) -> Vec<Watch> {
    let watched = query.history.iter().rev().filter(|past| past.source == Source::Watch);
    let of = |past: &super::HistoryItem<'_>| {
        let duration_ms = u64::from(past.duration_s) * 1_000;
        let watched_ms = (f64::from(past.fraction) * duration_ms as f64) as u64;
        let listing = query.world.catalog.find(past.hash).listing();
        let category = listing.and_then(|listing| listing.categories().next());
        Watch {
            item: past.hash,
            category: key_of(category.unwrap_or_default()),
            duration_ms,
            long_view: duration_ms > 0 && watched_ms >= duration_ms.min(long_view_ms),
            at: past.at,
        }
    };
    watched.map(of).collect()
}

fn item(query: &Query<'_>, candidate: &Candidate) -> Item {
    let Some(listing) = candidate.listing(query) else {
        return Item { id: candidate.hash, ..Item::default() };
    };
    Item {
        id: candidate.hash,
        creator: key_of(listing.creator()),
        category: key_of(listing.categories().next().unwrap_or_default()),
        duration_ms: listing.duration_ms(),
        published: listing.published(),
        attributes: listing.label_texts().take(LABELS).map(key_of).collect(),
    }
}

//! The blend: how much the word of each source counts, learned from what people choose.
//!
//! The scores of a source's first items, divided by their sum, are its guess p_s(i) at what the
//! user chooses next; their square roots are a more cautious one, and the roots of those. The blend
//! is their mixture, p(i) = Σ_s w_s · p_s(i): a linear opinion pool (Stone, 1961). Its weights are
//! those that make what was chosen most likely, found by expectation maximisation, a step an event
//! (Cappé and Moulines, 2009): a source is credited with its share in the mixture's guess at the
//! item,
//!
//! ```text
//! w_s += η · (w_s p_s(i) / p(i) − w_s),   η = max(1 / (n + 10), 1 / 2,000)
//! ```
//!
//! Then all give a little to be shared equally (Herbster and Warmuth, 1998): a source that was
//! useless for long must be able to come back. Part of the mixture is that any item may come, so
//! that a source that is right by chance earns nothing. What suits a shop, where sessions repeat each other, is useless for short videos,
//! where they do not: no fixed weights served both (`docs/benchmarks.md`).
//!
//! A mixture can say that one source or the other is right, not that an item is right because both
//! are. So what it finds is weighed once more by a [`Refinement`].

mod refinement;

use crate::catalog::Catalog;
use crate::embedding::ItemTables;
use crate::event::{Interaction, Request};
use crate::feature::UserState;
use crate::global::{self, GlobalTables, ItemHandle};
use crate::ids::{Surface, UserId, stable_hash};
use crate::time::EventTime;

pub(super) use refinement::Refinement;

use super::pipeline::Pipeline;
use super::query::{Candidate, Contribution, HistoryItem, Query, SourceKind, World};
use super::shown::Shown;

/// What is shared equally after each event. At 2,000 events remembered, a useless source keeps a
/// fiftieth of an equal share.
const SHARED: f64 = 1e-5;
/// Events until the first weights, which are equal, count for little.
const PRIOR_EVENTS: f64 = 10.0;
/// What a source has of the first weights that lean to it, beyond its equal share.
const LEANING: f64 = 0.8;
/// Events that weights remember: enough for steady ones, few enough to follow a platform's day.
const MEMORY: f64 = 2_000.0;
/// Events predicted before they are learnt: each at first, then one in so many, from so many on.
/// A prediction takes as long as a list.
const STRIDES: [(u64, u64); 3] = [(2_000, 256), (500, 16), (0, 1)];
/// The same while tables are warmed, when everybody waits: half a million records are 500.
const WARMING_STRIDE: u64 = 1_024;
/// Newest items that a prediction is made from.
const HISTORY: usize = 32;
/// What a source puts forward first is its guess: about as many as a list holds. A source is not
/// credited for what it puts further down, which no list would show.
const HIT: usize = 20;
/// What an unfinished watch weighs. It cannot be learned from new items: it is placed among the
/// first where other sources are not sure.
const UNFINISHED: f64 = 0.05;
/// The others.
const LEARNED: [SourceKind; SourceKind::ALL.len() - 1] = [
    SourceKind::Neighbours,
    SourceKind::Trending,
    SourceKind::Content,
    SourceKind::Creators,
    SourceKind::Fresh,
    SourceKind::Nearest,
    SourceKind::CoWatched,
    SourceKind::Transitions,
];
/// Fewer items than this are no world yet in which any of them might come.
const LEAST_ITEMS: usize = 1_000;

/// Powers of its scores in which a source is heard. Scores of a source that is too sure of its
/// first items are flattened; which is right depends on the platform, so that is learned too.
const POWERS: [fn(f64) -> f64; 3] = [|score| score, f64::sqrt, |score| score.sqrt().sqrt()];

/// An equal share of the weights. One voice is that any item may come.
const EQUAL: f64 = 1.0 / (LEARNED.len() * POWERS.len() + 1) as f64;

/// One number for each source and power.
type Voices = [[f64; POWERS.len()]; SourceKind::ALL.len()];

/// The weights. They and [`Blend::any`] add up to 1 over the sources that are learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Blend {
    weights: Voices,
    any: f64,
    observed: u64,
    refinement: Refinement,
}

impl Default for Blend {
    fn default() -> Self {
        let mut weights = [[EQUAL; POWERS.len()]; SourceKind::ALL.len()];
        weights[SourceKind::Unfinished as usize] = [UNFINISHED, 0.0, 0.0];
        Self { weights, any: EQUAL, observed: 0, refinement: Refinement::default() }
    }
}

impl Blend {
    /// First weights of which one source has nearly all.
    fn leaning_to(source: SourceKind) -> Self {
        let mut blend = Self::default();
        let shared = 1.0 - LEANING;
        LEARNED.iter().for_each(|kind| {
            blend.weights[*kind as usize].iter_mut().for_each(|weight| *weight *= shared);
        });
        blend.any *= shared;
        blend.weights[source as usize].iter_mut().for_each(|w| *w += LEANING / POWERS.len() as f64);
        blend
    }

    /// The weight of a source, 0 to 1.
    pub fn weight(&self, source: SourceKind) -> f64 {
        self.weights[source as usize].iter().sum()
    }

    /// The probability that none of the sources was right but by chance.
    pub fn any(&self) -> f64 {
        self.any
    }

    /// Events learned from.
    pub fn observed(&self) -> u64 {
        self.observed
    }

    /// What weighs once more what the mixture finds.
    pub(super) fn refinement(&self) -> &Refinement {
        &self.refinement
    }

    /// Shares candidates out among the sources that put them forward, and scores them by the mixture.
    pub(super) fn mix(&self, candidates: &mut [Candidate], totals: &Totals) {
        for candidate in candidates {
            for contribution in &mut candidate.contributions {
                contribution.share = self.share(contribution.source, contribution.score, totals);
            }
            candidate.contributions.sort_by(|a, b| b.share.total_cmp(&a.share));
            candidate.score = candidate.contributions.iter().map(|c| c.share).sum();
        }
    }

    /// What a source's score for an item adds to the mixture's guess at it.
    fn share(&self, source: SourceKind, score: f32, totals: &Totals) -> f64 {
        let voices = voices(source, score, totals);
        self.weights[source as usize].iter().zip(voices).map(|(weight, voice)| weight * voice).sum()
    }

    /// Learns that of the candidates of a query the item of hash `chosen` was. Returns the sources'
    /// guesses at it; 0 where it is not among a source's first.
    fn observe(
        &mut self,
        query: &Query<'_>,
        candidates: &mut [Candidate],
        chosen: u64,
        by_chance: f64,
    ) -> Voices {
        let totals = Totals::of(candidates);
        self.mix(candidates, &totals);
        let place = candidates.iter().position(|c| c.hash == chosen);
        let guesses = place.map_or_else(Voices::default, |p| guesses(&candidates[p], &totals));
        if let Some(place) = place {
            self.refinement.learn(query, candidates, &totals, place);
        }
        self.learn(&guesses, by_chance);
        guesses
    }

    /// One step: `guesses` are the probabilities that sources gave what was chosen, `by_chance`
    /// is that of any item.
    fn learn(&mut self, guesses: &Voices, by_chance: f64) {
        let step = (1.0 / (self.observed as f64 + PRIOR_EVENTS)).max(1.0 / MEMORY);
        self.observed += 1;
        let mut shares = self.weights;
        let mut all = self.any * by_chance;
        for kind in LEARNED {
            for (share, guess) in shares[kind as usize].iter_mut().zip(guesses[kind as usize]) {
                *share *= guess;
                all += *share;
            }
        }
        let moved = |weight: f64, share: f64| {
            (1.0 - SHARED) * (weight + step * (share / all - weight)) + SHARED * EQUAL
        };
        self.any = moved(self.any, self.any * by_chance);
        for kind in LEARNED {
            for (weight, share) in self.weights[kind as usize].iter_mut().zip(shares[kind as usize])
            {
                *weight = moved(*weight, share);
            }
        }
    }
}

/// The mixture's guess at an item that no source put forward: that any may come.
pub(super) fn by_chance(query: &Query<'_>) -> f64 {
    query.world.blends.of(query).any * one_of(query.world.global)
}

/// The probability of an item if any may come.
fn one_of(tables: &GlobalTables) -> f64 {
    1.0 / tables.items().len().max(LEAST_ITEMS) as f64
}

/// What makes scores a guess: the sums of each source's best scores, by power, and the least of
/// those scores.
pub(super) struct Totals {
    sums: Voices,
    least: [f32; SourceKind::ALL.len()],
}

impl Totals {
    pub(super) fn of(candidates: &[Candidate]) -> Self {
        let mut scores: [Vec<f32>; SourceKind::ALL.len()] = Default::default();
        for contribution in candidates.iter().flat_map(|c| &c.contributions) {
            scores[contribution.source as usize].push(contribution.score);
        }
        let mut least = [f32::MIN_POSITIVE; SourceKind::ALL.len()];
        let mut sums = [[f64::MIN_POSITIVE; POWERS.len()]; SourceKind::ALL.len()];
        for (source, mut scores) in scores.into_iter().enumerate() {
            scores.sort_unstable_by(|a, b| b.total_cmp(a));
            scores.truncate(HIT);
            least[source] = scores.last().map_or(f32::MIN_POSITIVE, |s| s.max(f32::MIN_POSITIVE));
            for score in scores {
                let sums = sums[source].iter_mut();
                sums.zip(POWERS).for_each(|(sum, power)| *sum += power(score.into()));
            }
        }
        Self { sums, least }
    }
}

/// A source's guesses at an item.
fn voices(source: SourceKind, score: f32, totals: &Totals) -> [f64; POWERS.len()] {
    let totals = &totals.sums[source as usize];
    std::array::from_fn(|place| POWERS[place](score.into()) / totals[place])
}

/// A blend for each kind of list: what a user comes back to is found by other sources than what is
/// new to them, and what strangers want by others than what acquaintances do.
#[derive(Clone, Debug, PartialEq)]
pub struct Blends {
    /// For lists that hold nothing the user has seen.
    pub unseen: Blend,
    /// For lists that may.
    pub any: Blend,
    /// For users of whom nothing is known.
    pub newcomer: Blend,
}

impl Default for Blends {
    fn default() -> Self {
        // People choose from what they are shown, so what strangers are shown at first decides
        // what is learned of them: it had better be what many like.
        let newcomer = Blend::leaning_to(SourceKind::Trending);
        Self { unseen: Blend::default(), any: Blend::default(), newcomer }
    }
}

impl Blends {
    /// The one for a query.
    pub(super) fn of(&self, query: &Query<'_>) -> &Blend {
        self.named(query).1
    }

    /// The same with its name.
    pub(super) fn named(&self, query: &Query<'_>) -> (&'static str, &Blend) {
        if query.history.is_empty() && query.request.context_item.is_none() {
            ("newcomer", &self.newcomer)
        } else if query.request.include_seen {
            ("any", &self.any)
        } else {
            ("unseen", &self.unseen)
        }
    }
}

/// Predicts events before they are learnt, and weighs the sources by how well each did.
pub struct BlendLearner {
    pipeline: Pipeline,
    blends: Blends,
}

/// What a source said of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The source.
    pub source: SourceKind,
    /// Whether the item was among its first 20.
    pub hit: bool,
}

impl BlendLearner {
    /// For a pipeline, of which only the sources are used.
    pub fn new(pipeline: Pipeline) -> Self {
        Self { pipeline, blends: Blends::default() }
    }

    /// The weights so far.
    pub fn blends(&self) -> &Blends {
        &self.blends
    }

    /// Whether an event is one of those to be predicted: fewer while tables are `warming`. It goes
    /// by the event's own hash, so that all workers choose the same.
    pub fn chooses(&self, one: &Interaction<'_>, warming: bool) -> bool {
        let known = STRIDES.iter().find(|(from, _)| self.blends.any.observed >= *from);
        let stride = if warming { WARMING_STRIDE } else { known.map_or(1, |s| s.1) };
        (one.event as u64).is_multiple_of(stride) && global::is_liked(one)
    }

    /// Predicts an event from what its user liked before, then learns how well each source did. To
    /// be called before the tables learn it. Returns what sources said of an item that is new to
    /// the user; nothing of others, and where there is nothing to predict from.
    pub fn observe(
        &mut self,
        one: &Interaction<'_>,
        tables: &GlobalTables,
        catalog: &Catalog,
        items: &ItemTables,
    ) -> Vec<Prediction> {
        let user = UserState::default();
        let mut request = Request::new("", UserId::from(""), HIT);
        request.surface = Surface::from(one.surface);
        request.at = Some(EventTime::from_millis(one.event_time));
        request.include_seen = true;
        let blends = Blends::default();
        let shown = Shown::default();
        let world = World {
            user: &user,
            global: tables,
            catalog,
            items,
            blends: &blends,
            shown: &shown,
            ranking: None,
        };
        let mut query = Query::new(&request, world);
        query.history = history(one, tables);
        query.known = query.history.iter().map(|event| event.hash).collect();
        let is_newcomer =
            one.history.as_ref().is_some_and(|history| history.iter().next().is_none());
        if query.history.is_empty() && !is_newcomer {
            return Vec::new();
        }
        let mut candidates = self.pipeline.propose(&mut query);
        let chosen = stable_hash(one.item.as_bytes());
        let by_chance = one_of(tables);
        if is_newcomer {
            self.blends.newcomer.observe(&query, &mut candidates, chosen, by_chance);
            return Vec::new();
        }
        self.blends.any.observe(&query, &mut candidates, chosen, by_chance);
        if query.known.contains(&chosen) {
            return Vec::new();
        }
        candidates.retain(|c| !query.known.contains(&c.hash));
        let guesses = self.blends.unseen.observe(&query, &mut candidates, chosen, by_chance);
        let hit = |kind: SourceKind| guesses[kind as usize][0] > 0.0;
        let asked = self.pipeline.sources().filter(|kind| *kind != SourceKind::Unfinished);
        asked.map(|source| Prediction { source, hit: hit(source) }).collect()
    }
}

/// The sources' guesses at a candidate; 0 where it is not among a source's first.
fn guesses(candidate: &Candidate, totals: &Totals) -> Voices {
    let mut guesses = Voices::default();
    let best = |c: &&Contribution| c.score >= totals.least[c.source as usize];
    for c in candidate.contributions.iter().filter(best) {
        guesses[c.source as usize] = voices(c.source, c.score, totals);
    }
    guesses
}

/// What the user had liked before, oldest first: as the interaction says, else as far as its
/// session is held.
fn history<'a>(one: &Interaction<'_>, tables: &'a GlobalTables) -> Vec<HistoryItem<'a>> {
    let session = one.session as u64;
    let at = EventTime::from_millis(one.event_time);
    let liked = |item: ItemHandle| HistoryItem::chosen(tables.items().name(item), at, session);
    let mut newest_first: Vec<ItemHandle> = match &one.history {
        Some(history) => {
            history.iter().filter_map(|hash| tables.items().find_hash(hash)).take(HISTORY).collect()
        }
        None => {
            let held = tables.neighbours().session(session).filter(|(_, then)| *then <= at);
            let mut held: Vec<ItemHandle> = held.map(|(item, _)| item).collect();
            held.reverse();
            held
        }
    };
    newest_first.truncate(HISTORY);
    newest_first.into_iter().rev().map(liked).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOURCES: usize = SourceKind::ALL.len();

    fn sum(blend: &Blend) -> f64 {
        LEARNED.into_iter().map(|kind| blend.weight(kind)).sum::<f64>() + blend.any()
    }

    #[test]
    fn the_source_that_is_right_gets_the_weight() {
        let mut blend = Blend::default();
        let mut guesses = Voices::default();
        guesses[SourceKind::Neighbours as usize] = [0.2, 0.1, 0.1];
        guesses[SourceKind::Trending as usize] = [0.001; 3];
        (0..500).for_each(|_| blend.learn(&guesses, 1e-4));
        assert!(blend.weight(SourceKind::Neighbours) > 0.9, "{blend:?}");
        assert!(blend.weight(SourceKind::Trending) < 0.05, "{blend:?}");
    }

    #[test]
    fn a_source_that_is_right_by_chance_earns_nothing() {
        let mut blend = Blend::default();
        let mut guesses = Voices::default();
        for n in 0..4_000 {
            // One of a thousand items is named each time, with certainty: right once in a thousand.
            let is_right = n % 1_000 == 0;
            guesses[SourceKind::Neighbours as usize] = [f64::from(u8::from(is_right)); 3];
            blend.learn(&guesses, 1e-3);
        }
        assert!(blend.weight(SourceKind::Neighbours) < 0.01, "{blend:?}");
    }

    #[test]
    fn a_source_that_was_useless_for_long_comes_back() {
        let mut blend = Blend::default();
        let mut guesses = Voices::default();
        guesses[SourceKind::Trending as usize] = [0.05; 3];
        (0..100_000).for_each(|_| blend.learn(&guesses, 1e-4));
        assert!(blend.weight(SourceKind::Neighbours) < 0.1, "{blend:?}");
        guesses[SourceKind::Neighbours as usize] = [0.5; 3];
        (0..4_000).for_each(|_| blend.learn(&guesses, 1e-4));
        assert!(blend.weight(SourceKind::Neighbours) > 0.5, "{blend:?}");
    }

    proptest! {
        #[test]
        fn weights_stay_a_distribution(
            events in proptest::collection::vec(proptest::array::uniform::<_, SOURCES>([0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0]), 1..200),
        ) {
            let mut blend = Blend::default();
            for guesses in &events {
                blend.learn(guesses, 1e-4);
            }
            prop_assert!((sum(&blend) - 1.0).abs() < 1e-9);
            prop_assert!(SourceKind::ALL.iter().all(|kind| blend.weight(*kind) >= 0.0));
            prop_assert_eq!(blend.weight(SourceKind::Unfinished), UNFINISHED);
        }
    }
}

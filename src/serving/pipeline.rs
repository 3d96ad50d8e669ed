//! The framework: runs the components in order and measures each.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use metrics::{Counter, Histogram, counter, histogram};

use super::blend;
use super::query::{Candidate, Contribution, Query, SourceKind, Why};
use crate::event::{Degradation, Reason, RecommendedItem, Request};
use crate::ids::Prehashed;
use crate::telemetry::names;

/// Adds to a query what later components need.
pub trait Hydrator: Send + Sync {
    /// For metrics.
    fn name(&self) -> &'static str;
    /// Fills parts of the query.
    fn hydrate(&self, query: &mut Query<'_>);
}

/// Puts items forward.
pub trait CandidateSource: Send + Sync {
    /// Which one.
    fn kind(&self) -> SourceKind;
    /// The items, best first.
    ///
    /// # Errors
    /// Why it could not contribute: the reply says so.
    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String>;
}

/// An item that a source puts forward.
pub struct Proposal {
    /// The item.
    pub item: Arc<str>,
    /// XXH3-64 of the item.
    pub hash: u64,
    /// The source's own score.
    pub score: f32,
    /// Why.
    pub why: Why,
}

/// Removes items.
pub trait Filter: Send + Sync {
    /// For metrics.
    fn name(&self) -> &'static str;
    /// Whether the item may stay.
    fn keep(&self, query: &Query<'_>, candidate: &Candidate) -> bool;
}

/// Gives every candidate its score.
pub trait Scorer: Send + Sync {
    /// For metrics.
    fn name(&self) -> &'static str;
    /// Sets `score`.
    fn score(&self, query: &Query<'_>, candidates: &mut [Candidate]);
}

/// A candidate at its place in the list.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The candidate.
    pub candidate: Candidate,
    /// Probability with which it was placed here: see `selectors/exploration.rs`.
    pub propensity: f64,
    /// Whether it was drawn at random.
    pub explored: bool,
}

impl Scored {
    /// A candidate that nothing else could have been in place of.
    pub fn certain(candidate: Candidate) -> Self {
        Self { candidate, propensity: 1.0, explored: false }
    }

    /// What put it into the list, as replies and metrics name it.
    pub fn source(&self) -> &'static str {
        // The scorer has put the strongest contribution first.
        match self.candidate.contributions.first() {
            _ if self.explored => EXPLORATION,
            Some(strongest) => strongest.source.name(),
            None => "",
        }
    }
}

/// The source of what was drawn at random, and the kind of its reason.
const EXPLORATION: &str = "exploration";

/// Makes the list.
pub trait Selector: Send + Sync {
    /// For metrics.
    fn name(&self) -> &'static str;
    /// The list, best first, of at most `query.request.count`.
    fn select(&self, query: &Query<'_>, candidates: Vec<Candidate>) -> Vec<Scored>;
}

/// Something that happens with a list once it is made.
pub trait SideEffect: Send + Sync {
    /// For metrics.
    fn name(&self) -> &'static str;
    /// Looks at the list; cannot change it.
    fn after(&self, query: &Query<'_>, list: &[Scored]);
}

/// A list and what was missing from it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Best first.
    pub items: Vec<RecommendedItem>,
    /// The model that ranked.
    pub model_version: Cow<'static, str>,
    /// The arm.
    pub arm: Cow<'static, str>,
    /// What could not contribute.
    pub degraded: Vec<Degradation>,
}

/// A list that is made.
pub struct Made<'a> {
    query: Query<'a>,
    list: Vec<Scored>,
}

impl Made<'_> {
    /// Its items.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether every score is a number.
    pub fn is_sound(&self) -> bool {
        self.list.iter().all(|scored| scored.candidate.score.is_finite())
    }
}

struct Measured<T: ?Sized> {
    seconds: Histogram,
    items: Counter,
    name: &'static str,
    component: Box<T>,
}

impl<T: ?Sized> Measured<T> {
    fn new(stage: &'static str, name: &'static str, component: Box<T>) -> Self {
        let labels = [("stage", stage), ("component", name)];
        Self {
            seconds: histogram!(names::STAGE_SECONDS, &labels),
            items: counter!(names::STAGE_ITEMS, &labels),
            name,
            component,
        }
    }

    fn run<R>(&self, work: impl FnOnce(&T) -> R) -> R {
        let _span = tracing::trace_span!("component", name = self.name).entered();
        let begun = Instant::now();
        let result = work(&self.component);
        self.seconds.record(begun.elapsed());
        result
    }
}

/// The stages in order.
pub struct Pipeline {
    hydrators: Vec<Measured<dyn Hydrator>>,
    sources: Vec<Measured<dyn CandidateSource>>,
    filters: Vec<Measured<dyn Filter>>,
    scorers: Vec<Measured<dyn Scorer>>,
    selectors: Vec<Measured<dyn Selector>>,
    side_effects: Vec<Measured<dyn SideEffect>>,
    source_stage: &'static str,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipeline {
    /// A pipeline without components.
    pub fn new() -> Self {
        Self::with_source_stage("source")
    }

    /// A pipeline whose sources are asked for predictions, not for lists: metrics keep the two
    /// apart.
    pub fn for_prediction() -> Self {
        Self::with_source_stage("prediction")
    }

    fn with_source_stage(source_stage: &'static str) -> Self {
        Self {
            hydrators: Vec::new(),
            sources: Vec::new(),
            filters: Vec::new(),
            scorers: Vec::new(),
            selectors: Vec::new(),
            side_effects: Vec::new(),
            source_stage,
        }
    }

    /// Adds a hydrator.
    pub fn hydrator(mut self, component: impl Hydrator + 'static) -> Self {
        self.hydrators.push(Measured::new("hydrator", component.name(), Box::new(component)));
        self
    }

    /// Adds a source.
    pub fn source(mut self, component: impl CandidateSource + 'static) -> Self {
        let name = component.kind().name();
        self.sources.push(Measured::new(self.source_stage, name, Box::new(component)));
        self
    }

    /// Adds a filter.
    pub fn filter(mut self, component: impl Filter + 'static) -> Self {
        self.filters.push(Measured::new("filter", component.name(), Box::new(component)));
        self
    }

    /// Adds a scorer; each sees the scores of those before it.
    pub fn scorer(mut self, component: impl Scorer + 'static) -> Self {
        self.scorers.push(Measured::new("scorer", component.name(), Box::new(component)));
        self
    }

    /// Sets the selector.
    pub fn selector(mut self, component: impl Selector + 'static) -> Self {
        self.selectors = vec![Measured::new("selector", component.name(), Box::new(component))];
        self
    }

    /// Adds a side effect.
    pub fn side_effect(mut self, component: impl SideEffect + 'static) -> Self {
        self.side_effects.push(Measured::new("side_effect", component.name(), Box::new(component)));
        self
    }

    /// The sources that it asks.
    pub fn sources(&self) -> impl Iterator<Item = SourceKind> {
        self.sources.iter().map(|source| source.component.kind())
    }

    /// What the sources put forward for a query whose history is filled in, unfiltered.
    pub(super) fn propose(&self, query: &mut Query<'_>) -> Vec<Candidate> {
        self.hydrate(query);
        self.gather(query).0
    }

    /// The score of one item for a query, given by its XXH3-64, whatever filters would say of it: the
    /// probability that the user chooses it next. That it may be any item is part of it, and all
    /// of it where no source put the item forward among its first `query.proposals()`.
    pub fn score_of(&self, mut query: Query<'_>, item: u64) -> f64 {
        self.hydrate(&mut query);
        let mut candidates = self.gather(&mut query).0;
        self.score(&query, &mut candidates);
        let found = candidates.iter().find(|candidate| candidate.hash == item);
        found.map_or(0.0, |candidate| candidate.score) + blend::by_chance(&query)
    }

    /// The same pipeline without what happens once a list is made.
    pub fn without_side_effects(mut self) -> Self {
        self.side_effects.clear();
        self
    }

    /// Answers one query: the whole of serving, in order.
    pub fn run(&self, query: Query<'_>) -> Outcome {
        self.conclude(self.make(query))
    }

    /// Makes the list of a query. Nothing happens with it yet.
    pub fn make<'a>(&self, mut query: Query<'a>) -> Made<'a> {
        self.hydrate(&mut query);
        let mut candidates = self.find(&mut query);
        self.score(&query, &mut candidates);
        let list = self.select(&query, candidates);
        if list.len() < query.request.count {
            let reason = format!("{} of {} items: no more fit", list.len(), query.request.count);
            query.degrade("count", reason);
        }
        Made { query, list }
    }

    /// Lets happen what happens with a list that is answered.
    pub fn conclude(&self, made: Made<'_>) -> Outcome {
        let Made { query, list } = made;
        self.take_effect(&query, &list);
        finish(query, list)
    }

    fn hydrate(&self, query: &mut Query<'_>) {
        for hydrator in &self.hydrators {
            hydrator.run(|h| h.hydrate(query));
        }
    }

    /// The candidates that may be in the list. Where filters leave too few and a source has more,
    /// it is asked once more: what the catalog keeps out may be most of what is trending.
    fn find(&self, query: &mut Query<'_>) -> Vec<Candidate> {
        let (mut candidates, has_more) = self.gather(query);
        self.filter_out(query, &mut candidates);
        if has_more && candidates.len() < query.request.count {
            query.widen();
            candidates = self.gather(query).0;
            self.filter_out(query, &mut candidates);
        }
        candidates
    }

    /// What the sources put forward, and whether one of them stopped because it had enough.
    fn gather(&self, query: &mut Query<'_>) -> (Vec<Candidate>, bool) {
        let mut has_more = false;
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut places: HashMap<u64, usize, Prehashed> = HashMap::default();
        for source in &self.sources {
            let kind = source.component.kind();
            // What trends is related to nothing: rather a short list, which says that it is.
            if query.is_related() && !kind.is_about_an_item() {
                continue;
            }
            let proposals = match source.run(|s| s.candidates(query)) {
                Ok(proposals) => proposals,
                Err(reason) => {
                    query.degrade(kind.name(), reason);
                    continue;
                }
            };
            source.items.increment(proposals.len() as u64);
            has_more |= proposals.len() >= query.proposals();
            for (rank, proposal) in proposals.into_iter().enumerate() {
                let Proposal { item, hash, .. } = proposal;
                let place = *places.entry(hash).or_insert_with(|| {
                    let contributions = Vec::with_capacity(2);
                    candidates.push(Candidate {
                        item,
                        hash,
                        contributions,
                        score: 0.0,
                        ranked: None,
                    });
                    candidates.len() - 1
                });
                candidates[place].contributions.push(Contribution {
                    source: kind,
                    score: proposal.score,
                    rank,
                    share: 0.0,
                    why: proposal.why,
                });
            }
        }
        (candidates, has_more)
    }

    fn filter_out(&self, query: &Query<'_>, candidates: &mut Vec<Candidate>) {
        for filter in &self.filters {
            let before = candidates.len();
            filter.run(|f| candidates.retain(|c| f.keep(query, c)));
            filter.items.increment((before - candidates.len()) as u64);
        }
    }

    fn score(&self, query: &Query<'_>, candidates: &mut [Candidate]) {
        for scorer in &self.scorers {
            scorer.run(|s| s.score(query, candidates));
        }
    }

    fn select(&self, query: &Query<'_>, candidates: Vec<Candidate>) -> Vec<Scored> {
        match self.selectors.first() {
            Some(selector) => {
                let list = selector.run(|s| s.select(query, candidates));
                selector.items.increment(list.len() as u64);
                list
            }
            None => Vec::new(),
        }
    }

    fn take_effect(&self, query: &Query<'_>, list: &[Scored]) {
        for effect in &self.side_effects {
            effect.run(|e| e.after(query, list));
        }
    }
}

fn finish(query: Query<'_>, list: Vec<Scored>) -> Outcome {
    let items = list.iter().map(|scored| reply_item(scored, query.request));
    let items = items.collect();
    Outcome { items, model_version: query.model_version, arm: query.arm, degraded: query.degraded }
}

fn reply_item(scored: &Scored, request: &Request) -> RecommendedItem {
    let surface = request.surface.as_str();
    let watching = request.context_item.as_ref().map(|item| item.as_str());
    let candidate = &scored.candidate;
    let drawn = scored.explored.then(|| Reason {
        kind: EXPLORATION.into(),
        item: None,
        text: "Something not many have tried yet".into(),
    });
    let reason = |c: &Contribution| c.why.reason(&candidate.item, surface, watching);
    let mut reasons: Vec<Reason> =
        drawn.into_iter().chain(candidate.contributions.iter().map(reason)).collect();
    // Several sources may say the same.
    let mut told = HashSet::new();
    reasons.retain(|reason| told.insert(reason.text.clone()));
    RecommendedItem {
        item: candidate.item.to_string(),
        score: candidate.score,
        source: scored.source().into(),
        propensity: scored.propensity,
        reasons,
    }
}

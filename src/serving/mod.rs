//! Request → ranked list. Sources, hydrators, filters, a scorer, a selector and side effects are
//! small components; [`Pipeline`] owns the loop and the telemetry.
//!
//! Enters: a request, the user's state, what the user was shown, the global tables, the catalog.
//! Leaves: an [`Outcome`]. Never writes state. The same request over the same state with the same seed gives the same list.

mod blend;
mod filters;
mod hydrators;
mod impression;
mod pipeline;
mod query;
mod ranked;
mod scorers;
mod selectors;
mod shown;
mod side_effects;
mod sources;
#[cfg(test)]
mod tests;

pub use blend::{Blend, BlendLearner, Blends, Prediction};
pub use impression::{FEATURE_SCHEMA, impression};
pub use pipeline::{Made, Outcome, Pipeline, Scored, SideEffect};
pub use query::{
    Candidate, Contribution, HistoryItem, Query, SourceKind, UserVector, Why, World, model_version,
};
pub use ranked::{Look, RankerRules, Ranking};
pub use selectors::{ListRules, intra_list_diversity};
pub use shown::Shown;

/// What ranks until a model has been trained.
pub const UNTRAINED: &str = "untrained";
/// The arm of lists that are part of no experiment.
pub const DEFAULT_ARM: &str = "default";
/// The arm of lists of a version that is tried.
pub const CANARY_ARM: &str = "canary";
/// The arm of lists of such a version that nobody sees.
pub const SHADOW_ARM: &str = "shadow";

/// The pipeline that needs no trained model. A component is one file and one line here.
pub fn untrained(rules: ListRules) -> Pipeline {
    untrained_of(&SourceKind::ALL, rules)
}

/// The same with chosen sources only: to see what each is worth.
pub fn untrained_of(sources: &[SourceKind], rules: ListRules) -> Pipeline {
    let pipeline = with_sources(Pipeline::new().hydrator(hydrators::History), sources);
    let mixed = filtered(pipeline).scorer(scorers::Mixture);
    // A single source's order is its own: there is nothing to weigh.
    let scored = if sources.len() > 1 { mixed.scorer(scorers::Refined) } else { mixed };
    let scored = scored.scorer(ranked::Ranked);
    listed(scored, rules)
}

/// Nearest vectors alone, lifted by what is popular: a control that shows what following the trend
/// alone would do. By u·v · (1 + decayed popularity)^`exponent`.
pub fn nearest_lifted(exponent: f32, rules: ListRules) -> Pipeline {
    let pipeline = Pipeline::new().hydrator(hydrators::History).hydrator(hydrators::UserVector);
    let pipeline = pipeline.source(sources::NearestLifted { exponent });
    listed(filtered(pipeline).scorer(scorers::Mixture), rules)
}

fn filtered(pipeline: Pipeline) -> Pipeline {
    pipeline
        .filter(filters::Excluded)
        .filter(filters::Refused)
        .filter(filters::Seen)
        .filter(filters::Listed)
        .filter(filters::Available)
        .filter(filters::Language)
        .filter(filters::Age)
        .filter(filters::Creators)
        .filter(filters::Categories)
}

fn listed(pipeline: Pipeline, rules: ListRules) -> Pipeline {
    pipeline
        .scorer(scorers::Fatigue)
        .selector(selectors::Diverse(rules))
        .side_effect(side_effects::CountServed)
}

/// Learns how much the word of each of these sources counts.
pub fn blend_learner(sources: &[SourceKind]) -> BlendLearner {
    BlendLearner::new(with_sources(Pipeline::for_prediction(), sources))
}

fn with_sources(pipeline: Pipeline, sources: &[SourceKind]) -> Pipeline {
    let hydrated = pipeline.hydrator(hydrators::Taste).hydrator(hydrators::UserVector);
    sources.iter().fold(hydrated, |pipeline, kind| match kind {
        SourceKind::Neighbours => pipeline.source(sources::Neighbours),
        SourceKind::Trending => pipeline.source(sources::Trending),
        SourceKind::Unfinished => pipeline.source(sources::Unfinished),
        SourceKind::Content => pipeline.source(sources::Content),
        SourceKind::Creators => pipeline.source(sources::Creators),
        SourceKind::Fresh => pipeline.source(sources::Fresh),
        SourceKind::Nearest => pipeline.source(sources::Nearest),
        SourceKind::CoWatched => pipeline.source(sources::CoWatched),
        SourceKind::Transitions => pipeline.source(sources::Transitions),
    })
}

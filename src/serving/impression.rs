//! A list as it is recorded: what ranked it, and the features that were served. Training reads
//! them, so their meaning never changes under a name.

use super::pipeline::Scored;
use super::query::{Candidate, Query, SourceKind};
use super::ranked;
use super::scorers::times_shown;
use crate::event::{Impression, ShownItem, SourceScore, SourceWeight};
use crate::model::vector::dot;
use crate::ranking::schema_name;

/// Names what [`features`] gives; another meaning or order is another name.
pub const FEATURE_SCHEMA: &str = "mixture.v3";

/// The record of a list. Whoever sends it fills in what a list does not know: wall time, model
/// and arm.
pub fn impression<'a>(query: &'a Query<'_>, list: &'a [Scored]) -> Impression<'a> {
    let (blend, weights) = query.world.blends.named(query);
    let weight = |source: SourceKind| SourceWeight {
        source: source.name(),
        weight: weights.weight(source) as f32,
    };
    let heard = query.world.ranking.as_ref().filter(|ranking| ranking.is_heard());
    let mut seen = ranked::seen(query, list).into_iter();
    let item = |(position, scored): (i32, &'a Scored)| {
        let listing = scored.candidate.listing(query);
        let category = listing.and_then(|listing| listing.categories().next());
        let duration_ms = listing.map_or(0, |listing| listing.duration_ms());
        let seen = seen.next();
        let told = seen.as_ref().filter(|_| heard.is_some());
        let probabilities = told.map(|seen| seen.scores.probabilities.into());
        ShownItem {
            item: &scored.candidate.item,
            position,
            score: scored.candidate.score,
            propensity: scored.propensity,
            explored: scored.explored,
            sources: sources(&scored.candidate),
            features: features(query, &scored.candidate),
            creator: listing.map_or("", |listing| listing.creator()),
            category: category.unwrap_or_default(),
            duration_ms: signed(duration_ms),
            ranked: seen.map(|seen| seen.served.to_record()).unwrap_or_default(),
            probabilities: probabilities.unwrap_or_default(),
        }
    };
    Impression {
        request_id: &query.request.request_id,
        user: query.request.user.as_str(),
        event_time: query.at.millis(),
        surface: query.request.surface.as_str(),
        context_item: query.request.context_item.as_ref().map(|item| item.as_str()),
        blend,
        blend_observed: signed(weights.observed()),
        weights: SourceKind::ALL.map(weight).into(),
        degraded: query.degraded.iter().map(|d| d.part.as_str()).collect(),
        feature_schema: FEATURE_SCHEMA,
        ranker_schema: query.world.ranking.as_ref().map_or("", |_| schema_name()),
        ranker_examples: heard.map_or(0, |ranking| signed(ranking.weights.learnt())),
        ranker_watermark: heard.map_or(0, |ranking| ranking.weights.watermark().millis()),
        items: (0..).zip(list).map(item).collect(),
        ..Impression::default()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn sources(candidate: &Candidate) -> Vec<SourceScore<'static>> {
    let each = candidate.contributions.iter().map(|c| SourceScore {
        source: c.source.name(),
        score: c.score,
        rank: i32::try_from(c.rank).unwrap_or(i32::MAX),
    });
    each.collect()
}

/// The features of `mixture.v3`, in order: what each source adds to the mixture, as
/// [`SourceKind::ALL`] has them; events in the user's history; watches and clicks of the item that
/// decay by the shortest half-life of its statistics, a day; inner product of the user's and the
/// item's live vectors; times that it was looked at in vain, in
/// expectation. None where there is nothing to compute one
/// from.
fn features(query: &Query<'_>, candidate: &Candidate) -> Vec<Option<f32>> {
    let share = |source| {
        let said = candidate.contributions.iter().filter(|c| c.source == source);
        Some(said.map(|c| c.share as f32).sum())
    };
    let mut features = Vec::with_capacity(SourceKind::ALL.len() + 4);
    features.extend(SourceKind::ALL.map(share));
    features.push(Some(query.history.len() as f32));
    features.push(popularity(query, candidate));
    features.push(fit(query, candidate));
    features.push(Some(times_shown(query, candidate)));
    features
}

fn popularity(query: &Query<'_>, candidate: &Candidate) -> Option<f32> {
    let known = query.world.items.features(candidate.hash)?;
    let day = known.decayed.first()?;
    let left = known.left_at(query.at, day.half_life_ms) as f32;
    Some((day.watches + day.clicks) * left)
}

fn fit(query: &Query<'_>, candidate: &Candidate) -> Option<f32> {
    let user = query.user_vector.as_ref()?;
    let item = query.world.items.vector(user.basis, candidate.hash)?;
    Some(dot(&user.vector, &item))
}

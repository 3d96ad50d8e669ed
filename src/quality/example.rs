//! Examples and corrections as records, from what the store kept of a list.

use super::join::{Closing, Correction, Rules};
use crate::event::{Impression, LabelCorrection, TrainingExample};

/// One example for each item of a list that closes, in its order. `list` is its whole record, `shard`
/// the partition; a watch is a long view from `long_view_ms`.
pub fn examples<'a>(
    list: &'a Impression<'a>,
    closing: &'a Closing,
    shard: i32,
    rules: &'a Rules,
    long_view_ms: u64,
) -> impl Iterator<Item = TrainingExample<'a>> {
    list.items.iter().zip(&closing.labels).map(move |(shown, labels)| TrainingExample {
        user: list.user,
        item: shown.item,
        position: shown.position,
        request_id: list.request_id,
        event_time: list.event_time,
        shard,
        list: closing.key.list as i64,
        answered_at: list.answered_at,
        surface: list.surface,
        context_item: list.context_item,
        model_version: list.model_version,
        arm: list.arm,
        score: shown.score,
        propensity: shown.propensity,
        explored: shown.explored,
        feature_schema: list.feature_schema,
        features: shown.features.clone(),
        creator: shown.creator,
        category: shown.category,
        item_ms: shown.duration_ms,
        ranker_schema: list.ranker_schema,
        ranked: shown.ranked.clone(),
        clicked: labels.click_delay_ms.is_some(),
        click_delay_ms: labels.click_delay_ms,
        watches: i32::try_from(labels.watches).unwrap_or(i32::MAX),
        watched_ms: signed(labels.watched_ms),
        duration_ms: signed(labels.duration_ms),
        long_view: labels.is_long_view(long_view_ms),
        long_view_ms: signed(long_view_ms),
        click_window_ms: rules.click_window_ms,
        watch_window_ms: rules.watch_window_ms,
    })
}

/// The record of a correction of `list`, whose names are enough. None where the list has no such
/// place, which rows of one batch cannot say.
pub fn correction<'a>(
    list: &Impression<'a>,
    correction: &Correction,
    shard: i32,
) -> Option<LabelCorrection<'a>> {
    let shown = list.items.get(correction.place)?;
    let outcome = &correction.outcome;
    Some(LabelCorrection {
        user: list.user,
        item: shown.item,
        position: shown.position,
        request_id: list.request_id,
        event_time: list.event_time,
        shard,
        list: correction.key.list as i64,
        source: outcome.source,
        outcome_time: outcome.at.millis(),
        outcome: outcome.id as i32,
        watched_ms: signed(outcome.watched_ms),
        duration_ms: signed(outcome.duration_ms),
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

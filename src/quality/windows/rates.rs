//! A window as ratios, for people and for pages.

use serde_json::{Value, json};

use super::{gini, shown_items};
use crate::event::MetricsWindow;

fn ratio(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What a window shows, as ratios: none where there is nothing to divide by. The names are those of
/// `driftline metrics --json`.
pub fn rates(name: &str, window: &MetricsWindow) -> Value {
    let millionths = |sum: i64, whole: i64| ratio(sum, whole).map(|ratio| ratio / 1e6);
    let per_impression = |part: i64| ratio(part, window.impressions);
    json!({
        "group": name,
        "lists": window.lists,
        "impressions": window.impressions,
        "clicks": window.clicks,
        "click_rate": per_impression(window.clicks),
        "long_view_rate": per_impression(window.long_views),
        "completion_rate": per_impression(window.completions),
        "watch_seconds_per_impression": per_impression(window.watched_ms).map(|ms| ms / 1e3),
        "late_clicks": window.late_clicks,
        "late_watches": window.late_watches,
        "predicted": window.predicted,
        "click_calibration": millionths(window.predicted_clicks_e6, window.clicks_predicted),
        "long_view_calibration":
            millionths(window.predicted_long_views_e6, window.long_views_predicted),
        "click_log_loss": millionths(window.click_log_loss_e6, window.predicted),
        "long_view_log_loss": millionths(window.long_view_log_loss_e6, window.predicted),
        "items_shown": shown_items(window).round(),
        "gini": gini(window),
        "cold_item_share": ratio(window.cold_items, window.popularity_items),
        "newcomer_share": ratio(window.newcomer_lists, window.lists),
        "degraded_share": ratio(window.degraded_lists, window.lists),
        "explored_share": per_impression(window.explored),
        "mean_popularity_bits": millionths(window.popularity_e6, window.popularity_items),
        "staleness_seconds": ratio(window.staleness_ms, window.ranked_lists).map(|ms| ms / 1e3),
    })
}

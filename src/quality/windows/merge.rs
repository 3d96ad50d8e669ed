//! Windows merge: sums add up, by groups too, samples keep the smallest hashes.

use super::SAMPLE;
use crate::event::{MetricsWindow, SampledItem, ServingWindow, UserGroup};

/// Adds a window to another, of which the names and times stay.
pub fn merge(into: &mut MetricsWindow, other: &MetricsWindow) {
    macro_rules! add {
        ($($field:ident)*) => { $(into.$field += other.$field;)* };
    }
    add!(lists degraded_lists newcomer_lists impressions explored clicks watches watched_ms
        completions long_views late_clicks late_watches predicted predicted_clicks_e6
        predicted_long_views_e6 clicks_predicted long_views_predicted click_log_loss_e6
        long_view_log_loss_e6 ranked_lists staleness_ms popularity_items popularity_e6 cold_items);
    add_up(&mut into.scores, &other.scores);
    if into.feature_schema.is_empty() {
        into.feature_schema.clone_from(&other.feature_schema);
    }
    // Bins of other features say nothing of these.
    if into.feature_schema == other.feature_schema {
        add_up(&mut into.feature_counts, &other.feature_counts);
    }
    other.items.iter().for_each(|item| sample(&mut into.items, *item));
    cut(&mut into.items);
    other.user_groups.iter().for_each(|group| add_group(&mut into.user_groups, group));
}

/// Counts what came of a list, in the window and in its user's group.
pub(super) fn count_group(window: &mut MetricsWindow, list: &UserGroup) {
    window.lists += list.lists;
    window.impressions += list.impressions;
    window.clicks += list.clicks;
    window.long_views += list.long_views;
    window.completions += list.completions;
    window.watched_ms += list.watched_ms;
    add_group(&mut window.user_groups, list);
}

fn add_group(groups: &mut Vec<UserGroup>, other: &UserGroup) {
    match groups.binary_search_by_key(&other.group, |group| group.group) {
        Ok(place) => groups[place].add(other),
        Err(place) => groups.insert(place, *other),
    }
}

fn add_up(into: &mut Vec<i64>, other: &[i64]) {
    into.resize(into.len().max(other.len()), 0);
    into.iter_mut().zip(other).for_each(|(sum, count)| *sum += count);
}

/// Adds to a sample, which is in the order of its hashes; [`cut`] has to follow.
pub(super) fn sample(items: &mut Vec<SampledItem>, one: SampledItem) {
    match items.binary_search_by_key(&(one.item as u64), |item| item.item as u64) {
        Ok(place) => items[place].impressions += one.impressions,
        // What would be cut away anyway.
        Err(place) if place >= SAMPLE => {}
        Err(place) => items.insert(place, one),
    }
}

/// Keeps the smallest hashes. An item among them in the end has been among them all along, so its
/// count is whole.
pub(super) fn cut(items: &mut Vec<SampledItem>) {
    items.truncate(SAMPLE);
}

/// The upper end of the bin of latencies that holds a quantile, in milliseconds; none of nothing.
pub fn latency_quantile(windows: &[&ServingWindow], share: f64) -> Option<f64> {
    let bins = windows.iter().map(|window| window.latency.len()).max()?;
    let count = |bin: usize| -> i64 { windows.iter().filter_map(|w| w.latency.get(bin)).sum() };
    let all: i64 = (0..bins).map(count).sum();
    let mut left = (all as f64 * share).ceil() as i64;
    let bin = (0..bins).find(|bin| {
        left -= count(*bin);
        left <= 0
    })?;
    (all > 0).then(|| 2f64.powf((bin + 1) as f64 / 2.0) / 1e3)
}

/// How many items were shown at least once, by a window's sample: exact up to 127 of them, else an
/// estimate with a standard error of a eleventh (Bar-Yossef et al., 2002).
pub fn shown_items(window: &MetricsWindow) -> f64 {
    match window.items.last() {
        Some(last) if window.items.len() == SAMPLE => {
            (SAMPLE - 1) as f64 / ((last.item as u64 as f64 + 1.0) / 2f64.powi(64))
        }
        _ => window.items.len() as f64,
    }
}

/// The Gini coefficient of impressions over the items that were shown, by a window's sample: 0 where all
/// were shown alike. None where nothing was.
pub fn gini(window: &MetricsWindow) -> Option<f64> {
    let mut counts: Vec<i64> = window.items.iter().map(|item| item.impressions).collect();
    counts.sort_unstable();
    let (n, total) = (counts.len() as f64, counts.iter().sum::<i64>() as f64);
    let weighted: f64 = (1..).zip(&counts).map(|(rank, n)| f64::from(rank) * *n as f64).sum();
    (total > 0.0).then(|| 2.0 * weighted / (n * total) - (n + 1.0) / n)
}

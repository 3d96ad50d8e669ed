//! What came of lists, minute by minute: the windows of `metrics`.
//!
//! A window is sums of whole numbers and a sample of items, so windows merge exactly, in any order. It
//! is told once all lists of its minute are closed, and told again, as a higher revision, when something
//! comes late. Windows that may still change are rows of the store, and go with the lists.

mod merge;
mod rates;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::Corrupt;
use super::join::{Closing, Correction};
use super::rows::Change;
use crate::event::{Impression, MetricsWindow, SampledItem, ShownItem, Source, UserGroup};
use crate::ids::stable_hash;
use crate::ranking::{CLICK, DENSE, LONG_VIEW, TARGETS};
use crate::time::{EventTime, MINUTE_MS};

pub use merge::{gini, latency_quantile, merge, shown_items};
pub use rates::rates;

/// Milliseconds of a window.
pub const WINDOW_MS: i64 = MINUTE_MS;
/// Milliseconds of a watch that count: one video left running overnight says no more.
const WATCH_CAP_MS: u64 = 30 * MINUTE_MS as u64;
/// Segments of a minute that are told apart, each some 4 to 8 KB.
const SEGMENTS: usize = 64;
/// The surface of the others.
const OTHERS: &str = "*";
/// Groups of users. More: a finer view of how users differ, and larger windows. Fewer: with few shards,
/// wider intervals of experiments.
pub const USER_GROUPS: u64 = 64;
/// Items of a sample.
const SAMPLE: usize = 128;
/// Bins of predicted log-odds.
const SCORE_BINS: usize = 20;
/// Bins of a feature.
const FEATURE_BINS: usize = 16;
/// Width of a bin, of both.
const BIN: f32 = 0.5;
/// What comes first in a row's key: after all rows that the join reads.
const KIND: u8 = b'w';
/// So that earlier times sort first.
const SIGN: u64 = 1 << 63;
/// Places of what windows read in the features of `mixture.v3`: watches and clicks of the item.
const POPULARITY: usize = crate::serving::SourceKind::ALL.len() + 1;

/// A minute and the hash of model, arm and surface.
type Key = (i64, u64);

/// Windows that may still change.
#[derive(Debug, Default)]
pub struct Windows {
    open: BTreeMap<Key, Open>,
}

#[derive(Debug)]
struct Open {
    window: MetricsWindow,
    /// Whether something has come since it was told.
    is_new: bool,
}

impl Windows {
    /// Before all rows of windows.
    pub fn first_row() -> Vec<u8> {
        vec![KIND]
    }

    /// Goes on from the rows that all steps so far have left.
    ///
    /// # Errors
    /// [`Corrupt`] where a row is damaged.
    pub fn load<E: From<Corrupt>>(
        rows: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), E>>,
    ) -> Result<Self, E> {
        let mut windows = Self::default();
        for row in rows {
            let (key, value) = row?;
            let key = key_of_row(&key).ok_or(Corrupt("a key of a window"))?;
            let window = MetricsWindow::decode(&value).map_err(|_| Corrupt("a window"))?;
            let is_new = window.revision == 0;
            windows.open.insert(key, Open { window, is_new });
        }
        Ok(windows)
    }

    /// Counts a list that closes. `shard` is the partition; a watch is a long view from
    /// `long_view_ms`.
    pub fn add(&mut self, list: &Impression<'_>, closing: &Closing, shard: i32, long_view_ms: u64) {
        let open = self.of(list, shard);
        open.is_new = true;
        let window = &mut open.window;
        window.degraded_lists += i64::from(!list.degraded.is_empty());
        window.newcomer_lists += i64::from(list.blend == "newcomer");
        if list.ranker_examples > 0 {
            window.ranked_lists += 1;
            window.staleness_ms += (list.event_time - list.ranker_watermark).max(0);
        }
        if !list.ranker_schema.is_empty() && window.feature_schema != list.ranker_schema {
            // Of two programs side by side the newer's: bins of both would say nothing.
            window.feature_schema = list.ranker_schema.to_owned();
            window.feature_counts = vec![0; DENSE * FEATURE_BINS];
        }
        let mut group = UserGroup { group: group_of(list), lists: 1, ..UserGroup::default() };
        for (shown, labels) in list.items.iter().zip(&closing.labels) {
            let clicked = labels.click_delay_ms.is_some();
            let long_view = labels.is_long_view(long_view_ms);
            group.impressions += 1;
            window.explored += i64::from(shown.explored);
            group.clicks += i64::from(clicked);
            window.watches += i64::from(labels.watches > 0);
            group.watched_ms += labels.watched_ms.min(WATCH_CAP_MS) as i64;
            let is_complete = labels.duration_ms > 0
                && labels.watched_ms.saturating_mul(20) >= labels.duration_ms.saturating_mul(19);
            group.completions += i64::from(is_complete);
            group.long_views += i64::from(long_view);
            count_prediction(window, shown, [clicked, long_view]);
            count_features(window, shown);
            count_popularity(window, shown);
            let item = stable_hash(shown.item.as_bytes()) as i64;
            merge::sample(&mut window.items, SampledItem { item, impressions: 1 });
        }
        merge::cut(&mut window.items);
        merge::count_group(window, &group);
    }

    /// Counts what came of a list after it was closed.
    pub fn correct(&mut self, list: &Impression<'_>, correction: &Correction, shard: i32) {
        let open = self.of(list, shard);
        open.is_new = true;
        match correction.outcome.source {
            Source::Click => open.window.late_clicks += 1,
            Source::Watch => open.window.late_watches += 1,
        }
    }

    /// Ends a step: lists up to `closed` are closed, and those before `forgotten` are no longer
    /// corrected. Returns what is to be told, and what the store is to keep, in one batch.
    pub fn advance(
        &mut self,
        closed: Option<EventTime>,
        forgotten: Option<EventTime>,
    ) -> (Vec<MetricsWindow>, Vec<Change>) {
        let (mut told, mut changes) = (Vec::new(), Vec::new());
        let ends_by = |key: &Key, at: Option<EventTime>| {
            at.is_some_and(|at| key.0.saturating_add(WINDOW_MS) <= at.millis())
        };
        for (key, open) in self.open.iter_mut().filter(|(_, open)| open.is_new) {
            if ends_by(key, closed) {
                open.window.revision += 1;
                open.is_new = false;
                told.push(open.window.clone());
            }
            // An own type of whole numbers and texts: it fits its schema.
            changes.extend(open.window.encode().ok().map(|bytes| (row_of(key), Some(bytes))));
        }
        while let Some(first) = self.open.first_entry()
            && ends_by(first.key(), forgotten)
        {
            changes.push((row_of(first.key()), None));
            first.remove();
        }
        (told, changes)
    }

    fn of(&mut self, list: &Impression<'_>, shard: i32) -> &mut Open {
        let start = list.event_time.div_euclid(WINDOW_MS) * WINDOW_MS;
        let mut surface = list.surface;
        let mut key = (start, segment(list, surface));
        let minute = (start, u64::MIN)..=(start, u64::MAX);
        if !self.open.contains_key(&key) && self.open.range(minute).count() >= SEGMENTS {
            surface = OTHERS;
            key.1 = segment(list, surface);
        }
        self.open.entry(key).or_insert_with(|| Open {
            window: MetricsWindow {
                shard,
                start,
                length_ms: WINDOW_MS,
                model_version: list.model_version.to_owned(),
                arm: list.arm.to_owned(),
                surface: surface.to_owned(),
                scores: vec![0; SCORE_BINS],
                ..MetricsWindow::default()
            },
            is_new: true,
        })
    }
}

/// Which users a list's user is one of. The hash is neither that of partitions nor that of arms, so
/// each has users of every group.
fn group_of(list: &Impression<'_>) -> i32 {
    let who = if list.user.is_empty() { list.request_id } else { list.user };
    (stable_hash(format!("group:{who}").as_bytes()) % USER_GROUPS) as i32
}

fn segment(list: &Impression<'_>, surface: &str) -> u64 {
    stable_hash([list.model_version, list.arm, surface].join("\0").as_bytes())
}

fn row_of(key: &Key) -> Vec<u8> {
    let mut row = vec![KIND];
    row.extend_from_slice(&(key.0 as u64 ^ SIGN).to_be_bytes());
    row.extend_from_slice(&key.1.to_be_bytes());
    row
}

fn key_of_row(row: &[u8]) -> Option<Key> {
    let ([start, segment], []) = row.strip_prefix(&[KIND])?.as_chunks() else { return None };
    Some(((u64::from_be_bytes(*start) ^ SIGN) as i64, u64::from_be_bytes(*segment)))
}

fn millionths(value: f64) -> i64 {
    (value * 1e6).round() as i64
}

fn count_prediction(window: &mut MetricsWindow, shown: &ShownItem<'_>, came: [bool; TARGETS]) {
    let [click, long_view] = shown.probabilities[..] else { return };
    let both = [click, long_view];
    // What cannot be is no prediction.
    if both.iter().any(|p| !(0.0..=1.0).contains(p)) {
        return;
    }
    let loss = |target: usize| {
        let p = f64::from(both[target]);
        let of_it = if came[target] { p } else { 1.0 - p };
        millionths(-of_it.max(1e-6).ln())
    };
    window.predicted += 1;
    window.predicted_clicks_e6 += millionths(click.into());
    window.predicted_long_views_e6 += millionths(long_view.into());
    window.clicks_predicted += i64::from(came[CLICK]);
    window.long_views_predicted += i64::from(came[LONG_VIEW]);
    window.click_log_loss_e6 += loss(CLICK);
    window.long_view_log_loss_e6 += loss(LONG_VIEW);
    let log_odds = click.max(1e-6).ln() - (1.0 - click).max(1e-6).ln();
    window.scores[bin(log_odds, SCORE_BINS)] += 1;
}

/// The bin of a value, of so many around 0.
fn bin(value: f32, bins: usize) -> usize {
    let place = (value / BIN).floor() + (bins / 2) as f32;
    place.clamp(0.0, (bins - 1) as f32) as usize
}

fn count_features(window: &mut MetricsWindow, shown: &ShownItem<'_>) {
    let Some(dense) = shown.ranked.get(..DENSE) else { return };
    if window.feature_counts.len() != DENSE * FEATURE_BINS {
        return;
    }
    for (counts, value) in window.feature_counts.chunks_mut(FEATURE_BINS).zip(dense) {
        counts[bin(*value, FEATURE_BINS)] += 1;
    }
}

fn count_popularity(window: &mut MetricsWindow, shown: &ShownItem<'_>) {
    let known = shown.features.get(POPULARITY).copied().flatten();
    let Some(popularity) = known.filter(|known| known.is_finite() && *known >= 0.0) else { return };
    window.popularity_items += 1;
    window.popularity_e6 += millionths(f64::from(popularity).ln_1p() / std::f64::consts::LN_2);
    window.cold_items += i64::from(popularity == 0.0);
}

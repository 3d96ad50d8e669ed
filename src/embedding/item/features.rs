//! What an item's state says to those who rank it.

use super::{ItemCounts, ItemState};
use crate::event::{self, FeaturesRecord};
use crate::model::decayed;
use crate::time::{DAY_MS, EventTime};

/// Half-lives of the decayed counts: a day, for what is on everybody's lips, and a week.
const HALF_LIVES_MS: [i64; 2] = [DAY_MS, 7 * DAY_MS];
/// Co-watched items that are told.
const CO_WATCHED: usize = 20;

/// The prior of a rate: what so many events at this rate would say. Beta(20·rate, 20·(1 − rate)).
/// More events: new items stay near the mean for longer.
const PRIOR_EVENTS: f64 = 20.0;
/// Prior of the long-view rate: about every third watch reaches half of the item.
const PRIOR_LONG_VIEW: f64 = 0.35;
/// Prior of the click rate.
const PRIOR_CLICK: f64 = 0.5;

/// Counts of which each event halves once a half-life of age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decayed {
    /// Milliseconds.
    pub half_life_ms: i64,
    /// Watches.
    pub watches: f32,
    /// Watches of at least half of the item.
    pub long_views: f32,
    /// Clicks.
    pub clicks: f32,
}

/// Statistics of an item, as of its newest event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemFeatures {
    /// The time of the newest event.
    pub newest: EventTime,
    /// All counts that are kept, undecayed.
    pub totals: ItemCounts,
    /// The shortest half-life first.
    pub decayed: Vec<Decayed>,
    /// XXH3-64 of items that users liked shortly before, with decayed weights, the heaviest first.
    pub co_watched: Vec<(u64, f32)>,
}

impl ItemFeatures {
    pub(super) fn of(state: &ItemState) -> Self {
        use crate::feature::counters::Tally as _;
        let newest = state.newest().unwrap_or_default();
        let mut totals = ItemCounts::default();
        state.buckets().iter().for_each(|bucket| totals.add(&bucket.counts));
        let decayed = HALF_LIVES_MS.map(|half_life_ms| decay(state, newest, half_life_ms)).into();
        Self { newest, totals, decayed, co_watched: state.co_watched.top(CO_WATCHED) }
    }

    /// The share of watches that reached half of the item, smoothed: (long views + 7)/(watches +
    /// 20). 0.35 for an item without watches.
    pub fn long_view_rate(&self) -> f64 {
        smoothed(self.totals.long_views, self.totals.watches, PRIOR_LONG_VIEW)
    }

    /// The share of clicks among all events of the item, smoothed: (clicks + 10)/(events + 20).
    /// How often it was clicked where it was *shown* needs impressions, which are not counted yet.
    pub fn click_rate(&self) -> f64 {
        let events = self.totals.clicks + self.totals.watches;
        smoothed(self.totals.clicks, events, PRIOR_CLICK)
    }

    /// What is left at `now` of a count or weight that halves once in `half_life_ms`.
    pub fn left_at(&self, now: EventTime, half_life_ms: i64) -> f64 {
        decayed(now.since(self.newest).max(0) as f64 / half_life_ms.max(1) as f64)
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.decayed.capacity() * size_of::<Decayed>()
            + self.co_watched.capacity() * size_of::<(u64, f32)>()
    }

    /// As it is written.
    pub fn to_record(&self) -> FeaturesRecord {
        let long = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let decayed = |d: &Decayed| event::DecayedCounts {
            half_life_ms: d.half_life_ms,
            watches: d.watches,
            long_views: d.long_views,
            clicks: d.clicks,
        };
        let weight = |&(item, weight): &(u64, f32)| event::CoWatched { item: item as i64, weight };
        FeaturesRecord {
            event_time: self.newest.millis(),
            watches: long(self.totals.watches),
            long_views: long(self.totals.long_views),
            clicks: long(self.totals.clicks),
            decayed: self.decayed.iter().map(decayed).collect(),
            co_watched: self.co_watched.iter().map(weight).collect(),
        }
    }

    /// Reads a record. Counts below 0, which nobody writes, are 0.
    pub fn from_record(record: &FeaturesRecord) -> Self {
        let count = |long: i64| u64::try_from(long).unwrap_or(0);
        let decayed = |d: &event::DecayedCounts| Decayed {
            half_life_ms: d.half_life_ms,
            watches: d.watches,
            long_views: d.long_views,
            clicks: d.clicks,
        };
        Self {
            newest: EventTime::from_millis(record.event_time),
            totals: ItemCounts {
                watches: count(record.watches),
                long_views: count(record.long_views),
                clicks: count(record.clicks),
            },
            decayed: record.decayed.iter().map(decayed).collect(),
            co_watched: record.co_watched.iter().map(|c| (c.item as u64, c.weight)).collect(),
        }
    }
}

fn smoothed(hits: u64, of: u64, prior: f64) -> f64 {
    (hits as f64 + PRIOR_EVENTS * prior) / (of as f64 + PRIOR_EVENTS)
}

/// Counts decayed by the age of their buckets' beginnings; a bucket that begins later than
/// `newest` cannot be.
fn decay(state: &ItemState, newest: EventTime, half_life_ms: i64) -> Decayed {
    let (mut watches, mut long_views, mut clicks) = (0.0, 0.0, 0.0);
    // Oldest first: one order of summing, whatever order the events came in.
    for bucket in state.buckets() {
        let left = decayed(newest.since(bucket.start) as f64 / half_life_ms as f64);
        watches += bucket.counts.watches as f64 * left;
        long_views += bucket.counts.long_views as f64 * left;
        clicks += bucket.counts.clicks as f64 * left;
    }
    Decayed {
        half_life_ms,
        watches: watches as f32,
        long_views: long_views as f32,
        clicks: clicks as f32,
    }
}

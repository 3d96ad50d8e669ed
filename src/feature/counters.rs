//! Counts of events by time bucket, of a user or of an item. Integers, decayed only when read:
//! sums of floats would depend on the order of events.

use crate::time::{DAY_MS, EventTime, HOUR_MS};

/// How wide a bucket is. Recent time is kept finely, older time coarsely; the widths nest, so
/// that moving counts from finer to coarser buckets in any order gives the same sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Resolution {
    /// One hour: the last two days before the newest event. Half-lives of 6 h need it.
    Hour = 0,
    /// One day, UTC: the last two weeks.
    Day = 1,
    /// Seven days, aligned to the epoch: all that is kept before.
    Week = 2,
}

const HOURS_KEPT: i64 = 48;
const DAYS_KEPT: i64 = 14;

impl Resolution {
    /// Milliseconds.
    pub fn width_ms(self) -> i64 {
        match self {
            Resolution::Hour => HOUR_MS,
            Resolution::Day => DAY_MS,
            Resolution::Week => 7 * DAY_MS,
        }
    }

    /// How an event at `at` is kept once the newest event is at `newest`.
    fn at_age(at: i64, newest: i64) -> Self {
        if newest.div_euclid(HOUR_MS) - at.div_euclid(HOUR_MS) < HOURS_KEPT {
            Resolution::Hour
        } else if newest.div_euclid(DAY_MS) - at.div_euclid(DAY_MS) < DAYS_KEPT {
            Resolution::Day
        } else {
            Resolution::Week
        }
    }
}

/// Counts that can be added up.
pub trait Tally: Copy {
    /// Adds `other`, count by count.
    fn add(&mut self, other: &Self);
}

/// What is counted of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Watch events.
    pub watches: u64,
    /// Click events.
    pub clicks: u64,
    /// Milliseconds watched.
    pub watched_ms: u64,
    /// Watches of at least 95 % of the duration.
    pub completions: u64,
    /// Watches given up at once.
    pub skips: u64,
}

impl Tally for Counts {
    fn add(&mut self, other: &Self) {
        self.watches += other.watches;
        self.clicks += other.clicks;
        self.watched_ms += other.watched_ms;
        self.completions += other.completions;
        self.skips += other.skips;
    }
}

/// Counts of one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket<C = Counts> {
    /// Where it begins; a multiple of the width.
    pub start: EventTime,
    /// How wide it is.
    pub resolution: Resolution,
    /// What happened in it.
    pub counts: C,
}

impl<C> Bucket<C> {
    fn key(&self) -> (EventTime, Resolution) {
        (self.start, self.resolution)
    }
}

/// Adds to the bucket of `at`, where the newest event was at `newest`, possibly this one; buckets
/// are ordered by (start, resolution).
pub fn count<C: Tally>(buckets: &mut Vec<Bucket<C>>, at: EventTime, newest: EventTime, counts: &C) {
    let resolution = Resolution::at_age(at.millis(), newest.millis());
    let width = resolution.width_ms();
    let start = EventTime::from_millis(at.millis().div_euclid(width) * width);
    let key = (start, resolution);
    match buckets.binary_search_by(|b| b.key().cmp(&key)) {
        Ok(found) => buckets[found].counts.add(counts),
        Err(place) => buckets.insert(place, Bucket { start, resolution, counts: *counts }),
    }
}

/// Moves buckets that have aged to their coarser place and drops what lies before `floor`, which
/// is aligned to weeks since the epoch, and so to every width.
pub fn age<C: Tally>(buckets: &mut Vec<Bucket<C>>, newest: EventTime, floor: EventTime) {
    let aged = |b: &Bucket<C>| {
        b.start < floor || Resolution::at_age(b.start.millis(), newest.millis()) > b.resolution
    };
    if !buckets.iter().any(aged) {
        return;
    }
    for bucket in std::mem::take(buckets) {
        if bucket.start >= floor {
            // A bucket never gets finer: what was coarse stays in the coarse bucket.
            let resolution = Resolution::at_age(bucket.start.millis(), newest.millis());
            if resolution > bucket.resolution {
                count(buckets, bucket.start, newest, &bucket.counts);
            } else {
                insert(buckets, bucket);
            }
        }
    }
}

fn insert<C: Tally>(buckets: &mut Vec<Bucket<C>>, bucket: Bucket<C>) {
    match buckets.binary_search_by(|b| b.key().cmp(&bucket.key())) {
        Ok(found) => buckets[found].counts.add(&bucket.counts),
        Err(place) => buckets.insert(place, bucket),
    }
}

/// Width of a [`Period`]: four weeks, so that every bucket lies in one period.
pub(super) const PERIOD_MS: i64 = 28 * DAY_MS;

/// Most items remembered as seen per period beyond the history. About 3 bytes each; past it the
/// ones with the largest fingerprints are forgotten, and may be shown again.
const SEEN_LIMIT: usize = 4096;

/// Four weeks of habits and of items seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// Periods since the epoch.
    pub index: i64,
    /// Events by hour of day, UTC.
    pub by_hour: [u64; 24],
    /// Items that have left the history: 24-bit fingerprints, ascending. At 4,096 of them an
    /// item is mistaken for one with probability 1 in 4,096.
    pub seen: Vec<u32>,
}

impl Period {
    /// The index of the period that `at` lies in.
    pub fn index_of(at: EventTime) -> i64 {
        at.millis().div_euclid(PERIOD_MS)
    }

    pub(super) fn see(&mut self, fingerprint: u32) {
        if let Err(place) = self.seen.binary_search(&fingerprint) {
            self.seen.insert(place, fingerprint);
            self.seen.truncate(SEEN_LIMIT);
        }
    }
}

/// The period of `at`, made where there is none yet; ordered by index.
pub(super) fn period_of(periods: &mut Vec<Period>, at: EventTime) -> &mut Period {
    let index = Period::index_of(at);
    let place = match periods.binary_search_by_key(&index, |p| p.index) {
        Ok(place) => place,
        Err(place) => {
            periods.insert(place, Period { index, by_hour: [0; 24], seen: Vec::new() });
            place
        }
    };
    &mut periods[place]
}

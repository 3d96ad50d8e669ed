//! Where things are in the lake: keys of data files, and of what is written down about them.
//!
//! Data lies in Hive partitions, `TOPIC/dt=YYYY-MM-DD/hh=HH/`. Everything else is in folders that
//! begin with `_`, which Spark, Trino and Athena pass over and no glob on a topic finds.

use crate::time::{DAY_MS, EventTime, HOUR_MS};

/// Plans and manifests of cuts.
pub const CUTS: &str = "_cuts";
/// What takes the place of several files.
pub const MERGES: &str = "_merges";
/// Lists of files that must stay.
pub const PINS: &str = "_pins";

/// How far topics are expired.
pub const EXPIRED: &str = "_expired";

/// An hour of event time, UTC, counted from the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

/// First and last time that has a folder: what is outside is no time that anything happened at.
const TIMES: std::ops::Range<i64> = 1..253_402_300_800_000;

impl Hour {
    /// The hour of a time; `None` where the time is before 1970 or after 9999.
    pub fn of(time: EventTime) -> Option<Self> {
        TIMES.contains(&time.millis()).then(|| Self(time.millis() / HOUR_MS))
    }

    /// When it begins.
    pub fn begin(self) -> EventTime {
        EventTime::from_millis(self.0 * HOUR_MS)
    }

    /// When the next one begins.
    pub fn end(self) -> EventTime {
        EventTime::from_millis((self.0 + 1) * HOUR_MS)
    }

    /// `TOPIC/dt=…/hh=…`
    pub fn folder(self, topic: &str) -> String {
        let days = self.0 * HOUR_MS / DAY_MS;
        let (year, month, day) = civil(days);
        let hour = self.0 % 24;
        format!("{topic}/dt={year:04}-{month:02}-{day:02}/hh={hour:02}")
    }

    /// The hour that a data file is of, by its key.
    pub fn of_key(key: &str) -> Option<Self> {
        let mut parts = key.rsplit('/').skip(1);
        let hour: i64 = parts.next()?.strip_prefix("hh=")?.parse().ok()?;
        let date = parts.next()?.strip_prefix("dt=")?;
        let mut numbers = date.splitn(3, '-').map(|n| n.parse::<i64>());
        let mut number = || numbers.next()?.ok();
        let days = days_of(number()?, number()?, number()?);
        (0..24).contains(&hour).then_some(Self(days * 24 + hour))
    }
}

/// The proleptic Gregorian date of a day counted from 1970-01-01 (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil`].
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

/// One partition of one topic, as long as the topic lives: made anew, its offsets begin again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// How often the topic was made anew.
    pub generation: i32,
}

impl Chain {
    /// The folder of a partition's generations.
    pub fn partition_folder(topic: &str, partition: i32) -> String {
        format!("{CUTS}/{topic}/{partition:05}")
    }

    fn folder(&self) -> String {
        let partition = Self::partition_folder(&self.topic, self.partition);
        format!("{partition}/{:04}", self.generation)
    }

    /// What says that this generation has begun.
    pub fn begin_key(&self) -> String {
        format!("{}/begin.json", self.folder())
    }

    /// What says where cut number `cut` ends, before any of its files is there. Cuts are counted
    /// and not named by their offsets, so that of two that overlap one comes first.
    pub fn plan_key(&self, cut: u64) -> String {
        format!("{}/{cut:010}.plan.json", self.folder())
    }

    /// What says that the cut is whole, and what is in it.
    pub fn manifest_key(&self, cut: u64) -> String {
        format!("{}/{cut:010}.manifest.json", self.folder())
    }

    /// The file of an hour of a cut.
    pub fn file_key(&self, hour: Hour, start: i64, end: i64) -> String {
        let (topic, partition) = (&self.topic, self.partition);
        let again = match self.generation {
            0 => String::new(),
            n => format!("@{n}"),
        };
        format!("{}/{topic}{again}+{partition}+{start}-{end}.parquet", hour.folder(topic))
    }

    /// How names of the cut's files end, in whatever hour.
    pub fn file_name(&self, start: i64, end: i64) -> String {
        let key = self.file_key(Hour(0), start, end);
        key.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// What a key below [`CUTS`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CutKey {
    /// A generation has begun.
    Begin,
    /// The plan of the cut of this number.
    Plan(u64),
    /// Its manifest.
    Manifest(u64),
}

impl CutKey {
    /// Generation and meaning of a key.
    pub fn parse(key: &str) -> Option<(i32, Self)> {
        let mut parts = key.rsplit('/');
        let name = parts.next()?;
        let generation = parts.next()?.parse().ok()?;
        let (first, rest) = name.split_once('.')?;
        let found = match (first, rest) {
            ("begin", "json") => Self::Begin,
            (cut, "plan.json") => Self::Plan(cut.parse().ok()?),
            (cut, "manifest.json") => Self::Manifest(cut.parse().ok()?),
            _ => return None,
        };
        Some((generation, found))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_says_topic_hour_partition_and_offsets() {
        let mut chain = Chain { topic: "watch-events".into(), partition: 3, generation: 0 };
        let hour = Hour::of(EventTime::from_millis(1_709_214_300_000)).unwrap();
        let key = "watch-events/dt=2024-02-29/hh=13/watch-events+3+100-250.parquet";
        assert_eq!(chain.file_key(hour, 100, 250), key);
        assert_eq!(Hour::of_key(key), Some(hour));
        chain.generation = 2;
        assert_eq!(chain.file_name(0, 7), "watch-events@2+3+0-7.parquet");
        assert_eq!(CutKey::parse(&chain.plan_key(5)), Some((2, CutKey::Plan(5))));
        assert_eq!(CutKey::parse(&chain.manifest_key(5)), Some((2, CutKey::Manifest(5))));
        assert_eq!(CutKey::parse(&chain.begin_key()), Some((2, CutKey::Begin)));
        assert_eq!(CutKey::parse("_cuts/t/00000/0000/readme.txt"), None);
    }

    proptest! {
        #[test]
        fn an_hour_comes_back_from_its_folder(millis in TIMES) {
            let hour = Hour::of(EventTime::from_millis(millis)).unwrap();
            prop_assert_eq!(Hour::of_key(&format!("{}/x", hour.folder("a/b"))), Some(hour));
            prop_assert!(hour.begin().millis() <= millis && millis < hour.end().millis());
            let date = chrono::DateTime::from_timestamp_millis(millis).unwrap();
            prop_assert_eq!(hour.folder("t"), date.format("t/dt=%Y-%m-%d/hh=%H").to_string());
        }

        #[test]
        fn times_that_nothing_happened_at_have_no_hour(millis in prop_oneof![
            i64::MIN..=0, 253_402_300_800_000..=i64::MAX
        ]) {
            prop_assert_eq!(Hour::of(EventTime::from_millis(millis)), None);
        }
    }
}

//! What a user was lately shown: state of lists, in the event time of their requests. Pure; whoever
//! answers keeps it.

use crate::ids::stable_hash;
use crate::model::decayed;
use crate::ranking::Exposures;
use crate::time::{DAY_MS, EventTime, SECOND_MS};

/// Milliseconds in which having been shown an item counts half. Longer: what did not please is not
/// offered again for days; shorter: the evening's list is the morning's.
pub const HALF_LIFE_MS: i64 = DAY_MS;
/// Most items remembered of a user: the lists of a long evening, 8 KB.
const MAX_ITEMS: usize = 512;
/// An item that counts less was shown once, more than four days ago, and is forgotten.
const FORGOTTEN: f32 = 0.05;
/// Newest lists of a user that are known again when they come twice: after a crash a request may be
/// answered again, and those under way are few.
const LISTS: usize = 8;

/// What one user was shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// In the order of item hashes.
    items: Vec<Showing>,
    /// The newest last.
    lists: Vec<u64>,
    exposures: Exposures,
}

/// How often one item was shown where it was looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Showing {
    /// XXH3-64 of the item.
    item: u64,
    /// The newest time, in seconds since the Unix epoch: half the memory of milliseconds.
    last: u32,
    /// How often it was looked at, in expectation, decayed to that time.
    times: f32,
}

impl Shown {
    /// Takes note of a list: of its request, of where and of the time for which it was wanted, and of
    /// the hashes of its items with how likely each was looked at, 0 to 1. Whether it is new: the same request
    /// at the same time is one list.
    pub fn note(
        &mut self,
        request: &str,
        surface: &str,
        at: EventTime,
        items: impl IntoIterator<Item = (u64, f32)>,
    ) -> bool {
        let list = stable_hash(request.as_bytes()) ^ stable_hash(&at.millis().to_le_bytes());
        if self.lists.contains(&list) {
            return false;
        }
        if self.lists.len() == LISTS {
            self.lists.remove(0);
        }
        self.lists.push(list);
        let now = seconds(at);
        let surface = stable_hash(surface.as_bytes());
        for (item, looked) in items {
            self.exposures.learn(surface, item, at);
            match self.items.binary_search_by_key(&item, |showing| showing.item) {
                Ok(place) => self.items[place].add(now, looked),
                Err(place) => self.items.insert(place, Showing { item, last: now, times: looked }),
            }
        }
        self.forget(now);
        true
    }

    /// How often an item was shown in vain, decayed to `at`: since the user `acted` on it last,
    /// nothing where they have not been shown it since.
    pub fn times(&self, item: u64, at: EventTime, acted: Option<EventTime>) -> f32 {
        let found = self.items.binary_search_by_key(&item, |showing| showing.item);
        let Ok(place) = found else { return 0.0 };
        let showing = &self.items[place];
        if acted.is_some_and(|acted| seconds(acted) >= showing.last) {
            return 0.0;
        }
        showing.at(seconds(at))
    }

    /// What the ranker asks of it.
    pub fn exposures(&self) -> &Exposures {
        &self.exposures
    }

    /// Items that are remembered.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Memory held beside the struct itself, in bytes.
    pub fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<Showing>()
            + self.lists.capacity() * size_of::<u64>()
            + self.exposures.bytes()
    }

    /// Forgets what no longer counts, and the least of what is too much.
    fn forget(&mut self, now: u32) {
        self.items.retain(|showing| showing.at(now) >= FORGOTTEN);
        if self.items.len() > MAX_ITEMS {
            let mut by_count: Vec<(f32, u64)> =
                self.items.iter().map(|showing| (showing.at(now), showing.item)).collect();
            let more = |a: &(f32, u64), b: &(f32, u64)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            by_count.select_nth_unstable_by(MAX_ITEMS, more);
            let least = by_count[MAX_ITEMS];
            self.items.retain(|showing| more(&(showing.at(now), showing.item), &least).is_lt());
        }
        if self.items.capacity() > 2 * self.items.len().max(16) {
            self.items.shrink_to_fit();
        }
    }
}

impl Showing {
    /// Lists may come in any order of their times.
    fn add(&mut self, at: u32, looked: f32) {
        if at >= self.last {
            self.times = self.at(at) + looked;
            self.last = at;
        } else {
            self.times += looked * left(self.last - at);
        }
    }

    fn at(&self, now: u32) -> f32 {
        self.times * left(now.saturating_sub(self.last))
    }
}

/// What is left of one showing so many seconds later.
fn left(age_s: u32) -> f32 {
    decayed(f64::from(age_s) / (HALF_LIFE_MS / SECOND_MS) as f64) as f32
}

fn seconds(at: EventTime) -> u32 {
    u32::try_from(at.millis().max(0) / SECOND_MS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hour(n: i64) -> EventTime {
        EventTime::from_millis(1_700_000_000_000 + n * DAY_MS / 24)
    }

    /// Every place of the list looked at.
    fn all(items: impl IntoIterator<Item = u64>) -> impl Iterator<Item = (u64, f32)> {
        items.into_iter().map(|item| (item, 1.0))
    }

    #[test]
    fn what_was_likely_not_looked_at_counts_less() {
        let mut shown = Shown::default();
        shown.note("r", "home", hour(0), [(1, 1.0), (2, 0.25)]);
        shown.note("s", "home", hour(0), [(1, 0.5), (2, 0.25)]);
        assert_eq!((shown.times(1, hour(0), None), shown.times(2, hour(0), None)), (1.5, 0.5));
    }

    #[test]
    fn a_showing_counts_half_after_a_half_life() {
        let mut shown = Shown::default();
        assert!(shown.note("r", "home", hour(0), all([1, 2])));
        assert_eq!(shown.times(1, hour(0), None), 1.0);
        assert!((shown.times(1, hour(24), None) - 0.5).abs() < 1e-6);
        assert!(shown.note("s", "home", hour(24), all([1])));
        assert!((shown.times(1, hour(24), None) - 1.5).abs() < 1e-6);
        assert_eq!(shown.times(3, hour(24), None), 0.0);
    }

    #[test]
    fn the_same_list_counts_once_and_another_of_its_name_does_not() {
        let mut shown = Shown::default();
        assert!(shown.note("r", "home", hour(0), all([1])));
        assert!(!shown.note("r", "home", hour(0), all([1])));
        assert_eq!(shown.times(1, hour(0), None), 1.0);
        assert!(shown.note("r", "home", hour(1), all([1])));
        assert!(shown.times(1, hour(1), None) > 1.9);
    }

    #[test]
    fn what_the_user_acted_on_since_was_not_shown_in_vain() {
        let mut shown = Shown::default();
        shown.note("r", "home", hour(2), all([1]));
        assert_eq!(shown.times(1, hour(3), Some(hour(2))), 0.0);
        assert!(shown.times(1, hour(3), Some(hour(1))) > 0.9);
    }

    #[test]
    fn what_no_longer_counts_is_forgotten() {
        let mut shown = Shown::default();
        shown.note("r", "home", hour(0), all([1]));
        shown.note("s", "home", hour(24 * 5), all([2]));
        assert_eq!(shown.len(), 1);
    }

    #[test]
    fn of_too_many_items_those_that_count_most_stay() {
        let mut shown = Shown::default();
        shown.note("r", "home", hour(0), all(0..20));
        (1..4).for_each(|n| {
            shown.note(&format!("r{n}"), "home", hour(1), all(0..10));
        });
        shown.note("s", "home", hour(2), all(1_000..1_700));
        assert_eq!(shown.len(), MAX_ITEMS);
        assert!((0..10).all(|item| shown.times(item, hour(2), None) > 3.0));
        assert!((10..20).all(|item| shown.times(item, hour(2), None) == 0.0));
        assert!(shown.bytes() <= 2 * MAX_ITEMS * size_of::<Showing>() + 4_096, "{}", shown.bytes());
    }

    proptest! {
        /// Against the sum over all showings.
        #[test]
        fn counts_are_sums_of_decayed_showings_in_any_order(
            lists in proptest::collection::vec((0..40i64, proptest::collection::btree_set(0..6u64, 0..6)), 0..12),
        ) {
            let mut shown = Shown::default();
            for (n, (at, items)) in lists.iter().enumerate() {
                shown.note(&n.to_string(), "home", hour(*at), all(items.iter().copied()));
            }
            let now = hour(40);
            for item in 0..6 {
                let of_it = lists.iter().filter(|(_, items)| items.contains(&item));
                let naive: f64 = of_it.map(|(at, _)| 0.5f64.powf((40 - at) as f64 / 24.0)).sum();
                let counted = f64::from(shown.times(item, now, None));
                prop_assert!((counted - naive).abs() < 1e-4, "{} {}", counted, naive);
            }
        }
    }
}

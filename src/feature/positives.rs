//! What a user has liked, the newest items: the history that item vectors learn from.
//!
//! An event is **positive** where it is a click, a watch of at least half of the item, or a watch of
//! an item whose length is not known.

use super::fold_event::FoldEvent;
use super::recent::Entry;
use super::state::UserState;
use super::{Corrupt, codec};
use crate::event::{History, Source};
use crate::ids::stable_hash;
use crate::time::EventTime;

impl FoldEvent<'_> {
    /// Whether the user liked the item, as far as the event says.
    pub fn is_positive(&self) -> bool {
        let half = self.watched_ms.saturating_mul(2) >= self.duration_ms;
        self.source == Source::Click || half
    }
}

impl Entry<'_> {
    /// The same of an event of this topic that is remembered.
    pub fn is_positive(&self, source: Source) -> bool {
        source == Source::Click || self.duration_s == 0 || self.fraction >= 100
    }
}

/// The newest items that a user has liked, each once, with the time they last did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positives {
    /// XXH3-64 of the items, the oldest first.
    liked: Vec<(EventTime, u64)>,
}

impl Positives {
    /// Those of a user's state.
    pub fn of(state: &UserState<'_>) -> Self {
        let of_source = |source| {
            let liked = state.recent(source).iter().filter(move |e| e.is_positive(source));
            liked.map(|entry| (entry.at, entry.item))
        };
        Self::from_events(Source::ALL.into_iter().flat_map(of_source).collect())
    }

    /// Those of an encoded state. Reads its lists only.
    ///
    /// # Errors
    /// [`Corrupt`] where the bytes are no state.
    pub fn of_encoded(state: &[u8]) -> Result<Self, Corrupt> {
        codec::positives(state).map(Self::from_events)
    }

    fn from_events(mut events: Vec<(EventTime, &str)>) -> Self {
        // The newest of all, so that what `learn` would push out is not even hashed; of one time,
        // in the order of their names, since the lists of two topics have none.
        events.sort_unstable_by(|a, b| b.cmp(a));
        let mut positives = Self::default();
        for (at, item) in events {
            let hash = stable_hash(item.as_bytes());
            if positives.liked.iter().all(|(_, known)| *known != hash) {
                positives.liked.push((at, hash));
            }
            if positives.liked.len() == History::MAX {
                break;
            }
        }
        positives.liked.reverse();
        positives
    }

    /// Notes that the user liked an item, by its hash.
    pub fn learn(&mut self, item: u64, at: EventTime) {
        let known = self.liked.iter().position(|(_, liked)| *liked == item);
        match known {
            Some(place) if self.liked[place].0 >= at => return,
            Some(place) => drop(self.liked.remove(place)),
            None if self.liked.len() < History::MAX => {}
            // Older than all that is kept.
            None if self.liked[0].0 > at => return,
            None => drop(self.liked.remove(0)),
        }
        // Events mostly come in order: look from the end.
        let newer = self.liked.iter().rev().take_while(|(other, _)| *other > at).count();
        self.liked.insert(self.liked.len() - newer, (at, item));
    }

    /// These and `others`.
    pub fn and(mut self, others: &Self) -> Self {
        others.liked.iter().for_each(|(at, item)| self.learn(*item, *at));
        self
    }

    /// What was liked up to `at`, the newest first: of what is noted, all but later events.
    pub fn before(&self, at: EventTime) -> History<'static> {
        let liked = self.liked.iter().rev().skip_while(|(other, _)| *other > at);
        History::of(liked.map(|(_, item)| *item))
    }

    /// Memory held, in bytes, with what an allocation costs.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + 16 + self.liked.capacity() * size_of::<(EventTime, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::feature::FoldRules;

    /// Source, item, minutes, watched and total seconds.
    type Row = (bool, u8, i64, u64, u64);

    fn events(rows: &[Row]) -> Vec<(FoldEvent<'static>, u64)> {
        let names: Vec<&'static str> =
            (0..60).map(|n| &*Box::leak(format!("v{n}").into_boxed_str())).collect();
        let event = |(n, row): (usize, &Row)| {
            let &(click, item, minutes, watched, duration) = row;
            let source = if click { Source::Click } else { Source::Watch };
            let (watched, duration) = if click { (0, 0) } else { (watched, duration) };
            let event = FoldEvent {
                source,
                // Times differ, so that the order of events is one.
                at: EventTime::from_millis(minutes * 60_000 + n as i64),
                id: n as u32,
                session: 0,
                watched_ms: watched * 10,
                duration_ms: duration * 10,
                item: names[usize::from(item)],
                surface: "",
            };
            (event, stable_hash(names[usize::from(item)].as_bytes()))
        };
        rows.iter().enumerate().map(event).collect()
    }

    /// All items liked up to a time, the newest first, from all events.
    fn naive(events: &[(FoldEvent<'_>, u64)], until: EventTime) -> Vec<u64> {
        let mut liked: Vec<(EventTime, u64)> = events
            .iter()
            .filter(|(e, _)| {
                let half = e.duration_ms == 0 || e.watched_ms as f64 / e.duration_ms as f64 >= 0.5;
                e.at <= until && (e.source == Source::Click || half)
            })
            .map(|(e, item)| (e.at, *item))
            .collect();
        liked.sort();
        let mut newest = Vec::new();
        for (_, item) in liked.into_iter().rev() {
            if !newest.contains(&item) {
                newest.push(item);
            }
        }
        newest.truncate(History::MAX);
        newest
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = (any::<bool>(), 0u8..60, 0i64..2_000, 0u64..300, 0u64..200);
        proptest::collection::vec(row, 0..120)
    }

    proptest! {
        #[test]
        fn positives_are_the_newest_liked_items_whether_noted_or_read_from_a_state(rows in rows()) {
            let events = events(&rows);
            let rules = FoldRules { history_limit: 10_000, ttl_days: 180 };
            let mut operand = Vec::new();
            let mut noted = Positives::default();
            for (event, item) in &events {
                event.encode(&mut operand);
                if event.is_positive() {
                    noted.learn(*item, event.at);
                }
            }
            let mut state = UserState::default();
            state.fold(&operand, &rules).unwrap();
            let expected = naive(&events, EventTime::from_millis(i64::MAX));
            let all = |p: &Positives| -> Vec<u64> {
                p.before(EventTime::from_millis(i64::MAX)).iter().collect()
            };
            prop_assert_eq!(all(&noted), expected.clone());
            prop_assert_eq!(all(&Positives::of(&state)), expected);
            prop_assert_eq!(Positives::of_encoded(&state.encode()), Ok(noted));
        }

        #[test]
        fn in_order_of_time_a_history_is_what_was_liked_before(rows in rows()) {
            let mut events = events(&rows);
            events.sort_by_key(|(e, _)| e.at);
            let mut noted = Positives::default();
            for (place, (event, item)) in events.iter().enumerate() {
                let history: Vec<u64> = noted.before(event.at).iter().collect();
                prop_assert_eq!(history, naive(&events[..place], event.at));
                if event.is_positive() {
                    noted.learn(*item, event.at);
                }
            }
        }
    }

    #[test]
    fn a_late_event_does_not_know_what_was_liked_later() {
        let mut liked = Positives::default();
        let minute = |n: i64| EventTime::from_millis(n * 60_000);
        [(1, 1), (2, 5), (3, 9)].into_iter().for_each(|(item, at)| liked.learn(item, minute(at)));
        assert_eq!(liked.before(minute(6)).iter().collect::<Vec<_>>(), [2, 1]);
        assert_eq!(liked.before(minute(0)).iter().count(), 0);
    }
}

//! What a user has liked, the newest items: the history that item vectors learn from.
//!
//! An event is **positive** where it is a click, a watch of at least half of the item, or a watch of
//! an item whose length is not known; unless the user has said that they do not want the item.

use super::fold_event::FoldEvent;
use super::recent::Entry;
use super::refusals::{MAX_REFUSALS, Verdict};
use super::state::UserState;
use super::{Corrupt, codec};
use crate::event::{FeedbackKind, History, Source, SubjectKind};
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
    /// The last word on items that were refused, or taken back, oldest first.
    judged: Vec<(EventTime, FeedbackKind, u64)>,
}

impl Positives {
    /// Those of a user's state.
    pub fn of(state: &UserState<'_>) -> Self {
        let of_source = |source| {
            let liked = state.recent(source).iter().filter(move |e| e.is_positive(source));
            liked.map(|entry| (entry.at, entry.item))
        };
        let events = Source::ALL.into_iter().flat_map(of_source).collect();
        Self::from_events(events, state.verdicts())
    }

    /// Those of an encoded state. Reads its lists only.
    ///
    /// # Errors
    /// [`Corrupt`] where the bytes are no state.
    pub fn of_encoded(state: &[u8]) -> Result<Self, Corrupt> {
        codec::positives(state)
    }

    pub(super) fn from_events(mut events: Vec<(EventTime, &str)>, said: &[Verdict<'_>]) -> Self {
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
        said.iter().for_each(|verdict| positives.judge(verdict));
        positives
    }

    /// Notes what the user said of an item. What they said of other things is not looked at.
    pub fn judge(&mut self, verdict: &Verdict<'_>) {
        if verdict.subject.kind == SubjectKind::Item {
            let item = stable_hash(verdict.subject.id.as_bytes());
            self.note((verdict.at, verdict.kind, item));
        }
    }

    fn note(&mut self, word: (EventTime, FeedbackKind, u64)) {
        match self.judged.iter().position(|(.., item)| *item == word.2) {
            Some(place) if self.judged[place] >= word => return,
            Some(place) => drop(self.judged.remove(place)),
            None if self.judged.len() < MAX_REFUSALS => {}
            None if self.judged[0] > word => return,
            None => drop(self.judged.remove(0)),
        }
        self.judged.insert(self.judged.partition_point(|known| *known < word), word);
    }

    /// Whether the user does not want an item, by its hash: then nothing they did with it is
    /// positive.
    pub fn is_refused(&self, item: u64) -> bool {
        let refused = |&(_, kind, known): &(_, FeedbackKind, u64)| {
            known == item && kind == FeedbackKind::NotInterested
        };
        self.judged.iter().any(refused)
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
        others.judged.iter().for_each(|word| self.note(*word));
        self
    }

    /// What was liked up to `at`, the newest first: of what is noted, all but later events and
    /// what the user does not want any more.
    pub fn before(&self, at: EventTime) -> History<'static> {
        let liked = self.liked.iter().rev().skip_while(|(other, _)| *other > at);
        History::of(liked.map(|(_, item)| *item).filter(|item| !self.is_refused(*item)))
    }

    /// Memory held, in bytes, with what an allocation costs.
    pub fn bytes(&self) -> usize {
        let liked = self.liked.capacity() * size_of::<(EventTime, u64)>();
        let judged = self.judged.capacity() * size_of::<(EventTime, FeedbackKind, u64)>();
        size_of::<Self>() + 16 + liked + judged
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Subject;
    use crate::feature::{FoldRecord, FoldRules};

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

    /// What was said of items: item, minutes, whether it was taken back.
    fn words() -> impl Strategy<Value = Vec<(u8, i64, bool)>> {
        proptest::collection::vec((0u8..60, 0i64..2_000, any::<bool>()), 0..20)
    }

    /// The items on which the last word is a refusal.
    fn refused(words: &[(u8, i64, bool)]) -> Vec<u64> {
        let is_last = |word: &(u8, i64, bool)| {
            let later = |other: &&(u8, i64, bool)| {
                other.0 == word.0 && (other.1, other.2) > (word.1, word.2)
            };
            words.iter().find(later).is_none()
        };
        let last = words.iter().filter(|word| !word.2 && is_last(word));
        last.map(|(item, ..)| stable_hash(format!("v{item}").as_bytes())).collect()
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = (any::<bool>(), 0u8..60, 0i64..2_000, 0u64..300, 0u64..200);
        proptest::collection::vec(row, 0..120)
    }

    proptest! {
        #[test]
        fn positives_are_the_newest_liked_items_whether_noted_or_read_from_a_state(
            rows in rows(),
            words in words(),
        ) {
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
            for &(item, minutes, undo) in &words {
                let id = format!("v{item}");
                let kind = if undo { FeedbackKind::Undo } else { FeedbackKind::NotInterested };
                let subject = Subject { kind: SubjectKind::Item, id: &id };
                let verdict = Verdict { at: EventTime::from_millis(minutes), kind, subject };
                noted.judge(&verdict);
                FoldRecord::Verdict(verdict).encode(&mut operand);
            }
            let mut state = UserState::default();
            state.fold(&operand, &rules).unwrap();
            let refused = refused(&words);
            let mut expected = naive(&events, EventTime::from_millis(i64::MAX));
            expected.retain(|item| !refused.contains(item));
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

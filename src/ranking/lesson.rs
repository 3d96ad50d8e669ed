//! Closed examples of lists that a ranker looked at, as counters and weights learn from them.

use std::sync::LazyLock;

use super::features::schema;
use super::served::{NotServed, Served};
use super::{Context, Example, Item, Outcome, Watch, key_of};
use crate::event::TrainingExample;
use crate::ids::stable_hash;
use crate::time::EventTime;

/// An exposure, what it was served with, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// The features and log-odds that it was served with.
    pub served: Served,
    user: u64,
    surface: u64,
    at: EventTime,
    item: Item,
    outcome: Outcome,
}

/// What [`crate::event::TrainingExample::ranker_schema`] says of the features of this program.
pub fn schema_name() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| format!("{:016x}", schema()));
    &NAME
}

impl Lesson {
    /// What there is to learn of a record; none where no ranker looked at its list, or one whose
    /// features mean something else.
    ///
    /// # Errors
    /// [`NotServed`] where the record does not hold what its schema says.
    pub fn of(example: &TrainingExample<'_>) -> Result<Option<Self>, NotServed> {
        if example.ranked.is_empty() || example.ranker_schema != schema_name() {
            return Ok(None);
        }
        let unsigned = |ms: i64| u64::try_from(ms).unwrap_or(0);
        let item = Item {
            id: stable_hash(example.item.as_bytes()),
            creator: key_of(example.creator),
            category: key_of(example.category),
            duration_ms: unsigned(example.item_ms),
            ..Item::default()
        };
        Ok(Some(Self {
            served: Served::from_record(&example.ranked)?,
            user: stable_hash(example.user.as_bytes()),
            surface: stable_hash(example.surface.as_bytes()),
            at: EventTime::from_millis(example.event_time),
            item,
            outcome: Outcome {
                clicked: example.clicked,
                long_view: example.long_view,
                watched_ms: unsigned(example.watched_ms),
            },
        }))
    }

    /// As counters and weights learn it.
    pub fn example(&self) -> Example<'_> {
        let Self { user, surface, at, ref item, outcome, .. } = *self;
        let base = self.served.features.base_rates();
        Example { context: Context { user, surface, at, profile: &[] }, item, base, outcome }
    }

    /// That it was watched, and at which rate its user's watches were long views before; none where
    /// it was not.
    pub fn watch(&self) -> Option<(Watch, f32)> {
        let Self { ref item, outcome, at, .. } = *self;
        let watch = Watch::of(item, outcome.long_view, at);
        (outcome.watched_ms > 0).then(|| (watch, self.served.features.user_rate()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::{Features, Logged, user_rate};

    fn served() -> Served {
        let mut features = Features::default();
        features.dense.iter_mut().enumerate().for_each(|(n, x)| *x = n as f32 / 100.0);
        features.ids = vec![5, 6];
        Served { features, logged: Logged { dense: [0.5, -0.5], all: [0.25, -0.25] } }
    }

    #[test]
    fn an_example_is_learnt_as_it_was_served_and_others_are_passed_over() {
        let example = TrainingExample {
            user: "u",
            item: "v",
            surface: "home",
            event_time: 1_000,
            creator: "c",
            item_ms: 60_000,
            ranker_schema: schema_name(),
            ranked: served().to_record(),
            clicked: true,
            watched_ms: 9_000,
            ..TrainingExample::default()
        };
        let lesson = Lesson::of(&example).unwrap().unwrap();
        assert_eq!(lesson.served, served());
        let learnt = lesson.example();
        assert_eq!((learnt.context.user, learnt.item.id), (stable_hash(b"u"), stable_hash(b"v")));
        assert_eq!((learnt.item.creator, learnt.item.category), (stable_hash(b"c"), 0));
        assert_eq!((learnt.outcome.clicked, learnt.outcome.watched_ms), (true, 9_000));
        let (watch, rate) = lesson.watch().unwrap();
        assert_eq!((watch.duration_ms, watch.long_view), (60_000, false));
        assert!((rate - user_rate(&[], rate)).abs() < 1e-6);

        let unseen = TrainingExample { ranked: Vec::new(), ..example.clone() };
        assert_eq!(Lesson::of(&unseen), Ok(None));
        let other = TrainingExample { ranker_schema: "00", ..example.clone() };
        assert_eq!(Lesson::of(&other), Ok(None));
        let cut = TrainingExample { ranked: vec![1.0; 7], ..example };
        assert_eq!(Lesson::of(&cut), Err(NotServed::Length { found: 7 }));
    }
}

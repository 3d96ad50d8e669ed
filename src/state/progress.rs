//! How far a shard has folded its topics: what moves in the same batch as the state.

use serde::{Deserialize, Serialize};

use crate::event::EventTopic;
use crate::feature::{Corrupt, FoldRules, UserState};
use crate::time::EventTime;

/// Progress of one shard over its topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// `watch-events`.
    pub watch: SourceProgress,
    /// `click-events`.
    pub click: SourceProgress,
    /// `feedback-events`; stores of before there was feedback lack it.
    #[serde(default)]
    pub feedback: SourceProgress,
    /// `impressions`, where they are joined.
    #[serde(default)]
    pub impressions: SourceProgress,
}

/// A topic that a shard reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// A topic of users' events.
    Events(EventTopic),
    /// `impressions`.
    Impressions,
}

impl Input {
    /// All of them, in the order of [`Input::number`].
    pub const ALL: [Self; 4] = [
        Self::Events(EventTopic::Watch),
        Self::Events(EventTopic::Click),
        Self::Events(EventTopic::Feedback),
        Self::Impressions,
    ];

    /// Its place in a table of all.
    pub fn number(self) -> usize {
        match self {
            Self::Events(topic) => topic as usize,
            Self::Impressions => 3,
        }
    }
}

impl From<EventTopic> for Input {
    fn from(topic: EventTopic) -> Self {
        Self::Events(topic)
    }
}

/// Progress over one partition of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceProgress {
    /// The next offset to fold: everything below it is in the state.
    pub next_offset: i64,
    /// The newest event time folded; `None` before the first event.
    pub watermark: Option<i64>,
    /// The last record folded, by which the topic is known again.
    pub anchor: Option<Anchor>,
}

/// A record that was folded. If the log holds another one at its offset, the topic is not the
/// one that the state was folded from: it was deleted and made anew, or the cluster was swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its offset.
    pub offset: i64,
    /// XXH3-64 of its timestamp, key and value.
    pub hash: u64,
}

impl Progress {
    /// Of one topic.
    pub fn of(&self, topic: impl Into<Input>) -> &SourceProgress {
        match topic.into() {
            Input::Events(EventTopic::Watch) => &self.watch,
            Input::Events(EventTopic::Click) => &self.click,
            Input::Events(EventTopic::Feedback) => &self.feedback,
            Input::Impressions => &self.impressions,
        }
    }

    /// Of one topic, to move on.
    pub fn of_mut(&mut self, topic: impl Into<Input>) -> &mut SourceProgress {
        match topic.into() {
            Input::Events(EventTopic::Watch) => &mut self.watch,
            Input::Events(EventTopic::Click) => &mut self.click,
            Input::Events(EventTopic::Feedback) => &mut self.feedback,
            Input::Impressions => &mut self.impressions,
        }
    }

    /// The event times against which users age out.
    pub fn watermarks(&self) -> Watermarks {
        // None until both have had an event: nothing is too late for a topic without any, so
        // nobody may have been dropped by then.
        let both = self.watch.watermark.zip(self.click.watermark);
        Watermarks {
            events: both.map(|(watch, click)| EventTime::from_millis(watch.min(click))),
            feedback: self.feedback.watermark.map(EventTime::from_millis),
        }
    }
}

/// Up to when a shard has heard everything, but for what is too late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// What both watches and clicks have passed.
    pub events: Option<EventTime>,
    /// What feedback has passed. Kept apart, as many platforms have none.
    pub feedback: Option<EventTime>,
}

/// What is left of a user's state once what has aged out is taken away.
pub enum Left<'a> {
    /// Nothing has aged out.
    All(&'a [u8]),
    /// Their events, or what they refused, have; this is the rest.
    Part(Vec<u8>),
    /// There is nothing, or there was not.
    Nothing,
}

impl Watermarks {
    /// What is left of an encoded state. Events and what was refused age apart, each by topics of
    /// its own, so that it does not show how far the topics have come next to each other.
    pub fn left_of<'a>(&self, state: &'a [u8], rules: &FoldRules) -> Result<Left<'a>, Corrupt> {
        let heard = UserState::last_heard(state)?;
        let is_past = |newest, watermark: Option<EventTime>| {
            watermark.is_some_and(|at| rules.is_aged_out(newest, at))
        };
        let events = heard.event.map(|newest| is_past(newest, self.events));
        let feedback = heard.feedback.map(|newest| is_past(newest, self.feedback));
        Ok(match (events, feedback) {
            (None | Some(true), None | Some(true)) => Left::Nothing,
            (Some(true), _) => {
                let mut user = UserState::decode(state)?;
                user.forget_events();
                Left::Part(user.encode())
            }
            (_, Some(true)) => {
                let mut user = UserState::decode(state)?;
                user.forget_refusals();
                Left::Part(user.encode())
            }
            _ => Left::All(state),
        })
    }

    /// What rounds of looking for aged users go by.
    pub fn of_rounds(&self) -> Option<EventTime> {
        self.events.or(self.feedback)
    }
}

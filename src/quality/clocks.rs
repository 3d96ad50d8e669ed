//! How far each topic has come in event time.

use crate::event::Source;
use crate::time::EventTime;

/// A topic that the join reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Input {
    /// `watch-events`.
    Watch = 0,
    /// `click-events`.
    Click = 1,
    /// `impressions`.
    List = 2,
}

impl Input {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Watch, Self::Click, Self::List];
}

impl From<Source> for Input {
    fn from(source: Source) -> Self {
        match source {
            Source::Watch => Self::Watch,
            Source::Click => Self::Click,
        }
    }
}

/// The newest event time read of each topic; none before its first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks([Option<EventTime>; 3]);

impl Clocks {
    /// Clocks that stand so, in the order of [`Input::ALL`].
    pub fn of(clocks: [Option<EventTime>; 3]) -> Self {
        Self(clocks)
    }

    /// That of one topic, as its records have it.
    pub fn get(&self, input: Input) -> Option<EventTime> {
        self.0[input as usize]
    }

    /// Moves on. `appended` is when the broker had the record: a producer whose clock is ahead
    /// closes no windows before their time.
    pub fn reach(&mut self, input: Input, at: EventTime, appended: EventTime) {
        let clock = &mut self.0[input as usize];
        *clock = (*clock).max(Some(at.min(appended)));
    }

    /// The newest of all.
    pub fn newest(&self) -> Option<EventTime> {
        self.0.iter().flatten().max().copied()
    }

    /// Up to when one topic is taken to be read. One that is more than `idle_ms` behind the others
    /// has nothing to bring, once it is known to hold nothing more: `all_read` is the newest clock at
    /// a moment before which every topic is read.
    pub fn effective(
        &self,
        input: Input,
        all_read: Option<EventTime>,
        idle_ms: i64,
    ) -> Option<EventTime> {
        self.get(input).max(all_read.map(|at| at.plus_millis(-idle_ms)))
    }

    /// Up to when all topics are taken to be read.
    pub fn all(&self, all_read: Option<EventTime>, idle_ms: i64) -> Option<EventTime> {
        Input::ALL.iter().map(|input| self.effective(*input, all_read, idle_ms)).min().flatten()
    }
}

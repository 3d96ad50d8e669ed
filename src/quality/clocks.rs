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

    /// Up to when one topic is taken to be read. One that is more than `idle_ms` behind the others
    /// has nothing to bring: it is read to where its log ended when it was assigned, and they are
    /// read side by side. Until they are, `caught_up` is false and nothing is taken for granted.
    pub fn effective(&self, input: Input, caught_up: bool, idle_ms: i64) -> Option<EventTime> {
        let newest = self.0.iter().flatten().max();
        let idle = newest.filter(|_| caught_up).map(|at| at.plus_millis(-idle_ms));
        self.get(input).max(idle)
    }

    /// Up to when all topics are taken to be read.
    pub fn all(&self, caught_up: bool, idle_ms: i64) -> Option<EventTime> {
        Input::ALL.iter().map(|input| self.effective(*input, caught_up, idle_ms)).min().flatten()
    }
}

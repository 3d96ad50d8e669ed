//! How far a shard has folded its sources: what moves in the same batch as the state.

use serde::{Deserialize, Serialize};

use crate::event::Source;
use crate::time::EventTime;

/// Progress of one shard over its sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// `watch-events`.
    pub watch: SourceProgress,
    /// `click-events`.
    pub click: SourceProgress,
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
    /// Of one source.
    pub fn of(&self, source: Source) -> &SourceProgress {
        match source {
            Source::Watch => &self.watch,
            Source::Click => &self.click,
        }
    }

    /// Of one source, to move on.
    pub fn of_mut(&mut self, source: Source) -> &mut SourceProgress {
        match source {
            Source::Watch => &mut self.watch,
            Source::Click => &mut self.click,
        }
    }

    /// The event time that every source has passed; users age out against it. `None` until both
    /// have had an event: nothing is too late for a source without any, so nobody may have been
    /// dropped by then.
    pub fn watermark(&self) -> Option<EventTime> {
        let both = self.watch.watermark.zip(self.click.watermark);
        both.map(|(watch, click)| EventTime::from_millis(watch.min(click)))
    }
}

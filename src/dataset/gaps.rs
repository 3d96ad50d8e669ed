//! Sessions for data that has none: a user's events belong together until a gap.
//!
//! Enters: a user and an event time. Leaves: the id of a session. Never looks at a clock.

use std::collections::HashMap;
use std::time::Duration;

use crate::ids::{UserId, stable_hash};
use crate::time::EventTime;

/// Users remembered, at 100 bytes or so each. With fewer, a user who is not seen for long gets a
/// new session though the gap was short.
const REMEMBERED: usize = 1_000_000;

/// Gives every event the session it falls into.
#[derive(Clone)]
pub struct Sessions {
    gap_ms: i64,
    limit: usize,
    /// Users seen lately, and those seen before them: two halves, so that forgetting the ones
    /// not seen for longest costs nothing.
    recent: HashMap<UserId, Span>,
    older: HashMap<UserId, Span>,
}

#[derive(Clone, Copy)]
struct Span {
    first: EventTime,
    last: EventTime,
}

impl Sessions {
    /// Sessions that end after `gap` without an event.
    pub fn new(gap: Duration) -> Self {
        Self::with_limit(gap, REMEMBERED)
    }

    fn with_limit(gap: Duration, limit: usize) -> Self {
        let gap_ms = i64::try_from(gap.as_millis()).unwrap_or(i64::MAX);
        Self { gap_ms, limit, recent: HashMap::new(), older: HashMap::new() }
    }

    /// The session of a user's event at `at`: its id names the user and the session's first
    /// event, so a file read again gives the same ids.
    pub fn of(&mut self, user: &UserId, at: EventTime) -> String {
        let known = match self.recent.get(user) {
            Some(span) => Some(*span),
            None => self.older.remove(user),
        };
        let span = match known {
            // Also where rows are a little out of order.
            Some(span)
                if at.since(span.last) <= self.gap_ms && span.first.since(at) <= self.gap_ms =>
            {
                Span { first: span.first, last: span.last.max(at) }
            }
            _ => Span { first: at, last: at },
        };
        if self.recent.len() >= self.limit / 2 && !self.recent.contains_key(user) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(user.clone(), span);
        // A hash, because an id as long as the user's and more might be refused.
        format!("{:016x}-{}", stable_hash(user.as_str().as_bytes()), span.first.millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MINUTE_MS;

    fn at(minute: i64) -> EventTime {
        EventTime::from_millis(minute * MINUTE_MS)
    }

    fn sessions(limit: usize) -> Sessions {
        Sessions::with_limit(Duration::from_secs(30 * 60), limit)
    }

    #[test]
    fn a_session_lasts_until_a_gap_longer_than_allowed() {
        let (mut sessions, user) = (sessions(10), UserId::from("ada"));
        let first = sessions.of(&user, at(0));
        assert_eq!(sessions.of(&user, at(30)), first);
        assert_eq!(sessions.of(&user, at(59)), first);
        let second = sessions.of(&user, at(90));
        assert_ne!(second, first);
        assert_eq!(sessions.of(&user, at(91)), second);
    }

    #[test]
    fn users_have_sessions_of_their_own() {
        let mut sessions = sessions(10);
        let ada = sessions.of(&UserId::from("ada"), at(0));
        assert_ne!(sessions.of(&UserId::from("bob"), at(0)), ada);
        assert_eq!(sessions.of(&UserId::from("ada"), at(5)), ada);
    }

    #[test]
    fn a_row_a_little_late_stays_in_its_session_and_a_very_late_one_does_not() {
        let (mut sessions, user) = (sessions(10), UserId::from("ada"));
        let session = sessions.of(&user, at(100));
        assert_eq!(sessions.of(&user, at(80)), session);
        assert_ne!(sessions.of(&user, at(10)), session);
    }

    #[test]
    fn memory_is_bounded_and_the_users_seen_last_are_kept() {
        let mut sessions = sessions(20);
        let regular = UserId::from("regular");
        let session = sessions.of(&regular, at(0));
        for number in 0..1_000 {
            sessions.of(&UserId::new(format!("u{number}")), at(1));
            assert_eq!(sessions.of(&regular, at(1)), session);
            assert!(sessions.recent.len() + sessions.older.len() <= 21);
        }
    }
}

//! What recently active users have liked: the history that a positive interaction carries.
//!
//! A user's state says it, but reading one from the store costs tens of microseconds, as much as
//! ten events cost to fold. So what was read is kept, within a budget, and goes on from the events
//! that are committed.

use metrics::{Counter, counter};

use super::generations::{Generations, Held};
use crate::event::History;
use crate::feature::{Positives, Verdict};
use crate::state::StoreError;
use crate::telemetry::names;
use crate::time::EventTime;

/// Users read from the store in one commit at most: about 50 ms of the commit thread. A backlog
/// brings more users that are not held; their histories then begin with what is committed while
/// they are held, until there is time to read the rest.
const READS_PER_COMMIT: usize = 2_000;

/// Of one shard; gone with the shard, since another worker folds on.
pub struct Histories {
    users: Generations<Liked>,
    reads_left: usize,
    served: [Counter; 3],
}

#[derive(Default)]
struct Liked {
    positives: Positives,
    /// Whether the state's own are among them.
    is_whole: bool,
}

impl Held for Liked {
    fn bytes(&self) -> usize {
        self.positives.bytes() - size_of::<Positives>()
    }
}

impl Histories {
    /// None known yet; `bytes` of memory at most.
    pub fn new(bytes: usize) -> Self {
        let outcomes = ["held", "read", "partial"];
        Self {
            users: Generations::new(bytes),
            reads_left: 0,
            served: outcomes.map(|outcome| counter!(names::HISTORIES, "outcome" => outcome)),
        }
    }

    /// Begins a commit: so many users may be read again.
    pub fn begin_commit(&mut self) {
        self.reads_left = READS_PER_COMMIT;
    }

    /// Notes what `user`, by their hash, said of something.
    pub fn judge(&mut self, user: u64, verdict: &Verdict<'_>) {
        self.users.change(user, |known| known.positives.judge(verdict));
    }

    /// What `user` had liked until they liked `item` at `at`, which is noted; none where they do
    /// not want the item, so that this is no liking. `read` gives what their committed state says.
    /// Users and items go by their hashes.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn like(
        &mut self,
        user: u64,
        item: u64,
        at: EventTime,
        read: impl FnOnce() -> Result<Positives, StoreError>,
    ) -> Result<Option<History<'static>>, StoreError> {
        let (reads_left, served) = (&mut self.reads_left, &self.served);
        self.users.change(user, |known| {
            let mut outcome = 0;
            if !known.is_whole {
                outcome = 2;
                if *reads_left > 0 {
                    outcome = 1;
                    *reads_left -= 1;
                    known.positives = read()?.and(&known.positives);
                    known.is_whole = true;
                }
            }
            served[outcome].increment(1);
            let is_refused = known.positives.is_refused(item);
            let history = (!is_refused).then(|| known.positives.before(at));
            known.positives.learn(item, at);
            Ok(history)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::stable_hash;

    fn minute(n: u64) -> EventTime {
        EventTime::from_millis(n as i64 * 60_000)
    }

    fn liked(items: &[u64]) -> Positives {
        let mut positives = Positives::default();
        (0..).zip(items).for_each(|(n, item)| positives.learn(*item, minute(n)));
        positives
    }

    fn history(histories: &mut Histories, user: u64, item: u64, at: u64, read: &[u64]) -> Vec<u64> {
        let history = histories.like(user, item, minute(at), || Ok(liked(read))).unwrap().unwrap();
        history.iter().collect()
    }

    #[test]
    fn a_user_is_read_once_and_then_followed() {
        let mut histories = Histories::new(1 << 20);
        histories.begin_commit();
        assert_eq!(history(&mut histories, 1, 30, 100, &[10, 20]), [20, 10]);
        let never = || unreachable!("it is held");
        let next = histories.like(1, 40, minute(101), never).unwrap().unwrap();
        assert_eq!(next.iter().collect::<Vec<_>>(), [30, 20, 10]);
        assert_eq!(history(&mut histories, 2, 30, 100, &[]), [0; 0]);
    }

    #[test]
    fn what_a_user_does_not_want_is_neither_liked_nor_remembered_until_it_is_taken_back() {
        use crate::event::{FeedbackKind, Subject, SubjectKind};
        let mut histories = Histories::new(1 << 20);
        histories.begin_commit();
        let unwanted = stable_hash(b"v1");
        let say = |histories: &mut Histories, kind, at| {
            let subject = Subject { kind: SubjectKind::Item, id: "v1" };
            histories.judge(1, &Verdict { at: minute(at), kind, subject });
        };
        // Said before the user is read.
        say(&mut histories, FeedbackKind::NotInterested, 50);
        assert_eq!(history(&mut histories, 1, 30, 100, &[10, unwanted]), [10]);
        let never = || unreachable!("it is held");
        assert_eq!(histories.like(1, unwanted, minute(101), never).unwrap(), None);
        say(&mut histories, FeedbackKind::Undo, 60);
        say(&mut histories, FeedbackKind::NotInterested, 55);
        assert_eq!(history(&mut histories, 1, 40, 102, &[]), [unwanted, 30, 10]);
    }

    #[test]
    fn users_beyond_what_a_commit_may_read_are_read_in_a_later_one() {
        let mut histories = Histories::new(1 << 30);
        histories.begin_commit();
        for user in 0..READS_PER_COMMIT as u64 {
            history(&mut histories, user, 1, 100, &[]);
        }
        let late = READS_PER_COMMIT as u64;
        assert_eq!(history(&mut histories, late, 30, 100, &[10, 20]), [0; 0]);
        assert_eq!(history(&mut histories, late, 40, 101, &[10, 20]), [30]);
        histories.begin_commit();
        assert_eq!(history(&mut histories, late, 50, 102, &[10, 20, 30]), [40, 30, 20, 10]);
    }

    #[test]
    fn memory_is_bounded_and_those_who_come_back_are_kept() {
        let mut histories = Histories::new(64 << 10);
        let mut read = 0;
        for n in 0..5_000u64 {
            histories.begin_commit();
            // User 0 comes every other time.
            let user = if n % 2 == 0 { 0 } else { n };
            let reads = &mut read;
            let count = || {
                *reads += u64::from(user == 0);
                Ok(Positives::default())
            };
            histories.like(user, n, minute(n), count).unwrap();
            let held = histories.users.bytes();
            assert!(held <= (64 << 10) + 1_000, "{held} bytes");
        }
        assert_eq!(read, 1);
    }
}

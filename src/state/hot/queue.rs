//! Users whose state has changed and is not in the hot tier yet.
//!
//! Holds names, no states: whoever takes a user reads the newest committed state, so a user who
//! changes again before that is written once. Offering never waits for the other side; where the
//! queue is full, users are left out and counted.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// A bounded queue of users by shard, each in it at most once. `S` is a shard.
pub struct HotQueue<S> {
    inner: Mutex<Inner<S>>,
    /// Something was offered or taken, or it is all over.
    changed: Condvar,
    /// Held while a shard is being read, so that closing can wait for that.
    reading: Mutex<()>,
    /// Users.
    limit: usize,
}

struct Inner<S> {
    order: VecDeque<(i32, Arc<str>)>,
    /// Open shards, and who of them is in `order`.
    shards: BTreeMap<i32, Waiting<S>>,
    users: usize,
    ended: bool,
}

struct Waiting<S> {
    /// Weak: the queue must not keep a store open.
    shard: Weak<S>,
    users: HashSet<Arc<str>>,
}

/// What became of users that were offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// New in the queue.
    pub queued: usize,
    /// In it already.
    pub merged: usize,
    /// Left out: it is full.
    pub dropped: usize,
}

impl<S> HotQueue<S> {
    /// A queue for at most `limit` users.
    pub fn new(limit: usize) -> Self {
        let (order, shards) = (VecDeque::new(), BTreeMap::new());
        let inner = Mutex::new(Inner { order, shards, users: 0, ended: false });
        Self { inner, changed: Condvar::new(), reading: Mutex::default(), limit }
    }

    /// Offers users of a shard.
    pub fn offer<'a>(
        &self,
        partition: i32,
        shard: &Arc<S>,
        users: impl IntoIterator<Item = &'a str>,
    ) -> Offered {
        let mut inner = self.lock();
        let users_before = inner.users;
        let waiting = inner
            .shards
            .entry(partition)
            .or_insert_with(|| Waiting { shard: Weak::new(), users: HashSet::new() });
        waiting.shard = Arc::downgrade(shard);
        let offered = inner.add(partition, users, self.limit);
        debug_assert_eq!(inner.users, users_before + offered.queued);
        drop(inner);
        self.changed.notify_all();
        offered
    }

    /// Puts users back that were taken, at the end. Of a shard that has been closed, none are.
    pub fn put_back<'a>(
        &self,
        partition: i32,
        users: impl IntoIterator<Item = &'a str>,
    ) -> Offered {
        let mut inner = self.lock();
        if !inner.shards.contains_key(&partition) {
            return Offered::default();
        }
        inner.add(partition, users, self.limit)
    }

    /// Takes up to `limit` users of one shard, longest waiting first, and has `read` read them.
    /// `None` where nobody waits.
    pub fn take<T>(
        &self,
        limit: usize,
        read: impl FnOnce(&S, i32, Vec<Arc<str>>) -> T,
    ) -> Option<T> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let (shard, partition, users) = self.lock().take(limit)?;
        self.changed.notify_all();
        let result = read(&shard, partition, users);
        // Before `_reading`: whoever closes the shard may then close its store.
        drop(shard);
        Some(result)
    }

    /// Forgets a shard, once its users are taken or `patience` is over, and waits until it is no
    /// longer being read: after that the queue does not hold it. Returns how many users of it
    /// were left.
    pub fn close(&self, partition: i32, patience: Duration) -> usize {
        let waits = |inner: &mut Inner<S>| {
            !inner.ended && inner.shards.get(&partition).is_some_and(|w| !w.users.is_empty())
        };
        let inner = self.changed.wait_timeout_while(self.lock(), patience, waits);
        let (mut inner, _) = inner.unwrap_or_else(PoisonError::into_inner);
        let left = inner.shards.remove(&partition).map_or(0, |waiting| waiting.users.len());
        inner.users -= left;
        drop(inner);
        drop(self.reading.lock().unwrap_or_else(PoisonError::into_inner));
        left
    }

    /// Waits until somebody is in it, it has ended, or `patience` is over.
    pub fn wait(&self, patience: Duration) {
        let waits = |inner: &mut Inner<S>| inner.users == 0 && !inner.ended;
        drop(self.changed.wait_timeout_while(self.lock(), patience, waits));
    }

    /// Waits until `time` is over or it has ended.
    pub fn pause(&self, time: Duration) {
        let waits = |inner: &mut Inner<S>| !inner.ended;
        drop(self.changed.wait_timeout_while(self.lock(), time, waits));
    }

    /// Says that nothing more will be offered.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Whether that was said.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Users in it.
    pub fn len(&self) -> usize {
        self.lock().users
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // Nothing that holds the lock panics half-way through an update.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Inner<S> {
    fn add<'a>(
        &mut self,
        partition: i32,
        users: impl IntoIterator<Item = &'a str>,
        limit: usize,
    ) -> Offered {
        let mut offered = Offered::default();
        let Some(waiting) = self.shards.get_mut(&partition) else { return offered };
        for user in users {
            if waiting.users.contains(user) {
                offered.merged += 1;
            } else if self.users < limit {
                let user: Arc<str> = user.into();
                waiting.users.insert(Arc::clone(&user));
                self.order.push_back((partition, user));
                self.users += 1;
                offered.queued += 1;
            } else {
                offered.dropped += 1;
            }
        }
        offered
    }

    fn take(&mut self, limit: usize) -> Option<(Arc<S>, i32, Vec<Arc<str>>)> {
        let mut taken: Option<(Arc<S>, i32, Vec<Arc<str>>)> = None;
        while let Some((partition, user)) = self.order.front() {
            let partition = *partition;
            if taken.as_ref().is_some_and(|(_, p, users)| *p != partition || users.len() == limit) {
                break;
            }
            let Some(waiting) = self.shards.get_mut(&partition) else {
                self.order.pop_front();
                continue;
            };
            // Of a shard that was closed and opened again, or taken meanwhile.
            let is_current = waiting.users.remove(user);
            let user = Arc::clone(user);
            self.order.pop_front();
            if !is_current {
                continue;
            }
            self.users -= 1;
            let Some(shard) = waiting.shard.upgrade() else { continue };
            taken.get_or_insert_with(|| (shard, partition, Vec::new())).2.push(user);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn all(queue: &HotQueue<()>, limit: usize) -> Vec<(i32, Vec<String>)> {
        let mut taken = Vec::new();
        while let Some(batch) = queue.take(limit, |(), partition, users| {
            (partition, users.iter().map(ToString::to_string).collect::<Vec<_>>())
        }) {
            taken.push(batch);
        }
        taken
    }

    #[test]
    fn users_are_taken_once_in_the_order_they_were_offered_by_shard() {
        let queue = HotQueue::new(100);
        let shard = Arc::new(());
        queue.offer(1, &shard, ["a", "b", "a"]);
        queue.offer(2, &shard, ["a"]);
        let offered = queue.offer(1, &shard, ["b", "c"]);
        assert_eq!(offered, Offered { queued: 1, merged: 1, dropped: 0 });
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = vec![(1, names(&["a", "b"])), (2, names(&["a"])), (1, names(&["c"]))];
        assert_eq!(all(&queue, 10), expected);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_full_queue_leaves_new_users_out_and_says_how_many() {
        let queue = HotQueue::new(2);
        let shard = Arc::new(());
        let offered = queue.offer(1, &shard, ["a", "b", "c", "d", "b"]);
        assert_eq!(offered, Offered { queued: 2, merged: 1, dropped: 2 });
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a_closed_shard_is_forgotten_and_not_held() {
        let queue = HotQueue::new(10);
        let shard = Arc::new(());
        queue.offer(1, &shard, ["a", "b"]);
        queue.offer(2, &shard, ["c"]);
        assert_eq!(queue.close(1, Duration::ZERO), 2);
        assert_eq!(queue.put_back(1, ["a"]), Offered::default());
        assert_eq!(Arc::strong_count(&shard), 1);
        assert_eq!(all(&queue, 10), vec![(2, vec!["c".to_owned()])]);
    }

    #[test]
    fn users_of_a_shard_that_is_gone_are_passed_over() {
        let queue = HotQueue::new(10);
        queue.offer(1, &Arc::new(()), ["a", "b"]);
        let shard = Arc::new(());
        queue.offer(2, &shard, ["c"]);
        assert_eq!(all(&queue, 10), vec![(2, vec!["c".to_owned()])]);
        assert!(queue.is_empty());
    }

    #[test]
    fn closing_waits_for_a_reader_of_the_shard() {
        let queue = Arc::new(HotQueue::new(10));
        let shard = Arc::new(());
        queue.offer(1, &shard, ["a"]);
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (end, may_end) = std::sync::mpsc::channel();
        let reader = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                queue.take(1, |(), _, _| {
                    begun.send(()).unwrap();
                    may_end.recv().unwrap();
                });
            })
        };
        has_begun.recv().unwrap();
        let closer = {
            let (queue, shard) = (Arc::clone(&queue), Arc::clone(&shard));
            std::thread::spawn(move || {
                queue.close(1, Duration::ZERO);
                // The closer's own and the test's.
                assert_eq!(Arc::strong_count(&shard), 2);
            })
        };
        assert!(!closer.is_finished());
        end.send(()).unwrap();
        closer.join().unwrap();
        reader.join().unwrap();
    }

    proptest! {
        #[test]
        fn it_holds_what_a_naive_set_does(
            steps in prop::collection::vec((0..4_u8, 0..3_i32, 0..6_u8), 1..80),
        ) {
            let (queue, shard) = (HotQueue::new(8), Arc::new(()));
            let mut naive: BTreeSet<(i32, String)> = BTreeSet::new();
            for (step, partition, user) in steps {
                let user = format!("u{user}");
                match step {
                    0 | 1 => {
                        let offered = queue.offer(partition, &shard, [user.as_str()]);
                        let key = (partition, user);
                        let fits = naive.contains(&key) || naive.len() < 8;
                        prop_assert_eq!(offered.dropped, usize::from(!fits));
                        if fits { naive.insert(key); }
                    }
                    2 => {
                        queue.take(2, |(), partition, users| {
                            for user in users {
                                assert!(naive.remove(&(partition, user.to_string())));
                            }
                        });
                    }
                    _ => {
                        let left = queue.close(partition, Duration::ZERO);
                        let before = naive.len();
                        naive.retain(|(p, _)| *p != partition);
                        prop_assert_eq!(left, before - naive.len());
                    }
                }
                prop_assert_eq!(queue.len(), naive.len());
            }
            let rest: BTreeSet<(i32, String)> = all(&queue, 3)
                .into_iter()
                .flat_map(|(p, users)| users.into_iter().map(move |u| (p, u)))
                .collect();
            prop_assert_eq!(rest, naive);
        }
    }
}

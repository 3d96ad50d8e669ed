//! What the users of a shard were lately shown, within a budget of memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::generations::{Generations, Held};
use crate::ids::stable_hash;
use crate::model::Curve;
use crate::serving::Shown;
use crate::time::EventTime;

impl Held for Shown {
    fn bytes(&self) -> usize {
        Shown::bytes(self)
    }
}

/// Of one shard; gone with the shard, and read back from `impressions` by its next owner.
pub struct ShownMemory {
    users: Mutex<Generations<Shown>>,
    /// Lists of here that wait until those of before are known.
    waiting: Mutex<Vec<List>>,
    is_warm: AtomicBool,
}

/// Lists that wait at most; what is beyond them is noted at once.
const MOST_WAITING: usize = 10_000;

/// A list as it is noted.
struct List {
    user: u64,
    request: String,
    surface: String,
    at: EventTime,
    /// Items with how likely each was looked at.
    items: Vec<(u64, f32)>,
}

impl List {
    fn new<'i>(
        (user, request, surface): (&str, &str, &str),
        at: EventTime,
        items: impl Iterator<Item = &'i str>,
        curve: &Curve,
    ) -> Self {
        let looked =
            |(place, item): (usize, &str)| (stable_hash(item.as_bytes()), curve.weight(place));
        Self {
            user: stable_hash(user.as_bytes()),
            request: request.to_owned(),
            surface: surface.to_owned(),
            at,
            items: items.enumerate().map(looked).collect(),
        }
    }
}

impl ShownMemory {
    /// Nothing known yet; `bytes` of memory at most.
    pub fn new(bytes: usize) -> Self {
        Self {
            users: Mutex::new(Generations::new(bytes)),
            waiting: Mutex::default(),
            is_warm: AtomicBool::new(false),
        }
    }

    /// What a user was shown, as it is now.
    pub fn of(&self, user: &str) -> Shown {
        self.lock().get(stable_hash(user.as_bytes())).cloned().unwrap_or_default()
    }

    /// Takes note of a list that is answered here, by user, request and surface; its places are looked
    /// at as `curve` says. Once, however often it is told: a request of before a crash is answered
    /// again, and its first list is the one that counts, so lists wait until those of before are known.
    pub fn note<'i>(
        &self,
        names: (&str, &str, &str),
        at: EventTime,
        items: impl Iterator<Item = &'i str>,
        curve: &Curve,
    ) {
        let list = List::new(names, at, items, curve);
        let mut waiting = self.waiting();
        if !self.is_warm() && waiting.len() < MOST_WAITING {
            return waiting.push(list);
        }
        drop(waiting);
        self.keep(list);
    }

    /// The same of a list of before, as `impressions` has it.
    pub fn recall<'i>(
        &self,
        names: (&str, &str, &str),
        at: EventTime,
        items: impl Iterator<Item = &'i str>,
        curve: &Curve,
    ) {
        self.keep(List::new(names, at, items, curve));
    }

    fn keep(&self, List { user, request, surface, at, items }: List) {
        self.lock().change(user, |shown| shown.note(&request, &surface, at, items));
    }

    /// Whether it holds what `impressions` held when the shard was opened.
    pub fn is_warm(&self) -> bool {
        self.is_warm.load(Ordering::Acquire)
    }

    /// Says that it does.
    pub fn set_warm(&self) {
        let mut waiting = self.waiting();
        waiting.drain(..).for_each(|list| self.keep(list));
        self.is_warm.store(true, Ordering::Release);
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<List>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Generations<Shown>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_apart_and_memory_is_bounded() {
        let memory = ShownMemory::new(1 << 20);
        memory.set_warm();
        let items: Vec<String> = (0..100).map(|n| format!("v{n}")).collect();
        let at = EventTime::from_millis(1_700_000_000_000);
        for user in 0..2_000 {
            let items = items.iter().map(String::as_str);
            memory.note((&format!("u{user}"), "r", "home"), at, items, &Curve::default());
            assert!(memory.bytes() <= (1 << 20) + 10_000, "{} bytes", memory.bytes());
        }
        let item = stable_hash(b"v7");
        let looked = Curve::default().weight(7);
        assert_eq!(memory.of("u1999").times(item, at, None), looked);
        assert!(memory.of("u0").is_empty(), "who was not seen for long is forgotten");
        let items = items.iter().map(String::as_str);
        memory.note(("u1999", "r", "home"), at, items, &Curve::default());
        assert_eq!(memory.of("u1999").times(item, at, None), looked, "the same list");
    }

    #[test]
    fn of_a_request_that_is_answered_again_the_first_list_counts() {
        let memory = ShownMemory::new(1 << 20);
        let at = EventTime::from_millis(1_700_000_000_000);
        let (names, curve) = (("u", "r", "home"), Curve::default());
        memory.note(names, at, ["again"].into_iter(), &curve);
        memory.note(("u", "other", "home"), at, ["new"].into_iter(), &curve);
        memory.recall(names, at, ["first"].into_iter(), &curve);
        memory.set_warm();
        memory.note(names, at, ["once more"].into_iter(), &curve);
        let times = |item: &str| memory.of("u").times(stable_hash(item.as_bytes()), at, None);
        assert_eq!(["first", "new", "again", "once more"].map(times), [1.0, 1.0, 0.0, 0.0]);
    }
}

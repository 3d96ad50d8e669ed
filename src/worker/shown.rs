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
    is_warm: AtomicBool,
}

impl ShownMemory {
    /// Nothing known yet; `bytes` of memory at most.
    pub fn new(bytes: usize) -> Self {
        Self { users: Mutex::new(Generations::new(bytes)), is_warm: AtomicBool::new(false) }
    }

    /// What a user was shown, as it is now.
    pub fn of(&self, user: &str) -> Shown {
        self.lock().get(stable_hash(user.as_bytes())).cloned().unwrap_or_default()
    }

    /// Takes note of a list, whose places are looked at as `curve` says; once, however often it is
    /// told.
    pub fn note<'i>(
        &self,
        user: &str,
        request: &str,
        surface: &str,
        at: EventTime,
        items: impl Iterator<Item = &'i str>,
        curve: &Curve,
    ) {
        let looked =
            |(place, item): (usize, &str)| (stable_hash(item.as_bytes()), curve.weight(place));
        let items: Vec<(u64, f32)> = items.enumerate().map(looked).collect();
        self.lock()
            .change(stable_hash(user.as_bytes()), |shown| shown.note(request, surface, at, items));
    }

    /// Whether it holds what `impressions` held when the shard was opened.
    pub fn is_warm(&self) -> bool {
        self.is_warm.load(Ordering::Acquire)
    }

    /// Says that it does.
    pub fn set_warm(&self) {
        self.is_warm.store(true, Ordering::Release);
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.lock().bytes()
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
        let items: Vec<String> = (0..100).map(|n| format!("v{n}")).collect();
        let at = EventTime::from_millis(1_700_000_000_000);
        for user in 0..2_000 {
            let items = items.iter().map(String::as_str);
            memory.note(&format!("u{user}"), "r", "home", at, items, &Curve::default());
            assert!(memory.bytes() <= (1 << 20) + 10_000, "{} bytes", memory.bytes());
        }
        let item = stable_hash(b"v7");
        let looked = Curve::default().weight(7);
        assert_eq!(memory.of("u1999").times(item, at, None), looked);
        assert!(memory.of("u0").is_empty(), "who was not seen for long is forgotten");
        memory.note("u1999", "r", "home", at, items.iter().map(String::as_str), &Curve::default());
        assert_eq!(memory.of("u1999").times(item, at, None), looked, "the same list");
    }
}

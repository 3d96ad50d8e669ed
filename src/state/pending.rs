//! Events folded since the last commit, by user: a log in one arena, threaded by user.
//!
//! A map of vectors would cost two allocations per user and commit. Here an event is appended
//! to one arena and linked to the user's previous one, and the whole is dropped at once.

use hashbrown::HashTable;

use crate::feature::{FoldEvent, fold_events};
use crate::ids::stable_hash;

/// The end of a chain.
const NONE: u32 = u32::MAX;
/// Bytes before an event's operand: next (4), slot (4), length (4), offset (8).
const HEADER: usize = 20;

/// Events of one shard that are not yet committed.
#[derive(Default)]
pub struct Pending {
    arena: Vec<u8>,
    users: Vec<u8>,
    slots: Vec<Slot>,
    by_user: HashTable<u32>,
    events: usize,
}

struct Slot {
    hash: u64,
    user_start: u32,
    user_len: u32,
    first: u32,
    last: u32,
    /// Of all operands.
    bytes: u32,
}

/// One event, in the order of the log.
pub struct PendingEvent<'a> {
    /// Its user.
    pub user: &'a str,
    /// XXH3-64 of the user id.
    pub user_hash: u64,
    /// Its offset in its source.
    pub offset: i64,
    /// What the fold takes of it.
    pub event: FoldEvent<'a>,
}

impl Pending {
    /// Number of events.
    pub fn len(&self) -> usize {
        self.events
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Number of users that have any.
    pub fn users(&self) -> usize {
        self.slots.len()
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.arena.capacity()
            + self.users.capacity()
            + self.slots.capacity() * size_of::<Slot>()
            + self.by_user.capacity() * 5
    }

    /// Appends one event of `user`, whose [`stable_hash`] is `hash`.
    pub fn push(&mut self, user: &str, hash: u64, offset: i64, event: &FoldEvent<'_>) {
        let slot = self.slot_of(user, hash);
        // The caller bounds `bytes()` far below 4 GiB, so positions fit 32 bits.
        let at = self.arena.len() as u32;
        self.arena.extend_from_slice(&NONE.to_le_bytes());
        self.arena.extend_from_slice(&slot.to_le_bytes());
        self.arena.extend_from_slice(&[0; 4]);
        self.arena.extend_from_slice(&offset.to_le_bytes());
        event.encode(&mut self.arena);
        let len = (self.arena.len() - at as usize - HEADER) as u32;
        self.put_u32(at as usize + 8, len);
        let slot = &mut self.slots[slot as usize];
        slot.bytes += len;
        let last = std::mem::replace(&mut slot.last, at);
        if last == NONE {
            slot.first = at;
        } else {
            self.put_u32(last as usize, at);
        }
        self.events += 1;
    }

    fn slot_of(&mut self, user: &str, hash: u64) -> u32 {
        if let Some(slot) = self.find(hash, user.as_bytes()) {
            return slot;
        }
        let slot = self.slots.len() as u32;
        self.slots.push(Slot {
            hash,
            user_start: self.users.len() as u32,
            user_len: user.len() as u32,
            first: NONE,
            last: NONE,
            bytes: 0,
        });
        self.users.extend_from_slice(user.as_bytes());
        let slots = &self.slots;
        self.by_user.insert_unique(hash, slot, |&s| slots[s as usize].hash);
        slot
    }

    fn find(&self, hash: u64, user: &[u8]) -> Option<u32> {
        let same = |&slot: &u32| {
            let slot = &self.slots[slot as usize];
            slot.hash == hash && self.user_bytes(slot) == user
        };
        self.by_user.find(hash, same).copied()
    }

    fn user_bytes(&self, slot: &Slot) -> &[u8] {
        &self.users[slot.user_start as usize..(slot.user_start + slot.user_len) as usize]
    }

    /// Whether a user has any.
    pub fn has(&self, user: &[u8]) -> bool {
        self.find(stable_hash(user), user).is_some()
    }

    /// Appends a user's events, concatenated as one operand.
    pub fn append_operand(&self, user: &str, out: &mut Vec<u8>) {
        if let Some(slot) = self.find(stable_hash(user.as_bytes()), user.as_bytes()) {
            self.append_chain(&self.slots[slot as usize], out);
        }
    }

    fn append_chain(&self, slot: &Slot, out: &mut Vec<u8>) {
        let mut at = slot.first;
        while at != NONE {
            let from = at as usize;
            let len = self.get_u32(from + 8) as usize;
            out.extend_from_slice(&self.arena[from + HEADER..from + HEADER + len]);
            at = self.get_u32(from);
        }
    }

    /// Calls `each` with every user and all their events as one operand, in key order: RocksDB
    /// takes sorted keys faster, and into a file no others.
    pub fn for_each_user(&self, mut each: impl FnMut(&[u8], &[u8])) {
        let mut order: Vec<u32> = (0..self.slots.len() as u32).collect();
        let user = |slot: u32| self.user_bytes(&self.slots[slot as usize]);
        order.sort_unstable_by(|a, b| user(*a).cmp(user(*b)));
        let mut ends = vec![0; self.slots.len()];
        let mut total = 0;
        for &slot in &order {
            ends[slot as usize] = total;
            total += self.slots[slot as usize].bytes as usize;
        }
        // One pass over the log puts each event behind its user's last one. Following each
        // user's chain instead would wait for a cache miss per event.
        let mut operands = vec![0; total];
        self.for_each_record(|slot, operand| {
            let end = &mut ends[slot as usize];
            operands[*end..*end + operand.len()].copy_from_slice(operand);
            *end += operand.len();
        });
        for slot in order {
            let end = ends[slot as usize];
            let start = end - self.slots[slot as usize].bytes as usize;
            each(user(slot), &operands[start..end]);
        }
    }

    /// Calls `each` with slot and operand of every event, in the order of the log.
    fn for_each_record(&self, mut each: impl FnMut(u32, &[u8])) {
        let mut from = 0;
        while from < self.arena.len() {
            let len = self.get_u32(from + 8) as usize;
            let operand = &self.arena[from + HEADER..from + HEADER + len];
            each(self.get_u32(from + 4), operand);
            from += HEADER + len;
        }
    }

    /// All events in the order they were pushed.
    pub fn events(&self) -> impl Iterator<Item = PendingEvent<'_>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            if from >= self.arena.len() {
                return None;
            }
            let len = self.get_u32(from + 8) as usize;
            let slot = &self.slots[self.get_u32(from + 4) as usize];
            let operand = &self.arena[from + HEADER..from + HEADER + len];
            let offset =
                u64::from(self.get_u32(from + 12)) | u64::from(self.get_u32(from + 16)) << 32;
            from += HEADER + len;
            // What `push` wrote always reads back: bytes of this process, this version.
            let event = fold_events(operand).next()?.ok()?;
            let user = std::str::from_utf8(self.user_bytes(slot)).ok()?;
            Some(PendingEvent { user, user_hash: slot.hash, offset: offset as i64, event })
        })
    }

    fn get_u32(&self, at: usize) -> u32 {
        let b = &self.arena[at..at + 4];
        u32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.arena[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

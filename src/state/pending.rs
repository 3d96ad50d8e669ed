//! Events folded since the last commit, by user: a log in one arena, threaded by user.
//!
//! A map of vectors would cost two allocations per user and commit. Here an event is appended
//! to one arena and linked back to the user's previous one, and the whole is dropped at once.
//! What an event costs is cache misses, so all that is known of a user is one cache line.

use hashbrown::HashTable;

use crate::feature::{FoldRecord, fold_records};
use crate::ids::stable_hash;

/// The beginning of a chain.
const NONE: u32 = u32::MAX;
/// Bytes before an event's operand: previous (4), slot (4), length (4), offset (8), hash of the
/// user (8), which spares the way to the slot to whoever goes through the log, and its origin (12).
const HEADER: usize = 40;
/// Bytes of a user id that a slot holds itself.
const SHORT: usize = 46;

/// Events of one shard that are not yet committed.
#[derive(Default)]
pub struct Pending {
    arena: Vec<u8>,
    slots: Vec<Slot>,
    /// User ids that are too long for their slots.
    long_ids: Vec<u8>,
    by_user: HashTable<u32>,
    events: usize,
}

#[repr(align(64))]
struct Slot {
    hash: u64,
    /// The user's newest event.
    last: u32,
    /// Of all operands.
    bytes: u32,
    id_len: u16,
    /// The user id, or where in `long_ids` it begins.
    id: [u8; SHORT],
}

/// What is told of an event beyond what the fold keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// XXH3-64 of the id of the request that it names; 0 where it names none.
    pub request: u64,
    /// Milliseconds by which its time is ahead of when the broker had it; 0 where it is not.
    pub ahead_ms: u32,
}

/// One event, in the order of the log.
pub struct PendingEvent<'a> {
    /// XXH3-64 of the user id.
    pub user_hash: u64,
    /// Its offset in its topic.
    pub offset: i64,
    /// Beside what the fold takes.
    pub origin: Origin,
    /// What the fold takes of it.
    pub record: FoldRecord<'a>,
    slot: u32,
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
            + self.long_ids.capacity()
            + self.slots.capacity() * size_of::<Slot>()
            + self.by_user.capacity() * 5
    }

    /// Appends one event of `user`, whose [`stable_hash`] is `hash`.
    pub fn push(
        &mut self,
        user: &str,
        hash: u64,
        offset: i64,
        origin: Origin,
        record: &FoldRecord<'_>,
    ) {
        let number = self.slot_of(user.as_bytes(), hash);
        let slot = &mut self.slots[number as usize];
        // The caller bounds `bytes()` far below 4 GiB, so positions fit 32 bits.
        let at = self.arena.len() as u32;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&slot.last.to_le_bytes());
        header[4..8].copy_from_slice(&number.to_le_bytes());
        header[12..20].copy_from_slice(&offset.to_le_bytes());
        header[20..28].copy_from_slice(&hash.to_le_bytes());
        header[28..36].copy_from_slice(&origin.request.to_le_bytes());
        header[36..].copy_from_slice(&origin.ahead_ms.to_le_bytes());
        self.arena.extend_from_slice(&header);
        record.encode(&mut self.arena);
        let len = (self.arena.len() - at as usize - HEADER) as u32;
        self.arena[at as usize + 8..at as usize + 12].copy_from_slice(&len.to_le_bytes());
        slot.bytes += len;
        slot.last = at;
        self.events += 1;
    }

    fn slot_of(&mut self, user: &[u8], hash: u64) -> u32 {
        if let Some(slot) = self.find(hash, user) {
            return slot;
        }
        let number = self.slots.len() as u32;
        let mut slot =
            Slot { hash, last: NONE, bytes: 0, id_len: user.len() as u16, id: [0; SHORT] };
        if user.len() <= SHORT {
            slot.id[..user.len()].copy_from_slice(user);
        } else {
            slot.id[..8].copy_from_slice(&self.long_ids.len().to_le_bytes());
            self.long_ids.extend_from_slice(user);
        }
        self.slots.push(slot);
        let slots = &self.slots;
        self.by_user.insert_unique(hash, number, |&s| slots[s as usize].hash);
        number
    }

    fn find(&self, hash: u64, user: &[u8]) -> Option<u32> {
        let same = |&slot: &u32| {
            let slot = &self.slots[slot as usize];
            slot.hash == hash && self.id_of(slot) == user
        };
        self.by_user.find(hash, same).copied()
    }

    fn id_of<'a>(&'a self, slot: &'a Slot) -> &'a [u8] {
        let len = usize::from(slot.id_len);
        if len <= SHORT {
            return &slot.id[..len];
        }
        let start = u64_at(&slot.id, 0) as usize;
        &self.long_ids[start..start + len]
    }

    /// The users that have any, in no particular order.
    pub fn user_ids(&self) -> impl Iterator<Item = &str> {
        // What `push` took was text.
        self.slots.iter().filter_map(|slot| std::str::from_utf8(self.id_of(slot)).ok())
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
        let mut chain = Vec::new();
        let mut at = slot.last;
        while at != NONE {
            chain.push(at as usize);
            at = u32_at(&self.arena, at as usize);
        }
        for from in chain.into_iter().rev() {
            let len = u32_at(&self.arena, from + 8) as usize;
            out.extend_from_slice(&self.arena[from + HEADER..from + HEADER + len]);
        }
    }

    /// Calls `each` with every user and all their events as one operand, in key order: RocksDB
    /// takes sorted keys faster, and into a file no others.
    pub fn for_each_user(&self, mut each: impl FnMut(&[u8], &[u8])) {
        let id = |slot: u32| self.id_of(&self.slots[slot as usize]);
        // Almost all ids differ within their first 16 bytes: sorting by those, side by side,
        // does not wait for a cache miss per comparison.
        let mut order: Vec<(u128, u32)> =
            (0..self.slots.len() as u32).map(|slot| (first_bytes(id(slot)), slot)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| id(a.1).cmp(id(b.1))));
        let mut ends = vec![0; self.slots.len()];
        let mut total = 0;
        for &(_, slot) in &order {
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
        for (_, slot) in order {
            let end = ends[slot as usize];
            let start = end - self.slots[slot as usize].bytes as usize;
            each(id(slot), &operands[start..end]);
        }
    }

    /// Calls `each` with slot and operand of every event, in the order of the log.
    fn for_each_record(&self, mut each: impl FnMut(u32, &[u8])) {
        let mut from = 0;
        while from < self.arena.len() {
            let len = u32_at(&self.arena, from + 8) as usize;
            let operand = &self.arena[from + HEADER..from + HEADER + len];
            each(u32_at(&self.arena, from + 4), operand);
            from += HEADER + len;
        }
    }

    /// The id of an event's user, at the cost of a cache miss.
    pub fn user(&self, event: &PendingEvent<'_>) -> &[u8] {
        self.id_of(&self.slots[event.slot as usize])
    }

    /// All events in the order they were pushed.
    pub fn events(&self) -> impl Iterator<Item = PendingEvent<'_>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            if from >= self.arena.len() {
                return None;
            }
            let header = &self.arena[from..from + HEADER];
            let len = u32_at(header, 8) as usize;
            let operand = &self.arena[from + HEADER..from + HEADER + len];
            from += HEADER + len;
            // What `push` wrote always reads back: bytes of this process, this version.
            let record = fold_records(operand).next()?.ok()?;
            let offset = u64_at(header, 12) as i64;
            Some(PendingEvent {
                user_hash: u64_at(header, 20),
                offset,
                origin: Origin { request: u64_at(header, 28), ahead_ms: u32_at(header, 36) },
                record,
                slot: u32_at(header, 4),
            })
        })
    }
}

fn first_bytes(id: &[u8]) -> u128 {
    let mut first = [0; 16];
    let len = id.len().min(16);
    first[..len].copy_from_slice(&id[..len]);
    u128::from_be_bytes(first)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let b = &bytes[at..at + 4];
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

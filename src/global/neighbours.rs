//! Session neighbours: which items go together, and in which order, told by the sessions held.
//!
//! Enters: interactions, one at a time, in any order (topic `interactions`). Leaves: ranked
//! candidates for a session, each with the item of it that spoke for it most. The method is
//! V-STAN (Ludewig et al. 2020, "Empirical analysis of session-based recommendation algorithms"),
//! plus a second hop for sparse items. Nothing is kept but the newest sessions and, for each
//! item, which of them mention it: order, transitions and counts are read off when asked.
//!
//! Must never: read a clock, hold more sessions than its budget, let a session speak for its
//! own user, or let the order of arrival or of memory decide a ranking. Hence votes are summed
//! as integers, which add up alike in any order, and ties are settled by session key and item.

mod query;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::mem::{size_of, take};

pub use query::{Neighbour, Scratch};
use smallvec::SmallVec;

use super::mix_hasher::MixBuilder;
use crate::global::ItemHandle;
use crate::time::EventTime;

/// What is held and how it is weighed. The weights were tuned on three weeks of shop sessions;
/// unless said otherwise they are shallow optima: half or double costs less than a point of
/// recall at 20.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighboursConfig {
    /// Sessions held. More remember rarer items, at some 370 bytes a session of five clicks.
    pub max_sessions: usize,
    /// Newest clicks held of a session. Fewer cut long visits, more let one visitor or robot
    /// slow every query that meets it.
    pub max_session_items: usize,
    /// Newest sessions found by an item. Bounds what a hot item costs a query; 1,500 rank alike.
    pub sessions_per_item: usize,
    /// Sessions that vote. Bounds what a query costs; 1,000 rank alike.
    pub neighbours: usize,
    /// Newest clicks of a query that are looked at. The ones before weigh next to nothing.
    pub query_items: usize,
    /// Clicks from the end of the query over which a weight falls to 1/e. Short follows the last
    /// click, long the whole visit.
    pub lambda_pos: f32,
    /// Clicks between match and vote over which a vote falls to 1/e.
    pub lambda_dist: f32,
    /// Days over which a session's voice falls to 1/e. A week forgets too fast (-1 point of
    /// recall), two months hardly differ from never.
    pub lambda_time_days: f32,
    /// Power of an item's rarity, ln(1 + sessions / its sessions), in its weight in a query. At
    /// 0 sessions that share only a popular item speak as loud as those that share a rare one.
    pub idf_power: f32,
    /// Power of a session's length that divides its voice, so that long visits, which touch
    /// everything, do not drown short ones.
    pub size_power: f32,
    /// Part of its vote that an item keeps if the neighbour touched it before the match. Order
    /// says something (1 is worse), though less than company does (0.5 is worse too).
    pub before_match: f32,
    /// Weight of the probability that the last item is followed at once by this one.
    pub transitions_weight: f32,
    /// Steps added to those counted from the last item, so that one step is no certainty.
    pub transitions_prior: f32,
    /// Weight of a return to an item of the query itself; 0 leaves it to the votes. Neighbours say
    /// little of returns (one in six clicks of a shop), which go by how long ago it was.
    pub repeat_weight: f32,
    /// Clicks over which the likelihood of a return falls to 1/e.
    pub repeat_lambda: f32,
    /// Weight of the second hop: the best candidates vote for what they in turn go with. Worth
    /// 2 points of recall, most of it where the query's items are rare; 0 turns it off.
    pub hop_weight: f32,
    /// Power of a candidate's sessions that divides their voice in the second hop; at 1 they
    /// would share one voice, at 0 the popular would take all.
    pub hop_norm: f32,
    /// Candidates that vote in the second hop. Bounds its cost; 20 rank alike.
    pub hop_items: usize,
    /// Newest sessions of each that do. Bounds its cost; 50 rank alike.
    pub hop_sessions: usize,
}

impl Default for NeighboursConfig {
    fn default() -> Self {
        Self {
            max_sessions: 200_000,
            max_session_items: 50,
            sessions_per_item: 500,
            neighbours: 300,
            query_items: 20,
            lambda_pos: 2.0,
            lambda_dist: 3.5,
            lambda_time_days: 45.0,
            idf_power: 2.0,
            size_power: 0.2,
            before_match: 0.8,
            transitions_weight: 0.3,
            transitions_prior: 1.0,
            repeat_weight: 1.4,
            repeat_lambda: 4.0,
            hop_weight: 0.8,
            hop_norm: 0.7,
            hop_items: 10,
            hop_sessions: 20,
        }
    }
}

impl NeighboursConfig {
    /// Values that the table can work with: at least one of each, slots that fit 32 bits, and
    /// lengths to divide by.
    fn within_bounds(mut self) -> Self {
        self.max_sessions = self.max_sessions.clamp(1, u32::MAX as usize);
        self.max_session_items = self.max_session_items.max(1);
        self.sessions_per_item = self.sessions_per_item.max(1);
        self.neighbours = self.neighbours.max(1);
        let lambdas = [&mut self.lambda_pos, &mut self.lambda_dist, &mut self.repeat_lambda];
        for lambda in lambdas.into_iter().chain([&mut self.lambda_time_days]) {
            *lambda = lambda.max(f32::MIN_POSITIVE);
        }
        self
    }
}

/// A session held; its clicks are in order of time, then id. A free slot holds none.
#[derive(Default)]
struct Session {
    key: u64,
    /// What was clicked: apart from when, since queries read nothing else, and beside the key where
    /// it is no more than most sessions have, which spares a query every second way to memory.
    items: SmallVec<[u32; 10]>,
    /// When, and the id of the event.
    stamps: Vec<(EventTime, u64)>,
}

impl Session {
    /// Where the newest click on an item is.
    fn newest(&self, item: u32) -> Option<usize> {
        self.items.iter().rposition(|clicked| *clicked == item)
    }
}

/// What queries ask of many sessions, of which they read few: apart, so that more of them are in
/// the processor's cache.
#[derive(Clone, Copy, Default)]
struct Head {
    /// When its last click was.
    last: EventTime,
    clicks: u32,
}

/// A session that holds an item, and when it touched it last.
#[derive(Clone, Copy)]
struct Mention {
    at: EventTime,
    slot: u32,
}

/// An item held.
#[derive(Default)]
struct Item {
    handle: ItemHandle,
    /// Sessions that hold it, beyond those in `recent` too. The place is free at 0.
    sessions: u32,
    /// The newest of them, oldest first, by time, then session key.
    recent: VecDeque<Mention>,
}

type Table<K> = HashMap<K, u32, MixBuilder>;

/// The newest sessions and an index of them by item.
pub struct SessionNeighbours {
    config: NeighboursConfig,
    sessions: Vec<Session>,
    /// By slot, as `sessions`.
    heads: Vec<Head>,
    free_slots: Vec<u32>,
    slot_of: Table<u64>,
    /// One entry for each session held: a time no later than its last, its key, its slot.
    oldest: BinaryHeap<Reverse<(EventTime, u64, u32)>>,
    /// Items by place. Places rather than handles, so that items not held cost nothing.
    items: Vec<Item>,
    free_places: Vec<u32>,
    place_of: Table<ItemHandle>,
    /// What is left of a vote, by distance from the match.
    fade: Vec<f32>,
    /// What a session's voice is worth, by number of clicks.
    by_size: Vec<f32>,
}

impl SessionNeighbours {
    /// An empty table.
    pub fn new(config: NeighboursConfig) -> Self {
        let config = config.within_bounds();
        let distances = 0..config.max_session_items;
        let sizes = 0..=config.max_session_items;
        Self {
            by_size: sizes.map(|size| (size as f32).powf(-config.size_power)).collect(),
            fade: distances.map(|distance| query::decay(distance, config.lambda_dist)).collect(),
            config,
            sessions: Vec::new(),
            heads: Vec::new(),
            free_slots: Vec::new(),
            slot_of: Table::default(),
            oldest: BinaryHeap::new(),
            items: Vec::new(),
            free_places: Vec::new(),
            place_of: Table::default(),
        }
    }

    /// Number of sessions held.
    pub fn sessions(&self) -> usize {
        self.slot_of.len()
    }

    /// The items of a session held, by time, each with the time.
    pub fn session(&self, key: u64) -> impl Iterator<Item = (ItemHandle, EventTime)> {
        let session = self.slot_of.get(&key).map(|slot| &self.sessions[*slot as usize]);
        session.into_iter().flat_map(|session| {
            let handle = |item: &u32| self.items[*item as usize].handle;
            session.items.iter().map(handle).zip(session.stamps.iter().map(|(at, _)| *at))
        })
    }

    /// Memory held in bytes, without what the allocator adds. Walks all sessions: for a metric.
    pub fn bytes(&self) -> usize {
        // A hash table fills at most 7/8 of its buckets and spends a byte more on each.
        let buckets = |capacity: usize, entry: usize| capacity * 8 / 7 * (entry + 1);
        let held = |session: &Session| {
            let items = if session.items.spilled() { session.items.capacity() } else { 0 };
            items * size_of::<u32>() + session.stamps.capacity() * size_of::<(EventTime, u64)>()
        };
        let clicks: usize = self.sessions.iter().map(held).sum();
        let mentions: usize = self.items.iter().map(|item| item.recent.capacity()).sum();
        size_of::<Self>()
            + self.sessions.capacity() * size_of::<Session>()
            + self.heads.capacity() * size_of::<Head>()
            + clicks
            + self.items.capacity() * size_of::<Item>()
            + mentions * size_of::<Mention>()
            + self.oldest.capacity() * size_of::<Reverse<(EventTime, u64, u32)>>()
            + buckets(self.slot_of.capacity(), size_of::<(u64, u32)>())
            + buckets(self.place_of.capacity(), size_of::<(ItemHandle, u32)>())
            + (self.free_slots.capacity() + self.free_places.capacity()) * size_of::<u32>()
            + (self.fade.capacity() + self.by_size.capacity()) * size_of::<f32>()
    }

    /// Learns one interaction of a session. `session` is a stable key, `id` a stable hash of the
    /// event. An event that the session holds changes nothing; a late one lands where it belongs;
    /// one older than all that a full table, or a full session, holds is left out.
    pub fn observe(&mut self, session: u64, item: ItemHandle, at: EventTime, id: u64) {
        let Some(slot) = self.open(session, at) else { return };
        let stamps = &self.sessions[slot as usize].stamps;
        let full = stamps.len() == self.config.max_session_items;
        let place = match stamps.binary_search(&(at, id)) {
            Ok(_) => return,
            Err(0) if full => return,
            Err(place) => place,
        };
        let item = self.place(item);
        let session = &mut self.sessions[slot as usize];
        let before = session.newest(item).map(|place| session.stamps[place].0);
        session.items.insert(place, item);
        session.stamps.insert(place, (at, id));
        let dropped = full.then(|| (session.items.remove(0), session.stamps.remove(0)));
        let head = &mut self.heads[slot as usize];
        head.last = head.last.max(at);
        head.clicks = session.items.len() as u32;
        self.mention(item, Mention { at, slot }, before);
        if let Some((item, (at, _))) = dropped
            && self.sessions[slot as usize].newest(item).is_none()
        {
            self.forget(item, Mention { at, slot });
        }
    }

    /// The slot of a session. A new one takes the place of the oldest where the table is full;
    /// there is none for a session that would itself be the oldest.
    fn open(&mut self, session: u64, at: EventTime) -> Option<u32> {
        if let Some(slot) = self.slot_of.get(&session) {
            return Some(*slot);
        }
        if self.slot_of.len() == self.config.max_sessions && !self.evict_before((at, session)) {
            return None;
        }
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.sessions.push(Session::default());
            self.heads.push(Head::default());
            (self.sessions.len() - 1) as u32
        });
        self.sessions[slot as usize] = Session { key: session, ..Session::default() };
        self.heads[slot as usize] = Head { last: at, clicks: 0 };
        self.slot_of.insert(session, slot);
        self.oldest.push(Reverse((at, session, slot)));
        Some(slot)
    }

    /// Lets the oldest session go, if it is older than `newcomer`. Entries of the heap are put
    /// right only as they come up, so that an observation need not touch it.
    fn evict_before(&mut self, newcomer: (EventTime, u64)) -> bool {
        while let Some(Reverse((noted, key, slot))) = self.oldest.pop() {
            let last = self.heads[slot as usize].last;
            if last == noted && (last, key) < newcomer {
                self.evict(slot);
                return true;
            }
            self.oldest.push(Reverse((last, key, slot)));
            if last == noted {
                return false;
            }
        }
        false
    }

    fn evict(&mut self, slot: u32) {
        let Session { key, items, stamps } = take(&mut self.sessions[slot as usize]);
        // Keyed as while it was held: ties in an item's list are settled by key.
        self.sessions[slot as usize].key = key;
        for (place, (item, (at, _))) in items.iter().zip(stamps).enumerate() {
            if !items[place + 1..].contains(item) {
                self.forget(*item, Mention { at, slot });
            }
        }
        self.slot_of.remove(&key);
        self.free_slots.push(slot);
    }

    /// The place of an item, made where it has none.
    fn place(&mut self, item: ItemHandle) -> u32 {
        if let Some(place) = self.place_of.get(&item) {
            return *place;
        }
        let place = self.free_places.pop().unwrap_or_else(|| {
            self.items.push(Item::default());
            (self.items.len() - 1) as u32
        });
        self.items[place as usize].handle = item;
        self.place_of.insert(item, place);
        place
    }

    fn search(&self, item: u32, wanted: Mention) -> Result<usize, usize> {
        let key = |slot: u32| self.sessions[slot as usize].key;
        self.items[item as usize].recent.binary_search_by(|mention| {
            mention.at.cmp(&wanted.at).then_with(|| key(mention.slot).cmp(&key(wanted.slot)))
        })
    }

    /// Notes that a session touched an item; `before` is when it did last, if it had.
    fn mention(&mut self, item: u32, mention: Mention, before: Option<EventTime>) {
        if before.is_some_and(|before| before >= mention.at) {
            return;
        }
        match before.map(|at| self.search(item, Mention { at, ..mention })) {
            None => self.items[item as usize].sessions += 1,
            Some(Ok(place)) => drop(self.items[item as usize].recent.remove(place)),
            Some(Err(_)) => {}
        }
        let Err(place) = self.search(item, mention) else { return };
        let recent = &mut self.items[item as usize].recent;
        if recent.len() < self.config.sessions_per_item {
            recent.insert(place, mention);
        } else if place > 0 {
            recent.pop_front();
            recent.insert(place - 1, mention);
        }
    }

    /// Takes back that a session holds an item.
    fn forget(&mut self, place: u32, mention: Mention) {
        let found = self.search(place, mention);
        let item = &mut self.items[place as usize];
        if let Ok(found) = found {
            item.recent.remove(found);
        }
        item.sessions -= 1;
        if item.sessions == 0 {
            self.place_of.remove(&item.handle);
            *item = Item::default();
            self.free_places.push(place);
        }
    }
}

//! Session neighbours.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::global::ItemHandle;
use crate::time::{DAY_MS, EventTime};

#[derive(Clone, Debug, PartialEq)]
pub struct NeighboursConfig {
    pub max_sessions: usize,
    pub max_session_items: usize,
    pub sessions_per_item: usize,
    pub neighbours: usize,
    pub query_items: usize,
    pub lambda_pos: f32,
    pub lambda_dist: f32,
    pub lambda_time_days: f32,
    pub idf_power: f32,
    pub size_power: f32,
    pub before_match: f32,
    pub transitions_weight: f32,
    pub transitions_prior: f32,
    pub transitions_days: f32,
    pub second_order: f32,
    pub repeat_weight: f32,
    pub repeat_lambda: f32,
    pub vote_idf: f32,
    pub norm: u32,
    pub skip_weight: f32,
    pub same: f32,
    pub hop_weight: f32,
    pub hop_items: usize,
    pub hop_sessions: usize,
    pub hop_norm: f32,
    pub hop_pow: f32,
}

impl Default for NeighboursConfig {
    fn default() -> Self {
        Self {
            max_sessions: 500_000,
            max_session_items: 50,
            sessions_per_item: 1_500,
            neighbours: 1_000,
            query_items: 20,
            lambda_pos: 3.0,
            lambda_dist: 4.0,
            lambda_time_days: 30.0,
            idf_power: 0.3,
            size_power: 0.2,
            before_match: 0.7,
            transitions_weight: 0.3,
            transitions_prior: 0.0,
            transitions_days: 10000.0,
            second_order: 0.0,
            repeat_weight: 0.0,
            repeat_lambda: 3.0,
            vote_idf: 0.0,
            norm: 0,
            skip_weight: 0.0,
            same: 1.0,
            hop_weight: 0.0, hop_items: 20, hop_sessions: 100, hop_norm: 0.5, hop_pow: 1.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    pub item: ItemHandle,
    pub score: f32,
    pub because: ItemHandle,
}

#[derive(Clone, Copy)]
struct Click {
    at: EventTime,
    id: u64,
    item: u32,
}

#[derive(Default)]
struct Session {
    key: u64,
    clicks: Vec<Click>,
}

impl Session {
    fn last(&self) -> EventTime {
        self.clicks.last().map_or(EventTime::default(), |click| click.at)
    }
    fn newest(&self, item: u32) -> Option<usize> {
        self.clicks.iter().rposition(|click| click.item == item)
    }
}

#[derive(Clone, Copy)]
struct Mention {
    at: EventTime,
    slot: u32,
}

#[derive(Default)]
struct Item {
    handle: ItemHandle,
    held: u32,
    recent: VecDeque<Mention>,
}

pub struct SessionNeighbours {
    config: NeighboursConfig,
    sessions: Vec<Session>,
    free_sessions: Vec<u32>,
    slot_of: HashMap<u64, u32, BuildHasherDefault<MixHasher>>,
    oldest: BinaryHeap<Reverse<(EventTime, u64, u32)>>,
    items: Vec<Item>,
    free_items: Vec<u32>,
    index_of: HashMap<u32, u32, BuildHasherDefault<MixHasher>>,
    after: Vec<f32>,
}

const UNIT: f32 = 4_294_967_296.0;

impl SessionNeighbours {
    pub fn new(config: NeighboursConfig) -> Self {
        let after = (0..config.max_session_items)
            .map(|offset| (-(offset as f32) / config.lambda_dist).exp())
            .collect();
        Self {
            config,
            sessions: Vec::new(),
            free_sessions: Vec::new(),
            slot_of: HashMap::default(),
            oldest: BinaryHeap::new(),
            items: Vec::new(),
            free_items: Vec::new(),
            index_of: HashMap::default(),
            after,
        }
    }

    pub fn sessions(&self) -> usize {
        self.slot_of.len()
    }

    pub fn observe(&mut self, session: u64, item: ItemHandle, at: EventTime, id: u64) {
        let Some(slot) = self.slot(session, at) else { return };
        let held = &self.sessions[slot as usize].clicks;
        let full = held.len() == self.config.max_session_items;
        let place = match held.binary_search_by(|click| (click.at, click.id).cmp(&(at, id))) {
            Ok(_) => return,
            Err(0) if full => return,
            Err(place) => place,
        };
        let index = self.index(item);
        let session = &mut self.sessions[slot as usize];
        let previous = session.newest(index).map(|place| session.clicks[place].at);
        session.clicks.insert(place, Click { at, id, item: index });
        self.mention(index, Mention { at, slot }, previous);
        if full {
            let dropped = self.sessions[slot as usize].clicks.remove(0);
            if self.sessions[slot as usize].newest(dropped.item).is_none() {
                self.forget(dropped.item, Mention { at: dropped.at, slot });
            }
        }
    }

    fn slot(&mut self, session: u64, at: EventTime) -> Option<u32> {
        if let Some(&slot) = self.slot_of.get(&session) {
            return Some(slot);
        }
        if self.slot_of.len() == self.config.max_sessions && !self.make_room(at, session) {
            return None;
        }
        let slot = match self.free_sessions.pop() {
            Some(slot) => slot,
            None => {
                self.sessions.push(Session::default());
                self.sessions.len() as u32 - 1
            }
        };
        self.sessions[slot as usize].key = session;
        self.slot_of.insert(session, slot);
        self.oldest.push(Reverse((at, session, slot)));
        Some(slot)
    }

    fn make_room(&mut self, at: EventTime, session: u64) -> bool {
        while let Some(&Reverse((known, key, slot))) = self.oldest.peek() {
            let last = self.sessions[slot as usize].last();
            if last == known && (at, session) < (known, key) {
                return false;
            }
            self.oldest.pop();
            if last == known {
                self.evict(slot);
                return true;
            }
            self.oldest.push(Reverse((last, key, slot)));
        }
        false
    }

    fn evict(&mut self, slot: u32) {
        let mut clicks = std::mem::take(&mut self.sessions[slot as usize].clicks);
        while let Some(click) = clicks.pop() {
            let newest = !self.sessions[slot as usize].clicks.iter().any(|c| c.item == click.item);
            if newest {
                self.forget(click.item, Mention { at: click.at, slot });
                self.sessions[slot as usize].clicks.push(click);
            }
        }
        self.sessions[slot as usize].clicks = Vec::new();
        self.slot_of.remove(&self.sessions[slot as usize].key);
        self.free_sessions.push(slot);
    }

    fn index(&mut self, item: ItemHandle) -> u32 {
        if let Some(&index) = self.index_of.get(&item.0) {
            return index;
        }
        let index = match self.free_items.pop() {
            Some(index) => index,
            None => {
                self.items.push(Item::default());
                self.items.len() as u32 - 1
            }
        };
        self.items[index as usize].handle = item;
        self.index_of.insert(item.0, index);
        index
    }

    fn place(&self, item: u32, mention: Mention) -> Result<usize, usize> {
        let key = |slot: u32| self.sessions[slot as usize].key;
        self.items[item as usize].recent.binary_search_by(|held| match held.at.cmp(&mention.at) {
            Ordering::Equal => key(held.slot).cmp(&key(mention.slot)),
            unequal => unequal,
        })
    }

    fn mention(&mut self, item: u32, mention: Mention, previous: Option<EventTime>) {
        match previous {
            None => self.items[item as usize].held += 1,
            Some(previous) if previous >= mention.at => return,
            Some(previous) => {
                if let Ok(place) = self.place(item, Mention { at: previous, ..mention }) {
                    self.items[item as usize].recent.remove(place);
                }
            }
        }
        let Err(place) = self.place(item, mention) else { return };
        let recent = &mut self.items[item as usize].recent;
        if recent.len() < self.config.sessions_per_item {
            recent.insert(place, mention);
        } else if place > 0 {
            recent.pop_front();
            recent.insert(place - 1, mention);
        }
    }

    fn forget(&mut self, item: u32, mention: Mention) {
        let place = self.place(item, mention);
        let held = &mut self.items[item as usize];
        if let Ok(place) = place {
            held.recent.remove(place);
        }
        held.held -= 1;
        if held.held == 0 {
            held.recent = VecDeque::new();
            let handle = held.handle;
            self.index_of.remove(&handle.0);
            self.free_items.push(item);
        }
    }

    pub fn recommend(
        &self,
        query: &[ItemHandle],
        at: EventTime,
        exclude_session: Option<u64>,
        limit: usize,
        scratch: &mut Scratch,
    ) -> Vec<Neighbour> {
        let own = exclude_session.and_then(|key| self.slot_of.get(&key).copied());
        scratch.begin(self, query);
        self.gather(at, own, scratch);
        let mass = self.vote(scratch);
        self.transitions(at, own, scratch);
        let _ = mass;
        if self.config.hop_weight > 0.0 { self.hop(at, own, scratch); }
        self.rank(limit, scratch)
    }

    fn gather(&self, at: EventTime, own: Option<u32>, scratch: &mut Scratch) {
        let config = &self.config;
        for cause in 0..scratch.query.len() {
            let (index, distance) = scratch.query[cause];
            let Some(item) = index.map(|i| &self.items[i as usize]) else { continue };
            let rarity = ((1 + self.sessions()) as f32 / item.held as f32).ln().max(0.01);
            let weight = (-(distance as f32) / config.lambda_pos).exp() * rarity.powf(config.idf_power);
            for mention in &item.recent {
                let found = &mut scratch.found[mention.slot as usize];
                if found.0 == 0.0 {
                    *found = (weight, cause as u32);
                    scratch.touched.push((0.0, mention.slot));
                } else {
                    found.0 += weight;
                }
            }
        }
        for (score, slot) in &mut scratch.touched {
            let session = &self.sessions[*slot as usize];
            if Some(*slot) == own {
                continue;
            }
            let age = at.since(session.last()).max(0) as f32 / DAY_MS as f32;
            *score = scratch.found[*slot as usize].0
                * self.size(session.clicks.len())
                * (-age / config.lambda_time_days).exp();
        }
    }

    fn size(&self, n: usize) -> f32 {
        (n as f32).powf(-self.config.size_power)
    }

    fn vote(&self, scratch: &mut Scratch) -> f32 {
        let wanted = self.config.neighbours;
        if scratch.touched.len() > wanted {
            scratch.touched.select_nth_unstable_by(wanted - 1, |a, b| {
                b.0.total_cmp(&a.0).then_with(|| {
                    self.sessions[a.1 as usize].key.cmp(&self.sessions[b.1 as usize].key)
                })
            });
        }
        let near = scratch.touched.len().min(wanted);
        let mut mass = 0.0;
        for n in 0..near {
            let (score, slot) = scratch.touched[n];
            if score == 0.0 {
                continue;
            }
            mass += score;
            let cause = scratch.found[slot as usize].1;
            let clicks = &self.sessions[slot as usize].clicks;
            let Some(index) = scratch.query[cause as usize].0 else { continue };
            let Some(middle) = self.sessions[slot as usize].newest(index) else { continue };
            for (place, click) in clicks.iter().enumerate() {
                let side = match place.cmp(&middle) {
                    Ordering::Less => self.config.before_match,
                    Ordering::Equal => self.config.same,
                    Ordering::Greater => 1.0,
                };
                let vote = score * side * self.after[place.abs_diff(middle)];
                scratch.row(click.item).votes += (vote * UNIT) as u64;
            }
        }
        mass
    }

    fn hop(&self, at: EventTime, own: Option<u32>, scratch: &mut Scratch) {
        let mut best: Vec<(u64, ItemHandle, u32)> = scratch.rows.iter().map(|r| (r.votes, self.items[r.item as usize].handle, r.item))
            .filter(|r| r.0 > 0 && !scratch.query.iter().any(|q| q.0 == Some(r.2))).collect();
        let n = self.config.hop_items;
        if best.len() > n { best.select_nth_unstable_by(n - 1, |a, b| b.cmp(a)); best.truncate(n); }
        let top = scratch.rows.iter().map(|row| row.votes).max().unwrap_or(0) as f32;
        for (votes, _, index) in best {
            let item = &self.items[index as usize];
            let w = self.config.hop_weight * (votes as f32 / top).powf(self.config.hop_pow) * top / UNIT
                * (item.recent.len().min(self.config.hop_sessions) as f32).powf(-self.config.hop_norm);
            for mention in item.recent.iter().rev().take(self.config.hop_sessions) {
                if Some(mention.slot) == own { continue; }
                let age = at.since(mention.at).max(0) as f32 / DAY_MS as f32;
                let session = &self.sessions[mention.slot as usize];
                let score = w * self.size(session.clicks.len()) * (-age / self.config.lambda_time_days).exp();
                let Some(middle) = session.newest(index) else { continue };
                for (place, click) in session.clicks.iter().enumerate() {
                    
                    let side = if place < middle { self.config.before_match } else { 1.0 };
                    let vote = score * side * self.after[place.abs_diff(middle)];
                    scratch.row(click.item).votes += (vote * UNIT) as u64;
                }
            }
        }
    }

    fn transitions(&self, at: EventTime, own: Option<u32>, scratch: &mut Scratch) {
        let Some(&(Some(last), _)) = scratch.query.first() else { return };
        let before = scratch.before;
        let mut steps = 0u64;
        for mention in &self.items[last as usize].recent {
            if Some(mention.slot) == own {
                continue;
            }
            let age = at.since(mention.at).max(0) as f32 / DAY_MS as f32;
            let w = (-age / self.config.transitions_days).exp();
            let clicks = &self.sessions[mention.slot as usize].clicks;
            for (n, pair) in clicks.windows(2).enumerate() {
                if pair[0].item == last {
                    let mut w = w;
                    if n > 0 && Some(clicks[n - 1].item) == before {
                        w *= 1.0 + self.config.second_order;
                    }
                    let step = (w * UNIT) as u64;
                    steps += step;
                    scratch.row(pair[1].item).steps += step;
                    if self.config.skip_weight > 0.0 && n + 2 < clicks.len() {
                        let step = (w * self.config.skip_weight * UNIT) as u64;
                        steps += step;
                        scratch.row(clicks[n + 2].item).steps += step;
                    }
                }
            }
        }
        scratch.steps = steps;
    }

    fn rank(&self, limit: usize, scratch: &mut Scratch) -> Vec<Neighbour> {
        if self.config.repeat_weight > 0.0 {
            for n in 0..scratch.query.len() {
                if let (Some(i), _) = scratch.query[n] {
                    scratch.row(i);
                }
            }
        }
        let top = match self.config.norm {
            0 => scratch.rows.iter().map(|row| row.votes).max().unwrap_or(0).max(1) as f32,
            _ => scratch.rows.iter().map(|row| row.votes).sum::<u64>().max(1) as f32,
        };
        let total = scratch.steps as f32 + self.config.transitions_prior * UNIT;
        let mut ranked: Vec<(f32, ItemHandle)> = scratch
            .rows
            .iter()
            .map(|row| {
                let mut s = row.votes as f32 / top;
                if self.config.vote_idf != 0.0 {
                    s *= ((1 + self.sessions()) as f32 / self.items[row.item as usize].held as f32).ln().max(0.01).powf(self.config.vote_idf);
                }
                if total > 0.0 {
                    s += self.config.transitions_weight * row.steps as f32 / total;
                }
                if self.config.repeat_weight > 0.0
                    && let Some(&(_, d)) = scratch.query.iter().find(|q| q.0 == Some(row.item))
                {
                    s += self.config.repeat_weight * (-(d as f32) / self.config.repeat_lambda).exp();
                }
                (s, self.items[row.item as usize].handle)
            })
            .collect();
        let order = |a: &(f32, ItemHandle), b: &(f32, ItemHandle)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if ranked.len() > limit {
            ranked.select_nth_unstable_by(limit - 1, order);
            ranked.truncate(limit);
        }
        ranked.sort_unstable_by(order);
        scratch.end();
        ranked.iter().map(|r| Neighbour { item: r.1, score: r.0, because: ItemHandle(0) }).collect()
    }
}

#[derive(Default)]
struct Row {
    item: u32,
    votes: u64,
    steps: u64,
}

#[derive(Default)]
pub struct Scratch {
    query: Vec<(Option<u32>, usize)>,
    before: Option<u32>,
    found: Vec<(f32, u32)>,
    touched: Vec<(f32, u32)>,
    row_of: Vec<u32>,
    rows: Vec<Row>,
    steps: u64,
}

impl Scratch {
    fn begin(&mut self, held: &SessionNeighbours, query: &[ItemHandle]) {
        self.query.clear();
        self.steps = 0;
        self.found.resize(held.sessions.len(), (0.0, 0));
        self.row_of.resize(held.items.len(), 0);
        self.before = query.iter().rev().nth(1).and_then(|i| held.index_of.get(&i.0).copied());
        for (distance, item) in query.iter().rev().take(held.config.query_items).enumerate() {
            let index = held.index_of.get(&item.0).copied();
            if distance == 0 || !self.query.iter().any(|q| q.0 == index) {
                self.query.push((index, distance));
            }
        }
    }

    fn row(&mut self, item: u32) -> &mut Row {
        let row = &mut self.row_of[item as usize];
        if *row == 0 {
            self.rows.push(Row { item, votes: 0, steps: 0 });
            *row = self.rows.len() as u32;
        }
        &mut self.rows[*row as usize - 1]
    }

    fn end(&mut self) {
        for &(_, slot) in &self.touched {
            self.found[slot as usize].0 = 0.0;
        }
        for row in &self.rows {
            self.row_of[row.item as usize] = 0;
        }
        self.touched.clear();
        self.rows.clear();
    }
}

#[derive(Default)]
struct MixHasher(u64);

impl Hasher for MixHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    fn write_u64(&mut self, word: u64) {
        let mixed = u128::from(self.0 ^ word ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (mixed as u64) ^ ((mixed >> 64) as u64);
    }
}

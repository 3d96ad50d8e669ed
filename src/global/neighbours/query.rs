//! Asking the sessions held.
//!
//! Enters: the items of a session. Leaves: ranked candidates, each with its reason. Must never
//! change what is held, nor rank by the order of memory: slots and places differ between
//! workers, and with them the order in which neighbours come up.

use std::cmp::Ordering;
use std::mem::take;

use super::{Head, SessionNeighbours};
use crate::global::ItemHandle;
use crate::time::{DAY_MS, EventTime};

/// One vote in the integer units that votes are summed in. If it were larger, the sum of a
/// query could leave 64 bits; if smaller, faint votes would round to nothing.
const VOTE_UNIT: f32 = (1_u64 << 32) as f32;

/// A candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// The item.
    pub item: ItemHandle,
    /// Comparable within one answer only: the item with the most votes gets 1 for them.
    pub score: f32,
    /// The item of the query that contributed most to the score.
    pub because: ItemHandle,
}

impl SessionNeighbours {
    /// The best `limit` candidates for a session, `query` being its items, oldest first, at the
    /// time `at`. Items of the query are among them, where a return to them is likely: the
    /// caller drops what should not be shown twice. `exclude_session` is the user's own, which
    /// must not vote for itself.
    pub fn recommend(
        &self,
        query: &[ItemHandle],
        at: EventTime,
        exclude_session: Option<u64>,
        limit: usize,
        scratch: &mut Scratch,
    ) -> Vec<Neighbour> {
        let own = exclude_session.and_then(|key| self.slot_of.get(&key).copied());
        scratch.fit(self);
        self.ask(query, scratch);
        self.gather(own, scratch);
        self.keep_nearest(at, scratch);
        self.vote(scratch);
        self.hop(at, own, scratch);
        let steps = self.step(own, scratch);
        self.rank(steps, limit, scratch);
        let candidates = scratch.ranked.iter().map(|one| Neighbour {
            item: one.handle,
            score: one.score,
            because: self.items[scratch.asked[one.asked].item as usize].handle,
        });
        let candidates = candidates.collect();
        scratch.clear();
        candidates
    }

    /// Notes the query's items that are held, newest first, each once.
    fn ask(&self, query: &[ItemHandle], scratch: &mut Scratch) {
        for (distance, item) in query.iter().rev().take(self.config.query_items).enumerate() {
            let Some(&item) = self.place_of.get(item) else { continue };
            if !scratch.asked.iter().any(|asked| asked.item == item) {
                let place = scratch.asked.len() as u32;
                scratch.asked.push(Asked { item, distance, place });
                let row = scratch.row(item);
                scratch.rows[row].asked = Some(place);
            }
        }
    }

    /// Finds the sessions that share items with the query, and how much.
    fn gather(&self, own: Option<u32>, scratch: &mut Scratch) {
        for asked in 0..scratch.asked.len() {
            let Asked { item, distance, .. } = scratch.asked[asked];
            let item = &self.items[item as usize];
            let rarity = (1.0 + self.sessions() as f32 / item.sessions as f32).ln();
            let weight =
                decay(distance, self.config.lambda_pos) * rarity.powf(self.config.idf_power);
            for mention in item.recent.iter().filter(|mention| Some(mention.slot) != own) {
                scratch.near(mention.slot, asked).score += weight;
            }
        }
    }

    /// Scores those sessions and keeps the best.
    fn keep_nearest(&self, at: EventTime, scratch: &mut Scratch) {
        for near in &scratch.near {
            scratch.near_of[near.slot as usize] = 0;
        }
        let near = &mut scratch.near;
        let wanted = self.config.neighbours;
        let likely = 2 * wanted;
        if near.len() > likely {
            // A standing is 1 at most, so most of those that share little with the query fall
            // behind the best of those that share much, whatever their standing: which is a look at
            // memory each.
            near.select_nth_unstable_by(likely, |a, b| b.score.total_cmp(&a.score));
            let mut scores: Vec<f32> =
                near[..likely].iter().map(|n| n.score * self.standing(n.slot, at)).collect();
            let (_, floor, _) = scores.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a));
            near.retain(|n| n.score >= *floor);
        }
        near.iter_mut().for_each(|n| n.score *= self.standing(n.slot, at));
        if near.len() > wanted {
            let key = |near: &Near| self.sessions[near.slot as usize].key;
            near.select_nth_unstable_by(wanted, |a, b| {
                b.score.total_cmp(&a.score).then_with(|| key(a).cmp(&key(b)))
            });
            near.truncate(wanted);
        }
    }

    /// What a session's voice is worth, whatever the query.
    fn standing(&self, slot: u32, at: EventTime) -> f32 {
        let Head { last, clicks } = self.heads[slot as usize];
        let days = at.since(last).max(0) as f32 / DAY_MS as f32;
        self.by_size[clicks as usize] * (-days / self.config.lambda_time_days).exp()
    }

    /// Lets the neighbours vote, each from where it meets the newest item that it shares.
    fn vote(&self, scratch: &mut Scratch) {
        for near in 0..scratch.near.len() {
            let Near { slot, asked, score } = scratch.near[near];
            let asked = asked as usize;
            self.vote_around(scratch.asked[asked].item, slot, score, asked, scratch);
        }
    }

    /// Adds a session's votes for all that it did around its last click on `item`.
    fn vote_around(&self, item: u32, slot: u32, voice: f32, asked: usize, scratch: &mut Scratch) {
        let session = &self.sessions[slot as usize];
        let Some(middle) = session.newest(item) else { return };
        for (place, clicked) in session.items.iter().enumerate() {
            let side = match place.cmp(&middle) {
                Ordering::Less => self.config.before_match,
                Ordering::Equal => continue,
                Ordering::Greater => 1.0,
            };
            let vote = voice * side * self.fade[place.abs_diff(middle)];
            scratch.vote(*clicked, asked, (vote * VOTE_UNIT) as u64);
        }
    }

    /// The second hop: the best candidates so far vote as if they had been asked for.
    fn hop(&self, at: EventTime, own: Option<u32>, scratch: &mut Scratch) {
        let config = &self.config;
        if config.hop_weight <= 0.0 {
            return;
        }
        for (row, candidate) in scratch.rows.iter().enumerate() {
            if candidate.asked.is_none() {
                let handle = self.items[candidate.item as usize].handle;
                scratch.hops.push(Chosen { row, handle, score: candidate.votes, asked: 0 });
            }
        }
        if scratch.hops.len() > config.hop_items {
            scratch.hops.select_nth_unstable_by(config.hop_items, |a, b| {
                b.score.cmp(&a.score).then_with(|| a.handle.cmp(&b.handle))
            });
            scratch.hops.truncate(config.hop_items);
        }
        let mut hops = take(&mut scratch.hops);
        scratch.attribute(&mut hops, |_, _, votes| votes);
        for &Chosen { row, score: votes, asked, .. } in &hops {
            let place = scratch.rows[row].item;
            let recent = &self.items[place as usize].recent;
            let voices = recent.len().min(config.hop_sessions);
            let share = (voices as f32).powf(-config.hop_norm);
            let weight = config.hop_weight * share * (votes as f32 / VOTE_UNIT);
            let newest = recent.iter().rev().take(voices);
            for mention in newest.filter(|mention| Some(mention.slot) != own) {
                let voice = weight * self.standing(mention.slot, at);
                self.vote_around(place, mention.slot, voice, asked, scratch);
            }
        }
        scratch.hops = hops;
    }

    /// Counts what came right after the query's last item. Returns the sum of the counts.
    fn step(&self, own: Option<u32>, scratch: &mut Scratch) -> u32 {
        let Some(&Asked { item: last, distance: 0, .. }) = scratch.asked.first() else { return 0 };
        let recent = &self.items[last as usize].recent;
        let mut steps = 0;
        for mention in recent.iter().filter(|mention| Some(mention.slot) != own) {
            for pair in self.sessions[mention.slot as usize].items.windows(2) {
                if pair[0] == last {
                    steps += 1;
                    let row = scratch.row(pair[1]);
                    scratch.rows[row].steps += 1;
                }
            }
        }
        steps
    }

    /// Scores all candidates and keeps the best in order, each with the item of the query that
    /// contributed most.
    fn rank(&self, steps: u32, limit: usize, scratch: &mut Scratch) {
        let config = &self.config;
        let most = scratch.rows.iter().map(|row| row.votes).max().unwrap_or(0).max(1) as f32;
        let step_weight = config.transitions_weight / (steps as f32 + config.transitions_prior);
        // What candidates get beside votes: for following the newest item, and for a return.
        let stepped = |row: &Row| step_weight * row.steps as f32;
        let returned =
            |asked: &Asked| config.repeat_weight * decay(asked.distance, config.repeat_lambda);
        let mut ranked = take(&mut scratch.ranked);
        for (row, candidate) in scratch.rows.iter().enumerate() {
            let asked = candidate.asked.map(|place| &scratch.asked[place as usize]);
            let score =
                candidate.votes as f32 / most + stepped(candidate) + asked.map_or(0.0, returned);
            let handle = self.items[candidate.item as usize].handle;
            if score > 0.0 {
                ranked.push(Chosen { row, score, handle, asked: 0 });
            }
        }
        let order = |a: &Chosen<f32>, b: &Chosen<f32>| {
            b.score.total_cmp(&a.score).then_with(|| a.handle.cmp(&b.handle))
        };
        if ranked.len() > limit {
            ranked.select_nth_unstable_by(limit, order);
            ranked.truncate(limit);
        }
        ranked.sort_unstable_by(order);
        scratch.attribute(&mut ranked, |row, asked, votes| {
            let mut part = votes as f32 / most;
            if asked.place == 0 {
                part += stepped(row);
            }
            if row.asked == Some(asked.place) {
                part += returned(asked);
            }
            part
        });
        scratch.ranked = ranked;
    }
}

/// What is left of a weight at a distance.
pub(super) fn decay(distance: usize, lambda: f32) -> f32 {
    (-(distance as f32) / lambda).exp()
}

/// The first of the largest values, with its place.
fn largest<T: PartialOrd + Copy + Default>(values: impl Iterator<Item = T>) -> (usize, T) {
    let mut best = (0, T::default());
    for (place, value) in values.enumerate() {
        if value > best.1 {
            best = (place, value);
        }
    }
    best
}

/// An item of the query; `distance` is counted in clicks from its end, `place` among those held.
#[derive(Clone, Copy)]
struct Asked {
    item: u32,
    distance: usize,
    place: u32,
}

/// A session near the query; `asked` is the newest item of the query that it shares.
#[derive(Clone, Copy)]
struct Near {
    score: f32,
    slot: u32,
    asked: u32,
}

/// A candidate while votes are counted.
struct Row {
    item: u32,
    steps: u32,
    /// All votes for it.
    votes: u64,
    /// Its place in the query, where it is of the query itself.
    asked: Option<u32>,
}

/// One vote, and the item of the query that it was cast for.
struct Vote {
    row: u32,
    asked: u32,
    votes: u64,
}

/// A candidate that was chosen: to vote in the second hop, or to be returned.
struct Chosen<S> {
    row: usize,
    score: S,
    handle: ItemHandle,
    /// The item of the query that contributed most.
    asked: usize,
}

/// Buffers of a query, kept between queries so that none has to allocate. Between queries all
/// lists are empty and all of `near_of` and `row_of` is 0.
#[derive(Default)]
pub struct Scratch {
    asked: Vec<Asked>,
    near: Vec<Near>,
    /// By slot: 1 + place in `near`.
    near_of: Vec<u32>,
    rows: Vec<Row>,
    /// By item: 1 + place in `rows`.
    row_of: Vec<u32>,
    /// In the order they were cast. Which item of the query spoke most for a candidate is only
    /// asked for the few that are chosen: a table of votes by candidate and item of the query
    /// would be most of a query's time.
    votes: Vec<Vote>,
    /// By row: 1 + place among the chosen.
    chosen_of: Vec<u32>,
    /// Votes by chosen candidate, then item of the query.
    parts: Vec<u64>,
    hops: Vec<Chosen<u64>>,
    ranked: Vec<Chosen<f32>>,
}

impl Scratch {
    fn fit(&mut self, held: &SessionNeighbours) {
        self.near_of.resize(held.sessions.len().max(self.near_of.len()), 0);
        self.row_of.resize(held.items.len().max(self.row_of.len()), 0);
    }

    fn near(&mut self, slot: u32, asked: usize) -> &mut Near {
        let place = &mut self.near_of[slot as usize];
        if *place == 0 {
            self.near.push(Near { score: 0.0, slot, asked: asked as u32 });
            *place = self.near.len() as u32;
        }
        &mut self.near[*place as usize - 1]
    }

    fn row(&mut self, item: u32) -> usize {
        let place = &mut self.row_of[item as usize];
        if *place == 0 {
            self.rows.push(Row { item, steps: 0, votes: 0, asked: None });
            *place = self.rows.len() as u32;
        }
        *place as usize - 1
    }

    fn vote(&mut self, item: u32, asked: usize, votes: u64) {
        let row = self.row(item);
        self.rows[row].votes += votes;
        self.votes.push(Vote { row: row as u32, asked: asked as u32, votes });
    }

    /// Finds for each of `chosen` the item of the query that contributed most, by `part` of row,
    /// item and votes.
    fn attribute<S, P: PartialOrd + Copy + Default>(
        &mut self,
        chosen: &mut [Chosen<S>],
        part: impl Fn(&Row, &Asked, u64) -> P,
    ) {
        let width = self.asked.len();
        self.chosen_of.clear();
        self.chosen_of.resize(self.rows.len(), 0);
        self.parts.clear();
        self.parts.resize(chosen.len() * width, 0);
        for (place, one) in chosen.iter().enumerate() {
            self.chosen_of[one.row] = place as u32 + 1;
        }
        for vote in &self.votes {
            let place = self.chosen_of[vote.row as usize] as usize;
            if place > 0 {
                self.parts[(place - 1) * width + vote.asked as usize] += vote.votes;
            }
        }
        for (place, one) in chosen.iter_mut().enumerate() {
            let row = &self.rows[one.row];
            let votes = &self.parts[place * width..][..width];
            one.asked = largest(self.asked.iter().zip(votes).map(|(a, v)| part(row, a, *v))).0;
        }
    }

    fn clear(&mut self) {
        for row in &self.rows {
            self.row_of[row.item as usize] = 0;
        }
        self.asked.clear();
        self.near.clear();
        self.rows.clear();
        self.votes.clear();
        self.hops.clear();
        self.ranked.clear();
    }
}

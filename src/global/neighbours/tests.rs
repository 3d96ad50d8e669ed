use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::query::decay;
use super::*;
use crate::time::{DAY_MS, HOUR_MS};

/// An interaction: session, item, time, id.
type Event = (u64, ItemHandle, EventTime, u64);

fn hour(hours: i64) -> EventTime {
    EventTime::from_millis(hours * HOUR_MS)
}

fn items(numbers: &[u32]) -> Vec<ItemHandle> {
    numbers.iter().copied().map(ItemHandle).collect()
}

fn table(config: NeighboursConfig, events: &[Event]) -> SessionNeighbours {
    let mut table = SessionNeighbours::new(config);
    for &(session, item, at, id) in events {
        table.observe(session, item, at, id);
    }
    table
}

/// Sessions given as lists of items, an hour between clicks, a day between sessions.
fn sessions(lists: &[&[u32]]) -> Vec<Event> {
    let mut events = Vec::new();
    for (session, list) in lists.iter().enumerate() {
        for (place, item) in list.iter().enumerate() {
            let at = hour(session as i64 * 24 + place as i64);
            events.push((session as u64, ItemHandle(*item), at, events.len() as u64));
        }
    }
    events
}

fn ask(table: &SessionNeighbours, query: &[u32], own: Option<u64>) -> Vec<Neighbour> {
    table.recommend(&items(query), hour(480), own, 20, &mut Scratch::default())
}

fn found(ranked: &[Neighbour]) -> Vec<u32> {
    ranked.iter().map(|one| one.item.0).collect()
}

/// The same table without any index: sessions in a list, everything found by looking at all.
struct Plain {
    config: NeighboursConfig,
    sessions: Vec<(u64, Vec<PlainClick>)>,
}

type PlainClick = (EventTime, u64, ItemHandle);

impl Plain {
    fn new(config: NeighboursConfig, events: &[Event]) -> Self {
        let mut plain = Self { config, sessions: Vec::new() };
        for event in events {
            plain.observe(*event);
        }
        plain
    }

    fn observe(&mut self, (key, item, at, id): Event) {
        if !self.sessions.iter().any(|held| held.0 == key) {
            if self.sessions.len() == self.config.max_sessions {
                self.sessions.sort_by_key(|(key, clicks)| (clicks[clicks.len() - 1].0, *key));
                let (oldest, clicks) = &self.sessions[0];
                if (at, key) < (clicks[clicks.len() - 1].0, *oldest) {
                    return;
                }
                self.sessions.remove(0);
            }
            self.sessions.push((key, Vec::new()));
        }
        for (_, clicks) in self.sessions.iter_mut().filter(|held| held.0 == key) {
            if !clicks.iter().any(|click| (click.0, click.1) == (at, id)) {
                clicks.push((at, id, item));
                clicks.sort();
            }
            if clicks.len() > self.config.max_session_items {
                clicks.remove(0);
            }
        }
    }

    /// Sessions that hold an item, those that touched it last first.
    fn holders(&self, item: ItemHandle) -> Vec<usize> {
        let newest = |place: usize| {
            let (key, clicks) = &self.sessions[place];
            let touched = clicks.iter().filter(|click| click.2 == item);
            touched.map(|click| (click.0, *key)).max()
        };
        let mut holders: Vec<usize> =
            (0..self.sessions.len()).filter(|place| newest(*place).is_some()).collect();
        holders.sort_by_key(|place| Reverse(newest(*place)));
        holders
    }

    fn index(&self, item: ItemHandle) -> Vec<usize> {
        let mut index = self.holders(item);
        index.truncate(self.config.sessions_per_item);
        index
    }

    fn standing(&self, place: usize, at: EventTime) -> f32 {
        let clicks = &self.sessions[place].1;
        let days = at.since(clicks[clicks.len() - 1].0).max(0) as f32 / DAY_MS as f32;
        let size = (clicks.len() as f32).powf(-self.config.size_power);
        size * (-days / self.config.lambda_time_days).exp()
    }

    fn vote(&self, item: ItemHandle, place: usize, voice: f32, cause: usize, votes: &mut Votes) {
        let clicks = &self.sessions[place].1;
        let middle = clicks.iter().rposition(|click| click.2 == item).unwrap();
        for (place, click) in clicks.iter().enumerate().filter(|(place, _)| *place != middle) {
            let side = if place < middle { self.config.before_match } else { 1.0 };
            let vote = voice * side * decay(place.abs_diff(middle), self.config.lambda_dist);
            votes.entry(click.2).or_default()[cause] += (vote * (1_u64 << 32) as f32) as u64;
        }
    }

    fn recommend(&self, query: &[ItemHandle], at: EventTime, own: Option<u64>) -> Vec<Neighbour> {
        let config = &self.config;
        let mut asked: Vec<(ItemHandle, usize)> = Vec::new();
        for (distance, item) in query.iter().rev().take(config.query_items).enumerate() {
            if !self.holders(*item).is_empty() && !asked.iter().any(|one| one.0 == *item) {
                asked.push((*item, distance));
            }
        }
        let other = |place: &usize| Some(self.sessions[*place].0) != own;
        let mut near: Vec<(f32, usize, usize)> = Vec::new();
        for place in (0..self.sessions.len()).filter(other) {
            let shared: Vec<usize> =
                (0..asked.len()).filter(|n| self.index(asked[*n].0).contains(&place)).collect();
            let mut score = 0.0;
            for (item, distance) in shared.iter().map(|n| asked[*n]) {
                let holders = self.holders(item).len() as f32;
                let rarity = (1.0 + self.sessions.len() as f32 / holders).ln();
                score += decay(distance, config.lambda_pos) * rarity.powf(config.idf_power);
            }
            if let Some(newest) = shared.first() {
                near.push((score * self.standing(place, at), place, *newest));
            }
        }
        near.sort_by(|a, b| {
            b.0.total_cmp(&a.0).then(self.sessions[a.1].0.cmp(&self.sessions[b.1].0))
        });
        near.truncate(config.neighbours);

        let mut votes = Votes::new();
        for (score, place, cause) in near {
            self.vote(asked[cause].0, place, score, cause, &mut votes);
        }
        self.hop(at, &asked, other, &mut votes);
        self.rank(&asked, &self.steps(&asked, other), votes)
    }

    fn hop(
        &self,
        at: EventTime,
        asked: &[(ItemHandle, usize)],
        other: impl Fn(&usize) -> bool,
        votes: &mut Votes,
    ) {
        let new = votes.iter().filter(|(item, _)| !asked.iter().any(|one| one.0 == **item));
        let mut hops: Vec<(Reverse<u64>, ItemHandle, usize)> = Vec::new();
        for (item, parts) in new {
            let most = parts.iter().max().unwrap();
            let cause = parts.iter().position(|part| part == most).unwrap();
            hops.push((Reverse(parts.iter().sum()), *item, cause));
        }
        hops.sort();
        for (Reverse(sum), item, cause) in hops.into_iter().take(self.config.hop_items) {
            let mut voices = self.index(item);
            voices.truncate(self.config.hop_sessions);
            let share = (voices.len() as f32).powf(-self.config.hop_norm);
            let weight = self.config.hop_weight * share * (sum as f32 / (1_u64 << 32) as f32);
            for place in voices.into_iter().filter(&other) {
                self.vote(item, place, weight * self.standing(place, at), cause, votes);
            }
        }
    }

    /// What followed the query's last item, each with how often.
    fn steps(
        &self,
        asked: &[(ItemHandle, usize)],
        other: impl Fn(&usize) -> bool,
    ) -> BTreeMap<ItemHandle, u32> {
        let mut steps = BTreeMap::new();
        let Some(&(last, 0)) = asked.first() else { return steps };
        for place in self.index(last).into_iter().filter(other) {
            for pair in self.sessions[place].1.windows(2).filter(|pair| pair[0].2 == last) {
                *steps.entry(pair[1].2).or_default() += 1;
            }
        }
        steps
    }

    fn rank(
        &self,
        asked: &[(ItemHandle, usize)],
        steps: &BTreeMap<ItemHandle, u32>,
        mut votes: Votes,
    ) -> Vec<Neighbour> {
        let config = &self.config;
        for item in steps.keys().chain(asked.iter().map(|one| &one.0)) {
            votes.entry(*item).or_default();
        }
        let sum = |parts: &Parts| parts.iter().sum::<u64>();
        let most = votes.values().map(sum).max().unwrap_or(0).max(1) as f32;
        let total = steps.values().sum::<u32>() as f32 + config.transitions_prior;
        let mut ranked = Vec::new();
        for (item, parts) in &votes {
            // Votes are whole numbers: their sum is exact, and becomes a fraction once.
            let mut score = sum(parts) as f32 / most;
            let mut best = (0.0, 0);
            for (place, (query, distance)) in asked.iter().enumerate() {
                let mut part = parts[place] as f32 / most;
                let mut also = |more: f32| {
                    part += more;
                    score += more;
                };
                if let (0, Some(count)) = (place, steps.get(item)) {
                    also(config.transitions_weight / total * *count as f32);
                }
                if query == item {
                    also(config.repeat_weight * decay(*distance, config.repeat_lambda));
                }
                if part > best.0 {
                    best = (part, place);
                }
            }
            if score > 0.0 {
                ranked.push(Neighbour { item: *item, score, because: asked[best.1].0 });
            }
        }
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
        ranked
    }
}

/// Votes for an item by the item of the query that they are for; queries here are short.
type Parts = [u64; 6];
type Votes = BTreeMap<ItemHandle, Parts>;

/// Fails unless every reference of the table leads somewhere and every list is in order.
fn assert_sound(table: &SessionNeighbours) {
    let held: Vec<u32> = table.slot_of.values().copied().collect();
    assert!(held.len() <= table.config.max_sessions);
    assert_eq!(held.len() + table.free_slots.len(), table.sessions.len());
    assert_eq!(held.len(), table.oldest.len());
    assert_eq!(table.place_of.len() + table.free_places.len(), table.items.len());
    for slot in &table.free_slots {
        assert!(!held.contains(slot) && table.sessions[*slot as usize].items.is_empty());
    }
    for Reverse((noted, key, slot)) in &table.oldest {
        assert_eq!(table.slot_of.get(key), Some(slot));
        assert!(*noted <= table.heads[*slot as usize].last);
    }
    for slot in &held {
        let session = &table.sessions[*slot as usize];
        let head = table.heads[*slot as usize];
        assert_eq!(session.stamps.last().map(|stamp| stamp.0), Some(head.last));
        assert!(session.stamps.is_sorted());
        assert_eq!(session.stamps.len(), session.items.len());
        assert_eq!(session.items.len(), head.clicks as usize);
        assert!(session.items.len() <= table.config.max_session_items);
    }
    for (handle, place) in &table.place_of {
        let item = &table.items[*place as usize];
        let holds = |slot: &&u32| table.sessions[**slot as usize].newest(*place).is_some();
        assert_eq!(item.handle, *handle);
        assert_eq!(item.sessions as usize, held.iter().filter(holds).count());
        assert!(item.recent.len() <= table.config.sessions_per_item);
        let order = |mention: &Mention| (mention.at, table.sessions[mention.slot as usize].key);
        assert!(item.recent.iter().map(order).is_sorted());
        for mention in &item.recent {
            let session = &table.sessions[mention.slot as usize];
            let newest = session.newest(*place).map(|place| session.stamps[place].0);
            assert_eq!(newest, Some(mention.at));
        }
    }
}

/// Up to 60 events of 6 sessions and 8 items within two days, some of them twice, in any order.
fn events() -> impl Strategy<Value = Vec<Event>> {
    vec((0..6_u64, 0..8_u32, 0..48_i64), 1..60).prop_flat_map(|drawn| {
        let mut events = Vec::new();
        for (n, (session, item, at)) in drawn.into_iter().enumerate() {
            events.push((session, ItemHandle(item), hour(at), n as u64 * 7_919 % 1_009));
        }
        events.extend_from_within(..events.len() / 4);
        Just(events).prop_shuffle()
    })
}

fn query() -> impl Strategy<Value = Vec<ItemHandle>> {
    vec((0..9_u32).prop_map(ItemHandle), 0..6)
}

/// Limits so low that they bite.
fn narrow() -> NeighboursConfig {
    NeighboursConfig {
        neighbours: 3,
        query_items: 4,
        hop_items: 2,
        hop_sessions: 2,
        ..Default::default()
    }
}

proptest! {
    #[test]
    fn the_index_ranks_as_brute_force_does(
        events in events(), query in query(), own in proptest::option::of(0..6_u64),
        sessions_per_item in 1..7_usize,
    ) {
        let config = NeighboursConfig { sessions_per_item, ..narrow() };
        let table = table(config.clone(), &events);
        assert_sound(&table);
        let ranked = table.recommend(&query, hour(60), own, 100, &mut Scratch::default());
        let expected = Plain::new(config, &events).recommend(&query, hour(60), own);
        prop_assert_eq!(ranked, expected);
    }

    #[test]
    fn eviction_leaves_what_brute_force_leaves_and_nothing_dangling(
        events in events(), query in query(), max_sessions in 1..6_usize,
        max_session_items in 1..5_usize,
    ) {
        let config = NeighboursConfig { max_sessions, max_session_items, ..narrow() };
        let mut table = SessionNeighbours::new(config.clone());
        let mut plain = Plain::new(config, &[]);
        let mut scratch = Scratch::default();
        for event in events {
            table.observe(event.0, event.1, event.2, event.3);
            plain.observe(event);
            assert_sound(&table);
            let ranked = table.recommend(&query, hour(60), None, 100, &mut scratch);
            prop_assert_eq!(ranked, plain.recommend(&query, hour(60), None));
        }
    }

    #[test]
    fn the_order_of_arrival_changes_no_ranking(
        (events, shuffled) in events().prop_flat_map(|e| (Just(e.clone()), Just(e).prop_shuffle())),
        query in query(), sessions_per_item in 1..7_usize,
    ) {
        let config = NeighboursConfig { sessions_per_item, ..narrow() };
        let [one, other] = [events, shuffled].map(|events| {
            let table = table(config.clone(), &events);
            table.recommend(&query, hour(60), None, 100, &mut Scratch::default())
        });
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_short_answer_is_the_head_of_a_long_one(
        events in events(), query in query(), limit in 0..8_usize,
    ) {
        let table = table(narrow(), &events);
        let mut scratch = Scratch::default();
        let long = table.recommend(&query, hour(60), None, 100, &mut scratch);
        let short = table.recommend(&query, hour(60), None, limit, &mut scratch);
        prop_assert_eq!(&short[..], &long[..limit.min(long.len())]);
    }
}

#[test]
fn a_replayed_event_changes_nothing() {
    let events = sessions(&[&[1, 2, 3], &[2, 3, 4], &[3, 1]]);
    let mut table = table(NeighboursConfig::default(), &events);
    let before = (ask(&table, &[2, 3], None), table.bytes());
    for &(session, item, at, id) in events.iter().chain(&events) {
        table.observe(session, item, at, id);
    }
    assert_eq!(before, (ask(&table, &[2, 3], None), table.bytes()));
    assert_sound(&table);
}

#[test]
fn a_replay_of_evicted_sessions_changes_nothing() {
    let events = sessions(&[&[1, 2], &[2, 3], &[3, 1], &[1, 3]]);
    let config = NeighboursConfig { max_sessions: 2, ..Default::default() };
    let mut table = table(config, &events);
    let before = ask(&table, &[1, 3], None);
    for &(session, item, at, id) in &events {
        table.observe(session, item, at, id);
    }
    assert_eq!(before, ask(&table, &[1, 3], None));
    assert_eq!(table.sessions(), 2);
}

#[test]
fn a_late_event_lands_where_it_belongs() {
    let late = [(7, 1, 0), (7, 3, 2), (7, 2, 1)];
    let late = late.map(|(session, item, at)| (session, ItemHandle(item), hour(at), item as u64));
    let table = table(NeighboursConfig::default(), &late);
    let order: Vec<u32> = table.session(7).map(|(item, _)| item.0).collect();
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn a_click_too_old_for_a_full_session_displaces_no_other() {
    let config =
        NeighboursConfig { max_session_items: 2, sessions_per_item: 1, ..Default::default() };
    let held = [(1, 8, 10), (1, 9, 11), (2, 3, 5), (2, 4, 6)];
    let click = |(session, item, at)| (session, ItemHandle(item), hour(at), at as u64);
    let mut table = table(config, &held.map(click));
    let before = ask(&table, &[3], None);
    let (session, item, at, id) = click((1, 3, 7));
    table.observe(session, item, at, id);
    assert_eq!(before, ask(&table, &[3], None));
    assert_eq!(found(&before), [3, 4]);
}

#[test]
fn ones_own_session_never_votes() {
    let table = table(NeighboursConfig::default(), &sessions(&[&[1, 2, 9], &[1, 2, 3]]));
    assert!(found(&ask(&table, &[1, 2], None)).contains(&9));
    assert!(!found(&ask(&table, &[1, 2], Some(0))).contains(&9));
}

#[test]
fn what_follows_comes_before_what_went_ahead() {
    let table = table(NeighboursConfig::default(), &sessions(&[&[1, 2, 3], &[1, 2, 3]]));
    let ranked = found(&ask(&table, &[2], None));
    assert_eq!(ranked, [2, 3, 1]);
}

#[test]
fn a_candidate_names_the_item_that_brought_it() {
    let table = table(NeighboursConfig::default(), &sessions(&[&[1, 10], &[2, 20], &[2, 21]]));
    let ranked = ask(&table, &[1, 2], None);
    let because = |item| ranked.iter().find(|one| one.item.0 == item).map(|one| one.because.0);
    assert_eq!([because(10), because(20), because(21)], [Some(1), Some(2), Some(2)]);
}

#[test]
fn the_second_hop_reaches_what_no_neighbour_holds() {
    let lists: &[&[u32]] = &[&[1, 2], &[2, 3]];
    let hop = table(NeighboursConfig::default(), &sessions(lists));
    assert!(found(&ask(&hop, &[1], None)).contains(&3));
    let config = NeighboursConfig { hop_weight: 0.0, ..Default::default() };
    assert!(!found(&ask(&table(config, &sessions(lists)), &[1], None)).contains(&3));
}

#[test]
fn a_return_goes_by_its_weight() {
    let lists: &[&[u32]] = &[&[1, 2], &[1, 2]];
    for (repeat_weight, order) in [(0.0, [2, 1]), (1.4, [1, 2])] {
        let config = NeighboursConfig { repeat_weight, ..Default::default() };
        assert_eq!(found(&ask(&table(config, &sessions(lists)), &[1], None)), order);
    }
}

#[test]
fn a_query_of_nothing_known_gets_nothing() {
    let table = table(NeighboursConfig::default(), &sessions(&[&[1, 2]]));
    assert!(ask(&table, &[], None).is_empty());
    assert!(ask(&table, &[8, 9], None).is_empty());
}

#[test]
fn equal_scores_are_in_order_of_items() {
    let (a, b) = (ItemHandle(5), ItemHandle(4));
    let now = hour(1);
    let events = [(1, ItemHandle(1), now, 1), (2, ItemHandle(1), now, 1)];
    let next = [(1, a, hour(2), 2), (2, b, hour(2), 2)];
    let table = table(NeighboursConfig::default(), &[events, next].concat());
    assert_eq!(found(&ask(&table, &[1], None)), [1, 4, 5]);
}

#[test]
fn memory_stays_bounded() {
    let config = NeighboursConfig {
        max_sessions: 100,
        max_session_items: 5,
        sessions_per_item: 10,
        ..Default::default()
    };
    let mut table = SessionNeighbours::new(config);
    let mut early = 0;
    for n in 0..20_000_u64 {
        // A hot item in every session, the others ever new: items come and go as sessions do.
        let item = if n % 8 == 0 { 0 } else { n as u32 };
        table.observe(n / 8, ItemHandle(item), hour(n as i64), n);
        if n == 4_000 {
            early = table.bytes();
        }
    }
    assert_sound(&table);
    assert_eq!(table.sessions(), 100);
    assert!(table.items.len() <= 100 * 5 + 1, "{} items", table.items.len());
    assert!(table.bytes() <= early * 3 / 2, "{early} bytes grew to {}", table.bytes());
}

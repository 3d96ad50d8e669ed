//! The join's state: open lists and held outcomes in memory, as hashes; all that is more lies in rows.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::Corrupt;
use super::clocks::Input;
use super::outcome::{Labels, Outcome};
use super::rows::{Change, ListKey, Progress, held_row, kind, page_of};
use crate::event::{Impression, Rejection, ShownItem, Source};
use crate::ids::{Prehashed, stable_hash};
use crate::time::EventTime;

/// Memory of a list beside its items and outcomes, in bytes: two map entries and what they hold.
const LIST_BYTES: usize = 200;

/// Outcomes of one list. Nobody does more with a list, but a client that is broken may; each costs
/// about 100 bytes.
const MAX_OUTCOMES: usize = 1_000;

/// What decides about windows. All in milliseconds of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long after a list a click is held to come of it.
    pub click_window_ms: i64,
    /// The same for a watch.
    pub watch_window_ms: i64,
    /// How far a topic's records may be out of order.
    pub lateness_ms: i64,
    /// How far a topic may be behind the others before it is taken to bring nothing.
    pub idle_ms: i64,
    /// How long after it closed a list is corrected.
    pub correction_ms: i64,
    /// Memory of one shard's join, in bytes, beyond which new lists are not joined and outcomes not
    /// held. What belongs to lists that are joined comes on top.
    pub max_bytes: usize,
}

impl Rules {
    fn window_ms(&self, source: Source) -> i64 {
        match source {
            Source::Watch => self.watch_window_ms,
            Source::Click => self.click_window_ms,
        }
    }

    /// From a list to where its topics' clocks close it.
    fn open_ms(&self) -> i64 {
        self.click_window_ms.max(self.watch_window_ms) + self.lateness_ms
    }
}

/// A record's place in its topic.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its offset.
    pub offset: i64,
    /// When the broker had it.
    pub appended: EventTime,
}

/// A list as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    key: ListKey,
    user: u64,
    request: u64,
    items: Box<[u64]>,
    /// Who and what, without what ranked it.
    names: Vec<u8>,
    /// The whole record.
    record: Vec<u8>,
}

impl Listed {
    /// What is kept of a record of `impressions`, whose bytes are `record`.
    ///
    /// # Errors
    /// A [`Rejection`] where it cannot be written shorter: a fault of ours.
    pub fn of(list: &Impression<'_>, record: &[u8]) -> Result<Self, Rejection> {
        let names = Impression {
            items: list.items.iter().map(ShownItem::named).collect(),
            weights: Vec::new(),
            degraded: Vec::new(),
            ..list.clone()
        };
        Ok(Self::known(list, names.encode()?, record.to_vec()))
    }

    fn known(list: &Impression<'_>, names: Vec<u8>, record: Vec<u8>) -> Self {
        let user = stable_hash(list.user.as_bytes());
        let request = stable_hash(list.request_id.as_bytes());
        let mut both = [0; 16];
        both[..8].copy_from_slice(&user.to_le_bytes());
        both[8..].copy_from_slice(&request.to_le_bytes());
        let at = EventTime::from_millis(list.event_time);
        let items = list.items.iter().map(|shown| stable_hash(shown.item.as_bytes()));
        let key = ListKey { at, list: stable_hash(&both) };
        Self { key, user, request, items: items.collect(), names, record }
    }
}

/// A list whose windows have passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Which. Its whole record is where [`ListKey::record_row`] says.
    pub key: ListKey,
    /// What came of each item, in the order of the list.
    pub labels: Vec<Labels>,
}

/// What came of a list after it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The list. Who and what is where [`ListKey::names_row`] says.
    pub key: ListKey,
    /// The item's place in it.
    pub place: usize,
    /// What came.
    pub outcome: Outcome,
}

/// What became of records since the last step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lists that were opened.
    pub lists: u64,
    /// Lists that were known already.
    pub duplicate_lists: u64,
    /// Lists that came too late to be joined.
    pub late_lists: u64,
    /// Lists for which there was no memory.
    pub refused_lists: u64,
    /// Outcomes that belong to a list that is open.
    pub joined: u64,
    /// Outcomes that belong to a list that is closed.
    pub corrected: u64,
    /// Outcomes that came before, of those that belong to a list.
    pub duplicates: u64,
    /// Outcomes of no list.
    pub orphans: u64,
    /// Outcomes of before all lists that are remembered.
    pub too_late: u64,
    /// Outcomes beyond the first thousand of a list.
    pub surplus: u64,
    /// Outcomes that were decided about before their time, for want of memory.
    pub hurried: u64,
}

/// What one step brings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Lists that close, oldest first: over all steps, each key is above the one before.
    pub closings: Vec<Closing>,
    /// In the order in which they came.
    pub corrections: Vec<Correction>,
    /// What the store is to keep from now on.
    pub changes: Vec<Change>,
    /// What became of records.
    pub counts: Counts,
}

/// What is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Lists that are not closed.
    pub open_lists: usize,
    /// Lists that are closed and may be corrected.
    pub closed_lists: usize,
    /// Outcomes that are held until all lists before them are known.
    pub held_outcomes: usize,
    /// Memory of all, in bytes.
    pub bytes: usize,
}

struct Known {
    user: u64,
    request: u64,
    items: Box<[u64]>,
    outcomes: Vec<Given>,
}

/// An outcome that was given to a list.
struct Given {
    outcome: Outcome,
    /// The clock of its topic before it.
    came_at: Option<EventTime>,
}

type Came = (Outcome, Option<EventTime>);

/// One shard's join.
pub struct Join {
    rules: Rules,
    progress: Progress,
    lists: BTreeMap<ListKey, Known>,
    /// Each user's lists, oldest first.
    by_user: HashMap<u64, Vec<ListKey>, Prehashed>,
    /// Since the last step.
    arrivals: Vec<Came>,
    /// Outcomes that wait for lists, by the step that they came in.
    held: BTreeMap<u64, Vec<Came>>,
    held_count: usize,
    list_bytes: usize,
    closed_lists: usize,
    step: Step,
    all_read: Option<EventTime>,
}

impl Join {
    /// A join of nothing yet, of which the first records have these offsets, in the order of
    /// [`Input::ALL`].
    pub fn new(rules: Rules, next: [i64; 3]) -> Self {
        Self {
            rules,
            progress: Progress { next, ..Progress::default() },
            lists: BTreeMap::new(),
            by_user: HashMap::default(),
            arrivals: Vec::new(),
            held: BTreeMap::new(),
            held_count: 0,
            list_bytes: 0,
            closed_lists: 0,
            step: Step::default(),
            all_read: None,
        }
    }

    /// Goes on from the rows of all steps so far; `None` where there are none. Other rules than
    /// those steps had may be given.
    ///
    /// # Errors
    /// [`Corrupt`] where a row is damaged.
    pub fn load<E: From<Corrupt>>(
        rules: Rules,
        rows: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), E>>,
    ) -> Result<Option<Self>, E> {
        let mut join = Self::new(rules, [0; 3]);
        let mut is_there = false;
        for row in rows {
            let (key, value) = row?;
            match key.first() {
                Some(&kind::PROGRESS) => {
                    // It sorts before all others.
                    join.progress = Progress::decode(&value)?;
                    is_there = true;
                }
                Some(&kind::HELD) => {
                    let mut page = Outcome::decode_all(&value)?;
                    page.retain(|(outcome, _)| Some(outcome.at) >= join.progress.settled);
                    join.held_count += page.len();
                    join.held.insert(page_of(&key)?, page);
                }
                Some(&kind::LIST) => {
                    let list = Impression::decode(&value).map_err(|_| Corrupt("a list"))?;
                    join.insert(Listed::known(&list, Vec::new(), Vec::new()));
                }
                Some(&kind::OUTCOME) => {
                    // Lists sort before outcomes.
                    let key = ListKey::of_row(&key)?;
                    let list = join.lists.get_mut(&key).ok_or(Corrupt("an outcome of no list"))?;
                    for (outcome, came_at) in Outcome::decode_all(&value)? {
                        list.outcomes.push(Given { outcome, came_at });
                        join.list_bytes += size_of::<Given>();
                    }
                }
                Some(&kind::RECORD) => {}
                _ => return Err(Corrupt("a row of an unknown kind").into()),
            }
        }
        let closed = join.progress.closed.map(|until| join.lists.range(..first(until)).count());
        join.closed_lists = closed.unwrap_or(0);
        Ok(is_there.then_some(join))
    }

    /// The next offset of each topic, in the order of [`Input::ALL`]: records before it are known.
    pub fn next(&self) -> [i64; 3] {
        self.progress.next
    }

    /// Lists up to here are closed, and those before the other are no longer corrected.
    pub fn closed(&self) -> [Option<EventTime>; 2] {
        let closed = self.progress.closed;
        [closed, closed.map(|at| at.plus_millis(-self.rules.correction_ms))]
    }

    /// What is held.
    pub fn size(&self) -> Size {
        Size {
            open_lists: self.lists.len() - self.closed_lists,
            closed_lists: self.closed_lists,
            held_outcomes: self.held_count,
            bytes: self.bytes(),
        }
    }

    fn bytes(&self) -> usize {
        self.list_bytes + self.held_count * size_of::<Came>()
    }

    /// A list was shown. Records of a topic come in the order of its log.
    pub fn show(&mut self, list: Listed, arrival: Arrival) {
        if arrival.offset < self.progress.next[Input::List as usize] {
            return;
        }
        let key = list.key;
        let clock = self.progress.clocks.get(Input::List);
        self.progress.clocks.reach(Input::List, key.at, arrival.appended);
        // Of one that its own topic had passed, outcomes may have been told that they are nobody's.
        let late = clock.is_some_and(|clock| clock.since(key.at) > self.rules.lateness_ms);
        let is_full = self.bytes() >= self.rules.max_bytes;
        let counts = &mut self.step.counts;
        if self.lists.contains_key(&key) {
            counts.duplicate_lists += 1;
        } else if late || Some(key.at) < self.progress.closed {
            counts.late_lists += 1;
        } else if is_full {
            counts.refused_lists += 1;
        } else {
            counts.lists += 1;
            let Listed { names, record, .. } = &list;
            self.step.changes.push((key.names_row(), Some(names.clone())));
            self.step.changes.push((key.record_row(), Some(record.clone())));
            self.insert(list);
        }
    }

    fn insert(&mut self, list: Listed) {
        let Listed { key, user, request, items, .. } = list;
        let keys = self.by_user.entry(user).or_default();
        let place = keys.partition_point(|other| *other < key);
        keys.insert(place, key);
        self.list_bytes += LIST_BYTES + items.len() * 8;
        self.lists.insert(key, Known { user, request, items, outcomes: Vec::new() });
    }

    /// A user watched or clicked something.
    pub fn happen(&mut self, outcome: Outcome, arrival: Arrival) {
        let input = Input::from(outcome.source);
        if arrival.offset < self.progress.next[input as usize] {
            return;
        }
        let came_at = self.progress.clocks.get(input);
        self.progress.clocks.reach(input, outcome.at, arrival.appended);
        self.arrivals.push((outcome, came_at));
    }

    /// What is held up by topics so far behind that they may have nothing to bring: the newest event
    /// time read, and those topics. Where they are then read to where their logs end, it is time for
    /// [`Join::read_all`].
    pub fn held_up(&self) -> Option<(EventTime, impl Iterator<Item = Input> + use<>)> {
        let has_waiting = self.lists.len() > self.closed_lists
            || self.held_count > 0
            || !self.arrivals.is_empty();
        let newest = self.progress.clocks.newest().filter(|_| has_waiting)?;
        let clocks = self.progress.clocks;
        let idle_ms = self.rules.idle_ms;
        // Not for every second that passes: who is asked about the logs is a broker.
        let is_due =
            clocks.all(self.all_read, idle_ms) < Some(newest.plus_millis(-idle_ms - idle_ms / 10));
        let idle = newest.plus_millis(-idle_ms);
        let behind = Input::ALL.into_iter().filter(move |input| clocks.get(*input) < Some(idle));
        is_due.then_some((newest, behind))
    }

    /// All that the topics held when `newest` was the newest event time read is read.
    pub fn read_all(&mut self, newest: EventTime) {
        self.all_read = self.all_read.max(Some(newest));
    }

    /// Decides about all that is due, the topics being read up to `next`.
    pub fn advance(&mut self, next: [i64; 3]) -> Step {
        for (known, next) in self.progress.next.iter_mut().zip(next) {
            *known = next.max(*known);
        }
        let Rules { lateness_ms, idle_ms, correction_ms, .. } = self.rules;
        let clocks = self.progress.clocks;
        let lists = clocks.effective(Input::List, self.all_read, idle_ms);
        let settled = lists.map(|at| at.plus_millis(-lateness_ms));
        self.progress.settled = self.progress.settled.max(settled);
        self.settle();
        let closed = clocks.all(self.all_read, idle_ms);
        let closed = closed.map(|at| at.plus_millis(-self.rules.open_ms()));
        if closed > self.progress.closed {
            self.close_until(closed);
            self.forget_until(closed.map(|at| at.plus_millis(-correction_ms)));
        }
        self.step.changes.push((vec![kind::PROGRESS], Some(self.progress.encode())));
        std::mem::take(&mut self.step)
    }

    /// Gives outcomes to lists, of which all that matter are known by now.
    fn settle(&mut self) {
        let settled = self.progress.settled;
        let is_due = |came: &mut Came| Some(came.0.at) < settled;
        let mut due = Vec::new();
        self.held.retain(|page, held| {
            due.extend(held.extract_if(.., is_due));
            if held.is_empty() {
                self.step.changes.push((held_row(*page), None));
            }
            !held.is_empty()
        });
        self.held_count -= due.len();
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for (outcome, came_at) in due.into_iter().chain(arrivals.extract_if(.., is_due)) {
            self.give(outcome, came_at);
        }
        let free = self.rules.max_bytes.saturating_sub(self.bytes()) / size_of::<Came>();
        for (outcome, came_at) in arrivals.drain(free.min(arrivals.len())..) {
            self.step.counts.hurried += 1;
            self.give(outcome, came_at);
        }
        if !arrivals.is_empty() {
            let page = self.held.last_key_value().map_or(0, |(page, _)| page + 1);
            let mut bytes = Vec::new();
            arrivals.iter().for_each(|(outcome, came_at)| outcome.encode(*came_at, &mut bytes));
            self.step.changes.push((held_row(page), Some(bytes)));
            self.held_count += arrivals.len();
            self.held.insert(page, arrivals);
        }
    }

    /// The list that an outcome belongs to, and the item's place in it.
    fn list_of(&self, outcome: &Outcome) -> Option<(ListKey, usize)> {
        let keys = self.by_user.get(&outcome.user)?;
        let until = keys.partition_point(|key| key.at <= outcome.at);
        let window = self.rules.window_ms(outcome.source);
        let within = keys[..until].iter().rev();
        within.take_while(|key| outcome.at.since(key.at) <= window).find_map(|key| {
            let list = self.lists.get(key)?;
            if outcome.request != 0 && outcome.request != list.request {
                return None;
            }
            let place = list.items.iter().position(|item| *item == outcome.item)?;
            Some((*key, place))
        })
    }

    fn give(&mut self, outcome: Outcome, came_at: Option<EventTime>) {
        let found = self.list_of(&outcome);
        let counts = &mut self.step.counts;
        let Some((key, place)) = found else {
            let forgotten =
                self.progress.closed.map(|at| at.plus_millis(-self.rules.correction_ms));
            let is_too_late = Some(outcome.at) < forgotten;
            *(if is_too_late { &mut counts.too_late } else { &mut counts.orphans }) += 1;
            return;
        };
        let Some(list) = self.lists.get_mut(&key) else { return };
        if list.outcomes.iter().any(|given| given.outcome.is_same(&outcome)) {
            counts.duplicates += 1;
            return;
        }
        if list.outcomes.len() == MAX_OUTCOMES {
            counts.surplus += 1;
            return;
        }
        if is_late(&self.rules, &key, came_at) || Some(key.at) < self.progress.closed {
            counts.corrected += 1;
            self.step.corrections.push(Correction { key, place, outcome });
        } else {
            counts.joined += 1;
        }
        let mut bytes = Vec::new();
        outcome.encode(came_at, &mut bytes);
        self.step.changes.push((key.outcome_row(&outcome), Some(bytes)));
        list.outcomes.push(Given { outcome, came_at });
        self.list_bytes += size_of::<Given>();
    }

    fn close_until(&mut self, until: Option<EventTime>) {
        let Some(at) = until else { return };
        let from = self.progress.closed.map_or(Bound::Unbounded, |at| Bound::Included(first(at)));
        for (key, list) in self.lists.range((from, Bound::Excluded(first(at)))) {
            let mut labels = vec![Labels::default(); list.items.len()];
            for Given { outcome, came_at } in &list.outcomes {
                let place = list.items.iter().position(|item| *item == outcome.item);
                if let Some(place) = place.filter(|_| !is_late(&self.rules, key, *came_at)) {
                    labels[place].add(outcome, outcome.at.since(key.at));
                }
            }
            self.step.changes.push((key.record_row(), None));
            self.closed_lists += 1;
            self.step.closings.push(Closing { key: *key, labels });
        }
        self.progress.closed = until;
    }

    fn forget_until(&mut self, until: Option<EventTime>) {
        while let Some(first) = self.lists.first_entry()
            && Some(first.key().at) < until
        {
            let (key, list) = first.remove_entry();
            self.closed_lists -= 1;
            self.step.changes.push((key.names_row(), None));
            for given in &list.outcomes {
                self.step.changes.push((key.outcome_row(&given.outcome), None));
            }
            let bytes = LIST_BYTES + list.items.len() * 8;
            self.list_bytes -= bytes + list.outcomes.len() * size_of::<Given>();
            if let Some(keys) = self.by_user.get_mut(&list.user) {
                keys.retain(|other| *other != key);
                if keys.is_empty() {
                    self.by_user.remove(&list.user);
                }
            }
        }
    }
}

/// Whether an outcome came when its own topic had passed the list's windows. That is a question of
/// its topic alone, so that it does not show how far the others have come.
fn is_late(rules: &Rules, key: &ListKey, came_at: Option<EventTime>) -> bool {
    came_at.is_some_and(|at| at > key.at.plus_millis(rules.open_ms()))
}

/// Before all lists of `at`.
fn first(at: EventTime) -> ListKey {
    ListKey { at, list: 0 }
}

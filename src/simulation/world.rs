//! The world itself: a queue of visits and the people and items behind it. Enters: lists for
//! visits, shifts. Leaves: visits in event-time order, responses, and the truth for whoever
//! measures. Never hands out a visit earlier than the one before.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::ids::{ItemId, Surface, UserId};
use crate::time::{EventTime, HOUR_MS, MINUTE_MS, SECOND_MS};

use super::behaviour::{
    FIT_WEIGHT, Page, QUALITY_WEIGHT, Response, click_probability, examine_probability, watched_ms,
    weariness,
};
use super::catalog::{Catalog, Item, member_index};
use super::config::{WorldConfig, WorldError};
use super::dice::{Dice, Purpose};
use super::people::Person;
use super::shift::{Crowd, Season, Shift};
use super::taste::Taste;

/// Quiet time between two sessions of a person; what the platform calls a new session.
const SESSION_GAP_MS: i64 = 45 * MINUTE_MS;
/// How strongly the mood of a session pulls a taste towards one category. With 0, a session
/// would say nothing that the whole history does not.
const MOOD_WEIGHT: f64 = 0.5;
/// How often the weights of finding items without a recommender are made anew: often enough for
/// new items to appear on their day, seldom enough to cost nothing.
const DISCOVERY_MS: i64 = 2 * HOUR_MS;
/// Items among which a person chooses each time when searching or browsing for themselves.
const BROWSED: usize = 12;
/// Mean time of a glance at an item that is not opened.
const GLANCE_MS: f64 = 1_200.0;
/// One person in this many is already there when the world begins, within [`OPENING_MS`].
const EARLY_BIRDS: usize = 50;
/// See [`EARLY_BIRDS`].
const OPENING_MS: f64 = 30_000.0;

/// What a person wants of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Be shown something: ask a recommender, then call [`World::respond`].
    Feed,
    /// Look for something themselves: call [`World::organic`].
    Search,
}

/// A person asks for a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    /// Who.
    pub user: UserId,
    /// When.
    pub at: EventTime,
    /// What for.
    pub intent: Intent,
    /// Where: `home`, `up_next` or `search`.
    pub surface: Surface,
    /// The session, unique in the world and the same on every run.
    pub session: String,
    /// The page within the session, from 0.
    pub page: u32,
    /// On `up_next`, the item just watched.
    pub context: Option<ItemId>,
    /// BCP 47 locale.
    pub locale: &'static str,
    /// `phone`, `tv`, `desktop` or `tablet`.
    pub device: &'static str,
    person: usize,
    number: u64,
}

/// An entry of the queue, ordered by time, then person; a person has at most one next page and
/// one next session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) at: EventTime,
    pub(super) person: usize,
    /// The page due, or none where a new session is.
    pub(super) page: Option<u32>,
    pub(super) session: u64,
    /// Context item of an `up_next` page.
    pub(super) context: Option<usize>,
}

/// A seeded world. See the module's page for how it is driven.
pub struct World {
    pub(super) config: WorldConfig,
    pub(super) catalog: Catalog,
    pub(super) people: Vec<Person>,
    pub(super) queue: BinaryHeap<Reverse<Due>>,
    now: EventTime,
    /// Shifts to come, the next one last.
    shifts: Vec<Shift>,
    shifts_done: u64,
    /// People who will turn to other categories, and by how many; the next one last.
    pub(super) turns: Vec<(EventTime, usize, usize)>,
    pub(super) season: Option<Season>,
    pub(super) crowd: Option<Crowd>,
    /// Running sums of [`Catalog::discovery`], and the slice of time they hold for.
    discovery: (i64, Vec<f64>),
}

impl World {
    /// Makes the world. The same configuration gives the same world.
    pub fn new(config: WorldConfig) -> Result<Self, WorldError> {
        config.validate()?;
        let catalog = Catalog::new(&config);
        let people: Vec<Person> =
            (0..config.users).map(|index| Person::new(&config, index, &catalog)).collect();
        let queue = people
            .iter()
            .enumerate()
            .map(|(person, p)| {
                let at = first_start(&config, person, p);
                Reverse(Due { at, person, page: None, session: 1, context: None })
            })
            .collect();
        let now = config.start;
        let discovery = (i64::MIN, Vec::new());
        Ok(Self {
            config,
            catalog,
            people,
            queue,
            now,
            shifts: Vec::new(),
            shifts_done: 0,
            turns: Vec::new(),
            season: None,
            crowd: None,
            discovery,
        })
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// Event time of the last visit handed out; the start before the first.
    pub fn now(&self) -> EventTime {
        self.now
    }

    /// Every item of the world, published or not, in the order of their ids.
    pub fn items(&self) -> &[Item] {
        &self.catalog.items
    }

    /// An item by its id; none where it is not of this world.
    pub fn item(&self, id: &ItemId) -> Option<&Item> {
        self.catalog.index(id).map(|index| &self.catalog.items[index])
    }

    /// Everybody, in the order of their ids.
    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// Items published at or after `from` and before `to`, in the order of their ids.
    pub fn published(&self, from: EventTime, to: EventTime) -> impl Iterator<Item = &Item> {
        self.items().iter().filter(move |item| item.published >= from && item.published < to)
    }

    /// Plans a change; it takes effect before the first visit at or after its time. A time
    /// already past takes effect before the next visit.
    pub fn apply(&mut self, shift: Shift) {
        // After those of the same time: shifts take effect in the order they were planned.
        let place = self.shifts.partition_point(|planned| planned.at() > shift.at());
        self.shifts.insert(place, shift);
    }

    /// The earliest time that the next visit can have; none once the run is over. It may turn
    /// out later: a person who has only just left puts their next session off.
    pub fn next_at(&self) -> Option<EventTime> {
        let at = self.queue.peek()?.0.at;
        (at < self.config.end()).then(|| at.max(self.now))
    }

    /// The next page a person asks for, in event-time order; none once the run is over.
    ///
    /// A visit that is never answered ends its session, and the person comes back later.
    pub fn next_visit(&mut self) -> Option<Visit> {
        loop {
            let due = self.queue.peek()?.0;
            if due.at >= self.config.end() {
                return None;
            }
            self.queue.pop();
            self.now = self.now.max(due.at);
            self.shift_until(due.at);
            if let Some(visit) = self.visit(due) {
                return Some(visit);
            }
        }
    }

    /// The person's reaction to `served`, best first, as shown to them at `at` (not before the
    /// visit; later where the answer took its time). Unknown and unpublished ids are counted
    /// and ignored. Where they stay, their next page comes up as a later visit.
    pub fn respond(&mut self, visit: &Visit, served: &[ItemId], at: EventTime) -> Response {
        let name = format!("{}-p{}", visit.session, visit.page);
        let start = at.max(visit.at);
        let mut page = Page::new(&name, start);
        let mut unknown = 0;
        let taste = self.mood(visit.person, visit.number);
        for (position, id) in served.iter().enumerate() {
            let known = self.catalog.index(id);
            let shown = known.filter(|&index| self.catalog.items[index].is_there(start));
            let Some(index) = shown else {
                unknown += 1;
                continue;
            };
            self.look(&mut page, visit, taste, position, index);
        }
        self.conclude(visit, page, unknown)
    }

    /// What the person finds by themselves on a search visit: a few items of their taste among
    /// those that are easily found. Each is a click and a watch with no position.
    pub fn organic(&mut self, visit: &Visit) -> Response {
        self.discover(visit.at);
        let name = format!("{}-p{}", visit.session, visit.page);
        let mut page = Page::new(&name, visit.at);
        let mut dice = self.dice(Purpose::Organic, visit, 0);
        let taste = self.mood(visit.person, visit.number);
        page.pass(2.0 * SECOND_MS as f64 + dice.exponential(6.0 * SECOND_MS as f64));
        let wanted = 1 + (dice.exponential(1.6) as usize).min(7);
        for number in 0..wanted {
            let sought = if number == 0 { self.sought(visit) } else { None };
            let Some(index) = sought.or_else(|| self.browse(&mut dice, visit.person, taste)) else {
                continue;
            };
            let item = &self.catalog.items[index];
            let watched = watched_ms(&mut dice, taste.dot(item.taste), item);
            page.open(number, item, watched, false);
            page.pass(dice.exponential(4.0 * SECOND_MS as f64));
            self.people[visit.person].memory.watch(index);
        }
        self.conclude(visit, page, 0)
    }

    /// How much a person likes an item in the long run, as log-odds without the base rate: the
    /// fit of taste and item, and quality. None where either is not of this world.
    pub fn affinity(&self, user: &UserId, item: &ItemId) -> Option<f64> {
        let person = self.person(user)?;
        let item = self.item(item)?;
        Some(FIT_WEIGHT * person.taste.dot(item.taste) + QUALITY_WEIGHT * item.quality)
    }

    /// The probability that a person who looks at an item clicks it, by their long-run taste
    /// and what they remember having seen. None where either is not of this world.
    pub fn click_probability(&self, user: &UserId, item: &ItemId) -> Option<f64> {
        let person = self.person(user)?;
        let index = self.catalog.index(item)?;
        Some(self.chance(person, person.taste, index, self.now))
    }

    /// The `n` items published by `at` that the person would most likely click, best first: what
    /// a recommender that knew everybody's taste would serve. Costs a pass over all items. Empty
    /// for a person who is not of this world.
    pub fn best_items(&self, user: &UserId, n: usize, at: EventTime) -> Vec<ItemId> {
        let Some(person) = self.person(user) else {
            return Vec::new();
        };
        let mut ranked: Vec<(f64, usize)> = (0..self.items().len())
            .filter(|&index| self.items()[index].is_there(at))
            .map(|index| (self.chance(person, person.taste, index, at), index))
            .collect();
        let better = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if n < ranked.len() {
            ranked.select_nth_unstable_by(n, better);
            ranked.truncate(n);
        }
        ranked.sort_by(better);
        ranked.into_iter().map(|(_, index)| self.items()[index].id.clone()).collect()
    }

    /// Clicks that a list would get from a person at `at`, on average, on an item shown: by their
    /// long-run taste, what they remember, and how far down people look. None where the person is not
    /// of this world, or the list is empty. Items that are not there get none.
    pub fn expected_click_rate(
        &self,
        user: &UserId,
        list: &[ItemId],
        at: EventTime,
    ) -> Option<f64> {
        let person = self.person(user)?;
        let clicks = list.iter().enumerate().filter_map(|(position, id)| {
            let index = self.catalog.index(id).filter(|&i| self.items()[i].is_there(at))?;
            let chance = self.chance(person, person.taste, index, at);
            Some(examine_probability(position) * chance)
        });
        (!list.is_empty()).then(|| clicks.sum::<f64>() / list.len() as f64)
    }

    fn person(&self, user: &UserId) -> Option<&Person> {
        self.people.get(member_index(user.as_str(), 'u')?)
    }

    fn chance(&self, person: &Person, taste: Taste, index: usize, at: EventTime) -> f64 {
        let item = &self.catalog.items[index];
        let memory = &person.memory;
        let weary = weariness(memory.watched(index), memory.sights(index));
        let season = self.season.map_or(0.0, |season| season.log_odds(at));
        click_probability(taste.dot(item.taste), item.quality, season - weary)
    }

    fn dice(&self, purpose: Purpose, visit: &Visit, item: u64) -> Dice {
        let occasion = [visit.person as u64, visit.number, u64::from(visit.page), item];
        Dice::new(self.config.seed, purpose, occasion)
    }

    /// The person's taste in this session: pulled towards one of their categories.
    fn mood(&self, person: usize, session: u64) -> Taste {
        let seed = self.config.seed;
        let point = Dice::new(seed, Purpose::Mood, [person as u64, session, 0, 0]).unit();
        let person = &self.people[person];
        let mut sum = 0.0;
        let picked = person.likes.iter().find(|(_, weight)| {
            sum += weight;
            point < sum
        });
        let picked = picked.or(person.likes.first());
        picked.map_or(person.taste, |&(category, _)| {
            person.taste.plus(MOOD_WEIGHT, self.catalog.categories[category]).unit()
        })
    }

    fn shift_until(&mut self, at: EventTime) {
        while let Some(shift) = self.shifts.pop_if(|shift| shift.at() <= at) {
            self.shifts_done += 1;
            let number = self.shifts_done;
            self.take_effect(shift, number);
        }
        while let Some((_, person, by)) = self.turns.pop_if(|(due, ..)| *due <= at) {
            self.people[person].turn(by, &self.catalog);
        }
        self.crowd = self.crowd.filter(|crowd| at < crowd.until);
    }

    /// Turns a queue entry into a visit; none where it was only put off.
    fn visit(&mut self, due: Due) -> Option<Visit> {
        let page = match due.page {
            Some(page) if self.people[due.person].session == due.session => page,
            Some(_) => return None,
            None => self.start_session(due)?,
        };
        let person = &self.people[due.person];
        let mut dice = Dice::new(
            self.config.seed,
            Purpose::Page,
            [due.person as u64, due.session, u64::from(page), 0],
        );
        let usual = self.config.organic_share;
        let share = if self.crowd.is_some() { Crowd::searches(usual) } else { usual };
        let searches = page == 0 && dice.chance(share);
        let (intent, surface) = match (searches, due.context) {
            (true, _) => (Intent::Search, "search"),
            (false, Some(_)) => (Intent::Feed, "up_next"),
            (false, None) => (Intent::Feed, "home"),
        };
        Some(Visit {
            user: person.id.clone(),
            at: self.now,
            intent,
            surface: Surface::from(surface),
            session: format!("w{}-{}-s{}", self.config.seed, person.id, due.session),
            page,
            context: due.context.map(|index| self.catalog.items[index].id.clone()),
            locale: person.locale,
            device: person.device,
            person: due.person,
            number: due.session,
        })
    }

    /// Opens a session and plans the one after it; none, and put off, while one is open or has
    /// only just been closed.
    fn start_session(&mut self, due: Due) -> Option<u32> {
        let person = &mut self.people[due.person];
        if due.session <= person.session {
            // A crowd has brought them earlier.
            return None;
        }
        let rested = person.busy_until.plus_millis(SESSION_GAP_MS);
        if rested > due.at {
            self.queue.push(Reverse(Due { at: rested, ..due }));
            return None;
        }
        person.session = due.session;
        person.busy_until = due.at;
        let from = due.at.plus_millis(SESSION_GAP_MS);
        let at = person.next_start(self.config.seed, due.person, from);
        self.queue.push(Reverse(Due { at, session: due.session + 1, ..due }));
        Some(0)
    }

    /// One position of a served list: looked at or not, opened or passed over.
    fn look(&mut self, page: &mut Page, visit: &Visit, taste: Taste, position: usize, item: usize) {
        let mut eye = self.dice(Purpose::Examine, visit, position as u64);
        if !eye.chance(examine_probability(position)) {
            return;
        }
        page.pass(300.0 + eye.exponential(GLANCE_MS));
        let chance = self.chance(&self.people[visit.person], taste, item, visit.at);
        if self.dice(Purpose::Click, visit, item as u64).chance(chance) {
            let chosen = &self.catalog.items[item];
            let mut dice = self.dice(Purpose::Watch, visit, item as u64);
            let watched = watched_ms(&mut dice, taste.dot(chosen.taste), chosen);
            page.open(position, chosen, watched, true);
            self.people[visit.person].memory.watch(item);
        } else {
            self.people[visit.person].memory.sight(item);
        }
    }

    /// Makes the weights of finding items hold for `at`.
    fn discover(&mut self, at: EventTime) {
        let slice = at.millis().div_euclid(DISCOVERY_MS);
        if self.discovery.0 != slice {
            let from = EventTime::from_millis(slice.saturating_mul(DISCOVERY_MS));
            self.discovery = (slice, self.catalog.discovery(from));
        }
    }

    /// What a crowd has come for, where there is one and the person does not know it yet.
    fn sought(&self, visit: &Visit) -> Option<usize> {
        let item = self.crowd?.item;
        (!self.people[visit.person].memory.watched(item)).then_some(item)
    }

    /// The weights of finding items are made anew with the next search.
    pub(super) fn forget_discovery(&mut self) {
        self.discovery.0 = i64::MIN;
    }

    /// An item a person picks for themselves; none where nothing new is to be found.
    fn browse(&self, dice: &mut Dice, person: usize, taste: Taste) -> Option<usize> {
        let memory = &self.people[person].memory;
        let found = (0..BROWSED).map(|_| dice.weighted(&self.discovery.1)).collect::<Vec<_>>();
        let likings = found.iter().map(|&index| {
            let item = &self.catalog.items[index];
            let known = memory.watched(index) || !item.is_there(self.now);
            if known { 0.0 } else { (FIT_WEIGHT * taste.dot(item.taste)).exp() }
        });
        let sums = super::dice::cumulative(likings);
        let any = sums.last().is_some_and(|&total| total > 0.0);
        any.then(|| found[dice.weighted(&sums)])
    }

    /// Ends a page: the person leaves, or their next page is queued.
    fn conclude(&mut self, visit: &Visit, page: Page, unknown: usize) -> Response {
        let mut dice = self.dice(Purpose::Page, visit, 1);
        let patience = self.people[visit.person].patience;
        let current = self.people[visit.person].session == visit.number;
        let continues = current && page.stays(&mut dice, patience, visit.page);
        let context = page.last_content.as_ref().and_then(|id| self.catalog.index(id));
        let response = page.finish(unknown, continues);
        if current {
            let person = &mut self.people[visit.person];
            person.busy_until = person.busy_until.max(response.next_at);
        }
        if continues {
            self.queue.push(Reverse(Due {
                at: response.next_at,
                person: visit.person,
                page: Some(visit.page + 1),
                session: visit.number,
                context: context.filter(|_| dice.chance(0.5)),
            }));
        }
        response
    }
}

/// When a person first comes: a few at once, some in the course of the run, most by their habit.
fn first_start(config: &WorldConfig, index: usize, person: &Person) -> EventTime {
    let mut dice = Dice::new(config.seed, Purpose::SessionStart, [index as u64, 0, 0, 1]);
    if index.is_multiple_of(EARLY_BIRDS) {
        return config.start.plus_millis((dice.unit() * OPENING_MS) as i64);
    }
    let joins = if dice.chance(config.new_user_share) {
        config.start.plus_millis((dice.unit() * config.length_ms()) as i64)
    } else {
        config.start
    };
    person.next_start(config.seed, index, joins)
}

//! Lists made on the spot, without the product: what served lists are measured against. Random
//! and popular know no more than a recommender could; the oracle knows the true tastes.

use std::collections::{HashMap, HashSet, VecDeque};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::settings::{ANSWER_MS, Settings, may_open};
use super::tally::Tally;
use crate::cli::Failure;
use crate::ids::{ItemId, UserId, stable_hash};
use crate::runtime::Stop;
use crate::simulation::{Action, Intent, Response, Visit, World};
use crate::time::{DAY_MS, EventTime, MINUTE_MS};

/// A click counts half as much for popularity after this long.
const HALF_LIFE_MS: i64 = DAY_MS;
/// How often items are ranked by popularity anew.
const RANKING_MS: i64 = 10 * MINUTE_MS;

/// Who makes the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// The workers, over Kafka
    Served,
    /// Chance, among published items
    Random,
    /// Clicks so far, the newest counting most
    Popular,
    /// The true tastes: the best there can be
    Oracle,
}

impl Policy {
    /// The policies that need no worker.
    pub const LOCAL: [Policy; 3] = [Policy::Random, Policy::Popular, Policy::Oracle];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Random => "random",
            Self::Popular => "popular",
            Self::Oracle => "oracle",
        }
    }
}

/// Makes the lists of a local policy. What a user was shown or has clicked is offered again only
/// where nothing else is left: a list that repeats itself would be too easy to beat.
pub struct Lists {
    policy: Policy,
    /// All items, the oldest first.
    by_age: Vec<(EventTime, ItemId)>,
    start: EventTime,
    popularity: HashMap<ItemId, f64>,
    ranking: Vec<ItemId>,
    ranked_at: Option<EventTime>,
    known: HashMap<UserId, HashSet<ItemId>>,
}

impl Lists {
    /// Lists for a world that has just been made.
    pub fn new(world: &World, policy: Policy) -> Self {
        let mut by_age: Vec<_> =
            world.items().iter().map(|item| (item.published, item.id.clone())).collect();
        by_age.sort();
        Self {
            policy,
            by_age,
            start: world.config().start,
            popularity: HashMap::new(),
            ranking: Vec::new(),
            ranked_at: None,
            known: HashMap::new(),
        }
    }

    /// The list for a visit, best first.
    pub fn list(&mut self, world: &World, visit: &Visit, count: usize) -> Vec<ItemId> {
        let list = match self.policy {
            Policy::Oracle => return world.best_items(&visit.user, count, visit.at),
            Policy::Popular => self.popular(visit, count),
            Policy::Random | Policy::Served => self.random(world, visit, count),
        };
        self.known.entry(visit.user.clone()).or_default().extend(list.iter().cloned());
        list
    }

    /// Takes note of what people did.
    pub fn learn(&mut self, visit: &Visit, response: &Response) {
        for action in &response.actions {
            let Action::Click { item, at, .. } = action else { continue };
            // Growing weights of later clicks instead of shrinking those of earlier ones: one
            // addition a click. 2^1023 is nearly three years of days.
            let age = at.since(self.start) as f64 / HALF_LIFE_MS as f64;
            *self.popularity.entry(item.clone()).or_default() += age.min(1_000.0).exp2();
            self.known.entry(visit.user.clone()).or_default().insert(item.clone());
        }
    }

    fn random(&self, world: &World, visit: &Visit, count: usize) -> Vec<ItemId> {
        let name = format!("{} {} {}", world.config().seed, visit.session, visit.page);
        let mut dice = ChaCha8Rng::seed_from_u64(stable_hash(name.as_bytes()));
        let published = self.by_age.partition_point(|(at, _)| *at <= visit.at);
        let known = self.known.get(&visit.user);
        let mut list: Vec<ItemId> = Vec::with_capacity(count);
        // Where nearly everything is known or on the list already, it stays short.
        for _ in 0..20 * count {
            if list.len() == count || published == 0 {
                break;
            }
            let item = &self.by_age[dice.random_range(0..published)].1;
            if !list.contains(item) && !known.is_some_and(|known| known.contains(item)) {
                list.push(item.clone());
            }
        }
        list
    }

    fn popular(&mut self, visit: &Visit, count: usize) -> Vec<ItemId> {
        if self.ranked_at.is_none_or(|at| visit.at.since(at) >= RANKING_MS) {
            self.ranked_at = Some(visit.at);
            let published = self.by_age.partition_point(|(at, _)| *at <= visit.at);
            let rank = |item: &ItemId| {
                // Until something is clicked, in an order that says nothing.
                let luck = stable_hash(item.as_str().as_bytes());
                (self.popularity.get(item).copied().unwrap_or(0.0), luck)
            };
            let mut ranked: Vec<_> =
                self.by_age[..published].iter().map(|(_, item)| (rank(item), item)).collect();
            ranked.sort_by(|(a, _), (b, _)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            self.ranking = ranked.into_iter().map(|(_, item)| item.clone()).collect();
        }
        let known = self.known.get(&visit.user);
        let is_known = |item: &&ItemId| known.is_some_and(|known| known.contains(*item));
        let fresh = self.ranking.iter().filter(|item| !is_known(item));
        let repeated = self.ranking.iter().filter(is_known);
        fresh.chain(repeated).take(count).cloned().collect()
    }
}

/// Runs a world of its own up to `until`, without Kafka, and counts.
///
/// # Errors
/// Where the world cannot be made.
pub fn run_locally(
    settings: &Settings,
    policy: Policy,
    until: EventTime,
    stop: &Stop,
) -> Result<Tally, Failure> {
    let mut world = settings.make_world()?;
    let mut lists = Lists::new(&world, policy);
    let mut tally = Tally::default();
    let mut window: VecDeque<(Visit, Vec<ItemId>)> = VecDeque::new();
    while !stop.is_requested() {
        while window.len() < settings.in_flight
            && world.next_at().is_some_and(|at| {
                at <= until && may_open(at, window.front().map(|(visit, _)| visit.at))
            })
        {
            let Some(visit) = world.next_visit() else { break };
            tally.visits += 1;
            tally.now = visit.at;
            if visit.intent == Intent::Feed {
                let list = lists.list(&world, &visit, settings.count);
                window.push_back((visit, list));
            } else {
                let response = world.organic(&visit);
                lists.learn(&visit, &response);
            }
        }
        let Some((visit, list)) = window.pop_front() else { break };
        let response = world.respond(&visit, &list, visit.at.plus_millis(ANSWER_MS));
        lists.learn(&visit, &response);
        tally.lists += 1;
        tally.shown += list.len() as u64;
        tally.clicks += response.clicks as u64;
        tally.unknown += response.unknown as u64;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pace::Speed;
    use crate::simulation::WorldConfig;

    fn settings() -> Settings {
        let world =
            WorldConfig { users: 150, items: 600, creators: 60, days: 1, ..WorldConfig::default() };
        Settings { world, ..Settings::new(Policy::Random, Speed::Max) }
    }

    fn ctr(policy: Policy) -> f64 {
        let settings = settings();
        let until = settings.world.end();
        run_locally(&settings, policy, until, &Stop::default()).unwrap().ctr()
    }

    #[test]
    fn popular_lists_beat_random_ones_and_the_oracle_beats_both() {
        let [random, popular, oracle] = Policy::LOCAL.map(ctr);
        assert!(popular > random && oracle > 2.0 * popular, "{random} {popular} {oracle}");
    }

    #[test]
    fn the_same_world_gives_the_same_counts() {
        assert_eq!(ctr(Policy::Random), ctr(Policy::Random));
    }

    #[test]
    fn a_popular_list_is_made_of_published_items_that_are_new_to_the_user() {
        let mut world = settings().make_world().unwrap();
        let mut lists = Lists::new(&world, Policy::Popular);
        let mut seen: HashMap<UserId, HashSet<ItemId>> = HashMap::new();
        while let Some(visit) = world.next_visit() {
            let list = lists.list(&world, &visit, 10);
            let known = seen.entry(visit.user.clone()).or_default();
            let spare = known.len() + 10 < world.items().len() / 2;
            for item in &list {
                assert!(world.item(item).unwrap().published <= visit.at);
                assert!(!spare || !known.contains(item));
            }
            let response = world.respond(&visit, &list, visit.at);
            lists.learn(&visit, &response);
            known.extend(list.iter().cloned());
            known.extend(response.actions.iter().map(|action| action.item().clone()));
        }
    }
}

//! The world behaves like one: repeatable, ordered, with tastes that a better list can serve.

use std::collections::{HashMap, HashSet};

use crate::ids::ItemId;
use crate::time::{DAY_MS, EventTime, HOUR_MS};

use super::dice::{Dice, Purpose};
use super::{Action, Intent, Response, Shift, Visit, World, WorldConfig, WorldError};

/// Positions in a served list.
const SHOWN: usize = 10;

fn config(users: usize, days: u32) -> WorldConfig {
    WorldConfig { users, days, items: 1_000, creators: 100, ..WorldConfig::default() }
}

/// A way to fill a list.
#[derive(Clone, Copy, Debug)]
enum Policy {
    Random,
    Popular,
    Oracle,
}

impl Policy {
    fn list(self, world: &World, visit: &Visit, shown: &HashSet<ItemId>) -> Vec<ItemId> {
        let published = || world.items().iter().filter(|item| item.published <= visit.at);
        match self {
            Policy::Random => {
                let occasion = [visit.at.millis() as u64, u64::from(visit.page), 0, 0];
                let mut dice = Dice::new(99, Purpose::Page, occasion);
                let items: Vec<_> = published().collect();
                (0..SHOWN).map(|_| items[dice.below(items.len())].id.clone()).collect()
            }
            Policy::Popular => {
                let mut items: Vec<_> = published().collect();
                items.sort_by(|a, b| b.popularity.total_cmp(&a.popularity));
                let unseen = items.iter().filter(|item| !shown.contains(&item.id));
                unseen.take(SHOWN).map(|item| item.id.clone()).collect()
            }
            Policy::Oracle => world.best_items(&visit.user, SHOWN, visit.at),
        }
    }
}

struct Run {
    visits: Vec<Visit>,
    responses: Vec<Response>,
    shown: usize,
    clicks: usize,
}

impl Run {
    fn ctr(&self) -> f64 {
        self.clicks as f64 / self.shown as f64
    }
}

fn run(world: &mut World, policy: Policy) -> Run {
    let mut run = Run { visits: vec![], responses: vec![], shown: 0, clicks: 0 };
    let mut shown: HashMap<_, HashSet<ItemId>> = HashMap::new();
    while let Some(visit) = world.next_visit() {
        let response = match visit.intent {
            Intent::Search => world.organic(&visit),
            Intent::Feed => {
                let seen = shown.entry(visit.user.clone()).or_default();
                let list = policy.list(world, &visit, seen);
                seen.extend(list.iter().cloned());
                let response = world.respond(&visit, &list, visit.at.plus_millis(80));
                run.shown += list.len();
                run.clicks += response.clicks;
                response
            }
        };
        run.visits.push(visit);
        run.responses.push(response);
    }
    run
}

fn fresh(config: WorldConfig, policy: Policy) -> Run {
    run(&mut World::new(config).unwrap(), policy)
}

#[test]
fn the_same_seed_gives_the_same_world_and_the_same_actions() {
    let text = |seed| {
        let run = fresh(WorldConfig { seed, ..config(80, 2) }, Policy::Random);
        format!("{:?} {:?}", run.visits, run.responses)
    };
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}

#[test]
fn a_better_list_is_clicked_more_by_a_wide_margin() {
    let [random, popular, oracle] = [Policy::Random, Policy::Popular, Policy::Oracle]
        .map(|policy| fresh(config(250, 3), policy).ctr());
    assert!((0.05..=0.08).contains(&random), "random {random:.4}");
    assert!(popular > 1.3 * random, "popular {popular:.4}, random {random:.4}");
    assert!(oracle > 2.0 * popular, "oracle {oracle:.4}, popular {popular:.4}");
    assert!(oracle > 4.0 * random, "oracle {oracle:.4}, random {random:.4}");
}

#[test]
fn better_lists_keep_people_longer_and_sessions_stay_plausible() {
    let pages = |policy| {
        let run = fresh(config(250, 3), policy);
        let mut sessions: HashMap<&str, usize> = HashMap::new();
        for visit in &run.visits {
            *sessions.entry(&visit.session).or_default() += 1;
        }
        assert!(sessions.values().all(|&pages| pages <= 25));
        run.visits.len() as f64 / sessions.len() as f64
    };
    let (random, oracle) = (pages(Policy::Random), pages(Policy::Oracle));
    assert!((1.3..3.0).contains(&random), "random: {random:.2} pages a session");
    assert!((2.0..8.0).contains(&oracle), "oracle: {oracle:.2} pages a session");
    assert!(oracle > 1.3 * random, "oracle {oracle:.2}, random {random:.2}");
}

#[test]
fn visits_come_in_time_order_within_the_run_and_begin_at_once() {
    let world = config(200, 2);
    let (start, end) = (world.start, world.end());
    let run = fresh(world, Policy::Popular);
    assert!(run.visits.is_sorted_by_key(|visit| visit.at));
    assert!(run.visits.iter().all(|visit| visit.at >= start && visit.at < end));
    assert!(run.visits[0].at.since(start) < 30_000);
}

#[test]
fn actions_follow_their_visit_in_time_order_with_ids_of_their_own() {
    let run = fresh(config(150, 2), Policy::Oracle);
    let mut ids = HashSet::new();
    for (visit, response) in run.visits.iter().zip(&run.responses) {
        assert!(response.actions.is_sorted_by_key(Action::at));
        assert!(response.actions.iter().all(|action| action.at() >= visit.at));
        assert!(response.actions.iter().all(|action| action.at() <= response.next_at));
        for action in &response.actions {
            assert!(ids.insert(action.event_id().to_owned()), "{} twice", action.event_id());
            assert!(action.event_id().starts_with(&visit.session));
        }
    }
    assert!(ids.len() > 500, "{} actions", ids.len());
}

#[test]
fn sessions_of_a_person_do_not_overlap() {
    let run = fresh(config(150, 3), Policy::Oracle);
    let mut last: HashMap<_, (String, EventTime)> = HashMap::new();
    for (visit, response) in run.visits.iter().zip(&run.responses) {
        if let Some((session, until)) = last.get(&visit.user) {
            assert!(visit.at >= *until, "{visit:?} before {until:?}");
            let gap = visit.at.since(*until);
            assert!(*session == visit.session || gap >= 45 * 60_000, "{gap} ms");
        }
        last.insert(visit.user.clone(), (visit.session.clone(), response.next_at));
    }
}

#[test]
fn evenings_are_busier_than_nights_and_people_peak_at_different_hours() {
    let mut world = World::new(config(400, 4)).unwrap();
    let peaks: Vec<f64> = world.people().iter().map(|person| person.peak_hour).collect();
    let midday = peaks.iter().filter(|&&hour| (9.0..16.0).contains(&hour)).count();
    assert!(midday > 60, "{midday} of 400 peak at midday");
    let mut hours = [0usize; 24];
    for visit in run(&mut world, Policy::Random).visits {
        hours[(visit.at.millis().rem_euclid(DAY_MS) / HOUR_MS) as usize] += 1;
    }
    let evening: usize = hours[18..22].iter().sum();
    let night: usize = hours[2..6].iter().sum();
    assert!(evening > 3 * night, "evening {evening}, night {night}");
}

#[test]
fn the_first_position_is_clicked_more_than_the_last() {
    let run = fresh(config(400, 4), Policy::Random);
    let mut clicks = [0usize; SHOWN];
    for action in run.responses.iter().flat_map(|response| &response.actions) {
        if let Action::Click { position: Some(position), .. } = action {
            clicks[*position as usize] += 1;
        }
    }
    let (first, last): (usize, usize) = (clicks[..3].iter().sum(), clicks[7..].iter().sum());
    assert!(first as f64 > 1.7 * last as f64, "clicks by position: {clicks:?}");
}

#[test]
fn good_matches_are_watched_longer() {
    let mut world = World::new(config(250, 3)).unwrap();
    let run = run(&mut world, Policy::Random);
    let (mut good, mut poor) = ((0.0, 0.0), (0.0, 0.0));
    for (visit, response) in run.visits.iter().zip(&run.responses) {
        for action in &response.actions {
            if let Action::Watch { item, watched_ms, duration_ms, .. } = action {
                assert!(watched_ms <= duration_ms && *watched_ms > 0);
                let fit = world.affinity(&visit.user, item).unwrap();
                let sum = if fit > 2.5 { &mut good } else { &mut poor };
                sum.0 += *watched_ms as f64 / *duration_ms as f64;
                sum.1 += 1.0;
            }
        }
    }
    let (good, poor) = (good.0 / good.1, poor.0 / poor.1);
    assert!(good > poor + 0.15, "watched share {good:.2} of good matches, {poor:.2} of others");
}

#[test]
fn an_item_watched_before_is_hardly_clicked_again() {
    let mut world = World::new(config(50, 3)).unwrap();
    let mut checked = 0;
    while let Some(visit) = world.next_visit() {
        let best = world.best_items(&visit.user, SHOWN, visit.at);
        let before: HashMap<&ItemId, Option<f64>> =
            best.iter().map(|item| (item, world.click_probability(&visit.user, item))).collect();
        let response = world.respond(&visit, &best, visit.at);
        for action in &response.actions {
            let after = world.click_probability(&visit.user, action.item());
            assert!(after.unwrap() < 0.5 * before[action.item()].unwrap());
            checked += 1;
        }
    }
    assert!(checked > 100);
}

#[test]
fn people_find_items_of_their_own_taste_without_a_recommender() {
    let mut world = World::new(config(200, 3)).unwrap();
    let run = run(&mut world, Policy::Random);
    let (mut found, mut sum) = (0, 0.0);
    for (visit, response) in run.visits.iter().zip(&run.responses) {
        if visit.intent == Intent::Search {
            assert_eq!(visit.surface.as_str(), "search");
            for action in &response.actions {
                let Action::Click { item, position, .. } = action else { continue };
                assert_eq!(*position, None);
                sum += world.affinity(&visit.user, item).unwrap();
                found += 1;
            }
        }
    }
    let person = &world.people()[0].id;
    let items = world.items();
    let average = items.iter().map(|item| world.affinity(person, &item.id).unwrap()).sum::<f64>()
        / items.len() as f64;
    assert!(found > 300, "{found} found");
    assert!(sum / f64::from(found) > average + 1.5, "{} against {average}", sum / f64::from(found));
}

#[test]
fn nothing_is_clicked_or_found_before_it_is_published() {
    let mut world = World::new(config(100, 4)).unwrap();
    let (start, end) = (world.config().start, world.config().end());
    assert!(world.published(start, end).count() > 100);
    let all: Vec<ItemId> = world.items().iter().map(|item| item.id.clone()).collect();
    while let Some(visit) = world.next_visit() {
        let response = match visit.intent {
            Intent::Search => world.organic(&visit),
            Intent::Feed => world.respond(&visit, &all, visit.at),
        };
        for action in &response.actions {
            assert!(world.item(action.item()).unwrap().published <= action.at());
        }
    }
}

#[test]
fn ids_of_another_world_are_counted_and_not_clicked() {
    let mut world = World::new(config(20, 1)).unwrap();
    let foreign: Vec<ItemId> =
        ["", "v1", "v9999999", "é0000001", "u0000001", "v00000001"].map(ItemId::from).to_vec();
    let visit = world.next_visit().unwrap();
    let response = world.respond(&visit, &foreign, visit.at);
    assert_eq!((response.clicks, response.unknown), (0, foreign.len()));
}

#[test]
fn a_taste_shift_makes_yesterdays_best_items_worse() {
    let mut world = World::new(config(200, 2)).unwrap();
    let start = world.config().start;
    let noon = start.plus_millis(DAY_MS);
    let best: Vec<_> = world
        .people()
        .iter()
        .map(|person| (person.id.clone(), world.best_items(&person.id, SHOWN, start)))
        .collect();
    let liking = |world: &World| {
        let pairs = best.iter().flat_map(|(user, items)| items.iter().map(move |i| (user, i)));
        pairs.map(|(user, item)| world.affinity(user, item).unwrap()).sum::<f64>()
    };
    world.apply(Shift::TasteShift { at: noon, share: 0.5, by: 5 });
    let before = liking(&world);
    while world.now() < noon {
        let steady = liking(&world);
        assert_eq!(steady, before, "shifted early, at {:?}", world.now());
        world.next_visit().unwrap();
    }
    let after = liking(&world);
    assert!((0.2..0.85).contains(&(after / before)), "{before} before, {after} after");
}

#[test]
fn an_unanswered_visit_does_not_lose_the_person() {
    let mut world = World::new(config(30, 3)).unwrap();
    let mut visits: HashMap<_, u32> = HashMap::new();
    while let Some(visit) = world.next_visit() {
        *visits.entry(visit.user).or_default() += 1;
    }
    assert!(visits.values().filter(|&&count| count > 1).count() > 20, "{visits:?}");
}

#[test]
fn a_configuration_that_makes_no_world_is_refused_by_name() {
    let name = |config: WorldConfig| match World::new(config).err() {
        Some(WorldError::Size { name, .. } | WorldError::Share { name, .. }) => name,
        None => "accepted",
    };
    assert_eq!(name(WorldConfig { users: 0, ..config(1, 1) }), "users");
    assert_eq!(name(WorldConfig { categories: 1, ..config(1, 1) }), "categories");
    assert_eq!(name(WorldConfig { organic_share: f64::NAN, ..config(1, 1) }), "organic_share");
    assert_eq!(name(WorldConfig { sessions_per_day: 0.0, ..config(1, 1) }), "sessions_per_day");
    assert_eq!(name(config(1, 1)), "accepted");
}

mod catalog;
mod kinds;
mod shown;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::catalog::Catalog;
use crate::embedding::{ItemTables, TablesConfig};
use crate::event::{History, Interaction, RecommendedItem, Request, Source};
use crate::feature::{FoldEvent, FoldRules, UserState};
use crate::global::{
    GlobalTables, HalfLives, NeighboursConfig, Scratch, TransitionLearner, TransitionsConfig,
    Waiting,
};
use crate::ids::{ItemId, Surface, UserId, stable_hash};
use crate::time::{EventTime, MINUTE_MS};

/// Some day in 2023.
const BASE: i64 = 1_700_000_000_000;
const RULES: FoldRules = FoldRules { history_limit: 6, ttl_days: 180 };
/// As lists are made by default, but for what is drawn at random.
const CERTAIN: ListRules = ListRules { diversity: 0.1, max_per_creator: 5, exploration: 0.0 };
const OWN_SESSION: u64 = 99;

/// One event of the user: clicked or watched, item, part watched in 1/20, seconds.
#[derive(Clone, Debug)]
struct Own {
    source: Source,
    item: u8,
    part: u64,
    seconds: u64,
}

fn name(item: u8) -> String {
    format!("v{item}")
}

/// Sessions of others: session, item, surface.
type Others = Vec<(u64, u8, &'static str)>;

fn others() -> impl Strategy<Value = Others> {
    let surface = prop_oneof![Just(""), Just("home"), Just("search")];
    vec((0..12u64, 0..25u8, surface), 0..80)
}

fn own() -> impl Strategy<Value = Vec<Own>> {
    let seconds = prop_oneof![Just(0u64), Just(30), Just(119), Just(120), Just(3_000)];
    let event =
        (any::<bool>(), 0..25u8, 0..22u64, seconds).prop_map(|(is_click, item, part, seconds)| {
            Own { source: Source::ALL[usize::from(is_click)], item, part, seconds }
        });
    vec(event, 0..16)
}

fn request() -> impl Strategy<Value = Request> {
    let surface = prop_oneof![Just(""), Just("home"), Just("nowhere")];
    let exclude = vec(0..30u8, 0..8);
    let context = proptest::option::of(0..30u8);
    (1..30usize, surface, exclude, context, any::<bool>(), any::<i64>()).prop_map(
        |(count, surface, exclude, context, include_seen, seed)| Request {
            surface: Surface::from(surface),
            exclude: exclude.into_iter().map(|n| ItemId::new(name(n))).collect(),
            context_item: context.map(|n| ItemId::new(name(n))),
            include_seen,
            seed: Some(seed),
            ..Request::new("request", UserId::from("user"), count)
        },
    )
}

fn tables(others: &Others) -> GlobalTables {
    let half_lives = HalfLives { default_hours: 24.0, by_surface: HashMap::new() };
    let mut global = GlobalTables::new(NeighboursConfig::default(), half_lives);
    for (n, (session, item, surface)) in others.iter().enumerate() {
        let item = name(*item);
        global.learn_one(&Interaction {
            source: Source::Click,
            session: *session as i64,
            event: n as i64,
            item: &item,
            event_time: BASE + n as i64 * MINUTE_MS,
            surface,
            ..Interaction::default()
        });
    }
    global.refresh();
    global
}

fn operand(events: &[Own]) -> Vec<u8> {
    let mut operand = Vec::new();
    for (n, own) in events.iter().enumerate() {
        let item = name(own.item);
        let event = FoldEvent {
            source: own.source,
            at: EventTime::from_millis(BASE + n as i64 * MINUTE_MS),
            id: n as u32,
            session: OWN_SESSION,
            watched_ms: own.seconds * 1_000 * own.part / 20,
            duration_ms: own.seconds * 1_000,
            item: &item,
            surface: "home",
        };
        event.encode(&mut operand);
    }
    operand
}

fn answer(request: &Request, user: &UserState<'_>, global: &GlobalTables) -> Outcome {
    answer_after(request, user, global, &Shown::default())
}

fn answer_after(
    request: &Request,
    user: &UserState<'_>,
    global: &GlobalTables,
    shown: &Shown,
) -> Outcome {
    untrained(CERTAIN).run(Query::new(
        request,
        World {
            user,
            global,
            catalog: &Catalog::default(),
            items: &ItemTables::new(TablesConfig::default()),
            blends: &Blends::default(),
            shown,
            ranking: None,
        },
    ))
}

/// Every item ever watched or clicked, whether the history still holds it or not.
fn seen(events: &[Own]) -> BTreeSet<String> {
    events.iter().map(|e| name(e.item)).collect()
}

/// The newest events that the history holds, oldest first.
fn history(events: &[Own]) -> Vec<Own> {
    let mut kept: Vec<(usize, Own)> = Vec::new();
    for source in Source::ALL {
        let of_source = events.iter().enumerate().rev().filter(|(_, e)| e.source == source);
        kept.extend(of_source.take(RULES.history_limit).map(|(n, e)| (n, e.clone())));
    }
    kept.sort_by_key(|(n, _)| *n);
    kept.into_iter().map(|(_, e)| e).collect()
}

/// Long watches given up in the middle, newest first, each item by its newest watch.
fn unfinished(events: &[Own]) -> Vec<String> {
    let mut looked_at = BTreeSet::new();
    history(events)
        .into_iter()
        .rev()
        .filter(|e| e.source == Source::Watch && looked_at.insert(e.item))
        .filter(|e| e.seconds >= 120 && e.part * 5 >= 15 && e.part * 5 < 90)
        .map(|e| name(e.item))
        .take(3)
        .collect()
}

/// What the untrained pipeline should score every item with that may be in the list.
fn scores(events: &[Own], request: &Request, global: &GlobalTables) -> BTreeMap<String, f64> {
    let mut by_source: Vec<(&[f64], BTreeMap<String, f32>)> = Vec::new();
    let items = global.items();

    let mut session = Vec::new();
    let context = request.context_item.iter().map(ToString::to_string);
    let newest_first = history(events).into_iter().rev();
    let liked = newest_first
        .filter(|e| e.source == Source::Click || e.seconds == 0 || e.part * 5 >= 10)
        .map(|e| name(e.item));
    for handle in context.chain(liked).filter_map(|item| items.find(&item)) {
        if session.last() != Some(&handle) {
            session.insert(session.len(), handle);
        }
    }
    session.truncate(10);
    session.reverse();
    let last = EventTime::from_millis(BASE + (events.len() as i64 - 1) * MINUTE_MS);
    let (at, own) =
        if events.is_empty() { (global.watermark(), None) } else { (last, Some(OWN_SESSION)) };
    let table = global.neighbours();
    let found = table.recommend(&session, at, own, 400, &mut Scratch::default());
    // To somebody who wants nothing seen, what was seen is put forward as unfinished alone.
    let (seen, continued) = (seen(events), unfinished(events));
    let wanted = |item: &String| request.include_seen || !seen.contains(item);
    let neighbours = found.iter().map(|n| (items.name(n.item).to_string(), n.score));
    let neighbours = neighbours.filter(|(item, _)| wanted(item));
    // Eight sources are learned, each heard in three powers of its scores; one voice is chance.
    let equal = [1.0 / 25.0; 3];
    by_source.push((&equal, neighbours.collect()));

    let begun = continued.iter().cloned().enumerate();
    by_source.push((&[0.05], begun.map(|(n, i)| (i, 1.0 / (1.0 + n as f32))).collect()));

    let mut trending: BTreeMap<String, f32> = BTreeMap::new();
    let mut least = 1.0 / 0.9;
    let mut places = vec![request.surface.as_str(), ""];
    places.dedup();
    for place in places {
        let top = global.trending().top(place);
        let scale = top.first().map_or(0.0, |best| least * 0.9 / best.1);
        let named = top.iter().map(|(item, score)| (items.name(*item).to_string(), score));
        for (item, score) in named.filter(|(item, _)| wanted(item)) {
            trending.entry(item).or_insert_with(|| {
                least = score * scale;
                least
            });
        }
    }
    // Where nothing is known, what many like has 80 % before anything is learned.
    let nothing = events.is_empty() && request.context_item.is_none();
    let leaning = [0.2 / 25.0 + 0.8 / 3.0; 3];
    by_source.push((if nothing { &leaning } else { &equal }, trending));

    let allowed = |item: &String| {
        let is = |other: &ItemId| other.as_str() == item;
        let excluded = request.exclude.iter().chain(&request.context_item).any(is);
        let known = seen.contains(item) && !continued.contains(item);
        !excluded && (request.include_seen || !known)
    };
    let mut sum: BTreeMap<String, f64> = BTreeMap::new();
    for (weights, mut proposed) in by_source {
        proposed.retain(|item, _| allowed(item));
        for (weight, power) in weights.iter().zip([1.0, 0.5, 0.25]) {
            let mut powers: Vec<f64> =
                proposed.values().map(|score| f64::from(*score).powf(power)).collect();
            powers.sort_by(|a, b| b.total_cmp(a));
            let total: f64 = powers.iter().take(20).sum();
            for (item, score) in &proposed {
                *sum.entry(item.clone()).or_default() +=
                    weight * f64::from(*score).powf(power) / total;
            }
        }
    }
    sum
}

fn list(items: &[RecommendedItem]) -> Vec<&str> {
    items.iter().map(|i| i.item.as_str()).collect()
}

proptest! {
    #[test]
    fn the_list_is_the_best_of_what_may_be_in_it(
        others in others(),
        events in own(),
        request in request(),
    ) {
        let (global, operand) = (tables(&others), operand(&events));
        let mut user = UserState::default();
        user.fold(&operand, &RULES).unwrap();
        let outcome = answer(&request, &user, &global);
        let expected = scores(&events, &request, &global);

        prop_assert_eq!(outcome.items.len(), expected.len().min(request.count));
        let mut best: Vec<f64> = expected.values().copied().collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let mut there = BTreeSet::new();
        for (item, best) in outcome.items.iter().zip(best) {
            prop_assert!(there.insert(&item.item), "{} is there twice", item.item);
            prop_assert!((item.score - expected[&item.item]).abs() < 1e-6, "{item:?}");
            prop_assert!((item.score - best).abs() < 1e-6, "{item:?}");
        }
    }

    #[test]
    fn nothing_in_a_list_was_excluded_seen_or_unexplained(
        others in others(),
        events in own(),
        request in request(),
    ) {
        let (global, operand) = (tables(&others), operand(&events));
        let mut user = UserState::default();
        user.fold(&operand, &RULES).unwrap();
        let outcome = answer(&request, &user, &global);
        let (seen, continued) = (seen(&events), unfinished(&events));
        prop_assert!(outcome.items.len() <= request.count);
        prop_assert!(outcome.items.windows(2).all(|w| w[0].score >= w[1].score));
        for item in &outcome.items {
            let is = |other: &ItemId| other.as_str() == item.item;
            prop_assert!(!request.exclude.iter().chain(&request.context_item).any(is));
            let known = seen.contains(&item.item) && !continued.contains(&item.item);
            prop_assert!(request.include_seen || !known, "{} is known", item.item);
            prop_assert!(["neighbours", "trending", "unfinished"].contains(&item.source.as_str()));
            prop_assert!(!item.reasons.is_empty());
            prop_assert!(item.reasons.iter().all(|r| !r.kind.is_empty() && !r.text.is_empty()));
            prop_assert!((item.propensity - 1.0).abs() < 1e-9);
        }
        let short = outcome.items.len() < request.count;
        prop_assert_eq!(outcome.degraded.iter().any(|d| d.part == "count"), short);
        let blind = others.is_empty();
        prop_assert_eq!(outcome.degraded.iter().any(|d| d.part == "trending"), blind);
    }

    #[test]
    fn the_same_seed_gives_the_same_list_and_another_only_moves_equals(
        others in others(),
        events in own(),
        request in request(),
        seed in any::<i64>(),
    ) {
        let (global, operand) = (tables(&others), operand(&events));
        let mut user = UserState::default();
        user.fold(&operand, &RULES).unwrap();
        let first = answer(&request, &user, &global);
        let again = answer(&request, &user, &tables(&others));
        prop_assert_eq!(&first.items, &again.items);
        let other = Request { seed: Some(seed), ..request };
        let other = answer(&other, &user, &global);
        let scores = |o: &Outcome| o.items.iter().map(|i| i.score).collect::<Vec<_>>();
        prop_assert_eq!(scores(&first), scores(&other));
    }
}

#[test]
fn a_request_without_a_seed_is_seeded_by_its_id() {
    let global = tables(&(0..20).map(|n| (u64::from(n), n, "home")).collect());
    let user = UserState::default();
    let ask = |id: &str, seed: Option<i64>| {
        let request = Request { seed, ..Request::new(id, UserId::from("user"), 20) };
        let items = answer(&request, &user, &global).items;
        items.into_iter().map(|i| i.item).collect::<Vec<_>>()
    };
    assert_eq!(ask("a", None), ask("a", None));
    assert_eq!(ask("a", None), ask("b", Some(stable_hash(b"a") as i64)));
    assert_eq!(ask("a", Some(1)), ask("b", Some(1)));
}

#[test]
fn equals_are_ordered_by_the_seed() {
    let others: Others = (0..20).map(|n| (u64::from(n), n, "home")).collect();
    let half_lives = HalfLives { default_hours: 1e6, by_surface: HashMap::new() };
    let mut global = GlobalTables::new(NeighboursConfig::default(), half_lives);
    for (session, item, surface) in &others {
        let (session, item) = (*session as i64, name(*item));
        let one =
            Interaction { session, item: &item, surface, event: session, ..Interaction::default() };
        global.learn_one(&one);
    }
    global.refresh();
    let user = UserState::default();
    let orders: BTreeSet<Vec<String>> = (0..8)
        .map(|seed| {
            let request =
                Request { seed: Some(seed), ..Request::new("r", UserId::from("user"), 20) };
            let items = answer(&request, &user, &global).items;
            items.into_iter().map(|i| i.item).collect()
        })
        .collect();
    assert!(orders.len() > 4, "{} orders of 8 seeds", orders.len());
}

#[test]
fn where_nothing_is_known_the_answer_is_empty_and_says_why() {
    let request = Request::new("r", UserId::from("user"), 10);
    let outcome = answer(&request, &UserState::default(), &tables(&vec![]));
    assert!(outcome.items.is_empty());
    let parts: Vec<_> = outcome.degraded.iter().map(|d| d.part.as_str()).collect();
    assert_eq!(parts, ["trending", "count"]);
    assert!(outcome.degraded.iter().all(|d| !d.reason.is_empty()));
}

#[test]
fn a_new_user_gets_what_trends_where_they_are() {
    let mut others = vec![(1, 1, "home"), (2, 1, "home"), (3, 2, "home")];
    others.extend([(4, 3, "search"), (5, 3, "search"), (6, 3, "search")]);
    let request =
        Request { surface: Surface::from("home"), ..Request::new("r", UserId::from("user"), 3) };
    let outcome = answer(&request, &UserState::default(), &tables(&others));
    assert_eq!(list(&outcome.items), ["v1", "v2", "v3"], "what trends elsewhere only fills up");
    assert_eq!(outcome.items[0].reasons[0].text, "Trending on home");
    assert_eq!(outcome.items[2].reasons[0].text, "Trending");
    assert!(outcome.degraded.is_empty());
}

#[test]
fn an_unfinished_watch_is_offered_though_it_was_seen() {
    let watch = |item, part, seconds| Own { source: Source::Watch, item, part, seconds };
    let events = [watch(1, 10, 600), watch(2, 19, 600), watch(3, 2, 600), watch(4, 10, 100)];
    let operand = operand(&events);
    let mut user = UserState::default();
    user.fold(&operand, &RULES).unwrap();
    let request = Request::new("r", UserId::from("user"), 5);
    let outcome = answer(&request, &user, &tables(&vec![]));
    assert_eq!(list(&outcome.items), ["v1"], "finished, disliked and short ones are not");
    assert_eq!(outcome.items[0].reasons[0].kind, "continue_watching");
    assert_eq!(outcome.items[0].source, "unfinished");
}

#[test]
fn what_others_watched_with_it_is_explained_by_the_item() {
    let others: Others = (0..5).flat_map(|s| [(s, 1, "home"), (s, 2, "home")]).collect();
    let click = Own { source: Source::Click, item: 1, part: 0, seconds: 0 };
    let operand = operand(&[click]);
    let mut user = UserState::default();
    user.fold(&operand, &RULES).unwrap();
    let request = Request::new("r", UserId::from("user"), 1);
    let outcome = answer(&request, &user, &tables(&others));
    assert_eq!(list(&outcome.items), ["v2"]);
    assert_eq!(outcome.items[0].source, "neighbours");
    let reason = &outcome.items[0].reasons[0];
    assert_eq!(reason.kind, "because_you_watched");
    assert_eq!(reason.item.as_deref(), Some("v1"));
}

#[test]
fn what_follows_a_history_is_put_forward_with_the_item_that_it_follows() {
    let mut global = tables(&vec![]);
    global.transitions().follow();
    // v2 follows v1 and v4 follows v3, each for people who share no session.
    for n in 0..1_200 {
        let (before, item) = [("v1", "v2"), ("v3", "v4")][n as usize % 2];
        let history = Some(History::of([stable_hash(before.as_bytes())]));
        let known = Interaction { session: n, event: -n, item: before, ..Interaction::default() };
        let one = Interaction { session: -n, event: n, item, history, ..Interaction::default() };
        global.learn_one(&Interaction { history: Some(History::of([])), ..known });
        global.learn_one(&one);
    }
    global.refresh();
    let mut learner =
        TransitionLearner::new(TransitionsConfig { lambda: 1.0, ..TransitionsConfig::default() });
    let mut waiting = Waiting::default();
    global.transitions().take(&mut waiting);
    learner.learn(&waiting);
    assert_eq!(learner.missing(), 0);
    let map = learner.begin().solve(|| true).unwrap();
    global.transitions().publish(Arc::new(map));
    let click = |item| Own { source: Source::Click, item, part: 0, seconds: 0 };
    let operand = operand(&[click(3), click(1)]);
    let mut user = UserState::default();
    user.fold(&operand, &RULES).unwrap();
    let request = Request::new("r", UserId::from("user"), 2);
    let outcome = answer(&request, &user, &global);
    assert_eq!(list(&outcome.items), ["v2", "v4"], "what follows the newest is first");
    assert_eq!(outcome.items[0].source, "transitions");
    for (item, cause) in outcome.items.iter().zip(["v1", "v3"]) {
        let reason = item.reasons.iter().find(|reason| reason.kind == "because_you_watched");
        assert_eq!(reason.and_then(|reason| reason.item.as_deref()), Some(cause), "{item:?}");
    }
}

#[test]
fn many_excluded_items_do_not_shorten_the_list_while_others_are_left() {
    let half_lives = HalfLives { default_hours: 24.0, by_surface: HashMap::new() };
    let mut global = GlobalTables::new(NeighboursConfig::default(), half_lives);
    for n in 0..900 {
        let item = format!("v{n}");
        let one = Interaction { session: n, event: n, item: &item, ..Interaction::default() };
        global.learn_one(&one);
    }
    global.refresh();
    let request = Request {
        exclude: (0..800).map(|n| ItemId::new(format!("v{n}"))).collect(),
        ..Request::new("r", UserId::from("user"), 100)
    };
    let outcome = answer(&request, &UserState::default(), &global);
    assert_eq!(outcome.items.len(), 100, "{:?}", outcome.degraded);
}

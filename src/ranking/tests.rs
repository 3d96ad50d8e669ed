use proptest::prelude::*;

use super::features::{DENSE, SLOTS};
use super::*;
use crate::time::HOUR_MS;

/// Exposures of three users, in the order of time.
#[derive(Clone, Debug)]
struct Shown {
    user: u64,
    item: usize,
    surface: u64,
    at: i64,
    outcome: Outcome,
    base: [f32; TARGETS],
}

fn shown() -> impl Strategy<Value = Vec<Shown>> {
    let one = (
        (1u64..4, 0usize..6, 1u64..4, 0i64..90 * HOUR_MS),
        (any::<bool>(), any::<bool>(), 0u64..90_000),
        (0.05f32..0.9, 0.05f32..0.9),
    );
    let one = one.prop_map(|((user, item, surface, at), (clicked, long_view, ms), (a, b))| Shown {
        user,
        item,
        surface,
        at,
        outcome: Outcome { clicked, long_view, watched_ms: ms },
        base: [a, b],
    });
    prop::collection::vec(one, 0..60).prop_map(|mut shown| {
        shown.sort_by_key(|one| one.at);
        shown
    })
}

fn items() -> Vec<Item> {
    let item = |n: u64| Item {
        id: 100 + n,
        creator: n % 3,
        category: (n % 2) << 40,
        duration_ms: n * n * 3_000,
        published: (n > 2).then(|| EventTime::from_millis(n as i64)),
        attributes: vec![n],
    };
    (0..6).map(item).collect()
}

fn example<'a>(shown: &Shown, items: &'a [Item]) -> Example<'a> {
    let Shown { user, surface, at, outcome, base, .. } = *shown;
    let context = Context { user, surface, at: EventTime::from_millis(at), profile: &[7] };
    Example { context, item: &items[shown.item], base, outcome }
}

fn watch(shown: &Shown, items: &[Item]) -> Watch {
    let at = EventTime::from_millis(shown.at);
    Watch::of(&items[shown.item], shown.outcome.long_view, at)
}

fn fold(shown: &[Shown], items: &[Item]) -> Globals {
    let mut globals = Globals::new(Limits::default());
    for one in shown {
        globals.learn(&example(one, items));
        globals.co_visits.learn(CLICK, items[one.item].id, &[101, 102]);
    }
    globals
}

fn counters(shown: &[Shown], items: &[Item], user: u64) -> UserCounters {
    let mut counters = UserCounters::default();
    let own = shown.iter().filter(|one| one.user == user);
    own.for_each(|one| counters.learn(&example(one, items)));
    counters
}

/// Features of every item for user 1 on surface 1 at `at`.
fn features(globals: &Globals, shown: &[Shown], items: &[Item], at: i64) -> Vec<Features> {
    let own: Vec<&Shown> = shown.iter().rev().filter(|one| one.user == 1).collect();
    let watches: Vec<Watch> = own.iter().map(|one| watch(one, items)).collect();
    let taken: Vec<u64> = own.iter().map(|one| items[one.item].id).collect();
    let mut exposures = Exposures::default();
    for one in own.iter().rev() {
        exposures.learn(one.surface, items[one.item].id, EventTime::from_millis(one.at));
    }
    let user = counters(shown, items, 1);
    let context = Context { user: 1, surface: 1, at: EventTime::from_millis(at), profile: &[5, 6] };
    let history = History { watches: &watches, taken: [&taken, &taken] };
    let viewer = Viewer::new(globals, context, &user, &exposures, history);
    let of = |item: &Item| {
        let mut out = Features::default();
        viewer.features_of(item, &mut out);
        out
    };
    items.iter().map(of).collect()
}

#[test]
fn every_dense_feature_has_a_name_of_its_own() {
    let unique: std::collections::HashSet<_> = names().iter().collect();
    assert_eq!((names().len(), unique.len()), (DENSE, DENSE));
}

#[test]
fn the_rate_of_a_users_long_views_is_read_back_from_their_features() {
    let globals = Globals::new(Limits::default());
    let watch = |n: i64| Watch::of(&items()[1], n % 3 == 0, EventTime::from_millis(-n));
    let watches: Vec<Watch> = (0..12).map(watch).collect();
    let context = Context { user: 1, surface: 2, at: EventTime::from_millis(0), profile: &[] };
    let (counters, exposures) = Default::default();
    let history = History { watches: &watches, taken: [&[], &[]] };
    let mut features = Features::default();
    Viewer::new(&globals, context, &counters, &exposures, history)
        .features_of(&Item::default(), &mut features);
    let rate = user_rate(&watches, globals.long_view_rate());
    assert!((features.user_rate() - rate).abs() < 1e-5, "{} {rate}", features.user_rate());
}

#[test]
fn the_schema_changes_only_on_purpose() {
    // A new number here is a new meaning: examples and weights of the old one are refused.
    assert_eq!(schema(), SCHEMA);
}

const SCHEMA: u64 = 14_622_395_925_236_197_815;

proptest! {
    #[test]
    fn features_are_finite_and_bounded_whatever_happened(
        shown in shown(), at in -HOUR_MS..200 * HOUR_MS
    ) {
        let items = items();
        let mut globals = fold(&shown, &items);
        for one in &shown {
            globals.watched(&watch(one, &items), 0.5);
        }
        for features in features(&globals, &shown, &items, at) {
            for (name, x) in names().iter().zip(features.dense) {
                prop_assert!(x.is_finite() && x.abs() <= 4.0, "{name} is {x}");
            }
            prop_assert!(features.ids.iter().all(|&slot| (slot as usize) < SLOTS));
            prop_assert!(features.base_rates().iter().all(|b| (0.0..=1.0).contains(b)));
        }
    }

    #[test]
    fn merging_the_folds_of_parts_gives_the_features_of_the_whole(
        shown in shown(), cut in any::<prop::sample::Index>()
    ) {
        let items = items();
        let cut = cut.index(shown.len() + 1);
        let mut merged = fold(&shown[..cut], &items);
        merged.merge(&fold(&shown[cut..], &items));
        let whole = fold(&shown, &items);
        let both = [merged, whole].map(|globals| features(&globals, &shown, &items, 100 * HOUR_MS));
        for (merged, whole) in both[0].iter().zip(&both[1]) {
            prop_assert_eq!(&merged.ids, &whole.ids);
            for ((name, a), b) in names().iter().zip(merged.dense).zip(whole.dense) {
                prop_assert!((a - b).abs() < 2e-4, "{} is {} and {}", name, a, b);
            }
        }
    }

    #[test]
    fn a_users_counters_come_back_from_their_bytes(shown in shown()) {
        let counters = counters(&shown, &items(), 1);
        let bytes = counters.encode();
        prop_assert_eq!(UserCounters::decode(&bytes), Ok(counters));
        for end in 0..bytes.len() {
            prop_assert!(UserCounters::decode(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn changed_bytes_of_a_user_never_panic(
        shown in shown(), place in any::<prop::sample::Index>(), by in any::<[u8; 3]>()
    ) {
        let mut bytes = counters(&shown, &items(), 1).encode();
        let place = place.index(bytes.len() - 3);
        bytes[place..place + 3].copy_from_slice(&by);
        if let Ok(counters) = UserCounters::decode(&bytes) {
            prop_assert_eq!(UserCounters::decode(&counters.encode()), Ok(counters));
        }
    }

    #[test]
    fn a_user_keeps_the_creators_met_last(met in prop::collection::vec(1u64..200, 0..400)) {
        let mut counters = UserCounters::default();
        let mut newest: Vec<u64> = Vec::new();
        let mut met_here: std::collections::HashMap<u64, f32> = Default::default();
        for (n, &creator) in met.iter().enumerate() {
            let item = Item { id: 1, creator, ..Item::default() };
            let at = EventTime::from_millis(n as i64);
            let context = Context { user: 1, surface: 1, at, profile: &[] };
            let outcome = Outcome::default();
            counters.learn(&Example { context, item: &item, base: [0.5; 2], outcome });
            newest.retain(|other| *other != creator);
            newest.push(creator);
            *met_here.entry(creator).or_default() += 1.0;
            if newest.len() > user::CREATORS {
                met_here.remove(&newest.remove(0));
            }
        }
        let kept = counters.creators.0.iter();
        let kept: std::collections::HashMap<u64, f32> =
            kept.map(|(key, counter)| (u64::from(*key), counter.sums[0].n)).collect();
        prop_assert_eq!(kept, met_here);
    }
}

#[test]
fn what_was_shown_last_is_told_by_surface_session_and_item() {
    let minutes = |n: i64| EventTime::from_millis(n * 60_000);
    let mut exposures = Exposures::default();
    for (surface, item, at) in [(1, 10, 0), (1, 11, 5), (2, 10, 50), (1, 12, 60)] {
        exposures.learn(surface, item, minutes(at));
    }
    let seen = exposures.recency(2, minutes(70));
    assert_eq!(seen.newest, [Some(600.0), Some(1_200.0)]);
    assert_eq!(seen.on_surface, [Some(1_200.0), None]);
    assert_eq!(seen.in_session, 2);
    assert_eq!(exposures.recency(3, minutes(91)).in_session, 0);
    assert_eq!(exposures.of_item(10, minutes(70)), Some((1_200.0, 2)));
    assert_eq!(exposures.of_item(13, minutes(70)), None);
}

#[test]
fn an_item_that_is_taken_more_scores_higher_once_that_is_known() {
    let items = items();
    let at = |n: i64| n * 60_000;
    let mut learner = Learner::new(Kind::Kalman);
    let mut globals = Globals::new(Limits::default());
    for n in 0..4_000i64 {
        let item = &items[(n % 6) as usize];
        let clicked = n % 6 == 4 || (n % 6 == 5 && n % 5 == 0);
        let context =
            Context { user: 1, surface: 1, at: EventTime::from_millis(at(n)), profile: &[] };
        let (counters, exposures) = Default::default();
        let viewer = Viewer::new(&globals, context, &counters, &exposures, History::default());
        let mut served = Served::default();
        viewer.features_of(item, &mut served.features);
        served.logged = learner.weights().score(&served.features, 1, item.duration_ms).logged;
        let base = served.features.base_rates();
        let outcome = Outcome { clicked, ..Outcome::default() };
        let example = Example { context, item, base, outcome };
        globals.learn(&example);
        learner.learn(&served, &example);
    }
    let found = features(&globals, &[], &items, at(4_000));
    let click =
        |n: usize| learner.weights().score(&found[n], 1, items[n].duration_ms).probabilities[CLICK];
    assert!(click(4) > 0.8 && click(5) < 0.5 && click(5) > click(1), "{:?}", [4, 5, 1].map(click));
}

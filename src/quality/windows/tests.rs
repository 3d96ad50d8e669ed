use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::quality::outcome::{Labels, Outcome};
use crate::quality::rows::ListKey;

/// A list, in a minute and on a surface, of items with what came of each.
#[derive(Clone, Debug)]
struct Case {
    at: i64,
    surface: usize,
    user: u8,
    items: Vec<(u64, bool, u64, Option<f32>)>,
}

const SURFACES: [&str; 3] = ["home", "search", ""];
const LONG_VIEW_MS: u64 = 18_000;

fn cases() -> impl Strategy<Value = Vec<Case>> {
    let item = (0u64..400, any::<bool>(), 0u64..4_000_000, prop::option::of(0.01f32..0.99));
    let items = prop::collection::vec(item, 0..25);
    let case = (0i64..6 * WINDOW_MS, 0usize..3, 0u8..5, items);
    let case = case.prop_map(|(at, surface, user, items)| Case { at, surface, user, items });
    prop::collection::vec(case, 0..30).prop_map(|mut cases| {
        cases.sort_by_key(|case| case.at);
        cases
    })
}

fn add(windows: &mut Windows, case: &Case) {
    let names: Vec<String> = case.items.iter().map(|item| format!("v{}", item.0)).collect();
    let shown = |(name, (_, _, _, p)): (&'static str, &(u64, bool, u64, Option<f32>))| ShownItem {
        item: name,
        probabilities: p.map_or(Vec::new(), |p| vec![p, p / 2.0]),
        ranked: p.map_or(Vec::new(), |p| vec![p; DENSE + 4]),
        ..ShownItem::default()
    };
    let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
    let user = format!("u{}", case.user);
    let list = Impression {
        event_time: case.at,
        user: &user,
        surface: SURFACES[case.surface],
        ranker_schema: "s",
        items: names.into_iter().zip(&case.items).map(shown).collect(),
        ..Impression::default()
    };
    let labels = case.items.iter().map(|(_, clicked, watched_ms, _)| Labels {
        click_delay_ms: clicked.then_some(5),
        watches: u32::from(*watched_ms > 0),
        watched_ms: *watched_ms,
        duration_ms: 60_000,
    });
    let key = ListKey { at: EventTime::from_millis(case.at), list: 1 };
    windows.add(&list, &Closing { key, labels: labels.collect() }, 3, LONG_VIEW_MS);
}

fn group_of_user(user: u8) -> i32 {
    group_of(&Impression { user: &format!("u{user}"), ..Impression::default() })
}

fn at(ms: i64) -> Option<EventTime> {
    Some(EventTime::from_millis(ms))
}

/// All that windows tell of these cases; the store is read again at every `restart`.
fn told(cases: &[Case], restarts: &BTreeSet<usize>) -> Vec<MetricsWindow> {
    let mut windows = Windows::default();
    let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut told = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        add(&mut windows, case);
        let (new, changes) = windows.advance(at(case.at), None);
        told.extend(new);
        for (key, value) in changes {
            match value {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
        if restarts.contains(&n) {
            let rows = rows.iter().map(|(k, v)| Ok((k.clone().into(), v.clone().into())));
            windows = Windows::load::<Corrupt>(rows).unwrap();
        }
    }
    told.extend(windows.advance(at(i64::MAX), None).0);
    told
}

proptest! {
    #[test]
    fn windows_are_the_sums_of_their_lists_and_restarts_do_not_show(
        cases in cases(), restarts in prop::collection::btree_set(0usize..30, 0..6)
    ) {
        let all = told(&cases, &BTreeSet::new());
        prop_assert_eq!(&told(&cases, &restarts), &all);
        let keys: BTreeSet<(i64, &str)> =
            all.iter().map(|window| (window.start, window.surface.as_str())).collect();
        prop_assert_eq!(keys.len(), all.len(), "nothing is told twice where nothing comes late");
        for window in &all {
            let of_it = || cases.iter().filter(|case| {
                case.at.div_euclid(WINDOW_MS) * WINDOW_MS == window.start
                    && SURFACES[case.surface] == window.surface
            });
            let items = || of_it().flat_map(|case| &case.items);
            prop_assert_eq!((window.shard, window.revision), (3, 1));
            prop_assert_eq!(window.lists as usize, of_it().count());
            prop_assert_eq!(window.impressions as usize, items().count());
            prop_assert_eq!(window.clicks as usize, items().filter(|item| item.1).count());
            let watched: u64 = items().map(|item| item.2.min(1_800_000)).sum();
            prop_assert_eq!(window.watched_ms, watched as i64);
            let complete = items().filter(|item| item.2 >= 57_000).count();
            prop_assert_eq!(window.completions as usize, complete);
            let long = items().filter(|item| item.2 >= LONG_VIEW_MS).count();
            prop_assert_eq!(window.long_views as usize, long);
            let predicted = items().filter_map(|item| Some((item.1, f64::from(item.3?))));
            let loss: f64 = predicted.clone().map(|(y, p)| -(if y { p } else { 1.0 - p }).ln()).sum();
            let n = predicted.count();
            prop_assert!((window.click_log_loss_e6 as f64 / 1e6 - loss).abs() < 1e-4 * (n + 1) as f64);
            prop_assert_eq!(window.scores.iter().sum::<i64>(), n as i64);
            for user in 0..5 {
                let group = group_of_user(user);
                let of_group = || of_it().filter(|case| group_of_user(case.user) == group);
                let told = window.user_groups.iter().find(|told| told.group == group);
                let told = told.copied().unwrap_or_default();
                prop_assert_eq!(told.lists as usize, of_group().count());
                let clicks = of_group().flat_map(|case| &case.items).filter(|item| item.1).count();
                prop_assert_eq!(told.clicks as usize, clicks);
            }
            let mut sum = UserGroup::default();
            window.user_groups.iter().for_each(|group| sum.add(group));
            let whole = UserGroup {
                group: 0, lists: window.lists, impressions: window.impressions, clicks: window.clicks,
                long_views: window.long_views, completions: window.completions,
                watched_ms: window.watched_ms,
            };
            prop_assert_eq!(sum, whole, "groups add up to the whole");
            prop_assert!(window.user_groups.is_sorted_by_key(|group| group.group));
            let per_feature = window.feature_counts.iter().sum::<i64>() as usize;
            prop_assert_eq!(per_feature, n * DENSE);
        }
    }

    #[test]
    fn merging_is_exact_in_any_order_and_samples_are_of_the_whole(
        cases in cases(), order in Just((0..20usize).collect::<Vec<_>>()).prop_shuffle()
    ) {
        let all = told(&cases, &BTreeSet::new());
        let merged = |windows: &mut dyn Iterator<Item = &MetricsWindow>| {
            let mut whole = MetricsWindow::default();
            windows.for_each(|window| merge(&mut whole, window));
            whole
        };
        let forth = merged(&mut all.iter());
        let shuffled: Vec<_> = order.iter().filter_map(|n| all.get(*n)).collect();
        prop_assert_eq!(&merged(&mut shuffled.into_iter()), &forth);
        let mut counts: BTreeMap<u64, i64> = BTreeMap::new();
        for item in cases.iter().flat_map(|case| &case.items) {
            *counts.entry(stable_hash(format!("v{}", item.0).as_bytes())).or_default() += 1;
        }
        let naive: Vec<(u64, i64)> = counts.iter().map(|(k, n)| (*k, *n)).take(SAMPLE).collect();
        let sample: Vec<(u64, i64)> =
            forth.items.iter().map(|item| (item.item as u64, item.impressions)).collect();
        prop_assert_eq!(sample, naive);
        if counts.len() < SAMPLE {
            prop_assert_eq!(shown_items(&forth), counts.len() as f64);
        } else {
            let ratio = shown_items(&forth) / counts.len() as f64;
            prop_assert!((0.6..1.6).contains(&ratio), "{}", ratio);
        }
    }
}

#[test]
fn what_comes_late_makes_a_new_revision_until_its_lists_are_forgotten() {
    let mut windows = Windows::default();
    let case = Case { at: 5, surface: 0, user: 1, items: vec![(1, false, 0, None)] };
    add(&mut windows, &case);
    let (told, changes) = windows.advance(at(WINDOW_MS - 1), None);
    assert_eq!((told.len(), changes.len()), (0, 1), "its minute is not over");
    let (told, _) = windows.advance(at(WINDOW_MS), None);
    assert_eq!((told.len(), told[0].revision), (1, 1));
    assert_eq!(windows.advance(at(WINDOW_MS), None), (Vec::new(), Vec::new()));
    let outcome = Outcome {
        source: Source::Click,
        user: 1,
        item: 2,
        request: 0,
        at: EventTime::from_millis(6),
        id: 3,
        watched_ms: 0,
        duration_ms: 0,
    };
    let list = Impression { event_time: 5, surface: "home", ..Impression::default() };
    let key = ListKey { at: EventTime::from_millis(5), list: 1 };
    windows.correct(&list, &Correction { key, place: 0, outcome }, 3);
    let (told, _) = windows.advance(at(WINDOW_MS), None);
    assert_eq!((told[0].revision, told[0].late_clicks, told[0].clicks), (2, 1, 0));
    let (told, changes) = windows.advance(at(WINDOW_MS * 9), at(WINDOW_MS));
    assert_eq!((told.len(), changes.len(), windows.open.len()), (0, 1, 0));
    assert_eq!(changes[0].1, None);
}

#[test]
fn segments_beyond_those_of_a_minute_are_counted_as_others() {
    let mut windows = Windows::default();
    for n in 0..200 {
        let surface = format!("surface{n}");
        let list = Impression { event_time: 7, surface: &surface, ..Impression::default() };
        let key = ListKey { at: EventTime::from_millis(7), list: n };
        windows.add(&list, &Closing { key, labels: Vec::new() }, 0, LONG_VIEW_MS);
    }
    let (told, _) = windows.advance(at(WINDOW_MS), None);
    assert_eq!(told.len(), SEGMENTS + 1);
    let others = told.iter().find(|window| window.surface == OTHERS).unwrap();
    assert_eq!(others.lists, 200 - SEGMENTS as i64);
}

#[test]
fn gini_is_0_where_all_are_shown_alike_and_near_1_where_one_is() {
    let window = |counts: &[i64]| MetricsWindow {
        items: (0..).zip(counts).map(|(item, n)| SampledItem { item, impressions: *n }).collect(),
        ..MetricsWindow::default()
    };
    assert_eq!(gini(&window(&[])), None);
    assert_eq!(gini(&window(&[4, 4, 4])), Some(0.0));
    assert!(gini(&window(&[1, 1, 1, 1, 10_000])).unwrap() > 0.79);
}

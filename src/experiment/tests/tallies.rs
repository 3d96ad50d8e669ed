use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::tallies::{Metric, Tallies, lists_by_unit};
use crate::event::{MetricsWindow, UserGroup};

fn window(
    shard: i32,
    minute: i64,
    revision: i32,
    arm: &str,
    groups: &[(i32, i64)],
) -> MetricsWindow {
    let group = |(group, lists): &(i32, i64)| UserGroup {
        group: *group,
        lists: *lists,
        impressions: lists * 10,
        clicks: *lists,
        watched_ms: lists * 7_000,
        ..UserGroup::default()
    };
    MetricsWindow {
        shard,
        start: minute * 60_000,
        revision,
        arm: arm.to_owned(),
        user_groups: groups.iter().map(group).collect(),
        ..MetricsWindow::default()
    }
}

proptest! {
    #[test]
    fn each_window_counts_once_by_its_highest_revision(
        told in prop::collection::vec(
            (0..3i32, 0..5i64, 1..4i32, 0..2usize, 0..4i32, 1..9i64), 1..60
        )
    ) {
        let mut tallies = Tallies::new(0, i64::MAX);
        // The highest revision of each window, the first that was told of it.
        let mut last: BTreeMap<(i32, i64, usize), (i32, i32, i64)> = BTreeMap::new();
        for (shard, minute, revision, arm, group, lists) in told {
            let known = last.get(&(shard, minute, arm)).copied();
            let is_new = known.is_none_or(|(before, ..)| before < revision);
            let one = window(shard, minute, revision, ["a", "b"][arm], &[(group, lists)]);
            prop_assert_eq!(tallies.take(&one), is_new);
            if is_new {
                last.insert((shard, minute, arm), (revision, group, lists));
            }
        }
        for (n, name) in ["a", "b"].into_iter().enumerate() {
            let tally = tallies.of(|(_, arm)| arm == name);
            let mut units: BTreeMap<(i32, i32), i64> = BTreeMap::new();
            for ((shard, _, arm), (_, group, lists)) in &last {
                if *arm == n {
                    *units.entry((*shard, *group)).or_default() += lists;
                }
            }
            let lists: i64 = units.values().sum();
            prop_assert_eq!(tally.total().lists, lists);
            let arm = tally.arm(Metric::by_name("click_rate").unwrap());
            prop_assert_eq!((arm.observations, arm.moments.units), (lists as u64, units.len() as u64));
            let squares: i64 = units.values().map(|lists| lists * lists).sum();
            prop_assert_eq!(arm.moments.numerator_squares, squares as f64);
            prop_assert_eq!(arm.moments.products, 10.0 * squares as f64);
        }
    }
}

#[test]
fn windows_of_another_time_and_ones_long_passed_do_not_count() {
    let mut tallies = Tallies::new(60_000, 600_000_000);
    assert!(!tallies.take(&window(0, 0, 1, "a", &[(1, 5)])), "before the span");
    assert!(tallies.take(&window(0, 1, 1, "a", &[(1, 5)])));
    assert!(tallies.take(&window(0, 500, 1, "a", &[(2, 1)])));
    assert!(!tallies.take(&window(0, 1, 1, "a", &[(1, 5)])), "six hours later it counts no more");
    assert!(tallies.take(&window(1, 1, 1, "b", &[(1, 3)])), "another shard has its own clock");
    assert!(!tallies.take(&window(0, 10_000, 1, "a", &[(1, 5)])), "after the span");
    let [a, b] = ["a", "b"].map(|name| tallies.of(|(_, arm)| arm == name));
    assert_eq!((a.total().lists, b.total().lists), (6, 3));
    assert_eq!(lists_by_unit(&[&a, &b]), [vec![5, 0], vec![1, 0], vec![0, 3]]);
}

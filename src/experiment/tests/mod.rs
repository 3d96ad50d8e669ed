mod peeking;
mod report;
mod running;
mod tallies;

use proptest::prelude::*;

use super::hash::{Namespace, Range, bucket, bucket_ranges, choose, equal_weights};
use super::sequential::{Arm, Comparison, Moments, Rule, compare};

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn users_fall_where_growthbook_says() {
    let cases = [
        ("seed", "a", 0.0505),
        ("seed", "b", 0.2696),
        ("foo", "ab", 0.2575),
        ("foo", "def", 0.2019),
        ("89123klj", "8952klfjas09ujkasdf", 0.124),
        ("90850943850283058242805", "123", 0.7516),
        ("()**(%$##$%#$#", "___)((*\":&", 0.0128),
    ];
    for (seed, value, expected) in cases {
        assert_eq!(bucket(seed, value), expected, "{seed} {value}");
    }
}

#[test]
fn ranges_are_those_of_growthbook() {
    type Case = (f64, Vec<f64>, Vec<(f64, f64)>);
    let half = || equal_weights(2);
    let cases: [Case; 12] = [
        (1.0, half(), vec![(0.0, 0.5), (0.5, 1.0)]),
        (0.5, half(), vec![(0.0, 0.25), (0.5, 0.75)]),
        (0.0, half(), vec![(0.0, 0.0), (0.5, 0.5)]),
        (1.0, equal_weights(4), vec![(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)]),
        (1.0, vec![0.4, 0.6], vec![(0.0, 0.4), (0.4, 1.0)]),
        (1.0, vec![0.2, 0.3, 0.5], vec![(0.0, 0.2), (0.2, 0.5), (0.5, 1.0)]),
        (0.2, vec![0.2, 0.3, 0.5], vec![(0.0, 0.04), (0.2, 0.26), (0.5, 0.6)]),
        (-0.2, half(), vec![(0.0, 0.0), (0.5, 0.5)]),
        (1.5, half(), vec![(0.0, 0.5), (0.5, 1.0)]),
        (1.0, vec![0.4, 0.1], vec![(0.0, 0.5), (0.5, 1.0)]),
        (1.0, vec![0.7, 0.6], vec![(0.0, 0.5), (0.5, 1.0)]),
        (1.0, vec![0.4, 0.5999], vec![(0.0, 0.4), (0.4, 0.9999)]),
    ];
    for (coverage, weights, expected) in cases {
        let ranges = bucket_ranges(coverage, &weights);
        let fits = |(range, (start, end)): (&Range, &(f64, f64))| {
            near(range.start, *start) && near(range.end, *end)
        };
        assert!(
            ranges.len() == expected.len() && ranges.iter().zip(&expected).all(fits),
            "{coverage} {weights:?} gives {ranges:?}"
        );
    }
}

#[test]
fn arms_are_chosen_as_growthbook_chooses() {
    let range = |(start, end): &(f64, f64)| Range { start: *start, end: *end };
    let even: Vec<Range> = [(0.0, 0.5), (0.5, 1.0)].iter().map(range).collect();
    let reduced: Vec<Range> = [(0.0, 0.25), (0.5, 0.75)].iter().map(range).collect();
    let gap: Vec<Range> = [(0.0, 0.5), (0.5, 0.5), (0.5, 1.0)].iter().map(range).collect();
    for (place, arm) in [(0.2, 0), (0.4, 0), (0.6, 1), (0.8, 1), (0.0, 0), (0.5, 1)] {
        assert_eq!(choose(place, &even), Some(arm));
    }
    let cases =
        [(0.2, Some(0)), (0.4, None), (0.6, Some(1)), (0.8, None), (0.25, None), (0.5, Some(1))];
    for (place, arm) in cases {
        assert_eq!(choose(place, &reduced), arm);
    }
    assert_eq!(choose(0.5, &gap), Some(2));
}

#[test]
fn namespaces_share_users_out_as_growthbook_does() {
    let namespace = |name: &str, start: f64, end: f64| Namespace {
        name: name.to_owned(),
        range: Range { start, end },
    };
    let in_first =
        [("1", false, false), ("2", false, false), ("3", false, true), ("4", false, true)];
    for (user, first, second) in in_first {
        for (name, expected) in [("namespace1", first), ("namespace2", second)] {
            assert_eq!(namespace(name, 0.0, 0.4).contains(user), expected, "{user} {name}");
            assert_eq!(namespace(name, 0.4, 1.0).contains(user), !expected, "{user} {name}");
        }
    }
    assert!(namespace("namespace", 0.1, 1.0).contains("1"));
}

proptest! {
    #[test]
    fn whoever_is_in_an_arm_stays_in_it_as_coverage_rises(
        user in "[a-z0-9]{1,12}", seed in "[a-z]{1,6}", weights in prop::collection::vec(0.05f64..1.0, 1..6),
        one in 0.0f64..1.0, other in 0.0f64..1.0
    ) {
        let sum: f64 = weights.iter().sum();
        let weights: Vec<f64> = weights.iter().map(|w| w / sum).collect();
        let place = bucket(&seed, &user);
        let (less, more) = (one.min(other), one.max(other));
        if let Some(arm) = choose(place, &bucket_ranges(less, &weights)) {
            prop_assert_eq!(choose(place, &bucket_ranges(more, &weights)), Some(arm));
        }
        prop_assert!(choose(place, &bucket_ranges(1.0, &weights)).is_some());
    }

    #[test]
    fn moments_are_those_of_their_units_and_the_ratio_has_the_variance_of_a_bootstrap(
        units in prop::collection::vec((0.0f64..20.0, 1.0f64..40.0), 200..300)
    ) {
        let mut moments = Moments::default();
        units.iter().for_each(|(y, x)| moments.add(*y, *x));
        let (y, x): (f64, f64) = units.iter().fold((0.0, 0.0), |s, u| (s.0 + u.0, s.1 + u.1));
        let ratio = moments.ratio().unwrap();
        prop_assert!(near(ratio, y / x));
        // The jackknife's variance: each unit left out once.
        let n = units.len() as f64;
        let without: Vec<f64> = units.iter().map(|(dy, dx)| (y - dy) / (x - dx)).collect();
        let mean = without.iter().sum::<f64>() / n;
        let jackknife = (n - 1.0) / n * without.iter().map(|r| (r - mean).powi(2)).sum::<f64>();
        let arm = |k: u64| Arm { observations: k, moments };
        let rule = Rule { alpha: 0.05, tuning: 1_000.0 };
        let error = compare(&arm(500), &arm(500), rule).unwrap().error;
        // Of two arms with the same variance, relative to their ratio.
        let expected = (2.0 * jackknife).sqrt() / ratio;
        prop_assert!((error / expected - 1.0).abs() < 0.05, "{error} {expected}");
    }

    #[test]
    fn the_interval_leaves_out_0_exactly_where_the_p_value_is_below_alpha(
        treatment in 1.0f64..3.0, alpha in 0.001f64..0.2, tuning in 100.0f64..10_000.0
    ) {
        let arm = |mean: f64| Arm { observations: 1_000, moments: mean_of(1_000, mean * 1e3, mean * 1e4) };
        let rule = Rule { alpha, tuning };
        let found = compare(&arm(treatment), &arm(1.0), rule).unwrap();
        prop_assert_eq!(found.is_decided(), found.p_value < alpha);
    }
}

/// Of units whose denominators are 1: a mean.
fn mean_of(n: u64, sum: f64, squares: f64) -> Moments {
    Moments {
        units: n,
        numerator: sum,
        denominator: n as f64,
        numerator_squares: squares,
        denominator_squares: n as f64,
        products: sum,
    }
}

#[test]
fn the_interval_of_two_means_is_that_of_growthbook() {
    let arm = |n, sum, squares| Arm { observations: n, moments: mean_of(n, sum, squares) };
    let control = arm(3_000, 1_396.87, 52_377.976_7);
    let treatment = arm(3_461, 2_422.7, 134_698.29);
    let rule = Rule { alpha: 0.05, tuning: 1_000.0 };
    let Comparison { uplift, lower, upper, .. } = compare(&treatment, &control, rule).unwrap();
    let rounded = [uplift, lower, upper].map(|x| (x * 1e5).round() / 1e5);
    assert_eq!(rounded, [0.50336, -0.55844, 1.56516]);
}

#[test]
fn nothing_is_said_of_too_little() {
    let rule = Rule { alpha: 0.05, tuning: 1_000.0 };
    let arm = |n: u64, clicks: f64| Arm { observations: n, moments: mean_of(n, clicks, clicks) };
    assert_eq!(compare(&arm(29, 5.0), &arm(1_000, 100.0), rule), None);
    assert_eq!(compare(&arm(1_000, 100.0), &arm(29, 5.0), rule), None);
    assert_eq!(compare(&arm(1_000, 100.0), &arm(1_000, 0.0), rule), None, "uplift over nothing");
    assert!(compare(&arm(1_000, 0.0), &arm(1_000, 100.0), rule).unwrap().upper < 0.0);
}

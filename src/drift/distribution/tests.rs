use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

/// The bins [0, 1], (1, 3], … of a reference, and one on either side.
fn five() -> Bins {
    Bins::try_from(vec![0.0, 1.0, 3.0, 4.0, 7.0, 9.0]).unwrap()
}

const REFERENCE: [u64; 7] = [0, 120, 80, 200, 50, 150, 0];
const LIVE: [u64; 7] = [0, 90, 110, 180, 70, 60, 0];

#[test]
fn quantiles_of_chi_square_are_those_of_scipy() {
    // scipy 1.17.1: stats.chi2.isf(p, degrees)
    let known = [
        (1, 0.5, 0.4549364231195724),
        (1, 1e-6, 23.928126976934827),
        (9, 0.001, 27.877164871256575),
        (9, 0.05, 16.91897760462045),
        (11, 0.001, 31.26413362023999),
        (99, 0.0001, 160.05573829663086),
        (500, 0.3, 516.0874074940555),
        (2000, 0.999, 1810.2415818699533),
    ];
    for (degrees, probability, expected) in known {
        let found = chi_square::quantile(degrees, probability);
        assert!(close(found, expected), "{degrees} {probability}: {found}, not {expected}");
    }
}

#[test]
fn statistics_are_those_of_scipy() {
    // scipy 1.17.1: chi2_contingency(correction=False), jensenshannon(base=2); numpy 2.4.6: the
    // cumulative shares' largest difference, the trapezoidal area between them on 9 million points,
    // and PSI of the formula.
    let known = [
        (Statistic::ChiSquare, 44.97834660179862, 1e-12),
        (Statistic::JensenShannon, 0.17374479924842925, 1e-12),
        (Statistic::KolmogorovSmirnov, 0.13235294117647045, 1e-12),
        (Statistic::Wasserstein, 0.5776610644257799, 1e-9),
        (Statistic::Psi, 0.16862916889080865, 1e-12),
    ];
    for (statistic, expected, error) in known {
        let check = Check::usual(statistic);
        let found = judge(&check, &REFERENCE, &LIVE, Some(&five())).unwrap().value;
        assert!((found - expected).abs() < error, "{statistic:?}: {found}, not {expected}");
    }
}

#[test]
fn at_500_values_of_each_psi_of_a_tenth_is_chance() {
    let (even, n) = (vec![50; 10], 500);
    let check = Check::usual(Statistic::Psi);
    let told = compare_categories(&check, &even, &even).unwrap();
    assert_eq!((told.n, told.m, told.value), (n, n, 0.0));
    assert!((told.threshold - 0.1115).abs() < 1e-4, "{told:?}");
}

#[test]
fn with_many_values_what_is_sure_but_slight_is_no_drift() {
    let (reference, live) = (vec![1_000_000; 10], {
        let mut live = vec![1_000_000; 10];
        live[0] += 10_000;
        live
    });
    for statistic in [Statistic::Psi, Statistic::JensenShannon, Statistic::ChiSquare] {
        let told = compare_categories(&Check::usual(statistic), &reference, &live).unwrap();
        assert!(told.value > told.threshold && !told.drift, "{told:?}");
    }
}

#[test]
fn false_alarms_are_no_more_than_asked_for_and_a_shift_is_found() {
    let mut draws = ChaCha8Rng::seed_from_u64(5);
    let mut normal = |mean: f64| {
        let radius = (-2.0 * (1.0 - draws.random::<f64>()).ln()).sqrt();
        mean + radius * (std::f64::consts::TAU * draws.random::<f64>()).cos()
    };
    let mut sample = |n: usize, mean: f64| (0..n).map(|_| normal(mean)).collect::<Vec<_>>();
    let count = |bins: &Bins, values: &[f64]| {
        let mut histogram = Histogram::new(bins.clone());
        values.iter().for_each(|value| histogram.add(*value));
        histogram
    };
    let trials = 1_000;
    for statistic in Statistic::ALL {
        // No least effect: chance alone is on trial.
        let check = Check { statistic, false_alarm: 0.02, min_effect: f64::MIN_POSITIVE };
        let (mut alarms, mut found) = (0, 0);
        for _ in 0..trials {
            let first = sample(1_000, 0.0);
            let bins = Bins::by_quantiles(&first, 10).unwrap();
            let reference = count(&bins, &first);
            let same = count(&bins, &sample(700, 0.0));
            alarms += u32::from(compare(&check, &reference, &same).unwrap().drift);
            let other = count(&bins, &sample(700, 0.4));
            found +=
                u32::from(compare(&Check::usual(statistic), &reference, &other).unwrap().drift);
        }
        // 20 are expected of an exact test: 38 are four standard deviations more.
        assert!(alarms <= 38, "{statistic:?}: {alarms} false alarms of {trials}");
        assert!(found > 950, "{statistic:?}: {found} of {trials} shifts found");
    }
}

#[test]
fn what_cannot_be_compared_is_refused_with_what_to_do() {
    let usual = Check::usual(Statistic::Psi);
    let few = compare_categories(&usual, &[4, 4, 4], &[1000, 0, 0]).unwrap_err().to_string();
    assert_eq!(few, "12 and 1000 values are too few for 3 bins: wait for 15 of each");
    let other = compare_categories(&usual, &[400, 400], &[1000, 0, 0]).unwrap_err();
    assert_eq!(other, NoVerdict::Bins(BadBins::Other));
    let ks = Check::usual(Statistic::KolmogorovSmirnov);
    let unordered = compare_categories(&ks, &[400, 400], &[400, 400]).unwrap_err().to_string();
    assert!(unordered.contains("take psi"), "{unordered}");
    let never = Check { false_alarm: 0.0, ..usual };
    let refused = compare_categories(&never, &[400, 400], &[400, 400]).unwrap_err().to_string();
    assert_eq!(refused, "false_alarm is 0, and must be above 0 and below 1");
    assert_eq!(Bins::by_quantiles(&[1.0], 9), Err(BadBins::TooFew(9)));
    assert_eq!(Bins::by_quantiles(&[], 10), Err(BadBins::Empty));
    assert!(Bins::by_quantiles(&[1.0, f64::NAN], 10).is_err());
    assert!(serde_json::from_str::<Bins>("[1.0, 1.0]").is_err());
}

#[test]
fn a_reference_of_one_value_tells_when_others_come() {
    let bins = Bins::by_quantiles(&[3.0; 50], 10).unwrap();
    let mut reference = Histogram::new(bins.clone());
    let mut live = Histogram::new(bins);
    for n in 0..200 {
        reference.add(3.0);
        live.add(if n % 2 == 0 { 3.0 } else { 4.0 });
    }
    for statistic in Statistic::ALL {
        let check = Check::usual(statistic);
        assert!(compare(&check, &reference, &live).unwrap().drift, "{statistic:?}");
        assert!(!compare(&check, &reference, &reference).unwrap().drift, "{statistic:?}");
    }
}

#[test]
fn values_that_are_no_numbers_are_counted_apart() {
    let mut histogram = Histogram::new(five());
    [0.5, f64::NAN, f64::INFINITY, 100.0].into_iter().for_each(|value| histogram.add(value));
    assert_eq!((histogram.n(), histogram.not_finite()), (2, 2));
    assert_eq!(histogram.counts(), [0, 1, 0, 0, 0, 0, 1]);
}

/// Share of a sample that is at most `at`.
fn share_to(sample: &[f64], at: f64) -> f64 {
    sample.iter().filter(|value| **value <= at).count() as f64 / sample.len() as f64
}

proptest! {
    #[test]
    fn bins_of_quantiles_hold_the_reference_evenly_unless_values_repeat(
        sample in prop::collection::vec(-100i32..100, 1..300),
        count in 10usize..30,
    ) {
        let sample: Vec<f64> = sample.into_iter().map(f64::from).collect();
        let bins = Bins::by_quantiles(&sample, count).unwrap();
        let mut histogram = Histogram::new(bins.clone());
        sample.iter().for_each(|value| histogram.add(*value));
        let counts = histogram.counts();
        prop_assert_eq!((counts[0], counts[counts.len() - 1]), (0, 0), "none is outside");
        for (place, count_in) in counts.iter().enumerate().skip(1).take(counts.len() - 2) {
            let edge = bins.edges()[place];
            let repeated = sample.iter().filter(|value| **value == edge).count();
            let fair = sample.len().div_ceil(count);
            prop_assert!(*count_in as usize <= fair + repeated, "{counts:?}");
            prop_assert!(*count_in > 0);
        }
    }

    #[test]
    fn parts_add_up_to_the_whole(
        values in prop::collection::vec(-3.0f64..12.0, 0..100),
        cut in 0usize..100,
    ) {
        let mut whole = Histogram::new(five());
        values.iter().for_each(|value| whole.add(*value));
        let (a, b) = values.split_at(cut.min(values.len()));
        let mut parts = [a, b].map(|part| {
            let mut histogram = Histogram::new(five());
            part.iter().for_each(|value| histogram.add(*value));
            histogram
        });
        let [first, second] = &mut parts;
        second.merge(first).unwrap();
        prop_assert_eq!(second, &mut whole);
    }

    #[test]
    fn the_distance_of_samples_is_that_of_bins_at_their_edges(
        a in prop::collection::vec(-3.0f64..12.0, 40..100),
        b in prop::collection::vec(-3.0f64..12.0, 40..100),
    ) {
        let count = |values: &[f64]| {
            let mut histogram = Histogram::new(five());
            values.iter().for_each(|value| histogram.add(*value));
            histogram
        };
        let check = Check::usual(Statistic::KolmogorovSmirnov);
        let found = compare(&check, &count(&a), &count(&b)).unwrap().value;
        let apart = |at: &f64| (share_to(&a, *at) - share_to(&b, *at)).abs();
        let naive = five().edges().iter().map(apart).fold(0.0, f64::max);
        prop_assert!(close(found, naive), "{found} {naive}");
    }

    #[test]
    fn with_fine_bins_the_area_is_that_between_the_samples(
        a in prop::collection::vec(0u32..1000, 60..90),
        b in prop::collection::vec(0u32..1000, 60..90),
    ) {
        // Each value has a bin of its own width: what bins cannot see is half a width on either
        // side.
        let edges: Vec<f64> = (-1..1000).map(f64::from).collect();
        let (mut first, mut second) = (vec![0u64; 1002], vec![0u64; 1002]);
        a.iter().for_each(|value| first[*value as usize + 1] += 1);
        b.iter().for_each(|value| second[*value as usize + 1] += 1);
        let found = statistics::wasserstein(&Bins::try_from(edges).unwrap(), &first, &second);
        let [a, b] = [&a, &b].map(|values| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() });
        let apart = |at: u32| (share_to(&a, f64::from(at)) - share_to(&b, f64::from(at))).abs();
        let naive: f64 = (0..1000).map(apart).sum();
        prop_assert!((found - naive).abs() < 1.0, "{found} {naive}");
    }

    #[test]
    fn statistics_do_not_mind_which_is_the_reference_or_how_categories_are_ordered(
        counts in prop::collection::vec((0u64..500, 0u64..500), 3..20),
        turn in 0usize..20,
    ) {
        let (a, b): (Vec<u64>, Vec<u64>) = counts.iter().copied().unzip();
        let mut turned = counts.clone();
        turned.rotate_left(turn % counts.len());
        let (c, d): (Vec<u64>, Vec<u64>) = turned.into_iter().unzip();
        for statistic in [Statistic::Psi, Statistic::JensenShannon, Statistic::ChiSquare] {
            let check = Check::usual(statistic);
            let Ok(told) = compare_categories(&check, &a, &b) else { continue };
            let other = compare_categories(&check, &d, &c).unwrap();
            prop_assert!(close(told.value, other.value), "{told:?} {other:?}");
            prop_assert!(close(told.threshold, other.threshold));
            prop_assert!(told.value >= 0.0);
        }
    }
}

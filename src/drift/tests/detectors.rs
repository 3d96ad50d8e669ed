use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::drift::detectors::{Detector, NAMES, Parameters, Verdict};

fn detector(name: &str) -> Detector {
    Detector::new(&Parameters::by_name(name).unwrap()).unwrap()
}

#[test]
fn every_name_is_known_and_an_unknown_one_is_told_them() {
    for name in NAMES {
        assert_eq!(Parameters::by_name(name).unwrap().name(), name);
        let read: Parameters = toml::from_str(&format!("name = \"{name}\"")).unwrap();
        assert_eq!(read, Parameters::by_name(name).unwrap());
    }
    let refused = Parameters::by_name("adwin2").unwrap_err().to_string();
    let known = "adwin, page_hinkley, ddm, eddm, hddm_a, hddm_w, kswin";
    assert_eq!(refused, format!("there is no detector \"adwin2\"; take one of: {known}"));
    assert!(toml::from_str::<Parameters>("name = 'adwin2'").is_err());
    assert!(toml::from_str::<Parameters>("name = 'adwin'\nalpha = 1").is_err(), "not its own");
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
    let out_of_range = [
        ("name = 'adwin'\ndelta = 0", "adwin: delta is 0, and must be above 0 and below 1"),
        ("name = 'adwin'\nclock = 0", "adwin: clock is 0, and must be at least 1"),
        ("name = 'adwin'\nmax_buckets = 1", "adwin: max_buckets is 1, and must be at least 2"),
        ("name = 'adwin'\nmin_window = 0", "adwin: min_window is 0, and must be at least 1"),
        (
            "name = 'page_hinkley'\nalpha = 1.5",
            "page_hinkley: alpha is 1.5, and must be above 0 and at most 1",
        ),
        (
            "name = 'page_hinkley'\nthreshold = inf",
            "page_hinkley: threshold is inf, and must be above 0 and finite",
        ),
        (
            "name = 'ddm'\nwarning_threshold = 4",
            "ddm: warning_threshold is 4, and must be at most drift_threshold",
        ),
        ("name = 'eddm'\nbeta = 0.96", "eddm: beta is 0.96, and must be at most alpha"),
        (
            "name = 'hddm_a'\nwarning_confidence = 0.0001",
            "hddm_a: warning_confidence is 0.0001, and must be at least drift_confidence",
        ),
        (
            "name = 'hddm_w'\nlambda = nan",
            "hddm_w: lambda is NaN, and must be above 0 and at most 1",
        ),
        ("name = 'kswin'\nnewest = 51", "kswin: newest is 51, and must be at most half of window"),
    ];
    for (parameters, expected) in out_of_range {
        let parameters: Parameters = toml::from_str(parameters).unwrap();
        assert_eq!(Detector::new(&parameters).unwrap_err().to_string(), expected);
    }
}

#[test]
fn values_that_a_detector_cannot_take_are_refused_and_change_nothing() {
    for name in NAMES {
        let mut one = detector(name);
        one.update(1.0).unwrap();
        let before = one.clone();
        let is_bounded = !["adwin", "page_hinkley", "kswin"].contains(&name);
        assert!(one.update(f64::NAN).is_err(), "{name}");
        assert!(one.update(f64::INFINITY).is_err(), "{name}");
        assert_eq!(one.update(1.5).is_err(), is_bounded, "{name}");
        if is_bounded {
            assert_eq!(one, before, "{name}");
        }
    }
    let refused = detector("eddm").update(0.5).unwrap_err().to_string();
    assert_eq!(refused, "eddm takes 0 or 1, not 0.5");
}

#[test]
fn kswin_is_seldom_wrong_and_finds_another_distribution_of_the_same_mean() {
    let parameters = Parameters::Kswin(crate::drift::detectors::kswin::Parameters {
        alpha: 0.0001,
        window: 400,
        newest: 150,
        seed: 1,
    });
    let mut draws = ChaCha8Rng::seed_from_u64(11);
    let mut one = Detector::new(&parameters).unwrap();
    let stable = (0..5_000).filter(|_| one.update(draws.random()).unwrap() == Verdict::Drift);
    let alarms = stable.count();
    assert!(alarms <= 5, "{alarms} false alarms");
    let ends = |draw: f64| if draw < 0.5 { draw / 5.0 } else { 1.0 - draw / 5.0 };
    let found = (0..150).position(|_| one.update(ends(draws.random())).unwrap() == Verdict::Drift);
    assert!(found.is_some());
}

/// Values that every detector takes, with a change on the way.
fn bits() -> impl Strategy<Value = Vec<f64>> {
    let part = |rate: f64| prop::collection::vec(prop::bool::weighted(rate), 50..400);
    let bits = (part(0.2), part(0.8)).prop_map(|(a, b)| [a, b].concat());
    bits.prop_map(|bits| bits.into_iter().map(|bit| f64::from(u8::from(bit))).collect())
}

proptest! {
    #[test]
    fn a_detector_that_was_written_and_read_goes_on_as_if_nothing_had_been(
        values in bits(),
        cut in 0usize..800,
    ) {
        for name in NAMES {
            let (first, second) = values.split_at(cut.min(values.len()));
            let mut whole = detector(name);
            first.iter().for_each(|value| { whole.update(*value).unwrap(); });
            let mut read: Detector =
                serde_json::from_str(&serde_json::to_string(&whole).unwrap()).unwrap();
            prop_assert_eq!(&read, &whole);
            for value in second {
                prop_assert_eq!(read.update(*value).unwrap(), whole.update(*value).unwrap());
            }
            prop_assert_eq!(read, whole);
        }
    }

    #[test]
    fn an_adaptive_window_holds_what_it_says(values in prop::collection::vec(-5.0f64..5.0, 1..500)) {
        let text = "name = 'adwin'\nclock = 1000";
        let mut one = Detector::new(&toml::from_str(text).unwrap()).unwrap();
        values.iter().for_each(|value| { one.update(*value).unwrap(); });
        let Detector::Adwin(window) = one else { unreachable!() };
        prop_assert_eq!(window.width(), values.len() as u64);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        prop_assert!((window.mean() - mean).abs() < 1e-9);
    }

    #[test]
    fn a_shrinking_window_keeps_the_newest_values(seed in 0u64..50) {
        let text = "name = 'adwin'\nafter_drift = 'shrink'\nclock = 1";
        let mut one = Detector::new(&toml::from_str(text).unwrap()).unwrap();
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        let mut drifts = 0;
        for n in 0..2_000 {
            let mean = if n < 1_000 { 0.0 } else { 3.0 };
            let verdict = one.update(mean + draws.random::<f64>()).unwrap();
            drifts += u32::from(n >= 1_000 && verdict == Verdict::Drift);
        }
        let Detector::Adwin(window) = one else { unreachable!() };
        prop_assert!(drifts > 0 && window.width() <= 1_010, "{} {}", drifts, window.width());
        prop_assert!((window.mean() - 3.5).abs() < 0.1);
    }
}

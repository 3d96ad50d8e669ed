use std::f64::consts::TAU;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::e_detector::{BETS, Run};
use super::*;

/// 2026-06-01, a Monday.
const MONDAY: i64 = 1_780_272_000_000;
const WEEK: i64 = 7 * 24 * 60;

fn minute(n: i64) -> EventTime {
    EventTime::from_millis(MONDAY + n * MINUTE_MS)
}

fn config() -> Config {
    Config::default()
}

/// Clicks by a season, with noise from hour to hour.
#[derive(Clone)]
struct World {
    draws: ChaCha8Rng,
    n: u64,
    rate: f64,
    swing: f64,
    noise: f64,
    /// What days of the weekend are multiplied by.
    weekend: f64,
    factor: f64,
    hour: (i64, f64),
}

impl World {
    fn new(seed: u64, n: u64) -> Self {
        let draws = ChaCha8Rng::seed_from_u64(seed);
        let (rate, swing, noise, weekend, factor) = (0.05, 0.2, 0.02, 1.0, 1.0);
        Self { draws, n, rate, swing, noise, weekend, factor, hour: (-1, 0.0) }
    }

    fn truth(&self, at: i64) -> f64 {
        let day = at.div_euclid(24 * 60).rem_euclid(7);
        let weekend = if day >= 5 { self.weekend } else { 1.0 };
        self.rate * weekend * (1.0 + self.swing * (TAU * at as f64 / 1440.0).sin())
    }

    fn window(&mut self, at: i64) -> Window {
        if self.hour.0 != at.div_euclid(60) {
            let draws: f64 = (0..12).map(|_| self.draws.random::<f64>()).sum();
            self.hour = (at.div_euclid(60), self.noise * (draws - 6.0));
        }
        let rate = self.truth(at) * (1.0 + self.hour.1) * self.factor;
        let clicks = (0..self.n).filter(|_| self.draws.random::<f64>() < rate).count();
        Window::rate(minute(at), clicks as u64, self.n).unwrap()
    }
}

/// A metric that has learnt a world for so many minutes, and was never alarmed.
fn learnt(world: &mut World, minutes: i64, config: Config) -> Seasonal {
    let mut one = Seasonal::new(config).unwrap();
    for at in 0..minutes {
        let told = one.update(&world.window(at)).unwrap();
        assert!(!told.fires, "a false alarm after {at} minutes: {:?}", one.evidence());
    }
    one
}

fn go_on(one: &mut Seasonal, world: &mut World, minutes: std::ops::Range<i64>) {
    for at in minutes {
        one.update(&world.window(at)).unwrap();
    }
}

/// E of one direction by its definition: products from every window on, each with every bet.
fn naive(windows: &[(f64, f64)], edge: f64, direction: Direction) -> f64 {
    let l = |(n, sum): (f64, f64), odds: f64| {
        let scale = 1.0 + (odds - 1.0) * edge;
        odds.powf(sum) / scale.powf(n)
    };
    let from = |first: usize| -> f64 {
        let bets = BETS.iter().map(|(ratio, weight)| {
            let odds = if direction == Direction::Up { 1.0 / ratio } else { *ratio };
            weight * windows[first..].iter().map(|window| l(*window, odds)).product::<f64>()
        });
        bets.sum()
    };
    (0..windows.len()).map(from).sum()
}

proptest! {
    #[test]
    fn evidence_is_the_sum_over_bets_and_times_of_a_change(
        counts in prop::collection::vec((1u64..40, 0.0f64..1.0), 1..40),
    ) {
        let (mean, band) = (0.3, 0.1);
        for direction in [Direction::Up, Direction::Down] {
            let mut one = EDetector::new(direction);
            let mut windows = Vec::new();
            for (at, (n, share)) in counts.iter().enumerate() {
                let sum = (*n as f64 * share).floor();
                windows.push((*n as f64, sum));
                let window = Window::mean(minute(at as i64), sum, *n).unwrap();
                one.update(&window, mean, band, f64::MAX);
            }
            let edge = if direction == Direction::Up { 0.33 } else { 0.27 };
            let (found, expected) = (one.log_e(), naive(&windows, edge, direction).ln());
            prop_assert!((found - expected).abs() < 1e-9 * (1.0 + expected.abs()), "{found} {expected}");
        }
    }

    #[test]
    fn what_the_sum_of_bounded_values_says_is_no_more_than_what_they_say(
        values in prop::collection::vec(0.0f64..=1.0, 1..60),
        edge in 0.01f64..0.99,
    ) {
        for (ratio, _) in BETS {
            for odds in [ratio, 1.0 / ratio] {
                let scale = 1.0 + (odds - 1.0) * edge;
                let lambda = (odds - 1.0) / scale;
                let exact: f64 = values.iter().map(|x| (1.0 + lambda * (x - edge)).ln()).sum();
                let by_sum = values.iter().sum::<f64>() * odds.ln() - values.len() as f64 * scale.ln();
                prop_assert!(by_sum <= exact + 1e-9, "{by_sum} {exact}");
            }
        }
    }

    #[test]
    fn a_bet_is_fair_at_the_edge_of_the_band(edge in 0.001f64..0.999) {
        for (ratio, _) in BETS {
            for odds in [ratio, 1.0 / ratio] {
                let scale = 1.0 + (odds - 1.0) * edge;
                let mean = edge * odds / scale + (1.0 - edge) / scale;
                prop_assert!((mean - 1.0).abs() < 1e-12, "{mean}");
            }
        }
    }

    #[test]
    fn a_replay_gives_the_same_bits_wherever_the_state_was_written(
        seed in 0u64..1000,
        cut in 1i64..3000,
    ) {
        let mut world = World::new(seed, 40);
        let config = Config { warm_up_windows: 200, ..config() };
        let windows: Vec<_> = (0..3_000).map(|at| {
            world.factor = if at < 2_000 { 1.0 } else { 0.3 };
            world.window(at)
        }).collect();
        let mut whole = Seasonal::new(config.clone()).unwrap();
        let mut cut_in_two = Seasonal::new(config).unwrap();
        for (at, window) in windows.iter().enumerate() {
            if at as i64 == cut {
                let written = serde_json::to_string(&cut_in_two).unwrap();
                cut_in_two = serde_json::from_str(&written).unwrap();
            }
            let (a, b) = (whole.update(window).unwrap(), cut_in_two.update(window).unwrap());
            prop_assert_eq!(a.log_e.to_bits(), b.log_e.to_bits());
            prop_assert_eq!(a, b);
            prop_assert_eq!(whole.evidence(), cut_in_two.evidence());
        }
        prop_assert_eq!(whole, cut_in_two);
    }
}

#[test]
fn weights_of_bets_add_up_to_one() {
    let sum: f64 = BETS.iter().map(|(_, weight)| weight).sum();
    assert!((sum - 1.0).abs() < 1e-12, "{sum}");
}

#[test]
fn at_the_very_edge_of_the_band_alarms_are_as_rare_as_promised() {
    let (promised, edge, n) = (100.0_f64, 0.3 * 0.9, 30);
    let mut lengths = Vec::new();
    for seed in 0..400 {
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        let mut one = EDetector::new(Direction::Down);
        let length = (1..).find(|at| {
            let successes = (0..n).filter(|_| draws.random::<f64>() < edge).count();
            let window = Window::rate(minute(*at), successes as u64, n).unwrap();
            one.update(&window, 0.3, 0.1, f64::MAX);
            one.log_e() >= promised.ln()
        });
        lengths.push(length.unwrap() as f64);
    }
    let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
    assert!(mean > promised && mean < 10.0 * promised, "{mean} windows");
}

#[test]
fn evidence_that_no_float_holds_is_held_as_its_logarithm() {
    let mut one = EDetector::new(Direction::Down);
    for at in 0..100 {
        one.update(&Window::rate(minute(at), 0, 1_000_000).unwrap(), 0.5, 0.1, f64::MAX);
    }
    let log_e = one.log_e();
    assert!(log_e > 1e6 && log_e.is_finite(), "{log_e}");
    assert_eq!(one.run().since, minute(0));
    let Run { windows, breached, n, .. } = one.run();
    assert_eq!((windows, breached, n), (100, 100, 100_000_000));
}

#[test]
fn a_season_is_learnt_with_how_sure_it_is() {
    let mut world = World::new(3, 300);
    world.weekend = 0.8;
    let one = learnt(&mut world, 6 * WEEK, config());
    let (mut within, mut cells) = (0, 0);
    for hour in 0..168 {
        let at = 6 * WEEK + hour * 60 + 30;
        let found = one.baseline.at(minute(at)).unwrap();
        let off = (found.rate / world.truth(at) - 1.0).abs();
        cells += 1;
        within += usize::from(off < 2.0 * found.error2.sqrt() + 0.004);
        assert!(off < 0.08, "hour {hour}: off by {off}");
    }
    assert!(within * 100 > cells * 90, "{within} of {cells} within two standard errors");
    let noise = one.baseline.noise2().sqrt();
    assert!((0.01..0.03).contains(&noise), "{noise} where it is 0.02");
}

#[test]
fn a_season_is_that_of_where_people_live() {
    let mut world = World::new(3, 300);
    world.swing = 0.0;
    world.noise = 0.0;
    let east = Config { offset_minutes: 330, ..config() };
    let mut one = Seasonal::new(east).unwrap();
    for at in 0..WEEK {
        // A step at local midnight on Thursday.
        world.factor = if at + 330 >= 3 * 1440 && at + 330 < 4 * 1440 { 0.7 } else { 1.0 };
        one.update(&world.window(at)).unwrap();
    }
    let noon = |day: i64| one.baseline.at(minute(WEEK + day * 1440 + 720 - 330)).unwrap().rate;
    assert!(noon(3) < 0.85 * noon(2) && noon(3) < 0.85 * noon(4));
}

#[test]
fn a_drop_is_found_with_evidence_and_soon_over_when_it_is() {
    let mut world = World::new(8, 1_000);
    let mut one = learnt(&mut world, 2 * WEEK, config());
    let begin = 2 * WEEK + 600;
    (2 * WEEK..begin).for_each(|at| assert!(!one.update(&world.window(at)).unwrap().fires));
    world.factor = 0.7;
    let found = (begin..).find(|at| one.update(&world.window(*at)).unwrap().fires).unwrap();
    assert!(found < begin + 30, "{} minutes", found - begin);
    let told = one.evidence().unwrap();
    assert_eq!(told.direction, Direction::Down);
    assert!(told.log_e + 0.01 >= told.threshold, "{told:?}");
    assert!((told.effect + 0.3).abs() < 0.1 && told.observed < told.baseline, "{told:?}");
    let since = told.since.since(minute(begin)) / MINUTE_MS;
    assert!((-10..=10).contains(&since), "{since} minutes from the change");
    assert!(told.windows_breached * 10 > told.windows * 7 && told.windows_breached <= told.windows);
    assert_eq!(told.n, told.windows * 1_000);
    // Hours of a drop teach nothing, however long it lasts.
    let before = one.baseline.at(minute(begin)).unwrap().rate;
    go_on(&mut one, &mut world, found + 1..begin + 3 * 1440);
    let after = one.baseline.at(minute(begin)).unwrap().rate;
    assert!((after / before - 1.0).abs() < 0.01, "{before} {after}");
    world.factor = 1.0;
    let begin = begin + 3 * 1440;
    let over = (begin..).find(|at| !one.update(&world.window(*at)).unwrap().fires).unwrap();
    assert!(over < begin + 30, "{} minutes", over - begin);
}

#[test]
fn a_bounded_mean_is_watched_by_its_sums() {
    // Shares of a video that were watched: most few, some all of it.
    let mut draws = ChaCha8Rng::seed_from_u64(17);
    let mut window = |at: i64, power: f64| {
        let sum: f64 = (0..200).map(|_| draws.random::<f64>().powf(power)).sum();
        Window::mean(minute(at), sum, 200).unwrap()
    };
    let mut one = Seasonal::new(config()).unwrap();
    for at in 0..2 * WEEK {
        assert!(!one.update(&window(at, 2.0)).unwrap().fires);
    }
    // The mean goes from 1/3 to 1/4.
    let found = (2 * WEEK..).find(|at| one.update(&window(*at, 3.0)).unwrap().fires).unwrap();
    assert!(found < 2 * WEEK + 30, "{} minutes", found - 2 * WEEK);
    let told = one.evidence().unwrap();
    assert!((told.observed - 0.25).abs() < 0.03 && (told.baseline - 0.333).abs() < 0.02);
}

#[test]
fn a_rise_is_found_as_one() {
    let mut world = World::new(9, 1_000);
    let mut one = learnt(&mut world, WEEK, config());
    world.factor = 1.5;
    let found = (WEEK..).find(|at| one.update(&world.window(*at)).unwrap().fires).unwrap();
    assert!(found < WEEK + 60, "{} minutes", found - WEEK);
    assert_eq!(one.evidence().unwrap().direction, Direction::Up);
}

#[test]
fn a_direction_that_is_hardly_looked_for_is_found_later_and_one_that_is_not_never() {
    let found_after = |down_share: f64| {
        let mut world = World::new(18, 1_000);
        let mut one = learnt(&mut world, WEEK, Config { down_share, ..config() });
        world.factor = 0.5;
        (0..600).position(|at| one.update(&world.window(WEEK + at)).unwrap().fires)
    };
    let (even, hardly) = (found_after(0.5).unwrap(), found_after(1e-6).unwrap());
    assert!(even < hardly, "{even} {hardly}");
    assert_eq!(found_after(0.0), None);
}

#[test]
fn few_values_a_window_are_enough_in_the_end_and_never_a_false_alarm() {
    let mut world = World::new(10, 5);
    let mut one = learnt(&mut world, 3 * WEEK, config());
    world.factor = 0.2;
    let found = (3 * WEEK..).find(|at| one.update(&world.window(*at)).unwrap().fires).unwrap();
    assert!(found < 3 * WEEK + 3 * 1440, "{} minutes", found - 3 * WEEK);
}

#[test]
fn nothing_is_told_while_it_warms_up_and_little_is_known_means_a_wide_band() {
    let mut world = World::new(12, 1_000);
    let mut one = Seasonal::new(config()).unwrap();
    let first = one.update(&world.window(0)).unwrap();
    assert_eq!((first.warm_up, first.baseline, first.fires), (true, None, false));
    assert_eq!(first.band, 1.0);
    let told: Vec<_> = (1..1500).map(|at| one.update(&world.window(at)).unwrap()).collect();
    assert!(told[1437].warm_up && !told[1438].warm_up, "after a day");
    assert!(told[1438].band > 0.1, "{}", told[1438].band);
    assert_eq!(one.evidence().map(|told| told.windows > 0), Some(true));
}

#[test]
fn a_gap_is_told_as_one_and_not_read_as_a_drop() {
    let mut world = World::new(13, 1_000);
    let mut one = learnt(&mut world, WEEK, config());
    assert_eq!(one.gap(minute(WEEK)), None);
    let open = one.gap(minute(WEEK + 7)).unwrap();
    assert_eq!(open, Gap { from: minute(WEEK), windows: 7 });
    let log_e = one.log_e();
    // Windows without values are missing ones.
    for at in WEEK + 7..WEEK + 10 {
        let told = one.update(&Window::rate(minute(at), 0, 0).unwrap()).unwrap();
        assert_eq!((told.gap, told.fires), (None, false));
    }
    assert_eq!(one.log_e(), log_e);
    let told = one.update(&world.window(WEEK + 10)).unwrap();
    assert_eq!(told.gap, Some(Gap { from: minute(WEEK), windows: 10 }));
    assert!(!told.fires);
    assert_eq!(one.update(&world.window(WEEK + 11)).unwrap().gap, None);
}

#[test]
fn a_new_reference_keeps_the_season_and_learns_its_level() {
    let mut world = World::new(14, 1_000);
    let mut one = learnt(&mut world, 3 * WEEK, config());
    world.factor = 1.3;
    one.begin_reference();
    let begin = 3 * WEEK;
    for at in begin..begin + 2 * WEEK {
        let told = one.update(&world.window(at)).unwrap();
        assert_eq!(told.warm_up, at < begin + 1439, "{at}");
        assert!(!told.fires, "after {} minutes", at - begin);
    }
    let at = begin + 2 * WEEK + 90;
    let off = one.baseline.at(minute(at)).unwrap().rate / (1.3 * world.truth(at)) - 1.0;
    assert!(off.abs() < 0.02, "off by {off}");
    world.factor = 1.0;
    let begin = begin + 2 * WEEK;
    let found = (begin..).find(|at| one.update(&world.window(*at)).unwrap().fires).unwrap();
    assert!(found < begin + 40, "what was usual is a drop now: {} minutes", found - begin);
}

#[test]
fn windows_out_of_order_or_of_no_sense_are_refused_and_change_nothing() {
    let mut world = World::new(15, 100);
    let mut one = learnt(&mut world, 100, config());
    let before = one.clone();
    let again = one.update(&world.window(99)).unwrap_err();
    assert_eq!(again, BadWindow::Old { start: minute(99), last: minute(99) });
    let odd = EventTime::from_millis(MONDAY + 100 * MINUTE_MS + 1);
    let odd = one.update(&Window::rate(odd, 1, 2).unwrap()).unwrap_err();
    assert!(matches!(odd, BadWindow::Start { window_ms: MINUTE_MS, .. }));
    assert_eq!(one, before);
    assert!(Window::rate(minute(0), 3, 2).is_err());
    assert!(Window::mean(minute(0), f64::NAN, 2).is_err());
    let told = Window::mean(minute(0), -1.0, 2).unwrap_err().to_string();
    assert!(told.contains("divide by what they can be at most"), "{told}");
}

#[test]
fn configurations_that_make_no_sense_are_refused_by_name() {
    let refused = |config: Config| Seasonal::new(config).unwrap_err().to_string();
    let share = refused(Config { share: 0.0, ..config() });
    assert_eq!(share, "share is 0, and must be above 0 and at most 1");
    let window = refused(Config { window_ms: 7 * MINUTE_MS, ..config() });
    assert_eq!(window, "window_ms is 420000, and must be a length that an hour is a multiple of");
    assert!(
        refused(Config { windows_to_false_alarm: f64::INFINITY, ..config() }).contains("finite")
    );
    assert!(refused(Config { min_effect: 1.0, ..config() }).contains("min_effect is 1"));
    assert!(refused(Config { down_share: -0.1, ..config() }).contains("down_share"));
    assert!(refused(Config { band_sigmas: f64::NAN, ..config() }).contains("band_sigmas"));
    assert!(refused(Config { offset_minutes: 1_500, ..config() }).contains("within a day"));
    assert!(toml::from_str::<Config>("min_effct = 0.1").is_err());
}

#[test]
fn a_pool_adds_up_what_its_metrics_show_at_their_shares() {
    let of = |share: f64, factor: f64| {
        let mut world = World::new(16, 300);
        let mut one = learnt(&mut world, WEEK, Config { share, ..config() });
        world.factor = factor;
        go_on(&mut one, &mut world, WEEK..WEEK + 60);
        one
    };
    let (quiet, low) = (of(0.75, 1.0), of(0.25, 0.6));
    let windows = config().windows_to_false_alarm;
    let alone = pool(windows, [&quiet].into_iter()).unwrap();
    assert!(!alone.fires);
    let both = pool(windows, [&quiet, &low].into_iter()).unwrap();
    let naive = (0.75 * quiet.log_e().exp() + 0.25 * low.log_e().exp()).ln();
    assert!((both.log_e - naive).abs() < 1e-9 && both.fires);
    assert_eq!(both.threshold, windows.ln());
    let refused = pool(windows, [&quiet, &quiet].into_iter()).unwrap_err().to_string();
    assert!(refused.contains("add up to 1"), "{refused}");
    let other = pool(2.0 * windows, [&quiet].into_iter()).unwrap_err().to_string();
    assert_eq!(other, "windows_to_false_alarm is 1440, and must be that of the pool");
    let nothing = pool(windows, std::iter::empty()).unwrap();
    assert!(!nothing.fires && nothing.log_e < -1e299);
}

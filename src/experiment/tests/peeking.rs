//! What looking again and again does to false alarms: two arms that are served alike, to users who
//! differ in how much they watch and how much they click.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::ratio_mismatch::{self, MISMATCH};
use super::*;

const USERS: usize = 600;
const UNITS: usize = 128;
const LOOKS: usize = 60;
const RULE: Rule = Rule { alpha: 0.05, tuning: 5_000.0 };

struct User {
    rate: f64,
    click_rate: f64,
    unit: usize,
    arm: usize,
}

fn normal(dice: &mut ChaCha8Rng) -> f64 {
    // Twelve uniform numbers: near enough for users to differ.
    (0..12).map(|_| dice.random::<f64>()).sum::<f64>() - 6.0
}

fn poisson(dice: &mut ChaCha8Rng, mean: f64) -> u32 {
    let (mut count, mut left) = (0, dice.random::<f64>());
    while left > (-mean).exp() {
        (count, left) = (count + 1, left * dice.random::<f64>());
    }
    count
}

/// Which methods told a difference of equal arms.
#[derive(Default)]
struct Told {
    /// The interval of a single look, believing every impression to be independent.
    impressions_once: bool,
    /// That of a single look, over groups of users, looked at once, in the end.
    units_once: bool,
    /// The same, looked at each time.
    units_peeked: bool,
    /// The sequential one, over minutes instead of users.
    minutes_sequential: bool,
    /// The sequential one.
    sequential: bool,
    /// A mismatch of the sizes.
    mismatch: bool,
}

fn simulate(seed: u64) -> Told {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let users: Vec<User> = (0..USERS)
        .map(|_| User {
            rate: (normal(&mut dice) - 0.5).exp() * 0.5,
            click_rate: 1.0 / (1.0 + (2.6 - 0.7 * normal(&mut dice)).exp()),
            unit: dice.random_range(0..UNITS),
            arm: usize::from(dice.random::<bool>()),
        })
        .collect();
    // Clicks, impressions and lists, by unit and arm.
    let mut sums = vec![[[0u64; 3]; 2]; UNITS];
    let mut minutes = [Moments::default(); 2];
    let mut told = Told::default();
    for look in 1..=LOOKS {
        let mut minute = [[0u64; 2]; 2];
        for user in &users {
            for _ in 0..poisson(&mut dice, user.rate) {
                let clicks = (0..10).filter(|_| dice.random::<f64>() < user.click_rate).count();
                let sum = &mut sums[user.unit][user.arm];
                *sum = [sum[0] + clicks as u64, sum[1] + 10, sum[2] + 1];
                minute[user.arm][0] += clicks as u64;
                minute[user.arm][1] += 10;
            }
        }
        for (moments, [clicks, impressions]) in minutes.iter_mut().zip(minute) {
            moments.add(clicks as f64, impressions as f64);
        }
        look_at(&sums, &minutes, look == LOOKS, &mut told);
    }
    told
}

fn look_at(sums: &[[[u64; 3]; 2]], minutes: &[Moments; 2], is_last: bool, told: &mut Told) {
    let arm = |arm: usize| {
        let mut whole = Arm::default();
        for [clicks, impressions, lists] in sums.iter().map(|unit| unit[arm]) {
            whole.observations += lists;
            if lists > 0 {
                whole.moments.add(clicks as f64, impressions as f64);
            }
        }
        whole
    };
    let arms = [arm(0), arm(1)];
    let Some(found) = compare(&arms[1], &arms[0], RULE) else { return };
    let fixed = (found.uplift / found.error).abs() > 1.96;
    let p = arms.map(|arm| arm.moments.ratio().unwrap());
    let share = |arm: usize| p[arm] * (1.0 - p[arm]) / arms[arm].moments.denominator;
    told.impressions_once = (p[1] - p[0]).abs() > 1.96 * (share(0) + share(1)).sqrt();
    told.units_once = fixed;
    told.units_peeked |= fixed;
    told.sequential |= found.is_decided();
    let over_minutes = |arm: usize| Arm { moments: minutes[arm], ..arms[arm] };
    let by_minute = compare(&over_minutes(1), &over_minutes(0), RULE);
    told.minutes_sequential |= by_minute.is_some_and(|found| found.is_decided());
    if is_last {
        let lists: Vec<[u64; 2]> = sums.iter().map(|unit| [unit[0][2], unit[1][2]]).collect();
        let units = lists.iter().map(|unit| unit.as_slice());
        let p = ratio_mismatch::probability(units, &[0.5, 0.5], RULE.tuning);
        told.mismatch = p.is_some_and(|p| p < MISMATCH);
    }
}

#[test]
fn only_the_sequential_interval_over_groups_of_users_may_be_looked_at_all_the_time() {
    let runs: Vec<Told> = (0..200).map(simulate).collect();
    let share = |of: fn(&Told) -> bool| {
        runs.iter().filter(|told| of(told)).count() as f64 / runs.len() as f64
    };
    let once = share(|told| told.units_once);
    assert!((0.01..0.1).contains(&once), "one look over users keeps its promise: {once}");
    let sequential = share(|told| told.sequential);
    assert!(
        sequential <= RULE.alpha,
        "so does the sequential interval at every look: {sequential}"
    );
    let peeked = share(|told| told.units_peeked);
    assert!(peeked > 2.0 * RULE.alpha, "peeking breaks that of a single look: {peeked}");
    let impressions = share(|told| told.impressions_once);
    assert!(impressions > 0.4, "impressions of one user are not independent: {impressions}");
    let minutes = share(|told| told.minutes_sequential);
    assert!(minutes > 0.2, "nor are the minutes that one user comes back in: {minutes}");
    let mismatch = share(|told| told.mismatch);
    assert!(mismatch <= 0.005, "users who watch much are no mismatch: {mismatch}");
}

#[test]
fn lost_lists_are_a_mismatch_and_uneven_shares_that_were_asked_for_are_none() {
    let mut dice = ChaCha8Rng::seed_from_u64(3);
    let mut units = vec![[0u64; 3]; 256];
    for _ in 0..6_000 {
        let unit = dice.random_range(0..256);
        let place = dice.random::<f64>();
        let arm = usize::from(place > 0.1) + usize::from(place > 0.4);
        units[unit][arm] += u64::from(poisson(&mut dice, 8.0));
    }
    let found = |units: &[[u64; 3]], shares: &[f64]| {
        ratio_mismatch::probability(units.iter().map(|u| u.as_slice()), shares, 10_000.0).unwrap()
    };
    assert!(found(&units, &[0.1, 0.3, 0.6]) > 0.2);
    assert!(found(&units, &[1.0, 3.0, 6.0]) > 0.2, "shares need not sum up to 1");
    assert!(found(&units, &[0.3, 0.3, 0.4]) < MISMATCH);
    let mut lossy = units.clone();
    lossy.iter_mut().for_each(|unit| unit[2] -= unit[2] / 8);
    assert!(found(&lossy, &[0.1, 0.3, 0.6]) < MISMATCH);
    let few: Vec<[u64; 3]> = units[..20].to_vec();
    let few = few.iter().map(|unit| unit.as_slice());
    assert_eq!(ratio_mismatch::probability(few, &[0.1, 0.3, 0.6], 10_000.0), None);
}

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::ranking::{Context, Item, Outcome};

/// An exposure to learn from, made up: what the dense features and one id say decides.
fn made_up(random: &mut ChaCha8Rng) -> (Served, Outcome, u64) {
    let mut served = Served::default();
    served.features.dense[0] = 1.0;
    for x in &mut served.features.dense[1..6] {
        *x = random.random_range(-2.0..2.0);
    }
    let id = random.random_range(0..20u32);
    served.features.ids = vec![id, 1_000 + id / 2];
    let x = &served.features.dense;
    let leaning = f32::from(u8::from(id.is_multiple_of(2))) - 0.5;
    let log_odds = [0.8 * x[1] - 0.5 * x[2] + leaning, -1.0 + x[3] - leaning];
    let [clicked, long_view] =
        log_odds.map(|log_odds| random.random_bool(f64::from(sigmoid(log_odds))));
    let watched_ms = if long_view { 24_000 } else { 3_000 };
    (served, Outcome { clicked, long_view, watched_ms }, u64::from(id % 3))
}

/// Serves and learns `exposures`, each at once, and gives each the probabilities that it was served.
fn taught(kind: Kind, seed: u64, exposures: usize) -> (Learner, Vec<(Scores, Outcome)>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut learner = Learner::new(kind);
    let found = (0..exposures).map(|n| teach_one(&mut learner, &mut random, n as i64)).collect();
    (learner, found)
}

fn teach_one(learner: &mut Learner, random: &mut ChaCha8Rng, n: i64) -> (Scores, Outcome) {
    let (mut served, outcome, surface) = made_up(random);
    let item = Item { duration_ms: 30_000, ..Item::default() };
    let scores = learner.weights().score(&served.features, surface, item.duration_ms);
    served.logged = scores.logged;
    let at = EventTime::from_millis(1_000 * n);
    let context = Context { user: 1, surface, at, profile: &[] };
    learner.learn(&served, &Example { context, item: &item, base: [0.5; 2], outcome });
    (scores, outcome)
}

#[test]
fn both_kinds_learn_what_decides_and_are_calibrated() {
    for kind in [Kind::Ftrl, Kind::Kalman] {
        let (_, found) = taught(kind, 5, 30_000);
        for target in 0..TARGETS {
            let late = || {
                found[15_000..].iter().map(|(scores, outcome)| {
                    (f64::from(scores.probabilities[target]), outcome.targets()[target] > 0.5)
                })
            };
            let judged = late().map(|(score, outcome)| crate::model::outcomes::Judged {
                score,
                outcome,
                weight: 1.0,
            });
            let auc = crate::model::outcomes::auc(judged.collect()).unwrap();
            let calibration = crate::model::outcomes::calibration(late()).unwrap();
            // Who knows the true log-odds reaches .78 and .76.
            assert!(auc > 0.74, "{kind:?} {target}: {auc}");
            assert!((calibration - 1.0).abs() < 0.03, "{kind:?} {target}: {calibration}");
        }
        let (expected, watched) = found.iter().fold((0.0, 0.0), |(e, w), (scores, outcome)| {
            (e + f64::from(scores.seconds), w + outcome.watched_ms as f64 / 1_000.0)
        });
        assert!((expected / watched - 1.0).abs() < 0.05, "{kind:?}: {expected} {watched}");
    }
}

/// FTRL and the Kalman filter by their formulas, in f64, every weight anew.
struct Naive {
    kind: Kind,
    dense: [Vec<[f64; 2]>; TARGETS],
    weights: [Vec<f64>; TARGETS],
    covariance: [Vec<Vec<f64>>; TARGETS],
    ids: std::collections::BTreeMap<(usize, u32), [f64; 2]>,
}

fn ftrl_weight(rule: Rule, [z, n]: [f64; 2]) -> f64 {
    -z / ((1.0 + n.sqrt()) / f64::from(rule.rate) + f64::from(rule.ridge))
}

fn ftrl_step(rule: Rule, memory: &mut [f64; 2], gradient: f64) {
    let w = ftrl_weight(rule, *memory);
    let n = memory[1] + gradient * gradient;
    memory[0] += gradient - (n.sqrt() - memory[1].sqrt()) / f64::from(rule.rate) * w;
    memory[1] = n;
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Naive {
    fn new(kind: Kind) -> Self {
        let mut memory = vec![[0.0; 2]; DENSE];
        memory[0][0] = 0.3 * (1.0 / f64::from(DENSE_RULE.rate) + f64::from(DENSE_RULE.ridge));
        let mut weights = vec![0.0; DENSE];
        weights[0] = -0.3;
        let identity =
            (0..DENSE).map(|i| (0..DENSE).map(|j| if i == j { 0.003 } else { 0.0 }).collect());
        let covariance: Vec<Vec<f64>> = identity.collect();
        Self {
            kind,
            dense: [memory.clone(), memory],
            weights: [weights.clone(), weights],
            covariance: [covariance.clone(), covariance],
            ids: Default::default(),
        }
    }

    fn log_odds(&self, features: &Features, target: usize) -> [f64; 2] {
        let x = features.dense.map(f64::from);
        let (rule, w): (_, Vec<f64>) = match self.kind {
            Kind::Ftrl => (
                IDS_RULE,
                self.dense[target].iter().map(|memory| ftrl_weight(DENSE_RULE, *memory)).collect(),
            ),
            Kind::Kalman => (REST_RULE, self.weights[target].clone()),
        };
        let dense: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
        let ids = features.ids.iter().map(|slot| {
            self.ids.get(&(target, *slot)).map_or(0.0, |memory| ftrl_weight(rule, *memory))
        });
        [dense, dense + ids.sum::<f64>()]
    }

    fn learn(&mut self, features: &Features, logged: [f64; TARGETS], outcomes: [f64; TARGETS]) {
        let x = features.dense.map(f64::from);
        for (target, y) in outcomes.into_iter().enumerate() {
            let [dense, all] = self.log_odds(features, target);
            let (rule, log_odds) = match self.kind {
                Kind::Ftrl => {
                    let gradient = logistic(all) - y;
                    for (memory, x) in self.dense[target].iter_mut().zip(x) {
                        ftrl_step(DENSE_RULE, memory, gradient * x);
                    }
                    (IDS_RULE, all)
                }
                Kind::Kalman => {
                    let p = logistic(dense);
                    let v = f64::max(p * (1.0 - p), 0.02);
                    let covariance = &mut self.covariance[target];
                    let h: Vec<f64> = covariance
                        .iter()
                        .map(|row| row.iter().zip(x).map(|(p, x)| p * x).sum())
                        .collect();
                    let q: f64 = h.iter().zip(x).map(|(h, x)| h * x).sum();
                    for (i, row) in covariance.iter_mut().enumerate() {
                        row.iter_mut().zip(&h).for_each(|(p, b)| *p -= h[i] * b / (1.0 / v + q));
                        row[i] *= 1.000_001;
                        self.weights[target][i] += h[i] * (y - p) / (v * (1.0 / v + q));
                    }
                    (REST_RULE, all - dense + logged[target])
                }
            };
            let gradient = logistic(log_odds) - y;
            for slot in &features.ids {
                ftrl_step(rule, self.ids.entry((target, *slot)).or_default(), gradient);
            }
        }
    }
}

#[test]
fn log_odds_are_those_of_the_formulas_in_double_precision() {
    for kind in [Kind::Ftrl, Kind::Kalman] {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let (mut learner, mut naive) = (Learner::new(kind), Naive::new(kind));
        let item = Item::default();
        for n in 0..1_500 {
            let (mut served, outcome, surface) = made_up(&mut random);
            let logged = learner.weights().score(&served.features, surface, 0).logged;
            for target in 0..TARGETS {
                let [dense, all] = naive.log_odds(&served.features, target);
                let ours = [logged.dense[target], logged.all[target]].map(f64::from);
                let off = (ours[0] - dense).abs().max((ours[1] - all).abs());
                assert!(off < 2e-4, "{kind:?}, example {n}: {ours:?} for {dense} and {all}");
            }
            // As served some time before: not what the weights of now would say.
            served.logged = Logged { dense: logged.dense.map(|x| 0.9 * x), all: logged.all };
            let context = Context { user: 1, surface, at: EventTime::from_millis(n), profile: &[] };
            learner.learn(&served, &Example { context, item: &item, base: [0.5; 2], outcome });
            let logged = served.logged.dense.map(f64::from);
            naive.learn(&served.features, logged, outcome.targets().map(f64::from));
        }
    }
}

#[test]
fn a_covariance_stays_symmetric_and_positive() {
    let (learner, _) = taught(Kind::Kalman, 3, 20_000);
    for dense in &learner.dense {
        let Dense::Kalman(covariance) = dense else { unreachable!("of this kind") };
        let at = |i: usize, j: usize| covariance.values[i * DENSE + j];
        for i in 0..DENSE {
            assert!(at(i, i) > 0.0, "{i}: {}", at(i, i));
            for j in 0..i {
                assert!((at(i, j) - at(j, i)).abs() < 1e-7);
                assert!(at(i, j).abs() <= (at(i, i) * at(j, j)).sqrt() * 1.001);
            }
        }
    }
}

#[test]
fn the_same_examples_give_the_same_bytes_and_a_learner_read_back_goes_on_alike() {
    for kind in [Kind::Ftrl, Kind::Kalman] {
        let (mut learner, _) = taught(kind, 7, 400);
        let bytes = learner.to_bytes();
        assert_eq!(bytes, taught(kind, 7, 400).0.to_bytes());
        let mut again = Learner::from_bytes(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        let mut random = [9, 9].map(ChaCha8Rng::seed_from_u64);
        for n in 400..600 {
            let [ours, theirs] = &mut random;
            let (a, b) = (teach_one(&mut learner, ours, n), teach_one(&mut again, theirs, n));
            assert_eq!(a, b);
        }
        assert_eq!(learner.to_bytes(), again.to_bytes());
        assert_eq!(learner.weights().to_bytes(), again.weights().to_bytes());
    }
}

#[test]
fn weights_read_back_score_alike() {
    let (learner, _) = taught(Kind::Kalman, 2, 500);
    let bytes = learner.weights().to_bytes();
    let weights = Weights::from_bytes(&bytes).unwrap();
    assert_eq!(weights.to_bytes(), bytes);
    assert_eq!((weights.learnt(), weights.watermark()), (500, EventTime::from_millis(499_000)));
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..100 {
        let (served, _, surface) = made_up(&mut random);
        let score = |weights: &Weights| weights.score(&served.features, surface, 12_000);
        assert_eq!(score(&weights), score(learner.weights()));
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let (learner, _) = taught(Kind::Ftrl, 2, 50);
    let (weights, learner) = (learner.weights().to_bytes(), learner.to_bytes());
    for bytes in [&weights, &learner] {
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            assert!(Weights::from_bytes(&flipped).is_err(), "{place} of weights");
            assert!(Learner::from_bytes(&flipped).is_err(), "{place} of a learner");
            assert!(Weights::from_bytes(&bytes[..place]).is_err());
            assert!(Learner::from_bytes(&bytes[..place]).is_err());
        }
    }
    assert!(Weights::from_bytes(&learner).is_err() && Learner::from_bytes(&weights).is_err());
}

/// The bytes with something else at a place, under a checksum that fits.
fn resealed(bytes: &[u8], place: usize, by: &[u8]) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len() - 8].to_vec();
    bytes[place..place + by.len()].copy_from_slice(by);
    let checksum = crate::ids::stable_hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn other_formats_other_features_and_what_is_no_number_are_refused_by_name() {
    let bytes = taught(Kind::Kalman, 2, 50).0.weights().to_bytes();
    let read = |bytes: &[u8]| Weights::from_bytes(bytes).map(|_| ());
    assert_eq!(read(&resealed(&bytes, 8, &[9])), Err(Unreadable::Format { found: 9 }));
    let other = read(&resealed(&bytes, 12, &77u64.to_le_bytes()));
    let expected = crate::ranking::schema();
    assert_eq!(other, Err(Unreadable::Schema { found: 77, expected }));
    let nan = read(&resealed(&bytes, 36, &f32::NAN.to_le_bytes()));
    assert_eq!(nan, Err(Unreadable::Damaged("a value is not finite")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn changed_bytes_under_a_right_checksum_never_panic(
        place in any::<prop::sample::Index>(), by in any::<[u8; 4]>(), learner in any::<bool>()
    ) {
        let (taught, _) = taught(Kind::Ftrl, 2, 20);
        let bytes = if learner { taught.to_bytes() } else { taught.weights().to_bytes() };
        let changed = resealed(&bytes, place.index(bytes.len() - 12), &by);
        if let Ok(weights) = Weights::from_bytes(&changed) {
            let scores = weights.score(&Features::default(), 1, 1);
            prop_assert!(scores.probabilities.iter().all(|p| p.is_finite()));
        }
        let _ = Learner::from_bytes(&changed);
    }
}

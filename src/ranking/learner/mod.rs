//! Learns weights from features as they were served and what came of them, one example at a time.
//!
//! Each target has a linear model of the dense features and one of the hashed ids, whose log-odds add
//! up. Ids learn by [`ftrl`]. Dense weights learn by [`kalman`]; then ids are learnt given the log-odds
//! that the dense ones had *when it was served*, so that they explain what is left and not what the
//! dense ones have learnt since. Or both learn by [`ftrl`], in one step.

mod codec;
mod ftrl;
mod kalman;
mod surfaces;
#[cfg(test)]
mod tests;
mod watch_time;

use self::ftrl::{Memory, Rule};
use self::kalman::Covariance;
use self::surfaces::Surfaces;
use self::watch_time::WatchTime;
use super::base::bucket;
use super::features::{DENSE, Features, SLOTS};
use super::math::sigmoid;
use super::served::Served;
use super::{Example, LONG_VIEW, TARGETS};
use crate::model::vector::dot;
use crate::time::EventTime;

pub use codec::Unreadable;

/// Of dense weights, where they learn by FTRL. A rate of .01 to .04 is all the same.
const DENSE_RULE: Rule = Rule { rate: 0.02, ridge: 1.0 };
/// Of ids beside it: of most there are few examples.
const IDS_RULE: Rule = Rule { rate: 0.005, ridge: 5.0 };
/// Of ids that explain what dense weights leave.
const REST_RULE: Rule = Rule { rate: 0.007, ridge: 5.0 };
/// The weight of the constant feature before anything is learnt.
const FIRST_CONSTANT: f32 = -0.3;

/// How dense weights learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By FTRL, together with ids.
    Ftrl,
    /// By a Kalman filter over all of them, before ids.
    Kalman,
}

/// What a score was made of, which learning needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Logged {
    /// Log-odds by the dense features alone, by target.
    pub dense: [f32; TARGETS],
    /// Log-odds by dense features and ids, before what the surface adds.
    pub all: [f32; TARGETS],
}

/// What is predicted of a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// By target: the probability of a click, of a long view.
    pub probabilities: [f32; TARGETS],
    /// Expected seconds watched.
    pub seconds: f32,
    /// To be logged with the features.
    pub logged: Logged,
}

/// What serving needs: weights and calibration. About 8.4 MB.
#[derive(Clone, Debug)]
pub struct Weights {
    learnt: u64,
    watermark: EventTime,
    dense: [[f32; DENSE]; TARGETS],
    /// By slot.
    ids: Vec<[f32; TARGETS]>,
    surfaces: Surfaces,
    watch_time: WatchTime,
}

impl Default for Weights {
    /// Nothing learnt yet.
    fn default() -> Self {
        let mut dense = [[0.0; DENSE]; TARGETS];
        dense.iter_mut().for_each(|weights| weights[0] = FIRST_CONSTANT);
        Self {
            learnt: 0,
            watermark: EventTime::default(),
            dense,
            ids: vec![[0.0; TARGETS]; SLOTS],
            surfaces: Surfaces::default(),
            watch_time: WatchTime::default(),
        }
    }
}

impl Weights {
    /// Examples that they were learnt from.
    pub fn learnt(&self) -> u64 {
        self.learnt
    }

    /// The time of the newest exposure among them.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// What is predicted of a candidate of this length on this surface. Panics at a slot that is not
    /// below [`SLOTS`], which features never have.
    pub fn score(&self, features: &Features, surface: u64, duration_ms: u64) -> Scores {
        self.score_on(features, &self.surfaces.shift(surface), duration_ms)
    }

    /// What a surface adds to log-odds: once a request, for [`Weights::score_on`].
    pub fn shift(&self, surface: u64) -> [f32; TARGETS] {
        self.surfaces.shift(surface)
    }

    /// The same as [`Weights::score`], given what the surface adds.
    pub fn score_on(
        &self,
        features: &Features,
        shift: &[f32; TARGETS],
        duration_ms: u64,
    ) -> Scores {
        let logged = self.log_odds(features);
        let probabilities: [f32; TARGETS] =
            std::array::from_fn(|target| sigmoid(logged.all[target] + shift[target]));
        let [short, long] = self.watch_time.means(bucket(duration_ms));
        let p = probabilities[LONG_VIEW];
        Scores { probabilities, seconds: p * long + (1.0 - p) * short, logged }
    }

    fn log_odds(&self, features: &Features) -> Logged {
        let dense: [f32; TARGETS] =
            std::array::from_fn(|target| dot(&self.dense[target], &features.dense));
        let mut all = dense;
        for &slot in &features.ids {
            let weights = &self.ids[slot as usize];
            all.iter_mut().zip(weights).for_each(|(sum, w)| *sum += w);
        }
        Logged { dense, all }
    }
}

/// What dense weights of one target are made of.
#[derive(Clone, Debug)]
enum Dense {
    Ftrl(Vec<Memory>),
    Kalman(Covariance),
}

/// Weights, and what they go on learning from.
#[derive(Clone, Debug)]
pub struct Learner {
    kind: Kind,
    weights: Weights,
    dense: [Dense; TARGETS],
    /// By slot.
    ids: Vec<[Memory; TARGETS]>,
}

impl Learner {
    /// Nothing learnt yet.
    pub fn new(kind: Kind) -> Self {
        let dense = || match kind {
            Kind::Kalman => Dense::Kalman(Covariance::new(DENSE)),
            Kind::Ftrl => {
                let mut memory = vec![Memory::default(); DENSE];
                memory[0] = DENSE_RULE.beginning(FIRST_CONSTANT);
                Dense::Ftrl(memory)
            }
        };
        let ids = vec![[Memory::default(); TARGETS]; SLOTS];
        Self { kind, weights: Weights::default(), dense: [dense(), dense()], ids }
    }

    /// The weights as they are now.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Learns what came of an exposure from what it was served with.
    pub fn learn(&mut self, served: &Served, example: &Example<'_>) {
        let Served { features, logged } = served;
        let Example { context, outcome, .. } = example;
        let outcomes = outcome.targets();
        let now = self.weights.log_odds(features);
        for (target, y) in outcomes.into_iter().enumerate() {
            let weights = &mut self.weights.dense[target];
            let (rule, log_odds) = match &mut self.dense[target] {
                Dense::Ftrl(memory) => {
                    let gradient = sigmoid(now.all[target]) - y;
                    for ((memory, w), x) in memory.iter_mut().zip(weights).zip(&features.dense) {
                        *w = DENSE_RULE.step(memory, *w, gradient * x);
                    }
                    (IDS_RULE, now.all[target])
                }
                Dense::Kalman(covariance) => {
                    let p = sigmoid(now.dense[target]);
                    covariance.learn(weights, &features.dense, p, y);
                    (REST_RULE, now.all[target] - now.dense[target] + logged.dense[target])
                }
            };
            let gradient = sigmoid(log_odds) - y;
            for &slot in &features.ids {
                let memory = &mut self.ids[slot as usize][target];
                let w = &mut self.weights.ids[slot as usize][target];
                *w = rule.step(memory, *w, gradient);
            }
        }
        self.weights.calibrate(logged, example);
        self.weights.learnt += 1;
        self.weights.watermark = self.weights.watermark.max(context.at);
    }
}

impl Weights {
    fn calibrate(&mut self, logged: &Logged, example: &Example<'_>) {
        let Example { context, item, outcome, .. } = example;
        let predicted = logged.all.map(sigmoid);
        self.surfaces.learn(context.surface, context.at, outcome.targets(), predicted);
        let (long_view, watched) = (outcome.long_view, outcome.watched_ms);
        self.watch_time.learn(context.at, item.duration_ms, long_view, watched);
    }
}

//! Which settings suit the interactions at hand: candidates are trained on the earlier ones and
//! judged on the newest.
//!
//! What suits a platform differs by a hundredfold: on sessions of clicks a basis with the weights of
//! videos finds a tenth of what one with those of sessions does (docs/benchmarks.md). So nobody is asked to
//! set them.
//!
//! Each of the newest positive interactions is a target: its user is folded in from what they had
//! liked before, as when they are served, and all items that they have not had are ranked. Judged
//! is the share of targets among the first 20: Recall@20, since each has one right answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Positive;
use crate::event::History;
use crate::ids::Prehashed;
use crate::model::ials::{IalsConfig, Interactions};
use crate::model::vector::dot;
use crate::model::{Basis, Dim, HistoryWeights, Hyperparameters, ModelError, Position, Training};

/// The newest part that is held out, one in so many; where there are few, one in so many of those up
/// to a number that tells settings apart.
const HELD_OUT: usize = 10;
const HELD_OUT_OF_FEW: usize = 4;
const FEW: usize = 1_000;
/// Interactions that candidates are trained on, the newest of those that are not held out. A
/// trial takes a second for each hundred thousand; settings that suit these suit more of them.
const EARLIER: usize = 200_000;
/// Targets ranked, spread evenly: enough to tell a recall of .20 from .23. Each costs a pass over
/// all vectors.
const TARGETS: usize = 2_000;
/// Targets below which nothing is chosen: two settings would differ by chance.
const LEAST_TARGETS: usize = 50;
/// Places that count.
const TOP: usize = 20;

/// What a basis is trained with, and how users are folded in over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// As manifests name them.
    pub name: &'static str,
    /// How it is trained.
    pub ials: IalsConfig,
    /// What the items of a history weigh.
    pub history: HistoryWeights,
}

impl Settings {
    /// For videos watched over days, as measured on KuaiRand.
    pub const VIDEOS: Self =
        Self { name: "videos", ials: IalsConfig::VIDEOS, history: HistoryWeights::VIDEOS };
    /// For sessions of clicks, as measured on DIGINETICA.
    pub const SESSIONS: Self =
        Self { name: "sessions", ials: IalsConfig::SESSIONS, history: HistoryWeights::SESSIONS };
    /// For few items that many watch: what did not happen says more.
    pub const DENSE: Self = Self {
        name: "dense",
        ials: IalsConfig { unobserved: 0.1, regularization: 0.01, ..IalsConfig::VIDEOS },
        history: HistoryWeights::VIDEOS,
    };
    /// Between videos and sessions.
    pub const BETWEEN: Self = Self {
        name: "between",
        ials: IalsConfig { unobserved: 0.003, regularization: 0.1, ..IalsConfig::VIDEOS },
        history: HistoryWeights { newest: 1.0, ratio: 0.8, limit: 50 },
    };
    /// What a first basis is chosen among. The first is taken where there is too little to choose
    /// by.
    pub const CANDIDATES: [Self; 4] = [Self::VIDEOS, Self::DENSE, Self::BETWEEN, Self::SESSIONS];
    /// Vectors twice as long, for who has the time and the memory.
    pub const LONG_VIDEOS: Self = Self {
        name: "long-videos",
        ials: IalsConfig { dim: Dim::LONG, ..IalsConfig::VIDEOS },
        ..Self::VIDEOS
    };
    /// The same for sessions.
    pub const LONG_SESSIONS: Self = Self {
        name: "long-sessions",
        ials: IalsConfig { dim: Dim::LONG, ..IalsConfig::SESSIONS },
        ..Self::SESSIONS
    };
    /// What a trained basis is chosen among.
    pub const TRAINER: [Self; 6] = [
        Self::VIDEOS,
        Self::DENSE,
        Self::BETWEEN,
        Self::SESSIONS,
        Self::LONG_VIDEOS,
        Self::LONG_SESSIONS,
    ];

    /// The settings of this name, of all that trainers choose among.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::TRAINER.into_iter().find(|settings| settings.name == name)
    }
}

/// How well settings did on what was held out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// Which.
    pub settings: Settings,
    /// Recall@20.
    pub recall: f64,
}

/// Interactions of which the newest are held out.
pub(super) struct HoldOut {
    /// Of the earlier ones.
    data: Interactions,
    targets: Vec<Target>,
}

/// What a user liked next, and what they had liked before, the newest first.
struct Target {
    history: Vec<Position>,
    item: Position,
}

impl HoldOut {
    /// Of interactions in order of time, with places of items below `items`. None where there
    /// are too few to tell settings apart.
    pub(super) fn new(
        positives: &[Positive],
        places: &HashMap<u64, u32, Prehashed>,
    ) -> Result<Option<Self>, ModelError> {
        let held_out = positives.len() / HELD_OUT;
        let held_out = held_out.max(FEW.min(positives.len() / HELD_OUT_OF_FEW));
        let (earlier, newest) = positives.split_at(positives.len() - held_out);
        let earlier = &earlier[earlier.len().saturating_sub(EARLIER)..];
        let mut users: HashMap<u64, u32, Prehashed> = HashMap::default();
        let mut histories: Vec<Vec<Position>> = Vec::new();
        let mut pairs = Vec::with_capacity(earlier.len());
        for positive in earlier {
            let next = users.len() as u32;
            let user = *users.entry(positive.user).or_insert(next);
            histories.resize_with(users.len(), Vec::new);
            let item = places[&positive.item];
            pairs.push((user, item));
            like(&mut histories[user as usize], Position(item));
        }
        let data = Interactions::new(users.len(), places.len(), pairs)?;
        let mut targets = Vec::new();
        for positive in newest {
            let next = users.len() as u32;
            let user = *users.entry(positive.user).or_insert(next) as usize;
            histories.resize_with(users.len(), Vec::new);
            let (history, item) = (&mut histories[user], Position(places[&positive.item]));
            let is_known = data.count(item.0 as usize) > 0;
            if is_known && !history.is_empty() && !history.contains(&item) {
                targets.push(Target { history: history.clone(), item });
            }
            like(history, item);
        }
        let step = targets.len().div_ceil(TARGETS).max(1);
        let targets: Vec<Target> = targets.into_iter().step_by(step).collect();
        let enough = targets.len() >= LEAST_TARGETS;
        Ok(enough.then_some(Self { data, targets }))
    }

    /// How many targets there are.
    pub(super) fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Tries every one of the settings, in their order, on `threads` threads, which changes
    /// nothing of the result. Settings that train alike are trained once.
    ///
    /// # Errors
    /// Those of `train`, which trains on interactions with settings, and of
    /// [`Basis::seal`].
    pub(super) fn try_all(
        &self,
        candidates: &[Settings],
        threads: usize,
        mut train: impl FnMut(&Interactions, &Settings) -> Result<Training, ModelError>,
    ) -> Result<Vec<Trial>, ModelError> {
        let mut trained: Option<(IalsConfig, Training)> = None;
        let mut trials = Vec::with_capacity(candidates.len());
        for settings in candidates {
            let training = match trained.take() {
                Some((config, training)) if config == settings.ials => training,
                _ => train(&self.data, settings)?,
            };
            let hyperparameters = Hyperparameters::new(&settings.ials, settings.history);
            let with = Training { hyperparameters, ..training.clone() };
            let histories = self.targets.iter().map(|target| target.history.iter().copied());
            let basis = Basis::seal(with, histories, threads)?;
            trials.push(Trial { settings: *settings, recall: self.recall(&basis, threads) });
            trained = Some((settings.ials, training));
        }
        Ok(trials)
    }

    /// The share of targets among the first of all items that are new to their user.
    fn recall(&self, basis: &Basis, threads: usize) -> f64 {
        let hits = AtomicUsize::new(0);
        let count = |targets: &[Target]| {
            let mut solver = basis.solver();
            let is_hit = |target: &&Target| {
                let history = target.history.iter().map(|item| Some(*item));
                let user = basis.fold_in(&mut solver, history);
                user.is_some_and(|user| is_among_first(basis, user, target))
            };
            hits.fetch_add(targets.iter().filter(is_hit).count(), Ordering::Relaxed);
        };
        thread::scope(|scope| {
            for part in self.targets.chunks(self.targets.len().div_ceil(threads.max(1))) {
                scope.spawn(|| count(part));
            }
        });
        hits.into_inner() as f64 / self.targets.len() as f64
    }
}

/// Puts an item first in a history, each item once.
fn like(history: &mut Vec<Position>, item: Position) {
    history.retain(|liked| *liked != item);
    history.insert(0, item);
    history.truncate(History::MAX);
}

/// Ties count against: nothing is known that tells them apart.
fn is_among_first(basis: &Basis, user: &[f32], target: &Target) -> bool {
    let vectors = basis.vectors();
    let score = dot(user, vectors.row(target.item.0 as usize));
    let as_good = vectors.rows().filter(|vector| dot(user, vector) >= score).count();
    let known =
        target.history.iter().filter(|item| dot(user, vectors.row(item.0 as usize)) >= score);
    // The target itself is one of those as good.
    as_good - known.count() <= TOP
}

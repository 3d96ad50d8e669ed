//! The first basis: item vectors from the interactions at hand, where nobody has trained a model.
//!
//! Enters: interactions, in any order. Leaves: a sealed [`Basis`], now and again each time there
//! are half as many again. A small implicit ALS; of every user only what they liked, each item once. The
//! settings are those that find most of what was liked last ([`hold_out`]).

mod hold_out;

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::event::Interaction;
use crate::ids::{ItemId, Prehashed, stable_hash};
use crate::model::ials::{self, Interactions};
use crate::model::{Basis, Hyperparameters, ModelError, Position, Training, Vectors};
use crate::time::EventTime;

use hold_out::HoldOut;
pub use hold_out::{Settings, Trial};

/// From how much a first basis is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstBasisLimits {
    /// Positive interactions, at least.
    pub min_positives: usize,
    /// Users that they are of, at least.
    pub min_users: usize,
    /// Items that they are about, at least.
    pub min_items: usize,
    /// Newest positive interactions that it is trained on.
    pub max_positives: usize,
    /// Most frequent items that it holds.
    pub max_items: usize,
}

/// The users that say how long folded-in vectors are, at most.
const HISTORIES: usize = 5_000;

/// One positive interaction.
#[derive(Clone, Copy)]
struct Positive {
    at: EventTime,
    user: u64,
    item: u64,
}

/// Collects positive interactions and trains on them.
pub struct FirstBasis {
    limits: FirstBasisLimits,
    candidates: Vec<Settings>,
    positives: VecDeque<Positive>,
    names: HashMap<u64, Arc<str>, Prehashed>,
    /// The newest event time of any.
    watermark: EventTime,
    /// How many were held when one was trained last, or there were too few users or items.
    tried: usize,
}

/// A basis, and what it was trained on.
pub struct TrainedBasis {
    /// The basis.
    pub basis: Basis,
    /// Users.
    pub users: usize,
    /// Positive interactions, those of items that it does not hold included.
    pub positives: usize,
    /// What it was trained with.
    pub settings: Settings,
    /// How the candidates did on what was held out; empty where there was too little to judge by, and
    /// the first was taken.
    pub trials: Vec<Trial>,
    /// Held out interactions that they were judged by.
    pub targets: usize,
}

/// The settings that were found best, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Which.
    pub settings: Settings,
    /// How the candidates did on what was held out; empty where there was too little to judge by, and
    /// the first was taken.
    pub trials: Vec<Trial>,
    /// Held out interactions that they were judged by.
    pub targets: usize,
}

/// What training reads.
struct Prepared {
    /// Numbers of items, by hash.
    places: HashMap<u64, u32, Prehashed>,
    items: Vec<ItemId>,
    /// In order of time, of these items only.
    positives: Vec<Positive>,
    /// User and item of each.
    pairs: Vec<(u32, u32)>,
    users: usize,
}

impl FirstBasis {
    /// Nothing collected yet. The settings are chosen among `candidates`, of which there is one at
    /// least; the first is taken where there is too little to choose by. Those that train alike
    /// are trained once if they come one after the other.
    pub fn new(limits: FirstBasisLimits, candidates: &[Settings]) -> Self {
        Self {
            limits,
            candidates: candidates.to_vec(),
            positives: VecDeque::new(),
            names: HashMap::default(),
            watermark: EventTime::default(),
            tried: 0,
        }
    }

    /// Takes an interaction, where its user liked the item.
    pub fn observe(&mut self, one: &Interaction<'_>) {
        if one.history.is_none() {
            return;
        }
        let item = stable_hash(one.item.as_bytes());
        self.names.entry(item).or_insert_with(|| one.item.into());
        let at = EventTime::from_millis(one.event_time);
        self.watermark = self.watermark.max(at);
        self.positives.push_back(Positive { at, user: one.user as u64, item });
        if self.positives.len() > self.limits.max_positives {
            self.positives.pop_front();
        }
    }

    /// Whether there is enough for a first one, and half as much again as for the `last`, which was
    /// trained on so many positive interactions, here or by somebody else. A log that is longer
    /// than the limit does not grow: then training is somebody else's.
    pub fn is_due(&self, last: usize) -> bool {
        let held = self.positives.len();
        held >= self.limits.min_positives
            && held >= last + last / 2
            && held >= self.tried + self.tried / 4
    }

    /// Trains on `threads` threads, which changes nothing of the result; `go_on` is asked after
    /// each epoch. None where there are too few users or items.
    ///
    /// # Errors
    /// Those of [`ials::train`] and [`Basis::seal`]; [`ModelError::Stopped`] where `go_on` said no.
    pub fn train(
        &mut self,
        threads: usize,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<TrainedBasis>, ModelError> {
        match self.choose(threads, &mut go_on)? {
            Some(choice) => self.train_as(&choice, threads, go_on),
            None => Ok(None),
        }
    }

    /// The settings that [`FirstBasis::train`] would train with: half of its work.
    ///
    /// # Errors
    /// Those of [`FirstBasis::train`].
    pub fn choose(
        &mut self,
        threads: usize,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<Choice>, ModelError> {
        self.tried = self.positives.len();
        let Some(data) = self.prepare() else { return Ok(None) };
        let hold_out = HoldOut::new(&data.positives, &data.places)?;
        let trials = match &hold_out {
            Some(hold_out) => hold_out.try_all(&self.candidates, threads, |pairs, settings| {
                self.run(&data, pairs, settings, threads, &mut go_on)
            })?,
            None => Vec::new(),
        };
        Ok(Some(Choice {
            settings: best(&trials).unwrap_or(self.candidates[0]),
            trials,
            targets: hold_out.map_or(0, |hold_out| hold_out.targets()),
        }))
    }

    /// Trains with the settings that were chosen. None as with [`FirstBasis::train`].
    ///
    /// # Errors
    /// Those of [`FirstBasis::train`].
    pub fn train_as(
        &self,
        choice: &Choice,
        threads: usize,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<TrainedBasis>, ModelError> {
        let Some(data) = self.prepare() else { return Ok(None) };
        let histories = histories(&data.pairs, data.users);
        let pairs = Interactions::new(data.users, data.places.len(), data.pairs.clone())?;
        let training = self.run(&data, &pairs, &choice.settings, threads, &mut go_on)?;
        Ok(Some(TrainedBasis {
            basis: Basis::seal(training, histories, threads)?,
            users: data.users,
            positives: self.positives.len(),
            settings: choice.settings,
            trials: choice.trials.clone(),
            targets: choice.targets,
        }))
    }

    fn run(
        &self,
        data: &Prepared,
        pairs: &Interactions,
        settings: &Settings,
        threads: usize,
        go_on: &mut impl FnMut() -> bool,
    ) -> Result<Training, ModelError> {
        let factors = ials::train(pairs, &settings.ials, threads, |_| {
            if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(Training {
            counts: (0..data.items.len()).map(|item| pairs.count(item)).collect(),
            items: data.items.clone(),
            vectors: factors.items,
            hyperparameters: Hyperparameters::new(&settings.ials, settings.history),
            watermark: self.watermark,
        })
    }

    /// Seals vectors that were trained elsewhere, by row of `vectors`, as if they had been trained
    /// here: with what is collected of their items. Users are folded in with `settings`.
    ///
    /// # Errors
    /// Those of [`Basis::seal`]; [`ModelError::NoInteractions`] where nothing collected is about these items.
    pub fn adopt(
        &self,
        items: &[ItemId],
        vectors: Vectors,
        settings: Settings,
        threads: usize,
    ) -> Result<TrainedBasis, ModelError> {
        let hash = |item: &ItemId| stable_hash(item.as_str().as_bytes());
        let data = self.prepare_for((0..).zip(items).map(|(place, i)| (hash(i), place)).collect());
        if data.pairs.is_empty() {
            return Err(ModelError::NoInteractions);
        }
        let pairs = Interactions::new(data.users, items.len(), data.pairs.clone())?;
        let training = Training {
            counts: (0..items.len()).map(|item| pairs.count(item)).collect(),
            items: items.to_vec(),
            vectors,
            hyperparameters: Hyperparameters::new(&settings.ials, settings.history),
            watermark: self.watermark,
        };
        Ok(TrainedBasis {
            basis: Basis::seal(training, histories(&data.pairs, data.users), threads)?,
            users: data.users,
            positives: self.positives.len(),
            settings,
            trials: Vec::new(),
            targets: 0,
        })
    }

    /// None where there are too few users or items.
    fn prepare(&self) -> Option<Prepared> {
        let data = self.prepare_for(self.chosen_items());
        let is_enough =
            data.users >= self.limits.min_users && data.places.len() >= self.limits.min_items;
        is_enough.then_some(data)
    }

    /// What is collected about the items of these hashes, which it numbers.
    fn prepare_for(&self, places: HashMap<u64, u32, Prehashed>) -> Prepared {
        let mut users: HashMap<u64, u32, Prehashed> = HashMap::default();
        let mut positives: Vec<Positive> =
            self.positives.iter().filter(|p| places.contains_key(&p.item)).copied().collect();
        // Whatever order they came in, the basis is the same.
        positives.sort_unstable_by_key(|p| (p.at, p.user, p.item));
        let pairs: Vec<(u32, u32)> = positives
            .iter()
            .map(|p| {
                let next = users.len() as u32;
                (*users.entry(p.user).or_insert(next), places[&p.item])
            })
            .collect();
        let mut items = vec![ItemId::from(""); places.len()];
        for (hash, place) in &places {
            // Of items that came with vectors from elsewhere nothing may be known.
            if let Some(name) = self.names.get(hash) {
                items[*place as usize] = ItemId::new(name.to_string());
            }
        }
        Prepared { places, items, positives, pairs, users: users.len() }
    }

    /// The most frequent items, numbered from 0.
    fn chosen_items(&self) -> HashMap<u64, u32, Prehashed> {
        let mut counts: HashMap<u64, u32, Prehashed> = HashMap::default();
        for positive in &self.positives {
            *counts.entry(positive.item).or_default() += 1;
        }
        let mut counts: Vec<(u64, u32)> = counts.into_iter().collect();
        counts.sort_unstable_by_key(|&(hash, count)| (std::cmp::Reverse(count), hash));
        counts.truncate(self.limits.max_items);
        (0..).zip(counts).map(|(place, (hash, _))| (hash, place)).collect()
    }
}

/// The settings that found most; of equals the first.
fn best(trials: &[Trial]) -> Option<Settings> {
    let better = |best: &Trial, other: &Trial| other.recall > best.recall;
    let best = trials.iter().reduce(|best, other| if better(best, other) { other } else { best });
    best.map(|trial| trial.settings)
}

/// Histories of some users, the newest first, each item once.
fn histories(pairs: &[(u32, u32)], users: usize) -> Vec<Vec<Position>> {
    let step = users.div_ceil(HISTORIES) as u32;
    let mut histories: HashMap<u32, Vec<Position>> = HashMap::new();
    for &(user, item) in pairs.iter().rev().filter(|pair| pair.0.is_multiple_of(step)) {
        let history = histories.entry(user).or_default();
        if !history.contains(&Position(item)) {
            history.push(Position(item));
        }
    }
    let mut histories: Vec<(u32, Vec<Position>)> = histories.into_iter().collect();
    histories.sort_unstable_by_key(|(user, _)| *user);
    histories.into_iter().map(|(_, history)| history).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::History;
    use crate::model::HistoryWeights;
    use crate::model::ials::IalsConfig;

    const LIMITS: FirstBasisLimits = FirstBasisLimits {
        min_positives: 100,
        min_users: 10,
        min_items: 10,
        max_positives: 1_000,
        max_items: 15,
    };

    fn trainer() -> FirstBasis {
        FirstBasis::new(LIMITS, &[Settings::VIDEOS])
    }

    fn liked(user: u64, item: u64) -> (u64, String) {
        (user, format!("v{item}"))
    }

    fn observe(trainer: &mut FirstBasis, liked: &[(u64, String)]) {
        for (n, (user, item)) in liked.iter().enumerate() {
            trainer.observe(&Interaction {
                user: *user as i64,
                item,
                event_time: n as i64,
                history: Some(History::default()),
                ..Interaction::default()
            });
        }
    }

    /// Two groups of users, each with items of its own.
    fn groups() -> Vec<(u64, String)> {
        (0..240).map(|n| liked(n % 24, (n * 7 + n / 24) % 10 + 10 * (n % 2))).collect()
    }

    #[test]
    fn what_is_liked_by_the_same_people_points_the_same_way() {
        let mut trainer = trainer();
        observe(&mut trainer, &groups());
        assert!(trainer.is_due(0));
        let trained = trainer.train(1, || true).unwrap().unwrap();
        assert_eq!((trained.users, trained.positives), (24, 240));
        let basis = trained.basis;
        assert_eq!(basis.items().len(), LIMITS.max_items);
        let group = |item: &ItemId| item.as_str()[1..].parse::<u32>().unwrap() / 10;
        let fit = |a: usize, b: usize| {
            let vectors = basis.vectors();
            crate::model::vector::dot(vectors.row(a), vectors.row(b))
        };
        let items = basis.items();
        let (mut same, mut other) = (Vec::new(), Vec::new());
        for a in 0..items.len() {
            for b in 0..a {
                let fits =
                    if group(&items[a]) == group(&items[b]) { &mut same } else { &mut other };
                fits.push(fit(a, b));
            }
        }
        let mean = |fits: &[f32]| fits.iter().sum::<f32>() / fits.len() as f32;
        assert!(mean(&same) > mean(&other) + 0.1, "{} {}", mean(&same), mean(&other));
    }

    #[test]
    fn the_next_is_due_when_there_is_half_as_much_again() {
        let mut trainer = trainer();
        observe(&mut trainer, &groups());
        let last = trainer.train(1, || true).unwrap().unwrap().positives;
        observe(&mut trainer, &groups()[..119]);
        assert!(!trainer.is_due(last));
        observe(&mut trainer, &groups()[..1]);
        assert!(trainer.is_due(last));
    }

    /// Settings with which only the newest item of a history counts.
    const NEWEST_ONLY: Settings = Settings {
        name: "newest only",
        ials: IalsConfig::SESSIONS,
        history: HistoryWeights { limit: 1, ..HistoryWeights::SESSIONS },
    };

    /// Sessions whose first of forty items decides about the last; between them is what everybody
    /// likes.
    fn ways() -> Vec<(u64, String)> {
        let session = |n: u64| {
            let way = n * 7 % 40;
            [way, 80 + n % 5, 80 + (n + 2) % 5, 40 + way].map(|item| liked(n, item))
        };
        (0..240).flat_map(session).collect()
    }

    #[test]
    fn the_settings_that_find_what_comes_next_are_taken_whatever_their_place() {
        let limits = FirstBasisLimits { max_items: 100, ..LIMITS };
        for candidates in [[NEWEST_ONLY, Settings::SESSIONS], [Settings::SESSIONS, NEWEST_ONLY]] {
            let mut trainer = FirstBasis::new(limits.clone(), &candidates);
            observe(&mut trainer, &ways());
            let trained = trainer.train(2, || true).unwrap().unwrap();
            let again = trainer.train(1, || true).unwrap().unwrap();
            assert_eq!(trained.settings.name, "sessions", "{:?}", trained.trials);
            let named: Vec<_> = trained.trials.iter().map(|trial| trial.settings.name).collect();
            assert_eq!(named, candidates.map(|settings| settings.name));
            assert!(trained.targets >= 50, "{}", trained.targets);
            assert!(trained.trials.iter().all(|trial| (0.0..=1.0).contains(&trial.recall)));
            assert_eq!(trained.trials, again.trials, "threads do not show");
            let of_basis = trained.basis.hyperparameters();
            assert_eq!(of_basis.history, Settings::SESSIONS.history, "users are folded in alike");
            assert_eq!(trained.basis.version(), again.basis.version());
        }
    }

    #[test]
    fn where_too_little_is_held_out_the_first_settings_are_taken_and_that_is_said() {
        let mut trainer = FirstBasis::new(LIMITS, &[Settings::VIDEOS, Settings::SESSIONS]);
        observe(&mut trainer, &groups()[..110]);
        let trained = trainer.train(1, || true).unwrap().unwrap();
        assert_eq!((trained.settings.name, trained.trials.len()), ("videos", 0));
    }

    #[test]
    fn training_stops_in_a_trial_too() {
        let limits = FirstBasisLimits { max_items: 100, ..LIMITS };
        let mut trainer = FirstBasis::new(limits, &Settings::CANDIDATES);
        observe(&mut trainer, &ways());
        let mut epochs = 0;
        let stopped = trainer.train(1, || {
            epochs += 1;
            epochs < 8
        });
        assert_eq!(stopped.err(), Some(ModelError::Stopped { done: 2, of: 6 }));
    }

    #[test]
    fn too_few_users_make_no_basis() {
        let mut trainer = trainer();
        let few: Vec<_> = (0..200).map(|n| liked(n % 3, n % 20)).collect();
        observe(&mut trainer, &few);
        assert!(trainer.is_due(0));
        assert!(trainer.train(1, || true).unwrap().is_none());
        assert!(!trainer.is_due(0));
    }
}

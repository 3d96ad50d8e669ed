//! The first basis: item vectors from the interactions at hand, where nobody has trained a model.
//!
//! Enters: interactions, in any order. Leaves: a sealed [`Basis`], now and again each time there
//! are twice as many. A small implicit ALS; of every user only what they liked, each item once.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::event::Interaction;
use crate::ids::{ItemId, Prehashed, stable_hash};
use crate::model::ials::{self, IalsConfig, Interactions};
use crate::model::{Basis, HistoryWeights, Hyperparameters, ModelError, Position, Training};
use crate::time::EventTime;

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
    config: IalsConfig,
    history: HistoryWeights,
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
}

impl FirstBasis {
    /// Nothing collected yet.
    pub fn new(limits: FirstBasisLimits, config: IalsConfig, history: HistoryWeights) -> Self {
        Self {
            limits,
            config,
            history,
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

    /// Whether there is enough for a first one, and twice as much as for the `last`, which was
    /// trained on so many positive interactions, here or by somebody else. A log that is longer
    /// than the limit never doubles: then training is somebody else's.
    pub fn is_due(&self, last: usize) -> bool {
        let held = self.positives.len();
        held >= self.limits.min_positives && held >= 2 * last && held >= self.tried + self.tried / 4
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
        let held = self.positives.len();
        self.tried = held;
        let chosen = self.chosen_items();
        let mut users: HashMap<u64, u32, Prehashed> = HashMap::default();
        let mut positives: Vec<Positive> =
            self.positives.iter().filter(|p| chosen.contains_key(&p.item)).copied().collect();
        // Whatever order they came in, the basis is the same.
        positives.sort_unstable_by_key(|p| (p.at, p.user, p.item));
        let pairs: Vec<(u32, u32)> = positives
            .iter()
            .map(|p| {
                let next = users.len() as u32;
                (*users.entry(p.user).or_insert(next), chosen[&p.item])
            })
            .collect();
        if users.len() < self.limits.min_users || chosen.len() < self.limits.min_items {
            return Ok(None);
        }
        let histories = histories(&pairs, users.len());
        let data = Interactions::new(users.len(), chosen.len(), pairs)?;
        let factors = ials::train(&data, &self.config, threads, |_| {
            if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let mut items = vec![ItemId::from(""); chosen.len()];
        for (hash, place) in &chosen {
            items[*place as usize] = ItemId::new(self.names[hash].to_string());
        }
        let training = Training {
            counts: (0..items.len()).map(|item| data.count(item)).collect(),
            items,
            vectors: factors.items,
            hyperparameters: Hyperparameters::new(&self.config, self.history),
            watermark: self.watermark,
        };
        let basis = Basis::seal(training, histories, threads)?;
        Ok(Some(TrainedBasis { basis, users: users.len(), positives: held }))
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

    const LIMITS: FirstBasisLimits = FirstBasisLimits {
        min_positives: 100,
        min_users: 10,
        min_items: 10,
        max_positives: 1_000,
        max_items: 15,
    };

    fn trainer() -> FirstBasis {
        FirstBasis::new(LIMITS, IalsConfig::VIDEOS, HistoryWeights::VIDEOS)
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
    fn the_next_is_due_when_there_is_twice_as_much() {
        let mut trainer = trainer();
        observe(&mut trainer, &groups());
        let last = trainer.train(1, || true).unwrap().unwrap().positives;
        assert!(!trainer.is_due(last));
        observe(&mut trainer, &groups());
        assert!(trainer.is_due(last));
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

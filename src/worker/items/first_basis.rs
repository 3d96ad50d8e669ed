//! The first basis: where nobody has trained one, the owner of item shard 0 does, from what
//! `interactions` holds, and again each time that has doubled.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;

use super::models;
use crate::config::FirstBasisConfig;
use crate::event::{FIRST_BASIS, Interactions, ModelManifest};
use crate::global::{ItemHandle, Items};
use crate::ids::ItemId;
use crate::kafka::{
    Delivery, KafkaError, Outgoing, Position as Start, Producer, ProducerKind, Reader,
    TopicPartition, Tracker,
};
use crate::model::ials::{self, IalsConfig};
use crate::model::{Basis, HistoryWeights, Hyperparameters, ModelError, Position, Training};
use crate::telemetry::names;
use crate::time::EventTime;
use crate::worker::Context;

/// How often it is looked whether there is something to do.
const LOOK: Duration = Duration::from_millis(500);
/// How long deliveries may take.
const DELIVERY_LIMIT: Duration = Duration::from_secs(150);
/// First bases that stay: requests under way, and item shards that are behind, may use the last.
const KEPT: usize = 2;
/// Users whose histories say how long a user vector is.
const SAMPLED_USERS: usize = 5_000;

/// Reads and trains while this worker is the one to, until the worker stops.
pub(super) fn run(context: &Context) {
    let config = &context.config.items;
    if !config.first_basis.enabled || !config.learn_vectors {
        return;
    }
    while !context.stop.sleep(LOOK) {
        if is_ours(context)
            && let Err(error) = follow(context)
        {
            tracing::warn!(%error, "no first basis yet; trying again");
        }
    }
}

/// Whether this worker is to train: it owns item shard 0, and nobody else has trained.
fn is_ours(context: &Context) -> bool {
    let models = context.items.models();
    let trained = models.values().any(|model| model.manifest.trained_by != FIRST_BASIS);
    context.items.owns_first() && context.items.is_loaded() && !trained
}

/// Follows `interactions` and trains where there is enough, while that is ours to do.
fn follow(context: &Context) -> Result<(), Box<dyn std::error::Error>> {
    let config = &context.config;
    let group = format!("{}-first-basis", config.kafka.group);
    let reader = Reader::new(&config.kafka.client(), &group, "driftline-first-basis")?;
    let mut log = Positives::open(context, &reader)?;
    let mut looked = Instant::now();
    while !context.stop.is_requested() {
        if let Some(record) = reader.poll(Duration::from_millis(100)) {
            let batch = Interactions::decode(record.value()).unwrap_or_default();
            log.learn(record.partition(), record.offset(), &batch, &config.items.first_basis);
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            if !is_ours(context) {
                return Ok(());
            }
            if log.is_due(context) {
                log.train_and_publish(context)?;
            }
        }
    }
    Ok(())
}

/// The newest positive interactions.
struct Positives {
    /// User, item, in the order they were read.
    newest: VecDeque<(u64, ItemHandle)>,
    items: Items,
    watermark: EventTime,
    /// The next offset to read, by partition.
    offsets: Vec<i64>,
    /// How many were there when this worker last trained.
    tried: usize,
    /// How many were there when they were last found to be of too few users or items.
    too_few: usize,
}

impl Positives {
    fn open(context: &Context, reader: &Reader) -> Result<Self, KafkaError> {
        let mut offsets = Vec::new();
        for partition in 0..context.interaction_partitions {
            let topic = context.config.topics.interactions();
            let tp = TopicPartition { topic, partition };
            offsets.push(reader.bounds(&tp)?.0);
            reader.add(&tp, Start::Beginning)?;
        }
        let (newest, items) = (VecDeque::new(), Items::default());
        Ok(Self { newest, items, watermark: EventTime::default(), offsets, tried: 0, too_few: 0 })
    }

    fn learn(
        &mut self,
        partition: i32,
        offset: i64,
        batch: &Interactions<'_>,
        config: &FirstBasisConfig,
    ) {
        if let Some(next) = self.offsets.get_mut(partition as usize) {
            *next = offset + 1;
        }
        for one in batch.interactions.iter().filter(|one| one.history.is_some()) {
            let item = self.items.handle(one.item);
            self.newest.push_back((one.user as u64, item));
            self.watermark = self.watermark.max(EventTime::from_millis(one.event_time));
            if self.newest.len() > config.max_positives {
                self.newest.pop_front();
            }
        }
    }

    /// Whether there is enough for a basis, and twice what the last one was trained on.
    fn is_due(&self, context: &Context) -> bool {
        let config = &context.config.items.first_basis;
        let models = context.items.models();
        let last = models.values().map(|model| model.manifest.interactions).max().unwrap_or(0);
        let last = usize::try_from(last).unwrap_or(0).max(self.tried);
        // A log that is held whole only can double; one that is cut off at its limit never does.
        let positives = self.newest.len();
        // Counting users takes a while where there are many positives: not for every one more.
        let more = positives >= self.too_few + self.too_few / 10;
        positives >= config.min_positives && positives >= 2 * last && more
    }

    fn train_and_publish(&mut self, context: &Context) -> Result<(), Box<dyn std::error::Error>> {
        let begun = Instant::now();
        let positives = self.newest.len();
        let config = &context.config.items.first_basis;
        let pairs = self.newest.iter().map(|(user, item)| (*user, item.0));
        let selected = Selection::of(pairs, config.max_items);
        if selected.users < config.min_users || selected.items.len() < config.min_items {
            self.too_few = positives;
            return Ok(());
        }
        // Whatever comes of it, the same positives are not tried again.
        self.tried = positives;
        let names: Vec<ItemId> = selected
            .items
            .iter()
            .map(|item| ItemId::from(&**self.items.name(ItemHandle(*item))))
            .collect();
        let users = selected.users;
        let stop = || context.stop.is_requested() || !context.items.owns_first();
        let Some(basis) = selected.train(names, self.watermark, stop)? else { return Ok(()) };
        let manifest = ModelManifest {
            trained_by: FIRST_BASIS.into(),
            offsets: self.offsets.clone(),
            users: users as i64,
            interactions: positives as i64,
            ..ModelManifest::default()
        };
        publish(context, &basis, manifest)?;
        counter!(names::FIRST_BASES).increment(1);
        tracing::info!(
            version = format!("{:016x}", basis.version().0),
            items = basis.items().len(),
            users,
            positives,
            seconds = begun.elapsed().as_secs_f64(),
            "a first basis is trained and published"
        );
        Ok(())
    }
}

/// What is trained on: the most frequent items, users that liked some of them.
struct Selection {
    users: usize,
    /// As they were given, the most frequent first.
    items: Vec<u32>,
    /// User and place of the item, the oldest first.
    pairs: Vec<(u32, u32)>,
}

impl Selection {
    fn of(positives: impl Iterator<Item = (u64, u32)> + Clone, max_items: usize) -> Self {
        let mut counts: HashMap<u32, u32> = HashMap::new();
        positives.clone().for_each(|(_, item)| *counts.entry(item).or_default() += 1);
        let mut items: Vec<(u32, u32)> = counts.into_iter().collect();
        items.sort_unstable_by_key(|(item, count)| (std::cmp::Reverse(*count), *item));
        items.truncate(max_items);
        let places: HashMap<u32, u32> =
            (0..).zip(&items).map(|(place, (item, _))| (*item, place)).collect();
        let mut users: HashMap<u64, u32> = HashMap::new();
        let mut pairs = Vec::new();
        for (user, item) in positives {
            if let Some(place) = places.get(&item) {
                let next = users.len() as u32;
                pairs.push((*users.entry(user).or_insert(next), *place));
            }
        }
        let items = items.into_iter().map(|(item, _)| item).collect();
        Self { users: users.len(), items, pairs }
    }

    /// Trains a basis; none where `stop` says so first.
    fn train(
        self,
        names: Vec<ItemId>,
        watermark: EventTime,
        stop: impl Fn() -> bool,
    ) -> Result<Option<Basis>, ModelError> {
        let config = IalsConfig::VIDEOS;
        let histories = self.histories();
        let data = ials::Interactions::new(self.users, self.items.len(), self.pairs)?;
        let trained = ials::train(&data, &config, 1, |_| match stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        let factors = match trained {
            Err(ModelError::Stopped { .. }) => return Ok(None),
            other => other?,
        };
        let training = Training {
            counts: (0..self.items.len()).map(|item| data.count(item)).collect(),
            items: names,
            vectors: factors.items,
            hyperparameters: Hyperparameters::new(&config, HistoryWeights::VIDEOS),
            watermark,
        };
        Basis::seal(training, histories, 1).map(Some)
    }

    /// What some of the users liked, the newest first.
    fn histories(&self) -> Vec<Vec<Position>> {
        let mut histories = vec![Vec::new(); self.users.min(SAMPLED_USERS)];
        for (user, item) in self.pairs.iter().rev() {
            if let Some(history) = histories.get_mut(*user as usize)
                && history.len() < HistoryWeights::VIDEOS.limit as usize
            {
                history.push(Position(*item));
            }
        }
        histories
    }
}

/// Publishes a basis, and retires first bases beyond the newest.
fn publish(
    context: &Context,
    basis: &Basis,
    manifest: ModelManifest,
) -> Result<(), Box<dyn std::error::Error>> {
    let producer =
        Producer::new(&context.config.kafka.client(), ProducerKind::Durable, "driftline-models")?;
    let tracker = Arc::new(Tracker::default());
    let topic = context.config.topics.models();
    let send = |key: &str, value: Option<&[u8]>| {
        let outgoing = Outgoing {
            topic: &topic,
            partition: Some(0),
            key: Some(key.as_bytes()),
            value: value.unwrap_or_default(),
            is_tombstone: value.is_none(),
            ..Outgoing::default()
        };
        producer.send(&outgoing, Delivery::Tracked(Arc::clone(&tracker)))
    };
    for (key, value) in models::records(basis, manifest)? {
        send(&key, Some(&value))?;
    }
    tracker.wait(DELIVERY_LIMIT)?;
    let mut older: Vec<_> = context
        .items
        .models()
        .into_values()
        .filter(|model| model.manifest.trained_by == FIRST_BASIS)
        .map(|model| model.manifest)
        .collect();
    older.sort_by_key(|manifest| std::cmp::Reverse(manifest.interactions));
    for retired in older.iter().skip(KEPT - 1) {
        for key in models::keys(retired) {
            send(&key, None)?;
        }
    }
    Ok(tracker.wait(DELIVERY_LIMIT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_items_are_trained_on_and_users_of_others_are_not() {
        let positives = [(7, 1), (7, 2), (8, 2), (9, 3), (8, 1), (6, 2)];
        let selected = Selection::of(positives.into_iter(), 2);
        assert_eq!((selected.users, selected.items.clone()), (3, vec![2, 1]));
        assert_eq!(selected.pairs, [(0, 1), (0, 0), (1, 0), (1, 1), (2, 0)]);
        let places =
            |user: usize| selected.histories()[user].iter().map(|p| p.0).collect::<Vec<_>>();
        assert_eq!([places(0), places(1), places(2)], [vec![0, 1], vec![1, 0], vec![0]]);
    }

    #[test]
    fn a_selection_is_trained_into_a_basis_that_tells_groups_apart() {
        let positives = (0..60u64).flat_map(|user| {
            let liked = move |n: &u32| (u64::from(*n) + user) % 3 != 0;
            (0..12u32).filter(liked).map(move |n| (user, (user % 2) as u32 * 12 + n))
        });
        let selected = Selection::of(positives, 100);
        let name = |item: &u32| ItemId::new(format!("v{item}"));
        let names = selected.items.iter().map(name).collect();
        let basis = selected.train(names, EventTime::from_millis(9), || false).unwrap().unwrap();
        let mut solver = basis.solver();
        let known = |item: u32| basis.position(&format!("v{item}"));
        let user = basis.fold_in(&mut solver, [known(0), known(1), known(4)]).unwrap();
        let score =
            |item: u32| crate::model::vector::dot(user, basis.trained(known(item).unwrap()).vector);
        let own = (0..12).map(score).fold(f32::MAX, f32::min);
        let other = (12..24).map(score).fold(f32::MIN, f32::max);
        assert!(own > other, "{own} {other}");
    }

    #[test]
    fn training_stops_where_the_worker_does() {
        let selected = Selection::of([(1, 1), (1, 2), (2, 1)].into_iter(), 9);
        let names = vec![ItemId::from("a"), ItemId::from("b")];
        assert!(selected.train(names, EventTime::default(), || true).unwrap().is_none());
    }
}

//! Hydrators: what later components need to know about the user.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use super::pipeline::Hydrator;
use super::query::{HistoryItem, Leaning, Query, Taste as Tastes, UserVector as Vector};
use crate::catalog::Standing;
use crate::event::{History as EventHistory, Source};
use crate::feature::UserState;
use crate::ids::{Prehashed, stable_hash};
use crate::model::{BasisVersion, FoldIn};
use crate::time::EventTime;

/// The history that the list is made from: the user's watches and clicks as one.
pub struct History;

impl Hydrator for History {
    fn name(&self) -> &'static str {
        "history"
    }

    fn hydrate(&self, query: &mut Query<'_>) {
        let mut history = match query.recent_items() {
            Some(recent) => recent.iter().map(|item| clicked(item.as_str(), query.at)).collect(),
            None => folded(query.world.user),
        };
        query.known = history.iter().map(|event| event.hash).collect();
        // What is not wanted leads to nothing, and is no cause to name.
        history.retain(|past| !query.refused.has(past.hash, query.world.catalog));
        query.history = match &query.request.context_item {
            // What goes with an item is the same for everybody.
            Some(item) if query.is_related() => vec![clicked(item.as_str(), query.at)],
            _ => history,
        };
    }
}

/// An item as if it had been clicked, in a session that nobody else has.
fn clicked(item: &str, at: EventTime) -> HistoryItem<'_> {
    HistoryItem::chosen(item, at, 0)
}

/// What a user's state remembers, oldest first.
fn folded<'a>(user: &'a UserState<'a>) -> Vec<HistoryItem<'a>> {
    let mut history = Vec::new();
    for source in Source::ALL {
        history.extend(user.recent(source).iter().map(|entry| HistoryItem {
            item: entry.item,
            hash: stable_hash(entry.item.as_bytes()),
            at: entry.at,
            source,
            fraction: entry.watched_fraction(),
            duration_s: entry.duration_s,
            session: entry.session,
            is_positive: entry.is_positive(source),
        }));
    }
    // Each list is sorted; equal times keep watches before clicks, in every process.
    history.sort_by_key(|h| h.at);
    history
}

/// Newest liked items that say what a user likes.
const LIKED: usize = 50;
/// What an item of the history counts next to the one after it.
const RATIO: f32 = 0.95;
/// Items of a creator that make a habit.
const HABIT: u32 = 2;

/// What the user leans to, by the labels and creators of what they liked.
pub struct Taste;

/// Of a label or creator: decayed count, items, newest item.
type Sums<'a> = BTreeMap<u32, (f32, u32, &'a str)>;

impl Hydrator for Taste {
    fn name(&self) -> &'static str {
        "taste"
    }

    fn hydrate(&self, query: &mut Query<'_>) {
        let (mut labels, mut creators) = (Sums::new(), Sums::new());
        let mut weight = 1.0;
        for liked in query.liked().take(LIKED) {
            if let Standing::Listed(listing) = query.world.catalog.find(liked.hash) {
                let own = listing.labels();
                for label in own {
                    add(&mut labels, *label, weight / own.len() as f32, liked.item);
                }
                if let Some(creator) = listing.creator_number() {
                    add(&mut creators, creator, weight, liked.item);
                }
            }
            weight *= RATIO;
        }
        // Of a single item it is its creator that is asked for, habit or not.
        let habit = if query.is_related() { 1 } else { HABIT };
        creators.retain(|_, (_, items, _)| *items >= habit);
        query.taste = Tastes { labels: shares(labels), creators: shares(creators) };
    }
}

fn add<'a>(sums: &mut Sums<'a>, number: u32, weight: f32, item: &'a str) {
    let sum = sums.entry(number).or_insert((0.0, 0, item));
    sum.0 += weight;
    sum.1 += 1;
}

fn shares(sums: Sums<'_>) -> Vec<Leaning<'_>> {
    let total: f32 = sums.values().map(|sum| sum.0).sum();
    let mut leanings: Vec<Leaning<'_>> = sums
        .into_iter()
        .map(|(number, (sum, _, because))| Leaning { number, weight: sum / total, because })
        .collect();
    leanings.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.number.cmp(&b.number)));
    leanings
}

thread_local! {
    /// A solver and the basis that it belongs to: making one allocates as much as it computes.
    static SOLVER: RefCell<Option<(BasisVersion, FoldIn)>> = const { RefCell::new(None) };
}

/// The user's vector, folded in over the basis that serves from what they liked, as item shards do it:
/// no user vector is stored that could lag behind.
pub struct UserVector;

impl Hydrator for UserVector {
    fn name(&self) -> &'static str {
        "user_vector"
    }

    fn hydrate(&self, query: &mut Query<'_>) {
        let items = query.world.items;
        let Some(version) = query.basis else { return };
        let Some(basis) = items.basis(version) else { return };
        let positive = query.history.iter().rev().filter(|h| h.is_positive);
        let mut before = HashSet::<u64, Prehashed>::default();
        let history = positive.map(|event| event.hash).filter(|hash| before.insert(*hash));
        let vector = SOLVER.with_borrow_mut(|held| {
            let solver = match held {
                Some((known, solver)) if *known == version => solver,
                _ => &mut held.insert((version, basis.basis().solver())).1,
            };
            basis.fold_in(solver, history.take(EventHistory::MAX)).map(<[f32]>::to_vec)
        });
        query.user_vector = vector.map(|vector| Vector { basis: version, vector });
    }
}

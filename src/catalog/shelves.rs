//! Shelves: what is most watched, and what is new, under each label and by each creator.
//!
//! Enters: the catalog and what people watch. Leaves: short ranked lists. A label is a category
//! or a tag. Made anew now and then, as trending is ranked: never while a request waits.

use std::collections::HashMap;
use std::sync::Arc;

use super::Catalog;
use super::interner::EMPTY;
use super::listing::{Entry, NEVER};
use crate::ids::Prehashed;
use crate::time::{DAY_MS, EventTime};

/// Items on a shelf at most: a list has 20, a user has seen some, filters take some.
const LONGEST: usize = 200;
/// Items are new for so long, in days.
const NEW_DAYS: f32 = 7.0;
/// Decayed count that an item has without being watched: what is on a shelf can be found.
const PRIOR: f32 = 0.1;

/// An item on a shelf.
#[derive(Clone, Debug)]
pub struct Shelved {
    /// The item.
    pub item: Arc<str>,
    /// Its XXH3-64.
    pub hash: u64,
    /// Its share of what the shelf holds, above 0.
    pub share: f32,
}

/// Ranked items, best first; their shares add up to 1.
pub type Shelf = Arc<[Shelved]>;

/// Short lists by label and by creator.
#[derive(Default)]
pub struct Shelves {
    labels: HashMap<u32, Shelf>,
    creators: HashMap<u32, Shelf>,
    fresh: HashMap<u32, Shelf>,
    all_fresh: Option<Shelf>,
}

/// The heap of one shelf while it is filled: entries by weight.
type Heap<'a> = Vec<(f32, u64, &'a Entry)>;

impl Shelves {
    /// Looks at every item once.
    pub(super) fn make(
        catalog: &Catalog,
        watched: HashMap<u64, f32, Prehashed>,
        at: EventTime,
    ) -> Self {
        let mut labels: HashMap<u32, Heap<'_>> = HashMap::new();
        let mut creators: HashMap<u32, Heap<'_>> = HashMap::new();
        let mut fresh: HashMap<u32, Heap<'_>> = HashMap::new();
        let mut all_fresh = Heap::new();
        for (&hash, entry) in &catalog.items {
            if entry.blocked || !(entry.from..entry.until).contains(&at) || entry.published > at {
                continue;
            }
            let weight = PRIOR + watched.get(&hash).copied().unwrap_or(0.0);
            let novelty = novelty(entry, at);
            for label in catalog.labels_of(entry) {
                labels.entry(label).or_default().push((weight, hash, entry));
                if novelty > 0.0 {
                    fresh.entry(label).or_default().push((novelty, hash, entry));
                }
            }
            if entry.creator != EMPTY {
                creators.entry(entry.creator).or_default().push((weight, hash, entry));
            }
            if novelty > 0.0 {
                all_fresh.push((novelty, hash, entry));
            }
        }
        let all = |heaps: HashMap<u32, Heap<'_>>| {
            heaps.into_iter().map(|(key, heap)| (key, shelf(heap))).collect()
        };
        let all_fresh = (!all_fresh.is_empty()).then(|| shelf(all_fresh));
        Self { labels: all(labels), creators: all(creators), fresh: all(fresh), all_fresh }
    }

    /// What is most watched under a label.
    pub fn of_label(&self, label: u32) -> &[Shelved] {
        self.labels.get(&label).map_or(&[], |shelf| shelf)
    }

    /// What is most watched of a creator.
    pub fn of_creator(&self, creator: u32) -> &[Shelved] {
        self.creators.get(&creator).map_or(&[], |shelf| shelf)
    }

    /// What was published lately under a label; under any where there is none.
    pub fn fresh(&self, label: Option<u32>) -> &[Shelved] {
        match label {
            Some(label) => self.fresh.get(&label).map_or(&[], |shelf| shelf),
            None => self.all_fresh.as_deref().unwrap_or(&[]),
        }
    }

    /// Memory held, in bytes, estimated; names are the catalog's.
    pub fn bytes(&self) -> usize {
        let maps = [&self.labels, &self.creators, &self.fresh];
        let shelves = maps.into_iter().flat_map(HashMap::values).chain(&self.all_fresh);
        shelves.map(|shelf| 48 + shelf.len() * size_of::<Shelved>()).sum()
    }
}

/// Above 0 for what was published in the last days: less the older.
fn novelty(entry: &Entry, at: EventTime) -> f32 {
    if entry.published == NEVER {
        return 0.0;
    }
    let days = at.since(entry.published) as f32 / DAY_MS as f32;
    if (0.0..=NEW_DAYS).contains(&days) { 1.0 / (1.0 + days) } else { 0.0 }
}

fn shelf(mut heap: Heap<'_>) -> Shelf {
    // Equals by hash: the order must not be that of a table in memory.
    let better = |a: &(f32, u64, &Entry), b: &(f32, u64, &Entry)| {
        b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1))
    };
    if heap.len() > LONGEST {
        heap.select_nth_unstable_by(LONGEST, better);
        heap.truncate(LONGEST);
    }
    heap.sort_unstable_by(better);
    let total: f32 = heap.iter().map(|one| one.0).sum();
    heap.into_iter()
        .map(|(weight, hash, entry)| Shelved {
            item: Arc::clone(&entry.name),
            hash,
            share: weight / total,
        })
        .collect()
}

//! The catalog: what the platform says about its items, as far as filters ask for it.
//!
//! Enters: records of `item-catalog`, each the whole truth about its item, and tombstones.
//! Leaves: answers about single items for the filters of serving, and the [`Difference`] between
//! what is published and what an import or a database says. A fold of a compacted topic: tables
//! that read the same last record of every item answer alike. Never reads user state, never a
//! clock: callers say for which time they ask.

mod difference;
mod interner;
mod listing;
mod shelves;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::event::CatalogItem;
use crate::ids::{Prehashed, stable_hash};
use crate::time::EventTime;

pub use difference::{Change, Difference, Field};
pub use listing::Listing;
pub use shelves::{Shelf, Shelved, Shelves};

use interner::{Lists, Names};
use listing::{Entry, FOR_GOOD, NEVER};

/// All items of the platform, in memory. Items are known by the XXH3-64 of their ids, which
/// candidates carry already: a look-up hashes nothing. Two of ten million items share a hash with a
/// probability of one in 400,000.
#[derive(Default)]
pub struct Catalog {
    items: HashMap<u64, Entry, Prehashed>,
    delisted: HashSet<u64, Prehashed>,
    creators: Names,
    categories: Lists,
    languages: Lists,
    countries: Lists,
    labels: Lists,
    shelves: Arc<Shelves>,
    name_bytes: usize,
    revision: u64,
    required: bool,
}

/// What the catalog says about an item as a whole.
#[derive(Clone, Copy)]
pub enum Standing<'a> {
    /// It has a record.
    Listed(Listing<'a>),
    /// It had one, which was taken back with a tombstone.
    Delisted,
    /// Nothing was ever said about it.
    Unknown,
}

impl<'a> Standing<'a> {
    /// The item's record, where it has one.
    pub fn listing(self) -> Option<Listing<'a>> {
        match self {
            Self::Listed(listing) => Some(listing),
            Self::Delisted | Self::Unknown => None,
        }
    }
}

impl Catalog {
    /// An empty catalog. Where it is `required`, items that it never knew are not to be served.
    pub fn new(required: bool) -> Self {
        Self { required, ..Self::default() }
    }

    /// Takes an item's record in place of any earlier one.
    pub fn upsert(&mut self, item: &CatalogItem) {
        let hash = stable_hash(item.item.as_str().as_bytes());
        self.revision += 1;
        let labels: Vec<String> = item.categories.iter().chain(&item.tags).cloned().collect();
        let entry = Entry {
            name: item.item.as_str().into(),
            published: item.published.unwrap_or(NEVER),
            from: item.available_from.unwrap_or(NEVER),
            until: item.available_until.unwrap_or(FOR_GOOD),
            creator: self.creators.symbol(&item.creator),
            categories: self.categories.symbol(&item.categories),
            languages: self.languages.symbol(&item.languages),
            countries: self.countries.symbol(&item.available_countries),
            labels: self.labels.symbol(&labels),
            blocked: item.blocked,
            duration_ms: u32::try_from(item.duration_ms).unwrap_or(u32::MAX),
        };
        self.name_bytes += item.item.as_str().len();
        if let Some(earlier) = self.items.insert(hash, entry) {
            self.name_bytes -= earlier.name.len();
        }
        self.delisted.remove(&hash);
    }

    /// Takes an item's tombstone.
    pub fn delist(&mut self, item: &str) {
        let hash = stable_hash(item.as_bytes());
        if let Some(entry) = self.items.remove(&hash) {
            self.name_bytes -= entry.name.len();
        }
        self.delisted.insert(hash);
    }

    /// What is known of the item with this XXH3-64.
    pub fn find(&self, hash: u64) -> Standing<'_> {
        match self.items.get(&hash) {
            Some(entry) => Standing::Listed(Listing::new(self, entry)),
            None if self.delisted.contains(&hash) => Standing::Delisted,
            None => Standing::Unknown,
        }
    }

    /// Every item that has a record, by name, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Listing<'_>)> {
        self.items.values().map(|entry| (&*entry.name, Listing::new(self, entry)))
    }

    /// Changes with every record taken.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether items that the catalog never knew are not to be served.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Number of items that have a record.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of items that are known to be delisted.
    pub fn delisted(&self) -> usize {
        self.delisted.len()
    }

    /// Ranks what is under each label and by each creator, by how much each item, by its XXH3-64,
    /// is watched as of `at`. Looks at every item; for a background thread, which hands the
    /// result to [`Catalog::set_shelves`].
    pub fn shelve(&self, watched: &[(u64, f32)], at: EventTime) -> Shelves {
        Shelves::make(self, watched.iter().copied().collect(), at)
    }

    /// Takes shelves made of this catalog.
    pub fn set_shelves(&mut self, shelves: Shelves) {
        self.shelves = Arc::new(shelves);
    }

    /// As last made. What was delisted since may still be on them: filters know.
    pub fn shelves(&self) -> &Shelves {
        &self.shelves
    }

    /// The text of a label's number.
    pub fn label(&self, label: u32) -> &str {
        self.labels.word(label)
    }

    fn labels_of(&self, entry: &Entry) -> impl Iterator<Item = u32> + '_ {
        self.labels.words(entry.labels).iter().copied()
    }

    /// Memory held, in bytes, estimated.
    pub fn bytes(&self) -> usize {
        // A table keeps one byte of control beside each place.
        let entry = size_of::<(u64, Entry)>() + 1;
        // A name has its counts beside it.
        self.items.capacity() * entry
            + self.name_bytes
            + self.items.len() * 16
            + self.shelves.bytes()
            + self.delisted.capacity() * 9
            + self.creators.bytes()
            + [&self.categories, &self.languages, &self.countries, &self.labels]
                .iter()
                .map(|lists| lists.bytes())
                .sum::<usize>()
    }
}

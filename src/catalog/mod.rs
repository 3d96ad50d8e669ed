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
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::event::CatalogItem;
use crate::ids::stable_hash;

pub use difference::{Change, Difference, Field};
pub use listing::Listing;

use interner::{Lists, Names};
use listing::{Entry, FOR_GOOD, NEVER};

/// All items of the platform, in memory. Items are known by the XXH3-64 of their ids, which
/// candidates carry already: a look-up hashes nothing, and no names are held. Two of ten million
/// items share a hash with a probability of one in 400,000.
#[derive(Default)]
pub struct Catalog {
    items: HashMap<u64, Entry, AsItIs>,
    delisted: HashSet<u64, AsItIs>,
    creators: Names,
    categories: Lists,
    languages: Lists,
    countries: Lists,
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

impl Catalog {
    /// An empty catalog. Where it is `required`, items that it never knew are not to be served.
    pub fn new(required: bool) -> Self {
        Self { required, ..Self::default() }
    }

    /// Takes an item's record in place of any earlier one.
    pub fn upsert(&mut self, item: &CatalogItem) {
        let hash = stable_hash(item.item.as_str().as_bytes());
        let entry = Entry {
            published: item.published.unwrap_or(NEVER),
            from: item.available_from.unwrap_or(NEVER),
            until: item.available_until.unwrap_or(FOR_GOOD),
            creator: self.creators.symbol(&item.creator),
            categories: self.categories.symbol(&item.categories),
            languages: self.languages.symbol(&item.languages),
            countries: self.countries.symbol(&item.available_countries),
            blocked: item.blocked,
        };
        self.items.insert(hash, entry);
        self.delisted.remove(&hash);
    }

    /// Takes an item's tombstone.
    pub fn delist(&mut self, item: &str) {
        let hash = stable_hash(item.as_bytes());
        self.items.remove(&hash);
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

    /// Memory held, in bytes, estimated.
    pub fn bytes(&self) -> usize {
        // A table keeps one byte of control beside each place.
        let entry = size_of::<(u64, Entry)>() + 1;
        self.items.capacity() * entry
            + self.delisted.capacity() * 9
            + self.creators.bytes()
            + [&self.categories, &self.languages, &self.countries]
                .iter()
                .map(|lists| lists.bytes())
                .sum::<usize>()
    }
}

/// Keys that are hashes already.
type AsItIs = BuildHasherDefault<Unhashed>;

#[derive(Default)]
struct Unhashed(u64);

impl Hasher for Unhashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = stable_hash(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

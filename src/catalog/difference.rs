//! What an import or a database says, held against what is published: only what changed is
//! published anew.
//!
//! Holds no records: each published item is remembered by hashes of its fields, about 100 bytes
//! an item besides its name, so that catalogs of millions fit a tool's memory.

use std::collections::HashMap;
use std::fmt;

use crate::event::{CatalogItem, CatalogRecord, Encoding, Rejection};
use crate::ids::{ItemId, stable_hash};

macro_rules! fields {
    ($($variant:ident = $name:ident;)*) => {
        /// A field of a record, as differences name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $(#[doc = concat!("`", stringify!($name), "`")] $variant,)*
        }

        impl Field {
            const ALL: &[Field] = &[$(Field::$variant),*];

            /// As the schema names it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Field::$variant => stringify!($name),)*
                }
            }
        }

        /// Hashes of the fields of a record, in the order of [`Field::ALL`].
        fn hashes(record: &CatalogRecord) -> Box<[u32]> {
            // Exhaustive: a field that is added to the record must be compared too.
            let CatalogRecord { item: _, $($name),* } = record;
            Box::from([$(hash(&format!("{:?}", $name))),*])
        }
    };
}

fields! {
    Title = title;
    Creator = creator;
    Categories = categories;
    Tags = tags;
    Duration = duration_ms;
    Published = published;
    Languages = languages;
    Countries = available_countries;
    From = available_from;
    Until = available_until;
    Blocked = blocked;
    Attributes = attributes;
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Half of the text's XXH3-64.
fn hash(text: &str) -> u32 {
    stable_hash(text.as_bytes()) as u32
}

/// What observing an item found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing is published of it.
    Added,
    /// These fields differ from what is published.
    Changed(Vec<Field>),
    /// It is published as it is.
    Same,
    /// It was observed before in this pass: the source says two things of one item.
    Repeated,
}

/// A published item, or one that was observed without being published.
struct Known {
    /// XXH3-64 of the encoded record; none where nothing is published.
    published: Option<u64>,
    fields: Box<[u32]>,
    /// The last pass in which it was observed.
    pass: u32,
}

/// What is published, and what was observed of the source in a pass over it.
#[derive(Default)]
pub struct Difference {
    known: HashMap<ItemId, Known>,
    published: usize,
    pass: u32,
}

impl Difference {
    /// Takes a record that is published.
    ///
    /// # Errors
    /// A [`Rejection`] where the item cannot be encoded: its numbers do not fit the schema.
    pub fn published(&mut self, item: &CatalogItem) -> Result<(), Rejection> {
        let (whole, fields) = prints(item)?;
        let known = self.known.entry(item.item.clone()).or_insert(Known {
            published: None,
            fields: Box::default(),
            pass: 0,
        });
        self.published += usize::from(known.published.is_none());
        (known.published, known.fields) = (Some(whole), fields);
        Ok(())
    }

    /// Takes a tombstone that is published.
    pub fn delisted(&mut self, item: &str) {
        let gone = self.known.remove(item);
        self.published -= usize::from(gone.is_some_and(|known| known.published.is_some()));
    }

    /// Number of items that are published.
    pub fn len(&self) -> usize {
        self.published
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.published == 0
    }

    /// Begins a pass over the source: nothing is observed yet.
    pub fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// Observes what the source says about an item.
    ///
    /// # Errors
    /// A [`Rejection`] where the item cannot be encoded.
    pub fn observe(&mut self, item: &CatalogItem) -> Result<Change, Rejection> {
        let (whole, fields) = prints(item)?;
        let pass = self.pass;
        let Some(known) = self.known.get_mut(&item.item) else {
            self.known.insert(item.item.clone(), Known { published: None, fields, pass });
            return Ok(Change::Added);
        };
        if known.pass == pass {
            return Ok(Change::Repeated);
        }
        known.pass = pass;
        Ok(match known.published {
            None => Change::Added,
            Some(published) if published == whole => Change::Same,
            Some(_) => {
                let differ = known.fields.iter().zip(&fields).map(|(a, b)| a != b);
                let differ = Field::ALL.iter().zip(differ).filter(|(_, differ)| *differ);
                Change::Changed(differ.map(|(field, _)| *field).collect())
            }
        })
    }

    /// Notes that the source has the item, though what it says of it was refused: what is
    /// published of it stays.
    pub fn keep(&mut self, item: &str) {
        if let Some(known) = self.known.get_mut(item) {
            known.pass = self.pass;
        }
    }

    /// Published items that were not observed in this pass, in the order of their names.
    pub fn missing(&self) -> Vec<&ItemId> {
        let missing = self
            .known
            .iter()
            .filter(|(_, known)| known.published.is_some() && known.pass != self.pass);
        let mut names: Vec<&ItemId> = missing.map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }
}

/// XXH3-64 of the encoded record, and the hashes of its fields.
fn prints(item: &CatalogItem) -> Result<(u64, Box<[u32]>), Rejection> {
    let whole = stable_hash(&item.encode(Encoding::AvroSingleObject)?);
    Ok((whole, hashes(&item.record()?)))
}

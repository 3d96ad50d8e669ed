//! One item of the catalog, as filters and sources ask about it.

use std::sync::Arc;

use super::Catalog;
use super::interner::EMPTY;
use crate::time::{DAY_MS, EventTime};

/// What is held of an item: 64 bytes and its name. Texts are numbers of the catalog's interners.
pub(super) struct Entry {
    pub(super) name: Arc<str>,
    /// [`NEVER`] where not known: nothing published then is young.
    pub(super) published: EventTime,
    /// [`NEVER`] where there is no such limit.
    pub(super) from: EventTime,
    /// [`FOR_GOOD`] where there is no such limit.
    pub(super) until: EventTime,
    pub(super) creator: u32,
    pub(super) categories: u32,
    pub(super) languages: u32,
    pub(super) countries: u32,
    /// Categories, then tags.
    pub(super) labels: u32,
    pub(super) blocked: bool,
    /// 0 where not known. 49 days fit, and the entry is no larger for it.
    pub(super) duration_ms: u32,
}

/// Before all times.
pub(super) const NEVER: EventTime = EventTime::from_millis(i64::MIN);
/// After all times.
pub(super) const FOR_GOOD: EventTime = EventTime::from_millis(i64::MAX);

/// An item that has a record.
#[derive(Clone, Copy)]
pub struct Listing<'a> {
    catalog: &'a Catalog,
    entry: &'a Entry,
}

impl<'a> Listing<'a> {
    pub(super) fn new(catalog: &'a Catalog, entry: &'a Entry) -> Self {
        Self { catalog, entry }
    }

    /// Whether it must not be shown at all.
    pub fn is_blocked(self) -> bool {
        self.entry.blocked
    }

    /// Whether it may be shown at a time, in a country (ISO 3166-1 alpha-2 in upper case; empty
    /// where not known). What is licensed for some countries only is not available in an unknown
    /// one; nor is what is not published yet.
    pub fn is_available(self, country: &str, at: EventTime) -> bool {
        let mut countries = self.catalog.countries.texts(self.entry.countries);
        (self.entry.from..self.entry.until).contains(&at)
            && self.entry.published <= at
            && (countries.len() == 0 || countries.any(|there| there == country))
    }

    /// Whether somebody who follows these languages (BCP 47 in lower case) can follow it. `de`
    /// stands for `de-ch` too, and who follows `de-ch` follows `de`. An item that names no
    /// language fits everybody, and so does everything where none is asked for.
    pub fn speaks(self, languages: &[String]) -> bool {
        let mut own = self.languages();
        languages.is_empty()
            || own.len() == 0
            || own.any(|own| languages.iter().any(|wanted| is_within(own, wanted)))
    }

    /// Whether it was published no more than so many days before a time. False where it is not
    /// known when.
    pub fn is_younger(self, days: u32, at: EventTime) -> bool {
        let limit = i64::from(days) * DAY_MS;
        self.entry.published != NEVER && at.since(self.entry.published) <= limit
    }

    /// Who made it; empty where not known.
    pub fn creator(self) -> &'a str {
        self.catalog.creators.text(self.entry.creator)
    }

    /// Who made it, by number; none where not known.
    pub fn creator_number(self) -> Option<u32> {
        Some(self.entry.creator).filter(|creator| *creator != EMPTY)
    }

    /// Its labels by number: its categories, then its tags.
    pub fn labels(self) -> &'a [u32] {
        self.catalog.labels.words(self.entry.labels)
    }

    /// The texts of its labels.
    pub fn label_texts(self) -> impl ExactSizeIterator<Item = &'a str> {
        self.catalog.labels.texts(self.entry.labels)
    }

    /// Its categories, the main one first.
    pub fn categories(self) -> impl ExactSizeIterator<Item = &'a str> {
        self.catalog.categories.texts(self.entry.categories)
    }

    /// Its languages, as BCP 47 tags in lower case.
    pub fn languages(self) -> impl ExactSizeIterator<Item = &'a str> {
        self.catalog.languages.texts(self.entry.languages)
    }

    /// Its length in milliseconds, 49 days at most; 0 where not known.
    pub fn duration_ms(self) -> u64 {
        self.entry.duration_ms.into()
    }

    /// When it was published, where that is known.
    pub fn published(self) -> Option<EventTime> {
        Some(self.entry.published).filter(|published| *published != NEVER)
    }
}

/// Whether one tag is the other, or the other with more said.
fn is_within(a: &str, b: &str) -> bool {
    let begins = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    begins(a, b) || begins(b, a)
}

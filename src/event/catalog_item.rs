//! What the platform says about an item: the records of `item-catalog`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::user_event::{EARLIEST, milliseconds, optional_id, required_id};
use super::{Rejection, schema};
use crate::ids::ItemId;
use crate::time::EventTime;

/// Longest title, in bytes.
const MAX_TITLE_BYTES: usize = 1_024;
/// Most categories of an item, and most languages; a longer list is a mistake in the export.
const MAX_CATEGORIES: usize = 64;
/// Most tags of an item.
const MAX_TAGS: usize = 256;
/// Most countries: there are some 250.
const MAX_COUNTRIES: usize = 300;
/// Most keys of the free map, and longest value in bytes: every worker reads all of it.
const MAX_ATTRIBUTES: usize = 256;
const MAX_ATTRIBUTE_BYTES: usize = 4_096;
/// The year 9999 ends here. What is later was counted in microseconds.
const LATEST: EventTime = EventTime::from_millis(253_402_300_799_999);

/// A valid item of the catalog. Countries are upper case, languages lower case, as they are
/// compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogItem {
    /// The item.
    pub item: ItemId,
    /// What people call it.
    pub title: String,
    /// Who made it; empty where not known.
    pub creator: String,
    /// The main one first.
    pub categories: Vec<String>,
    /// Free tags.
    pub tags: Vec<String>,
    /// Length in milliseconds; 0 where not known.
    pub duration_ms: u64,
    /// When it was published, where known.
    pub published: Option<EventTime>,
    /// BCP 47 tags in lower case; empty: fits everybody.
    pub languages: Vec<String>,
    /// ISO 3166-1 alpha-2 codes in upper case; empty: everywhere.
    pub available_countries: Vec<String>,
    /// Not shown before.
    pub available_from: Option<EventTime>,
    /// Not shown from then on.
    pub available_until: Option<EventTime>,
    /// Whether it must not be shown at all.
    pub blocked: bool,
    /// Whatever else.
    pub attributes: BTreeMap<String, String>,
}

/// The record as it is written. Also what rows of a file or of a database become first, so that
/// they are held to the same rules as records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CatalogRecord {
    /// The item; empty where the key names it.
    pub item: String,
    /// What people call it.
    pub title: String,
    /// Who made it.
    pub creator: String,
    /// The main one first.
    pub categories: Vec<String>,
    /// Free tags.
    pub tags: Vec<String>,
    /// Milliseconds; 0 where not known.
    pub duration_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub published: Option<i64>,
    /// BCP 47 tags.
    pub languages: Vec<String>,
    /// ISO 3166-1 alpha-2 codes.
    pub available_countries: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub available_from: Option<i64>,
    /// Milliseconds since the Unix epoch.
    pub available_until: Option<i64>,
    /// Whether it must not be shown.
    pub blocked: bool,
    /// Whatever else.
    pub attributes: BTreeMap<String, String>,
}

impl CatalogItem {
    /// An item with nothing else said.
    pub fn new(item: ItemId) -> Self {
        Self {
            item,
            title: String::new(),
            creator: String::new(),
            categories: Vec::new(),
            tags: Vec::new(),
            duration_ms: 0,
            published: None,
            languages: Vec::new(),
            available_countries: Vec::new(),
            available_from: None,
            available_until: None,
            blocked: false,
            attributes: BTreeMap::new(),
        }
    }

    /// Decodes and validates the value of a record with this key. Tombstones have no value and
    /// are not for this function.
    ///
    /// # Errors
    /// A [`Rejection`] that says what was found and what would be accepted.
    pub fn decode(key: Option<&[u8]>, value: &[u8]) -> Result<Self, Rejection> {
        let mut record: CatalogRecord = codec::decode(&schema::CATALOG_ITEM, value)?.0;
        let key = item_of_key(key)?;
        if record.item.is_empty() {
            record.item = key.as_str().to_owned();
        } else if record.item != key.as_str() {
            return Err(Rejection::invalid(
                "KeyMismatch",
                format!("item is {:?} and the record's key {:?}", record.item, key.as_str()),
            ));
        }
        record.validate()
    }

    /// Encodes the record's value; its key is the item.
    ///
    /// # Errors
    /// A [`Rejection`] where a number does not fit the schema.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, Rejection> {
        codec::encode(&schema::CATALOG_ITEM, &self.record()?, encoding)
    }

    /// The record as it is written.
    ///
    /// # Errors
    /// A [`Rejection`] where the duration does not fit the schema.
    pub fn record(&self) -> Result<CatalogRecord, Rejection> {
        let duration_ms = i64::try_from(self.duration_ms).map_err(|_| {
            let message = format!("duration_ms {} does not fit a long", self.duration_ms);
            Rejection::invalid("BadNumber", message)
        })?;
        Ok(CatalogRecord {
            item: self.item.to_string(),
            title: self.title.clone(),
            creator: self.creator.clone(),
            categories: self.categories.clone(),
            tags: self.tags.clone(),
            duration_ms,
            published: self.published.map(EventTime::millis),
            languages: self.languages.clone(),
            available_countries: self.available_countries.clone(),
            available_from: self.available_from.map(EventTime::millis),
            available_until: self.available_until.map(EventTime::millis),
            blocked: self.blocked,
            attributes: self.attributes.clone(),
        })
    }
}

/// The item that a record of `item-catalog` is about: its key.
///
/// # Errors
/// A [`Rejection`] where it has none, or one that is no item id.
pub fn item_of_key(key: Option<&[u8]>) -> Result<ItemId, Rejection> {
    let missing = || Rejection::invalid("EmptyId", "the record has no key: it is the item".into());
    let text = std::str::from_utf8(key.ok_or_else(missing)?)
        .map_err(|_| Rejection::invalid("BadKey", "the record's key is not UTF-8".into()))?;
    required_id("key", text)?;
    Ok(ItemId::from(text))
}

impl CatalogRecord {
    /// The item that the record tells of.
    ///
    /// # Errors
    /// A [`Rejection`] that names the field, what was found and what would be accepted.
    pub fn validate(self) -> Result<CatalogItem, Rejection> {
        required_id("item", &self.item)?;
        if self.title.len() > MAX_TITLE_BYTES {
            return Err(Rejection::invalid(
                "TooLong",
                format!("title has {} bytes; {MAX_TITLE_BYTES} are allowed", self.title.len()),
            ));
        }
        optional_id("creator", &self.creator)?;
        names("categories", &self.categories, MAX_CATEGORIES)?;
        names("tags", &self.tags, MAX_TAGS)?;
        let available_from = time("available_from", self.available_from)?;
        let available_until = time("available_until", self.available_until)?;
        if available_from.zip(available_until).is_some_and(|(from, until)| from >= until) {
            return Err(Rejection::invalid(
                "EmptyWindow",
                "available_until is not after available_from: it would never be shown; set \
                 blocked for that"
                    .into(),
            ));
        }
        few("attributes", self.attributes.len(), MAX_ATTRIBUTES)?;
        for (key, value) in &self.attributes {
            required_id("attributes", key)?;
            if value.len() > MAX_ATTRIBUTE_BYTES {
                let found = format!("attributes[{key:?}] has {} bytes", value.len());
                let message = format!("{found}; {MAX_ATTRIBUTE_BYTES} are allowed");
                return Err(Rejection::invalid("TooLong", message));
            }
        }
        Ok(CatalogItem {
            item: ItemId::new(self.item),
            title: self.title,
            creator: self.creator,
            categories: self.categories,
            tags: self.tags,
            duration_ms: milliseconds("duration_ms", self.duration_ms)?,
            published: time("published", self.published)?,
            languages: languages("languages", self.languages)?,
            available_countries: countries(self.available_countries)?,
            available_from,
            available_until,
            blocked: self.blocked,
            attributes: self.attributes,
        })
    }
}

fn few(field: &str, found: usize, most: usize) -> Result<(), Rejection> {
    if found > most {
        let message = format!("{field} has {found} entries; {most} are allowed");
        return Err(Rejection::invalid("TooMany", message));
    }
    Ok(())
}

/// A list of ids of which there may be `most`.
pub(super) fn names(field: &str, list: &[String], most: usize) -> Result<(), Rejection> {
    few(field, list.len(), most)?;
    list.iter().try_for_each(|name| required_id(field, name))
}

/// A point in time that an item or a request may name.
pub(super) fn time(field: &str, ms: Option<i64>) -> Result<Option<EventTime>, Rejection> {
    let Some(ms) = ms else { return Ok(None) };
    let at = EventTime::from_millis(ms);
    if at < EARLIEST || at > LATEST {
        return Err(Rejection::invalid(
            "AbsurdTime",
            format!(
                "{field} is {ms}, before 1990 or after 9999: it counts milliseconds since the \
                 Unix epoch"
            ),
        ));
    }
    Ok(Some(at))
}

/// Language tags in lower case, each well-formed.
pub(super) fn languages(field: &str, tags: Vec<String>) -> Result<Vec<String>, Rejection> {
    few(field, tags.len(), MAX_CATEGORIES)?;
    tags.into_iter()
        .map(|mut tag| {
            if !is_language_tag(&tag) {
                let message = format!("{field} has {tag:?}; expected a BCP 47 tag such as pt-BR");
                return Err(Rejection::invalid("BadLanguage", message));
            }
            tag.make_ascii_lowercase();
            Ok(tag)
        })
        .collect()
}

/// The outer form of RFC 5646: subtags of one to eight letters and digits, the first of letters
/// only and of two or more, but for the `i` and `x` of old and of private tags.
fn is_language_tag(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let first = subtags.next().unwrap_or_default();
    let private = matches!(first, "i" | "I" | "x" | "X") && tag.len() > 2;
    (private || (2..=8).contains(&first.len()))
        && first.bytes().all(|b| b.is_ascii_alphabetic())
        && subtags
            .all(|s| (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric()))
        && tag.len() <= crate::ids::MAX_ID_BYTES
}

fn countries(codes: Vec<String>) -> Result<Vec<String>, Rejection> {
    few("available_countries", codes.len(), MAX_COUNTRIES)?;
    codes
        .into_iter()
        .map(|mut code| {
            if code.len() != 2 || !code.bytes().all(|b| b.is_ascii_alphabetic()) {
                let expected = "expected an ISO 3166-1 alpha-2 code such as CH";
                let message = format!("available_countries has {code:?}; {expected}");
                return Err(Rejection::invalid("BadCountry", message));
            }
            code.make_ascii_uppercase();
            Ok(code)
        })
        .collect()
}

/// A number of days, which cannot be negative.
pub(super) fn days(field: &str, days: Option<i32>) -> Result<Option<u32>, Rejection> {
    days.map(|days| {
        u32::try_from(days).map_err(|_| {
            Rejection::invalid("BadNumber", format!("{field} is {days}; it must be at least 0"))
        })
    })
    .transpose()
}

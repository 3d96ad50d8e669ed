//! One's own CSV and Parquet files, with columns named by the caller. Enters: a
//! [`ColumnMapping`] and files. Leaves: a click or a watch a row. Never guesses a column.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::ids::{ItemId, Surface, UserId};

use super::cell::{Cell, Expected};
use super::error::DatasetError;
use super::lines::files_of;
use super::table::Tables;
use super::{Row, RowKind, Source};

/// What a plain number in the time column counts since 1970-01-01 UTC. A Parquet timestamp
/// declares its own unit, and this is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// `s`
    Seconds,
    /// `ms`
    Millis,
    /// `us`
    Micros,
}

/// What each row becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A click.
    Click,
    /// A watch; needs [`ColumnMapping::watched`].
    Watch,
}

/// Which column holds what. The default fits files that use this product's own names.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnMapping {
    /// The user's id.
    pub user: String,
    /// The item's id.
    pub item: String,
    /// When it happened.
    pub time: String,
    /// What the time counts.
    pub time_unit: TimeUnit,
    /// How long was watched, in milliseconds.
    pub watched: Option<String>,
    /// The item's length, in milliseconds; an empty value or 0 means that it is not known.
    pub duration: Option<String>,
    /// The surface; an empty value means that it is not known.
    pub surface: Option<String>,
    /// The session; an empty value means that it is not known.
    pub session: Option<String>,
    /// What rows become; none: watches where `watched` is given, else clicks.
    pub kind: Option<EventKind>,
    /// The CSV separator; none: a comma, and a tab in `.tsv` files.
    pub delimiter: Option<u8>,
}

impl Default for ColumnMapping {
    fn default() -> Self {
        Self {
            user: "user_id".to_owned(),
            item: "item_id".to_owned(),
            time: "timestamp".to_owned(),
            time_unit: TimeUnit::Millis,
            watched: None,
            duration: None,
            surface: None,
            session: None,
            kind: None,
            delimiter: None,
        }
    }
}

impl TimeUnit {
    pub(super) fn expected(self) -> Expected {
        match self {
            TimeUnit::Seconds => "a time in seconds since 1970-01-01 UTC",
            TimeUnit::Millis => "a time in milliseconds since 1970-01-01 UTC",
            TimeUnit::Micros => "a time in microseconds since 1970-01-01 UTC",
        }
    }
}

impl std::str::FromStr for TimeUnit {
    type Err = DatasetError;

    fn from_str(name: &str) -> Result<Self, DatasetError> {
        match name {
            "s" => Ok(TimeUnit::Seconds),
            "ms" => Ok(TimeUnit::Millis),
            "us" => Ok(TimeUnit::Micros),
            _ => Err(mapping(format!("unknown time unit \"{name}\"; use s, ms or us"))),
        }
    }
}

impl std::str::FromStr for EventKind {
    type Err = DatasetError;

    fn from_str(name: &str) -> Result<Self, DatasetError> {
        match name {
            "click" => Ok(EventKind::Click),
            "watch" => Ok(EventKind::Watch),
            _ => Err(mapping(format!("unknown kind \"{name}\"; use click or watch"))),
        }
    }
}

/// Reads one's own files.
pub(super) struct Reader {
    tables: Tables,
    time_unit: TimeUnit,
    /// Places of the optional columns among those asked for.
    watched: Option<usize>,
    duration: Option<usize>,
    surface: Option<usize>,
    session: Option<usize>,
    source: Arc<str>,
}

// Places of the columns every file has, among those asked for.
const USER: usize = 0;
const ITEM: usize = 1;
const TIME: usize = 2;

impl Reader {
    pub(super) fn open(path: &Path, mapping: &ColumnMapping) -> Result<Self, DatasetError> {
        let watches = mapping.watches()?;
        let mut wanted = vec![mapping.user.clone(), mapping.item.clone(), mapping.time.clone()];
        let mut slot = |column: &Option<String>| {
            column.as_ref().map(|name| {
                wanted.push(name.clone());
                wanted.len() - 1
            })
        };
        let watched = slot(&mapping.watched).filter(|_| watches);
        let [duration, surface, session] =
            [&mapping.duration, &mapping.surface, &mapping.session].map(&mut slot);
        let readable = |name: &str| {
            [".csv", ".tsv", ".parquet"].iter().any(|extension| name.ends_with(extension))
        };
        let files = files_of(path, "files named *.csv, *.tsv or *.parquet", readable)?;
        let tables = Tables::open(files, wanted, mapping.delimiter)?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let source = Arc::from(stem.unwrap_or_else(|| "rows".to_owned()));
        let time_unit = mapping.time_unit;
        Ok(Self { tables, time_unit, watched, duration, surface, session, source })
    }

    fn kind(&self) -> Result<RowKind, DatasetError> {
        let Some(watched) = self.watched else {
            return Ok(RowKind::Click);
        };
        let watched_ms = self.tables.take(watched, |cell| cell.length())?;
        let duration_ms = self.optional(self.duration, |cell| cell.length())?;
        Ok(RowKind::Watch { watched_ms, duration_ms: duration_ms.filter(|&length| length > 0) })
    }

    fn optional<'a, T>(
        &'a self,
        slot: Option<usize>,
        take: impl FnOnce(Cell<'a>) -> Result<T, Expected>,
    ) -> Result<Option<T>, DatasetError> {
        let there = slot.filter(|&slot| !self.tables.cell(slot).is_missing());
        there.map(|slot| self.tables.take(slot, take)).transpose()
    }
}

impl Source for Reader {
    fn read(&mut self, out: &mut VecDeque<Row>) -> Result<bool, DatasetError> {
        if !self.tables.advance()? {
            return Ok(false);
        }
        let tables = &self.tables;
        out.push_back(Row {
            user: UserId::new(tables.take(USER, |cell| cell.id())?),
            item: ItemId::new(tables.take(ITEM, |cell| cell.id())?),
            at: tables.take(TIME, |cell| cell.time(self.time_unit))?,
            surface: self.optional(self.surface, |cell| cell.id())?.map(Surface::new),
            session: self.optional(self.session, |cell| cell.id())?,
            kind: self.kind()?,
            source: Arc::clone(&self.source),
            number: tables.number(),
        });
        Ok(true)
    }

    fn total_rows(&self) -> Option<u64> {
        self.tables.total()
    }
}

impl ColumnMapping {
    /// Whether rows become watches.
    fn watches(&self) -> Result<bool, DatasetError> {
        match (self.kind, &self.watched) {
            (Some(EventKind::Watch), None) => Err(mapping(
                "watches need the column that holds how long was watched: name it, or read \
                 clicks"
                    .to_owned(),
            )),
            (Some(EventKind::Click), _) | (None, None) => Ok(false),
            (Some(EventKind::Watch) | None, Some(_)) => Ok(true),
        }
    }
}

fn mapping(problem: String) -> DatasetError {
    DatasetError::Mapping { problem }
}

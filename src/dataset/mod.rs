//! Readers of public data sets and of one's own files, as rows the product's events can be made
//! of: for `replay`, `evaluate` and benches.
//!
//! Enters: a [`Format`], a file or directory, and for one's own files a [`ColumnMapping`].
//! Leaves: a [`Dataset`], an iterator of [`Row`]s; each row has an event id that is the same
//! whenever the same file is read again, so a replay repeated is a replay deduplicated.
//!
//! | format | reads | rows |
//! |---|---|---|
//! | `kuairand` | Parquet or CSV exposures | impression, click, watch, not interested |
//! | `movielens` | `u.data`, `ratings.dat`, `ratings.csv` | watch |
//! | `sessions` | lines of `session item` | click |
//! | `columns` | any CSV or Parquet, columns named by the caller | click or watch |
//!
//! And items: [`Items`] of a CSV, Parquet or JSON lines file, of the films that MovieLens brings
//! along, and of a [`Database`].
//!
//! It must never skip a row in silence, put a value in place of a missing one, or hold a file in
//! memory. The exceptions to the last hold compact rows and say how many bytes each: MovieLens,
//! which is stored in no order, and [`Dataset::by_time`].

mod beside;
mod cell;
mod columns;
mod error;
mod gaps;
mod items;
mod kuairand;
mod lines;
mod movielens;
mod movies;
mod order;
mod parquet_rows;
mod postgres;
mod sessions;
mod table;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::event::{self, Feedback, FeedbackKind, SubjectKind, UserEvent};
use crate::ids::{ItemId, Surface, UserId};
use crate::time::EventTime;

pub use beside::{Past, Profile, pasts, profiles};
pub use columns::{ColumnMapping, EventKind, TimeUnit};
pub use error::DatasetError;
pub use gaps::Sessions;
pub use items::{ITEM_FIELDS, ItemColumns, ItemFormat, ItemRow, Items, RefusedRow};
pub use movielens::FILM_MS;
pub use postgres::{Database, DatabaseError, DatabasePass, DatabaseTls};
pub use sessions::{PERIOD_MS, SESSIONS_EPOCH, period_of};

/// How a data set is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Short-video exposures with clicks and play times (Gao et al., CIKM 2022): a file of that
    /// layout, CSV or Parquet, or a directory with `impressions.parquet` or `log_*.csv`.
    KuaiRand,
    /// Ratings (Harper and Konstan, 2015) in any of the three layouts, a file or its directory.
    MovieLens,
    /// Lines of `session item`; a directory is read as `period_0.txt`, `period_1.txt`, ….
    Sessions,
    /// CSV or Parquet with a [`ColumnMapping`]; a directory is read in the order of file names.
    Columns,
}

/// Every format with its name on the command line.
const FORMATS: [(&str, Format); 4] = [
    ("kuairand", Format::KuaiRand),
    ("movielens", Format::MovieLens),
    ("sessions", Format::Sessions),
    ("columns", Format::Columns),
];

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = FORMATS.iter().find(|(_, format)| format == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

impl FromStr for Format {
    type Err = DatasetError;

    fn from_str(name: &str) -> Result<Self, DatasetError> {
        let found = FORMATS.iter().find(|(known, _)| *known == name);
        found.map(|&(_, format)| format).ok_or_else(|| DatasetError::UnknownFormat {
            name: name.to_owned(),
            known: FORMATS.iter().map(|&(known, _)| known).collect(),
        })
    }
}

/// One thing that happened, as a data set tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Whose, as the data set names them; never empty.
    pub user: UserId,
    /// Of what; never empty.
    pub item: ItemId,
    /// When.
    pub at: EventTime,
    /// Where, if the data set says so.
    pub surface: Option<Surface>,
    /// In which session, if the data set says so.
    pub session: Option<String>,
    /// What.
    pub kind: RowKind,
    /// What event ids of this file begin with.
    pub source: Arc<str>,
    /// The row of the data set it came from, from 1, running on over the files of a directory: of
    /// tables the row without the header, of other text the line. Rows made of the same one
    /// share it.
    pub number: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// The item was shown.
    Impression,
    /// The item was opened.
    Click,
    /// The user did not want the item.
    NotInterested,
    /// The item was watched.
    Watch {
        /// For how long, in milliseconds.
        watched_ms: u64,
        /// The item's length in milliseconds; none where it is not known.
        duration_ms: Option<u64>,
    },
}

impl Row {
    /// An id for the event this row becomes: source, row and kind, as in `kuairand-17-c`. The
    /// same file gives the same ids on every reading.
    pub fn event_id(&self) -> String {
        let kind = match self.kind {
            RowKind::Impression => 'i',
            RowKind::Click => 'c',
            RowKind::NotInterested => 'n',
            RowKind::Watch { .. } => 'w',
        };
        format!("{}-{}-{kind}", self.source, self.number)
    }

    /// The watch or click it becomes, in `session` (empty for none), later by `shift_ms`; none for
    /// an impression, which is not the user's doing, and for feedback.
    pub fn event<'a>(&'a self, session: &'a str, shift_ms: i64) -> Option<UserEvent<'a>> {
        let kind = match self.kind {
            RowKind::Impression | RowKind::NotInterested => return None,
            RowKind::Click => event::EventKind::Click { position: None },
            RowKind::Watch { watched_ms, duration_ms } => {
                event::EventKind::Watch { watched_ms, duration_ms: duration_ms.unwrap_or(0) }
            }
        };
        Some(UserEvent {
            id: Cow::Owned(self.event_id()),
            user: Cow::Borrowed(self.user.as_str()),
            item: Cow::Borrowed(self.item.as_str()),
            at: self.at.plus_millis(shift_ms),
            kind,
            surface: Cow::Borrowed(self.surface.as_ref().map_or("", |surface| surface.as_str())),
            session: Cow::Borrowed(session),
            request: None,
            value: 0.0,
            device: None,
        })
    }
}

impl Row {
    /// The feedback it becomes, as [`Row::event`] has it; none where it is none.
    pub fn feedback<'a>(&'a self, session: &'a str, shift_ms: i64) -> Option<Feedback<'a>> {
        (self.kind == RowKind::NotInterested).then(|| Feedback {
            id: Cow::Owned(self.event_id()),
            user: Cow::Borrowed(self.user.as_str()),
            at: self.at.plus_millis(shift_ms),
            kind: FeedbackKind::NotInterested,
            subject_kind: SubjectKind::Item,
            subject: Cow::Borrowed(self.item.as_str()),
            request: None,
            surface: Cow::Borrowed(self.surface.as_ref().map_or("", |surface| surface.as_str())),
            session: Cow::Borrowed(session),
        })
    }
}

/// What a format's reader does.
trait Source: Send {
    /// Reads the next stored row and puts what it tells at the end of `out`, which may be
    /// nothing. False at the end. After an error that is not [`DatasetError::is_one_row`], it is
    /// not called again.
    fn read(&mut self, out: &mut VecDeque<Row>) -> Result<bool, DatasetError>;

    /// Stored rows, where they are known without reading the file.
    fn total_rows(&self) -> Option<u64>;
}

/// A data set being read: an iterator of rows in the order they are stored, or in time order
/// where the format says so.
///
/// An error about one row ([`DatasetError::is_one_row`]) can be counted and passed over: the next
/// call goes on with the row after it. After any other error the iterator ends.
pub struct Dataset {
    format: Format,
    source: Box<dyn Source>,
    pending: VecDeque<Row>,
    read: u64,
    ended: bool,
}

impl Dataset {
    /// Opens `path`, a file or a directory, as `format`. `columns` is used by
    /// [`Format::Columns`] alone.
    ///
    /// Errors: nothing there that the format can read, a column that is not in the file, a file
    /// that cannot be opened. MovieLens is read and sorted here, so its bad rows are errors of
    /// this call.
    pub fn open(
        format: Format,
        path: &Path,
        columns: &ColumnMapping,
    ) -> Result<Self, DatasetError> {
        let source: Box<dyn Source> = match format {
            Format::KuaiRand => Box::new(kuairand::Reader::open(path)?),
            Format::MovieLens => Box::new(movielens::Reader::open(path)?),
            Format::Sessions => Box::new(sessions::Reader::open(path)?),
            Format::Columns => Box::new(columns::Reader::open(path, columns)?),
        };
        Ok(Self { format, source, pending: VecDeque::new(), read: 0, ended: false })
    }

    /// The format it is read as.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Stored rows of the whole data set, for a progress bar: known for Parquet and MovieLens,
    /// none for text that is read as it comes. One stored row may give several [`Row`]s.
    pub fn total_rows(&self) -> Option<u64> {
        self.source.total_rows()
    }

    /// Stored rows read so far.
    pub fn rows_read(&self) -> u64 {
        self.read
    }

    /// The same rows by event time, those of one time in the order they are stored. Reads
    /// everything first and holds it: about 100 bytes a row, and each id once. The first error
    /// ends it.
    pub fn by_time(self) -> Result<Self, DatasetError> {
        self.by_time_with(Err)
    }

    /// The same; `on_bad_row` is told of each error about one row and decides whether it may be
    /// passed over.
    pub fn by_time_with(
        mut self,
        mut on_bad_row: impl FnMut(DatasetError) -> Result<(), DatasetError>,
    ) -> Result<Self, DatasetError> {
        let mut rows = self.by_ref().filter_map(|row| match row {
            Err(error) if error.is_one_row() => on_bad_row(error).err().map(Err),
            row => Some(row),
        });
        let sorted = order::ByTime::collect(&mut rows)?;
        drop(rows);
        let (format, pending) = (self.format, VecDeque::new());
        Ok(Self { format, source: Box::new(sorted), pending, read: 0, ended: false })
    }
}

impl Iterator for Dataset {
    type Item = Result<Row, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.pending.is_empty() && !self.ended {
            match self.source.read(&mut self.pending) {
                Ok(true) => self.read += 1,
                Ok(false) => self.ended = true,
                Err(error) => {
                    self.read += 1;
                    self.ended = !error.is_one_row();
                    return Some(Err(error));
                }
            }
        }
        self.pending.pop_front().map(Ok)
    }
}

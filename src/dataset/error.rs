//! What can be wrong with a data set. Enters: the place and the value. Leaves: a typed error
//! whose text says what to do. Never holds more of a bad value than fits a line.

use std::path::{Path, PathBuf};

/// Characters of a bad value shown in an error; a file of one long line must not fill a screen.
const SHOWN_CHARS: usize = 60;

/// Something wrong with a data set or with how it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file or directory could not be read.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A directory holds nothing of the format.
    #[error("nothing to read in {}; expected {expected}", path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// No such format.
    #[error("unknown format \"{name}\"; use one of {}", known.join(", "))]
    UnknownFormat {
        /// What was asked for.
        name: String,
        /// The formats there are.
        known: Vec<&'static str>,
    },
    /// The mapping cannot work for any file.
    #[error("{problem}")]
    Mapping {
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A column is not in the file.
    #[error(
        "{} has no column \"{column}\"{}; it has {}", file.display(),
        nearest.as_ref().map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default(),
        listed(available)
    )]
    UnknownColumn {
        /// The file.
        file: PathBuf,
        /// The column asked for.
        column: String,
        /// The most similar column there is; none in a file without columns.
        nearest: Option<String>,
        /// All columns of the file, in its order.
        available: Vec<String>,
    },
    /// A Parquet column is of a type no value is read from.
    #[error(
        "column \"{column}\" of {} is {found}; only flat numbers, texts, booleans and timestamps \
         can be read: convert it, or name another column", file.display()
    )]
    UnsupportedColumn {
        /// The file.
        file: PathBuf,
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
    /// A value is not what its column needs. Only this row is lost.
    #[error(
        "{}, row {row}: column \"{column}\" is {value}, expected {expected}", file.display()
    )]
    BadCell {
        /// The file.
        file: PathBuf,
        /// The row in this file, from 1: of tables without the header, of other text the line.
        row: u64,
        /// The column's name, or its place on the line where columns have no names.
        column: String,
        /// The value, quoted and shortened.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A row has more or fewer values than it should. Only this row is lost.
    #[error("{}, row {row}: {found} values, expected {expected}", file.display())]
    BadShape {
        /// The file.
        file: PathBuf,
        /// The row in this file, from 1: of tables without the header, of other text the line.
        row: u64,
        /// How many it has.
        found: u64,
        /// How many it should have.
        expected: u64,
    },
    /// A row does not end within the limit.
    #[error(
        "{}, row {row} is longer than {limit} bytes; is a quote left open, or is this not a text \
         file?", file.display()
    )]
    RowTooLong {
        /// The file.
        file: PathBuf,
        /// The row in this file, from 1: of tables without the header, of other text the line.
        row: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// The file is not of the layout it was opened as, or is damaged.
    #[error("{} cannot be read as {layout}: {reason}", file.display())]
    Layout {
        /// The file.
        file: PathBuf,
        /// What it was read as.
        layout: &'static str,
        /// Why not.
        reason: String,
    },
    /// More rows or ids than can be sorted in memory.
    #[error("more than {limit} {what} cannot be sorted in memory; split the data set by time")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most there may be.
        limit: u64,
    },
}

impl DatasetError {
    /// Whether only one row is lost and reading can go on after it.
    pub fn is_one_row(&self) -> bool {
        matches!(self, DatasetError::BadCell { .. } | DatasetError::BadShape { .. })
    }

    pub(super) fn io(file: &Path, source: std::io::Error) -> Self {
        Self::Io { file: file.to_owned(), source }
    }

    pub(super) fn layout(file: &Path, layout: &'static str, reason: impl ToString) -> Self {
        Self::Layout { file: file.to_owned(), layout, reason: reason.to_string() }
    }

    pub(super) fn unknown_column(file: &Path, column: &str, available: Vec<String>) -> Self {
        let alike = |name: &str| strsim::jaro_winkler(&name.to_lowercase(), &column.to_lowercase());
        let nearest = available.iter().max_by(|a, b| alike(a).total_cmp(&alike(b))).cloned();
        Self::UnknownColumn { file: file.to_owned(), column: column.to_owned(), nearest, available }
    }
}

/// Columns as a list for people, of any number of columns.
fn listed(columns: &[String]) -> String {
    if columns.is_empty() { "no columns".to_owned() } else { columns.join(", ") }
}

/// A value as an error shows it: quoted, shortened, with bytes that are not text replaced.
pub(super) fn shown(value: &[u8]) -> String {
    // No character takes more than four bytes, so this prefix always suffices.
    let prefix = &value[..value.len().min(4 * (SHOWN_CHARS + 1))];
    let text = String::from_utf8_lossy(prefix);
    if text.chars().count() > SHOWN_CHARS {
        let start: String = text.chars().take(SHOWN_CHARS).collect();
        format!("{start:?}…")
    } else {
        format!("{text:?}")
    }
}

//! Tables with named columns, CSV or Parquet, read a row at a time. Enters: files and the names
//! of the columns wanted. Leaves: a [`Cell`] for each of them. Never holds more than one CSV row
//! or one batch of Parquet rows.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};

use super::cell::{Cell, Expected};
use super::error::DatasetError;
use super::parquet_rows::ParquetTable;

/// Longest CSV row in bytes. A quote left open makes one row of the rest of the file; without a
/// limit that would be read into memory whole.
const ROW_LIMIT: usize = 1 << 20;
/// What a Parquet file begins with.
pub(super) const PARQUET_MAGIC: &[u8; 4] = b"PAR1";

/// Files of the same columns, read one after the other.
pub(super) struct Tables {
    /// Files to come, the next one last.
    files: Vec<PathBuf>,
    wanted: Vec<String>,
    delimiter: Option<u8>,
    /// Whether columns of Parquet files may be lists.
    with_lists: bool,
    open: Option<Table>,
    /// Rows of the files already closed.
    before: u64,
    total: Option<u64>,
}

enum Table {
    Csv(Box<CsvTable>),
    Parquet(Box<ParquetTable>),
}

impl Tables {
    /// Opens `files`, all of them once, so that a missing column is known at the start.
    /// `delimiter` is the CSV separator; without one it is a comma, and a tab in `.tsv` files.
    pub(super) fn open(
        files: Vec<PathBuf>,
        wanted: Vec<String>,
        delimiter: Option<u8>,
    ) -> Result<Self, DatasetError> {
        Self::open_as(files, wanted, delimiter, false)
    }

    /// The same of one file, of which columns may be lists: see [`Tables::list`].
    pub(super) fn open_with_lists(
        file: PathBuf,
        wanted: Vec<String>,
        delimiter: Option<u8>,
    ) -> Result<Self, DatasetError> {
        Self::open_as(vec![file], wanted, delimiter, true)
    }

    fn open_as(
        mut files: Vec<PathBuf>,
        wanted: Vec<String>,
        delimiter: Option<u8>,
        with_lists: bool,
    ) -> Result<Self, DatasetError> {
        let mut total = Some(0);
        for file in &files {
            let rows = Table::open(file, &wanted, delimiter, with_lists)?.rows();
            total = total.zip(rows).map(|(sum, rows)| sum + rows);
        }
        files.reverse();
        Ok(Self { files, wanted, delimiter, with_lists, open: None, before: 0, total })
    }

    /// Steps to the next row; false at the end of the last file.
    pub(super) fn advance(&mut self) -> Result<bool, DatasetError> {
        loop {
            let Some(table) = &mut self.open else {
                let Some(file) = self.files.pop() else {
                    return Ok(false);
                };
                let (wanted, delimiter) = (&self.wanted, self.delimiter);
                self.open = Some(Table::open(&file, wanted, delimiter, self.with_lists)?);
                continue;
            };
            let more = match table {
                Table::Csv(table) => table.advance()?,
                Table::Parquet(table) => table.advance()?,
            };
            if more {
                return Ok(true);
            }
            self.before += table.row();
            self.open = None;
        }
    }

    /// The row stepped to, from 1, counted over all files.
    pub(super) fn number(&self) -> u64 {
        self.before + self.open.as_ref().map_or(0, Table::row)
    }

    /// Rows of all files, where each of them says so.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// The value of the `slot`th column wanted, in the row stepped to.
    pub(super) fn cell(&self, slot: usize) -> Cell<'_> {
        match &self.open {
            Some(Table::Csv(table)) => table.cell(slot),
            Some(Table::Parquet(table)) => table.cell(slot),
            None => Cell::Missing,
        }
    }

    /// Whether the `slot`th column wanted is a list.
    pub(super) fn is_list(&self, slot: usize) -> bool {
        matches!(&self.open, Some(Table::Parquet(table)) if table.is_list(slot))
    }

    /// The entries of the `slot`th column wanted, where it is a list; nulls are missing ones.
    pub(super) fn list(&self, slot: usize) -> Vec<Cell<'_>> {
        match &self.open {
            Some(Table::Parquet(table)) => table.list(slot),
            Some(Table::Csv(_)) | None => Vec::new(),
        }
    }

    /// The value of the `slot`th column wanted as `take` reads it, or an error naming its place.
    pub(super) fn take<'a, T>(
        &'a self,
        slot: usize,
        take: impl FnOnce(Cell<'a>) -> Result<T, Expected>,
    ) -> Result<T, DatasetError> {
        let cell = self.cell(slot);
        take(cell).map_err(|expected| DatasetError::BadCell {
            file: self.open.as_ref().map(|table| table.file().to_owned()).unwrap_or_default(),
            row: self.open.as_ref().map_or(0, Table::row),
            column: self.wanted.get(slot).cloned().unwrap_or_default(),
            value: cell.shown(),
            expected,
        })
    }
}

/// The names of a file's columns.
pub(super) fn columns_of(file: &Path, delimiter: Option<u8>) -> Result<Vec<String>, DatasetError> {
    match Table::open(file, &[], delimiter, false)? {
        Table::Csv(table) => Ok(table.names),
        Table::Parquet(table) => Ok(table.names()),
    }
}

impl Table {
    fn open(
        file: &Path,
        wanted: &[String],
        delimiter: Option<u8>,
        with_lists: bool,
    ) -> Result<Self, DatasetError> {
        let mut magic = Vec::new();
        let opened = File::open(file).map_err(|source| DatasetError::io(file, source))?;
        let head = opened.take(PARQUET_MAGIC.len() as u64).read_to_end(&mut magic);
        head.map_err(|source| DatasetError::io(file, source))?;
        if magic == PARQUET_MAGIC {
            Ok(Table::Parquet(Box::new(ParquetTable::open(file, wanted, with_lists)?)))
        } else {
            Ok(Table::Csv(Box::new(CsvTable::open(file, wanted, delimiter)?)))
        }
    }

    fn row(&self) -> u64 {
        match self {
            Table::Csv(table) => table.row,
            Table::Parquet(table) => table.row(),
        }
    }

    fn rows(&self) -> Option<u64> {
        match self {
            Table::Csv(_) => None,
            Table::Parquet(table) => Some(table.rows()),
        }
    }

    fn file(&self) -> &Path {
        match self {
            Table::Csv(table) => &table.file,
            Table::Parquet(table) => table.file(),
        }
    }
}

/// A CSV file with a header.
struct CsvTable {
    file: PathBuf,
    reader: csv::Reader<Metered>,
    record: ByteRecord,
    names: Vec<String>,
    slots: Vec<usize>,
    row: u64,
}

impl CsvTable {
    fn open(file: &Path, wanted: &[String], delimiter: Option<u8>) -> Result<Self, DatasetError> {
        let tabs = file.extension().is_some_and(|extension| extension == "tsv");
        let delimiter = delimiter.unwrap_or(if tabs { b'\t' } else { b',' });
        let opened = File::open(file).map_err(|source| DatasetError::io(file, source))?;
        let metered = Metered { inner: opened, left: ROW_LIMIT };
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .buffer_capacity(64 * 1024)
            .from_reader(metered);
        let header = reader.byte_headers().map_err(|error| csv_error(file, 0, error))?;
        let names: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let slots = wanted
            .iter()
            .map(|column| {
                let found = names.iter().position(|name| name == column);
                found.ok_or_else(|| DatasetError::unknown_column(file, column, names.clone()))
            })
            .collect::<Result<_, _>>()?;
        let record = ByteRecord::new();
        Ok(Self { file: file.to_owned(), reader, record, names, slots, row: 0 })
    }

    fn advance(&mut self) -> Result<bool, DatasetError> {
        self.reader.get_mut().left = ROW_LIMIT;
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {
                self.row += 1;
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(error) => {
                self.row += 1;
                Err(csv_error(&self.file, self.row, error))
            }
        }
    }

    fn cell(&self, slot: usize) -> Cell<'_> {
        let field = self.slots.get(slot).and_then(|&index| self.record.get(index));
        match field {
            None | Some(b"") => Cell::Missing,
            Some(text) => Cell::Text(text),
        }
    }
}

fn csv_error(file: &Path, row: u64, error: csv::Error) -> DatasetError {
    match error.into_kind() {
        csv::ErrorKind::Io(source) if is_over_limit(&source) => {
            DatasetError::RowTooLong { file: file.to_owned(), row, limit: ROW_LIMIT }
        }
        csv::ErrorKind::Io(source) => DatasetError::io(file, source),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => DatasetError::BadShape {
            file: file.to_owned(),
            row,
            found: len,
            expected: expected_len,
        },
        other => DatasetError::layout(file, "CSV", format!("row {row}: {other:?}")),
    }
}

/// A file that gives out only so many bytes before it is asked to go on.
struct Metered {
    inner: File,
    left: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("the row does not end")]
struct OverLimit;

fn is_over_limit(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<OverLimit>())
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(OverLimit));
        }
        let read = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(read);
        Ok(read)
    }
}

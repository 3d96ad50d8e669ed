//! Parquet files, read a row at a time from batches of the wanted columns. Enters: a file and
//! column names; a part of a struct is named by its path. Leaves: cells, and where they are asked
//! for, lists of cells. Never reads a column nobody asked for, and never gives a value
//! to a null.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit as Unit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, Int96};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::cell::Cell;
use super::error::DatasetError;

/// Rows decoded at a time: enough that decoding costs little per row, few enough that a batch
/// of long texts stays small.
const BATCH_ROWS: usize = 4_096;
/// Julian day number of 1970-01-01, from which the old 96-bit timestamps count.
const JULIAN_EPOCH: i128 = 2_440_588;
const NANOS_PER_DAY: i128 = 86_400_000_000_000;
const LAYOUT: &str = "Parquet";

/// A Parquet file.
pub(super) struct ParquetTable {
    file: PathBuf,
    reader: SerializedFileReader<File>,
    columns: Vec<Column>,
    next_group: usize,
    /// Rows of the current row group not yet decoded.
    group_left: usize,
    /// Rows of the current batch, and those of them stepped over.
    batch: usize,
    stepped: usize,
    row: u64,
    rows: u64,
}

/// One wanted column.
struct Column {
    name: String,
    leaf: usize,
    meaning: Meaning,
    /// Definition level of a value that is there; lower ones are nulls.
    full: i16,
    /// Definition level from which on there is an entry of a list, perhaps null; none for a column
    /// that is no list.
    entry: Option<i16>,
    reader: Option<ColumnReader>,
    levels: Vec<i16>,
    /// By level, 0 where a row begins; of lists only.
    repeats: Vec<i16>,
    values: Values,
    /// The place in `values` of the row stepped to, none for a null; of a list that of each entry.
    places: Vec<Option<usize>>,
    /// Values stepped over.
    used: usize,
    /// Levels stepped over, which are more than rows in a list.
    passed: usize,
}

/// How a number is to be understood.
#[derive(Clone, Copy, PartialEq)]
enum Meaning {
    Plain,
    Unsigned,
    /// A timestamp whose unit is this many nanoseconds.
    Time(i128),
}

/// Decoded values of a batch, nulls left out.
enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
}

impl ParquetTable {
    /// Opens a file. Columns that are lists are refused, but `with_lists`.
    pub(super) fn open(
        file: &Path,
        wanted: &[String],
        with_lists: bool,
    ) -> Result<Self, DatasetError> {
        let opened = File::open(file).map_err(|source| DatasetError::io(file, source))?;
        let damaged = |error: ParquetError| DatasetError::layout(file, LAYOUT, error);
        let reader = contained(|| SerializedFileReader::new(opened)).map_err(damaged)?;
        let about = reader.metadata().file_metadata();
        let leaves = about.schema_descr().columns();
        let names: Vec<String> = leaves.iter().map(|leaf| leaf.path().string()).collect();
        let columns = wanted
            .iter()
            .map(|name| {
                // A list or struct is known by its own name, its leaves by longer ones.
                let within = format!("{name}.");
                let leaf = names.iter().position(|n| n == name || n.starts_with(&within));
                let leaf =
                    leaf.ok_or_else(|| DatasetError::unknown_column(file, name, names.clone()))?;
                let column = Column::new(name, leaf, &leaves[leaf]);
                let readable = column.filter(|column| with_lists || column.entry.is_none());
                readable
                    .filter(|_| names[leaf] == *name)
                    .ok_or_else(|| unsupported(file, name, &leaves[leaf]))
            })
            .collect::<Result<_, _>>()?;
        let rows = u64::try_from(about.num_rows())
            .map_err(|_| DatasetError::layout(file, LAYOUT, "its row count is negative"))?;
        Ok(Self {
            file: file.to_owned(),
            reader,
            columns,
            next_group: 0,
            group_left: 0,
            batch: 0,
            stepped: 0,
            row: 0,
            rows,
        })
    }

    /// The names of all its columns; of a nested one those of its leaves.
    pub(super) fn names(&self) -> Vec<String> {
        let leaves = self.reader.metadata().file_metadata().schema_descr().columns();
        leaves.iter().map(|leaf| leaf.path().string()).collect()
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The row stepped to, from 1.
    pub(super) fn row(&self) -> u64 {
        self.row
    }

    /// Rows of the file, as it says itself.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Steps to the next row; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, DatasetError> {
        while self.stepped == self.batch {
            if self.group_left == 0 {
                if self.next_group == self.reader.num_row_groups() {
                    return Ok(false);
                }
                contained(|| self.open_group()).map_err(|error| self.damaged(error))?;
            } else {
                contained(|| self.decode()).map_err(|error| self.damaged(error))?;
            }
        }
        for column in &mut self.columns {
            column.step();
        }
        self.stepped += 1;
        self.row += 1;
        Ok(true)
    }

    /// The value of the `slot`th wanted column.
    pub(super) fn cell(&self, slot: usize) -> Cell<'_> {
        let first = |column: &Column| column.places.first().copied().flatten();
        self.columns.get(slot).map_or(Cell::Missing, |column| column.cell(first(column)))
    }

    /// Whether the `slot`th wanted column has any number of values in a row.
    pub(super) fn is_list(&self, slot: usize) -> bool {
        self.columns.get(slot).is_some_and(|column| column.entry.is_some())
    }

    /// The entries of the `slot`th wanted column, which is a list; nulls are missing ones.
    pub(super) fn list(&self, slot: usize) -> Vec<Cell<'_>> {
        let Some(column) = self.columns.get(slot) else { return Vec::new() };
        column.places.iter().map(|place| column.cell(*place)).collect()
    }

    fn damaged(&self, error: ParquetError) -> DatasetError {
        let place = format!("after row {}: {error}", self.row);
        DatasetError::layout(&self.file, LAYOUT, place)
    }

    fn open_group(&mut self) -> ParquetResult<()> {
        let group = self.reader.get_row_group(self.next_group)?;
        let rows = group.metadata().num_rows();
        self.group_left = usize::try_from(rows)
            .map_err(|_| ParquetError::General(format!("a row group of {rows} rows")))?;
        for column in &mut self.columns {
            column.reader = Some(group.get_column_reader(column.leaf)?);
        }
        self.next_group += 1;
        Ok(())
    }

    fn decode(&mut self) -> ParquetResult<()> {
        let wanted = self.group_left.min(BATCH_ROWS);
        for column in &mut self.columns {
            let found = column.decode(wanted)?;
            if found != wanted {
                let name = &column.name;
                return Err(ParquetError::General(format!("column {name} ends too early")));
            }
        }
        self.group_left -= wanted;
        (self.batch, self.stepped) = (wanted, 0);
        Ok(())
    }
}

impl Column {
    /// None where its type is not one a cell can hold.
    fn new(name: &str, leaf: usize, about: &ColumnDescriptor) -> Option<Self> {
        let values = match about.physical_type() {
            Physical::BOOLEAN => Values::Bool(vec![]),
            Physical::INT32 => Values::Int32(vec![]),
            Physical::INT64 => Values::Int64(vec![]),
            Physical::INT96 => Values::Int96(vec![]),
            Physical::FLOAT => Values::Float(vec![]),
            Physical::DOUBLE => Values::Double(vec![]),
            Physical::BYTE_ARRAY => Values::Bytes(vec![]),
            Physical::FIXED_LEN_BYTE_ARRAY => return None,
        };
        let full = about.max_def_level();
        let entry = match about.max_rep_level() {
            0 => None,
            // The column, the group that is repeated, the entry: a list or a map of plain values.
            1 if about.path().parts().len() <= 3 => {
                let repetition = about.self_type().get_basic_info().repetition();
                Some(full - i16::from(repetition == Repetition::OPTIONAL))
            }
            _ => return None,
        };
        Some(Self {
            name: name.to_owned(),
            leaf,
            meaning: meaning(about)?,
            full,
            entry,
            reader: None,
            levels: Vec::new(),
            repeats: Vec::new(),
            values,
            places: Vec::new(),
            used: 0,
            passed: 0,
        })
    }

    fn step(&mut self) {
        self.places.clear();
        loop {
            let level = self.levels.get(self.passed).copied();
            let there = self.full == 0 || level == Some(self.full);
            if self.entry.is_none_or(|entry| level.is_some_and(|level| level >= entry)) {
                self.places.push(there.then_some(self.used));
            }
            self.used += usize::from(there);
            self.passed += 1;
            if self.entry.is_none() || self.repeats.get(self.passed).is_none_or(|r| *r == 0) {
                return;
            }
        }
    }

    fn cell(&self, place: Option<usize>) -> Cell<'_> {
        let Some(place) = place else {
            return Cell::Missing;
        };
        let cell = match &self.values {
            Values::Bool(values) => values.get(place).map(|&v| Cell::Bool(v)),
            Values::Int32(values) => values.get(place).map(|&v| match self.meaning {
                Meaning::Unsigned => Cell::Integer((v as u32).into()),
                meaning => meaning.of(v.into()),
            }),
            Values::Int64(values) => values.get(place).map(|&v| match self.meaning {
                Meaning::Unsigned => Cell::Integer((v as u64).into()),
                meaning => meaning.of(v.into()),
            }),
            Values::Int96(values) => values.get(place).map(|v| Cell::Nanos(nanos(v))),
            Values::Float(values) => values.get(place).map(|&v| Cell::Float(v.into())),
            Values::Double(values) => values.get(place).map(|&v| Cell::Float(v)),
            Values::Bytes(values) => values.get(place).map(|v| Cell::Text(v.data())),
        };
        match cell {
            None | Some(Cell::Text(b"")) => Cell::Missing,
            Some(cell) => cell,
        }
    }

    /// Decodes the next `rows` rows; gives how many there were.
    fn decode(&mut self, rows: usize) -> ParquetResult<usize> {
        use ColumnReader as C;
        (self.used, self.passed) = (0, 0);
        let repeats = self.entry.is_some().then_some(&mut self.repeats);
        let to = (rows, &mut self.levels, repeats);
        match (&mut self.reader, &mut self.values) {
            (Some(C::BoolColumnReader(r)), Values::Bool(v)) => fill(r, to, v),
            (Some(C::Int32ColumnReader(r)), Values::Int32(v)) => fill(r, to, v),
            (Some(C::Int64ColumnReader(r)), Values::Int64(v)) => fill(r, to, v),
            (Some(C::Int96ColumnReader(r)), Values::Int96(v)) => fill(r, to, v),
            (Some(C::FloatColumnReader(r)), Values::Float(v)) => fill(r, to, v),
            (Some(C::DoubleColumnReader(r)), Values::Double(v)) => fill(r, to, v),
            (Some(C::ByteArrayColumnReader(r)), Values::Bytes(v)) => fill(r, to, v),
            _ => Err(ParquetError::General(format!("column {} changes its type", self.name))),
        }
    }
}

/// Runs a call into the Parquet library, whose checks of damaged files are in part assertions:
/// a file's damage is this reader's error and must not end the process. Whatever the call left
/// half done is not used again, since the error ends the reading.
fn contained<T>(call: impl FnOnce() -> ParquetResult<T>) -> ParquetResult<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(ParquetError::General(text.unwrap_or_else(|| "it is damaged".to_owned())))
    })
}

fn fill<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    (rows, levels, mut repeats): (usize, &mut Vec<i16>, Option<&mut Vec<i16>>),
    values: &mut Vec<T::T>,
) -> ParquetResult<usize> {
    levels.clear();
    values.clear();
    if let Some(repeats) = &mut repeats {
        repeats.clear();
    }
    let mut found = 0;
    // A call ends at the end of a page, before all rows are there.
    while found < rows {
        let (records, _, _) =
            reader.read_records(rows - found, Some(levels), repeats.as_deref_mut(), values)?;
        if records == 0 {
            break;
        }
        found += records;
    }
    Ok(found)
}

impl Meaning {
    fn of(self, value: i128) -> Cell<'static> {
        match self {
            Meaning::Time(unit) => Cell::Nanos(value * unit),
            Meaning::Plain | Meaning::Unsigned => Cell::Integer(value),
        }
    }
}

/// What the schema says a number means; none where it means something no cell can hold.
fn meaning(about: &ColumnDescriptor) -> Option<Meaning> {
    match about.logical_type_ref() {
        Some(LogicalType::Timestamp(stamp)) => Some(Meaning::Time(match stamp.unit {
            Unit::MILLIS => 1_000_000,
            Unit::MICROS => 1_000,
            Unit::NANOS => 1,
        })),
        Some(LogicalType::Date) => Some(Meaning::Time(NANOS_PER_DAY)),
        Some(LogicalType::Integer(int)) if !int.is_signed => Some(Meaning::Unsigned),
        Some(LogicalType::Integer(_) | LogicalType::String | LogicalType::Enum) => {
            Some(Meaning::Plain)
        }
        Some(_) => None,
        None => match about.converted_type() {
            ConvertedType::TIMESTAMP_MILLIS => Some(Meaning::Time(1_000_000)),
            ConvertedType::TIMESTAMP_MICROS => Some(Meaning::Time(1_000)),
            ConvertedType::DATE => Some(Meaning::Time(NANOS_PER_DAY)),
            ConvertedType::UINT_8
            | ConvertedType::UINT_16
            | ConvertedType::UINT_32
            | ConvertedType::UINT_64 => Some(Meaning::Unsigned),
            ConvertedType::NONE
            | ConvertedType::UTF8
            | ConvertedType::ENUM
            | ConvertedType::INT_8
            | ConvertedType::INT_16
            | ConvertedType::INT_32
            | ConvertedType::INT_64 => Some(Meaning::Plain),
            _ => None,
        },
    }
}

/// The old 96-bit timestamps: nanoseconds of the day, then the Julian day.
fn nanos(stamp: &Int96) -> i128 {
    let &[low, high, day] = stamp.data() else {
        return 0;
    };
    let of_day = (u64::from(high) << 32) | u64::from(low);
    (i128::from(day) - JULIAN_EPOCH) * NANOS_PER_DAY + i128::from(of_day)
}

fn unsupported(file: &Path, name: &str, about: &ColumnDescriptor) -> DatasetError {
    let nested = about.max_rep_level() > 0 || about.path().parts().len() > 1;
    let found = if nested {
        "nested".to_owned()
    } else {
        match about.logical_type_ref() {
            Some(logical) => format!("{logical:?} stored as {}", about.physical_type()),
            None => format!("{} stored as {}", about.converted_type(), about.physical_type()),
        }
    };
    DatasetError::UnsupportedColumn { file: file.to_owned(), column: name.to_owned(), found }
}

//! Parquet files of one schema → one. Columns are read with their levels and written on; no row is
//! put together in between. Pure: the same files give the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::types::TypePtr;

use super::parquet_file::encode;
use super::table::{Column, Values};

/// A file that was read.
pub struct Read {
    /// The schema of its columns.
    pub schema: TypePtr,
    /// What it says of itself.
    pub metadata: BTreeMap<String, String>,
    reader: SerializedFileReader<Bytes>,
}

impl Read {
    /// Reads a file's footer.
    ///
    /// # Errors
    /// Parquet's, where it is no Parquet file.
    pub fn open(bytes: Bytes) -> Result<Self> {
        let reader = SerializedFileReader::new(bytes)?;
        let file = reader.metadata().file_metadata();
        let schema = file.schema_descr().root_schema_ptr();
        let pairs = file.key_value_metadata().cloned().unwrap_or_default();
        let metadata =
            pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect();
        Ok(Self { schema, metadata, reader })
    }

    /// A column that is in no list, by its name, and the level at which its values are there.
    ///
    /// # Errors
    /// Parquet's, where it cannot be read, or there is none of this name.
    pub fn flat_column(&self, name: &str) -> Result<(Column, i16)> {
        let shapes = self.reader.metadata().file_metadata().schema_descr_ptr();
        let found = shapes.columns().iter().position(|c| c.path().parts() == [name]);
        let number = found.ok_or_else(|| ParquetError::General(format!("no column {name}")))?;
        let shape = shapes.column(number);
        let mut column =
            Column::empty(shape.physical_type(), shape.max_def_level(), shape.max_rep_level())?;
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group)?;
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            read(group.get_column_reader(number)?, rows, &mut column)?;
        }
        Ok((column, shape.max_def_level()))
    }

    /// Rows in the file.
    pub fn rows(&self) -> u64 {
        self.reader.metadata().file_metadata().num_rows().unsigned_abs()
    }
}

/// Rows of a file, by its footer.
///
/// # Errors
/// Parquet's, where it is no Parquet file.
pub fn rows_of(bytes: &Bytes) -> Result<u64> {
    Ok(Read::open(bytes.clone())?.rows())
}

/// One file of the rows of several of the same schema, in their order.
///
/// # Errors
/// Parquet's, where one cannot be read; or where their schemas differ.
pub fn merge(files: &[Read], metadata: Vec<(String, String)>) -> Result<Vec<u8>> {
    let Some(first) = files.first() else {
        return Err(ParquetError::General("nothing to merge".into()));
    };
    if files.iter().any(|file| file.schema != first.schema) {
        return Err(ParquetError::General("files of different schemas".into()));
    }
    let shapes = first.reader.metadata().file_metadata().schema_descr_ptr();
    let mut columns = Vec::with_capacity(shapes.num_columns());
    for number in 0..shapes.num_columns() {
        let shape = shapes.column(number);
        let mut column =
            Column::empty(shape.physical_type(), shape.max_def_level(), shape.max_rep_level())?;
        for file in files {
            for group in 0..file.reader.num_row_groups() {
                let group = file.reader.get_row_group(group)?;
                let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
                read(group.get_column_reader(number)?, rows, &mut column)?;
            }
        }
        columns.push(column);
    }
    encode(&Arc::clone(&first.schema), &columns, metadata)
}

fn read(reader: ColumnReader, rows: usize, into: &mut Column) -> Result<()> {
    match (reader, &mut into.values) {
        (ColumnReader::BoolColumnReader(from), Values::Boolean(all)) => {
            read_all(from, rows, all, &mut into.defs, &mut into.reps)
        }
        (ColumnReader::Int32ColumnReader(from), Values::Int(all)) => {
            read_all(from, rows, all, &mut into.defs, &mut into.reps)
        }
        (ColumnReader::Int64ColumnReader(from), Values::Long(all)) => {
            read_all(from, rows, all, &mut into.defs, &mut into.reps)
        }
        (ColumnReader::FloatColumnReader(from), Values::Float(all)) => {
            read_all(from, rows, all, &mut into.defs, &mut into.reps)
        }
        (ColumnReader::DoubleColumnReader(from), Values::Double(all)) => {
            read_all(from, rows, all, &mut into.defs, &mut into.reps)
        }
        (ColumnReader::ByteArrayColumnReader(from), Values::Bytes(all)) => {
            read_all(from, rows, all, &mut into.defs, &mut into.reps)
        }
        _ => Err(ParquetError::General("a column of a type that the lake does not write".into())),
    }
}

fn read_all<T: DataType>(
    mut from: ColumnReaderImpl<T>,
    rows: usize,
    values: &mut Vec<T::T>,
    defs: &mut Vec<i16>,
    reps: &mut Vec<i16>,
) -> Result<()> {
    let mut left = rows;
    while left > 0 {
        let (read, ..) = from.read_records(left, Some(defs), Some(reps), values)?;
        if read == 0 {
            return Err(ParquetError::General(format!("{left} rows are missing")));
        }
        left -= read;
    }
    Ok(())
}

//! Rows of data files, for whoever learns from them. The wanted columns only; what a file of an older
//! schema lacks reads as nothing.

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, List, Row};
use parquet::schema::types::Type;

use super::manifest::DataFile;
use super::store::{Lake, LakeError};
use crate::objects::sha256_hex;
use crate::time::EventTime;

/// One row of a file, or one entry of a list of records in it.
pub struct LakeRow<'a> {
    row: &'a Row,
    /// By wanted column, its place in the row.
    places: &'a [Option<usize>],
}

impl<'a> LakeRow<'a> {
    fn field(&self, column: usize) -> &'a Field {
        let place = self.places.get(column).copied().flatten();
        let found = place.and_then(|place| self.row.get_column_iter().nth(place));
        found.map_or(&Field::Null, |(_, field)| field)
    }

    /// A text; empty where there is none.
    pub fn text(&self, column: usize) -> &'a str {
        match self.field(column) {
            Field::Str(text) => text,
            _ => "",
        }
    }

    /// A whole number or a time in milliseconds; 0 where there is none.
    pub fn long(&self, column: usize) -> i64 {
        match *self.field(column) {
            Field::Int(value) => value.into(),
            Field::Long(value) | Field::TimestampMillis(value) => value,
            _ => 0,
        }
    }

    /// When; the epoch where there is none.
    pub fn time(&self, column: usize) -> EventTime {
        EventTime::from_millis(self.long(column))
    }

    /// Whether there is a value.
    pub fn has(&self, column: usize) -> bool {
        !matches!(self.field(column), Field::Null)
    }

    /// Gives the records of a list to `take`, each with its `columns`.
    pub fn each(&self, column: usize, columns: &[&str], mut take: impl FnMut(&LakeRow<'_>)) {
        let Field::ListInternal(list) = self.field(column) else { return };
        let mut places: Option<Vec<Option<usize>>> = None;
        for field in elements(list) {
            let Field::Group(row) = field else { continue };
            let places = places.get_or_insert_with(|| {
                let place = |name: &&str| row.get_column_iter().position(|(own, _)| own == *name);
                columns.iter().map(place).collect()
            });
            take(&LakeRow { row, places });
        }
    }
}

fn elements(list: &List) -> &[Field] {
    list.elements()
}

impl Lake {
    /// Gives all rows of a file to `take`, with these columns in this order. The file's size and
    /// SHA-256 are checked first.
    ///
    /// # Errors
    /// [`LakeError`]; [`LakeError::Damaged`] where the file is not the one that was listed.
    pub fn each_row(
        &self,
        file: &DataFile,
        columns: &[&str],
        mut take: impl FnMut(&LakeRow<'_>),
    ) -> Result<(), LakeError> {
        let missing = || LakeError::damaged(&file.key, "it is not there");
        let bytes = self.objects.get(&file.key)?.ok_or_else(missing)?;
        if sha256_hex(&bytes) != file.sha256 {
            return Err(LakeError::damaged(&file.key, "its bytes are not those that were written"));
        }
        let damaged = |error: ParquetError| LakeError::damaged(&file.key, error);
        read(bytes, columns, &mut take).map_err(damaged)
    }
}

fn read(
    bytes: Bytes,
    columns: &[&str],
    take: &mut impl FnMut(&LakeRow<'_>),
) -> Result<(), ParquetError> {
    let reader = SerializedFileReader::new(bytes)?;
    let root = reader.metadata().file_metadata().schema_descr().root_schema().clone();
    let wanted: Vec<_> =
        root.get_fields().iter().filter(|f| columns.contains(&f.name())).cloned().collect();
    let place = |name: &&str| wanted.iter().position(|field| field.name() == *name);
    let places: Vec<Option<usize>> = columns.iter().map(place).collect();
    let projected = Type::group_type_builder(root.name()).with_fields(wanted).build()?;
    for row in reader.get_row_iter(Some(projected))? {
        let row = row?;
        take(&LakeRow { row: &row, places: &places });
    }
    Ok(())
}

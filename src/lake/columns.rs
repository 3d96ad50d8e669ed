//! Columns of the lake's own files, for who asks about a few of them. Reads no others.

use bytes::Bytes;
use parquet::errors::ParquetError;

use super::merging::Read;
use super::store::LakeError;
use super::table::Values;

/// A file of the lake.
pub struct LakeColumns {
    key: String,
    file: Read,
}

impl LakeColumns {
    /// Reads the footer of the file `key`.
    ///
    /// # Errors
    /// [`LakeError::Damaged`] where the bytes are no Parquet file.
    pub fn open(key: &str, bytes: Bytes) -> Result<Self, LakeError> {
        let file = Read::open(bytes).map_err(|error| LakeError::damaged(key, error))?;
        Ok(Self { key: key.to_owned(), file })
    }

    /// A column of texts or bytes, row by row; none where it is null.
    ///
    /// # Errors
    /// [`LakeError::Damaged`] where there is no such column.
    pub fn texts(&self, name: &str) -> Result<Vec<Option<Bytes>>, LakeError> {
        self.rows(name, |values| match values {
            Values::Bytes(all) => {
                Some(all.iter().map(|text| Bytes::copy_from_slice(text.data())).collect())
            }
            _ => None,
        })
    }

    /// A column of whole numbers of 64 bits, or of times in milliseconds since the epoch; none where it
    /// is null.
    ///
    /// # Errors
    /// [`LakeError::Damaged`] where there is no such column.
    pub fn longs(&self, name: &str) -> Result<Vec<Option<i64>>, LakeError> {
        self.rows(name, |values| match values {
            Values::Long(all) => Some(all.clone()),
            _ => None,
        })
    }

    fn rows<T>(
        &self,
        name: &str,
        of: impl FnOnce(&Values) -> Option<Vec<T>>,
    ) -> Result<Vec<Option<T>>, LakeError> {
        let damaged = |error: ParquetError| LakeError::damaged(&self.key, error);
        let (column, full) = self.file.flat_column(name).map_err(damaged)?;
        let wrong = || LakeError::damaged(&self.key, format!("{name} is of another type"));
        let mut values = of(&column.values).ok_or_else(wrong)?.into_iter();
        if column.defs.is_empty() {
            return Ok(values.map(Some).collect());
        }
        let one = |def: &i16| if *def == full { values.next() } else { None };
        Ok(column.defs.iter().map(one).collect())
    }
}

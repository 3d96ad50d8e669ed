//! Item vectors that were trained elsewhere, from Parquet files.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};

use crate::embedding::Settings;
use crate::ids::ItemId;
use crate::model::ials::IalsConfig;
use crate::model::{Dim, ModelError, Vectors};
use crate::objects::sha256_hex;

/// Components of a vector are filled up with zeros to a multiple of this, which changes no inner
/// product.
const LANES: usize = 8;

/// Vectors of items, and how users are folded in over them.
#[derive(Clone, Debug)]
pub struct Factors {
    /// The items.
    pub items: Vec<ItemId>,
    /// Their vectors, in this order.
    pub vectors: Vectors,
    /// How users are folded in: with the unobserved weight and the regularization of the training.
    pub settings: Settings,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// Why a file gives no vectors.
#[derive(Debug, thiserror::Error)]
pub enum FactorsError {
    /// It cannot be read.
    #[error("{file}: {source}")]
    Io {
        /// Its path.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no Parquet file, or a damaged one.
    #[error("{file} is no Parquet file that can be read: {source}")]
    Parquet {
        /// Its path.
        file: String,
        /// Why.
        source: ParquetError,
    },
    /// A row, or all of them, are not as they should be.
    #[error("{file}: {what}")]
    Content {
        /// Its path.
        file: String,
        /// What is wrong, and with which row.
        what: String,
    },
    /// What vectors must be.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Reads a file, or all `.parquet` files of a folder, with a column of item ids (texts or whole
/// numbers) and one of lists of numbers, all of the same length.
///
/// # Errors
/// [`FactorsError`].
pub fn read_factors(
    path: &Path,
    item_column: &str,
    vector_column: &str,
    settings: Settings,
) -> Result<Factors, FactorsError> {
    let mut reading = Reading::default();
    for path in files(path)? {
        reading.take(&path, item_column, vector_column)?;
    }
    let Reading { items, values, length, hashes } = reading;
    let Some(length) = length else {
        let file = path.display().to_string();
        return Err(FactorsError::Content { file, what: "there is no row in it".into() });
    };
    let dim = Dim::new(length.next_multiple_of(LANES))?;
    let ials = IalsConfig { dim, ..settings.ials };
    Ok(Factors {
        items,
        vectors: Vectors::from_values(dim, values)?,
        settings: Settings { ials, ..settings },
        sha256: sha256_hex(hashes.join(" ").as_bytes()),
    })
}

/// The file, or those of the folder in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, FactorsError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let io = |source| FactorsError::Io { file: path.display().to_string(), source };
    let entries = fs::read_dir(path).map_err(io)?.collect::<Result<Vec<_>, _>>().map_err(io)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "parquet"));
    files.sort();
    Ok(files)
}

#[derive(Default)]
struct Reading {
    items: Vec<ItemId>,
    values: Vec<f32>,
    length: Option<usize>,
    hashes: Vec<String>,
}

impl Reading {
    fn take(
        &mut self,
        path: &Path,
        item_column: &str,
        vector_column: &str,
    ) -> Result<(), FactorsError> {
        let file = path.display().to_string();
        let bytes = match fs::read(path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(source) => return Err(FactorsError::Io { file, source }),
        };
        self.hashes.push(sha256_hex(&bytes));
        let parquet = |source| FactorsError::Parquet { file: file.clone(), source };
        let wrong = |what: String| FactorsError::Content { file: file.clone(), what };
        let reader = SerializedFileReader::new(bytes).map_err(parquet)?;
        for (number, row) in (1..).zip(reader.get_row_iter(None).map_err(parquet)?) {
            let row = row.map_err(parquet)?;
            let item = match field(&row, item_column).map_err(&wrong)? {
                Field::Str(text) if !text.is_empty() => text.clone(),
                Field::Int(id) => id.to_string(),
                Field::Long(id) => id.to_string(),
                other => return Err(wrong(format!("row {number}: {other} is no item id"))),
            };
            let Field::ListInternal(list) = field(&row, vector_column).map_err(&wrong)? else {
                return Err(wrong(format!("{vector_column} is no list of numbers")));
            };
            let own = list.len();
            let length = *self.length.get_or_insert(own);
            if own != length {
                return Err(wrong(format!("row {number}: {own} components, others have {length}")));
            }
            let before = self.values.len();
            for value in list.elements() {
                self.values.push(match value {
                    Field::Float(value) if value.is_finite() => *value,
                    Field::Double(value) if value.is_finite() => *value as f32,
                    other => {
                        let why = format!("row {number}: a component of {item} is {other}");
                        return Err(wrong(why));
                    }
                });
            }
            self.values.resize(before + own.next_multiple_of(LANES), 0.0);
            self.items.push(ItemId::new(item));
        }
        Ok(())
    }
}

fn field<'r>(row: &'r Row, column: &str) -> Result<&'r Field, String> {
    let found = row.get_column_iter().find(|(name, _)| *name == column);
    found.map(|(_, field)| field).ok_or_else(|| {
        let names: Vec<&str> = row.get_column_iter().map(|(name, _)| name.as_str()).collect();
        format!("there is no column {column}; there are {}", names.join(", "))
    })
}

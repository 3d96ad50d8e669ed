//! Item vectors that were trained elsewhere, from a Parquet file.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};

use crate::embedding::Settings;
use crate::ids::ItemId;
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

/// Reads a file with a column of item ids (texts or whole numbers) and one of lists of numbers, all
/// of the same length: what Spark's ALS writes as `itemFactors` has `id` and `features`.
///
/// # Errors
/// [`FactorsError`].
pub fn read_factors(
    path: &Path,
    item_column: &str,
    vector_column: &str,
    settings: Settings,
) -> Result<Factors, FactorsError> {
    let file = path.display().to_string();
    let bytes = match fs::read(path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(source) => return Err(FactorsError::Io { file, source }),
    };
    let sha256 = sha256_hex(&bytes);
    let parquet = |source| FactorsError::Parquet { file: file.clone(), source };
    let wrong = |what: String| FactorsError::Content { file: file.clone(), what };
    let reader = SerializedFileReader::new(bytes).map_err(parquet)?;
    let mut items = Vec::new();
    let mut values = Vec::new();
    let mut length = None;
    for (number, row) in (1..).zip(reader.get_row_iter(None).map_err(parquet)?) {
        let row = row.map_err(parquet)?;
        let item = match field(&row, item_column).map_err(&wrong)? {
            Field::Str(text) if !text.is_empty() => text.clone(),
            Field::Int(id) => id.to_string(),
            Field::Long(id) => id.to_string(),
            other => return Err(wrong(format!("row {number}: {other} is no item id"))),
        };
        let before = values.len();
        let Field::ListInternal(list) = field(&row, vector_column).map_err(&wrong)? else {
            return Err(wrong(format!("{vector_column} is no list of numbers")));
        };
        for value in list.elements() {
            values.push(match value {
                Field::Float(value) => *value,
                Field::Double(value) => *value as f32,
                other => return Err(wrong(format!("row {number}: {other} is no component"))),
            });
        }
        if !values[before..].iter().all(|value| value.is_finite()) {
            return Err(wrong(format!("row {number}: a component of {item} is not finite")));
        }
        let own = values.len() - before;
        if *length.get_or_insert(own) != own {
            let length = length.unwrap_or(own);
            return Err(wrong(format!("row {number}: {own} components, others have {length}")));
        }
        values.resize(before + own.next_multiple_of(LANES), 0.0);
        items.push(ItemId::new(item));
    }
    let Some(length) = length else { return Err(wrong("there is no row in it".into())) };
    let dim = Dim::new(length.next_multiple_of(LANES))?;
    let ials = crate::model::ials::IalsConfig { dim, ..settings.ials };
    Ok(Factors {
        items,
        vectors: Vectors::from_values(dim, values)?,
        settings: Settings { ials, ..settings },
        sha256,
    })
}

fn field<'r>(row: &'r Row, column: &str) -> Result<&'r Field, String> {
    let found = row.get_column_iter().find(|(name, _)| *name == column);
    found.map(|(_, field)| field).ok_or_else(|| {
        let names: Vec<&str> = row.get_column_iter().map(|(name, _)| name.as_str()).collect();
        format!("there is no column {column}; there are {}", names.join(", "))
    })
}

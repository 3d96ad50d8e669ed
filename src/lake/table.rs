//! Rows taken apart into columns, as Parquet writes them: values, definition and repetition levels.

use bytes::Bytes;
use parquet::basic::Type as Physical;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;

use super::shape::{ColumnShape, Leaf};

/// Values of a column that are there, nulls left out.
#[derive(Clone, Debug)]
pub enum Values {
    /// `BOOLEAN`
    Boolean(Vec<bool>),
    /// `INT32`
    Int(Vec<i32>),
    /// `INT64`
    Long(Vec<i64>),
    /// `FLOAT`
    Float(Vec<f32>),
    /// `DOUBLE`
    Double(Vec<f64>),
    /// `BYTE_ARRAY`
    Bytes(Vec<ByteArray>),
}

impl Values {
    fn of(leaf: &Leaf) -> Self {
        match leaf {
            Leaf::Boolean => Self::Boolean(Vec::new()),
            Leaf::Int => Self::Int(Vec::new()),
            Leaf::Long | Leaf::Millis => Self::Long(Vec::new()),
            Leaf::Float => Self::Float(Vec::new()),
            Leaf::Double => Self::Double(Vec::new()),
            Leaf::Text | Leaf::Bytes | Leaf::Enum(..) => Self::Bytes(Vec::new()),
        }
    }

    /// Their number.
    pub fn len(&self) -> usize {
        match self {
            Self::Boolean(all) => all.len(),
            Self::Int(all) => all.len(),
            Self::Long(all) => all.len(),
            Self::Float(all) => all.len(),
            Self::Double(all) => all.len(),
            Self::Bytes(all) => all.len(),
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(all) => all.truncate(len),
            Self::Int(all) => all.truncate(len),
            Self::Long(all) => all.truncate(len),
            Self::Float(all) => all.truncate(len),
            Self::Double(all) => all.truncate(len),
            Self::Bytes(all) => all.truncate(len),
        }
    }
}

/// One column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its values.
    pub values: Values,
    /// A definition level for each value and null; empty where all are there.
    pub defs: Vec<i16>,
    /// A repetition level for each; empty outside lists.
    pub reps: Vec<i16>,
    max_def: i16,
    max_rep: i16,
    /// Lengths of values, and of levels, where the current row began.
    mark: (usize, usize, usize),
}

impl Column {
    fn new(shape: &ColumnShape) -> Self {
        Self {
            values: Values::of(&shape.leaf),
            defs: Vec::new(),
            reps: Vec::new(),
            max_def: shape.max_def,
            max_rep: shape.max_rep,
            mark: (0, 0, 0),
        }
    }

    /// An empty column as a file has it.
    ///
    /// # Errors
    /// Parquet's, where the lake writes no such columns.
    pub fn empty(physical: Physical, max_def: i16, max_rep: i16) -> Result<Self, ParquetError> {
        let leaf = match physical {
            Physical::BOOLEAN => Leaf::Boolean,
            Physical::INT32 => Leaf::Int,
            Physical::INT64 => Leaf::Long,
            Physical::FLOAT => Leaf::Float,
            Physical::DOUBLE => Leaf::Double,
            Physical::BYTE_ARRAY => Leaf::Bytes,
            other => return Err(ParquetError::General(format!("the lake writes no {other}"))),
        };
        Ok(Self::new(&ColumnShape { leaf, max_def, max_rep }))
    }

    fn level(&mut self, rep: i16, def: i16) {
        if self.max_def > 0 {
            self.defs.push(def);
        }
        if self.max_rep > 0 {
            self.reps.push(rep);
        }
    }

    /// Puts a whole number in; `None` where the column holds no such number.
    #[must_use]
    pub fn put_long(&mut self, value: i64, rep: i16) -> Option<()> {
        match &mut self.values {
            Values::Int(all) => all.push(i32::try_from(value).ok()?),
            Values::Long(all) => all.push(value),
            Values::Float(all) => all.push(value as f32),
            Values::Double(all) => all.push(value as f64),
            _ => return None,
        }
        self.level(rep, self.max_def);
        Some(())
    }

    /// Puts a number in; `None` where the column holds no such number.
    #[must_use]
    pub fn put_double(&mut self, value: f64, rep: i16) -> Option<()> {
        match &mut self.values {
            // A float of a record comes back as it was: it was widened to get here.
            Values::Float(all) => all.push(value as f32),
            Values::Double(all) => all.push(value),
            _ => return None,
        }
        self.level(rep, self.max_def);
        Some(())
    }

    /// Puts a truth value in; `None` where the column holds none.
    #[must_use]
    pub fn put_boolean(&mut self, value: bool, rep: i16) -> Option<()> {
        let Values::Boolean(all) = &mut self.values else { return None };
        all.push(value);
        self.level(rep, self.max_def);
        Some(())
    }

    /// Puts text or bytes in; `None` where the column holds none.
    #[must_use]
    pub fn put_bytes(&mut self, value: Bytes, rep: i16) -> Option<()> {
        let Values::Bytes(all) = &mut self.values else { return None };
        all.push(ByteArray::from(value));
        self.level(rep, self.max_def);
        Some(())
    }
}

/// Rows of one schema.
#[derive(Clone, Debug)]
pub struct Table {
    /// The columns, in Parquet's order.
    pub columns: Vec<Column>,
    /// Number of whole rows.
    pub rows: usize,
}

impl Table {
    /// An empty one.
    pub fn new(columns: &[ColumnShape]) -> Self {
        Self { columns: columns.iter().map(Column::new).collect(), rows: 0 }
    }

    /// Puts in, for every column of `columns`, that there is nothing below level `def`.
    pub fn put_null(&mut self, columns: std::ops::Range<usize>, rep: i16, def: i16) {
        for column in &mut self.columns[columns] {
            column.level(rep, def);
        }
    }

    /// One row, by `fill`. Where that gives nothing, the table is as it was.
    pub fn row<E>(&mut self, fill: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        for column in &mut self.columns {
            column.mark = (column.values.len(), column.defs.len(), column.reps.len());
        }
        let filled = fill(self);
        match filled {
            Ok(()) => self.rows += 1,
            Err(_) => {
                for column in &mut self.columns {
                    let (values, defs, reps) = column.mark;
                    column.values.truncate(values);
                    column.defs.truncate(defs);
                    column.reps.truncate(reps);
                }
            }
        }
        filled
    }
}

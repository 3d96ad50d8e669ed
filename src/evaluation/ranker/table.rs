//! The features that models learnt from and were judged by, as a Parquet file: for whoever wants to
//! train something else on the very same.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{FloatType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::MODELS;
use crate::evaluation::Exposure;
use crate::ranking::{DENSE, Features, Outcome, Scores, TARGETS, names};

/// Rows of a row group: 6 MB of features.
const GROUP: usize = 16_384;
const TARGET_NAMES: [&str; TARGETS] = ["click", "long_view"];

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// An exposure before the first judged one.
    Train = 0,
    /// A judged exposure.
    Test = 1,
    /// A judged exposure as a candidate of the request that its session is taken for.
    Request = 2,
}

/// An exposure with its features.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// What it is.
    pub part: Part,
    /// Whose, of what, when.
    pub exposure: &'a Exposure,
    /// The number of where it was shown.
    pub surface: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// As served.
    pub features: &'a Features,
    /// By model.
    pub scores: [Scores; MODELS.len()],
}

/// Rows on their way into a file.
pub struct Columns<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    whole: [Vec<i32>; 6],
    long: [Vec<i64>; 2],
    /// Features, then log-odds by model and target.
    floats: Vec<Vec<f32>>,
}

fn schema() -> String {
    let whole = ["part", "user", "item", "surface", "click", "long_view"];
    let whole = whole.map(|name| format!("required int32 {name};"));
    let long = ["session", "watched_ms"].map(|name| format!("required int64 {name};"));
    let features =
        names().iter().map(|name| format!("required float f_{};", name.replace('.', "_")));
    let logits = (0..MODELS.len()).flat_map(|model| {
        TARGET_NAMES.map(|target| format!("required float model_{model}_{target};"))
    });
    let all: Vec<String> = whole.into_iter().chain(long).chain(features).chain(logits).collect();
    format!("message exposures {{ {} }}", all.join(" "))
}

impl<W: Write + Send> Columns<W> {
    /// A file of no rows yet.
    ///
    /// # Errors
    /// Where it cannot be written to.
    pub fn new(out: W) -> Result<Self, ParquetError> {
        let compression = Compression::ZSTD(ZstdLevel::try_new(3)?);
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(false)
            .build();
        let schema = Arc::new(parse_message_type(&schema())?);
        Ok(Self {
            writer: SerializedFileWriter::new(out, schema, Arc::new(properties))?,
            whole: Default::default(),
            long: Default::default(),
            floats: vec![Vec::new(); DENSE + MODELS.len() * TARGETS],
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn push(&mut self, row: &Row<'_>) -> Result<(), ParquetError> {
        let Row { part, exposure, surface, outcome, features, scores } = row;
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let whole = [
            *part as i32,
            number(exposure.user),
            number(exposure.item),
            number(*surface),
            i32::from(outcome.clicked),
            i32::from(outcome.long_view),
        ];
        self.whole.iter_mut().zip(whole).for_each(|(column, value)| column.push(value));
        let watched = i64::try_from(outcome.watched_ms).unwrap_or(i64::MAX);
        let long = [exposure.session as i64, watched];
        self.long.iter_mut().zip(long).for_each(|(column, value)| column.push(value));
        let logits = scores.iter().flat_map(|scores| scores.logged.all);
        let values = features.dense.into_iter().chain(logits);
        self.floats.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        if self.whole[0].len() >= GROUP { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.whole {
            if let Some(mut out) = group.next_column()? {
                out.typed::<Int32Type>().write_batch(column, None, None)?;
                out.close()?;
            }
            column.clear();
        }
        for column in &mut self.long {
            if let Some(mut out) = group.next_column()? {
                out.typed::<Int64Type>().write_batch(column, None, None)?;
                out.close()?;
            }
            column.clear();
        }
        for column in &mut self.floats {
            if let Some(mut out) = group.next_column()? {
                out.typed::<FloatType>().write_batch(column, None, None)?;
                out.close()?;
            }
            column.clear();
        }
        group.close()?;
        Ok(())
    }

    /// Writes what is left, and the end of the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(mut self) -> Result<(), ParquetError> {
        if !self.whole[0].is_empty() {
            self.write()?;
        }
        self.writer.close()?;
        Ok(())
    }
}

//! Records of one partition, from one offset to another → the files that hold them. Pure: the same
//! records give the same names and bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use parquet::errors::ParquetError;

use super::decoder::{Decoder, Skipped};
use super::layout::{Chain, Hour};
use super::manifest::{Anchor, DataFile, Manifest, Passed, Plan, SchemaId};
use super::parquet_file::{FileShape, WRITER};
use super::shape::ShapeError;
use super::table::Table;
use crate::event::schema::Subject;
use crate::objects::sha256_hex;
use crate::time::{DAY_MS, EventTime};

/// How far ahead of its append time a record may say that it happened. What is further ahead goes
/// under its append time: it would open folders of days to come, which no retention ever reaches.
const MAX_AHEAD_MS: i64 = DAY_MS;

/// What is archived of a topic, and how.
pub struct TopicWriter {
    subject: &'static str,
    decoder: Decoder,
    shape: FileShape,
}

/// Records as they were read, in the order of their offsets.
#[derive(Default)]
pub struct Batch {
    values: Vec<u8>,
    records: Vec<Raw>,
}

struct Raw {
    offset: i64,
    timestamp_ms: i64,
    begin: usize,
    end: usize,
    tombstone: bool,
}

impl Batch {
    /// Puts a record in; its offset is above those before.
    pub fn push(&mut self, offset: i64, timestamp_ms: i64, value: Option<&[u8]>) {
        let begin = self.values.len();
        self.values.extend_from_slice(value.unwrap_or_default());
        let (end, tombstone) = (self.values.len(), value.is_none());
        self.records.push(Raw { offset, timestamp_ms, begin, end, tombstone });
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        self.values.len() + self.records.len() * size_of::<Raw>()
    }

    /// The offset after the last record's.
    pub fn end(&self) -> Option<i64> {
        self.records.last().map(|r| r.offset + 1)
    }
}

/// A cut, made and not yet written.
pub struct Cut {
    /// What will be said of it.
    pub manifest: Manifest,
    /// The bytes of its files, in the manifest's order.
    pub bytes: Vec<Bytes>,
}

/// Why a topic has no files: a fault of ours.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The schema cannot be columns.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A file could not be made.
    #[error("making a Parquet file: {0}")]
    Parquet(#[from] ParquetError),
}

impl TopicWriter {
    /// A writer of a topic's records.
    ///
    /// # Errors
    /// [`CutError`] where its schemas cannot be columns.
    pub fn new(subject: &'static Subject) -> Result<Self, CutError> {
        let decoder = Decoder::of(subject)?;
        let shape = FileShape::of(&decoder.shape)?;
        Ok(Self { subject: subject.name, decoder, shape })
    }

    /// What the rows are.
    pub fn schema(&self) -> SchemaId {
        SchemaId {
            subject: self.subject.to_owned(),
            version: self.decoder.version,
            fingerprint: self.decoder.fingerprint.iter().map(|b| format!("{b:02x}")).collect(),
        }
    }

    /// Makes the files of a planned cut of all records of `batch`.
    ///
    /// # Errors
    /// [`CutError`] where Parquet cannot be made.
    pub fn cut(&self, chain: &Chain, plan: &Plan, batch: Batch) -> Result<Cut, CutError> {
        let Batch { values, records } = batch;
        let source = Bytes::from(values);
        let mut hours: BTreeMap<Hour, Table> = BTreeMap::new();
        let mut passed = Passed::default();
        let mut event_time: Option<(i64, i64)> = None;
        for raw in &records {
            match self.row(chain, raw, &source, &mut hours) {
                Ok(at) => {
                    let (first, last) = event_time.get_or_insert((at, at));
                    (*first, *last) = ((*first).min(at), (*last).max(at));
                }
                Err(Skipped(class)) => passed.note(class, raw.offset),
            }
        }
        let mut manifest = self.manifest(chain, plan);
        manifest.passed = passed;
        manifest.event_time = event_time;
        manifest.absent = (plan.end - plan.start).unsigned_abs() - records.len() as u64;
        manifest.last = records
            .last()
            .map(|raw| Anchor::of(raw.offset, raw.timestamp_ms, &source[raw.begin..raw.end]));
        let mut files = Vec::with_capacity(hours.len());
        for (hour, table) in hours {
            // An hour may have been begun by a record that then had no row.
            if table.rows == 0 {
                continue;
            }
            let bytes = Bytes::from(self.shape.encode(&table, self.metadata(&manifest))?);
            manifest.rows += table.rows as u64;
            manifest.files.push(DataFile {
                key: chain.file_key(hour, plan.start, plan.end),
                rows: table.rows as u64,
                bytes: bytes.len() as u64,
                sha256: sha256_hex(&bytes),
            });
            files.push(bytes);
        }
        Ok(Cut { manifest, bytes: files })
    }

    /// Puts a record into the table of its hour; its event time.
    fn row(
        &self,
        chain: &Chain,
        raw: &Raw,
        source: &Bytes,
        hours: &mut BTreeMap<Hour, Table>,
    ) -> Result<i64, Skipped> {
        if raw.tombstone {
            return Err(Skipped("Tombstone"));
        }
        let record = self.decoder.parse(&source[raw.begin..raw.end])?;
        let appended = EventTime::from_millis(raw.timestamp_ms);
        let said = self.decoder.event_time(&record)?;
        let (hour, at) = said
            .filter(|at| at.since(appended) <= MAX_AHEAD_MS)
            .into_iter()
            .chain([appended])
            .find_map(|at| Hour::of(at).map(|hour| (hour, at)))
            .ok_or(Skipped("NoTime"))?;
        let table = hours.entry(hour).or_insert_with(|| Table::new(&self.shape.columns));
        table.row(|table| {
            self.decoder.fill(&record, source, table)?;
            let own = [
                i64::from(chain.partition),
                i64::from(chain.generation),
                raw.offset,
                raw.timestamp_ms,
            ];
            let first = table.columns.len() - own.len();
            let mut columns = table.columns[first..].iter_mut().zip(own);
            columns.try_for_each(|(c, value)| c.put_long(value, 0)).ok_or(Skipped("Avro"))
        })?;
        Ok(at.millis())
    }

    /// A manifest that says nothing of records yet.
    pub fn manifest(&self, chain: &Chain, plan: &Plan) -> Manifest {
        Manifest {
            topic: chain.topic.clone(),
            partition: chain.partition,
            generation: chain.generation,
            start: plan.start,
            end: plan.end,
            rows: 0,
            passed: Passed::default(),
            absent: 0,
            event_time: None,
            schema: self.schema(),
            files: Vec::new(),
            last: None,
            lost: None,
            writer: WRITER.to_owned(),
        }
    }

    /// What a file says of itself, in its footer.
    fn metadata(&self, manifest: &Manifest) -> Vec<(String, String)> {
        [
            ("driftline.topic", manifest.topic.clone()),
            ("driftline.partition", manifest.partition.to_string()),
            ("driftline.generation", manifest.generation.to_string()),
            ("driftline.start_offset", manifest.start.to_string()),
            ("driftline.end_offset", manifest.end.to_string()),
            ("driftline.schema.subject", manifest.schema.subject.clone()),
            ("driftline.schema.version", manifest.schema.version.to_string()),
            ("driftline.schema.fingerprint", manifest.schema.fingerprint.clone()),
            ("driftline.schema", self.decoder.text.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

//! Records of a topic → rows of a table. Every version of the topic's schema becomes rows of the
//! newest: what an older one lacks takes the newest one's default. Nothing here is about one topic.

use bytes::Bytes;
use serde_json::Value;

use super::shape::{Field, Kind, Leaf, Node, Shape, ShapeError};
use super::table::Table;
use crate::event::schema::Subject;
use crate::event::{Datum, MAX_RECORD_BYTES};
use crate::time::EventTime;

/// The field that tells when something happened.
const EVENT_TIME: &str = "event_time";
const SINGLE_OBJECT_MARKER: [u8; 2] = [0xC3, 0x01];
const HEADER_BYTES: usize = 10;

/// Why a record has no row: a short stable name, as dead letters have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped(pub &'static str);

/// Reads the records of one subject.
pub struct Decoder {
    /// The newest schema.
    pub shape: Shape,
    /// Its text, as its file has it.
    pub text: String,
    /// Its version.
    pub version: u32,
    /// Its fingerprint.
    pub fingerprint: [u8; 8],
    /// The newest first: nearly all records are of it.
    versions: Vec<Version>,
}

/// How to read records of one version.
struct Version {
    fingerprint: [u8; 8],
    program: Program,
    writer: Shape,
    /// The place of the event time among the writer's fields.
    event_time: Option<usize>,
}

/// A value as it was written, and where it goes.
struct Program {
    /// The union's branch that is null, as written.
    null: Option<i64>,
    /// Definition level of a value that is there.
    def: i16,
    columns: std::ops::Range<usize>,
    step: Step,
}

enum Step {
    Leaf {
        column: usize,
        leaf: Leaf,
        symbols: Vec<Bytes>,
    },
    /// The writer's fields in order, then those that it lacks.
    Record {
        fields: Vec<FieldStep>,
        absent: Vec<Field>,
    },
    Array {
        rep: i16,
        item: Box<Program>,
    },
    Map {
        rep: i16,
        key: usize,
        value: Box<Program>,
    },
}

enum FieldStep {
    Read(Program),
    /// The newest schema has it no more.
    Skip(Node),
}

/// A record whose schema is known, not yet taken apart.
pub enum Parsed<'a> {
    /// A datum of this version.
    Avro(usize, &'a [u8]),
    /// A JSON object of the schema's field names.
    Json(Value),
}

impl Decoder {
    /// A decoder of all versions of a subject.
    ///
    /// # Errors
    /// [`ShapeError`] where a schema cannot be columns, or an older one not be read as the newest.
    pub fn of(subject: &Subject) -> Result<Self, ShapeError> {
        let newest = subject.newest();
        let shape = Shape::of(&newest.text)?;
        let mut versions = Vec::new();
        for known in subject.versions().iter().rev() {
            let writer = Shape::of(&known.text)?;
            let program = resolve(&writer.root, &shape.root).map_err(|what| {
                let schema = format!("{}.v{}", subject.name, known.version);
                ShapeError { schema, what }
            })?;
            let event_time = writer.fields().iter().position(|f| f.name == EVENT_TIME);
            versions.push(Version { fingerprint: known.fingerprint, program, writer, event_time });
        }
        Ok(Self {
            shape,
            text: newest.text.clone(),
            version: newest.version,
            fingerprint: newest.fingerprint,
            versions,
        })
    }

    /// Finds a record's schema.
    ///
    /// # Errors
    /// [`Skipped`] where it has none that is known.
    pub fn parse<'a>(&self, value: &'a [u8]) -> Result<Parsed<'a>, Skipped> {
        if value.len() > MAX_RECORD_BYTES {
            return Err(Skipped("TooLarge"));
        }
        match value.first() {
            Some(b'{') => {
                serde_json::from_slice(value).map(Parsed::Json).map_err(|_| Skipped("Json"))
            }
            Some(0xC3) => {
                let (header, datum) = value
                    .split_first_chunk::<HEADER_BYTES>()
                    .filter(|(header, _)| header[..2] == SINGLE_OBJECT_MARKER)
                    .ok_or(Skipped("BadHeader"))?;
                let version = self.versions.iter().position(|v| v.fingerprint == header[2..]);
                Ok(Parsed::Avro(version.ok_or(Skipped("UnknownSchema"))?, datum))
            }
            None => Err(Skipped("Empty")),
            Some(_) => Err(Skipped("UnknownEncoding")),
        }
    }

    /// When a record says that it happened; `None` where it does not say.
    ///
    /// # Errors
    /// [`Skipped`] where it is no record of its schema.
    pub fn event_time(&self, record: &Parsed<'_>) -> Result<Option<EventTime>, Skipped> {
        let millis = match record {
            Parsed::Json(object) => object.get(EVENT_TIME).and_then(Value::as_i64),
            Parsed::Avro(version, datum) => {
                let version = &self.versions[*version];
                let Some(place) = version.event_time else { return Ok(None) };
                let mut datum = Datum::new(datum);
                let fields = version.writer.fields();
                let mut find = || {
                    fields[..place].iter().try_for_each(|f| skip(&f.node, &mut datum))?;
                    match fields[place].node.null {
                        Some(null) if datum.long()? == null => Some(None),
                        _ => datum.long().map(Some),
                    }
                };
                find().ok_or(Skipped("Avro"))?
            }
        };
        Ok(millis.map(EventTime::from_millis))
    }

    /// Puts a record's fields into the first columns of `table`. Texts share `source`, of which the
    /// record is a part.
    ///
    /// # Errors
    /// [`Skipped`] where it is no record of its schema; some columns are then longer than others.
    pub fn fill(
        &self,
        record: &Parsed<'_>,
        source: &Bytes,
        table: &mut Table,
    ) -> Result<(), Skipped> {
        match record {
            Parsed::Json(object) => fill(&self.shape.root, object, 0, table).ok_or(Skipped("Json")),
            Parsed::Avro(version, bytes) => {
                let mut datum = Datum::new(bytes);
                let read = self.versions[*version].program.run(&mut datum, source, 0, table);
                // Bytes beyond the datum mean that another schema wrote it than it says.
                read.filter(|()| datum.is_read()).ok_or(Skipped("Avro"))
            }
        }
    }
}

/// How what was written as `writer` is read as `reader`, by Avro's rules of schema resolution.
fn resolve(writer: &Node, reader: &Node) -> Result<Program, String> {
    if writer.null.is_some() && reader.null.is_none() {
        return Err("what may be null was written, and no longer may be".into());
    }
    let step = match (&writer.kind, &reader.kind) {
        (Kind::Leaf(written), Kind::Leaf(read)) if is_read_as(written, read) => {
            let symbols = match written {
                Leaf::Enum(symbols, _) => symbols.iter().map(|s| symbol(s, read)).collect(),
                _ => Vec::new(),
            };
            Step::Leaf { column: reader.columns.start, leaf: written.clone(), symbols }
        }
        (Kind::Record(written), Kind::Record(read)) => {
            let find = |name: &str, fields: &[Field]| fields.iter().position(|f| f.name == name);
            let fields = written
                .iter()
                .map(|field| match find(&field.name, read) {
                    Some(place) => resolve(&field.node, &read[place].node)
                        .map(FieldStep::Read)
                        .map_err(|what| format!("{}: {what}", field.name)),
                    None => Ok(FieldStep::Skip(field.node.clone())),
                })
                .collect::<Result<_, _>>()?;
            let absent =
                read.iter().filter(|f| find(&f.name, written).is_none()).cloned().collect();
            Step::Record { fields, absent }
        }
        (Kind::Array { item: written, .. }, Kind::Array { rep, item }) => {
            Step::Array { rep: *rep, item: Box::new(resolve(written, item)?) }
        }
        (Kind::Map { value: written, .. }, Kind::Map { rep, key, value }) => Step::Map {
            rep: *rep,
            key: key.columns.start,
            value: Box::new(resolve(written, value)?),
        },
        (written, read) => return Err(format!("{written:?} cannot be read as {read:?}")),
    };
    let columns = reader.columns.clone();
    Ok(Program { null: writer.null, def: reader.def, columns, step })
}

fn is_read_as(written: &Leaf, read: &Leaf) -> bool {
    use Leaf::{Double, Enum, Float, Int, Long, Millis};
    written == read
        || matches!(
            (written, read),
            (Int, Long | Millis | Float | Double)
                | (Long, Millis | Float | Double)
                | (Millis, Long)
                | (Float, Double)
                | (Enum(..), Enum(..))
        )
}

/// A written symbol as the newest schema knows it.
fn symbol(written: &str, read: &Leaf) -> Bytes {
    let known = match read {
        Leaf::Enum(symbols, default) if !symbols.iter().any(|s| s == written) => {
            default.as_deref().unwrap_or(written)
        }
        _ => written,
    };
    Bytes::copy_from_slice(known.as_bytes())
}

impl Program {
    fn run(
        &self,
        datum: &mut Datum<'_>,
        source: &Bytes,
        rep: i16,
        table: &mut Table,
    ) -> Option<()> {
        if let Some(null) = self.null {
            let branch = datum.long()?;
            if branch == null {
                table.put_null(self.columns.clone(), rep, self.def - 1);
                return Some(());
            }
            if !(0..=1).contains(&branch) {
                return None;
            }
        }
        match &self.step {
            Step::Leaf { column, leaf, symbols } => {
                let column = &mut table.columns[*column];
                match leaf {
                    Leaf::Boolean => column.put_boolean(datum.boolean()?, rep),
                    Leaf::Int => column.put_long(i64::from(datum.int()?), rep),
                    Leaf::Long | Leaf::Millis => column.put_long(datum.long()?, rep),
                    Leaf::Float => column.put_double(f64::from(datum.float()?), rep),
                    Leaf::Double => column.put_double(datum.double()?, rep),
                    Leaf::Bytes => column.put_bytes(source.slice_ref(datum.bytes()?), rep),
                    Leaf::Text => {
                        let text = datum.bytes()?;
                        std::str::from_utf8(text).ok()?;
                        column.put_bytes(source.slice_ref(text), rep)
                    }
                    Leaf::Enum(..) => {
                        let number = usize::try_from(datum.long()?).ok()?;
                        column.put_bytes(symbols.get(number)?.clone(), rep)
                    }
                }
            }
            Step::Record { fields, absent } => {
                for field in fields {
                    match field {
                        FieldStep::Read(program) => program.run(datum, source, rep, table)?,
                        FieldStep::Skip(node) => skip(node, datum)?,
                    }
                }
                absent.iter().try_for_each(|f| fill(&f.node, &f.default, rep, table))
            }
            Step::Array { rep: own, item } => {
                self.items(datum, rep, *own, table, |datum, rep, table| {
                    item.run(datum, source, rep, table)
                })
            }
            Step::Map { rep: own, key, value } => {
                self.items(datum, rep, *own, table, |datum, rep, table| {
                    let text = datum.bytes()?;
                    std::str::from_utf8(text).ok()?;
                    table.columns[*key].put_bytes(source.slice_ref(text), rep)?;
                    value.run(datum, source, rep, table)
                })
            }
        }
    }

    /// Items of blocks, the first at the level `rep` of what they are in, the others at their `own`.
    fn items<'a>(
        &self,
        datum: &mut Datum<'a>,
        rep: i16,
        own: i16,
        table: &mut Table,
        mut each: impl FnMut(&mut Datum<'a>, i16, &mut Table) -> Option<()>,
    ) -> Option<()> {
        let mut level = rep;
        loop {
            let count = datum.block()?;
            if count == 0 {
                break;
            }
            for _ in 0..count {
                each(datum, level, table)?;
                level = own;
            }
        }
        if level != own {
            table.put_null(self.columns.clone(), rep, self.def);
        }
        Some(())
    }
}

/// Passes over a value.
fn skip(node: &Node, datum: &mut Datum<'_>) -> Option<()> {
    if let Some(null) = node.null {
        let branch = datum.long()?;
        if branch == null {
            return Some(());
        }
    }
    match &node.kind {
        Kind::Leaf(Leaf::Boolean) => datum.boolean().map(drop),
        Kind::Leaf(Leaf::Int | Leaf::Long | Leaf::Millis | Leaf::Enum(..)) => {
            datum.long().map(drop)
        }
        Kind::Leaf(Leaf::Float) => datum.float().map(drop),
        Kind::Leaf(Leaf::Double) => datum.double().map(drop),
        Kind::Leaf(Leaf::Text | Leaf::Bytes) => datum.bytes().map(drop),
        Kind::Record(fields) => fields.iter().try_for_each(|f| skip(&f.node, datum)),
        Kind::Array { item, .. } => skip_items(datum, |datum| skip(item, datum)),
        Kind::Map { value, .. } => skip_items(datum, |datum| {
            datum.bytes()?;
            skip(value, datum)
        }),
    }
}

fn skip_items<'a>(
    datum: &mut Datum<'a>,
    mut each: impl FnMut(&mut Datum<'a>) -> Option<()>,
) -> Option<()> {
    loop {
        let count = datum.block()?;
        if count == 0 {
            return Some(());
        }
        for _ in 0..count {
            each(datum)?;
        }
    }
}

/// Puts a JSON value in: a record that was sent as JSON, or a default of a schema.
fn fill(node: &Node, value: &Value, rep: i16, table: &mut Table) -> Option<()> {
    if node.null.is_some() && value.is_null() {
        table.put_null(node.columns.clone(), rep, node.def - 1);
        return Some(());
    }
    match &node.kind {
        Kind::Leaf(leaf) => {
            let column = &mut table.columns[node.columns.start];
            match leaf {
                Leaf::Boolean => column.put_boolean(value.as_bool()?, rep),
                Leaf::Int | Leaf::Long | Leaf::Millis => column.put_long(value.as_i64()?, rep),
                Leaf::Float | Leaf::Double => column.put_double(value.as_f64()?, rep),
                Leaf::Bytes => column.put_bytes(json_bytes(value)?, rep),
                Leaf::Text => {
                    column.put_bytes(Bytes::copy_from_slice(value.as_str()?.as_bytes()), rep)
                }
                Leaf::Enum(symbols, default) => {
                    let named = value.as_str()?;
                    let known = symbols.iter().find(|s| *s == named).or(default.as_ref())?;
                    column.put_bytes(Bytes::copy_from_slice(known.as_bytes()), rep)
                }
            }
        }
        Kind::Record(fields) => {
            let object = value.as_object()?;
            fields.iter().try_for_each(|field| {
                let value = object.get(&field.name).unwrap_or(&field.default);
                fill(&field.node, value, rep, table)
            })
        }
        Kind::Array { rep: own, item } => {
            let all = value.as_array()?;
            if all.is_empty() {
                table.put_null(node.columns.clone(), rep, node.def);
            }
            let levels = std::iter::once(rep).chain(std::iter::repeat(*own));
            all.iter().zip(levels).try_for_each(|(one, level)| fill(item, one, level, table))
        }
        Kind::Map { rep: own, key, value: item } => {
            let all = value.as_object()?;
            if all.is_empty() {
                table.put_null(node.columns.clone(), rep, node.def);
            }
            let levels = std::iter::once(rep).chain(std::iter::repeat(*own));
            all.iter().zip(levels).try_for_each(|((name, one), level)| {
                let name = Bytes::copy_from_slice(name.as_bytes());
                table.columns[key.columns.start].put_bytes(name, level)?;
                fill(item, one, level, table)
            })
        }
    }
}

/// Bytes as JSON has them: an array of numbers in records, and in a schema's default a text whose
/// characters are the bytes.
fn json_bytes(value: &Value) -> Option<Bytes> {
    let byte = |n: u64| u8::try_from(n).ok();
    let bytes: Option<Vec<u8>> = match value {
        Value::String(text) => text.chars().map(|c| byte(u64::from(u32::from(c)))).collect(),
        Value::Array(all) => all.iter().map(|n| n.as_u64().and_then(byte)).collect(),
        _ => None,
    };
    bytes.map(Bytes::from)
}

//! Items of a platform's own export, CSV, Parquet or JSON lines, and those that public data sets
//! bring along. Enters: a file and the names of its columns. Leaves: catalog items, and rows that are none with the reason. A bad row costs
//! only itself. Never guesses: a column that is not named is read only under the name that the
//! catalog's schema gives it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::Format;
use super::cell::{Cell, Expected};
use super::columns::TimeUnit;
use super::error::{DatasetError, shown};
use super::lines::Lines;
use super::movies::Movies;
use super::table::{PARQUET_MAGIC, Tables, columns_of};
use crate::event::{CatalogItem, CatalogRecord, MAX_RECORD_BYTES};

/// The fields of an item, in the order of the schema.
pub const ITEM_FIELDS: [&str; 13] = [
    "item",
    "title",
    "creator",
    "categories",
    "tags",
    "duration_ms",
    "published",
    "languages",
    "available_countries",
    "available_from",
    "available_until",
    "blocked",
    "attributes",
];

/// How a file of items is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemFormat {
    /// With a header.
    Csv,
    /// Plain columns, lists and maps of plain values, and structs of attributes.
    Parquet,
    /// One JSON object a line.
    JsonLines,
}

impl FromStr for ItemFormat {
    type Err = DatasetError;

    fn from_str(name: &str) -> Result<Self, DatasetError> {
        match name {
            "csv" => Ok(ItemFormat::Csv),
            "parquet" => Ok(ItemFormat::Parquet),
            "jsonl" => Ok(ItemFormat::JsonLines),
            _ => Err(DatasetError::UnknownFormat {
                name: name.to_owned(),
                known: vec!["csv", "parquet", "jsonl"],
            }),
        }
    }
}

impl ItemFormat {
    /// What a file begins with decides, then how its name ends.
    fn of(path: &Path) -> Result<Self, DatasetError> {
        let mut magic = Vec::new();
        let opened = File::open(path).map_err(|source| DatasetError::io(path, source))?;
        let head = opened.take(PARQUET_MAGIC.len() as u64).read_to_end(&mut magic);
        head.map_err(|source| DatasetError::io(path, source))?;
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        Ok(match extension {
            _ if magic == PARQUET_MAGIC => ItemFormat::Parquet,
            "jsonl" | "ndjson" | "json" => ItemFormat::JsonLines,
            _ => ItemFormat::Csv,
        })
    }
}

/// Which column holds which field, and how values are written.
#[derive(Clone, Debug)]
pub struct ItemColumns {
    /// The columns named by the caller, by field. Other fields are read from columns of their own
    /// name, where there are such.
    pub named: BTreeMap<&'static str, String>,
    /// What stands between the entries of a list that is stored as one text.
    pub separator: String,
    /// What plain numbers in columns of times count.
    pub time_unit: TimeUnit,
    /// The CSV separator; none: a comma, and a tab in `.tsv` files.
    pub delimiter: Option<u8>,
}

impl Default for ItemColumns {
    fn default() -> Self {
        Self {
            named: BTreeMap::new(),
            separator: ",".into(),
            time_unit: TimeUnit::Millis,
            delimiter: None,
        }
    }
}

impl ItemColumns {
    fn name(&self, field: &'static str) -> &str {
        self.named.get(field).map_or(field, String::as_str)
    }
}

/// A row that is no item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// From 1: of tables without the header, of JSON the line.
    pub row: u64,
    /// The item that it is about, where that can be told.
    pub item: Option<String>,
    /// What was found and what would be accepted.
    pub reason: String,
}

/// A row of an export.
pub type ItemRow = Result<CatalogItem, RefusedRow>;

/// Where a field of an item is, among the columns of a table.
enum Place {
    Nowhere,
    One(usize),
    List(usize),
    /// Keys, values.
    Map(usize, usize),
    /// A column a key: a struct, or columns of CSV that are named so.
    Parts(Vec<(String, usize)>),
}

/// Items of a file being read.
pub struct Items {
    columns: ItemColumns,
    source: Source,
}

enum Source {
    Table {
        tables: Box<Tables>,
        /// Where each field is among the columns asked for, in the order of [`ITEM_FIELDS`].
        places: [Place; ITEM_FIELDS.len()],
    },
    Json {
        lines: Lines,
        /// Columns named by the caller that no line has had yet.
        unseen: Vec<String>,
    },
    Movies(Movies),
}

impl Items {
    /// The items that a data set brings along: `videos.parquet` or `videos.csv` of KuaiRand,
    /// `movies.dat`, `movies.csv` or `u.item` of MovieLens, beside the ratings. None where it brings
    /// none.
    ///
    /// # Errors
    /// Where they are there and cannot be read.
    pub fn of_dataset(format: Format, path: &Path) -> Result<Option<Self>, DatasetError> {
        match format {
            Format::KuaiRand => Self::of_videos(path),
            Format::MovieLens => {
                Movies::beside(path).map(|file| Self::of_movies(&file)).transpose()
            }
            Format::Sessions | Format::Columns => Ok(None),
        }
    }

    /// Whether a file has the name of films of MovieLens.
    pub fn is_movies(file: &Path) -> bool {
        Movies::is_named_so(file)
    }

    /// Films of MovieLens: `movies.dat`, `movies.csv` or `u.item`.
    ///
    /// # Errors
    /// Where the file is of another name, or cannot be read.
    pub fn of_movies(file: &Path) -> Result<Self, DatasetError> {
        let source = Source::Movies(Movies::open(file)?);
        Ok(Self { columns: ItemColumns::default(), source })
    }

    fn of_videos(path: &Path) -> Result<Option<Self>, DatasetError> {
        let files = ["videos.parquet", "videos.csv"].map(|name| path.join(name));
        let Some(file) = files.iter().find(|file| file.exists()) else {
            return Ok(None);
        };
        let named = [
            ("item", "video_id"),
            ("creator", "author_id"),
            ("duration_ms", "duration_ms"),
            ("tags", "tag"),
            ("published", "upload_dt"),
        ];
        let named = named.map(|(field, column)| (field, column.to_owned()));
        let columns = ItemColumns { named: named.into(), ..ItemColumns::default() };
        Self::open(file, None, columns).map(Some)
    }

    /// Opens a file. Without a format, its beginning and its name decide.
    ///
    /// # Errors
    /// A [`DatasetError`]: it cannot be read, or lacks a column that is named, or `item`.
    pub fn open(
        path: &Path,
        format: Option<ItemFormat>,
        columns: ItemColumns,
    ) -> Result<Self, DatasetError> {
        if let Some((field, _)) = columns.named.iter().find(|(f, _)| !ITEM_FIELDS.contains(*f)) {
            let problem = format!("{field} is no field of an item");
            return Err(DatasetError::Mapping { problem });
        }
        let format = match format {
            Some(format) => format,
            None => ItemFormat::of(path)?,
        };
        let source = if format == ItemFormat::JsonLines {
            let unseen = columns.named.values().cloned().collect();
            Source::Json { lines: Lines::open_with(path, MAX_RECORD_BYTES)?, unseen }
        } else {
            open_table(path, &columns)?
        };
        Ok(Self { columns, source })
    }

    /// Rows of the file, where it says so itself.
    pub fn total_rows(&self) -> Option<u64> {
        match &self.source {
            Source::Table { tables, .. } => tables.total(),
            Source::Json { .. } | Source::Movies(_) => None,
        }
    }

    /// Columns that were named and that no line read so far has had. Tables are checked when they
    /// are opened.
    pub fn unseen_columns(&self) -> &[String] {
        match &self.source {
            Source::Table { .. } | Source::Movies(_) => &[],
            Source::Json { unseen, .. } => unseen,
        }
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// A [`DatasetError`] after which nothing more can be read.
    pub fn read(&mut self) -> Result<Option<ItemRow>, DatasetError> {
        let columns = &self.columns;
        match &mut self.source {
            Source::Table { tables, places } => match tables.advance() {
                Ok(false) => Ok(None),
                Ok(true) => {
                    let given = |slot: usize| places[slot].of(tables);
                    Ok(Some(item_of(columns, tables.number(), given)))
                }
                Err(error) if error.is_one_row() => {
                    let (row, reason) = (tables.number(), error.to_string());
                    Ok(Some(Err(RefusedRow { row, item: None, reason })))
                }
                Err(error) => Err(error),
            },
            Source::Movies(movies) => movies.read(),
            Source::Json { lines, unseen } => {
                if !lines.advance()? {
                    return Ok(None);
                }
                Ok(Some(match serde_json::from_slice::<Map<String, Value>>(lines.line()) {
                    Ok(object) => {
                        unseen.retain(|column| !object.contains_key(column));
                        item_of_json(columns, lines.number(), &object)
                    }
                    Err(error) => {
                        let reason = format!("not a JSON object: {error}");
                        Err(RefusedRow { row: lines.number(), item: None, reason })
                    }
                }))
            }
        }
    }
}

fn open_table(path: &Path, columns: &ItemColumns) -> Result<Source, DatasetError> {
    let there = columns_of(path, columns.delimiter)?;
    let mut wanted: Vec<String> = Vec::new();
    let places = ITEM_FIELDS.map(|field| {
        let name = columns.name(field);
        let is_needed = field == "item" || columns.named.contains_key(field);
        Place::find(&there, name, field == "attributes", is_needed, &mut wanted)
    });
    let tables = Tables::open_with_lists(path.to_owned(), wanted, columns.delimiter)?;
    Ok(Source::Table { tables: Box::new(tables), places })
}

impl Place {
    /// Where the column of this name is in a file with the columns `there`, those of a nested one
    /// being known by longer names. Adds to `wanted` what has to be read: also a column that is
    /// not there, where it is needed, for whoever opens the file to say so.
    fn find(
        there: &[String],
        name: &str,
        has_keys: bool,
        is_needed: bool,
        wanted: &mut Vec<String>,
    ) -> Self {
        let mut want = |column: &str| {
            wanted.push(column.to_owned());
            wanted.len() - 1
        };
        let part = |column: &'_ String| -> Option<String> {
            column.strip_prefix(name)?.strip_prefix('.').map(str::to_owned)
        };
        let parts: Vec<(String, &String)> =
            there.iter().filter_map(|column| Some((part(column)?, column))).collect();
        match parts.as_slice() {
            _ if there.iter().any(|column| column == name) => Place::One(want(name)),
            [(key, keys), (value, values)]
                if has_keys && key.ends_with(".key") && value.ends_with(".value") =>
            {
                Place::Map(want(keys), want(values))
            }
            [_, ..] if has_keys => {
                Place::Parts(parts.into_iter().map(|(key, column)| (key, want(column))).collect())
            }
            [(_, entries)] => Place::List(want(entries)),
            _ if is_needed => Place::One(want(name)),
            _ => Place::Nowhere,
        }
    }

    /// The field in the row stepped to.
    fn of<'a>(&'a self, tables: &'a Tables) -> Given<'a> {
        match self {
            Place::Nowhere => Given::Cell(Cell::Missing),
            Place::One(slot) if tables.is_list(*slot) => Given::Cells(tables.list(*slot)),
            Place::One(slot) => Given::Cell(tables.cell(*slot)),
            Place::List(slot) => Given::Cells(tables.list(*slot)),
            Place::Map(keys, values) => {
                let keys = tables.list(*keys).into_iter().map(|key| key.text().unwrap_or_default());
                Given::Pairs(keys.zip(tables.list(*values)).collect())
            }
            Place::Parts(parts) => Given::Pairs(
                parts.iter().map(|(key, slot)| (key.clone(), tables.cell(*slot))).collect(),
            ),
        }
    }
}

/// The item that a JSON object tells of, with the names of `columns`; other keys are not read.
pub(super) fn item_of_json(
    columns: &ItemColumns,
    row: u64,
    object: &Map<String, Value>,
) -> ItemRow {
    item_of(columns, row, |slot| match object.get(columns.name(ITEM_FIELDS[slot])) {
        None | Some(Value::Null) => Given::Cell(Cell::Missing),
        Some(Value::Array(list)) => Given::List(list),
        Some(Value::Object(map)) => Given::Map(map),
        Some(scalar) => Given::Cell(cell(scalar)),
    })
}

/// A value of a field, whatever stored it.
enum Given<'a> {
    Cell(Cell<'a>),
    List(&'a [Value]),
    Map(&'a Map<String, Value>),
    /// A list of a table.
    Cells(Vec<Cell<'a>>),
    /// A map or a struct of a table.
    Pairs(Vec<(String, Cell<'a>)>),
}

fn cell(value: &Value) -> Cell<'_> {
    match value {
        Value::Bool(flag) => Cell::Bool(*flag),
        Value::String(text) if text.is_empty() => Cell::Missing,
        Value::String(text) => Cell::Text(text.as_bytes()),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), ..) => Cell::Integer(whole.into()),
            (_, Some(whole), _) => Cell::Integer(whole.into()),
            (.., Some(fraction)) => Cell::Float(fraction),
            _ => Cell::Missing,
        },
        // Lists within lists, and nulls within lists.
        Value::Null | Value::Array(_) | Value::Object(_) => Cell::Missing,
    }
}

const TEXT: Expected = "a text";
const LIST: Expected = "a list of texts, or one text with separators";
const MAP: Expected = "an object of texts";

impl Given<'_> {
    fn shown(&self) -> String {
        match self {
            Given::Cell(cell) => cell.shown(),
            Given::List(list) => shown(Value::from(*list).to_string().as_bytes()),
            Given::Map(map) => shown(Value::from((*map).clone()).to_string().as_bytes()),
            Given::Cells(cells) => {
                let entries: Vec<String> = cells.iter().map(Cell::shown).collect();
                format!("[{}]", entries.join(", "))
            }
            Given::Pairs(pairs) => {
                let entry = |(key, cell): &(String, Cell<'_>)| format!("{key:?}: {}", cell.shown());
                format!("{{{}}}", pairs.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn cell(&self, expected: Expected) -> Result<Cell<'_>, Expected> {
        match self {
            Given::Cell(cell) => Ok(*cell),
            Given::List(_) | Given::Map(_) | Given::Cells(_) | Given::Pairs(_) => Err(expected),
        }
    }

    fn text(&self) -> Result<String, Expected> {
        let cell = self.cell(TEXT)?;
        if cell.is_missing() { Ok(String::new()) } else { cell.text().ok_or(TEXT) }
    }

    /// The entries of a list.
    fn list(&self, separator: &str) -> Result<Vec<String>, Expected> {
        match self {
            Given::Cell(Cell::Missing) => Ok(Vec::new()),
            Given::Cell(one) => {
                let text = one.text().ok_or(LIST)?;
                let parts: Vec<&str> = if separator.is_empty() {
                    vec![&text]
                } else {
                    text.split(separator).collect()
                };
                let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
                Ok(parts.map(str::to_owned).collect())
            }
            Given::List(list) => list.iter().map(|one| cell(one).text().ok_or(LIST)).collect(),
            Given::Cells(cells) => cells.iter().map(|one| one.text().ok_or(LIST)).collect(),
            Given::Map(_) | Given::Pairs(_) => Err(LIST),
        }
    }

    fn map(&self) -> Result<BTreeMap<String, String>, Expected> {
        match self {
            Given::Cell(Cell::Missing) => Ok(BTreeMap::new()),
            Given::Map(map) => {
                let entry = |(key, value): (&String, &Value)| {
                    let there = !value.is_null();
                    there.then(|| Ok((key.clone(), cell(value).text().ok_or(MAP)?)))
                };
                map.iter().filter_map(entry).collect()
            }
            Given::Pairs(pairs) => {
                let there = pairs.iter().filter(|(_, cell)| !cell.is_missing());
                there.map(|(key, cell)| Ok((key.clone(), cell.text().ok_or(MAP)?))).collect()
            }
            Given::Cell(_) | Given::List(_) | Given::Cells(_) => Err(MAP),
        }
    }

    fn length(&self) -> Result<i64, Expected> {
        let cell = self.cell("a number of milliseconds")?;
        if cell.is_missing() {
            return Ok(0);
        }
        i64::try_from(cell.length()?).map_err(|_| "a number of milliseconds")
    }

    fn time(&self, unit: TimeUnit) -> Result<Option<i64>, Expected> {
        let cell = self.cell("a time")?;
        if cell.is_missing() {
            return Ok(None);
        }
        cell.moment(unit).map(|at| Some(at.millis()))
    }

    fn flag(&self) -> Result<bool, Expected> {
        let cell = self.cell("true or false")?;
        if cell.is_missing() { Ok(false) } else { cell.flag() }
    }
}

/// One row as an item; `given` has the value of each field by its place in [`ITEM_FIELDS`].
fn item_of<'a>(columns: &ItemColumns, row: u64, given: impl Fn(usize) -> Given<'a>) -> ItemRow {
    let item = given(0).text().ok().filter(|item| !item.is_empty());
    let refuse = |reason: String| RefusedRow { row, item: item.clone(), reason };
    let bad = |slot: usize, expected: Expected| {
        let (column, value) = (columns.name(ITEM_FIELDS[slot]), given(slot).shown());
        refuse(format!("column \"{column}\" is {value}, expected {expected}"))
    };
    let text = |slot| given(slot).text().map_err(|e| bad(slot, e));
    let list = |slot| given(slot).list(&columns.separator).map_err(|e| bad(slot, e));
    let time = |slot| given(slot).time(columns.time_unit).map_err(|e| bad(slot, e));
    let record = CatalogRecord {
        item: text(0)?,
        title: text(1)?,
        creator: text(2)?,
        categories: list(3)?,
        tags: list(4)?,
        duration_ms: given(5).length().map_err(|e| bad(5, e))?,
        published: time(6)?,
        languages: list(7)?,
        available_countries: list(8)?,
        available_from: time(9)?,
        available_until: time(10)?,
        blocked: given(11).flag().map_err(|e| bad(11, e))?,
        attributes: given(12).map().map_err(|e| bad(12, e))?,
    };
    record.validate().map_err(|rejection| refuse(rejection.message))
}

#[cfg(test)]
mod tests;

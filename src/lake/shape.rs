//! An Avro record schema as a tree whose leaves are Parquet columns, by the rules of the Parquet
//! format's nested encoding (Dremel: definition and repetition levels).

use std::collections::HashMap;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

/// Why a schema has no columns: a fault of ours, found by tests over every schema.
#[derive(Debug, thiserror::Error)]
#[error("schema {schema}: {what}")]
pub struct ShapeError {
    /// The record's name.
    pub schema: String,
    /// What it has that no column can hold.
    pub what: String,
}

/// A value's place in the tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// The type's null may stand for it; at this branch of the union.
    pub null: Option<i64>,
    /// Definition level of a value that is there.
    pub def: i16,
    /// The leaves below, itself included.
    pub columns: std::ops::Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// One column.
    Leaf(Leaf),
    /// Fields in the order of the schema.
    Record(Vec<Field>),
    /// Items at this repetition level.
    Array {
        /// Of items after the first.
        rep: i16,
        /// Each item.
        item: Box<Node>,
    },
    /// Entries at this repetition level.
    Map {
        /// Of entries after the first.
        rep: i16,
        /// The column of the keys.
        key: Box<Node>,
        /// Each value.
        value: Box<Node>,
    },
}

/// A primitive type.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// `boolean`
    Boolean,
    /// `int`
    Int,
    /// `long`
    Long,
    /// `long` with the logical type `timestamp-millis`
    Millis,
    /// `float`
    Float,
    /// `double`
    Double,
    /// `string`
    Text,
    /// `bytes`
    Bytes,
    /// `enum`: its symbols, and the one that stands for symbols to come
    Enum(Arc<[String]>, Option<String>),
}

/// A field of a record.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What stands where a record lacks it.
    pub default: Value,
    /// What it is.
    pub node: Node,
}

/// Where a leaf's levels end.
#[derive(Clone, Debug)]
pub struct ColumnShape {
    /// Its type.
    pub leaf: Leaf,
    /// Definition level of a value.
    pub max_def: i16,
    /// Repetition level of the innermost list that it is in.
    pub max_rep: i16,
}

/// A record schema and its columns.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The record's name.
    pub name: String,
    /// The record.
    pub root: Node,
    /// Its leaves, in the order of Parquet's columns.
    pub columns: Vec<ColumnShape>,
}

struct Reading {
    schema: String,
    named: HashMap<String, Value>,
    columns: Vec<ColumnShape>,
}

impl Shape {
    /// Reads a schema's JSON.
    ///
    /// # Errors
    /// [`ShapeError`] where it is no record, or holds a union of more than null and one type.
    pub fn of(text: &str) -> Result<Self, ShapeError> {
        let schema: Value = serde_json::from_str(text)
            .map_err(|e| ShapeError { schema: "?".into(), what: e.to_string() })?;
        let name = schema["name"].as_str().unwrap_or("?").to_owned();
        let mut reading =
            Reading { schema: name.clone(), named: HashMap::new(), columns: Vec::new() };
        let root = reading.node(&schema, 0, 0)?;
        if !matches!(root.kind, Kind::Record(_)) || root.null.is_some() {
            return Err(reading.refuse("it is no record".into()));
        }
        Ok(Self { name, root, columns: reading.columns })
    }

    /// The fields of the record.
    pub fn fields(&self) -> &[Field] {
        match &self.root.kind {
            Kind::Record(fields) => fields,
            _ => &[],
        }
    }

    /// The Parquet fields of the record, in the order of its columns.
    ///
    /// # Errors
    /// Parquet's, where a name is none.
    pub fn parquet_fields(&self) -> Result<Vec<TypePtr>, ParquetError> {
        self.fields().iter().map(|field| parquet_type(&field.name, &field.node)).collect()
    }
}

impl Reading {
    fn refuse(&self, what: String) -> ShapeError {
        ShapeError { schema: self.schema.clone(), what }
    }

    /// A value of `schema` where its parent's levels are `def` and `rep`.
    fn node(&mut self, schema: &Value, def: i16, rep: i16) -> Result<Node, ShapeError> {
        let Value::Array(union) = schema else { return self.plain(schema, def, rep, None) };
        let null = union.iter().position(|branch| branch == "null");
        match (null, union.as_slice()) {
            (Some(0), [_, some]) => self.plain(some, def + 1, rep, Some(0)),
            (Some(1), [some, _]) => self.plain(some, def + 1, rep, Some(1)),
            _ => Err(self.refuse(format!("{schema} is no union of null and one type"))),
        }
    }

    fn plain(
        &mut self,
        schema: &Value,
        def: i16,
        rep: i16,
        null: Option<i64>,
    ) -> Result<Node, ShapeError> {
        let begin = self.columns.len();
        let kind = match schema {
            Value::String(name) => match primitive(name) {
                Some(leaf) => self.leaf(leaf, def, rep),
                None => {
                    let known = self.named.get(name).cloned();
                    let known = known.ok_or_else(|| self.refuse(format!("unknown type {name}")))?;
                    return self.plain(&known, def, rep, null);
                }
            },
            Value::Object(_) => self.complex(schema, def, rep)?,
            other => return Err(self.refuse(format!("{other} is no type"))),
        };
        Ok(Node { null, def, columns: begin..self.columns.len(), kind })
    }

    fn leaf(&mut self, leaf: Leaf, max_def: i16, max_rep: i16) -> Kind {
        self.columns.push(ColumnShape { leaf: leaf.clone(), max_def, max_rep });
        Kind::Leaf(leaf)
    }

    fn complex(&mut self, schema: &Value, def: i16, rep: i16) -> Result<Kind, ShapeError> {
        let type_name = schema["type"].as_str().unwrap_or_default();
        if let Some(name) = schema["name"].as_str() {
            self.named.insert(name.to_owned(), schema.clone());
        }
        match type_name {
            "record" => {
                let fields = schema["fields"].as_array().cloned().unwrap_or_default();
                let mut read = Vec::with_capacity(fields.len());
                for field in fields {
                    let name = field["name"].as_str().unwrap_or_default().to_owned();
                    let default = field.get("default").cloned().unwrap_or(Value::Null);
                    let node = self.node(&field["type"], def, rep)?;
                    read.push(Field { name, default, node });
                }
                Ok(Kind::Record(read))
            }
            "array" => {
                let item = Box::new(self.node(&schema["items"], def + 1, rep + 1)?);
                Ok(Kind::Array { rep: rep + 1, item })
            }
            "map" => {
                let key = Box::new(self.plain(&"string".into(), def + 1, rep + 1, None)?);
                let value = Box::new(self.node(&schema["values"], def + 1, rep + 1)?);
                Ok(Kind::Map { rep: rep + 1, key, value })
            }
            "enum" => {
                let symbols = schema["symbols"].as_array().cloned().unwrap_or_default();
                let symbols: Arc<[String]> =
                    symbols.iter().filter_map(|s| s.as_str().map(str::to_owned)).collect();
                let default = schema["default"].as_str().map(str::to_owned);
                Ok(self.leaf(Leaf::Enum(symbols, default), def, rep))
            }
            "long" if schema["logicalType"] == "timestamp-millis" => {
                Ok(self.leaf(Leaf::Millis, def, rep))
            }
            other => match primitive(other) {
                Some(leaf) => Ok(self.leaf(leaf, def, rep)),
                None => Err(self.refuse(format!("type {other:?} has no column"))),
            },
        }
    }
}

fn primitive(name: &str) -> Option<Leaf> {
    Some(match name {
        "boolean" => Leaf::Boolean,
        "int" => Leaf::Int,
        "long" => Leaf::Long,
        "float" => Leaf::Float,
        "double" => Leaf::Double,
        "string" => Leaf::Text,
        "bytes" => Leaf::Bytes,
        _ => return None,
    })
}

/// A Parquet column of a primitive type.
///
/// # Errors
/// Parquet's, where the name is none.
pub fn parquet_leaf(
    name: &str,
    leaf: &Leaf,
    repetition: Repetition,
) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match leaf {
        Leaf::Boolean => (Physical::BOOLEAN, None),
        Leaf::Int => (Physical::INT32, None),
        Leaf::Long => (Physical::INT64, None),
        Leaf::Millis => {
            let time = LogicalType::timestamp(true, TimeUnit::MILLIS);
            (Physical::INT64, Some(time))
        }
        Leaf::Float => (Physical::FLOAT, None),
        Leaf::Double => (Physical::DOUBLE, None),
        Leaf::Text | Leaf::Enum(..) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Leaf::Bytes => (Physical::BYTE_ARRAY, None),
    };
    let built = Type::primitive_type_builder(name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .build()?;
    Ok(Arc::new(built))
}

fn group(
    name: &str,
    repetition: Repetition,
    logical: Option<LogicalType>,
    fields: Vec<TypePtr>,
) -> Result<TypePtr, ParquetError> {
    // Older readers know lists and maps by the converted type only.
    let converted = match logical {
        Some(LogicalType::List) => ConvertedType::LIST,
        Some(LogicalType::Map) => ConvertedType::MAP,
        _ => ConvertedType::NONE,
    };
    let built = Type::group_type_builder(name)
        .with_repetition(repetition)
        .with_converted_type(converted)
        .with_logical_type(logical)
        .with_fields(fields)
        .build()?;
    Ok(Arc::new(built))
}

fn parquet_type(name: &str, node: &Node) -> Result<TypePtr, ParquetError> {
    let repetition = if node.null.is_some() { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    match &node.kind {
        Kind::Leaf(leaf) => parquet_leaf(name, leaf, repetition),
        Kind::Record(fields) => {
            let fields =
                fields.iter().map(|f| parquet_type(&f.name, &f.node)).collect::<Result<_, _>>()?;
            group(name, repetition, None, fields)
        }
        Kind::Array { item, .. } => {
            let item = parquet_type("element", item)?;
            let list = group("list", Repetition::REPEATED, None, vec![item])?;
            group(name, repetition, Some(LogicalType::List), vec![list])
        }
        Kind::Map { key, value, .. } => {
            let entry = vec![parquet_type("key", key)?, parquet_type("value", value)?];
            let entries = group("key_value", Repetition::REPEATED, None, entry)?;
            group(name, repetition, Some(LogicalType::Map), vec![entries])
        }
    }
}

//! Rows of every schema: what is taken apart from Avro is what is taken apart from JSON, which is
//! another way altogether; and a file of it reads back.

use apache_avro::types::Value as AvroValue;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::decoder::{Decoder, Skipped};
use super::super::parquet_file::FileShape;
use super::super::table::Table;
use super::super::*;
use crate::event::schema::SCHEMAS;

/// A value of a schema, drawn by `dice`.
fn draw(schema: &Value, dice: &mut impl FnMut(u64) -> u64) -> Value {
    match schema {
        Value::Array(union) => draw(&union[dice(2) as usize], dice),
        Value::String(name) => match name.as_str() {
            "null" => Value::Null,
            "boolean" => json!(dice(2) == 1),
            "int" => json!(dice(1 << 31) as i32 - (1 << 30)),
            "long" => json!(dice(u64::MAX) as i64),
            "float" => json!(dice(1_000) as f32 / 8.0),
            "double" => json!(dice(1_000_000) as f64 / 1_024.0),
            "bytes" => (0..dice(4)).map(|_| json!(dice(256))).collect(),
            "string" => json!(
                (0..dice(4)).map(|n| ["ä", "b", "\u{1F980}"][n as usize % 3]).collect::<String>()
            ),
            other => panic!("{other}"),
        },
        Value::Object(complex) => match complex["type"].as_str().unwrap() {
            "record" => {
                let fields = complex["fields"].as_array().unwrap().iter();
                let field = |f: &Value| (f["name"].as_str().unwrap().to_owned(), f["type"].clone());
                let fields: Vec<_> = fields.map(field).collect();
                fields
                    .into_iter()
                    .map(|(name, t)| (name, draw(&t, dice)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            "array" => (0..dice(4)).map(|_| draw(&complex["items"], dice)).collect(),
            "map" => {
                let keys = (0..dice(3)).map(|n| format!("k{n}")).collect::<Vec<_>>();
                keys.into_iter()
                    .map(|k| (k, draw(&complex["values"], dice)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            "enum" => {
                let symbols = complex["symbols"].as_array().unwrap();
                symbols[dice(symbols.len() as u64) as usize].clone()
            }
            // Of a timestamp, what has a folder.
            "long" => json!(dice(4_000_000_000_000)),
            other => draw(&json!(other), dice),
        },
        other => panic!("{other}"),
    }
}

fn avro(schema: &str, fingerprint: [u8; 8], value: &Value) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let value = AvroValue::try_from(value.clone()).unwrap().resolve(&schema).unwrap();
    let mut bytes = vec![0xC3, 0x01];
    bytes.extend_from_slice(&fingerprint);
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    bytes.extend(writer.write_value_to_vec(value).unwrap());
    bytes
}

fn table_of(decoder: &Decoder, records: &[Vec<u8>]) -> Table {
    let mut table = Table::new(&decoder.shape.columns);
    for record in records {
        let source = Bytes::from(record.clone());
        let parsed = decoder.parse(&source).unwrap();
        table.row(|table| decoder.fill(&parsed, &source, table)).unwrap();
    }
    table
}

fn shown(table: &Table) -> Vec<String> {
    table.columns.iter().map(|c| format!("{:?} {:?} {:?}", c.values, c.defs, c.reps)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn records_of_every_schema_are_the_same_rows_from_avro_and_from_json(seed in any::<u64>()) {
        let mut state = seed | 1;
        let mut dice = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 3) % below
        };
        for (topic, subject) in ARCHIVED {
            let decoder = Decoder::of(subject).unwrap();
            for known in subject.versions() {
                let schema: Value = serde_json::from_str(&known.text).unwrap();
                let values: Vec<_> = (0..5).map(|_| draw(&schema, &mut dice)).collect();
                let written: Vec<_> =
                    values.iter().map(|v| avro(&known.text, known.fingerprint, v)).collect();
                let texts: Vec<_> =
                    values.iter().map(|v| serde_json::to_vec(v).unwrap()).collect();
                let (from_avro, from_json) =
                    (table_of(&decoder, &written), table_of(&decoder, &texts));
                prop_assert_eq!(shown(&from_avro), shown(&from_json), "{} v{}", topic, known.version);
                for (record, value) in written.iter().zip(&values) {
                    let at = decoder.event_time(&decoder.parse(record).unwrap()).unwrap();
                    prop_assert_eq!(at.map(|at| at.millis()), value["event_time"].as_i64());
                }
            }
        }
    }

    #[test]
    fn a_record_that_is_cut_short_leaves_the_table_as_it_was(cut in 11..400usize) {
        let subject = subject_of("impressions").unwrap();
        let decoder = Decoder::of(subject).unwrap();
        let known = subject.newest();
        let schema: Value = serde_json::from_str(&known.text).unwrap();
        let mut n = 0;
        let value = draw(&schema, &mut |below| { n += 7; n % below });
        let whole = avro(&known.text, known.fingerprint, &value);
        let mut table = table_of(&decoder, std::slice::from_ref(&whole));
        let before = shown(&table);
        let source = Bytes::copy_from_slice(&whole[..cut.min(whole.len() - 1)]);
        let parsed = decoder.parse(&source).unwrap();
        let filled = table.row(|table| decoder.fill(&parsed, &source, table));
        prop_assert_eq!(filled, Err(Skipped("Avro")));
        prop_assert_eq!((shown(&table), table.rows), (before, 1));
    }
}

#[test]
fn every_schema_there_is_has_columns() {
    for file in SCHEMAS {
        let shape = super::super::shape::Shape::of(file.text).unwrap();
        FileShape::of(&shape).unwrap();
    }
}

#[test]
fn the_same_records_are_the_same_bytes_and_merged_files_hold_the_same_rows() {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    let subject = subject_of("impressions").unwrap();
    let decoder = Decoder::of(subject).unwrap();
    let shape = FileShape::of(&decoder.shape).unwrap();
    let schema: Value = serde_json::from_str(&subject.newest().text).unwrap();
    let mut n = 0;
    let texts: Vec<_> = (0..40)
        .map(|_| {
            serde_json::to_vec(&draw(&schema, &mut |below| {
                n += 11;
                n % below
            }))
            .unwrap()
        })
        .collect();
    let file = |texts: &[Vec<u8>]| {
        let mut table = table_of(&decoder, texts);
        table.columns = table.columns.clone();
        let kafka = Table::new(&shape.columns).columns.split_off(decoder.shape.columns.len());
        table.columns.extend(kafka);
        let own = table.columns.len() - 4;
        for offset in 0..texts.len() as i64 {
            for column in &mut table.columns[own..] {
                column.put_long(offset, 0).unwrap();
            }
        }
        Bytes::from(shape.encode(&table, vec![("a".into(), "b".into())]).unwrap())
    };
    assert_eq!(file(&texts), file(&texts));
    let rows = |bytes: Bytes| {
        let reader = SerializedFileReader::new(bytes).unwrap();
        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect::<Vec<_>>()
    };
    let parts = [file(&texts[..13]), file(&texts[13..])];
    let expected: Vec<_> = parts.iter().cloned().flat_map(rows).collect();
    let reads: Vec<_> =
        parts.into_iter().map(|p| super::super::merging::Read::open(p).unwrap()).collect();
    let merged = super::super::merging::merge(&reads, Vec::new()).unwrap();
    assert_eq!(rows(merged.into()), expected);
    assert_eq!(expected.len(), 40);
}

//! Schemas against the Avro specification, against apache-avro, and against their own past.

use std::io::Write as _;

use apache_avro::Schema as AvroSchema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as AvroValue;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::{Value, json};

use super::super::schema::{SCHEMAS, SchemaFile, Subject, all_subjects};
use super::super::*;

/// What apache-avro makes of a datum, as JSON.
pub fn resolve(writer: &AvroSchema, reader: &AvroSchema, mut datum: &[u8]) -> Value {
    let resolver = GenericDatumReader::builder(writer).reader_schema(reader).build().unwrap();
    Value::try_from(resolver.read_value(&mut datum).unwrap()).unwrap()
}

pub fn newest(subject: &str) -> AvroSchema {
    let file = SCHEMAS.iter().rev().find(|f| f.subject == subject).unwrap();
    AvroSchema::parse_str(file.text).unwrap()
}

/// A schema's records with all fields removed: what a writer knew before any was added.
fn without_fields(schema: &Value) -> Value {
    json!({
        "type": "record", "name": schema["name"], "namespace": schema["namespace"], "fields": [],
    })
}

/// Every record in a schema: its own and those within.
fn records(schema: &Value, namespace: &str, found: &mut Vec<Value>) {
    if let Some(parts) = schema.as_array() {
        parts.iter().for_each(|s| records(s, namespace, found));
    }
    if schema["type"] == "record" {
        let mut own = schema.clone();
        let space = schema["namespace"].as_str().unwrap_or(namespace).to_owned();
        own["namespace"] = json!(space);
        found.push(own);
        let fields = schema["fields"].as_array().unwrap();
        fields.iter().for_each(|f| records(&f["type"], &space, found));
    } else if schema["type"] == "array" {
        records(&schema["items"], namespace, found);
    }
}

/// What our type makes of a JSON object without any field.
fn serde_default(record: &str) -> Value {
    fn of<T: serde::Serialize + serde::Deserialize<'static>>() -> Value {
        serde_json::to_value(serde_json::from_str::<T>("{}").unwrap()).unwrap()
    }
    match record {
        "WatchEvent" => of::<user_event::WatchWire<'static>>(),
        "ClickEvent" => of::<user_event::ClickWire<'static>>(),
        "FeedbackEvent" => of::<feedback::FeedbackWire<'static>>(),
        "Device" => of::<Device<'static>>(),
        "RecommendationRequest" => of::<request::RequestWire>(),
        "RecommendationReply" => of::<Reply>(),
        "RecommendedItem" => of::<RecommendedItem>(),
        "Reason" => of::<Reason>(),
        "Degradation" => of::<Degradation>(),
        "RequestError" => of::<RequestError>(),
        "CatalogItem" => of::<CatalogRecord>(),
        "Interactions" => of::<Interactions<'static>>(),
        "Interaction" => of::<Interaction<'static>>(),
        "ItemEmbedding" => of::<EmbeddingRecord<'static>>(),
        "LiveVector" => of::<LiveVector<'static>>(),
        "ItemFeatures" => of::<FeaturesRecord>(),
        "DecayedCounts" => of::<DecayedCounts>(),
        "CoWatched" => of::<CoWatched>(),
        "ModelManifest" => of::<ModelManifest>(),
        "GoldenList" => of::<GoldenList>(),
        "ModelControl" => of::<ModelControl>(),
        "ModelAck" => of::<ModelAck>(),
        "ServedBy" => of::<ServedBy>(),
        "Experiment" => of::<ExperimentRecord>(),
        "ExperimentArm" => of::<ExperimentArm>(),
        "TrainingRun" => of::<TrainingRun>(),
        "RankerManifest" => of::<RankerManifest>(),
        "MetricsWindow" => of::<MetricsWindow>(),
        "SampledItem" => of::<SampledItem>(),
        "UserGroup" => of::<UserGroup>(),
        "ServingWindow" => of::<ServingWindow>(),
        "ErrorCount" | "DegradationCount" => of::<NamedCount>(),
        "ExamplePlace" => of::<ExamplePlace>(),
        "SettingsTrial" => of::<SettingsTrial>(),
        "Impression" => of::<Impression<'static>>(),
        "TrainingExample" => of::<TrainingExample<'static>>(),
        "LabelCorrection" => of::<LabelCorrection<'static>>(),
        "SourceWeight" => of::<SourceWeight<'static>>(),
        "ShownItem" => of::<ShownItem<'static>>(),
        "RetrainTrigger" => of::<RetrainTrigger>(),
        "TriggerMetric" => of::<TriggerMetric>(),
        "TriggerDetector" => of::<TriggerDetector>(),
        "TriggerWindow" => of::<TriggerWindow>(),
        "TriggerReference" => of::<TriggerReference>(),
        "TriggerDataQuality" => of::<TriggerDataQuality>(),
        "SourceScore" => of::<SourceScore<'static>>(),
        other => panic!("{other} has no wire type in this test"),
    }
}

#[test]
fn the_defaults_of_the_wire_types_are_those_of_the_schemas() {
    for subject in all_subjects() {
        let file = SCHEMAS.iter().rev().find(|f| f.subject == subject.name).unwrap();
        let mut all = Vec::new();
        records(&serde_json::from_str(file.text).unwrap(), "", &mut all);
        assert!(!all.is_empty());
        for record in all {
            let name = record["name"].as_str().unwrap();
            let writer = AvroSchema::parse(&without_fields(&record)).unwrap();
            let reader = AvroSchema::parse(&record).unwrap();
            assert_eq!(serde_default(name), resolve(&writer, &reader, &[]), "{name}");
        }
    }
}

/// A value of a schema in which nothing is at its default.
fn filled(schema: &Value, n: i64) -> AvroValue {
    match schema {
        Value::String(primitive) => match primitive.as_str() {
            "string" => AvroValue::String(format!("text-{n}")),
            "int" => AvroValue::Int(n as i32 + 1),
            "long" => AvroValue::Long(n + 1),
            "float" => AvroValue::Float(0.5),
            "double" => AvroValue::Double(n as f64 + 0.5),
            "boolean" => AvroValue::Boolean(true),
            "bytes" => AvroValue::Bytes(vec![n as u8 + 1, 200]),
            other => panic!("{other}"),
        },
        Value::Array(union) => AvroValue::Union(1, Box::new(filled(&union[1], n))),
        Value::Object(complex) => match complex["type"].as_str().unwrap() {
            "record" => {
                let fields = complex["fields"].as_array().unwrap().iter().enumerate();
                let fields = fields.map(|(i, f)| {
                    (f["name"].as_str().unwrap().to_owned(), filled(&f["type"], n * 7 + i as i64))
                });
                AvroValue::Record(fields.collect())
            }
            "array" => AvroValue::Array(vec![filled(&complex["items"], n + 1)]),
            "map" => {
                let entry = (format!("key-{n}"), filled(&complex["values"], n + 1));
                AvroValue::Map([entry].into())
            }
            "enum" => AvroValue::Enum(1, complex["symbols"][1].as_str().unwrap().to_owned()),
            "long" => AvroValue::TimestampMillis(1_650_000_000_000 + n),
            other => filled(&json!(other), n),
        },
        other => panic!("{other}"),
    }
}

/// The parsing canonical form of a schema, as the Avro specification defines it.
fn canonical(schema: &Value, namespace: &str) -> String {
    let own = |name: &Value, space: &str| format!("{space}.{}", name.as_str().unwrap());
    match schema {
        Value::String(_) => schema.to_string(),
        Value::Array(union) => {
            let parts: Vec<_> = union.iter().map(|s| canonical(s, namespace)).collect();
            format!("[{}]", parts.join(","))
        }
        _ => {
            let space = schema["namespace"].as_str().unwrap_or(namespace);
            let name = || own(&schema["name"], space);
            match schema["type"].as_str().unwrap() {
                "record" => {
                    let field = |f: &Value| {
                        let of = canonical(&f["type"], space);
                        format!(r#"{{"name":{},"type":{of}}}"#, f["name"])
                    };
                    let fields = schema["fields"].as_array().unwrap().iter().map(field);
                    let fields = fields.collect::<Vec<_>>().join(",");
                    format!(r#"{{"name":"{}","type":"record","fields":[{fields}]}}"#, name())
                }
                "enum" => {
                    let symbols = &schema["symbols"];
                    format!(r#"{{"name":"{}","type":"enum","symbols":{symbols}}}"#, name())
                }
                "array" => {
                    let items = canonical(&schema["items"], space);
                    format!(r#"{{"type":"array","items":{items}}}"#)
                }
                "map" => {
                    let values = canonical(&schema["values"], space);
                    format!(r#"{{"type":"map","values":{values}}}"#)
                }
                primitive => format!("\"{primitive}\""),
            }
        }
    }
}

/// CRC-64-AVRO, bit by bit, little-endian as in the single-object header.
fn fingerprint(schema: &Value) -> [u8; 8] {
    const EMPTY: u64 = 0xC15D_213A_A4D7_A795;
    let mut crc = EMPTY;
    for byte in canonical(schema, "").bytes() {
        let mut low = (crc ^ u64::from(byte)) & 0xFF;
        for _ in 0..8 {
            low = (low >> 1) ^ (EMPTY & (low & 1).wrapping_neg());
        }
        crc = (crc >> 8) ^ low;
    }
    crc.to_le_bytes()
}

#[test]
fn fingerprints_are_those_of_the_specification() {
    // apache-avro 0.22 is no judge here: its canonical form keeps {"type":"long"} where a logical
    // type was stripped.
    for file in SCHEMAS {
        let json: Value = serde_json::from_str(file.text).unwrap();
        let fast: serde_avro_fast::Schema = file.text.parse().unwrap();
        assert_eq!(*fast.rabin_fingerprint(), fingerprint(&json), "{}", file.subject);
    }
}

fn single_object(fingerprint: &[u8], datum: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xC3, 0x01];
    bytes.extend_from_slice(fingerprint);
    bytes.write_all(datum).unwrap();
    bytes
}

/// Our reading of a record, as JSON.
fn read_by_us(subject: &Subject, bytes: &[u8]) -> Value {
    fn of<'a, T: serde::Serialize + serde::Deserialize<'a>>(s: &Subject, bytes: &'a [u8]) -> Value {
        serde_json::to_value(codec::decode::<T>(s, bytes).unwrap().0).unwrap()
    }
    match subject.name {
        "watch-event" => of::<user_event::WatchWire<'_>>(subject, bytes),
        "click-event" => of::<user_event::ClickWire<'_>>(subject, bytes),
        "feedback-event" => of::<feedback::FeedbackWire<'_>>(subject, bytes),
        "recommendation-request" => of::<request::RequestWire>(subject, bytes),
        "recommendation-reply" => of::<Reply>(subject, bytes),
        "interactions" => of::<Interactions<'_>>(subject, bytes),
        "catalog-item" => of::<CatalogRecord>(subject, bytes),
        "item-embedding" => of::<EmbeddingRecord<'_>>(subject, bytes),
        "item-features" => of::<FeaturesRecord>(subject, bytes),
        "model-manifest" => of::<ModelManifest>(subject, bytes),
        "model-control" => of::<ModelControl>(subject, bytes),
        "model-ack" => of::<ModelAck>(subject, bytes),
        "experiment" => of::<ExperimentRecord>(subject, bytes),
        "training-run" => of::<TrainingRun>(subject, bytes),
        "ranker-manifest" => of::<RankerManifest>(subject, bytes),
        "metrics-window" => of::<MetricsWindow>(subject, bytes),
        "serving-window" => of::<ServingWindow>(subject, bytes),
        "retrain-trigger" => of::<RetrainTrigger>(subject, bytes),
        "impression" => of::<Impression<'_>>(subject, bytes),
        "training-example" => of::<TrainingExample<'_>>(subject, bytes),
        "label-correction" => of::<LabelCorrection<'_>>(subject, bytes),
        other => panic!("{other} has no wire type in this test"),
    }
}

/// Writes a filled record under `writer` and reads it under `reader`, by apache-avro and by us.
fn reads_alike(subject: &Subject, writer: &str, reader: &str) -> Value {
    let json: Value = serde_json::from_str(writer).unwrap();
    let writer = AvroSchema::parse_str(writer).unwrap();
    let datum = GenericDatumWriter::builder(&writer).build().unwrap();
    let datum = datum.write_value_to_vec(filled(&json, 3)).unwrap();
    let newest = AvroSchema::parse_str(reader).unwrap();
    let resolved = resolve(&writer, &newest, &datum);
    let ours = read_by_us(subject, &single_object(&fingerprint(&json), &datum));
    assert_eq!(ours, resolved, "{}", subject.name);
    resolved
}

#[test]
fn every_historical_schema_reads_under_the_newest() {
    for subject in all_subjects() {
        let files = || SCHEMAS.iter().filter(|f| f.subject == subject.name);
        let newest = files().next_back().unwrap();
        for file in files() {
            reads_alike(subject, file.text, newest.text);
        }
    }
}

#[test]
fn records_with_a_field_fewer_or_one_more_are_read_under_the_newest() {
    for subject in all_subjects() {
        let file = SCHEMAS.iter().rev().find(|f| f.subject == subject.name).unwrap();
        let now: Value = serde_json::from_str(file.text).unwrap();
        let count = now["fields"].as_array().unwrap().len();
        for dropped in 0..count {
            let mut before = now.clone();
            let gone = before["fields"].as_array_mut().unwrap().remove(dropped);
            let default = gone["default"].clone();
            let before = before.to_string();
            let versions = [
                SchemaFile { subject: subject.name, version: 1, text: before.clone().leak() },
                SchemaFile { subject: subject.name, version: 2, text: file.text },
            ];
            let evolved = Subject::of(subject.name, versions.iter());
            let read = reads_alike(&evolved, &before, file.text);
            assert_eq!(read[gone["name"].as_str().unwrap()], default);
        }
        let mut after = now.clone();
        let fields = after["fields"].as_array_mut().unwrap();
        fields.insert(1, json!({"name": "mood", "type": ["null", "string"], "default": null}));
        fields.push(json!({"name": "weather", "type": "string", "default": ""}));
        let after = after.to_string();
        let versions = [
            SchemaFile { subject: subject.name, version: 1, text: file.text },
            SchemaFile { subject: subject.name, version: 2, text: after.clone().leak() },
        ];
        let evolved = Subject::of(subject.name, versions.iter());
        reads_alike(&evolved, &after, file.text);
    }
}

#[test]
fn every_schema_file_belongs_to_a_subject_and_loads() {
    for file in SCHEMAS {
        let subject = all_subjects().into_iter().find(|s| s.name == file.subject).unwrap();
        let json: Value = serde_json::from_str(file.text).unwrap();
        assert_eq!(subject.by_fingerprint(&fingerprint(&json)).unwrap().version, file.version);
    }
}

//! Avro single-object encoding of the files in `schemas/`, by the reference library.

use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::Value;

/// One schema file.
pub struct Codec {
    schema: Schema,
    header: Vec<u8>,
}

macro_rules! codecs {
    ($($name:ident = $file:literal;)*) => {
        $(pub static $name: LazyLock<Codec> =
            LazyLock::new(|| Codec::load(include_str!(concat!("../../schemas/", $file))));)*
    };
}

codecs! {
    WATCH = "watch-event.v1.avsc";
    CLICK = "click-event.v1.avsc";
    FEEDBACK = "feedback-event.v1.avsc";
    REQUEST = "recommendation-request.v1.avsc";
    REPLY = "recommendation-reply.v1.avsc";
    ITEM = "catalog-item.v1.avsc";
    IMPRESSION = "impression.v3.avsc";
    EXAMPLE = "training-example.v3.avsc";
    CORRECTION = "label-correction.v1.avsc";
    RANKER = "ranker-manifest.v1.avsc";
    METRICS = "metrics-window.v2.avsc";
    ANSWERS = "serving-window.v1.avsc";
    TRIGGER = "retrain-trigger.v1.avsc";
}

impl Codec {
    fn load(text: &str) -> Self {
        let schema = Schema::parse_str(text).expect("a schema of the product parses");
        let mut header = vec![0xC3, 0x01];
        // The library leaves {"type":"long"} where a logical type was stripped; the
        // specification, and with it the Java client, write "long".
        let canonical = schema.canonical_form().replace(r#"{"type":"long"}"#, r#""long""#);
        header.extend(fingerprint(canonical.as_bytes()).to_le_bytes());
        Self { schema, header }
    }

    /// The header that each record of this schema begins with.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Encodes a JSON object; absent fields take the schema's defaults.
    pub fn encode(&self, object: &Value) -> Vec<u8> {
        let value = Avro::try_from(object.clone()).expect("JSON that Avro can hold");
        self.encode_avro(value)
    }

    /// The same for a value that JSON cannot say, such as one with a NaN.
    pub fn encode_avro(&self, value: Avro) -> Vec<u8> {
        let value = value.resolve(&self.schema).expect("an object that fits the schema");
        let mut bytes = self.header.clone();
        let writer = GenericDatumWriter::builder(&self.schema).build().expect("a writer");
        writer.write_value(&mut bytes, value).expect("an encodable value");
        bytes
    }

    /// Decodes a record of this schema, or plain JSON.
    pub fn decode(&self, bytes: &[u8]) -> Value {
        if bytes.first() == Some(&b'{') {
            return serde_json::from_slice(bytes).expect("a JSON record");
        }
        assert!(bytes.starts_with(&self.header), "neither JSON nor of this schema: {bytes:02x?}");
        let mut datum = &bytes[self.header.len()..];
        let reader = GenericDatumReader::builder(&self.schema).build().expect("a reader");
        let value = reader.read_value(&mut datum).expect("a datum of this schema");
        assert!(datum.is_empty(), "bytes are left after the datum");
        plain(value)
    }
}

fn plain(value: Avro) -> Value {
    match value {
        // The library renders timestamps as texts; the records count milliseconds.
        Avro::TimestampMillis(ms) => ms.into(),
        Avro::Union(_, inner) => plain(*inner),
        Avro::Array(items) => items.into_iter().map(plain).collect(),
        Avro::Map(entries) => {
            Value::Object(entries.into_iter().map(|(k, v)| (k, plain(v))).collect())
        }
        Avro::Record(fields) => {
            Value::Object(fields.into_iter().map(|(k, v)| (k, plain(v))).collect())
        }
        other => Value::try_from(other).expect("a value that JSON can hold"),
    }
}

/// CRC-64-AVRO, as the specification of Avro defines it.
fn fingerprint(bytes: &[u8]) -> u64 {
    const EMPTY: u64 = 0xC15D_213A_A4D7_A795;
    bytes.iter().fold(EMPTY, |hash, byte| {
        let mut low = (hash ^ u64::from(*byte)) & 0xFF;
        for _ in 0..8 {
            low = (low >> 1) ^ (EMPTY & (low & 1).wrapping_neg());
        }
        (hash >> 8) ^ low
    })
}

//! Bytes ⇄ wire records. The first byte tells the encoding: `C3` Avro single-object, `00`
//! Confluent framing, `{` plain JSON of the same schema.

use std::io::BufRead as _;

use serde::{Deserialize, Serialize};
use serde_avro_fast::de::DeserializerState;

use super::datum::{Datum, Positional};
use super::schema::Subject;
use super::{Rejection, Stage};

/// How a record was encoded; a reply goes out in the encoding of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `C3 01`, 8-byte little-endian CRC-64-AVRO fingerprint, datum.
    AvroSingleObject,
    /// A JSON object with the schema's field names; absent fields take the schema's defaults.
    Json,
}

const SINGLE_OBJECT_MARKER: [u8; 2] = [0xC3, 0x01];
const HEADER_BYTES: usize = 10;

/// Largest record accepted, in bytes. A legitimate event is below 2 KB and a request with 1000
/// excluded ids below 300 KB; what is larger is a client's mistake and would only cost memory.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// Decodes one record of `subject`, borrowing from `bytes` where it can.
///
/// A record of an older version decodes with that version's schema; fields that it lacks take
/// the newest schema's defaults, which the wire types repeat for serde.
///
/// # Errors
/// A [`Rejection`] of stage `Decode` that names what was found and what would be accepted.
pub fn decode<'a, T: Deserialize<'a>>(
    subject: &Subject,
    bytes: &'a [u8],
) -> Result<(T, Encoding), Rejection> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(Rejection::decode(
            "TooLarge",
            format!("{} bytes; a record may have {MAX_RECORD_BYTES}", bytes.len()),
        ));
    }
    match bytes.first() {
        None => Err(Rejection::decode("Empty", "the record has no value".into())),
        Some(0xC3) => decode_single_object(subject, bytes).map(|t| (t, Encoding::AvroSingleObject)),
        Some(b'{') => serde_json::from_slice(bytes)
            .map(|t| (t, Encoding::Json))
            .map_err(|e| Rejection::decode("Json", format!("not a JSON {}: {e}", subject.name))),
        Some(0x00) => Err(Rejection::decode(
            "NoRegistry",
            "Confluent framing (first byte 00) needs a schema registry, and none is configured: \
             send Avro single-object encoding or JSON"
                .into(),
        )),
        Some(other) => Err(Rejection::decode(
            "UnknownEncoding",
            format!(
                "first byte {other:02X}; expected C3 (Avro single-object), 00 (Confluent) or \
                 7B (JSON)"
            ),
        )),
    }
}

/// Decodes as [`decode`] does, by position where the record is of the newest schema.
///
/// # Errors
/// Those of [`decode`].
pub(super) fn decode_positional<'a, T: Deserialize<'a> + Positional<'a>>(
    subject: &Subject,
    bytes: &'a [u8],
) -> Result<T, Rejection> {
    if bytes.len() <= MAX_RECORD_BYTES
        && let Some((header, datum)) = bytes.split_first_chunk::<HEADER_BYTES>()
        && header[..2] == SINGLE_OBJECT_MARKER
        && header[2..] == subject.newest().fingerprint
        && let Some(value) = Datum::read(datum)
    {
        return Ok(value);
    }
    decode(subject, bytes).map(|(value, _)| value)
}

fn decode_single_object<'a, T: Deserialize<'a>>(
    subject: &Subject,
    bytes: &'a [u8],
) -> Result<T, Rejection> {
    if bytes.len() < HEADER_BYTES || bytes[..2] != SINGLE_OBJECT_MARKER {
        return Err(Rejection::decode(
            "BadHeader",
            "starts with C3 but has no Avro single-object header (C3 01 and 8 bytes of \
             fingerprint)"
                .into(),
        ));
    }
    let (header, datum) = bytes.split_at(HEADER_BYTES);
    let Some(known) = subject.by_fingerprint(&header[2..]) else {
        return Err(Rejection::decode(
            "UnknownSchema",
            format!(
                "schema fingerprint {} is no version of {} that this build knows",
                hex(&header[2..]),
                subject.name
            ),
        ));
    };
    let mut state = DeserializerState::from_slice(datum, &known.schema);
    let value = T::deserialize(state.deserializer())
        .map_err(|e| Rejection::decode("Avro", format!("not a {} datum: {e}", subject.name)))?;
    // Bytes beyond the datum mean that another schema wrote it than its fingerprint says.
    let mut rest = state.into_reader();
    match rest.fill_buf() {
        Ok([]) => Ok(value),
        _ => Err(Rejection::decode(
            "Avro",
            format!("there are bytes after the {} datum", subject.name),
        )),
    }
}

/// Encodes one record under the newest schema of `subject`.
///
/// # Errors
/// A [`Rejection`] where the value does not fit the schema: a fault of ours, found by tests.
pub fn encode<T: Serialize>(
    subject: &Subject,
    value: &T,
    encoding: Encoding,
) -> Result<Vec<u8>, Rejection> {
    match encoding {
        Encoding::Json => serde_json::to_vec(value)
            .map_err(|e| Rejection::decode("Encode", format!("{}: {e}", subject.name))),
        Encoding::AvroSingleObject => {
            let known = subject.newest();
            let mut bytes = Vec::with_capacity(128);
            bytes.extend_from_slice(&SINGLE_OBJECT_MARKER);
            bytes.extend_from_slice(&known.fingerprint);
            serde_avro_fast::to_datum(
                value,
                bytes,
                &mut serde_avro_fast::ser::SerializerConfig::new(&known.schema),
            )
            .map_err(|e| Rejection::decode("Encode", format!("{}: {e}", subject.name)))
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Rejection {
    fn decode(class: &'static str, message: String) -> Self {
        Self { stage: Stage::Decode, class, message }
    }
}

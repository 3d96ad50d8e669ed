//! Records that were refused, with the reason in Kafka Connect's headers.

use std::sync::Arc;

use crate::event::{Rejection, Stage};
use crate::kafka::headers::ERROR_PREFIX;
use crate::kafka::{Delivery, Headers, KafkaError, Outgoing, Producer, Record, Tracker};

/// Longest header value written, in bytes: a message may quote what was refused.
const MAX_HEADER_BYTES: usize = 2_048;

/// Longest value kept, in bytes: half of what the dead-letter topic takes, since the letter must
/// fit also where it cannot be compressed. Only a compressed batch can hold a longer one, and no
/// event is a thousandth as long.
const MAX_VALUE_BYTES: usize = 8 << 20;

/// Header of the topic a dead letter came from.
pub const TOPIC_HEADER: &str = "__connect.errors.topic";
/// Header of the rejection's class.
pub const CLASS_HEADER: &str = "__connect.errors.exception.class.name";
/// Header of the rejection's message.
pub const MESSAGE_HEADER: &str = "__connect.errors.exception.message";

/// Sends a refused record to dead letters as it was, and why. The caller waits for `tracker`
/// before it moves past the record's offset.
pub fn send(
    producer: &Producer,
    topic: &str,
    record: &Record<'_>,
    rejection: &Rejection,
    tracker: &Arc<Tracker>,
) -> Result<(), KafkaError> {
    // A record that was replayed from dead letters and refused again carries one set of reasons.
    let mut headers: Headers = record.headers();
    headers.retain(|(name, _)| !name.starts_with(ERROR_PREFIX));
    let stage = match rejection.stage {
        Stage::Decode => "VALUE_CONVERTER",
        Stage::Validate => "TRANSFORMATION",
    };
    let mut message = rejection.message.clone();
    let value = record.value();
    let value = &value[..value.len().min(MAX_VALUE_BYTES)];
    if value.len() < record.value().len() {
        message.push_str(&format!("; only the first {MAX_VALUE_BYTES} bytes are kept"));
    }
    let reasons = [
        ("topic", record.topic().to_owned()),
        ("partition", record.partition().to_string()),
        ("offset", record.offset().to_string()),
        ("connector.name", "driftline-worker".to_owned()),
        ("task.id", record.partition().to_string()),
        ("stage", stage.to_owned()),
        ("class.name", "driftline::event".to_owned()),
        ("exception.class.name", format!("driftline.event.{}", rejection.class)),
        ("exception.message", message),
        ("exception.stacktrace", rejection.to_string()),
    ];
    headers.extend(
        reasons
            .into_iter()
            .map(|(name, value)| (format!("{ERROR_PREFIX}{name}"), Some(capped(value)))),
    );
    let outgoing = Outgoing {
        topic,
        key: record.key(),
        value,
        is_tombstone: record.is_tombstone(),
        headers,
        timestamp_ms: Some(record.timestamp_ms()).filter(|t| *t > 0),
        ..Outgoing::default()
    };
    producer.send(&outgoing, Delivery::Tracked(Arc::clone(tracker)))
}

fn capped(mut text: String) -> Vec<u8> {
    if text.len() > MAX_HEADER_BYTES {
        let end = (0..=MAX_HEADER_BYTES).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
    }
    text.into_bytes()
}

//! Dead letters as they are read: why, from where, and what to send again.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::config::Config;
use crate::kafka::headers::ERROR_PREFIX;
use crate::kafka::{Headers, Position, Reader, Record, TopicPartition};
use crate::worker::{CLASS_HEADER, MESSAGE_HEADER, TOPIC_HEADER};

/// What our own class names begin with; not shown.
const CLASS_PREFIX: &str = "driftline.event.";
/// How long the broker may send nothing before reading is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// One dead letter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Letter {
    /// Where it lies.
    pub partition: i32,
    /// Where it lies.
    pub offset: i64,
    /// Of the record that was refused, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The refused record's key.
    pub key: Option<Vec<u8>>,
    /// The refused record's value.
    pub value: Vec<u8>,
    /// Its own headers and the reasons.
    pub headers: Headers,
}

impl Letter {
    fn new(record: &Record<'_>) -> Self {
        Self {
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp_ms(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().to_vec(),
            headers: record.headers(),
        }
    }

    /// The last header of this name as text; empty where there is none.
    fn header(&self, name: &str) -> String {
        let found = self.headers.iter().rev().find(|(known, _)| known == name);
        let bytes = found.and_then(|(_, value)| value.as_deref()).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Why it was refused, as a short name.
    pub fn class(&self) -> String {
        let class = self.header(CLASS_HEADER);
        class.strip_prefix(CLASS_PREFIX).unwrap_or(&class).to_owned()
    }

    /// Why it was refused, in words.
    pub fn message(&self) -> String {
        self.header(MESSAGE_HEADER)
    }

    /// The topic it was refused from; empty where nothing says so.
    pub fn origin(&self) -> String {
        self.header(TOPIC_HEADER)
    }

    /// `topic-partition@offset` of the record that was refused.
    pub fn origin_position(&self) -> String {
        let part = |name: &str| self.header(&format!("{ERROR_PREFIX}{name}"));
        format!("{}-{}@{}", self.origin(), part("partition"), part("offset"))
    }

    /// The headers that the record had before it was refused.
    pub fn own_headers(&self) -> Headers {
        let own = self.headers.iter().filter(|(name, _)| !name.starts_with(ERROR_PREFIX));
        own.cloned().collect()
    }

    /// All of it as one JSON object.
    pub fn to_json(&self, topic: &str) -> Value {
        let text_or_null = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(text_or_hex);
        let headers: Vec<Value> = self
            .headers
            .iter()
            .map(|(name, value)| json!([name, text_or_null(value).map(|(text, _)| text)]))
            .collect();
        let (value, encoding) = text_or_hex(&self.value);
        json!({
            "topic": topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp_ms,
            "from": self.origin_position(),
            "class": self.class(),
            "message": self.message(),
            "key": text_or_null(&self.key).map(|(text, _)| text),
            "value": value,
            "value_encoding": encoding,
            "headers": headers,
        })
    }
}

/// The bytes as text where they are printable, else in hexadecimal; and which of the two.
pub fn text_or_hex(bytes: &[u8]) -> (String, &'static str) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => {
            (text.to_owned(), "text")
        }
        _ => (bytes.iter().map(|b| format!("{b:02x}")).collect(), "hex"),
    }
}

/// At most `width` characters on one line.
pub fn shorten(text: &str, width: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    if line.chars().count() <= width {
        return line;
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The dead-letter topic between two fixed ends: what arrives later is not read.
pub struct Letters {
    reader: Reader,
    topic: String,
    /// First offset and the one after the last, by partition.
    bounds: Vec<(i64, i64)>,
}

impl Letters {
    /// Finds the ends of the topic's partitions as they are now.
    ///
    /// # Errors
    /// Where the broker does not answer.
    pub fn open(config: &Config, partitions: i32) -> Result<Self, Failure> {
        // The group is only a name: nothing is committed.
        let reader =
            Reader::new(&config.kafka.client(), "driftline-tools", "driftline-deadletters")?;
        let topic = config.topics.dead_letters();
        let bounds = (0..partitions)
            .map(|partition| reader.bounds(&TopicPartition { topic: topic.clone(), partition }))
            .collect::<Result<_, _>>()?;
        Ok(Self { reader, topic, bounds })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.bounds.iter().map(|(low, high)| u64::try_from(high - low).unwrap_or(0)).sum()
    }

    /// Reads the last `newest` of each partition, oldest first, until `each` breaks off.
    ///
    /// # Errors
    /// Where the broker falls silent, or what `each` returns.
    pub fn scan(
        &self,
        newest: i64,
        mut each: impl FnMut(Letter) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let mut ends: HashMap<i32, i64> = HashMap::new();
        for (partition, &(low, high)) in (0..).zip(&self.bounds) {
            if low < high {
                let tp = TopicPartition { topic: self.topic.clone(), partition };
                self.reader.add(&tp, Position::At(low.max(high.saturating_sub(newest))))?;
                ends.insert(partition, high);
            }
        }
        let mut heard = Instant::now();
        while !ends.is_empty() {
            let Some(record) = self.reader.poll(Duration::from_millis(100)) else {
                if heard.elapsed() > SILENCE {
                    return Err(format!(
                        "{} sent nothing for {SILENCE:?}, and {} partitions are not read to their \
                         end; `driftline doctor` looks at the broker",
                        self.topic,
                        ends.len()
                    )
                    .into());
                }
                continue;
            };
            heard = Instant::now();
            let (partition, offset) = (record.partition(), record.offset());
            let Some(&end) = ends.get(&partition) else { continue };
            if offset < end && each(Letter::new(&record))?.is_break() {
                return Ok(());
            }
            if offset + 1 >= end {
                ends.remove(&partition);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> (String, Option<Vec<u8>>) {
        (name.to_owned(), Some(value.as_bytes().to_vec()))
    }

    fn letter() -> Letter {
        Letter {
            value: b"{\"user\": 1}".to_vec(),
            headers: vec![
                header("ce_id", "7"),
                header(TOPIC_HEADER, "watch-events"),
                header("__connect.errors.partition", "3"),
                header("__connect.errors.offset", "42"),
                header(CLASS_HEADER, "driftline.event.Json"),
                header(MESSAGE_HEADER, "not a JSON WatchEvent"),
                ("trace".to_owned(), None),
            ],
            ..Letter::default()
        }
    }

    #[test]
    fn a_letter_says_why_and_from_where() {
        let letter = letter();
        assert_eq!(letter.class(), "Json");
        assert_eq!(letter.message(), "not a JSON WatchEvent");
        assert_eq!(letter.origin_position(), "watch-events-3@42");
    }

    #[test]
    fn what_is_sent_again_has_its_own_headers_only() {
        let expected = vec![header("ce_id", "7"), ("trace".to_owned(), None)];
        assert_eq!(letter().own_headers(), expected);
    }

    #[test]
    fn json_holds_text_as_it_is_and_bytes_in_hexadecimal() {
        let json = letter().to_json("dead-letters");
        assert_eq!(json["value"], "{\"user\": 1}");
        assert_eq!((&json["value_encoding"], &json["key"]), (&json!("text"), &Value::Null));
        assert_eq!(json["headers"][0], json!(["ce_id", "7"]));
        assert_eq!(text_or_hex(&[0xC3, 0x01, 0xFF]), ("c301ff".to_owned(), "hex"));
    }

    #[test]
    fn long_texts_are_shortened_at_a_character() {
        assert_eq!(shorten("Füße\nund", 20), "Füße und");
        assert_eq!(shorten("Füße und Hände", 6), "Füße …");
    }
}

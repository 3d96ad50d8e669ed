//! Records as they are consumed.

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// Reads a position as clients name it: `topic-partition@offset`.
    pub fn at(text: &str) -> Option<(Self, i64)> {
        let (place, offset) = text.split_once('@')?;
        let (topic, partition) = place.rsplit_once('-')?;
        let tp = Self { topic: topic.into(), partition: partition.parse().ok()? };
        let offset = offset.parse().ok()?;
        (!tp.topic.is_empty() && tp.partition >= 0 && offset >= 0).then_some((tp, offset))
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Headers in order; a name may occur more than once, and a value may be absent.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// One consumed record, borrowed from the client's buffers.
pub struct Record<'a>(pub(super) BorrowedMessage<'a>);

impl Record<'_> {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        self.0.topic()
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// The offset within the partition.
    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// The record's timestamp in milliseconds since the epoch, 0 where it has none.
    pub fn timestamp_ms(&self) -> i64 {
        self.0.timestamp().to_millis().unwrap_or(0)
    }

    /// The key, where there is one.
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    /// The value; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        self.0.payload().unwrap_or_default()
    }

    /// Whether there is no value, which is not the same as an empty one.
    pub fn is_tombstone(&self) -> bool {
        self.0.payload().is_none()
    }

    /// The last header of this name, as Kafka clients read them.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let headers = self.0.headers()?;
        (0..headers.count())
            .rev()
            .map(|i| headers.get(i))
            .find(|h| h.key == name)
            .and_then(|h| h.value)
    }

    /// All headers, copied.
    pub fn headers(&self) -> Headers {
        self.0
            .headers()
            .map(|headers| {
                headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
            })
            .unwrap_or_default()
    }
}

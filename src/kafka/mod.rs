//! The only importer of rdkafka. Consumers on their own threads, rebalances as acknowledged
//! messages, producers that flush, topics as code.
//!
//! Knows nothing about what records mean.

mod admin;
mod client;
mod exclusive;
mod group;
mod lost;
mod murmur2;
mod producer;
mod reader;
mod record;
mod topology;
mod whole;

pub use admin::{Admin, TopicMetadata};
pub use client::{ClientSettings, KafkaError};
pub use exclusive::ExclusiveWriter;
pub use group::{Assigned, BURST, GroupConsumer, GroupProtocol, HandlerError, Log, RecordHandler};
pub use lost::has_lost_brokers;
pub use murmur2::partition_of;
pub use producer::{Delivery, Outgoing, Producer, ProducerKind, Tracker};
pub use reader::{Position, Reader};
pub use record::{Headers, Record, TopicPartition};
pub use topology::{Change, Plan, TopicFile, load_topic_files, plan};
pub use whole::WholeTopic;

/// Header names that are not ours to choose.
pub mod headers {
    /// Opaque bytes that a reply echoes (Spring's `ReplyingKafkaTemplate`).
    pub const CORRELATION_ID: &str = "kafka_correlationId";
    /// UTF-8 name of the topic a reply goes to.
    pub const REPLY_TOPIC: &str = "kafka_replyTopic";
    /// Partition a reply goes to: 4-byte big-endian integer.
    pub const REPLY_PARTITION: &str = "kafka_replyPartition";
    /// Epoch milliseconds, UTF-8 decimal, after which nobody waits for the reply.
    pub const DEADLINE: &str = "deadline";
    /// `topic-partition@offset,…`: the positions of the client's own last events.
    pub const AFTER: &str = "after";
    /// Kafka Connect's dead-letter headers, all UTF-8.
    pub const ERROR_PREFIX: &str = "__connect.errors.";
}

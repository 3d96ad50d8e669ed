//! Where a reply goes, and sending it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Config;
use crate::event::{Encoding, Reply, encode_reply};
use crate::kafka::{Delivery, Headers, KafkaError, Outgoing, Producer, Record, headers};

/// How a client wants to be answered.
#[derive(Clone, Debug)]
pub struct ReturnAddress {
    pub topic: String,
    pub partition: Option<i32>,
    pub correlation: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
    pub encoding: Encoding,
}

/// Reply topics whose size is remembered. More would be a client that invents names.
const KNOWN_TOPICS: usize = 1_000;

/// The reply topics that were found to exist, and their numbers of partitions. An answer sent
/// to one that does not exist would be silence.
#[derive(Default)]
pub struct KnownTopics {
    partitions: HashMap<String, i32>,
}

impl KnownTopics {
    /// Checks that an address exists; `ask` tells a topic's number of partitions. Where nobody
    /// can tell, it is taken to.
    pub fn check(
        &mut self,
        address: &ReturnAddress,
        ask: impl FnOnce(&str) -> Result<i32, KafkaError>,
    ) -> Result<(), String> {
        let wanted = address.partition.unwrap_or(0);
        if self.partitions.get(&address.topic).is_some_and(|count| wanted < *count) {
            return Ok(());
        }
        let Ok(count) = ask(&address.topic) else { return Ok(()) };
        if count == 0 {
            return Err(format!("reply topic {:?} does not exist", address.topic));
        }
        if self.partitions.len() >= KNOWN_TOPICS {
            self.partitions.clear();
        }
        self.partitions.insert(address.topic.clone(), count);
        if wanted >= count {
            return Err(format!(
                "header {} is {wanted}; {} has {count} partitions",
                headers::REPLY_PARTITION,
                address.topic
            ));
        }
        Ok(())
    }
}

/// Reads the reply headers of a request. Where they are refused, the answer goes to the default
/// topic and says so.
pub fn return_address(
    record: &Record<'_>,
    encoding: Encoding,
    config: &Config,
) -> (ReturnAddress, Result<(), String>) {
    let mut address = ReturnAddress {
        topic: config.topics.replies(),
        partition: None,
        correlation: record.header(headers::CORRELATION_ID).map(<[u8]>::to_vec),
        key: record.key().map(<[u8]>::to_vec),
        encoding,
    };
    let checked = apply_headers(record, config, &mut address);
    (address, checked)
}

fn apply_headers(
    record: &Record<'_>,
    config: &Config,
    address: &mut ReturnAddress,
) -> Result<(), String> {
    let Some(topic) = record.header(headers::REPLY_TOPIC) else { return Ok(()) };
    let topic = std::str::from_utf8(topic)
        .map_err(|_| format!("header {} is not UTF-8", headers::REPLY_TOPIC))?;
    // A topic named by a client is a way to inject records anywhere: only these are allowed.
    let allowed = topic
        .strip_prefix(&config.topics.prefix)
        .is_some_and(|name| config.serving.reply_topics.iter().any(|p| matches(p, name)));
    if !allowed {
        return Err(format!(
            "reply topic {topic:?} is not among serving.reply_topics ({})",
            config.serving.reply_topics.join(", ")
        ));
    }
    if let Some(bytes) = record.header(headers::REPLY_PARTITION) {
        let bytes: [u8; 4] = bytes.try_into().map_err(|_| {
            format!("header {} is no 4-byte big-endian integer", headers::REPLY_PARTITION)
        })?;
        let partition = i32::from_be_bytes(bytes);
        if partition < 0 {
            return Err(format!("header {} is {partition}", headers::REPLY_PARTITION));
        }
        address.partition = Some(partition);
    }
    address.topic = topic.to_owned();
    Ok(())
}

/// Whether `name` fits `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|&i| tail.is_char_boundary(i))
                .any(|i| matches(rest, &tail[i..]))
        }),
    }
}

/// Sends a reply; `done` hears when nothing more can happen to it.
pub fn send(
    producer: &Arc<Producer>,
    address: &ReturnAddress,
    reply: &Reply,
    done: impl FnOnce() + Send + Sync + 'static,
) {
    let value = match encode_reply(reply, address.encoding) {
        Ok(value) => value,
        Err(error) => {
            tracing::error!(%error, "a reply could not be encoded");
            return done();
        }
    };
    let mut reply_headers: Headers = Vec::with_capacity(2);
    if let Some(id) = &address.correlation {
        reply_headers.push((headers::CORRELATION_ID.into(), Some(id.clone())));
    }
    if let Some(partition) = address.partition {
        let bytes = partition.to_be_bytes().to_vec();
        reply_headers.push((headers::REPLY_PARTITION.into(), Some(bytes)));
    }
    let outgoing = Outgoing {
        topic: &address.topic,
        partition: address.partition,
        key: address.key.as_deref(),
        value: &value,
        headers: reply_headers,
        ..Outgoing::default()
    };
    let topic = address.topic.clone();
    let delivery = Delivery::Call(Box::new(move |result| {
        if let Err(error) = result {
            tracing::warn!(error, topic, "a reply was not delivered");
        }
        done();
    }));
    // A record that the client refuses at once ends its delivery as well: `done` is called.
    if let Err(error) = producer.send(&outgoing, delivery) {
        tracing::warn!(%error, "a reply was not sent");
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        assert!(matches("replies-*", "replies-app1"));
        assert!(matches("replies-*", "replies-"));
        assert!(matches("*", "anything"));
        assert!(matches("a*c*e", "abcde"));
        assert!(!matches("replies", "replies2"));
        assert!(!matches("replies-*", "xreplies-1"));
        assert!(!matches("a.c", "abc"));
    }
}

//! What commands ask of the cluster before they start, with answers that say what to do.

use super::Failure;
use crate::config::Config;
use crate::kafka::{Admin, TopicMetadata};

/// Connects, and looks which topics there are.
///
/// # Errors
/// Where no broker answers.
pub fn connect(config: &Config) -> Result<(Admin, Vec<TopicMetadata>), Failure> {
    let admin = Admin::new(&config.kafka.client())?;
    let topics = admin.topics().map_err(|error| {
        format!(
            "no broker answers at {}: start one, or name yours with --bootstrap HOST:PORT \
             ({error})",
            config.kafka.bootstrap
        )
    })?;
    Ok((admin, topics))
}

/// The topics of these names, in this order.
///
/// # Errors
/// Where one is missing.
pub fn require(topics: &[TopicMetadata], names: &[&str]) -> Result<Vec<TopicMetadata>, Failure> {
    names
        .iter()
        .map(|name| {
            topics.iter().find(|t| t.name == *name).cloned().ok_or_else(|| {
                format!("topic {name} does not exist: run `driftline topics apply` first").into()
            })
        })
        .collect()
}

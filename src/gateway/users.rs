//! `GET /api/users`: a few users of whom something was heard lately, to try lists with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::State;
use super::answer::{Refusal, as_json};
use super::auth::Deed;
use crate::config::Config;
use crate::kafka::{KafkaError, Position, Reader, TopicPartition};

/// How many are named.
const NAMED: usize = 12;
/// Newest records that are looked at, over all partitions.
const LOOKED_AT: i64 = 240;
/// How long they may take to come.
const LIMIT: Duration = Duration::from_millis(1_500);
/// How long what was found stays true.
const FRESH: Duration = Duration::from_secs(5);

/// Who was found, and when.
type Found = Option<(Instant, Vec<String>)>;

/// Who was found last. One look at a time.
#[derive(Default)]
pub struct Lately(Arc<Mutex<Found>>);

/// Names them, the busiest first.
pub async fn list(shared: State, headers: HeaderMap) -> Result<Response, Refusal> {
    shared.keeper.admit(Deed::Ask, &headers)?;
    shared.live.check_broker()?;
    let (lately, config) = (Arc::clone(&shared.users.0), shared.config.clone());
    let found = tokio::task::spawn_blocking(move || {
        let mut known = lately.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, users)) = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(users.clone());
        }
        let users = look(&config)?;
        *known = Some((Instant::now(), users.clone()));
        Ok::<_, KafkaError>(users)
    });
    let users = found.await.map_err(|error| Refusal::internal(error.to_string()))?;
    let users = users.map_err(|error| Refusal::unavailable(error.to_string()))?;
    Ok(as_json(StatusCode::OK, &json!({ "users": users })))
}

/// Keys of the newest watch events.
fn look(config: &Config) -> Result<Vec<String>, KafkaError> {
    let topic = config.topics.watch_events();
    let reader = Reader::new(&config.kafka.client(), "driftline-gateway", "driftline-gateway")?;
    let count = reader.partitions(&topic)?;
    let each = (LOOKED_AT / i64::from(count.max(1))).max(1);
    let mut left = 0;
    for partition in 0..count {
        let tp = TopicPartition { topic: topic.clone(), partition };
        let (low, high) = reader.bounds(&tp)?;
        let from = (high - each).max(low);
        left += high - from;
        if high > from {
            reader.add(&tp, Position::At(from))?;
        }
    }
    let until = Instant::now() + LIMIT;
    let mut users: Vec<(String, u32)> = Vec::new();
    while left > 0 && Instant::now() < until {
        let Some(record) = reader.poll(Duration::from_millis(50)) else { continue };
        left -= 1;
        let Some(user) = record.key().and_then(|key| std::str::from_utf8(key).ok()) else {
            continue;
        };
        match users.iter_mut().find(|(known, _)| known == user) {
            Some((_, events)) => *events += 1,
            None => users.push((user.to_owned(), 1)),
        }
    }
    users.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    users.truncate(NAMED);
    Ok(users.into_iter().map(|(user, _)| user).collect())
}

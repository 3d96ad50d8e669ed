//! `POST /api/actions/{name}`: what the page's buttons do. Each is also a command.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::State;
use super::answer::{Refusal, as_json, object};
use super::auth::Deed;
use crate::config::Config;
use crate::kafka::{Delivery, Outgoing, Producer, Tracker};
use crate::monitor::encode_and_send;
use crate::time::{EventTime, wall_now};
use crate::trigger;

/// Longest reason, in bytes: a sentence or two.
const MAX_REASON_BYTES: usize = 500;

/// What can be started, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Asks for a new model.
    Retrain,
    /// Lets a simulated world's people turn to other things.
    TasteShift,
}

impl Action {
    const ALL: [Self; 2] = [Self::Retrain, Self::TasteShift];

    fn name(self) -> &'static str {
        match self {
            Self::Retrain => "retrain",
            Self::TasteShift => "taste-shift",
        }
    }

    /// Whether this installation has it.
    fn is_there(self, config: &Config) -> bool {
        match self {
            Self::Retrain => true,
            Self::TasteShift => !config.gateway.simulation_topic.is_empty(),
        }
    }
}

/// Names of what can be started here.
pub fn names(config: &Config) -> Vec<&'static str> {
    Action::ALL.into_iter().filter(|a| a.is_there(config)).map(Action::name).collect()
}

/// Starts an action: 202 once it is on its topic.
pub async fn start(
    shared: State,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let mut there = Action::ALL.into_iter().filter(|action| action.is_there(&shared.config));
    let Some(action) = there.find(|action| action.name() == name) else {
        let known = names(&shared.config).join(", ");
        return Err(Refusal::not_found(format!("there is no action {name} here: {known}")));
    };
    shared.keeper.admit(Deed::Change, &headers)?;
    let wish = object(&headers, body)?;
    shared.live.check_broker()?;
    let (config, clients) = (shared.config.clone(), shared.link.clients()?);
    let limit = Duration::from_millis(config.gateway.deadline_ms);
    let done = tokio::task::spawn_blocking(move || match action {
        Action::Retrain => retrain(&config, &clients.actions, &wish, limit),
        Action::TasteShift => taste_shift(&config, &clients.actions, wish, limit),
    });
    let told = done.await.map_err(|error| Refusal::internal(error.to_string()))??;
    Ok(as_json(StatusCode::ACCEPTED, &told))
}

fn retrain(
    config: &Config,
    producer: &Producer,
    wish: &Map<String, Value>,
    limit: Duration,
) -> Result<Value, Refusal> {
    let reason = wish.get("reason").and_then(Value::as_str).unwrap_or_default().trim();
    if reason.is_empty() || reason.len() > MAX_REASON_BYTES {
        let message = format!("say why: {{\"reason\": \"…\"}}, up to {MAX_REASON_BYTES} bytes");
        return Err(Refusal::bad(message));
    }
    let id = uuid::Uuid::new_v4().to_string();
    let now = EventTime::from_millis(wall_now());
    let trigger = trigger::manual(&config.monitor.model, reason, &id, now);
    let tracker = Arc::new(Tracker::default());
    encode_and_send(config, producer, &trigger, &tracker)
        .map_err(|error| Refusal::unavailable(error.to_string()))?;
    wait(&tracker, limit)?;
    Ok(json!({"action": "retrain", "event_id": trigger.event_id}))
}

/// Hands the wish on as it is, under the action's name: what it may say is the simulation's matter.
fn taste_shift(
    config: &Config,
    producer: &Producer,
    mut wish: Map<String, Value>,
    limit: Duration,
) -> Result<Value, Refusal> {
    let topic = config.topics.gateway_simulation(&config.gateway);
    let topic = topic.ok_or_else(|| Refusal::not_found("gateway.simulation_topic is empty"))?;
    wish.insert("action".into(), "taste-shift".into());
    let value = Value::Object(wish).to_string();
    let tracker = Arc::new(Tracker::default());
    let outgoing = Outgoing { topic: &topic, value: value.as_bytes(), ..Outgoing::default() };
    producer
        .send(&outgoing, Delivery::Tracked(Arc::clone(&tracker)))
        .map_err(|error| Refusal::unavailable(error.to_string()))?;
    wait(&tracker, limit)?;
    Ok(json!({"action": "taste-shift", "topic": topic}))
}

fn wait(tracker: &Tracker, limit: Duration) -> Result<(), Refusal> {
    tracker.wait(limit).map_err(Refusal::timeout)
}

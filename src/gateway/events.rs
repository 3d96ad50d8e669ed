//! `POST /v1/events/{watch,click,feedback}`: an event of the topic's schema in, its position out.

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
use super::link::Clients;
use crate::event::{EventTopic, Feedback, Rejection, Source, UserEvent, ValidityRules};
use crate::kafka::{Delivery, TopicPartition};
use crate::time::{EventTime, wall_now};

/// Takes an event: 202 once the brokers have it.
pub async fn send(
    shared: State,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let topic = match kind.as_str() {
        "watch" => EventTopic::Watch,
        "click" => EventTopic::Click,
        "feedback" => EventTopic::Feedback,
        _ => {
            let message =
                format!("there are no {kind} events: watch, click and feedback are taken");
            return Err(Refusal::not_found(message));
        }
    };
    shared.keeper.admit(Deed::Change, &headers)?;
    let object = object(&headers, body)?;
    let event = Event::of(topic, object, wall_now(), shared.config.events.max_ahead_ms)?;
    shared.live.check_broker()?;
    let limit = Duration::from_millis(shared.config.gateway.deadline_ms);
    let clients = shared.link.clients()?;
    let position = delivered(&clients, &event, limit).await?;
    let told = json!({"event_id": event.id, "position": position});
    Ok(as_json(StatusCode::ACCEPTED, &told))
}

/// An event that a worker will take.
#[derive(Debug)]
struct Event {
    topic: EventTopic,
    id: String,
    value: Vec<u8>,
    rules: ValidityRules,
}

/// What it is, read.
enum Read<'a> {
    User(UserEvent<'a>),
    Feedback(Feedback<'a>),
}

impl Event {
    /// Fills in id and time where they are missing, and validates as the worker will.
    fn of(
        topic: EventTopic,
        mut object: Map<String, Value>,
        now: i64,
        max_ahead_ms: i64,
    ) -> Result<Self, Refusal> {
        let mut fill = |field: &str, value: Value| {
            let given = object.entry(field).or_insert(Value::Null);
            if given.is_null() {
                *given = value;
            }
        };
        fill("event_id", uuid::Uuid::new_v4().to_string().into());
        fill("event_time", now.into());
        let id = object["event_id"].as_str().unwrap_or_default().to_owned();
        let rules = ValidityRules { appended: EventTime::from_millis(now), max_ahead_ms };
        let event = Self { topic, id, value: Value::Object(object).to_string().into(), rules };
        event.read()?;
        Ok(event)
    }

    fn read(&self) -> Result<Read<'_>, Rejection> {
        let user = |source| UserEvent::decode(source, &self.value, &self.rules).map(Read::User);
        match self.topic {
            EventTopic::Watch => user(Source::Watch),
            EventTopic::Click => user(Source::Click),
            EventTopic::Feedback => Feedback::decode(&self.value, &self.rules).map(Read::Feedback),
        }
    }
}

async fn delivered(clients: &Clients, event: &Event, limit: Duration) -> Result<String, Refusal> {
    let (answer, position) = tokio::sync::oneshot::channel();
    // Whoever sent it may be gone.
    let call = Box::new(move |result: Result<(i32, i64), String>| drop(answer.send(result)));
    match event.read()? {
        Read::User(user) => clients.events.send(&user, Delivery::Call(call))?,
        Read::Feedback(feedback) => {
            clients.events.send_feedback(&feedback, Delivery::Call(call))?
        }
    }
    let topic = clients.events.topic(event.topic).to_owned();
    match tokio::time::timeout(limit, position).await {
        Ok(Ok(Ok((partition, offset)))) => {
            Ok(format!("{}@{offset}", TopicPartition { topic, partition }))
        }
        Ok(Ok(Err(error))) => {
            Err(Refusal::unavailable(format!("the event was not taken: {error}")))
        }
        _ => Err(Refusal::timeout(
            "the brokers have not said that they have the event; it may still arrive. Send it again \
             with the same event_id: it counts once",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_750_000_000_000;

    fn taken(topic: EventTopic, value: Value) -> Result<Event, String> {
        let object = value.as_object().unwrap().clone();
        Event::of(topic, object, NOW, 1_000).map_err(|refusal| refusal.message)
    }

    #[test]
    fn an_event_without_id_and_time_is_one_of_now() {
        let event = taken(EventTopic::Click, json!({"user": "u", "item": "v"})).unwrap();
        assert!(!event.id.is_empty());
        let Ok(Read::User(read)) = event.read() else { unreachable!("a click") };
        assert_eq!((read.at.millis(), &*read.user, &*read.item), (NOW, "u", "v"));
        let own = json!({"user": "u", "item": "v", "event_id": "e", "event_time": NOW - 5});
        assert_eq!(taken(EventTopic::Click, own).unwrap().id, "e");
    }

    #[test]
    fn what_a_worker_would_refuse_is_refused_with_what_it_would_take() {
        for (topic, given, told) in [
            (EventTopic::Click, json!({"user": "u"}), "item is empty or missing"),
            (EventTopic::Watch, json!({"user": "u", "item": "v", "event_time": 7}), "milliseconds"),
            (
                EventTopic::Watch,
                json!({"user": "u", "item": "v", "event_time": NOW + 1_001}),
                "1000 ms are allowed",
            ),
            (EventTopic::Watch, json!({"user": "u", "item": "v", "watched_ms": -1}), "at least 0"),
            (
                EventTopic::Feedback,
                json!({"user": "u", "kind": "LIKED", "subject_kind": "ITEM", "subject": "v"}),
                "NOT_INTERESTED or UNDO",
            ),
            (EventTopic::Click, json!({"user": "u", "item": "v", "event_id": 7}), "a string"),
        ] {
            let said = taken(topic, given.clone()).err().unwrap_or_default();
            assert!(said.contains(told), "{given}: {said}");
        }
    }
}

//! `POST /v1/recommendations`: a request of the topic's schema in, its reply out.

use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::{Refusal, as_json, object};
use super::auth::Deed;
use super::{Shared, State};
use crate::client::Asking;
use crate::event::{Reply, Request, decode_request};
use crate::kafka::TopicPartition;
use crate::time::wall_now;

/// Positions that a request may name: one a partition of each topic of events, and more.
const MAX_AFTER: usize = 64;

/// Answers a call.
pub async fn ask(
    shared: State,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    shared.keeper.admit(Deed::Ask, &headers)?;
    let wish = Wish::of(object(&headers, body)?, shared.config.gateway.deadline_ms)?;
    shared.live.check_broker()?;
    let reply = answered(&shared, &wish).await?;
    Ok(match &reply.error {
        None => as_json(StatusCode::OK, &reply),
        Some(error) => Refusal::of_worker(error.kind, &error.message).into_response(),
    })
}

/// What a call asks for.
struct Wish {
    request: Request,
    after: Vec<(TopicPartition, i64)>,
    time: Duration,
}

impl Wish {
    /// A request of the schema, with `after` and `deadline_ms` beside it.
    fn of(mut object: Map<String, Value>, most_ms: u64) -> Result<Self, Refusal> {
        let after = match object.remove("after") {
            None | Some(Value::Null) => Vec::new(),
            Some(given) => positions(&given)?,
        };
        let time = match object.remove("deadline_ms") {
            None | Some(Value::Null) => most_ms,
            Some(given) => {
                given.as_u64().filter(|ms| (1..=most_ms).contains(ms)).ok_or_else(|| {
                    Refusal::bad(format!(
                        "deadline_ms is {given}; it counts milliseconds from now, 1 to {most_ms} \
                     (gateway.deadline_ms)"
                    ))
                })?
            }
        };
        let bytes = Value::Object(object).to_string();
        let (_, request) = decode_request(bytes.as_bytes());
        Ok(Self { request: request?, after, time: Duration::from_millis(time) })
    }
}

/// `["topic-partition@offset", …]`, as events are answered.
fn positions(given: &Value) -> Result<Vec<(TopicPartition, i64)>, Refusal> {
    let wrong = || {
        Refusal::bad(format!(
            "after is a list of at most {MAX_AFTER} positions \"topic-partition@offset\", as \
             /v1/events answers them"
        ))
    };
    let list = given.as_array().filter(|list| list.len() <= MAX_AFTER).ok_or_else(wrong)?;
    let all = list.iter().map(|text| TopicPartition::at(text.as_str()?));
    all.collect::<Option<_>>().ok_or_else(wrong)
}

async fn answered(shared: &Shared, wish: &Wish) -> Result<Reply, Refusal> {
    let clients = shared.link.clients()?;
    let limit = i64::try_from(wish.time.as_millis()).unwrap_or(i64::MAX);
    let deadline_ms = Some(wall_now().saturating_add(limit));
    let asking = Asking { deadline_ms, after: wish.after.clone() };
    let (answer, reply) = tokio::sync::oneshot::channel();
    // Whoever asked may be gone.
    let on_reply = move |reply| drop(answer.send(reply));
    let asked = clients.asking.send_with(&wish.request, &asking, on_reply)?;
    let waiting = Forget { clients: &clients, asked };
    let reply = tokio::time::timeout(wish.time, reply).await;
    drop(waiting);
    match reply {
        Ok(Ok(reply)) => Ok(reply),
        _ => Err(Refusal::timeout(format!(
            "no worker answered within {} ms: is one running? `driftline doctor` looks",
            wish.time.as_millis()
        ))),
    }
}

/// Nobody waits any more, also where the call was given up in between.
struct Forget<'a> {
    clients: &'a super::link::Clients,
    asked: crate::client::Asked,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.clients.asking.forget(self.asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wish(value: Value) -> Result<Wish, String> {
        let object = value.as_object().unwrap().clone();
        Wish::of(object, 5_000).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_wish_is_a_request_with_positions_and_a_time_beside_it() {
        let told = wish(json!({"user": "u", "count": 3, "after": ["a.watch-events-2@17"],
            "deadline_ms": 200}));
        let told = told.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((told.request.user.as_str(), told.request.count), ("u", 3));
        assert_eq!(told.time, Duration::from_millis(200));
        let (tp, offset) = &told.after[0];
        assert_eq!((tp.topic.as_str(), tp.partition, *offset), ("a.watch-events", 2, 17));
        assert_eq!(wish(json!({"user": "u"})).map(|w| w.time.as_millis()), Ok(5_000));
    }

    #[test]
    fn what_cannot_be_a_request_is_refused_with_what_would_be() {
        for (given, told) in [
            (json!({}), "name the user"),
            (json!({"user": "u", "count": 0}), "it must be 1 to 500"),
            (json!({"user": "u", "after": "watch-events-0@1"}), "list of at most 64"),
            (json!({"user": "u", "after": ["watch-events@1"]}), "topic-partition@offset"),
            (json!({"user": "u", "after": ["watch-events-0@-1"]}), "topic-partition@offset"),
            (json!({"user": "u", "deadline_ms": 5_001}), "1 to 5000"),
            (json!({"user": "u", "deadline_ms": "soon"}), "1 to 5000"),
            (json!({"user": 7}), "expected a string"),
        ] {
            let said = wish(given.clone()).err().unwrap_or_default();
            assert!(said.contains(told), "{given}: {said}");
        }
    }
}

//! One real request: does a worker answer, how fast, and do the clocks agree?

use std::time::{Duration, Instant};

use super::Report;
use crate::cli::Failure;
use crate::client::{Asking, ClientError, RequestClient};
use crate::config::Config;
use crate::event::{Reply, Request, decode_request};
use crate::ids::UserId;
use crate::kafka::{Position, Reader, TopicPartition};
use crate::time::wall_now;

/// The user asked for. Nobody's, so that the answer stands for nobody.
const USER: &str = "driftline-doctor";
/// What the request may take: a worker that is well takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(2);
/// How far the broker's clock may be from ours, in milliseconds. Deadlines of requests are
/// compared with the worker's clock; typical ones are a few hundred milliseconds away.
const CLOCK_LIMIT_MS: i64 = 250;

/// Sends the request and tells what came of it.
pub fn check(report: &mut Report, config: &Config) -> Result<(), Failure> {
    let client = RequestClient::connect(config)?;
    let request = Request::new(uuid::Uuid::new_v4().to_string(), UserId::from(USER), 1);
    let partition = client.shard_of(USER);
    let tp = TopicPartition { topic: config.topics.requests(), partition };
    // The broker's time is read off the request itself, so that nothing else need be written.
    let reader = Reader::new(&config.kafka.client(), "driftline-tools", "driftline-doctor")?;
    let (_, end) = reader.bounds(&tp)?;
    reader.add(&tp, Position::At(end))?;

    let asking = Asking {
        deadline_ms: Some(wall_now() + i64::try_from(DEADLINE.as_millis()).unwrap_or(i64::MAX)),
        after: Vec::new(),
    };
    let (sent, begun) = (wall_now(), Instant::now());
    let answer = client.ask(&request, &asking, DEADLINE);
    let took = begun.elapsed();
    let answered = answer.is_ok();
    match answer {
        Ok(reply) => tell_reply(report, &reply, took),
        Err(ClientError::NoReply(_)) => report.bad(
            "worker",
            format!("no answer within {DEADLINE:?}"),
            "start one with `driftline worker`, or look at the logs of those that run",
        ),
        Err(error) => return Err(error.into()),
    }
    let Some(appended) = append_time(&reader, &request.request_id) else {
        report.bad(
            "clocks",
            format!("the request did not come back out of {tp}"),
            "look at the broker's log",
        );
        return Ok(());
    };
    // Without an answer, the request was read back some time before now.
    let until = if answered { sent + elapsed_ms(took) } else { wall_now() };
    let apart = apart(sent, until, appended);
    let what = format!("the broker's clock is within {} ms of this machine's", apart.abs().max(1));
    if apart.abs() <= CLOCK_LIMIT_MS {
        report.good("clocks", what);
    } else {
        let direction = if apart > 0 { "ahead of" } else { "behind" };
        report.bad(
            "clocks",
            format!("the broker's clock is {} ms {direction} this machine's", apart.abs()),
            "let NTP set both: deadlines of requests are in wall time",
        );
    }
    Ok(())
}

fn tell_reply(report: &mut Report, reply: &Reply, took: Duration) {
    let ms = took.as_secs_f64() * 1_000.0;
    if let Some(error) = &reply.error {
        report.bad(
            "worker",
            format!("answered with {}: {}", error.kind.name(), error.message),
            "a worker that has just started restores its shards first; else look at its log",
        );
        return;
    }
    let in_worker = reply.took_us as f64 / 1_000.0;
    let mut what = format!(
        "answered in {ms:.1} ms, {in_worker:.1} ms of them in the worker; model {}",
        reply.model_version
    );
    for degraded in &reply.degraded {
        what += &format!("; without {}: {}", degraded.part, degraded.reason);
    }
    report.good("worker", what);
}

/// When the broker appended the request of this id.
fn append_time(reader: &Reader, request_id: &str) -> Option<i64> {
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        let Some(record) = reader.poll(Duration::from_millis(50)) else { continue };
        let (_, request) = decode_request(record.value());
        if request.is_ok_and(|request| request.request_id == request_id) {
            return Some(record.timestamp_ms());
        }
    }
    None
}

fn elapsed_ms(took: Duration) -> i64 {
    i64::try_from(took.as_millis()).unwrap_or(i64::MAX)
}

/// By how many milliseconds the broker's clock is surely ahead (positive) or behind, if it
/// appended at `appended` what we sent at `sent` and had back at `until`.
fn apart(sent: i64, until: i64, appended: i64) -> i64 {
    if appended < sent { appended - sent } else { (appended - until).max(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_apart_only_where_the_order_of_events_says_so() {
        assert_eq!(apart(1_000, 1_010, 1_005), 0);
        assert_eq!(apart(1_000, 1_010, 1_310), 300);
        assert_eq!(apart(1_000, 1_010, 400), -600);
    }
}

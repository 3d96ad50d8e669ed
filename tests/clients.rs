//! Clients that are not ours: kcat, and a Python program over confluent-kafka.

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::events::Event;
use common::eventually;
use common::installation::Installation;
use common::requests::{CORRELATION, Client};
use serde_json::{Value, json};

/// Sends one line through kcat, without a key.
fn kcat(site: &Installation, topic: &str, headers: &[&str], line: &str) {
    let mut command = Command::new("kcat");
    command.args(["-P", "-q", "-b", &site.kafka.bootstrap, "-t", &site.topic(topic)]);
    headers.iter().for_each(|header| {
        command.args(["-H", header]);
    });
    let mut child = command.stdin(Stdio::piped()).spawn().expect("kcat runs");
    writeln!(child.stdin.take().expect("its input"), "{line}").expect("kcat reads");
    assert!(child.wait().expect("kcat ends").success());
}

fn is_there(program: &str) -> bool {
    let found =
        Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found.is_ok()
}

#[test]
fn lines_of_json_through_kcat_are_a_complete_client() {
    if !is_there("kcat") {
        return;
    }
    let site = Installation::new("kcat", &[]);
    let mut worker = site.ready_worker("a");
    let client = Client::new(&site);
    for number in 0..5 {
        let event = Event::watch("alice", &format!("film-{number}")).lasting(180_000, 600_000);
        kcat(&site, "watch-events", &[], &event.to_json().to_string());
    }
    site.wait_folded(&mut worker);
    assert_eq!(site.dump(&worker.data_dir)["alice"]["watches"], 5, "rerouted to their shard");
    assert!(site.dead_letters().is_empty());
    let correlation = format!("{CORRELATION}=from the shell");
    kcat(&site, "recommendation-requests", &[&correlation], r#"{"user":"alice","count":3}"#);
    let answer = client.reply(b"from the shell");
    assert_eq!(answer.error(), "");
    assert_eq!(answer.items().len(), 3);
    let value = answer.record.value.expect("a value");
    assert_eq!(value[0], b'{', "who asks in JSON is answered in JSON");
}

const PROGRAM: &str = r#"
import json, struct, sys, time, uuid
from confluent_kafka import Consumer, Producer, TopicPartition

bootstrap, prefix, events = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
positions = []
def delivered(error, message):
    assert error is None, error
    positions.append(f"{message.topic()}-{message.partition()}@{message.offset()}")
for event in events:
    producer.produce(prefix + "watch-events", key=event["user"], value=json.dumps(event),
                     headers={"ce_id": event["event_id"], "ce_specversion": "1.0"},
                     on_delivery=delivered)
producer.flush(60)

replies = prefix + "recommendation-replies"
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "python",
                     "auto.offset.reset": "earliest", "enable.auto.commit": False})
consumer.assign([TopicPartition(replies, 1, 0)])
correlation = uuid.uuid4().bytes
producer.produce(prefix + "recommendation-requests", key=events[0]["user"],
                 value=json.dumps({"user": events[0]["user"], "count": 2}),
                 headers={"kafka_correlationId": correlation, "kafka_replyTopic": replies,
                          "kafka_replyPartition": struct.pack(">i", 1),
                          "deadline": str(int(time.time() * 1000) + 60_000),
                          "after": ",".join(positions)})
producer.flush(60)
until = time.time() + 60
while time.time() < until:
    message = consumer.poll(1)
    if message is None or message.error():
        continue
    if dict(message.headers())["kafka_correlationId"] == correlation:
        print(message.value().decode())
        sys.exit()
sys.exit("silence")
"#;

#[test]
fn a_python_program_watches_asks_and_reads_its_own_writes() {
    let Some(python) = common::python::with("confluent-kafka", "confluent_kafka") else { return };
    let site = Installation::new("python", &[]);
    let _worker = site.ready_worker("a");
    let events: Vec<Value> = (0..3)
        .map(|n| Event::watch("bob", &format!("film-{n}")).lasting(180_000, 600_000).to_json())
        .collect();
    let output = Command::new(python)
        .args(["-c", PROGRAM, &site.kafka.bootstrap, &site.prefix, &json!(events).to_string()])
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let reply: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(reply["after"], "SATISFIED");
    assert_eq!(reply["user"], "bob");
    let items: Vec<_> = reply["items"].as_array().expect("items").iter().collect();
    assert_eq!(items.len(), 2);
    assert!(items.iter().all(|i| i["item"].as_str().expect("an item").starts_with("film-")));
}

#[test]
fn a_client_that_partitions_in_another_way_is_served_all_the_same() {
    let site = Installation::new("partitioner", &[]);
    let mut worker = site.ready_worker("a");
    let other =
        common::kafka::Kafka::with(&site.kafka.bootstrap, &[("partitioner", "consistent_random")]);
    let events: Vec<Event> =
        (0..400).map(|n| Event::watch(&format!("u{}", n % 40), &format!("i{n}"))).collect();
    other.deliver(&events.iter().map(|e| site.out(e)).collect::<Vec<_>>());
    eventually("all are folded", || {
        (worker.metric("driftline_events_folded_total") >= 400.0).then_some(())
    });
    assert!(worker.metric("driftline_records_rerouted_total") > 0.0);
    site.wait_folded(&mut worker);
    let expected = common::oracle::fold(&events, common::oracle::DEFAULT_RULES);
    common::oracle::assert_same(&site.dump(&worker.data_dir), &expected);
}

//! The hot tier on a real Redis: what is written there, who is answered from it, and that nothing
//! depends on it.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::dice::Dice;
use common::events::{Event, SECOND, Stream};
use common::eventually;
use common::installation::Installation;
use common::kafka::{Kafka, Out};
use common::load;
use common::oracle::{self, DEFAULT_RULES};
use common::redis::{PASSWORD, Redis};
use common::requests::{Answer, Ask, Client};
use driftline::feature::FoldRules;
use driftline::state::hot::{HotConnection, HotIdentity, HotServer, HotValue, Put, Version};
use serde_json::Value;

/// Streams of events go back by two months.
const LONG: (&str, &str) = ("hot.ttl_seconds", "31536000");

fn hot(site: &Installation, user: &str) -> Option<Value> {
    let output = site.run(&["state", "get", user, "--hot", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        assert!(said.contains(&format!("no user {user} in the hot tier")), "{said}");
        return None;
    }
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn clicks(user: &Value) -> Vec<&str> {
    let all = user["recent_clicks"].as_array().expect("clicks");
    all.iter().map(|c| c["item"].as_str().expect("an item")).collect()
}

#[test]
fn what_a_user_does_is_in_redis_soon_over_tls_with_a_password_that_nobody_sees() {
    let redis = Redis::start_secure("through");
    let settings = [
        ("hot.address", redis.server.address.as_str()),
        ("hot.tls", "true"),
        ("hot.tls_ca", &redis.server.authority()),
        ("hot.password", PASSWORD),
        ("hot.prefix", "there:"),
        ("hot.ttl_seconds", "5000"),
    ];
    let site = Installation::new("hot-through", &settings);
    let mut worker = site.ready_worker("a");
    let old = common::now_ms() - 10_000 * SECOND;
    site.deliver(&[
        Event::click("alice", "v1"),
        Event::watch("bob", "v2"),
        Event::click("carol", "v3").at(old),
    ]);
    let alice = eventually("alice is in Redis", || hot(&site, "alice"));
    assert_eq!(clicks(&alice), ["v1"]);
    site.deliver(&[Event::click("alice", "v4")]);
    eventually("so is her second click", || {
        hot(&site, "alice").filter(|user| clicks(user) == ["v1", "v4"])
    });
    eventually("bob is in Redis", || hot(&site, "bob"));
    assert!(hot(&site, "carol").is_none(), "she has not been active for longer than values stay");
    let ttl: i64 = redis.run(&["TTL", "there:user:alice"]).parse().expect("seconds");
    assert!((1..=5_000).contains(&ttl), "{ttl}");
    site.wait_folded(&mut worker);

    let shown = site.expect_ok(&["config", "show"]);
    assert!(shown.contains("hot.password") || shown.contains("[hot]"), "{shown}");
    assert!(!shown.contains(PASSWORD) && !worker.log_text().contains(PASSWORD));
    worker.drain();

    let stored = site.run_over(&site.data_dir("a"), &["state", "get", "alice", "--json"]);
    let stored: Value = serde_json::from_slice(&stored.stdout).expect("JSON");
    let there = hot(&site, "alice").expect("it stays when the worker leaves");
    for (key, value) in stored.as_object().expect("a user") {
        assert_eq!(&there[key], value, "{key}");
    }
    let wrong = site.run(&["state", "get", "alice", "--hot", "--set", "hot.password=wrong"]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        !wrong.status.success() && said.contains("check hot.username and hot.password"),
        "{said}"
    );
    let other = site.run(&["state", "get", "alice", "--hot", "--set", "hot.tls_ca=/dev/null"]);
    assert!(!other.status.success(), "its authority is not known");
}

#[test]
fn a_redis_that_hangs_in_a_tls_handshake_delays_no_answer_and_no_shutdown_and_heals() {
    let redis = Redis::start_secure("handshake");
    let settings = [
        ("hot.address", redis.server.address.as_str()),
        ("hot.tls", "true"),
        ("hot.tls_ca", &redis.server.authority()),
        ("hot.password", PASSWORD),
    ];
    let site = Installation::new("hot-handshake", &settings);
    let client = Client::new(&site);
    let worker = site.ready_worker("a");
    site.deliver(&[Event::click("alice", "v1")]);
    eventually("alice is in Redis", || hot(&site, "alice"));
    let hangs = |item: &str| {
        // Who has not connected yet when it begins to hang does not meet an error: they wait.
        eventually("both threads are connected", || {
            let clients = redis.run(&["CLIENT", "LIST"]);
            ["cmd=ping", "cmd=evalsha"].iter().all(|last| clients.contains(last)).then_some(())
        });
        let failed = worker.metric("driftline_hot_errors_total");
        redis.pause();
        site.deliver(&[Event::click("alice", item)]);
        // Once by each thread, which then connect again.
        eventually("it is found to hang", || {
            (worker.metric("driftline_hot_errors_total") >= failed + 2.0).then_some(())
        });
        assert_eq!(client.ask(&Ask::of("alice")).error(), "");
    };
    hangs("v2");
    redis.server.start();
    eventually("the click is in Redis", || {
        hot(&site, "alice").filter(|user| clicks(user) == ["v1", "v2"])
    });
    hangs("v3");
    worker.drain();
}

fn connect(redis: &Redis) -> HotConnection {
    let (host, port) = redis.server.address.split_once(':').expect("host:port");
    let server = HotServer {
        host: host.into(),
        port: port.parse().expect("a port"),
        username: String::new(),
        password: String::new(),
        database: 0,
        tls: None,
        prefix: "p:".into(),
        ttl: Duration::from_secs(1_000),
    };
    HotConnection::open(&server, common::PATIENCE, common::PATIENCE).expect("a connection")
}

fn identity(name: &str) -> HotIdentity {
    HotIdentity::of(name, &FoldRules::default())
}

fn value(from: &str, offsets: [i64; 3], state: &[u8]) -> Vec<u8> {
    let version = Version::new(|topic| offsets[topic as usize]);
    HotValue { identity: identity(from), version, shard: 1, state }.encode()
}

#[test]
fn of_two_values_the_one_that_is_older_in_a_topic_never_wins_whatever_the_order() {
    let mut dice = Dice::printed("hot-order");
    let redis = Redis::start_new("order");
    let mut connection = connect(&redis);
    let mut naive: BTreeMap<String, ([i64; 3], Vec<u8>)> = BTreeMap::new();
    // Offsets on both sides of 32 bits, where a script could cut them.
    let near = [0, 255, (1 << 32) - 2, 1 << 48];
    for round in 0..300 {
        if dice.one_in(40) {
            // It forgets its scripts, values stay.
            redis.run(&["SCRIPT", "FLUSH"]);
        }
        if dice.one_in(60) {
            redis.run(&["FLUSHALL"]);
            naive.clear();
        }
        let mut expected = Vec::new();
        let batch: Vec<(String, Vec<u8>)> = (0..1 + dice.below(20))
            .map(|n| {
                let user = format!("u{}", dice.below(8));
                let base = *dice.pick(&near);
                let offsets = [(); 3].map(|()| base + dice.between(0, 4));
                let bytes = value("a", offsets, format!("{round}-{n}").as_bytes());
                let newer = |there: &[i64; 3]| there.iter().zip(&offsets).any(|(t, o)| t > o);
                let stays = naive.get(&user).is_some_and(|(there, _)| newer(there));
                expected.push(!stays);
                if !stays {
                    naive.insert(user.clone(), (offsets, bytes.clone()));
                }
                (user, bytes)
            })
            .collect();
        let borrowed: Vec<_> = batch.iter().map(|(u, v)| (u.as_str(), v.clone())).collect();
        let outcomes = connection.put(&borrowed).expect("written");
        let written: Vec<_> = outcomes.iter().map(|o| matches!(o, Put::Written)).collect();
        assert_eq!(written, expected);
        assert!(outcomes.iter().all(|o| !matches!(o, Put::Refused(_))));
        for (user, (_, bytes)) in &naive {
            assert_eq!(connection.get(&[user]).expect("read")[0].as_ref(), Some(bytes));
        }
    }
}

#[test]
fn writers_at_the_same_time_leave_the_newest_and_no_reader_sees_time_run_backwards() {
    const USERS: u64 = 5;
    const NEWEST: i64 = 400;
    let dice = Dice::printed("hot-race");
    let redis = Redis::start_new("race");
    std::thread::scope(|scope| {
        for writer in 0..4_u64 {
            let (mut connection, mut dice) =
                (connect(&redis), Dice::of(dice.clone().next() + writer));
            scope.spawn(move || {
                let mut all: Vec<(String, i64)> = (0..USERS)
                    .flat_map(|u| (1..=NEWEST).map(move |v| (format!("u{u}"), v)))
                    .collect();
                dice.shuffle(&mut all);
                for some in all.chunks(7) {
                    let batch: Vec<_> = some
                        .iter()
                        .map(|(u, v)| (u.as_str(), value("a", [*v, 2 * v, 3 * v], b"s")))
                        .collect();
                    connection.put(&batch).expect("written");
                }
            });
        }
        let mut connection = connect(&redis);
        scope.spawn(move || {
            let users: Vec<String> = (0..USERS).map(|u| format!("u{u}")).collect();
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            let mut seen = [0; USERS as usize];
            while seen.iter().any(|version| *version < NEWEST) {
                for (user, bytes) in connection.get(&users).expect("read").iter().enumerate() {
                    let Some(bytes) = bytes else { continue };
                    let version = HotValue::decode(bytes).expect("whole").version;
                    assert!(version.watch >= seen[user], "{} after {}", version.watch, seen[user]);
                    seen[user] = version.watch;
                }
            }
        });
    });
}

#[test]
fn a_value_of_another_log_or_that_is_none_of_ours_is_overwritten() {
    let redis = Redis::start_new("foreign");
    let mut connection = connect(&redis);
    let mut put = |user: &str, bytes: Vec<u8>| {
        let outcome = connection.put(&[(user, bytes)]).expect("asked").pop();
        matches!(outcome, Some(Put::Written))
    };
    assert!(put("u", value("a", [100, 100, 100], b"s")));
    assert!(!put("u", value("a", [99, 200, 200], b"s")));
    assert!(put("u", value("b", [1; 3], b"s")), "a log of its own");
    redis.run(&["SET", "p:user:cut", "x"]);
    assert!(put("cut", value("a", [1; 3], b"s")));
    redis.run(&["LPUSH", "p:user:list", "x"]);
    assert!(put("list", value("a", [1; 3], b"s")), "of another type");
}

/// Why a user's state is not all there.
fn reason(answer: &Answer) -> String {
    let all = answer.body["degraded"].as_array().expect("degradations");
    let of_state = all.iter().filter(|d| d["part"] == "user_state");
    let reasons: Vec<_> = of_state.map(|d| d["reason"].as_str().expect("a reason")).collect();
    reasons.join("; ")
}

fn unfinished(answer: &Answer) -> Vec<&str> {
    let items = answer.body["items"].as_array().expect("items");
    let of_user = |item: &&Value| item["reasons"][0]["kind"] == "continue_watching";
    items.iter().filter(of_user).map(|i| i["item"].as_str().expect("an item")).collect()
}

/// Settings under which a worker takes many seconds to read a backlog of small batches: one a
/// partition, then a pause. On a busy machine, a start takes Redis more than the usual 5 ms.
const SLOW: &[(&str, &str)] = &[
    ("kafka.properties.queued.min.messages", "1"),
    ("kafka.properties.fetch.message.max.bytes", "1"),
    ("kafka.properties.fetch.queue.backoff.ms", "250"),
    ("global.warm_records", "0"),
    ("hot.read_timeout_ms", "1000"),
];

#[test]
fn a_user_whose_shard_is_being_restored_is_answered_from_redis_until_it_is_restored() {
    let redis = Redis::start_new("restoring");
    let settings = [("hot.address", redis.server.address.as_str()), LONG];
    let site = Installation::new("hot-restoring", &settings);
    let mut stream = Stream::new(Dice::printed("hot-restoring"), 300, 3_000);
    let small = Kafka::with(&site.kafka.bootstrap, &[("batch.num.messages", "20")]);
    let backlog: Vec<Out> = (0..3_000).map(|_| site.out(&stream.draw())).collect();
    small.deliver(&backlog);
    // The last thing that happens: a worker that starts over learns of it last.
    let last = Event::watch("alice", "half-seen").lasting(180 * SECOND, 600 * SECOND);
    let position = site.deliver(std::slice::from_ref(&last))[0];
    let mut first = site.ready_worker("a");
    site.wait_folded(&mut first);
    eventually("alice is in Redis", || hot(&site, "alice"));
    first.drain();

    let client = Client::new(&site);
    let mut second = site.worker_with("b", SLOW);
    let after = format!("{}-{}@{}", site.topic("watch-events"), position.0, position.1);
    let answer = eventually("an answer while the shard is restored", || {
        let answer = client.ask(&Ask::of("alice").header("after", &after).deadline_in(500));
        assert!(!second.is_ready(), "it was restored before it had answered: {answer:?}");
        answer.error().is_empty().then_some(answer)
    });
    let why = reason(&answer);
    assert!(why.contains("is being restored: answered from the hot tier"), "{why}");
    assert_eq!(unfinished(&answer), ["half-seen"], "only Redis knows of it: {answer:?}");
    assert_eq!(answer.after(), "SATISFIED");
    // A value that is damaged is told, and does no harm.
    redis.run(&["SETRANGE", "driftline:user:alice", "45", "damage"]);
    let answer = client.ask(&Ask::of("alice"));
    assert!(reason(&answer).contains("the hot tier holds a damaged value"), "{answer:?}");
    // Nor does a Redis that is gone.
    redis.server.kill();
    let answer = client.ask(&Ask::of("alice"));
    assert!(!second.is_ready(), "it was restored too soon for this test");
    let why = reason(&answer);
    assert!(why.contains("is being restored") && why.contains("the hot tier "), "{why}");
    assert_eq!(answer.error(), "");

    second.wait_ready();
    let answer = client.ask(&Ask::of("alice"));
    assert_eq!((reason(&answer).as_str(), unfinished(&answer)), ("", vec!["half-seen"]));
    assert!(second.metric("driftline_hot_reads_total") >= 2.0);
    second.drain();
}

#[test]
fn a_redis_that_is_killed_hangs_is_emptied_or_full_costs_no_event_and_no_answer_and_heals() {
    let mut dice = Dice::printed("hot-outage");
    let redis = Redis::start_new("outage");
    let settings = [("hot.address", redis.server.address.as_str()), LONG];
    let site = Installation::new("hot-outage", &settings);
    let client = Client::new(&site);
    let mut worker = site.ready_worker("a");
    let pause = || std::thread::sleep(Duration::from_millis(1_500));
    let sent = load::during(&site, &client, &mut dice, || {
        let heals = |what: &str| {
            let seen = worker.metric("driftline_hot_writes_total");
            eventually(&format!("it is written to after it was {what}"), || {
                let more = worker.metric("driftline_hot_writes_total") > seen;
                let closed = worker.metric("driftline_hot_breaker") == 0.0;
                (more && closed && redis.keys() > 10).then_some(())
            });
            assert_eq!(client.ask(&Ask::of("user-1")).error(), "", "after it was {what}");
        };
        heals("started");
        type Act = fn(&Redis);
        let trouble: [(&str, Act, Act); 3] = [
            ("killed", |redis| redis.server.kill(), |redis| redis.server.start()),
            ("hung", Redis::pause, |redis| redis.server.start()),
            ("full", |redis| limit(redis, "1"), |redis| limit(redis, "0")),
        ];
        for (what, begin, end) in trouble {
            begin(&redis);
            eventually(&format!("the breaker opens: it is {what}"), || {
                (worker.metric("driftline_hot_breaker") >= 1.0).then_some(())
            });
            assert_eq!(client.ask(&Ask::of("user-1")).error(), "", "while it is {what}");
            pause();
            assert!(worker.is_ready(), "{what}:\n{}", worker.log_text());
            end(&redis);
            heals(what);
        }
        redis.run(&["FLUSHALL"]);
        heals("emptied");
    });
    site.wait_folded(&mut worker);
    let lists = load::assert_answered(&client, &sent.requests);
    eprintln!("{} events; {lists} of {} requests got a list", sent.events, sent.requests.len());
    assert_eq!(lists, sent.requests.len(), "no answer waited for Redis");
    worker.drain();
    let events = site.read_events(|_| true);
    assert_eq!(events.len(), sent.events);
    let expected = oracle::fold(&events, DEFAULT_RULES);
    oracle::assert_same(&site.dump(&site.data_dir("a")), &expected);
}

fn limit(redis: &Redis, bytes: &str) {
    redis.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.run(&["CONFIG", "SET", "maxmemory", bytes]);
}

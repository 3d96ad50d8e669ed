//! The stream of metrics: minutes of what came of lists, whoever dies, and what workers answered.

mod common;

use common::events::{Event, HOUR, SECOND};
use common::installation::Installation;
use common::kafka::Out;
use common::requests::{Ask, Client};
use common::{avro, eventually};
use serde_json::{Value, json};

const MINUTE: i64 = 60 * SECOND;
const USERS: usize = 30;

/// A list of four videos as a worker would have told it; the ranker had predicted what comes of them.
fn show(site: &Installation, user: &str, request: &str, at: i64, surface: &str) -> Out {
    let item = |n: usize| {
        json!({"item": format!("v{n}"), "position": n, "propensity": 1.0,
            "probabilities": [0.25, 0.5]})
    };
    let items: Vec<Value> = (0..4).map(item).collect();
    let list = json!({"user": user, "request_id": request, "event_time": at, "surface": surface,
        "model_version": "m", "arm": "a", "ranker_examples": 7, "ranker_watermark": at - HOUR,
        "items": items});
    Out {
        topic: site.topic("impressions"),
        key: Some(user.into()),
        value: Some(avro::IMPRESSION.encode(&list)),
        ..Out::default()
    }
}

/// Moves the time of every partition: events of users that nothing is shown to.
fn pass(site: &Installation, at: i64) {
    let users = (0..60).map(|n| format!("clock{n}"));
    let both = |user: String| [Event::watch(&user, "time"), Event::click(&user, "time")];
    let events: Vec<Event> = users.flat_map(both).map(|event| event.at(at)).collect();
    site.deliver(&events);
}

/// What `driftline metrics` tells, a line each.
fn told(site: &Installation, arguments: &[&str]) -> Vec<Value> {
    let all = site.expect_ok(&[&["metrics", "--json"], arguments].concat());
    all.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn what_came_of_lists_is_told_by_the_minute_once_whoever_dies_and_amended_by_what_comes_late() {
    let site = Installation::new("metrics", &[]);
    let base = (common::now_ms() - 12 * HOUR).div_euclid(HOUR) * HOUR;
    // Two minutes, two surfaces; everybody clicks the first and watches the second of four.
    let surface = |n: usize| if n.is_multiple_of(3) { "search" } else { "home" };
    let at = |n: usize| base + (n % 2) as i64 * MINUTE + n as i64 * SECOND;
    let user = |n: usize| format!("u{n}");
    let request = |n: usize| format!("r{n}");
    let lists: Vec<Out> =
        (0..USERS).map(|n| show(&site, &user(n), &request(n), at(n), surface(n))).collect();
    let events = |n: usize| {
        let watch = Event::watch(&user(n), "v1").lasting(58 * SECOND, 60 * SECOND);
        [Event::click(&user(n), "v0").at(at(n) + MINUTE), watch.at(at(n) + MINUTE)]
    };
    let worker = site.ready_worker("a");
    site.kafka.deliver(&lists[..USERS / 2]);
    site.deliver(&(0..USERS / 2).flat_map(events).collect::<Vec<_>>());
    pass(&site, base + MINUTE);
    // Dies with lists open, and the next one while they close.
    worker.kill();
    let worker = site.ready_worker("a");
    site.kafka.deliver(&lists[USERS / 2..]);
    site.deliver(&(USERS / 2..USERS).flat_map(events).collect::<Vec<_>>());
    // Past the windows of all lists, and not yet past the hour in which they are corrected.
    pass(&site, base + 150 * MINUTE);
    worker.kill();
    let worker = site.ready_worker("a");

    let all = eventually("all minutes are told", || {
        let all = told(&site, &["--by", "surface"]);
        let lists: i64 = all.iter().filter_map(|group| group["lists"].as_i64()).sum();
        (lists == USERS as i64).then_some(all)
    });
    assert_eq!(all.len(), 2);
    for group in &all {
        let searched = USERS.div_ceil(3) as i64;
        let lists = if group["group"] == "search" { searched } else { USERS as i64 - searched };
        let number = |field: &str| group[field].as_f64().unwrap_or(f64::NAN);
        assert_eq!(group["lists"], lists, "{group}");
        assert_eq!((&group["impressions"], &group["clicks"]), (&json!(4 * lists), &json!(lists)));
        assert_eq!((number("click_rate"), number("long_view_rate")), (0.25, 0.25));
        assert_eq!(
            (number("completion_rate"), number("watch_seconds_per_impression")),
            (0.25, 14.5)
        );
        assert_eq!((number("click_calibration"), number("long_view_calibration")), (1.0, 2.0));
        let loss = -(0.25f64.ln() + 3.0 * 0.75f64.ln()) / 4.0;
        assert!((number("click_log_loss") - loss).abs() < 1e-5, "{group}");
        assert_eq!((number("items_shown"), number("gini")), (4.0, 0.0));
        assert_eq!(number("staleness_seconds"), 3_600.0);
    }
    assert_eq!(told(&site, &["--by", "minute"]).len(), 2);
    assert_eq!(told(&site, &["--by", "minute", "--last", "1m"]).len(), 1);
    let table = site.expect_ok(&["metrics", "--by", "all"]);
    assert!(table.contains("25.00 %"), "{table}");

    // What comes late makes another revision of the same minute.
    site.deliver(&[Event::click(&user(0), "v3").at(at(0) + 2 * MINUTE)]);
    let amended = eventually("it is amended", || {
        let mut all = told(&site, &["--by", "all"]);
        (all[0]["late_clicks"] == 1).then(|| all.remove(0))
    });
    assert_eq!((&amended["lists"], &amended["clicks"]), (&json!(USERS), &json!(USERS)));
    worker.drain();
}

#[test]
fn a_worker_tells_how_many_it_answered_how_fast_and_what_was_missing() {
    let site = Installation::new("metrics-workers", &[]);
    assert!(site.expect_ok(&["metrics"]).is_empty(), "nothing is told yet");
    let worker = site.ready_worker("a");
    let client = Client::new(&site);
    for _ in 0..5 {
        assert_eq!(client.ask(&Ask::of("alice")).error(), "");
    }
    // Told at the end too: nobody waits for a minute to be over.
    worker.drain();
    let all = told(&site, &["--workers"]);
    assert_eq!((all.len(), &all[0]["requests"]), (1, &json!(5)), "{all:?}");
    assert_eq!(all[0]["degradations"]["count"], 5, "there was nothing to recommend: {all:?}");
    assert!(all[0]["p99_ms"].as_f64().expect("a latency") > 0.0);
}

//! The gateway: REST as a platform would use it, and the page in a real Chromium.

mod common;

use std::path::PathBuf;
use std::process::Child;

use common::browser::{Browser, Tab};
use common::events::{Event, SECOND};
use common::http::{Answer, call};
use common::installation::Installation;
use common::minutes::World;
use common::worker::Worker;
use common::{avro, broker, eventually, now_ms};
use serde_json::{Value, json};

const KEY: &str = "a-key-of-some-length";

/// A gateway as a process of its own.
struct Gateway {
    process: Worker,
    address: String,
}

impl Gateway {
    fn start(site: &Installation, settings: &[(&str, &str)]) -> Self {
        let mut command = site.command(&site.data_dir("gateway"));
        let objects = format!("file://{}", site.data_dir("objects").display());
        let own = [("gateway.listen", "127.0.0.1:0"), ("objects.uri", objects.as_str())];
        for (key, value) in own.iter().chain(settings) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        // By the other name of the same program.
        command.arg("gateway");
        let log = site.folder.path().join(format!("gateway-{}.log", now_ms()));
        let mut process = Worker::spawn(command, site.data_dir("gateway"), log);
        let address = eventually("the gateway listens", || {
            assert!(process.is_running(), "it ended:\n{}", process.log_text());
            let text = process.log_text();
            let line = text.lines().find(|line| line.contains("\"gateway\""))?;
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["fields"]["address"].as_str()?.to_owned())
        });
        Self { process, address }
    }

    fn wait_ready(&self) {
        eventually("the gateway is ready", || {
            (self.get("/v1/health")?.status == 200).then_some(())
        });
    }

    fn get(&self, path: &str) -> Option<Answer> {
        call(&self.address, "GET", path, &[], b"")
    }

    /// With the key.
    fn post(&self, path: &str, body: &Value) -> Answer {
        let key = format!("authorization: Bearer {KEY}");
        self.post_with(path, &[&key, "content-type: application/json"], body.to_string().as_bytes())
    }

    fn post_with(&self, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        call(&self.address, "POST", path, headers, body).expect("an answer")
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

#[test]
fn events_go_in_and_lists_that_know_them_come_out_over_rest() {
    let site = Installation::new("gateway-rest", &[]);
    let worker = site.ready_worker("worker");
    let crowd: Vec<Event> = (0..40)
        .map(|n| Event::watch(&format!("u{}", n % 8), &format!("v{}", n % 10)).on("home"))
        .collect();
    site.deliver(&crowd);
    let gateway = Gateway::start(&site, &[("gateway.api_key", KEY)]);
    gateway.wait_ready();

    let watched = gateway.post(
        "/v1/events/watch",
        &json!({"user": "me", "item": "v1",
        "watched_ms": 60_000, "duration_ms": 60_000}),
    );
    assert_eq!(watched.status, 202, "{watched:?}");
    let clicked = gateway.post(
        "/v1/events/click",
        &json!({"user": "me", "item": "v2",
        "event_id": "my-click"}),
    );
    assert_eq!(clicked.json()["event_id"], "my-click");
    let refused = gateway.post(
        "/v1/events/feedback",
        &json!({"user": "me",
        "kind": "NOT_INTERESTED", "subject_kind": "ITEM", "subject": "v5"}),
    );
    let after: Vec<Value> =
        [&watched, &clicked, &refused].map(|a| a.json()["position"].clone()).to_vec();
    assert!(after[0].as_str().expect("a position").contains("watch-events-"), "{after:?}");

    let asked = json!({"user": "me", "count": 20, "after": after});
    let list = gateway.post("/v1/recommendations", &asked);
    assert_eq!(list.status, 200, "{list:?}");
    let reply = list.json();
    assert_eq!((&reply["after"], &reply["user"]), (&json!("SATISFIED"), &json!("me")));
    let items: Vec<&str> = reply["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|i| i["item"].as_str())
        .collect();
    assert!(!items.is_empty(), "{reply}");
    for known in ["v1", "v2", "v5"] {
        assert!(!items.contains(&known), "{known} is known or refused: {items:?}");
    }
    let users = {
        let key = format!("authorization: Bearer {KEY}");
        call(&gateway.address, "GET", "/api/users", &[&key], b"").expect("an answer").json()
    };
    assert!(users["users"].as_array().expect("users").contains(&json!("u1")), "{users}");

    let asked = gateway.post("/api/actions/retrain", &json!({"reason": "a new season"}));
    assert_eq!(asked.status, 202, "{asked:?}");
    let triggers = site.kafka.read_all(&site.topic("retrain-triggers"));
    let trigger = avro::TRIGGER.decode(triggers[0].value.as_deref().expect("a value"));
    assert_eq!(
        (&trigger["reason"], &trigger["action"]),
        (&json!("a new season"), &json!("RETRAIN"))
    );
    assert_eq!(trigger["event_id"], asked.json()["event_id"]);

    assert!(site.dead_letters().is_empty(), "what was taken is what a worker takes");
    gateway.process.drain();
    worker.drain();
}

#[test]
fn what_cannot_be_answered_is_refused_with_what_to_do() {
    let site = Installation::new("gateway-refusals", &[]);
    site.kafka.create_topic(&site.topic("wishes"), 1);
    let settings = [
        ("gateway.api_key", KEY),
        ("gateway.deadline_ms", "3000"),
        ("gateway.max_body_bytes", "2000"),
        ("gateway.simulation_topic", "wishes"),
    ];
    let gateway = Gateway::start(&site, &settings);
    gateway.wait_ready();
    let (json, key) = ("content-type: application/json", format!("authorization: bearer {KEY}"));
    let (lists, clicks) = ("/v1/recommendations", "/v1/events/click");
    let ask = br#"{"user":"u"}"#.as_slice();
    let long = format!("{{\"user\":\"{}\"}}", "u".repeat(3_000));
    /// Path, headers, body; the status and a part of what is said.
    type Case<'a> = (&'a str, &'a [&'a str], &'a [u8], u16, &'a str);
    let cases: &[Case<'_>] = &[
        (lists, &[json], ask, 401, "authorization: bearer KEY"),
        (clicks, &[json, "authorization: bearer another-key-of-length"], ask, 401, "another"),
        (clicks, &[json, "authorization: Basic YTpi"], ask, 401, "authorization: bearer"),
        (lists, &[&key], ask, 415, "content-type: application/json"),
        (lists, &[&key, json], b"{\"user\":", 400, "no JSON"),
        (lists, &[&key, json], b"[]", 400, "no JSON object"),
        (lists, &[&key, json], b"{}", 400, "name the user"),
        (lists, &[&key, json], br#"{"user":"u","count":501}"#, 400, "1 to 500"),
        (lists, &[&key, json], long.as_bytes(), 413, "max_body_bytes"),
        (clicks, &[&key, json], br#"{"user":"u","item":""}"#, 400, "item is empty"),
        ("/v1/events/like", &[&key, json], b"{}", 404, "watch, click and feedback"),
        ("/api/actions/deploy", &[&key, json], b"{}", 404, "retrain, taste-shift"),
        ("/api/actions/retrain", &[&key, json], b"{}", 400, "say why"),
        ("/v1/nothing", &[&key, json], b"{}", 404, "/v1/recommendations"),
        // No worker runs.
        (lists, &[&key, json], ask, 504, "driftline doctor"),
    ];
    for (path, headers, body, status, told) in cases {
        let answer = gateway.post_with(path, headers, body);
        let said = answer.message();
        assert!(answer.status == *status && said.contains(told), "{path}: {answer:?}");
        assert!(
            answer.headers.contains("content-security-policy: default-src 'none'"),
            "{answer:?}"
        );
    }
    assert_eq!(gateway.get(lists).expect("an answer").status, 405);
    let shifted = gateway.post("/api/actions/taste-shift", &json!({"share": 0.5}));
    assert_eq!(shifted.status, 202, "{shifted:?}");
    let wishes = site.kafka.read_all(&site.topic("wishes"));
    let wish: Value =
        serde_json::from_slice(wishes[0].value.as_deref().expect("a value")).expect("JSON");
    assert_eq!(wish, json!({"share": 0.5, "action": "taste-shift"}));
    gateway.process.drain();

    // Without a key nothing changes, and nobody learns what people watch.
    let closed = Gateway::start(&site, &[("gateway.open_recommendations", "false")]);
    closed.wait_ready();
    for path in [lists, clicks, "/api/actions/retrain"] {
        let answer = closed.post_with(path, &[&key, json], ask);
        assert!(answer.status == 403 && answer.message().contains("read-only"), "{answer:?}");
    }
    closed.process.drain();
    let open = Gateway::start(
        &site,
        &[("gateway.open_recommendations", "true"), ("gateway.deadline_ms", "300")],
    );
    open.wait_ready();
    assert_eq!(open.post_with(lists, &[json], ask).status, 504, "open, and no worker runs");
    assert_eq!(open.post_with(clicks, &[json], ask).status, 403);
    open.process.drain();
}

/// Where pictures go: `DRIFTLINE_SCREENSHOTS`, or a folder that is thrown away.
fn pictures(site: &Installation) -> PathBuf {
    let given = std::env::var("DRIFTLINE_SCREENSHOTS").ok().filter(|path| !path.is_empty());
    let folder = given.map_or_else(|| site.data_dir("pictures"), PathBuf::from);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A monitor whose findings the page shows.
fn monitor(site: &Installation) -> Worker {
    let data_dir = site.data_dir("monitor");
    let mut command = site.command(&data_dir);
    command.args(["--set", &format!("monitor.data_dir={}", data_dir.display())]);
    command.args(["--set", "monitor.schedule=", "monitor"]);
    Worker::spawn(command, data_dir, site.folder.path().join("monitor.log"))
}

/// Sends a few events a second until it is killed: something flows.
fn traffic(site: &Installation) -> Child {
    let mut command = site.command(&site.data_dir("traffic"));
    command.args(["simulate", "--users", "60", "--items", "120", "--speed", "2000x"]);
    command.args(["--days", "30", "--shift-to", "now", "--in-flight", "4"]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.spawn().expect("the binary runs")
}

/// Kills it when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_page_shows_the_loop_and_a_list_that_changes_and_outlives_its_broker() {
    let Some(browser) = Browser::start() else {
        eprintln!("skipped: there is no Chromium; `scripts/setup.sh test` installs it");
        return;
    };
    let broker = broker::start_new("dashboard");
    let site = Installation::on(&broker.address, "dashboard", &[]);
    let gateway = Gateway::start(&site, &[("gateway.api_key", KEY)]);
    gateway.wait_ready();

    // Nothing yet: every panel says what to do. The line is held by a page that is closed later.
    let first = browser.open(&gateway.url(), 800, 600);
    first.wait_text("#status", "live");
    let tab = browser.open(&gateway.url(), 1280, 900);
    tab.wait_text("#status", "live");
    tab.wait_text("#facts", "driftline simulate");
    tab.wait_text("#trigger-list", "driftline monitor");
    tab.wait_text("#model-list", "driftline train");
    tab.wait_text("#worker-list", "driftline worker");
    tab.wait_text("#try-body", "need the key");
    tab.screenshot(&pictures(&site).join("empty.png"), None);

    // A week, and a fall of a quarter, as shards would have told of them.
    let minute = 60 * SECOND;
    let mut world = World::new((now_ms() - 8 * 24 * 60 * minute) / minute * minute);
    world.predicts = true;
    let mut windows = world.minutes(&site, 8 * 24 * 60 - 200);
    world.clicks = 0.75;
    windows.extend(world.minutes(&site, 200));
    site.kafka.deliver(&windows);
    let worker = site.ready_worker("worker");
    let monitor = monitor(&site);
    let traffic = Ended(traffic(&site));

    tab.wait_text("#trigger-list", "RETRAIN");
    tab.wait_text("#trigger-list", "click_rate of all fell");
    tab.wait_text("#loop-picture", "keeps up");
    tab.wait_text("#loop-picture", "events/s");
    tab.wait_text("#facts", "lists in the last hour");
    let title = |of: &str| format!("document.querySelector('#charts figure:first-child {of}')");
    eventually("the drop is marked in words", || {
        let marks = tab.eval(&format!("{}?.textContent ?? ''", title(".mark-text")));
        (marks == "retrain" || marks == "fell").then_some(())
    });
    assert!(tab.eval(&format!("{}.getAttribute('d').length > 500", title(".band"))) == true);

    try_a_list(&tab);
    keyboard(&tab);
    looks(&tab, &pictures(&site));
    ten_tabs(&browser, &gateway);

    first.call("Page.close", json!({}));
    let asked =
        gateway.post("/api/actions/retrain", &json!({"reason": "another page listens now"}));
    assert_eq!(asked.status, 202, "{asked:?}");
    tab.wait_text("#trigger-list", "another page listens now");

    drop(traffic);
    broker.kill();
    tab.wait_text("#status", "the broker is away");
    tab.wait_text("#notices", "goes on by itself");
    tab.screenshot(&pictures(&site).join("broker-down.png"), Some(900));
    let away = gateway.post("/v1/recommendations", &json!({"user": "me"}));
    assert_eq!(away.status, 503, "{away:?}");
    assert_eq!(gateway.get("/v1/health").expect("an answer").status, 503);
    broker.start();
    tab.wait_text("#status", "live");
    eventually("lists are given again", || {
        let asked = gateway.post("/v1/recommendations", &json!({"user": "me"}));
        (asked.status == 200).then_some(())
    });

    let expected = ["net::ERR", "503", "the server responded"];
    let complaints = browser.complaints();
    let odd: Vec<_> =
        complaints.iter().filter(|c| !expected.iter().any(|e| c.contains(e))).collect();
    assert!(odd.is_empty(), "the page complains: {odd:#?}");
    gateway.process.drain();
    tab.wait_text("#notices", "not live");
    monitor.drain();
    worker.drain();
}

/// As somebody who tries the product: the key, a new user, a list, a watch, another list.
fn try_a_list(tab: &Tab<'_>) {
    tab.click("#key-button");
    tab.eval("document.querySelector('#key-input').focus()");
    tab.write(KEY);
    tab.press("Enter");
    tab.wait_text("#try-body", "Be somebody new");
    tab.click("[data-at=new]");
    tab.wait_text("#try-body .picks", "Not interested");
    let first = tab.text(".pick strong");
    tab.click(".pick:first-child .acts button:nth-child(1)");
    tab.wait_text("#try-body", "knows your last events");
    tab.wait_text("#try-body details", &format!("watched {first}"));
    let now = tab.text("#try-body .picks");
    assert!(now.contains("new") || now.contains("up"), "what changed is told: {now}");
    assert!(tab.text("#try-body").contains(&format!("No longer on the list: {first}")));
    let refused = tab.text(".pick:nth-child(2) strong");
    tab.click(".pick:nth-child(2) .acts button:nth-child(3)");
    tab.wait_text("#try-body details", &format!("does not want {refused}"));
    eventually("what was refused is no longer listed", || {
        let items = "[...document.querySelectorAll('.pick strong')].map((e) => e.textContent)";
        let items = tab.eval(items);
        (!items.as_array().expect("items").contains(&json!(refused))).then_some(())
    });
}

/// The whole page can be gone through by keys.
fn keyboard(tab: &Tab<'_>) {
    tab.eval("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')");
    tab.press("Tab");
    assert_eq!(tab.eval("document.activeElement.className"), "skip");
    tab.eval("document.querySelector('.node[data-part=workers]').focus()");
    tab.press("Enter");
    tab.wait_text("#loop-detail", "driftline metrics --workers");
    assert_eq!(
        tab.eval("document.querySelector('.node[data-part=workers]').getAttribute('aria-pressed')"),
        "true"
    );
    tab.eval("document.querySelector('.plot').focus()");
    tab.press("ArrowLeft");
    eventually("the reading is spoken", || tab.text("#spoken").contains("expected").then_some(()));
    let unnamed = tab.eval(
        "[...document.querySelectorAll('button, input, [role=button], [role=img]')]
           .filter((e) => e.offsetParent !== null || e.ownerSVGElement)
           .filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length))
           .map((e) => e.outerHTML)",
    );
    assert_eq!(unnamed, json!([]), "everything that can be used has a name");
    tab.eval("document.activeElement.blur()");
}

/// Light, dark and on a phone; nothing is wider than the screen.
fn looks(tab: &Tab<'_>, folder: &std::path::Path) {
    tab.eval("scrollTo({top: 0, behavior: 'instant'})");
    let fits = || tab.eval("document.documentElement.scrollWidth <= innerWidth") == true;
    for (width, name) in [(1280, "light"), (1280, "dark"), (800, "tablet"), (360, "phone")] {
        tab.resize(width, 900);
        tab.prefer(if name == "dark" { "dark" } else { "light" });
        eventually(&format!("it fits {width} pixels"), || fits().then_some(()));
        std::thread::sleep(std::time::Duration::from_millis(300));
        tab.screenshot(&folder.join(format!("{name}.png")), None);
        if name == "light" {
            // For the README: the loop and the metrics.
            let bottom = "Math.ceil(document.querySelector('#metrics').getBoundingClientRect().bottom + scrollY + 14)";
            let bottom = tab.eval(bottom).as_u64().and_then(|bottom| u32::try_from(bottom).ok());
            tab.screenshot(&folder.join("tour.png"), bottom);
        }
    }
    tab.resize(1280, 900);
    tab.prefer("light");
    let background = |name: &str| {
        tab.eval(&format!("document.documentElement.dataset.theme = {name:?}"));
        tab.eval("getComputedStyle(document.body).backgroundColor")
    };
    assert_ne!(background("light"), background("dark"), "the theme can be chosen, too");
    tab.eval("document.documentElement.dataset.theme = 'auto'");
}

/// All of them hear what happens over one line, which outlives the page that holds it.
fn ten_tabs(browser: &Browser, gateway: &Gateway) {
    let mut tabs: Vec<Tab<'_>> = (0..9).map(|_| browser.open(&gateway.url(), 900, 700)).collect();
    for tab in &tabs {
        tab.wait_text("#trigger-list", "RETRAIN");
        tab.wait_text("#status", "live");
    }
    let lines = || gateway.process.metric("driftline_gateway_pages");
    assert_eq!(lines(), 1.0, "a browser has six connections to a host: ten pages share one");
    let retrain = |reason: &str| {
        let asked = gateway.post("/api/actions/retrain", &json!({ "reason": reason }));
        assert_eq!(asked.status, 202, "{asked:?}");
    };
    retrain("heard by ten");
    tabs.iter().for_each(|tab| drop(tab.wait_text("#trigger-list", "heard by ten")));
    while let Some(tab) = tabs.pop() {
        tab.call("Page.close", json!({}));
    }
}

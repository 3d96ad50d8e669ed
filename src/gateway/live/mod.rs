//! What the page shows, kept up to date: parts, each the last word on something, and series that grow.
//!
//! A page that opens is sent all of them, and from then on each that changes. What waits for a page is
//! the same few hundred messages for all: one that does not keep up is dropped, and begins again.

mod depths;
mod feed;
mod measures;
mod registry;
mod series;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::http::{HeaderName, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};

use super::answer::Refusal;
use super::{Shared, State, actions};
use crate::config::Config;
use crate::runtime::{self, Stop, Urgency};
use crate::telemetry::names;
use crate::time::wall_now;
use series::Series;

/// Messages that a page may be behind: half a minute of them. More: more memory while one is slow.
const BEHIND: usize = 256;
/// How often an open page hears something, so that both sides notice when the other is gone.
const BEAT: Duration = Duration::from_secs(5);
/// Minutes that are kept: a day.
const MINUTES: usize = 1_440;
/// Hours that are kept: two weeks.
const HOURS: usize = 336;

/// A message for pages.
#[derive(Debug)]
struct Frame {
    event: &'static str,
    data: String,
}

/// All that pages are shown.
pub struct Live {
    known: Mutex<Known>,
    sender: Sender<Arc<Frame>>,
}

struct Known {
    /// By name.
    parts: BTreeMap<&'static str, Arc<Frame>>,
    minutes: Series,
    hours: Series,
    /// Whether the broker answers, and why not.
    broker: Result<(), String>,
    broker_since: i64,
}

impl Live {
    /// Of nothing yet.
    pub fn new() -> Self {
        let known = Known {
            parts: BTreeMap::new(),
            minutes: Series::new(MINUTES),
            hours: Series::new(HOURS),
            broker: Err("the broker was not asked yet".into()),
            broker_since: wall_now(),
        };
        Self { known: Mutex::new(known), sender: broadcast::channel(BEHIND).0 }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last word on something; pages hear of it where it is another than before.
    fn set(&self, part: &'static str, value: &impl Serialize) {
        let data = match serde_json::to_string(value) {
            Ok(data) => data,
            Err(error) => return tracing::warn!(%error, part, "a part of the page"),
        };
        let mut known = self.known();
        if known.parts.get(part).is_some_and(|before| before.data == data) {
            return;
        }
        let frame = Arc::new(Frame { event: part, data });
        known.parts.insert(part, Arc::clone(&frame));
        // Sent while the lock is held: a page that opens has it or hears it, and never both or none.
        self.send(frame);
    }

    /// Rows of minutes and hours, by their begin, new or told anew.
    fn grow(&self, minutes: Vec<(i64, Value)>, hours: Vec<(i64, Value)>) {
        let mut known = self.known();
        for (event, rows) in [("minutes", minutes), ("hours", hours)] {
            if rows.is_empty() {
                continue;
            }
            let series = if event == "minutes" { &mut known.minutes } else { &mut known.hours };
            let data = series.grow(rows);
            self.send(Arc::new(Frame { event, data }));
        }
    }

    /// Without an open page nobody hears it, which is as well.
    fn send(&self, frame: Arc<Frame>) {
        drop(self.sender.send(frame));
    }

    /// Notes whether the broker answers.
    fn set_broker(&self, state: Result<(), String>) {
        let mut known = self.known();
        if known.broker.is_ok() != state.is_ok() {
            known.broker_since = wall_now();
        }
        known.broker = state;
        let (error, since) = (known.broker.clone().err(), known.broker_since);
        drop(known);
        self.set("broker", &json!({"ok": error.is_none(), "error": error, "since": since}));
    }

    /// Fails at once where a call would wait for a broker that is away.
    ///
    /// # Errors
    /// 503 with the reason.
    pub fn check_broker(&self) -> Result<(), Refusal> {
        self.known().broker.clone().map_err(Refusal::unavailable)
    }

    /// All there is, and what comes.
    fn subscribe(&self) -> (VecDeque<Arc<Frame>>, Receiver<Arc<Frame>>) {
        let known = self.known();
        let mut all: VecDeque<Arc<Frame>> = known.parts.values().cloned().collect();
        for (event, series) in [("minutes", &known.minutes), ("hours", &known.hours)] {
            all.push_back(Arc::new(Frame { event, data: series.all() }));
        }
        (all, self.sender.subscribe())
    }
}

/// Starts what reads topics, groups and the registry.
///
/// # Errors
/// Where no thread can be started.
pub fn start(
    config: &Config,
    live: &Arc<Live>,
    stop: &Stop,
) -> Result<Vec<JoinHandle<()>>, String> {
    let mut threads = Vec::new();
    let mut spawn = |name: &str, run: fn(&Config, &Live, &Stop)| {
        let (config, live, stop) = (config.clone(), Arc::clone(live), stop.clone());
        let thread = runtime::spawn(name, Urgency::Later, move || run(&config, &live, &stop));
        thread.map(|thread| threads.push(thread))
    };
    spawn("gateway-depths", depths::run)
        .and_then(|()| spawn("gateway-feed", feed::run))
        .and_then(|()| spawn("gateway-registry", registry::run))
        .map_err(|e| format!("a thread of the gateway: {e}"))?;
    Ok(threads)
}

/// `GET /api/live`: server-sent events, as long as the page is open.
pub async fn stream(shared: State) -> Response {
    let (snapshot, coming) = shared.live.subscribe();
    let mut first = VecDeque::from([about(&shared)]);
    first.extend(snapshot);
    let page = Page { waiting: first, coming, _counted: Counted::new() };
    let events = futures_util::stream::unfold(page, |mut page| async move {
        let event = page.next().await?;
        Some((Ok::<_, Infallible>(event), page))
    });
    // Proxies hold streams back otherwise.
    let headers =
        [(header::CACHE_CONTROL, "no-store"), (HeaderName::from_static("x-accel-buffering"), "no")];
    (headers, Sse::new(events)).into_response()
}

/// What stays the same as long as the process lives. Begins every snapshot.
fn about(shared: &Shared) -> Arc<Frame> {
    let config = &shared.config;
    let label_window_ms = config.quality.watch_window_ms.max(config.quality.click_window_ms)
        + config.quality.lateness_ms;
    let data = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "prefix": config.topics.prefix,
        "group": config.kafka.group,
        "read_only": shared.keeper.is_read_only(),
        "recommendations": shared.keeper.recommendations(),
        "actions": actions::names(config),
        "label_window_ms": label_window_ms,
        "charts": measures::charts(),
    });
    Arc::new(Frame { event: "about", data: data.to_string() })
}

/// An open page.
struct Page {
    waiting: VecDeque<Arc<Frame>>,
    coming: Receiver<Arc<Frame>>,
    _counted: Counted,
}

impl Page {
    /// The next message; none where it did not keep up.
    async fn next(&mut self) -> Option<Event> {
        if let Some(frame) = self.waiting.pop_front() {
            let event = Event::default().event(frame.event).data(&frame.data);
            // It comes back after this long.
            return Some(if frame.event == "about" {
                event.retry(Duration::from_millis(1_000))
            } else {
                event
            });
        }
        match tokio::time::timeout(BEAT, self.coming.recv()).await {
            Ok(Ok(frame)) => Some(Event::default().event(frame.event).data(&frame.data)),
            Ok(Err(RecvError::Lagged(_))) => {
                metrics::counter!(names::GATEWAY_DROPPED, "why" => "lagged").increment(1);
                None
            }
            Ok(Err(RecvError::Closed)) => None,
            Err(_) => {
                let now = json!({"now": wall_now()});
                Some(Event::default().event("beat").data(now.to_string()))
            }
        }
    }
}

/// Counts as open until it is dropped.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!(names::GATEWAY_PAGES).increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(names::GATEWAY_PAGES).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(frames: &VecDeque<Arc<Frame>>) -> Vec<&'static str> {
        frames.iter().map(|frame| frame.event).collect()
    }

    #[test]
    fn a_page_has_what_was_said_before_and_hears_what_changes() {
        let live = Live::new();
        live.set("flow", &json!({"rate": 1}));
        live.grow(vec![(60_000, json!([60_000, 1]))], vec![]);
        let (snapshot, mut coming) = live.subscribe();
        assert_eq!(names(&snapshot), ["flow", "minutes", "hours"]);
        assert_eq!(snapshot[1].data, "{\"all\":true,\"rows\":[[60000,1]]}");
        live.set("flow", &json!({"rate": 1}));
        assert!(coming.try_recv().is_err(), "nothing has changed");
        live.set("flow", &json!({"rate": 2}));
        assert_eq!(coming.try_recv().unwrap().data, "{\"rate\":2}");
        live.grow(vec![(60_000, json!([60_000, 2]))], vec![]);
        assert_eq!(coming.try_recv().unwrap().data, "{\"rows\":[[60000,2]]}");
    }

    #[test]
    fn a_page_that_does_not_read_is_dropped_and_holds_no_more_than_the_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let live = Live::new();
        let (snapshot, coming) = live.subscribe();
        let mut page = Page { waiting: snapshot, coming, _counted: Counted::new() };
        for rate in 0..2 * BEHIND {
            live.set("flow", &json!({ "rate": rate }));
        }
        runtime.block_on(async {
            for _ in 0..2 {
                assert!(page.next().await.is_some(), "the series of the snapshot");
            }
            assert!(page.next().await.is_none(), "it was left behind");
        });
    }

    #[test]
    fn whether_the_broker_answers_is_known_at_once() {
        let live = Live::new();
        assert!(live.check_broker().is_err());
        live.set_broker(Ok(()));
        assert!(live.check_broker().is_ok());
        live.set_broker(Err("it is gone".into()));
        assert_eq!(live.check_broker().unwrap_err().message, "it is gone");
    }
}

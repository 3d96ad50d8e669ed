//! `driftline demo`: the whole product in one process, against a real broker.

use std::borrow::Cow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::pace::Speed;
use super::simulate::{Driver, Policy, Settings, progress_line};
use super::{Failure, interrupt, output, parse_duration, topics};
use crate::client::{Asking, EventSender, RequestClient};
use crate::config::Config;
use crate::event::{After, EventKind, Reply, Request, UserEvent};
use crate::ids::{Surface, UserId};
use crate::kafka::{Delivery, ProducerKind, TopicPartition};
use crate::runtime::Stop;
use crate::simulation::{Item, World, WorldConfig};
use crate::telemetry::{HttpServer, install_metrics};
use crate::time::{DAY_MS, EventTime, MINUTE_MS, wall_now};
use crate::worker::Worker;

/// Before every topic of the demo, unless topics.prefix says otherwise.
const PREFIX: &str = "demo-";
/// Event time against wall time: a simulated day in half a minute.
const SPEED: f64 = 2_880.0;
/// Lists asked for by other people before the newcomer arrives, so that there is something to
/// recommend from.
const CROWD_LISTS: u64 = 900;
/// Items on the newcomer's list.
const COUNT: usize = 8;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline demo                  until Ctrl-C
  driftline demo --for 60s        stops by itself
  driftline --bootstrap kafka:9092 demo

Makes topics that begin with demo-, and keeps its state in DRIFTLINE_STATE_DIR, or worker.data_dir
where that is not set. `make demo` brings a broker along.")]
pub struct Args {
    /// Stop after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    limit: Option<Duration>,
}

pub fn run(args: &Args, mut config: Config) -> Result<ExitCode, Failure> {
    let begun = Instant::now();
    if config.topics.prefix.is_empty() {
        config.topics.prefix = PREFIX.into();
        config.kafka.group = format!("{PREFIX}{}", config.kafka.group);
    }
    if let Some(folder) = std::env::var_os("DRIFTLINE_STATE_DIR") {
        config.worker.data_dir = folder.into();
    }
    // A second worker may have the usual port.
    config.http.listen = "127.0.0.1:0".into();
    let stop = interrupt::stop_on_signal()?;
    let made = topics::apply_quietly(&config, None)?;
    println!("Kafka at {}; {made} topics made or changed.", config.kafka.bootstrap);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("http")
        .enable_all()
        .build()?;
    let metrics = install_metrics()?;
    let worker = Worker::start(config.clone())?;
    let http = runtime.block_on(HttpServer::start(
        &config.http.listen,
        Arc::clone(&metrics),
        worker.health_source(),
    ))?;
    wait_until_ready(&worker, &stop)?;
    println!(
        "A worker is ready after {:.1} s: http://{}/metrics, state in {}.",
        begun.elapsed().as_secs_f64(),
        http.address,
        config.worker.data_dir.display()
    );
    let told = show(args, &config, &stop, begun);
    worker.shutdown()?;
    told?;
    println!("\nStopped; what was folded is kept.");
    Ok(ExitCode::SUCCESS)
}

fn wait_until_ready(worker: &Worker, stop: &Stop) -> Result<(), Failure> {
    while !worker.health().ready && !stop.is_requested() {
        if worker.has_failed() {
            return Err("the worker ended: see the messages above".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The demo proper: a crowd in the background, a newcomer in front.
fn show(args: &Args, config: &Config, stop: &Stop, begun: Instant) -> Result<(), Failure> {
    let seed = wall_now();
    let world = WorldConfig {
        // Another world each time: its people and their events are not those of the last run.
        seed: seed as u64,
        users: 1_200,
        items: 600,
        creators: 120,
        start: EventTime::from_millis(wall_now() - 2 * DAY_MS),
        ..WorldConfig::default()
    };
    let speed = Speed::Times(SPEED);
    let settings =
        Settings { world, in_flight: 8, listens: true, ..Settings::new(Policy::Served, speed) };
    println!(
        "{} simulated users begin to watch, click and ask, a day in {:.0} s…",
        settings.world.users,
        86_400.0 / SPEED
    );
    let driver = Driver::start(config, settings.clone(), stop.clone())?;
    let story = Story {
        world: settings.make_world()?,
        sender: EventSender::new(config, ProducerKind::LowLatency)?,
        client: RequestClient::connect(config)?,
        user: format!("newcomer-{seed}"),
    };
    while driver.tally().lists < CROWD_LISTS && !stop.is_requested() && !driver.is_finished() {
        std::thread::sleep(Duration::from_millis(50));
    }
    story.tell(config, begun)?;

    let mut last = (Instant::now(), driver.tally());
    while !stop.is_requested()
        && !driver.is_finished()
        && args.limit.is_none_or(|limit| begun.elapsed() < limit)
    {
        std::thread::sleep(Duration::from_millis(50));
        if last.0.elapsed() >= Duration::from_secs(5) {
            let tally = driver.tally();
            let window = tally.since(&last.1);
            println!("{}", progress_line(&settings, &tally, &window, last.0.elapsed()));
            last = (Instant::now(), tally);
        }
    }
    stop.request();
    driver.join()?;
    Ok(())
}

/// A newcomer and what happens to their list.
struct Story {
    world: World,
    sender: EventSender,
    client: RequestClient,
    user: String,
}

impl Story {
    fn tell(&self, config: &Config, begun: Instant) -> Result<(), Failure> {
        println!(
            "\n1. {} opens the app. Nothing is known of them, so they get what is trending or new.\n",
            self.user
        );
        let before = self.ask(Vec::new())?;
        self.print(&before, &[]);
        println!("\nThe first recommendation came {:.1} s after the start.", seconds(begun));

        let category = self.least_shown_category(&before);
        let watched = self.popular_of(&category, 3);
        println!("\n2. They click and watch three videos of {category} to the end:");
        let after = self.watch_all(&watched)?;
        let positions: Vec<String> = after.iter().map(|(tp, o)| format!("{tp}@{o}")).collect();
        println!("   the last of these events are {}.", positions.join(" and "));

        println!(
            "\n3. They ask again, naming those events: the answer waits until they are folded.\n"
        );
        let asked = Instant::now();
        let answer = self.ask(after)?;
        let took = asked.elapsed();
        self.print(&answer, &before.items.iter().map(|i| i.item.as_str()).collect::<Vec<_>>());
        self.conclude(&before, &answer, &category, took);
        self.invite(config, &watched[0]);
        Ok(())
    }

    fn ask(&self, after: Vec<(TopicPartition, i64)>) -> Result<Reply, Failure> {
        let mut request = Request::new("", UserId::from(self.user.as_str()), COUNT);
        request.surface = Surface::from("home");
        let timeout = Duration::from_secs(5);
        let asking = Asking { deadline_ms: Some(wall_now() + 5_000), after };
        let reply = self.client.ask(&request, &asking, timeout)?;
        match &reply.error {
            Some(error) => Err(format!("the worker answered: {}", error.message).into()),
            None => Ok(reply),
        }
    }

    fn category_of(&self, item: &str) -> &str {
        let found = self.world.items().iter().find(|i| i.id.as_str() == item);
        found.and_then(|i| i.categories.first()).map_or("", String::as_str)
    }

    fn in_category(&self, reply: &Reply, category: &str) -> usize {
        reply.items.iter().filter(|i| self.category_of(&i.item) == category).count()
    }

    /// A category with enough items that the first list shows least of: the change is plain.
    fn least_shown_category(&self, reply: &Reply) -> String {
        let mut sizes: std::collections::BTreeMap<&str, usize> = Default::default();
        for item in self.world.items() {
            *sizes.entry(item.categories.first().map_or("", String::as_str)).or_default() += 1;
        }
        let large = sizes.values().max().copied().unwrap_or(0) / 2;
        sizes
            .into_iter()
            .filter(|(_, size)| *size >= large)
            .min_by_key(|(category, size)| {
                (self.in_category(reply, category), std::cmp::Reverse(*size))
            })
            .map_or_else(String::new, |(category, _)| category.to_owned())
    }

    fn popular_of(&self, category: &str, count: usize) -> Vec<Item> {
        let now = EventTime::from_millis(wall_now() - 2 * DAY_MS);
        let mut items: Vec<&Item> = self
            .world
            .items()
            .iter()
            .filter(|i| i.categories.first().is_some_and(|c| c == category) && i.published <= now)
            .collect();
        items.sort_by(|a, b| b.popularity.total_cmp(&a.popularity));
        items.into_iter().take(count).cloned().collect()
    }

    /// Sends a click and a watch of each item; returns the last position by topic.
    fn watch_all(&self, items: &[Item]) -> Result<Vec<(TopicPartition, i64)>, Failure> {
        let (delivered, deliveries) = channel();
        let session = format!("{}-first", self.user);
        for (number, item) in items.iter().enumerate() {
            let minutes = (items.len() - number) as i64;
            let at = EventTime::from_millis(wall_now() - minutes * MINUTE_MS);
            let duration_ms = item.duration_ms;
            let watch = EventKind::Watch { watched_ms: duration_ms, duration_ms };
            for (kind, name) in [(EventKind::Click { position: None }, "c"), (watch, "w")] {
                let event = UserEvent {
                    id: Cow::Owned(format!("{}-{number}{name}", self.user)),
                    user: Cow::Borrowed(&self.user),
                    item: Cow::Borrowed(item.id.as_str()),
                    at,
                    kind,
                    surface: Cow::Borrowed("home"),
                    session: Cow::Borrowed(&session),
                    request: None,
                    value: 0.0,
                    device: None,
                };
                let (heard, topic) =
                    (delivered.clone(), self.sender.topic(event.source()).to_owned());
                let call = move |result: Result<(i32, i64), String>| {
                    // The receiver is waiting below.
                    let _ =
                        heard.send(result.map(|(partition, offset)| {
                            (TopicPartition { topic, partition }, offset)
                        }));
                };
                self.sender.send(&event, Delivery::Call(Box::new(call)))?;
            }
            println!("   {}, {:.0} s", item.id, duration_ms as f64 / 1000.0);
        }
        drop(delivered);
        let mut last = std::collections::BTreeMap::new();
        for position in deliveries {
            let (tp, offset) = position?;
            let newest = last.entry(tp).or_insert(offset);
            *newest = offset.max(*newest);
        }
        Ok(last.into_iter().collect())
    }

    fn print(&self, reply: &Reply, before: &[&str]) {
        let rows: Vec<Vec<String>> = reply
            .items
            .iter()
            .enumerate()
            .map(|(place, item)| {
                let new = !before.is_empty() && !before.contains(&item.item.as_str());
                vec![
                    (place + 1).to_string(),
                    item.item.clone(),
                    self.category_of(&item.item).to_owned(),
                    if new { "new".into() } else { String::new() },
                    item.reasons.first().map_or_else(String::new, |r| r.text.clone()),
                ]
            })
            .collect();
        output::table(&["#", "item", "category", "", "why"], &rows);
    }

    fn conclude(&self, before: &Reply, after: &Reply, category: &str, took: Duration) {
        let old: Vec<&str> = before.items.iter().map(|i| i.item.as_str()).collect();
        let new = after.items.iter().filter(|i| !old.contains(&i.item.as_str())).count();
        println!(
            "\n{new} of {} are new; {category} has {} places instead of {}. The answer {} the \
             events and took {:.1} ms.",
            after.items.len(),
            self.in_category(after, category),
            self.in_category(before, category),
            if after.after == After::Satisfied { "knows" } else { "may lack" },
            took.as_secs_f64() * 1000.0
        );
    }

    fn invite(&self, config: &Config, item: &Item) {
        let prefix = &config.topics.prefix;
        // As it was started: it need not be on the PATH.
        let driftline = std::env::current_exe()
            .map_or_else(|_| "driftline".into(), |path| path.display().to_string());
        println!(
            "\nTry it yourself while this runs:\n  echo '{{\"event_id\":\"1\",\"user\":\"me\",\"item\":\"{}\",\
             \"event_time\":'$(date +%s000)'}}' | kcat -b {} -P -t {prefix}click-events\n  \
             echo '{{\"event_id\":\"2\",\"user\":\"me\",\"kind\":\"NOT_INTERESTED\",\
             \"subject_kind\":\"ITEM\",\"subject\":\"{}\",\"event_time\":'$(date +%s000)'}}' \
             | kcat -b {} -P -t {prefix}feedback-events\n  \
             {driftline} --bootstrap {} --set topics.prefix={prefix} recommend --user me\n\n\
             Or let most people turn to other tastes, and look at the clicks below:\n  \
             {driftline} --bootstrap {} --set topics.prefix={prefix} simulate inject taste-shift\n",
            item.id,
            config.kafka.bootstrap,
            item.id,
            config.kafka.bootstrap,
            config.kafka.bootstrap,
            config.kafka.bootstrap
        );
    }
}

fn seconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}

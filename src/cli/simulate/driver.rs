//! Drives a world over Kafka: asks for the lists of its visits, serves them to its people, and
//! sends what they do as events.
//!
//! Visits are opened in event-time order and closed in the order they were opened, a bounded
//! number at a time; each closing makes room for exactly one more. So, at full speed, what the
//! world sees depends on the lists alone and not on how fast they came.
//!
//! Scenarios begin at their event time, or between two visits when they are asked for.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::control::Control;
use super::lists::{Lists, Policy};
use super::record::{Record, Versions};
use super::settings::{ANSWER_MS, Settings, may_open};
use super::tally::Tally;
use super::trainings::Trainings;
use crate::cli::Failure;
use crate::cli::pace::Pacer;
use crate::client::{Asked, Asking, EventSender, RequestClient};
use crate::config::Config;
use crate::event::{After, Device, EventKind, Reply, Request, Source, UserEvent};
use crate::ids::{ItemId, UserId};
use crate::kafka::{Delivery, ProducerKind, TopicPartition};
use crate::runtime::Stop;
use crate::simulation::{Action, Fate, Fault, Intent, Response, Scenario, Truth, Visit, World};
use crate::time::{EventTime, wall_now};

/// How long the first reply may take: a worker that has just started restores its shards first.
const FIRST_REPLY: Duration = Duration::from_secs(30);
/// How long events may take to be delivered once everything is over.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);
/// How often a thread that waits looks whether it should stop.
const LOOK: Duration = Duration::from_millis(100);

/// A world that runs in the background.
pub struct Driver {
    tally: Arc<Mutex<Tally>>,
    thread: JoinHandle<Result<Record, Failure>>,
}

impl Driver {
    /// Makes the world, connects, and starts to drive. `stop` ends it soon: open visits are
    /// given up, events are delivered.
    ///
    /// # Errors
    /// Where the world cannot be made or a client cannot connect.
    pub fn start(config: &Config, settings: Settings, stop: Stop) -> Result<Self, Failure> {
        let world = settings.make_world()?;
        let catalog = super::catalog::publish(config, &world)?;
        tracing::info!(added = catalog.added, changed = catalog.changed, "the world's catalog");
        let client = match settings.policy {
            Policy::Served => Some(RequestClient::connect(config)?),
            _ => None,
        };
        let control = if settings.listens { Some(Control::listen(config)?) } else { None };
        let follow = |takes| Trainings::follow(config, takes);
        let trainings = settings.training_ms.map(follow).transpose()?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (inform, news) = channel();
        let mut to_come = settings.truths.clone();
        to_come.sort_by_key(|truth| std::cmp::Reverse(truth.at));
        let mut settings = settings;
        settings.commands.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let run = Run {
            config: config.clone(),
            control,
            trainings,
            to_come,
            record: Record::default(),
            lists: Lists::new(&world, settings.policy),
            pacer: Pacer::new(settings.speed),
            events: EventSender::new(config, ProducerKind::Durable)?,
            client,
            world,
            settings,
            stop,
            tally: Arc::clone(&tally),
            window: VecDeque::new(),
            first: 0,
            people: HashMap::new(),
            inform,
            news,
            begun: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("simulate".into()).spawn(|| run.run())?;
        Ok(Self { tally, thread })
    }

    /// The counts so far.
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Whether it has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it ended because something failed.
    pub fn join(self) -> Result<(Tally, Record), Failure> {
        let record = self.thread.join().map_err(|_| "the simulation panicked")??;
        Ok((lock(&self.tally).clone(), record))
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What other threads tell the driver.
enum News {
    Reply { number: u64, reply: Reply },
    Delivered { user: UserId, source: Source, result: Result<(i32, i64), String> },
}

/// A visit that waits for its list.
struct Open {
    visit: Visit,
    stage: Stage,
}

enum Stage {
    /// For the user's own last events to have a position.
    Delivering,
    /// For the reply.
    Asked { asked: Asked, since: Instant },
    /// The list, or none where there was an error.
    Settled(Option<List>),
}

struct List {
    items: Vec<ItemId>,
    /// Version of the model that made it.
    version: String,
    degraded: bool,
    /// Whether it lacks the user's own last events.
    stale: bool,
}

/// What is known of a person's events.
#[derive(Default)]
struct Known {
    /// Last position on each event topic.
    last: [Option<(i32, i64)>; 2],
    under_way: usize,
    /// Their visit that waits for deliveries.
    waiting: Option<u64>,
    /// Items lately shown to them, oldest first.
    shown: VecDeque<ItemId>,
    versions: Versions,
}

struct Run {
    config: Config,
    settings: Settings,
    control: Option<Control>,
    trainings: Option<Trainings>,
    /// What is known to happen, the next one last.
    to_come: Vec<Truth>,
    record: Record,
    world: World,
    lists: Lists,
    pacer: Pacer,
    events: EventSender,
    client: Option<RequestClient>,
    stop: Stop,
    tally: Arc<Mutex<Tally>>,
    window: VecDeque<Open>,
    /// Number of the visit at the front of the window.
    first: u64,
    people: HashMap<UserId, Known>,
    inform: Sender<News>,
    news: Receiver<News>,
    begun: Instant,
}

impl Run {
    fn run(mut self) -> Result<Record, Failure> {
        self.await_worker()?;
        self.begun = Instant::now();
        while !self.stop.is_requested() {
            let asked = self.control.as_mut().map(Control::asked).unwrap_or_default();
            asked.into_iter().for_each(|scenario| self.inject(scenario));
            let due_in = self.open_visits()?;
            if self.window.is_empty() {
                match due_in {
                    Some(wait) => drop(self.stop.sleep(wait.min(LOOK))),
                    None => break,
                }
                continue;
            }
            if self.wait_for_front(due_in)? {
                self.close_front()?;
            }
        }
        // Visits given up; a delivery must not ask for them any more.
        self.window.clear();
        self.events.flush(FLUSH_LIMIT)?;
        while let Ok(news) = self.news.try_recv() {
            self.take_in(news)?;
        }
        Ok(self.record)
    }

    /// Lets a scenario begin with the next visit.
    fn inject(&mut self, scenario: Scenario) {
        let at = self.world.next_at().unwrap_or(self.world.now());
        let plan = scenario.plan(at, at);
        plan.shifts.into_iter().for_each(|shift| self.world.apply(shift));
        self.settings.faults.extend(plan.faults);
        self.to_come.push(plan.truth);
        self.to_come.sort_by_key(|truth| std::cmp::Reverse(truth.at));
    }

    /// Tells of what has begun by `at`.
    fn begin_scenarios(&mut self, at: EventTime) -> Result<(), Failure> {
        while let Some(truth) = self.to_come.pop_if(|truth| truth.at <= at) {
            let scenario = truth.scenario;
            eprintln!("{scenario} begins: {}", scenario.about());
            self.record.begin(truth);
            if scenario == Scenario::CreatorLeaves {
                // The platform says which items are gone.
                super::catalog::publish(&self.config, &self.world)?;
            }
        }
        Ok(())
    }

    /// Runs what is to be run by `at`.
    fn run_commands(&mut self, at: EventTime) -> Result<(), Failure> {
        while let Some((_, command)) = self.settings.commands.pop_if(|(due, _)| *due <= at) {
            let mut shell = std::process::Command::new("sh");
            // What it prints is not the summary.
            let status = shell.args(["-c", &command]).stdout(std::io::stderr()).status()?;
            if !status.success() {
                return Err(format!("{command:?} ended with {status}").into());
            }
            self.pacer = Pacer::new(self.settings.speed);
        }
        Ok(())
    }

    /// Asks until somebody answers, so that a worker that is starting costs no visits.
    fn await_worker(&self) -> Result<(), Failure> {
        let Some(client) = &self.client else { return Ok(()) };
        let Some(person) = self.world.people().first() else { return Ok(()) };
        let request = Request::new("", person.id.clone(), 1);
        while self.begun.elapsed() < FIRST_REPLY && !self.stop.is_requested() {
            let asking = Asking { deadline_ms: Some(wall_now() + 1_000), after: Vec::new() };
            match client.ask(&request, &asking, Duration::from_millis(1_500)) {
                Ok(reply) if reply.error.is_none() => return Ok(()),
                Ok(reply) => tracing::debug!(error = ?reply.error, "not yet"),
                Err(crate::client::ClientError::NoReply(_)) => {}
                Err(error) => return Err(error.into()),
            }
            tracing::info!("waiting for a worker to answer");
        }
        if self.stop.is_requested() {
            return Ok(());
        }
        Err(format!(
            "no worker answered within {FIRST_REPLY:?}: start one with `driftline worker`, look \
             with `driftline doctor`, or run without one with --policy popular"
        )
        .into())
    }

    fn is_closing(&self) -> bool {
        self.settings.wall_limit.is_some_and(|limit| self.begun.elapsed() >= limit)
    }

    /// Opens visits as long as there is room. Returns how long until the next one is due; none
    /// where there will be no more.
    fn open_visits(&mut self) -> Result<Option<Duration>, Failure> {
        while !self.is_closing() {
            let Some(at) = self.world.next_at() else { break };
            let oldest = self.window.front().map(|open| open.visit.at);
            if self.window.len() >= self.settings.in_flight || !may_open(at, oldest) {
                return Ok(Some(LOOK));
            }
            if let Some(trainings) = &mut self.trainings
                && trainings.hold(self.world.now())?
            {
                // It goes on at its pace: what it stood still for is not made up for.
                self.pacer = Pacer::new(self.settings.speed);
                return Ok(Some(LOOK));
            }
            if at >= self.settings.head_start {
                let due_in = self.pacer.until(at);
                if !due_in.is_zero() {
                    return Ok(Some(due_in));
                }
            }
            let Some(visit) = self.world.next_visit() else { break };
            self.run_commands(visit.at)?;
            self.begin_scenarios(visit.at)?;
            self.open(visit)?;
        }
        // Whoever continues their session may still come.
        Ok((!self.window.is_empty()).then_some(LOOK))
    }

    fn open(&mut self, visit: Visit) -> Result<(), Failure> {
        {
            let mut tally = lock(&self.tally);
            tally.visits += 1;
            tally.now = visit.at;
        }
        if visit.intent == Intent::Search {
            let response = self.world.organic(&visit);
            self.lists.learn(&visit, &response);
            return self.send(&visit, &response, None);
        }
        let number = self.first + self.window.len() as u64;
        let stage = if self.client.is_none() {
            let items = self.lists.list(&self.world, &visit, self.settings.count);
            let version = String::new();
            Stage::Settled(Some(List { items, version, degraded: false, stale: false }))
        } else {
            let known = self.people.entry(visit.user.clone()).or_default();
            if known.under_way > 0 {
                known.waiting = Some(number);
                Stage::Delivering
            } else {
                self.ask(&visit, number)?
            }
        };
        self.window.push_back(Open { visit, stage });
        Ok(())
    }

    /// Asks for a visit's list; the answer must know the person's own last events.
    fn ask(&self, visit: &Visit, number: u64) -> Result<Stage, Failure> {
        let Some(client) = &self.client else { return Ok(Stage::Settled(None)) };
        let device = Device {
            platform: visit.device.into(),
            locale: visit.locale.into(),
            ..Device::default()
        };
        let known = self.people.get(&visit.user);
        let last = known.map(|known| known.last).unwrap_or_default();
        let request = Request {
            surface: visit.surface.clone(),
            exclude: known.map(|known| known.shown.iter().cloned().collect()).unwrap_or_default(),
            context_item: visit.context.clone(),
            device: Some(device),
            at: Some(visit.at),
            ..Request::new(request_id(visit), visit.user.clone(), self.settings.count)
        };
        let after = Source::ALL.into_iter().zip(last).filter_map(|(source, last)| {
            let (partition, offset) = last?;
            Some((TopicPartition { topic: self.events.topic(source).into(), partition }, offset))
        });
        let limit = i64::try_from(self.settings.timeout.as_millis()).unwrap_or(i64::MAX);
        let asking =
            Asking { deadline_ms: Some(wall_now().saturating_add(limit)), after: after.collect() };
        let inform = self.inform.clone();
        let on_reply = move |reply| drop(inform.send(News::Reply { number, reply }));
        let asked = client.send_with(&request, &asking, on_reply)?;
        Ok(Stage::Asked { asked, since: Instant::now() })
    }

    /// Waits until the oldest visit has its list, and returns true; or until another visit may
    /// be due, and returns false.
    fn wait_for_front(&mut self, due_in: Option<Duration>) -> Result<bool, Failure> {
        let until = Instant::now() + due_in.unwrap_or(LOOK).min(LOOK);
        loop {
            // Whatever has come is taken in first, so that other visits move on too.
            while let Ok(news) = self.news.try_recv() {
                self.take_in(news)?;
            }
            let Some(front) = self.window.front_mut() else { return Ok(false) };
            match &front.stage {
                Stage::Settled(_) => return Ok(true),
                Stage::Asked { asked, since } if since.elapsed() > self.settings.timeout + LOOK => {
                    if let Some(client) = &self.client {
                        client.forget(*asked);
                    }
                    lock(&self.tally).errors += 1;
                    front.stage = Stage::Settled(None);
                    return Ok(true);
                }
                Stage::Asked { .. } | Stage::Delivering => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.news.recv_timeout(left) {
                Ok(news) => self.take_in(news)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ok(false);
                }
            }
        }
    }

    fn take_in(&mut self, news: News) -> Result<(), Failure> {
        match news {
            News::Reply { number, reply } => {
                self.settle(number, reply);
                Ok(())
            }
            News::Delivered { user, source, result } => self.delivered(user, source, result),
        }
    }

    fn open_at(&mut self, number: u64) -> Option<&mut Open> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.window.get_mut(place)
    }

    fn settle(&mut self, number: u64, reply: Reply) {
        // A reply that came after its time has no visit any more.
        let Some(open) = self.open_at(number) else { return };
        let Stage::Asked { since, .. } = open.stage else { return };
        open.stage = Stage::Settled(reply.error.is_none().then(|| List {
            items: reply.items.iter().map(|i| ItemId::from(i.item.as_str())).collect(),
            version: reply.model_version,
            degraded: !reply.degraded.is_empty(),
            stale: reply.after == After::Missed,
        }));
        let mut tally = lock(&self.tally);
        tally.round_trip(since.elapsed());
        tally.errors += u64::from(reply.error.is_some());
        if let Some(error) = reply.error {
            tracing::debug!(kind = error.kind.name(), error.message, "no list");
        }
    }

    fn delivered(
        &mut self,
        user: UserId,
        source: Source,
        result: Result<(i32, i64), String>,
    ) -> Result<(), Failure> {
        let position = result.map_err(|e| format!("an event was not delivered: {e}"))?;
        lock(&self.tally).events += 1;
        let known = self.people.entry(user).or_default();
        known.under_way = known.under_way.saturating_sub(1);
        let last = &mut known.last[source as usize];
        *last = (*last).max(Some(position));
        if known.under_way == 0
            && let Some(number) = known.waiting.take()
            && let Some(open) = self.open_at(number)
        {
            let visit = open.visit.clone();
            let stage = self.ask(&visit, number)?;
            if let Some(open) = self.open_at(number) {
                open.stage = stage;
            }
        }
        Ok(())
    }

    /// Shows the oldest visit its list and sends what came of it.
    fn close_front(&mut self) -> Result<(), Failure> {
        let Some(Open { visit, stage: Stage::Settled(list) }) = self.window.pop_front() else {
            return Ok(());
        };
        self.first += 1;
        // Without a list the person leaves, and comes back another time.
        let Some(list) = list else {
            self.record.fail(&visit);
            return Ok(());
        };
        let known = self.people.entry(visit.user.clone()).or_default();
        if known.versions.answer(&visit.session, &list.version) {
            self.record.mix();
        }
        self.record.compare(&self.world, &visit, &list.items);
        let response = self.world.respond(&visit, &list.items, visit.at.plus_millis(ANSWER_MS));
        self.lists.learn(&visit, &response);
        self.record.respond(&visit, &response);
        {
            let mut tally = lock(&self.tally);
            tally.lists += 1;
            tally.shown += list.items.len() as u64;
            tally.degraded += u64::from(list.degraded);
            tally.stale += u64::from(list.stale);
            tally.clicks += response.clicks as u64;
            tally.unknown += response.unknown as u64;
        }
        self.remember_shown(&visit.user, list.items);
        let request = self.client.is_some().then(|| request_id(&visit));
        self.send(&visit, &response, request.as_deref())
    }

    fn remember_shown(&mut self, user: &UserId, items: Vec<ItemId>) {
        let limit = self.settings.exclude_shown;
        if limit > 0 {
            let shown = &mut self.people.entry(user.clone()).or_default().shown;
            shown.extend(items);
            shown.drain(..shown.len().saturating_sub(limit));
        }
    }

    fn send(
        &mut self,
        visit: &Visit,
        response: &Response,
        request: Option<&str>,
    ) -> Result<(), Failure> {
        for action in &response.actions {
            let fate = Fault::fate_of_all(&self.settings.faults, visit, action);
            if fate == Fate::Lost {
                continue;
            }
            let event = event(visit, action, request);
            let (inform, user, source) = (self.inform.clone(), visit.user.clone(), event.source());
            let delivery = Delivery::Call(Box::new(move |result| {
                drop(inform.send(News::Delivered { user, source, result }));
            }));
            self.people.entry(visit.user.clone()).or_default().under_way += 1;
            if fate == Fate::Damaged {
                self.events.send_damaged(&event, delivery)?;
            } else {
                self.events.send(&event, delivery)?;
            }
        }
        Ok(())
    }
}

/// The same on every run, as the world's own ids are.
fn request_id(visit: &Visit) -> String {
    format!("{}-p{}", visit.session, visit.page)
}

/// What a person did, as the platform's event.
fn event<'a>(visit: &'a Visit, action: &'a Action, request: Option<&'a str>) -> UserEvent<'a> {
    let kind = match action {
        Action::Click { position, .. } => EventKind::Click { position: *position },
        Action::Watch { watched_ms, duration_ms, .. } => {
            EventKind::Watch { watched_ms: *watched_ms, duration_ms: *duration_ms }
        }
    };
    UserEvent {
        id: Cow::Borrowed(action.event_id()),
        user: Cow::Borrowed(visit.user.as_str()),
        item: Cow::Borrowed(action.item().as_str()),
        at: action.at(),
        kind,
        surface: Cow::Borrowed(visit.surface.as_str()),
        session: Cow::Borrowed(&visit.session),
        request: request.map(Cow::Borrowed),
        value: 0.0,
        device: Some(Device {
            platform: visit.device.into(),
            locale: visit.locale.into(),
            ..Device::default()
        }),
    }
}

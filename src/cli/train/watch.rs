//! `driftline train --watch`: a run for what asks for a model, one at a time.
//!
//! Of a group's members the one that is assigned the topic of triggers trains; the others stand by. A run is a
//! process of its own, so that the member stays one while it lasts, and what kills a run does not kill
//! who starts the next. What became of a trigger is on `training-runs`; there whoever takes over finds
//! what is answered. A run that was cut off goes on from its last whole stage.

use std::collections::{BTreeMap, HashSet};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{Failure, cluster, interrupt};
use crate::config::Config;
use crate::event::{RetrainTrigger, RunState, TrainingRun, TriggerAction};
use crate::kafka::{
    Assigned, Delivery, GroupConsumer, HandlerError, Log, Outgoing, Producer, ProducerKind, Record,
    RecordHandler, TopicPartition, Tracker, WholeTopic,
};
use crate::time::wall_now;

/// How often a run that fails is begun again, and how long after.
const ATTEMPTS: i32 = 3;
const PAUSE: Duration = Duration::from_secs(30);
/// How long a delivery may take.
const DELIVERY_LIMIT: Duration = Duration::from_secs(150);
/// How long a read waits.
const WAIT: Duration = Duration::from_millis(20);
/// Exit codes of `driftline train`.
const REFUSED: i32 = 2;
const UNFIT: i32 = 3;

/// Trains on triggers until it is told to stop. With `promote`, a version that may serve does.
pub fn run(config: &Config, promote: bool) -> Result<ExitCode, Failure> {
    let (triggers, runs) = (config.topics.retrain_triggers(), config.topics.training_runs());
    cluster::require(&cluster::connect(config)?.1, &[&triggers, &runs])?;
    let stop = interrupt::stop_on_signal()?;
    let kafka = &config.kafka;
    while !stop.is_requested() {
        let consumer = GroupConsumer::join(
            &kafka.client(),
            &format!("{}-trainer", kafka.group),
            kafka.group_protocol,
            "driftline-trainer",
            &[&triggers],
        )?;
        let mut trainer = Trainer::new(config, promote)?;
        let ended = consumer.run(&mut trainer, || stop.is_requested());
        trainer.break_off();
        if let Err(error) = ended {
            tracing::error!(%error, "the trainer begins again");
            stop.sleep(Duration::from_secs(1));
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Trainer<'a> {
    config: &'a Config,
    promote: bool,
    producer: Producer,
    /// Triggers that are answered.
    answered: HashSet<String>,
    /// Those that are not, in the order in which they came.
    waiting: Vec<String>,
    /// Where the topic ended when it was assigned, and the next offset.
    target: i64,
    next: i64,
    run: Option<Run>,
    /// Of the trigger that was begun last.
    attempts: BTreeMap<String, i32>,
    not_before: Instant,
}

/// A run under way.
struct Run {
    trigger: String,
    child: Child,
    /// What it prints and what it says, read while it runs: a full pipe would stop it.
    printed: JoinHandle<String>,
    said: JoinHandle<String>,
}

impl<'a> Trainer<'a> {
    fn new(config: &'a Config, promote: bool) -> Result<Self, Failure> {
        let client = config.kafka.client();
        Ok(Self {
            config,
            promote,
            producer: Producer::new(&client, ProducerKind::Durable, "driftline-trainer")?,
            answered: HashSet::new(),
            waiting: Vec::new(),
            target: i64::MAX,
            next: 0,
            run: None,
            attempts: BTreeMap::new(),
            not_before: Instant::now(),
        })
    }

    /// Ends a run; whoever is next goes on with it.
    fn break_off(&mut self) {
        if let Some(Run { mut child, .. }) = self.run.take() {
            let ended = child.kill().and_then(|()| child.wait().map(drop));
            if let Err(error) = ended {
                tracing::warn!(%error, "a run does not end");
            }
        }
    }

    fn tell(&self, run: &TrainingRun) -> Result<(), HandlerError> {
        let TrainingRun { trigger, state, version, reasons, .. } = run;
        tracing::info!(trigger, ?state, version, ?reasons, "training run");
        let value = run.encode()?;
        let topic = self.config.topics.training_runs();
        let outgoing = Outgoing {
            topic: &topic,
            key: Some(run.trigger.as_bytes()),
            value: &value,
            ..Outgoing::default()
        };
        let tracker = Arc::new(Tracker::default());
        self.producer.send(&outgoing, Delivery::Tracked(Arc::clone(&tracker)))?;
        Ok(tracker.wait(DELIVERY_LIMIT)?)
    }

    /// Begins a run for the newest trigger: it answers the others too, since it reads what is there now.
    fn begin(&mut self) -> Result<(), HandlerError> {
        let Some(trigger) = self.waiting.last().cloned() else { return Ok(()) };
        let attempt = self.attempts.entry(trigger.clone()).or_default();
        *attempt += 1;
        let attempt = *attempt;
        let told = |trigger: &str, state| TrainingRun {
            trigger: trigger.to_owned(),
            state,
            at: wall_now(),
            attempt,
            ..TrainingRun::default()
        };
        self.tell(&told(&trigger, RunState::Started))?;
        for other in self.waiting.clone().iter().filter(|other| **other != trigger) {
            let collapsed_into = trigger.clone();
            let collapsed = told(other, RunState::Collapsed);
            self.tell(&TrainingRun { collapsed_into, ..collapsed })?;
            self.answered.insert(other.clone());
        }
        self.waiting = vec![trigger.clone()];
        let mut child = driftline(&["--watch", "--promote"], &["--trigger", &trigger, "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (printed, said) = (read(child.stdout.take()), read(child.stderr.take()));
        self.run = Some(Run { trigger, child, printed, said });
        Ok(())
    }

    /// Tells how a run ended.
    fn finish(&mut self, run: Run) -> Result<(), HandlerError> {
        let Run { trigger, mut child, printed, said } = run;
        let status = child.wait()?;
        let text = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
        let reasons: Vec<String> = text(said).lines().map(str::to_owned).collect();
        let report: Value = serde_json::from_str(&text(printed)).unwrap_or_default();
        let version = report["version"].as_str().unwrap_or_default().to_owned();
        let attempt = self.attempts.get(&trigger).copied().unwrap_or(1);
        let (state, blessed) = match status.code() {
            Some(0) => (RunState::Finished, true),
            Some(REFUSED) => (RunState::Finished, false),
            Some(UNFIT) => (RunState::Refused, false),
            _ if attempt >= ATTEMPTS => (RunState::GaveUp, false),
            _ => (RunState::Failed, false),
        };
        let mut told = TrainingRun {
            trigger: trigger.clone(),
            state,
            at: wall_now(),
            attempt,
            version,
            blessed,
            reasons: if blessed { Vec::new() } else { reasons },
            ..TrainingRun::default()
        };
        if blessed && self.promote {
            let why = format!("trigger {trigger}");
            let output = Command::new(std::env::current_exe()?)
                .args(common_arguments())
                .args(["models", "promote", &told.version, "--why", &why])
                .output()?;
            told.promoted = output.status.success();
            if !told.promoted {
                let said = String::from_utf8_lossy(&output.stderr);
                told.reasons = said.lines().map(str::to_owned).collect();
            }
        }
        self.tell(&told)?;
        if state.is_final() {
            self.waiting.retain(|waiting| *waiting != trigger);
            self.answered.insert(trigger);
        } else {
            self.not_before = Instant::now() + PAUSE;
        }
        Ok(())
    }
}

/// Reads all that comes, on a thread of its own.
fn read(pipe: Option<impl std::io::Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe
            && let Err(error) = pipe.read_to_end(&mut bytes)
        {
            tracing::warn!(%error, "what a run says cannot be read");
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// This program with its own arguments but for `without`, and these.
fn driftline(without: &[&str], with: &[&str]) -> Command {
    let own = std::env::current_exe().unwrap_or_else(|_| "driftline".into());
    let mut command = Command::new(own);
    let given = std::env::args().skip(1).filter(|argument| !without.contains(&argument.as_str()));
    command.args(given).args(with);
    command
}

/// The arguments that every subcommand takes: those before the name of this one, and after it all that
/// is not its own.
fn common_arguments() -> Vec<String> {
    let own = ["train", "--watch", "--promote"];
    std::env::args().skip(1).filter(|argument| !own.contains(&argument.as_str())).collect()
}

/// Triggers that a run has answered.
fn answered(config: &Config) -> Result<HashSet<String>, HandlerError> {
    let name = config.topics.training_runs();
    let mut topic = WholeTopic::open(&config.kafka.client(), &name, "driftline-trainer")?;
    topic.mark_end()?;
    let mut answered = HashSet::new();
    while !topic.is_at_mark() {
        let Some(record) = topic.poll(WAIT) else { continue };
        match TrainingRun::decode(record.value()) {
            Ok(run) if run.state.is_final() => drop(answered.insert(run.trigger)),
            Ok(_) => {}
            Err(error) => tracing::warn!(offset = record.offset(), %error, "{name}"),
        }
    }
    Ok(answered)
}

impl RecordHandler for Trainer<'_> {
    fn assigned(
        &mut self,
        partitions: &[TopicPartition],
        log: &Log<'_>,
    ) -> Result<Vec<Assigned>, HandlerError> {
        let Some(first) = partitions.iter().find(|tp| tp.partition == 0) else {
            return Ok(Vec::new());
        };
        let (low, high) = log.bounds(first)?;
        self.answered = answered(self.config)?;
        (self.target, self.next) = (high, low);
        Ok(vec![Assigned { partition: first.clone(), offset: low }])
    }

    fn revoked(&mut self, _partitions: &[TopicPartition]) -> Result<(), HandlerError> {
        self.break_off();
        self.waiting.clear();
        self.target = i64::MAX;
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), HandlerError> {
        self.next = record.offset() + 1;
        let trigger = match RetrainTrigger::decode(record.value()) {
            Ok(trigger) => trigger,
            Err(error) => {
                tracing::warn!(offset = record.offset(), %error, "a trigger is passed over");
                return Ok(());
            }
        };
        let id = trigger.event_id;
        let is_new = !self.answered.contains(&id) && !self.waiting.contains(&id);
        if trigger.action == TriggerAction::Retrain && is_new {
            self.waiting.push(id);
        }
        Ok(())
    }

    fn tick(&mut self, _busy: bool) -> Result<Vec<(TopicPartition, i64)>, HandlerError> {
        let has_ended = match &mut self.run {
            Some(run) => run.child.try_wait()?.is_some(),
            None => false,
        };
        if has_ended {
            if let Some(run) = self.run.take() {
                self.finish(run)?;
            }
        } else if self.run.is_none()
            && self.next >= self.target
            && Instant::now() >= self.not_before
        {
            self.begin()?;
        }
        let partition =
            TopicPartition { topic: self.config.topics.retrain_triggers(), partition: 0 };
        let is_done = self.run.is_none() && self.waiting.is_empty() && self.next >= self.target;
        Ok(if is_done { vec![(partition, self.next)] } else { Vec::new() })
    }
}

//! Tries versions and lets them serve: wires of `deployment/` and `registry/` to Kafka.
//!
//! Enters: versions that trainers blessed, words of workers, metrics, triggers that ask for a rollback.
//! Leaves: decisions on `model-control`, and a registry that says the same. State is the last decision:
//! any number of these may run, each decision is one's, and whoever is held up writes nothing later.

mod observer;
mod operator;

use std::collections::HashSet;
use std::time::{Duration, Instant};

pub use observer::Observer;
pub use operator::{DeployError, Operator, Who};

use crate::config::Config;
use crate::deployment::{ControlError, Decision, Plan, decide};
use crate::event::{ModelControl, Phase};
use crate::kafka::has_lost_brokers;
use crate::registry::ModelVersion;
use crate::runtime::Stop;
use crate::telemetry::names;

/// Pause after what failed and may pass.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often registry and `models` are held against decisions and experiments.
const SETTLE: Duration = Duration::from_secs(30);
/// By whom it is decided.
const BY: &str = "driftline deploy";

/// Decides until it is told to stop.
///
/// # Errors
/// [`DeployError`] where it cannot begin, or a client of Kafka has lost all brokers for good.
pub fn run(config: &Config, stop: &Stop) -> Result<(), DeployError> {
    let mut operator = Operator::open(config)?;
    let control = operator.controller().read()?.clone();
    let history = operator.controller().history()?;
    let observer = Observer::open(config, &control)?;
    let named = |control: &ModelControl| [control.candidate.clone(), control.champion.clone()];
    let mut deployer = Deployer {
        tried: history.iter().flat_map(named).collect(),
        plan: config.deployment.plan(),
        operator,
        observer,
        control,
        waiting: String::new(),
        settled: None,
    };
    deployer.say("goes on from");
    while !stop.is_requested() {
        if has_lost_brokers() {
            let lost = "a Kafka client has lost all brokers for good: start it again";
            return Err(DeployError::Refused(lost.into()));
        }
        if let Err(error) = deployer.step() {
            tracing::warn!(%error, "a decision is tried again");
            stop.sleep(RETRY_PAUSE);
        }
    }
    Ok(())
}

struct Deployer {
    plan: Plan,
    operator: Operator,
    observer: Observer,
    control: ModelControl,
    /// Versions that were tried or served, as far back as decisions are kept: none is tried again by
    /// itself.
    tried: HashSet<String>,
    /// What it last said that it waits for.
    waiting: String,
    settled: Option<Instant>,
}

impl Deployer {
    fn step(&mut self) -> Result<(), DeployError> {
        if self.operator.controller().follow() {
            let control = self.operator.controller().known().clone();
            self.follow(control);
        }
        self.observer.read();
        if self.settled.is_none_or(|at| at.elapsed() >= SETTLE) {
            self.settled = Some(Instant::now());
            self.operator.settle(&self.control)?;
        }
        let who = Who { by: BY, why: "", force: None };
        match decide(&self.observer.view(), &self.plan) {
            Decision::Next(wanted) => {
                let decided = self.operator.decide(&self.control, *wanted, &who);
                self.take(decided)
            }
            Decision::SendAgain => {
                let version = ModelVersion::parse(&self.control.candidate);
                self.observer.note_sent_again();
                match version {
                    Some(version) => self.operator.send_again(version),
                    None => Ok(()),
                }
            }
            Decision::Wait(why) => {
                if why != self.waiting {
                    tracing::info!(phase = self.control.phase.name(), "{why}");
                    self.waiting = why;
                }
                self.look_for_a_candidate()
            }
        }
    }

    /// Begins with the newest version that was judged better than what serves.
    fn look_for_a_candidate(&mut self) -> Result<(), DeployError> {
        let is_free = self.control.candidate.is_empty() && !self.control.frozen;
        let Some(blessed) = self.observer.blessed().filter(|_| is_free).map(str::to_owned) else {
            return Ok(());
        };
        let is_new = self.tried.insert(blessed.clone());
        let Some(version) = ModelVersion::parse(&blessed).filter(|_| is_new) else {
            return Ok(());
        };
        let manifest = self.operator.registry().get(version)?;
        let parent = manifest.parent.map(|parent| parent.to_string()).unwrap_or_default();
        if parent != self.control.champion {
            tracing::warn!(
                version = blessed,
                judged_against = parent,
                champion = self.control.champion,
                "it was judged against another version than the one that serves, and is not tried"
            );
            return Ok(());
        }
        let why = format!("blessed: {}", manifest.blessings.validation.reasons.join("; "));
        let begun = self.operator.begin(version, &Who { by: BY, why: &why, force: None });
        if matches!(begun, Err(DeployError::Kafka(_) | DeployError::Control(_))) {
            self.tried.remove(&blessed);
        }
        self.take(begun)
    }

    fn take(&mut self, decided: Result<ModelControl, DeployError>) -> Result<(), DeployError> {
        match decided {
            Ok(control) => {
                let labels = [("phase", control.phase.name())];
                metrics::counter!(names::ROLLOUT_DECISIONS, &labels).increment(1);
                self.follow(control);
                Ok(())
            }
            // It is read next.
            Err(DeployError::Control(ControlError::Conflict { epoch, by })) => {
                tracing::info!(epoch, by, "somebody else decided first");
                self.operator.controller().read()?;
                let control = self.operator.controller().known().clone();
                self.follow(control);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn follow(&mut self, control: ModelControl) {
        if control.epoch <= self.control.epoch {
            return;
        }
        self.tried.extend([control.candidate.clone(), control.champion.clone()]);
        self.observer.follow(&control);
        self.control = control;
        self.settled = None;
        self.waiting.clear();
        self.say("decided");
    }

    fn say(&self, what: &str) {
        let control = &self.control;
        let share = f64::from(control.share) / f64::from(crate::deployment::ALL_USERS);
        let share = if control.phase == Phase::Canary { share } else { 0.0 };
        metrics::gauge!(names::ROLLOUT_SHARE).set(share);
        metrics::gauge!(names::MODEL_EPOCH).set(control.epoch as f64);
        tracing::info!(
            epoch = control.epoch,
            phase = control.phase.name(),
            champion = control.champion,
            candidate = control.candidate,
            share,
            by = control.by,
            "{what}: {}",
            control.reason
        );
    }
}

//! What a run is made of, whoever makes its lists.

use std::time::Duration;

use super::lists::Policy;
use crate::cli::Failure;
use crate::cli::pace::Speed;
use crate::simulation::{Fault, Plan, Shift, Truth, World, WorldConfig};
use crate::time::{EventTime, MINUTE_MS};

/// What a person waits for a list, in event time. The same for every policy, so that they are
/// compared on the same evening.
pub const ANSWER_MS: i64 = 80;
/// How far in event time a visit may be opened ahead of the oldest open one. Larger: a person's
/// next page comes noticeably later than they would have asked. Smaller: less is in flight.
const LEAD_MS: i64 = 2 * MINUTE_MS;

/// Whether a visit at `at` may be opened while the oldest open one is of `oldest`.
pub fn may_open(at: EventTime, oldest: Option<EventTime>) -> bool {
    oldest.is_none_or(|oldest| at.since(oldest) <= LEAD_MS)
}

/// What to drive, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The world.
    pub world: WorldConfig,
    /// Changes of it.
    pub shifts: Vec<Shift>,
    /// What goes wrong between it and the platform.
    pub faults: Vec<Fault>,
    /// What is known beforehand to happen.
    pub truths: Vec<Truth>,
    /// Commands for the shell, each when the world has come so far; it waits until they have ended.
    pub commands: Vec<(EventTime, String)>,
    /// Whether it hears what is asked on the topic `simulation-control`.
    pub listens: bool,
    /// What a training that is asked for takes of its time; none where it does not wait for any.
    pub training_ms: Option<i64>,
    /// Before this time it goes as fast as it can.
    pub head_start: EventTime,
    /// Who makes the lists.
    pub policy: Policy,
    /// Items on a list.
    pub count: usize,
    /// Items lately shown to a user that a request asks to leave out, as an app does that pages.
    pub exclude_shown: usize,
    /// Visits open at a time.
    pub in_flight: usize,
    /// Event time against wall time.
    pub speed: Speed,
    /// How long a reply is waited for.
    pub timeout: Duration,
    /// When to open no more visits.
    pub wall_limit: Option<Duration>,
}

impl Settings {
    /// The default world.
    pub fn new(policy: Policy, speed: Speed) -> Self {
        Self {
            world: WorldConfig::default(),
            shifts: Vec::new(),
            faults: Vec::new(),
            truths: Vec::new(),
            commands: Vec::new(),
            listens: false,
            training_ms: None,
            head_start: EventTime::from_millis(i64::MIN),
            policy,
            count: 10,
            exclude_shown: 0,
            in_flight: 32,
            speed,
            timeout: Duration::from_secs(5),
            wall_limit: None,
        }
    }

    /// Lets a scenario happen.
    pub fn add(&mut self, plan: Plan) {
        self.shifts.extend(plan.shifts);
        self.faults.extend(plan.faults);
        self.truths.push(plan.truth);
    }

    /// The world with its shifts planned.
    ///
    /// # Errors
    /// Where the configuration makes no world.
    pub fn make_world(&self) -> Result<World, Failure> {
        let mut world = World::new(self.world.clone())?;
        self.shifts.iter().for_each(|shift| world.apply(*shift));
        Ok(world)
    }
}

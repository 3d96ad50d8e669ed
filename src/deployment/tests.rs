//! A fleet, controllers and their topics in memory: everything may be lost, late, doubled or killed.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::event::{
    CandidateState, MetricsWindow, ModelAck, ModelControl, Phase, RolloutArm, ServedBy, UserGroup,
};
use crate::model::BasisVersion;
use crate::time::MINUTE_MS;

const OLD: &str = "00000000000000a1";
const NEW: &str = "00000000000000b2";
const WORKERS: usize = 3;
const LEASE_MS: u64 = 1_000;
const TICK_MS: u64 = 100;

fn plan() -> Plan {
    Plan {
        min_workers: 1,
        prepare_ms: 60_000,
        shadow_requests: 60,
        steps: vec![500, 5_000],
        step_minutes: 40,
        step_impressions: 2_000,
        patience_minutes: 2_000,
        margin: 0.1,
        alpha: 0.05,
        tuning: 5_000.0,
        max_slowdown: 4.0,
        max_failures: 0.01,
    }
}

/// What a candidate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Good,
    /// Its bytes are torn, however often they are sent.
    Corrupt,
    /// Torn the first time.
    TornOnce,
    /// Users do not click what it lists.
    Disliked,
    /// Its lists take long.
    Slow,
    /// Its scores are no numbers.
    Insane,
}

struct Worker {
    control: Control,
    routing: Routing,
    read: usize,
    models_read: usize,
    loaded: BTreeSet<BasisVersion>,
    attempts: i32,
    served: BTreeMap<RolloutArm, ServedBy>,
    boot: u32,
    is_up: bool,
    highest: i64,
}

impl Worker {
    fn new() -> Self {
        Self {
            control: Control::default(),
            routing: Routing::default(),
            read: 0,
            models_read: 0,
            loaded: BTreeSet::new(),
            attempts: 0,
            served: BTreeMap::new(),
            boot: 0,
            is_up: true,
            highest: 0,
        }
    }

    /// Reads on: models first, as far as they go, then one decision.
    fn read_on(&mut self, world_models: &[bool], log: &[Vec<u8>]) {
        self.loaded.insert(BasisVersion::parse(OLD).unwrap());
        for whole in &world_models[self.models_read..] {
            self.attempts += 1;
            if *whole {
                self.loaded.insert(BasisVersion::parse(NEW).unwrap());
            }
        }
        self.models_read = world_models.len();
        if let Some(record) = log.get(self.read) {
            self.read += 1;
            if self.control.take(CONTROLLED.as_bytes(), record) == Ok(true) {
                assert!(self.control.state().epoch > self.highest, "epochs only rise");
                self.highest = self.control.state().epoch;
                self.served.clear();
            }
        }
        let loaded = &self.loaded;
        self.routing = Routing::new(self.control.state(), |version| loaded.contains(&version));
    }

    /// Answers some requests, each by one version, which is loaded.
    fn serve(&mut self, nature: Nature, dice: &mut ChaCha8Rng) {
        for _ in 0..6 {
            let user = format!("u{}", dice.random_range(0..100_000));
            let routing = self.routing.clone();
            let route = routing.route(&user);
            if let Some(version) = route.version {
                assert!(self.loaded.contains(&version), "what serves is verified");
                assert_eq!(self.control.state().phase, Phase::Canary);
                assert!(!matches!(nature, Nature::Corrupt | Nature::Slow | Nature::Insane));
            }
            for route in [Some(route), routing.shadow()].into_iter().flatten() {
                let served = self.served.entry(route.arm).or_default();
                let by_new = route.arm != RolloutArm::Champion;
                served.arm = route.arm;
                served.requests += 1;
                served.users += 1;
                served.failures += i64::from(by_new && nature == Nature::Insane);
                served.latency.resize(48, 0);
                served.latency[if by_new && nature == Nature::Slow { 30 } else { 18 }] += 1;
            }
        }
    }

    fn ack(&self, name: usize, event_time: i64) -> ModelAck {
        let control = self.control.state();
        let candidate = BasisVersion::parse(&control.candidate);
        let state = match candidate {
            None => CandidateState::None,
            Some(version) if self.loaded.contains(&version) => CandidateState::Loaded,
            Some(_) if self.attempts > 0 => CandidateState::Failed,
            Some(_) => CandidateState::Loading,
        };
        ModelAck {
            worker: name.to_string(),
            boot: self.boot.to_string(),
            epoch: control.epoch,
            candidate: control.candidate.clone(),
            state,
            attempts: self.attempts,
            lease_ms: LEASE_MS as i32,
            event_time,
            served: self.served.values().cloned().collect(),
            ..ModelAck::default()
        }
    }
}

struct Brain {
    control: Control,
    read: usize,
    fleet: Fleet,
    outcomes: Outcomes,
    windows_read: usize,
    is_sent_again: bool,
    seen_ms: u64,
    is_up: bool,
}

impl Brain {
    fn new() -> Self {
        Self {
            control: Control::default(),
            read: 0,
            fleet: Fleet::default(),
            outcomes: Outcomes::default(),
            windows_read: 0,
            is_sent_again: false,
            seen_ms: 0,
            is_up: true,
        }
    }

    fn read_on(&mut self, log: &[Vec<u8>], windows: &[MetricsWindow], now_ms: u64) {
        for record in &log[self.read..] {
            if self.control.take(CONTROLLED.as_bytes(), record) == Ok(true) {
                let state = self.control.state();
                self.outcomes = Outcomes::new(&state.champion, &state.candidate, state.since);
                self.windows_read = 0;
                self.seen_ms = now_ms;
            }
        }
        self.read = log.len();
        windows[self.windows_read..].iter().for_each(|window| self.outcomes.take(window));
        self.windows_read = windows.len();
    }
}

struct World {
    nature: Nature,
    dice: ChaCha8Rng,
    now_ms: u64,
    log: Vec<Vec<u8>>,
    /// Each time that the candidate's bytes were sent: whether they were whole.
    models: Vec<bool>,
    windows: Vec<MetricsWindow>,
    workers: Vec<Worker>,
    brains: Vec<Brain>,
}

impl World {
    fn new(nature: Nature, seed: u64) -> Self {
        let first = ModelControl { epoch: 1, champion: OLD.into(), ..ModelControl::default() };
        let next = ModelControl { epoch: 2, ..begin(&first, NEW) };
        Self {
            nature,
            dice: ChaCha8Rng::seed_from_u64(seed),
            now_ms: 0,
            log: vec![first.encode().unwrap(), next.encode().unwrap()],
            models: vec![!matches!(nature, Nature::Corrupt | Nature::TornOnce)],
            windows: Vec::new(),
            workers: (0..WORKERS).map(|_| Worker::new()).collect(),
            brains: (0..2).map(|_| Brain::new()).collect(),
        }
    }

    fn last(&self) -> ModelControl {
        let mut control = Control::default();
        self.log.iter().for_each(|record| {
            let _ = control.take(CONTROLLED.as_bytes(), record);
        });
        control.state().clone()
    }

    fn event_time(&self) -> i64 {
        1_700_000_000_000 / MINUTE_MS * MINUTE_MS + (self.now_ms / TICK_MS) as i64 * MINUTE_MS
    }

    /// What came of a minute's lists, by what serves most workers' users.
    fn publish_windows(&mut self) {
        let control = self.last();
        let share =
            if control.phase == Phase::Canary { f64::from(control.share) / 1e4 } else { 0.0 };
        let arms = [
            (control.champion.clone(), "default", 0.2, 1.0 - share),
            (
                control.candidate,
                "canary",
                if self.nature == Nature::Disliked { 0.1 } else { 0.2 },
                share,
            ),
        ];
        for (shard, (version, arm, rate, part)) in
            (0..4).flat_map(|s| arms.iter().map(move |a| (s, a)))
        {
            let impressions = (600.0 * part) as i64;
            let hits = |dice: &mut ChaCha8Rng| {
                (0..impressions).filter(|_| dice.random_bool(*rate)).count() as i64
            };
            let (clicks, long_views) = (hits(&mut self.dice), hits(&mut self.dice));
            let watched_ms = long_views * 60_000;
            // One group of users a minute.
            let group = UserGroup {
                group: (self.now_ms / TICK_MS) as i32 % 16,
                lists: impressions / 10,
                impressions,
                clicks,
                long_views,
                watched_ms,
                ..UserGroup::default()
            };
            self.windows.push(MetricsWindow {
                shard,
                start: self.event_time(),
                model_version: version.clone(),
                arm: (*arm).into(),
                revision: 1,
                impressions,
                clicks,
                long_views,
                watched_ms,
                user_groups: vec![group],
                ..MetricsWindow::default()
            });
        }
    }

    /// One tick, in which nothing is sure to happen unless `is_calm`.
    fn tick(&mut self, is_calm: bool) {
        self.now_ms += TICK_MS;
        self.publish_windows();
        let event_time = self.event_time();
        for name in 0..WORKERS {
            if !is_calm && self.dice.random_bool(0.01) {
                // Killed and started again: all that is not in the topics is gone.
                let boot = self.workers[name].boot + 1;
                self.workers[name] = Worker { boot, ..Worker::new() };
                self.workers[name].is_up = false;
            }
            let worker = &mut self.workers[name];
            if !worker.is_up {
                worker.is_up = is_calm || self.dice.random_bool(0.3);
                continue;
            }
            if is_calm || self.dice.random_bool(0.7) {
                worker.read_on(&self.models, &self.log);
            }
            worker.serve(self.nature, &mut self.dice);
            let ack = worker.ack(name, event_time);
            for brain in &mut self.brains {
                if is_calm || self.dice.random_bool(0.6) {
                    brain.fleet.take(&format!("items/{name}"), Some(ack.clone()), self.now_ms);
                }
            }
        }
        for at in 0..self.brains.len() {
            self.think(at, is_calm);
        }
    }

    fn think(&mut self, at: usize, is_calm: bool) {
        if !is_calm && self.dice.random_bool(0.02) {
            self.brains[at] = Brain { is_up: false, ..Brain::new() };
        }
        if !self.brains[at].is_up {
            self.brains[at].is_up = is_calm || self.dice.random_bool(0.3);
            return;
        }
        // One that reads nothing decides on what was.
        if is_calm || self.dice.random_bool(0.6) {
            self.brains[at].read_on(&self.log, &self.windows, self.now_ms);
        }
        let brain = &self.brains[at];
        let known = brain.control.state();
        let view = View {
            control: known,
            fleet: &brain.fleet,
            outcomes: &brain.outcomes,
            now_ms: self.now_ms,
            waited_ms: self.now_ms - brain.seen_ms,
            is_sent_again: brain.is_sent_again,
            rollback: None,
        };
        match decide(&view, &plan()) {
            Decision::Wait(_) => {}
            Decision::SendAgain => {
                self.models.push(self.nature != Nature::Corrupt);
                self.brains[at].is_sent_again = true;
            }
            Decision::Next(next) => {
                let record = ModelControl { epoch: known.epoch + 1, ..*next }.encode().unwrap();
                // The writer's name is exclusive; where it were not, this one would come late.
                let is_newest = self.last().epoch == known.epoch;
                if is_newest || self.dice.random_bool(0.5) {
                    self.log.push(record.clone());
                }
                if self.dice.random_bool(0.1) {
                    self.log.push(record);
                }
            }
        }
    }
}

/// Runs storms and then calm; returns the last decision, on which all workers agree.
fn run(nature: Nature, seed: u64) -> ModelControl {
    let mut world = World::new(nature, seed);
    for _ in 0..150 {
        world.tick(false);
    }
    for _ in 0..400 {
        world.tick(true);
        if world.last().candidate.is_empty() {
            break;
        }
    }
    for _ in 0..world.log.len() {
        world.tick(true);
    }
    let last = world.last();
    for worker in &world.workers {
        assert_eq!(worker.control.state(), &last, "all workers follow the same decision");
    }
    last
}

#[test]
fn whatever_is_lost_or_killed_a_good_candidate_serves_everywhere_in_the_end() {
    for seed in 0..40 {
        let last = run(Nature::Good, seed);
        assert_eq!((&*last.champion, &*last.previous), (NEW, OLD), "seed {seed}: {}", last.reason);
    }
}

#[test]
fn a_candidate_that_was_torn_on_its_way_is_sent_again() {
    for seed in 0..20 {
        assert_eq!(run(Nature::TornOnce, seed).champion, NEW, "seed {seed}");
    }
}

#[test]
fn what_is_corrupt_slow_or_insane_serves_nobody_and_what_is_disliked_not_for_long() {
    for nature in [Nature::Corrupt, Nature::Slow, Nature::Insane, Nature::Disliked] {
        for seed in 0..20 {
            let last = run(nature, seed);
            assert_eq!(last.champion, OLD, "{nature:?}, seed {seed}");
            assert_eq!(last.rejected, NEW, "{nature:?}, seed {seed}: {}", last.reason);
            assert!(last.quarantine, "{nature:?}, seed {seed}: {}", last.reason);
        }
    }
}

/// A fleet of one that follows `control` and has served so.
fn told(control: &ModelControl, served: Vec<ServedBy>) -> Fleet {
    let mut fleet = Fleet::default();
    let ack = ModelAck {
        epoch: control.epoch,
        candidate: control.candidate.clone(),
        state: CandidateState::Loaded,
        lease_ms: 1_000,
        event_time: control.since + 10 * MINUTE_MS,
        served,
        ..ModelAck::default()
    };
    fleet.take("items/w", Some(ack), 0);
    fleet
}

fn served(arm: RolloutArm, requests: i64, users: i64) -> ServedBy {
    ServedBy { arm, requests, users, latency: vec![requests], ..ServedBy::default() }
}

fn at(phase: Phase, share: i32) -> ModelControl {
    let first = ModelControl { epoch: 4, champion: OLD.into(), ..ModelControl::default() };
    ModelControl { phase, share, since: 1_700_000_000_000, epoch: 5, ..begin(&first, NEW) }
}

fn decided(control: &ModelControl, fleet: &Fleet, waited_ms: u64) -> Decision {
    let outcomes = Outcomes::default();
    let view = View {
        control,
        fleet,
        outcomes: &outcomes,
        now_ms: 0,
        waited_ms,
        is_sent_again: false,
        rollback: None,
    };
    decide(&view, &plan())
}

fn next(decision: Decision) -> ModelControl {
    match decision {
        Decision::Next(next) => *next,
        other => panic!("{other:?}"),
    }
}

#[test]
fn where_nothing_is_known_for_too_long_the_candidate_goes_and_may_come_again() {
    let mut control = at(Phase::Canary, 500);
    assert!(matches!(decided(&control, &told(&control, Vec::new()), 0), Decision::Wait(_)));
    let fleet = told(&control, Vec::new());
    control.since -= 3_000 * MINUTE_MS;
    let rejected = next(decided(&control, &fleet, 0));
    assert_eq!((&*rejected.rejected, rejected.quarantine), (NEW, false));
    assert!(rejected.reason.contains("not known is a failure"), "{}", rejected.reason);

    let control = at(Phase::Prepare, 0);
    let nobody = Fleet::default();
    assert!(matches!(decided(&control, &nobody, 59_999), Decision::Wait(_)));
    assert!(next(decided(&control, &nobody, 60_000)).reason.contains("0 workers"));
}

#[test]
fn users_that_are_not_in_the_arms_by_their_shares_stop_the_comparison() {
    let control = at(Phase::Canary, 5_000);
    let with = |canary, champion| {
        let arms = [(RolloutArm::Canary, canary), (RolloutArm::Champion, champion)];
        let arms = arms.map(|(arm, users)| served(arm, users, users));
        decided(&control, &told(&control, arms.to_vec()), 0)
    };
    assert!(matches!(with(1_020, 980), Decision::Wait(_)));
    let rejected = next(with(1_150, 850));
    assert!(rejected.reason.contains("not alike"), "{}", rejected.reason);
    assert!(!rejected.quarantine, "the assignment is at fault, not the version");
}

#[test]
fn what_is_frozen_goes_on_backwards_only() {
    let control = ModelControl { frozen: true, ..at(Phase::Shadow, 0) };
    let arms = [RolloutArm::Shadow, RolloutArm::Champion];
    let fleet = told(&control, arms.map(|arm| served(arm, 100, 100)).to_vec());
    match decided(&control, &fleet, 0) {
        Decision::Wait(why) => assert!(why.starts_with("frozen"), "{why}"),
        other => panic!("{other:?}"),
    }
    let insane = ServedBy { failures: 50, ..served(RolloutArm::Shadow, 100, 100) };
    let fleet = told(&control, vec![insane, served(RolloutArm::Champion, 100, 100)]);
    let rejected = next(decided(&control, &fleet, 0));
    assert!(rejected.quarantine && rejected.frozen);
}

#[test]
fn a_rollback_that_is_asked_for_goes_back_to_what_served_and_bars_what_does() {
    let serving = ModelControl {
        epoch: 9,
        champion: NEW.into(),
        previous: OLD.into(),
        ..ModelControl::default()
    };
    let back = roll_back(&serving, NEW, "errors").unwrap();
    assert_eq!((&*back.champion, &*back.previous, &*back.rejected), (OLD, "", NEW));
    assert!(back.quarantine);
    assert_eq!(roll_back(&back, NEW, "errors"), None, "asked again it does nothing");
    assert_eq!(roll_back(&serving, OLD, "errors"), None, "it does not serve");
    let canary = at(Phase::Canary, 500);
    assert_eq!(roll_back(&canary, NEW, "errors").unwrap().champion, OLD);
    let first = ModelControl { champion: NEW.into(), ..ModelControl::default() };
    assert_eq!(roll_back(&first, NEW, "errors"), None, "there is nothing to go back to");
}

#[test]
fn a_version_that_is_promoted_by_hand_ends_the_trial_of_another() {
    let promoted = promote(&at(Phase::Canary, 500), NEW);
    assert_eq!((&*promoted.champion, &*promoted.previous), (NEW, OLD));
    assert_eq!((promoted.phase, promoted.share), (Phase::Serving, 0));
    assert!(promoted.candidate.is_empty());
    assert_eq!(promote(&promoted, NEW).previous, OLD, "promoted again it keeps what was before");
}

//! What is scored when, and what is learnt when. Pure: a log and a protocol make a [`Plan`].
//!
//! Enters: a [`Log`]. Leaves: steps for the replayer. Never lets a target be folded or learnt
//! before it is scored, nor what came of an exposure before that is; events of one exposure (its
//! click and its watch) go together.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::log::{Event, Exposure, Log, Target};
use crate::ids::stable_hash;

/// A named way of evaluating.
#[derive(Clone, Debug, PartialEq)]
pub enum Protocol {
    /// Every target is scored, then folded and learnt: the headline, and what happens in
    /// production (Dawid, 1984; Gama et al., 2013). The only one that judges what was shown, where
    /// the log keeps it: each exposure before what came of it.
    Prequential,
    /// Learn the periods before p, test on p, for every p (ADER; Mi et al., RecSys 2020): items
    /// not seen before p are left out, then users with one event in p. Users' histories go on
    /// within p; the means are over periods.
    Periods {
        /// Length of a period, in milliseconds.
        length_ms: i64,
        /// Whether tables learn p event by event, after scoring each, in place of at its end.
        per_event: bool,
    },
    /// Each user's last target, all else learnt before. It leaks the future: only to match
    /// published tables.
    LeaveLastOut,
    /// Given targets, each against given negatives, all else learnt before. Sampled metrics
    /// mislead (Krichene and Rendle, KDD 2020): only to match published tables.
    Negatives(Vec<GivenTarget>),
    /// The first share of the log is learnt; the rest is tested. Users' histories go on, what is
    /// learnt over all users does not.
    TimeSplit {
        /// Share of events before the split, between 0 and 1.
        train_share: f64,
    },
}

/// A line of a file of negatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenTarget {
    /// The user's id.
    pub user: String,
    /// The item to be found.
    pub item: String,
    /// The items it is to be found among.
    pub negatives: Vec<String>,
}

impl Protocol {
    /// As the command line and reports name it.
    pub fn name(&self) -> &'static str {
        match self {
            Protocol::Prequential => "prequential",
            Protocol::Periods { .. } => "periods",
            Protocol::LeaveLastOut => "leave-last-out",
            Protocol::Negatives(_) => "negatives",
            Protocol::TimeSplit { .. } => "time-split",
        }
    }
}

/// What counts as a target, and which of them are scored.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// What counts.
    pub target: Target,
    /// Whether items that the user has had before are recommended and scored again.
    pub repeats: bool,
    /// Whether targets of users without history are scored.
    pub newcomers: bool,
    /// The share of targets scored, chosen by hash.
    pub sample: f64,
    /// Decides which.
    pub seed: u64,
}

impl Selection {
    /// Whether what has this hash is in the sample.
    fn is_drawn(&self, hash: u64) -> bool {
        let draw = stable_hash(&(hash ^ stable_hash(&self.seed.to_le_bytes())).to_le_bytes());
        self.sample >= 1.0 || (draw as f64) < self.sample * u64::MAX as f64
    }
}

/// What the replayer does next, with the event at this place of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Rank the event's item in the list that its user would get.
    Score(u32),
    /// Score what was shown: the exposure at this place, in place of an event.
    Judge(u32),
    /// Fold it into its user's history.
    Fold(u32),
    /// Let the tables over all users learn it.
    Learn(u32),
}

impl Step {
    /// Whether somebody is served.
    pub fn asks(self) -> bool {
        matches!(self, Step::Score(_) | Step::Judge(_))
    }
}

/// A protocol on a log.
#[derive(Debug, Default)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// The period of each scored target, in the order of scoring; all 0 without periods.
    pub periods: Vec<u32>,
    /// By scored target, the place of its line among the given ones.
    pub given: Vec<usize>,
    /// Targets that were left out.
    pub left_out: LeftOut,
}

/// Targets that were not scored, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// The user has had the item before, and repeats are masked.
    pub repeats: u64,
    /// The user had no history.
    pub newcomers: u64,
    /// Not drawn into the sample.
    pub not_drawn: u64,
    /// By a rule of the protocol.
    pub by_protocol: u64,
}

/// Why there is nothing to evaluate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No event is a target, or all are left out.
    #[error(
        "nothing to score: {targets} of {events} events are targets ({left_out:?} left out); use \
         another --target, --protocol, --repeats keep or --newcomers, or more data"
    )]
    NothingToScore {
        /// Events in the log.
        events: usize,
        /// Targets among them.
        targets: usize,
        /// Why those were not scored.
        left_out: LeftOut,
    },
    /// A given target is not in the log.
    #[error("line {line} of the negatives: user {user:?} has no event of {item:?} in the data")]
    UnknownTarget {
        /// From 1.
        line: usize,
        /// The user.
        user: String,
        /// The item.
        item: String,
    },
}

/// Plans `protocol` on a sorted log.
///
/// # Errors
/// [`PlanError`] where no list would be scored.
pub fn plan(log: &Log, protocol: &Protocol, selection: &Selection) -> Result<Plan, PlanError> {
    let mut planner = Planner { log, selection, seen: HashSet::new(), plan: Plan::default() };
    match protocol {
        Protocol::Prequential => planner.prequential(),
        Protocol::Periods { length_ms, per_event } => planner.periods(*length_ms, *per_event),
        Protocol::LeaveLastOut => planner.leave_last_out(),
        Protocol::Negatives(given) => planner.negatives(given)?,
        Protocol::TimeSplit { train_share } => planner.time_split(*train_share),
    }
    if planner.plan.periods.is_empty() {
        let events = log.events();
        return Err(PlanError::NothingToScore {
            events: events.len(),
            targets: events.iter().filter(|e| e.is(selection.target)).count(),
            left_out: planner.plan.left_out,
        });
    }
    Ok(planner.plan)
}

struct Planner<'a> {
    log: &'a Log,
    selection: &'a Selection,
    /// What users have had, as far as it is folded; `u32::MAX` for anything at all.
    seen: HashSet<(u32, u32)>,
    plan: Plan,
}

const ANYTHING: u32 = u32::MAX;

impl<'a> Planner<'a> {
    /// Events by exposure: the places of each in the log.
    fn exposures(&self) -> impl Iterator<Item = std::ops::Range<u32>> + use<'a> {
        let events = self.log.events();
        let chunks = events.chunk_by(|a, b| a.row == b.row);
        chunks.scan(0, |start, chunk| {
            let first = *start;
            *start += chunk.len() as u32;
            Some(first..*start)
        })
    }

    fn event(&self, place: u32) -> &'a Event {
        &self.log.events()[place as usize]
    }

    fn prequential(&mut self) {
        let mut shown = 0;
        for exposure in self.exposures() {
            let first = self.event(exposure.start);
            shown = self.judge_until(shown, |one| (one.at, one.row) <= (first.at, first.row));
            self.score_targets(exposure.clone(), 0);
            for place in exposure {
                self.fold(place);
                self.learn(place);
            }
        }
        self.judge_until(shown, |_| true);
    }

    /// Judges exposures from the one at `begin` on, as long as they come `before`. Returns the place
    /// of the first that does not. The sample is of users: what is shown to one is compared.
    fn judge_until(&mut self, begin: usize, before: impl Fn(&Exposure) -> bool) -> usize {
        let rest = self.log.exposures()[begin..].iter().take_while(|one| before(one));
        let mut end = begin;
        for one in rest {
            if self.selection.is_drawn(stable_hash(self.log.user_of(one.user).as_bytes())) {
                self.plan.steps.push(Step::Judge(end as u32));
            }
            end += 1;
        }
        end
    }

    fn time_split(&mut self, train_share: f64) {
        let split = (self.log.events().len() as f64 * train_share) as u32;
        for exposure in self.exposures() {
            let is_test = exposure.start >= split;
            if is_test {
                self.score_targets(exposure.clone(), 0);
            }
            for place in exposure {
                self.fold(place);
                if !is_test {
                    self.learn(place);
                }
            }
        }
    }

    fn periods(&mut self, length_ms: i64, per_event: bool) {
        let events = self.log.events();
        let Some(first) = events.first() else { return };
        let period_at = |place: u32| {
            let since = events[place as usize].at.since(first.at);
            since.div_euclid(length_ms) as u32
        };
        let exposures: Vec<_> = self.exposures().collect();
        let mut known: HashSet<u32> = HashSet::new();
        for in_period in exposures.chunk_by(|a, b| period_at(a.start) == period_at(b.start)) {
            let (begin, end) = (in_period[0].start, in_period[in_period.len() - 1].end);
            let period = period_at(begin);
            let mut lengths: HashMap<u32, u32> = HashMap::new();
            for exposure in in_period.iter().filter(|e| known.contains(&self.event(e.start).item)) {
                *lengths.entry(self.event(exposure.start).user).or_default() += 1;
            }
            let mut after = Vec::new();
            for exposure in in_period {
                let one = self.event(exposure.start);
                let is_in = known.contains(&one.item)
                    && lengths.get(&one.user).is_some_and(|&length| length > 1);
                if is_in {
                    self.score_targets(exposure.clone(), period);
                    exposure.clone().for_each(|place| self.fold(place));
                } else {
                    let targets = exposure.clone().filter(|&p| self.is_target(p)).count() as u64;
                    self.plan.left_out.by_protocol += targets * u64::from(period > 0);
                    after.extend(exposure.clone());
                }
                if per_event {
                    exposure.clone().for_each(|place| self.learn(place));
                }
            }
            // A user's state is a function of the set of events: those left out may come late.
            after.into_iter().for_each(|place| self.fold(place));
            if !per_event {
                (begin..end).for_each(|place| self.learn(place));
            }
            known.extend((begin..end).map(|place| self.event(place).item));
        }
    }

    fn leave_last_out(&mut self) {
        let mut last: HashMap<u32, std::ops::Range<u32>> = HashMap::new();
        for exposure in self.exposures() {
            if exposure.clone().any(|place| self.is_target(place)) {
                last.insert(self.event(exposure.start).user, exposure);
            }
        }
        let mut held: Vec<_> = last.into_values().collect();
        held.sort_by_key(|exposure| exposure.start);
        let places: HashSet<u32> = held.iter().cloned().flatten().collect();
        // What a user does after the held-out target is not in their history when it is scored.
        let cut: HashMap<u32, u32> =
            held.iter().map(|e| (self.event(e.start).user, e.start)).collect();
        self.learn_but(|place, user| {
            places.contains(&place) || cut.get(&user).is_some_and(|&cut| cut < place)
        });
        held.into_iter().for_each(|exposure| self.score_targets(exposure, 0));
    }

    fn negatives(&mut self, given: &[GivenTarget]) -> Result<(), PlanError> {
        let mut last: HashMap<(u32, u32), std::ops::Range<u32>> = HashMap::new();
        for exposure in self.exposures() {
            let one = self.event(exposure.start);
            last.insert((one.user, one.item), exposure);
        }
        let mut held = Vec::new();
        for (line, one) in given.iter().enumerate() {
            let ids = self.log.find_user(&one.user).zip(self.log.items.find(&one.item));
            let found = ids.and_then(|ids| last.get(&ids)).cloned();
            held.push(found.ok_or_else(|| PlanError::UnknownTarget {
                line: line + 1,
                user: one.user.clone(),
                item: one.item.clone(),
            })?);
        }
        let places: HashSet<u32> = held.iter().cloned().flatten().collect();
        self.learn_but(|place, _| places.contains(&place));
        for (line, exposure) in held.into_iter().enumerate() {
            // The file says what a target is.
            self.plan.steps.push(Step::Score(exposure.start));
            self.plan.periods.push(0);
            self.plan.given.push(line);
        }
        Ok(())
    }

    fn learn_but(&mut self, is_held: impl Fn(u32, u32) -> bool) {
        for place in 0..self.log.events().len() as u32 {
            if !is_held(place, self.event(place).user) {
                self.fold(place);
                self.learn(place);
            }
        }
    }

    fn is_target(&self, place: u32) -> bool {
        self.event(place).is(self.selection.target)
    }

    fn fold(&mut self, place: u32) {
        let event = self.event(place);
        self.seen.insert((event.user, event.item));
        self.seen.insert((event.user, ANYTHING));
        self.plan.steps.push(Step::Fold(place));
    }

    fn learn(&mut self, place: u32) {
        self.plan.steps.push(Step::Learn(place));
    }

    fn score_targets(&mut self, exposure: std::ops::Range<u32>, period: u32) {
        let Selection { repeats, newcomers, .. } = *self.selection;
        for place in exposure.filter(|&place| self.is_target(place)).collect::<Vec<_>>() {
            let event = self.event(place);
            let left_out = &mut self.plan.left_out;
            if !repeats && self.seen.contains(&(event.user, event.item)) {
                left_out.repeats += 1;
            } else if !newcomers && !self.seen.contains(&(event.user, ANYTHING)) {
                left_out.newcomers += 1;
            } else if !self.selection.is_drawn(event.id) {
                left_out.not_drawn += 1;
            } else {
                self.plan.steps.push(Step::Score(place));
                self.plan.periods.push(period);
            }
        }
    }
}

/// Why a file of negatives could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NegativesError {
    /// It could not be read at all.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what it should be.
    #[error(
        "{file}, line {line}: expected a user, an item and at least one negative, as \
         `(user,item)<tab>negative<tab>negative…` or `user item negative negative…`"
    )]
    Line {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
    },
    /// It has no lines.
    #[error("{file} holds no targets")]
    Empty {
        /// The file.
        file: String,
    },
}

/// Reads negatives: `(user,item)` and tab-separated negatives, as published with NCF (He et al.,
/// WWW 2017), or `user item negative…` separated by blanks.
///
/// # Errors
/// [`NegativesError`] with the line that is wrong.
pub fn read_negatives(path: &Path) -> Result<Vec<GivenTarget>, NegativesError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| NegativesError::Io { file: file.clone(), source })?;
    let mut given = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        // The pair's brackets and comma are blanks: what is left is one shape.
        let pair = line.find(')').filter(|_| line.starts_with('(')).map_or(0, |end| end + 1);
        let blank = line[..pair].replace(['(', ',', ')'], " ") + &line[pair..];
        let mut ids = blank.split_whitespace().map(str::to_owned);
        let one = ids.next().zip(ids.next());
        let negatives: Vec<String> = ids.collect();
        let Some((user, item)) = one.filter(|_| !negatives.is_empty()) else {
            return Err(NegativesError::Line { file, line: number + 1 });
        };
        given.push(GivenTarget { user, item, negatives });
    }
    if given.is_empty() { Err(NegativesError::Empty { file }) } else { Ok(given) }
}

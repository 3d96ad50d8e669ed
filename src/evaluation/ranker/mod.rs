//! How well the online ranker tells what is taken of what is shown, on a log of exposures.
//!
//! Enters: a [`Log`] with exposures, what is known of its items and users, and the time from which on
//! is judged. Leaves: each model's scores for both targets. Drives the room `ranking` as workers do:
//! features are read when something is shown; what came of it reaches counters and weights
//! [`KNOWN_AFTER_MS`] later, in event time, also while it is judged.
//!
//! The order within a request is judged apart: the exposures of a session are scored as one request, at
//! its first exposure, so that what is known of the user and the moment is the same for all of them. The order over a session as it went
//! also rewards whoever follows the user's mood from one exposure to the next.

mod people;
pub mod report;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

pub use people::People;
pub use table::{Columns, Part, Row};

use self::people::Person;
use super::Log;
use super::impressions::{Impressions, Shown};
use super::log::Target;
use crate::ids::stable_hash;
use crate::ranking::{
    CLICK, Context, Example, Globals, History, Item, Kind, LONG_VIEW, Learner, Outcome, Scores,
    Served, TARGETS, Viewer, Watch,
};
use crate::time::{EventTime, MINUTE_MS};

/// Milliseconds after an exposure at which what came of it is known.
pub const KNOWN_AFTER_MS: i64 = 30 * MINUTE_MS;
/// What is compared: dense weights and ids by FTRL, and dense weights by a Kalman filter, then ids.
pub const MODELS: [(&str, Kind); 2] = [("FTRL", Kind::Ftrl), ("Kalman, FTRL", Kind::Kalman)];

/// What is evaluated.
pub struct RankerRun<'a> {
    /// Finished, with exposures.
    pub log: &'a Log,
    /// What is known of items, by their number in the log.
    pub items: &'a [Item],
    /// From here on is judged.
    pub test_from: EventTime,
    /// Exposures from here on are not read.
    pub until: EventTime,
}

/// What came of a judged exposure, and what was predicted.
#[derive(Clone, Debug)]
pub struct Tested {
    /// The surface's name.
    pub surface: String,
    /// What came of it.
    pub outcome: Outcome,
    /// By model.
    pub scores: [Scores; MODELS.len()],
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct RankerEvaluation {
    /// In the order of exposures.
    pub tested: Vec<Tested>,
    /// The same as impressions, by target: probabilities by model.
    pub impressions: [Impressions; TARGETS],
    /// Each session as one request, by target.
    pub requests: [Impressions; TARGETS],
    /// Exposures learnt from before the first judged one.
    pub learnt_before: usize,
    /// For features and scores of all exposures, each a request of its own.
    pub scoring_took: Duration,
    /// For learning by both models.
    pub learning_took: Duration,
    /// Exposures learnt from.
    pub learnt: usize,
}

struct Waiting {
    exposure: usize,
    served: [Served; MODELS.len()],
}

struct Replay<'a> {
    run: &'a RankerRun<'a>,
    outcomes: Vec<Outcome>,
    surfaces: HashMap<&'a str, u64>,
    globals: Globals,
    people: Vec<Person>,
    learners: [Learner; MODELS.len()],
    waiting: VecDeque<Waiting>,
    found: RankerEvaluation,
}

impl<'a> RankerRun<'a> {
    /// Goes through the log. `row` is given every exposure's features, and those of the requests that
    /// sessions are taken for; `progress` is told how many exposures are done and says whether to go
    /// on; none where it said no.
    ///
    /// # Errors
    /// What `row` returns.
    pub fn evaluate<E>(
        &self,
        people: People,
        mut row: impl FnMut(Row<'_>) -> Result<(), E>,
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Option<RankerEvaluation>, E> {
        let exposures = self.log.exposures();
        let end = exposures.partition_point(|exposure| exposure.at < self.until);
        let first = exposures.partition_point(|exposure| exposure.at < self.test_from).min(end);
        let mut sessions: HashMap<u64, Vec<usize>> = HashMap::new();
        for (n, exposure) in exposures.iter().enumerate().take(end).skip(first) {
            sessions.entry(exposure.session).or_default().push(n);
        }
        let mut replay = Replay::new(self, people);
        for (n, exposure) in exposures.iter().enumerate().take(end) {
            replay.learn_until(exposure.at);
            if n == first {
                replay.found.learnt_before = replay.found.learnt;
            }
            let begun = Instant::now();
            let (served, scores) = replay.score(n, n);
            replay.found.scoring_took += begun.elapsed();
            let part = if n < first { Part::Train } else { Part::Test };
            row(replay.row(part, n, &served, scores))?;
            if n >= first {
                replay.judge(n, scores);
                for other in sessions.remove(&exposure.session).unwrap_or_default() {
                    let (served, scores) = replay.score(other, n);
                    replay.judge_request(other, scores);
                    row(replay.row(Part::Request, other, &served, scores))?;
                }
            }
            replay.show(n, served);
            if n.is_multiple_of(256) && !progress(n) {
                return Ok(None);
            }
        }
        Ok(Some(replay.found))
    }

    /// The exposures that are read, for a bar of progress.
    pub fn len(&self) -> usize {
        self.log.exposures().partition_point(|exposure| exposure.at < self.until)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> Replay<'a> {
    fn new(run: &'a RankerRun<'a>, people: People) -> Self {
        let log = run.log;
        let clicked = log.outcomes(Target::NextClick);
        let long = log.outcomes(Target::LongView);
        let outcomes = clicked.into_iter().zip(long).zip(log.watched_ms());
        let outcomes = outcomes.map(|((clicked, long_view), watched_ms)| Outcome {
            clicked,
            long_view,
            watched_ms,
        });
        let names = log.exposures().iter().map(|exposure| log.surface_of(exposure));
        let (globals, people) = people.into_state(run);
        Self {
            run,
            outcomes: outcomes.collect(),
            surfaces: names.map(|name| (name, stable_hash(name.as_bytes()))).collect(),
            globals,
            people,
            learners: MODELS.map(|(_, kind)| Learner::new(kind)),
            waiting: VecDeque::new(),
            found: RankerEvaluation {
                tested: Vec::new(),
                impressions: std::array::from_fn(|_| Impressions::new(MODELS.len())),
                requests: std::array::from_fn(|_| Impressions::new(MODELS.len())),
                learnt_before: 0,
                scoring_took: Duration::ZERO,
                learning_took: Duration::ZERO,
                learnt: 0,
            },
        }
    }

    /// Where, when and to whom an exposure was.
    fn context(&self, exposure: usize) -> Context<'_> {
        let exposure = &self.run.log.exposures()[exposure];
        let person = &self.people[exposure.user as usize];
        Context {
            user: person.key,
            surface: self.surfaces[self.run.log.surface_of(exposure)],
            at: exposure.at,
            profile: &person.profile,
        }
    }

    /// The item of an exposure, as a candidate where and when `request` was.
    fn score(
        &self,
        exposure: usize,
        request: usize,
    ) -> ([Served; MODELS.len()], [Scores; MODELS.len()]) {
        let context = self.context(request);
        let exposures = self.run.log.exposures();
        let person = &self.people[exposures[request].user as usize];
        let history = History {
            watches: &person.watches,
            taken: [&person.taken[CLICK], &person.taken[LONG_VIEW]],
        };
        let viewer =
            Viewer::new(&self.globals, context, &person.counters, &person.exposures, history);
        let item = &self.run.items[exposures[exposure].item as usize];
        let mut served = Served::default();
        viewer.features_of(item, &mut served.features);
        let scores = std::array::from_fn(|model| {
            let weights = self.learners[model].weights();
            weights.score(&served.features, context.surface, item.duration_ms)
        });
        let served =
            scores.map(|scores: Scores| Served { logged: scores.logged, ..served.clone() });
        (served, scores)
    }

    /// Counters and weights learn what is known by now.
    fn learn_until(&mut self, at: EventTime) {
        let exposures = self.run.log.exposures();
        while let Some(known) = self.waiting.pop_front() {
            let exposure = &exposures[known.exposure];
            if exposure.at.plus_millis(KNOWN_AFTER_MS) > at {
                self.waiting.push_front(known);
                return;
            }
            let item = &self.run.items[exposure.item as usize];
            let outcome = self.outcomes[known.exposure];
            let base = known.served[0].features.base_rates();
            let profile = std::mem::take(&mut self.people[exposure.user as usize].profile);
            let context = Context { profile: &profile, ..self.context(known.exposure) };
            let example = Example { context, item, base, outcome };
            self.people[exposure.user as usize].counters.learn(&example);
            self.globals.learn(&example);
            let begun = Instant::now();
            for (learner, served) in self.learners.iter_mut().zip(&known.served) {
                learner.learn(served, &example);
            }
            self.found.learning_took += begun.elapsed();
            self.found.learnt += 1;
            let person = &mut self.people[exposure.user as usize];
            person.profile = profile;
            if outcome.watched_ms > 0 {
                let watch = Watch::of(item, outcome.long_view, exposure.at);
                person.watched(&mut self.globals, watch);
            }
            for (target, came) in [outcome.clicked, outcome.long_view].into_iter().enumerate() {
                if came {
                    person.took(&mut self.globals, target, item.id);
                }
            }
        }
    }

    /// Notes that it was shown.
    fn show(&mut self, exposure: usize, served: [Served; MODELS.len()]) {
        let Context { surface, at, .. } = self.context(exposure);
        let shown = &self.run.log.exposures()[exposure];
        let item = self.run.items[shown.item as usize].id;
        self.people[shown.user as usize].exposures.learn(surface, item, at);
        self.waiting.push_back(Waiting { exposure, served });
    }

    fn judge(&mut self, n: usize, scores: [Scores; MODELS.len()]) {
        let (log, outcome) = (self.run.log, self.outcomes[n]);
        let surface = log.surface_of(&log.exposures()[n]).to_owned();
        self.found.tested.push(Tested { surface, outcome, scores });
        add(&mut self.found.impressions, log, n, outcome, &scores);
    }

    fn judge_request(&mut self, n: usize, scores: [Scores; MODELS.len()]) {
        add(&mut self.found.requests, self.run.log, n, self.outcomes[n], &scores);
    }

    fn row<'r>(
        &'r self,
        part: Part,
        n: usize,
        served: &'r [Served; MODELS.len()],
        scores: [Scores; MODELS.len()],
    ) -> Row<'r> {
        let exposure = &self.run.log.exposures()[n];
        let outcome = self.outcomes[n];
        let surface = self.run.log.surface_number(exposure);
        Row { part, exposure, surface, outcome, features: &served[0].features, scores }
    }
}

fn add(
    impressions: &mut [Impressions; TARGETS],
    log: &Log,
    n: usize,
    outcome: Outcome,
    scores: &[Scores; MODELS.len()],
) {
    let exposure = &log.exposures()[n];
    for (target, taken) in [outcome.clicked, outcome.long_view].into_iter().enumerate() {
        let found = &mut impressions[target];
        found.shown.push(Shown { user: exposure.user, session: exposure.session, taken });
        for (kept, scores) in found.scores.iter_mut().zip(scores) {
            kept.push(scores.probabilities[target].into());
        }
    }
}

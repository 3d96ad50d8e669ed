//! Offline evaluation over the very components that serve: fold, global tables and pipeline.
//!
//! Enters: a [`Log`] of a data set and a [`Protocol`]. Leaves: an [`Evaluation`], which `report`
//! writes as Markdown, JSON and SVG. Never ranks by itself, never reads Kafka. A program-side
//! room: it puts rooms together as the worker does, without wires.

pub mod bootstrap;
mod log;
pub mod metrics;
mod plot;
mod protocol;
mod replayer;
pub mod report;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

pub use log::{Event, LONG_VIEW_MS, LONG_VIEW_SHARE, Log, Target};
pub use plot::sliding_svg;
pub use protocol::{
    GivenTarget, LeftOut, NegativesError, Plan, PlanError, Protocol, Selection, Step, plan,
    read_negatives,
};
pub use replayer::{ReplayError, Replayer};

use self::metrics::{Metric, Placed};
use crate::catalog::Catalog;
use crate::config::{GlobalConfig, ItemsConfig};
use crate::event::RecommendedItem;
use crate::feature::FoldRules;
use crate::serving::{ListRules, SourceKind};
use crate::time::EventTime;

/// A choice of sources that is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// As reports name it.
    pub name: String,
    /// The sources, in the order in which they are asked.
    pub sources: Vec<SourceKind>,
}

impl Arm {
    /// The blend of `sources` first, then the popularity floor: trending alone. With `ablate`
    /// also each source alone, and the blend without each.
    pub fn all(sources: &[SourceKind], ablate: bool) -> Vec<Arm> {
        let mut arms = vec![Arm { name: "blend".into(), sources: sources.to_vec() }];
        let mut add = |name: String, sources: Vec<SourceKind>| {
            let is_new = arms.iter().all(|arm| arm.sources != sources);
            if is_new && !sources.is_empty() {
                arms.push(Arm { name, sources });
            }
        };
        add("trending (floor)".into(), vec![SourceKind::Trending]);
        if ablate {
            for &kind in sources {
                add(kind.name().into(), vec![kind]);
            }
            for &kind in sources {
                let rest = sources.iter().copied().filter(|&other| other != kind).collect();
                add(format!("without {}", kind.name()), rest);
            }
        }
        arms
    }
}

/// One scored target.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    /// Its user's number.
    pub user: u32,
    /// When.
    pub at: EventTime,
    /// Its period; 0 where the protocol has none.
    pub period: u32,
    /// Its weight in the means, all adding up to 1: with periods each weighs the same.
    pub weight: f64,
}

/// What an arm did.
#[derive(Clone, Debug)]
pub struct ArmResult {
    /// Which.
    pub arm: Arm,
    /// By scored target.
    pub placed: Vec<Placed>,
    /// How often each item, by number, was among the first of a list.
    pub shown: Vec<u32>,
    /// Sum, over lists of two items or more, of the mean of 1 − similarity over their pairs.
    pub diversity: f64,
    /// How many such lists there were.
    pub diverse_lists: u32,
    /// For reading the users and making the lists.
    pub took: Duration,
}

/// All that a run found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// In the order of scoring.
    pub scored: Vec<Scored>,
    /// The first is the blend.
    pub arms: Vec<ArmResult>,
    /// Events folded or learnt.
    pub learnt: u64,
    /// For folding and learning.
    pub learning_took: Duration,
    /// Targets of items that no table knew: no source can find them.
    pub new_items: u64,
    /// Items known at the end.
    pub items: usize,
}

/// What a run is made of.
pub struct Run<'a> {
    /// Finished, so in time order.
    pub log: &'a Log,
    /// Of the log.
    pub plan: &'a Plan,
    /// The given targets, where the protocol has them.
    pub given: &'a [GivenTarget],
    /// What is compared; the first is the blend.
    pub arms: Vec<Arm>,
    /// Length of the lists.
    pub top: usize,
    /// What lists are made by, beside scores.
    pub lists: ListRules,
    /// Whether lists may hold what the user has had.
    pub repeats: bool,
}

impl Run<'_> {
    /// Goes through the plan. `progress` is told how many steps are done and says whether to go
    /// on; none where it said no.
    ///
    /// # Errors
    /// [`ReplayError`] says what the log was too much for.
    pub fn evaluate(
        self,
        rules: FoldRules,
        global: &GlobalConfig,
        catalog: Catalog,
        items: &ItemsConfig,
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Option<Evaluation>, ReplayError> {
        let arms = self.arms.iter().map(|arm| arm.sources.as_slice());
        let mut replayer = Replayer::new(self.log, rules, global, catalog, items, self.lists, arms);
        let mut found = Evaluation {
            scored: Vec::with_capacity(self.plan.periods.len()),
            arms: self.arms.iter().map(|arm| self.empty(arm)).collect(),
            learnt: 0,
            learning_took: Duration::ZERO,
            new_items: 0,
            items: 0,
        };
        let mut learning = Instant::now();
        for (done, step) in self.plan.steps.iter().enumerate() {
            match *step {
                Step::Fold(place) => replayer.fold(&self.log.events()[place as usize])?,
                Step::Learn(place) => {
                    replayer.learn(&self.log.events()[place as usize])?;
                    found.learnt += 1;
                }
                Step::Score(place) => {
                    found.learning_took += learning.elapsed();
                    self.score(&replayer, place, &mut found)?;
                    learning = Instant::now();
                }
            }
            if done.is_multiple_of(256) && !progress(done) {
                return Ok(None);
            }
        }
        found.learning_took += learning.elapsed();
        found.items = replayer.known_items();
        weigh(&mut found.scored);
        Ok(Some(found))
    }

    fn empty(&self, arm: &Arm) -> ArmResult {
        let placed = Vec::with_capacity(self.plan.periods.len());
        let shown = vec![0; self.log.items.len()];
        let arm = arm.clone();
        ArmResult { arm, placed, shown, diversity: 0.0, diverse_lists: 0, took: Duration::ZERO }
    }

    fn score(
        &self,
        replayer: &Replayer<'_>,
        place: u32,
        found: &mut Evaluation,
    ) -> Result<(), ReplayError> {
        let event = &self.log.events()[place as usize];
        let number = found.scored.len();
        let wanted = self.log.item(event);
        let known = replayer.known_items();
        let given = self.plan.given.get(number).map(|&line| &self.given[line]);
        // Among given negatives any item may be asked for, so all that sources know is ranked.
        let count = if given.is_some() { known.max(self.top) } else { self.top };
        found.new_items += u64::from(!replayer.knows(wanted));
        replayer.lists(event, count, self.repeats, |arm, list, took| {
            let result = &mut found.arms[arm];
            result.took += took;
            for item in list.iter().take(self.top) {
                if let Some(item) = self.log.items.find(&item.item) {
                    result.shown[item as usize] += 1;
                }
            }
            if let Some(diversity) = replayer.diversity(&list[..list.len().min(self.top)]) {
                result.diversity += diversity;
                result.diverse_lists += 1;
            }
            result.placed.push(match given {
                Some(given) => place_among(list, given),
                None => {
                    let scores: Vec<f64> = list.iter().map(|item| item.score).collect();
                    let index = list.iter().position(|item| item.item == wanted);
                    Placed::on_list(&scores, index, known)
                }
            });
        })?;
        found.scored.push(Scored {
            user: event.user,
            at: event.at,
            period: self.plan.periods[number],
            weight: 1.0,
        });
        Ok(())
    }
}

/// The place among given negatives. What no source puts forward is tied at the end.
fn place_among(list: &[RecommendedItem], given: &GivenTarget) -> Placed {
    let by_item: HashMap<&str, f64> = list.iter().map(|i| (i.item.as_str(), i.score)).collect();
    let score = |item: &str| by_item.get(item).copied().unwrap_or(f64::NEG_INFINITY);
    let negatives = given.negatives.iter().filter(|negative| **negative != given.item);
    let scores: Vec<f64> =
        std::iter::once(score(&given.item)).chain(negatives.map(|n| score(n))).collect();
    Placed::of(&scores, Some(0), scores.len())
}

fn weigh(scored: &mut [Scored]) {
    let mut sizes: HashMap<u32, f64> = HashMap::new();
    for one in scored.iter() {
        *sizes.entry(one.period).or_default() += 1.0;
    }
    let periods = sizes.len() as f64;
    scored.iter_mut().for_each(|one| one.weight = 1.0 / (periods * sizes[&one.period]));
}

impl Evaluation {
    /// The mean of a metric: over targets, or where there are periods, over their means.
    pub fn mean(&self, arm: usize, metric: Metric) -> f64 {
        let placed = self.arms[arm].placed.iter();
        placed.zip(&self.scored).map(|(placed, scored)| scored.weight * metric.of(placed)).sum()
    }

    /// Intra-list diversity: the mean over lists of 1 − the mean similarity of their pairs, as the
    /// selector has it.
    pub fn diversity(&self, arm: usize) -> f64 {
        self.arms[arm].diversity / f64::from(self.arms[arm].diverse_lists.max(1))
    }

    /// How much the blend is above an arm, with its paired interval.
    pub fn gain_over(&self, arm: usize, metric: Metric, seed: u64) -> Option<bootstrap::Interval> {
        let pairs = self.arms[0].placed.iter().zip(&self.arms[arm].placed).zip(&self.scored);
        let differences = pairs.map(|((blend, other), scored)| bootstrap::Difference {
            user: scored.user,
            weight: scored.weight,
            value: metric.of(blend) - metric.of(other),
        });
        bootstrap::interval(differences, seed)
    }
}

//! Offline evaluation over the very components that serve: fold, global tables and pipeline.
//!
//! Enters: a [`Log`] of a data set and a [`Protocol`]. Leaves: an [`Evaluation`], which `report`
//! writes as Markdown, JSON and SVG. Never ranks by itself, never reads Kafka. A program-side
//! room: it puts rooms together as the worker does, without wires.

mod arm;
pub mod bootstrap;
pub mod impressions;
mod log;
pub mod metrics;
mod plot;
mod protocol;
pub mod ranker;
mod replayer;
pub mod report;
#[cfg(test)]
mod tests;
mod vectors;

use std::collections::HashMap;
use std::time::{Duration, Instant};

pub use arm::{Arm, Controls, Vectors};
pub use impressions::Impressions;
pub use log::{Event, Exposure, LONG_VIEW_MS, LONG_VIEW_SHARE, Log, Target};
pub use plot::sliding_svg;
pub use protocol::{
    GivenTarget, LeftOut, NegativesError, Plan, PlanError, Protocol, Selection, Step, plan,
    read_negatives,
};
pub use replayer::{ReplayError, Replayer};
pub use vectors::Standing;

use self::impressions::Shown;
use self::metrics::{Metric, Placed, self_information};
use crate::catalog::Catalog;
use crate::config::{GlobalConfig, ItemsConfig};
use crate::event::RecommendedItem;
use crate::feature::FoldRules;
use crate::model::Basis;
use crate::serving::ListRules;
use crate::time::EventTime;

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
    /// What was known of its item.
    pub standing: Standing,
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
    /// Sum, over all that was listed, of how little popular it was then, in bits.
    pub novelty: f64,
    /// How much was listed.
    pub listed: u64,
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
    /// What was shown, and each arm's score for it; none where the log keeps no exposures.
    pub impressions: Impressions,
    /// Events folded or learnt.
    pub learnt: u64,
    /// For folding and learning.
    pub learning_took: Duration,
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
    /// What counts as taken, of what was shown.
    pub target: Target,
    /// A basis in place of those that would be trained on the way; live from its watermark on.
    pub basis: Option<Basis>,
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
        let mut replayer =
            Replayer::new(self.log, rules, global, catalog, items, self.lists, &self.arms);
        if let Some(basis) = &self.basis {
            replayer = replayer.with_basis(basis.clone());
        }
        let mut found = Evaluation {
            scored: Vec::with_capacity(self.plan.periods.len()),
            arms: self.arms.iter().map(|arm| self.empty(arm)).collect(),
            impressions: Impressions::new(self.arms.len()),
            learnt: 0,
            learning_took: Duration::ZERO,
            items: 0,
        };
        let outcomes = self.log.outcomes(self.target);
        // Nobody asks before the first target.
        let first_asked = self.plan.steps.iter().position(|step| step.asks()).unwrap_or(0);
        let mut learning = Instant::now();
        for (done, step) in self.plan.steps.iter().enumerate() {
            if done == first_asked {
                replayer.answer_from_now_on()?;
            }
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
                Step::Judge(place) => {
                    found.learning_took += learning.elapsed();
                    let taken = outcomes[place as usize];
                    self.judge(&replayer, place, taken, &mut found.impressions)?;
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

    fn judge(
        &self,
        replayer: &Replayer<'_>,
        place: u32,
        taken: bool,
        found: &mut Impressions,
    ) -> Result<(), ReplayError> {
        let exposure = &self.log.exposures()[place as usize];
        found.shown.push(Shown { user: exposure.user, session: exposure.session, taken });
        replayer.scores(exposure, |arm, score| found.scores[arm].push(score))?;
        Ok(())
    }

    fn empty(&self, arm: &Arm) -> ArmResult {
        let placed = Vec::with_capacity(self.plan.periods.len());
        let shown = vec![0; self.log.items.len()];
        ArmResult {
            arm: arm.clone(),
            placed,
            shown,
            diversity: 0.0,
            diverse_lists: 0,
            novelty: 0.0,
            listed: 0,
            took: Duration::ZERO,
        }
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
        let items = self.log.items.len() as u64;
        replayer.lists(event, count, self.repeats, |arm, list, took| {
            let result = &mut found.arms[arm];
            result.took += took;
            for item in list.iter().take(self.top) {
                if let Some(item) = self.log.items.find(&item.item) {
                    result.shown[item as usize] += 1;
                    let (times, all) = replayer.popularity(item);
                    result.novelty += self_information(times, all, items);
                    result.listed += 1;
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
            standing: replayer.standing(event.item),
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

    /// Novelty: the mean of −log2 of the popularity of what is listed, in bits (Zhou et al.,
    /// "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 2010), where
    /// popularity is what was known when it was listed.
    pub fn novelty(&self, arm: usize) -> f64 {
        self.arms[arm].novelty / self.arms[arm].listed.max(1) as f64
    }

    /// Targets of this standing.
    pub fn standing(&self, standing: Standing) -> usize {
        self.scored.iter().filter(|one| one.standing == standing).count()
    }

    /// How much the blend is above an arm, with its paired interval.
    pub fn gain_over(&self, arm: usize, metric: Metric, seed: u64) -> Option<bootstrap::Interval> {
        self.gain_between(0, arm, metric, None, seed)
    }

    /// How much one arm is above another on the targets of a standing, or on all, with its paired
    /// interval; none where there are no such targets.
    pub fn gain_between(
        &self,
        arm: usize,
        other: usize,
        metric: Metric,
        standing: Option<Standing>,
        seed: u64,
    ) -> Option<bootstrap::Interval> {
        let pairs = self.arms[arm].placed.iter().zip(&self.arms[other].placed).zip(&self.scored);
        let wanted = pairs.filter(|(_, one)| standing.is_none_or(|only| one.standing == only));
        let differences = wanted.map(|((one, other), scored)| bootstrap::Difference {
            user: scored.user,
            weight: scored.weight,
            value: metric.of(one) - metric.of(other),
        });
        bootstrap::interval(differences, seed)
    }

    /// The mean of a metric over the targets of a standing; none where there are none.
    pub fn mean_of(&self, arm: usize, metric: Metric, standing: Standing) -> Option<f64> {
        let pairs = self.arms[arm].placed.iter().zip(&self.scored);
        let wanted = pairs.filter(|(_, one)| one.standing == standing);
        let (sum, weight) = wanted.fold((0.0, 0.0), |(sum, weight), (placed, one)| {
            (sum + one.weight * metric.of(placed), weight + one.weight)
        });
        (weight > 0.0).then(|| sum / weight)
    }
}

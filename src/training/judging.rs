//! The candidate against what serves, on what was held out: each event is scored by the pipeline that
//! serves, then learnt, as it would have been.

use serde::{Deserialize, Serialize};

use super::stages::Stages;
use super::{Progress, Run, TrainingError, text_of};
use crate::catalog::Catalog;
use crate::evaluation::metrics::Metric;
use crate::evaluation::{
    self, Arm, Evaluation, Log, Plan, PlanError, Protocol, Selection, Step, Target, plan,
    sliding_svg,
};
use crate::model::Basis;
use crate::serving::{ListRules, SourceKind};
use crate::time::EventTime;

/// Length of the lists.
const TOP: usize = 20;
/// What decides.
const RECALL: Metric = Metric::Recall(TOP);
/// What serves where nothing was promoted.
const UNPROMOTED: &str = "first bases";

/// A metric of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Its name.
    pub metric: String,
    /// The candidate's.
    pub candidate: f64,
    /// The champion's.
    pub champion: f64,
    /// That of what is trending, the floor.
    pub trending: f64,
    /// Candidate − champion: the 2.5th percentile, the mean and the 97.5th of resampled users.
    pub difference: Option<[f64; 3]>,
}

/// How a candidate did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// From when on events were held out, milliseconds since the epoch.
    pub from_ms: i64,
    /// The newest of them.
    pub to_ms: i64,
    /// How many of them were ranked.
    pub targets: u64,
    /// What counted as wanted.
    pub target: String,
    /// What it was compared with.
    pub champion: String,
    /// Metric by metric.
    pub comparisons: Vec<Comparison>,
    /// Whether it may serve.
    pub is_blessed: bool,
    /// Why, or why not.
    pub reasons: Vec<String>,
    /// Recall and MRR of both over the held out time, as SVG.
    pub plot: String,
}

/// Judges, or takes what a run that was killed has found.
pub(super) fn judge(
    run: &Run<'_>,
    basis: &Basis,
    log: &Log,
    from: EventTime,
    stages: &Stages,
    progress: &mut dyn Progress,
) -> Result<Judgement, TrainingError> {
    if let Some(judged) = stages.load::<Judgement>("judgement")? {
        return Ok(judged);
    }
    let (target, plan) = planned(run, log, from)?;
    let champion = run.champion.as_ref().map(|(basis, _)| basis.clone());
    let name = champion.as_ref().map_or(UNPROMOTED.into(), |basis| basis.version().to_string());
    let served = replay(run, log, &plan, target, champion, "judging the champion", progress)?;
    let basis = Some(basis.clone());
    let mut found = replay(run, log, &plan, target, basis, "judging the candidate", progress)?;
    found.arms[0].arm.name = "candidate".into();
    let mut champion = served.arms.into_iter().next().unwrap_or_else(|| found.arms[0].clone());
    champion.arm.name = format!("champion: {name}");
    found.arms.insert(1, champion);
    let judged = verdict(run, &found, target, from, name);
    stages.save("judgement", &judged)?;
    Ok(judged)
}

/// What is wanted, and every held out target of it, or a sample; all events are learnt.
fn planned(run: &Run<'_>, log: &Log, from: EventTime) -> Result<(Target, Plan), TrainingError> {
    let held_out = || log.events().iter().filter(|event| event.at >= from);
    let least = run.config.training.min_targets;
    let has_enough = |target: &Target| held_out().filter(|e| e.is(*target)).count() >= least;
    let targets = [Target::NextClick, Target::LongView, Target::NextWatch];
    let target = targets.into_iter().find(has_enough).unwrap_or(Target::NextWatch);
    let seed = run.config.training.seed;
    let selection = Selection { target, repeats: false, newcomers: false, sample: 1.0, seed };
    let mut plan = plan(log, &Protocol::Prequential, &selection)?;
    let is_held_out = |step: &Step| match *step {
        Step::Score(place) => log.events()[place as usize].at >= from,
        _ => false,
    };
    let all = plan.steps.iter().filter(|step| is_held_out(step)).count();
    let every = all.div_ceil(run.config.training.max_targets.max(1)).max(1);
    let mut number = 0;
    plan.steps.retain(|step| {
        if !step.asks() {
            return true;
        }
        let counts = is_held_out(step);
        number += usize::from(counts);
        counts && number.is_multiple_of(every)
    });
    let targets = plan.steps.iter().filter(|step| step.asks()).count();
    plan.periods.truncate(targets);
    if targets < least {
        let events = held_out().count();
        let left_out = plan.left_out;
        tracing::debug!(targets, events, ?left_out, "too few targets");
        return Err(match targets {
            0 => PlanError::NothingToScore { events, targets, left_out }.into(),
            _ => TrainingError::Data(vec![format!(
                "since {} there are {targets} targets to judge by, and training.min_targets is \
                 {least}: archive more, or raise training.hold_out",
                text_of(from)
            )]),
        });
    }
    Ok((target, plan))
}

fn replay(
    run: &Run<'_>,
    log: &Log,
    plan: &Plan,
    target: Target,
    basis: Option<Basis>,
    stage: &str,
    progress: &mut dyn Progress,
) -> Result<Evaluation, TrainingError> {
    let sources = SourceKind::ALL.into_iter().filter(|kind| *kind != SourceKind::Unfinished);
    let sources: Vec<SourceKind> = sources.collect();
    let steps = plan.steps.len() as u64;
    let lists = ListRules { exploration: 0.0, ..run.config.serving.list_rules() };
    let evaluated = evaluation::Run {
        log,
        plan,
        given: &[],
        arms: Arm::all(&sources, false),
        top: TOP,
        lists,
        repeats: false,
        target,
        basis,
    }
    .evaluate(
        run.config.state.rules(),
        &run.config.global,
        Catalog::default(),
        &run.config.items,
        |done| progress.at(stage, done as u64, steps),
    )?;
    evaluated.ok_or(TrainingError::Stopped)
}

fn verdict(
    run: &Run<'_>,
    found: &Evaluation,
    target: Target,
    from: EventTime,
    champion: String,
) -> Judgement {
    let seed = run.config.training.seed;
    let compare = |metric: Metric| {
        let difference = found.gain_between(0, 1, metric, None, seed);
        Comparison {
            metric: metric.name(),
            candidate: found.mean(0, metric),
            champion: found.mean(1, metric),
            trending: found.mean(2, metric),
            difference: difference.map(|d| [d.low, d.mean, d.high]),
        }
    };
    let (is_blessed, reasons) = bless(&compare(RECALL), run.config.training.tolerance);
    Judgement {
        from_ms: from.millis(),
        to_ms: found.scored.last().map_or(from, |last| last.at).millis(),
        targets: found.scored.len() as u64,
        target: target.name().into(),
        comparisons: Metric::all(TOP).into_iter().map(compare).collect(),
        is_blessed,
        reasons,
        plot: sliding_svg(&format!("candidate and {champion}, held out"), found, TOP),
        champion,
    }
}

/// Not worse than the champion by more than is tolerated, as far as the interval says; and better than
/// the floor.
pub(super) fn bless(recall: &Comparison, tolerance: f64) -> (bool, Vec<String>) {
    let Comparison { metric, candidate, champion, trending, difference } = recall;
    let Some([low, mean, high]) = difference else {
        return (false, vec![format!("{metric} has no interval: there are too few users")]);
    };
    let text = format!(
        "{metric} {candidate:.4}, champion {champion:.4}, difference {mean:+.4} [{low:+.4}, {high:+.4}]"
    );
    let may_lose = tolerance * champion;
    let mut refusals = Vec::new();
    // What is no number is no proof.
    let is_not_worse = *low >= -may_lose;
    if !is_not_worse {
        refusals.push(format!(
            "{text}: it may be worse by more than {may_lose:.4}, the share training.tolerance of the \
             champion's"
        ));
    }
    let is_above_floor = candidate > trending;
    if !is_above_floor {
        refusals.push(format!("{metric} {candidate:.4} is not above {trending:.4} of what trends"));
    }
    if refusals.is_empty() { (true, vec![text]) } else { (false, refusals) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recall(candidate: f64, difference: Option<[f64; 3]>) -> Comparison {
        let metric = "Recall@20".into();
        Comparison { metric, candidate, champion: 0.5, trending: 0.1, difference }
    }

    #[test]
    fn what_may_be_worse_than_is_tolerated_does_not_serve() {
        let is_blessed = |candidate, difference| bless(&recall(candidate, difference), 0.02).0;
        assert!(is_blessed(0.5, Some([-0.01, 0.0, 0.01])));
        assert!(is_blessed(0.6, Some([0.05, 0.1, 0.15])));
        assert!(!is_blessed(0.5, Some([-0.011, 0.0, 0.01])), "its interval reaches too far");
        assert!(!is_blessed(0.1, Some([0.0, 0.0, 0.0])), "no better than what trends");
        assert!(!is_blessed(0.5, None), "nothing is known");
        assert!(!is_blessed(f64::NAN, Some([f64::NAN; 3])), "what is no number is no proof");
        let (_, why) = bless(&recall(0.05, Some([-0.5, -0.45, -0.4])), 0.02);
        assert!(why.len() == 2 && why[0].contains("training.tolerance"), "{why:?}");
    }
}

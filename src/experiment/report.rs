//! What an experiment says so far.

use serde_json::{Value, json};

use super::definition::Definition;
use super::ratio_mismatch::{self, MISMATCH};
use super::running::is_of;
use super::sequential::{Comparison, Rule, compare};
use super::tallies::{Metric, Tallies, Tally, lists_by_unit};
use crate::event::UserGroup;

/// Lists at which intervals are narrowest, unless asked otherwise. Ten times off makes them a fifth wider.
pub const TUNING: f64 = 20_000.0;
/// Probability of a wrong verdict on an experiment, unless asked otherwise.
pub const ALPHA: f64 = 0.05;

/// A metric of an arm.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub metric: Metric,
    /// What it is; none where there was nothing.
    pub value: Option<f64>,
    /// How it does next to the control; none of the control, and where too little is known.
    pub comparison: Option<Comparison>,
}

/// An arm.
#[derive(Clone, Debug)]
pub struct ArmReport {
    /// Its name.
    pub name: String,
    /// Share of the experiment's users that it was to have.
    pub weight: f64,
    /// What came of its lists.
    pub total: UserGroup,
    /// All metrics.
    pub measured: Vec<Measured>,
}

/// What it comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing that is seen can be believed.
    Mismatch,
    /// Guardrails fell: which, of which arms.
    Harm(Vec<(String, &'static str)>),
    /// Arms that are better than the control by what decides, the best first.
    Better(Vec<String>),
    /// All other arms are worse than the control.
    Worse,
    /// Nothing is sure yet.
    Undecided,
}

/// What an experiment says so far.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// What decides.
    pub primary: Metric,
    /// What the intervals promise.
    pub rule: Rule,
    /// The control first.
    pub arms: Vec<ArmReport>,
    /// Probability of sizes as uneven as these; none where it cannot be said.
    pub mismatch: Option<f64>,
    /// What it comes to.
    pub verdict: Verdict,
}

impl Report {
    /// Of windows that were told so far. `rule.alpha` is shared among the arms that are compared to the
    /// control, so that it holds for all of them together.
    pub fn new(experiment: &Definition, tallies: &Tallies, rule: Rule) -> Self {
        let label = |arm: usize| experiment.label(arm);
        let of = |arm: usize| tallies.of(|(_, arms)| is_of(arms, &label(arm)));
        let arms: Vec<Tally> = (0..experiment.arms.len()).map(of).collect();
        let shared = Rule { alpha: rule.alpha / (arms.len() - 1) as f64, ..rule };
        let reports = arms.iter().zip(&experiment.arms).enumerate().map(|(place, (tally, arm))| {
            let measured = Metric::ALL.map(|metric| {
                let (own, control) = (tally.arm(metric), arms[0].arm(metric));
                let comparison = (place > 0).then(|| compare(&own, &control, shared)).flatten();
                Measured { metric, value: own.moments.ratio(), comparison }
            });
            let (name, measured) = (arm.name.clone(), measured.to_vec());
            ArmReport { name, weight: arm.weight, total: tally.total(), measured }
        });
        let mut report = Self {
            name: experiment.name.clone(),
            primary: experiment.primary,
            rule,
            arms: reports.collect(),
            mismatch: mismatch(experiment, &arms, rule.tuning),
            verdict: Verdict::Undecided,
        };
        report.verdict = report.judge(&experiment.guardrails);
        report
    }

    fn judge(&self, guardrails: &[Metric]) -> Verdict {
        if self.mismatch.is_some_and(|p| p < MISMATCH) {
            return Verdict::Mismatch;
        }
        let compared = |arm: &ArmReport, metric: Metric| {
            arm.measured.iter().find(|one| one.metric == metric).and_then(|one| one.comparison)
        };
        let others = &self.arms[1..];
        let fallen = |arm: &ArmReport| {
            let fell = |metric: &&Metric| compared(arm, **metric).is_some_and(|c| c.upper < 0.0);
            let metrics: Vec<_> = guardrails.iter().filter(fell).map(|m| m.name).collect();
            metrics.into_iter().map(|metric| (arm.name.clone(), metric)).collect::<Vec<_>>()
        };
        let harm: Vec<_> = others.iter().flat_map(fallen).collect();
        if !harm.is_empty() {
            return Verdict::Harm(harm);
        }
        let decided = |arm: &&ArmReport| compared(arm, self.primary).is_some_and(|c| c.lower > 0.0);
        let mut better: Vec<&ArmReport> = others.iter().filter(decided).collect();
        let uplift = |arm: &ArmReport| compared(arm, self.primary).map_or(0.0, |c| c.uplift);
        better.sort_by(|a, b| uplift(b).total_cmp(&uplift(a)));
        if !better.is_empty() {
            return Verdict::Better(better.iter().map(|arm| arm.name.clone()).collect());
        }
        let is_worse = |arm: &ArmReport| compared(arm, self.primary).is_some_and(|c| c.upper < 0.0);
        if others.iter().all(is_worse) { Verdict::Worse } else { Verdict::Undecided }
    }

    /// The verdict in words.
    pub fn in_words(&self) -> String {
        let (control, metric) = (&self.arms[0].name, self.primary.name);
        match &self.verdict {
            Verdict::Mismatch => "The arms have not the sizes that were asked for, which is no chance. \
                 Either lists of one arm are lost or counted elsewhere, or one arm makes users come more \
                 often. Nothing else here can be believed until it is known which."
                .into(),
            Verdict::Harm(all) => {
                let all: Vec<_> =
                    all.iter().map(|(arm, metric)| format!("{metric} of {arm}")).collect();
                format!("What must not fall has fallen: {}. Stop it.", all.join(", "))
            }
            Verdict::Better(arms) => {
                format!("{} is better than {control} by {metric}. Stop it and keep that.", arms[0])
            }
            Verdict::Worse => {
                format!("Nothing is better than {control} by {metric}, and all else is worse. Stop it.")
            }
            Verdict::Undecided => {
                format!("Nothing is sure by {metric} yet. It costs nothing to look again later.")
            }
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let arm = |arm: &ArmReport| {
            let metrics: serde_json::Map<String, Value> = arm
                .measured
                .iter()
                .map(|one| {
                    let told = one.comparison.map(|c| {
                        json!({"uplift": c.uplift, "lower": c.lower, "upper": c.upper,
                            "standard_error": c.error, "p_value": c.p_value})
                    });
                    (one.metric.name.into(), json!({"value": one.value, "against_control": told}))
                })
                .collect();
            json!({"arm": arm.name, "weight": arm.weight, "lists": arm.total.lists,
                "impressions": arm.total.impressions, "metrics": metrics})
        };
        let verdict = match &self.verdict {
            Verdict::Mismatch => "mismatch",
            Verdict::Harm(_) => "harm",
            Verdict::Better(_) => "better",
            Verdict::Worse => "worse",
            Verdict::Undecided => "undecided",
        };
        json!({
            "experiment": self.name,
            "primary_metric": self.primary.name,
            "alpha": self.rule.alpha,
            "tuning_lists": self.rule.tuning,
            "arms": self.arms.iter().map(arm).collect::<Vec<_>>(),
            "sample_ratio_p_value": self.mismatch,
            "verdict": verdict,
            "in_words": self.in_words(),
        })
    }
}

fn mismatch(experiment: &Definition, arms: &[Tally], tuning: f64) -> Option<f64> {
    let all: Vec<&Tally> = arms.iter().collect();
    let units = lists_by_unit(&all);
    let weights: Vec<f64> = experiment.arms.iter().map(|arm| arm.weight).collect();
    ratio_mismatch::probability(units.iter().map(Vec::as_slice), &weights, tuning)
}

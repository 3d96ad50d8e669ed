//! An experiment that makes sense.

use std::collections::{BTreeMap, BTreeSet};

use super::hash::{self, Namespace, Range};
use super::settings::Settings;
use super::tallies::Metric;
use crate::event::{ExperimentArm, ExperimentRecord, ExperimentStatus};
use crate::model::BasisVersion;

/// Longest name.
const NAME_LENGTH: usize = 32;
/// Most arms. More: hardly anybody in each of them.
const ARMS: usize = 8;
/// Most overrides: they are for trying out, and every worker holds them.
const OVERRIDES: usize = 1_000;

/// Why something is no experiment, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

fn check(holds: bool, message: impl FnOnce() -> String) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused(message())) }
}

/// One of the ways in which users are served.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// Share of the experiment's users.
    pub weight: f64,
    /// The version that serves; none for the one that serves everybody.
    pub model: Option<BasisVersion>,
    /// What it serves otherwise.
    pub settings: Settings,
    /// The keys of those settings, and `model_version` where there is one.
    touches: BTreeSet<String>,
}

/// An experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Counts from 1.
    pub revision: i64,
    /// Whether users are in it.
    pub status: ExperimentStatus,
    /// The users that it shares with others; none for all.
    pub namespace: Option<Namespace>,
    /// Its arms, the control first: two at least.
    pub arms: Vec<Arm>,
    /// Users who are in an arm whatever their hash says.
    pub overrides: BTreeMap<String, usize>,
    /// The arm by which all users are served since it was stopped.
    pub kept: Option<usize>,
    /// What decides.
    pub primary: Metric,
    /// What must not fall.
    pub guardrails: Vec<Metric>,
    seed: String,
    ranges: Vec<Range>,
}

impl Definition {
    /// Reads a record.
    ///
    /// # Errors
    /// [`Refused`] with what is wrong and what to do.
    pub fn read(record: &ExperimentRecord) -> Result<Self, Refused> {
        check_name("the name of the experiment", &record.name)?;
        check((0.0..=1.0).contains(&record.coverage), || {
            format!("coverage is {}; a share from 0 to 1 is allowed", record.coverage)
        })?;
        let arms = read_arms(&record.arms)?;
        let place = |name: &str| {
            arms.iter().position(|arm| arm.name == name).ok_or_else(|| {
                let known: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
                Refused(format!("there is no arm {name:?}; its arms are {}", known.join(", ")))
            })
        };
        check(record.overrides.len() <= OVERRIDES, || {
            format!("{} overrides; {OVERRIDES} are allowed", record.overrides.len())
        })?;
        let overrides = record.overrides.iter();
        let overrides: BTreeMap<String, usize> = overrides
            .map(|(user, arm)| Ok((user.clone(), place(arm)?)))
            .collect::<Result<_, Refused>>()?;
        let kept = (!record.kept.is_empty()).then(|| place(&record.kept)).transpose()?;
        check(kept.is_none() || record.status == ExperimentStatus::Stopped, || {
            "an arm is kept when the experiment is stopped: `driftline experiments stop` does both"
                .into()
        })?;
        let weights: Vec<f64> = arms.iter().map(|arm| arm.weight).collect();
        let seed = if record.seed.is_empty() { &record.name } else { &record.seed };
        Ok(Self {
            name: record.name.clone(),
            revision: record.revision,
            status: record.status,
            namespace: read_namespace(record)?,
            overrides,
            kept,
            primary: read_metric(&record.primary_metric)?,
            guardrails: record
                .guardrails
                .iter()
                .map(|name| read_metric(name))
                .collect::<Result<_, _>>()?,
            seed: seed.clone(),
            ranges: hash::bucket_ranges(record.coverage, &weights),
            arms,
        })
    }

    /// The arm that a user is in; `who` is what is hashed.
    pub fn arm_of(&self, who: &str) -> Option<usize> {
        if let Some(arm) = self.overrides.get(who) {
            return Some(*arm);
        }
        if self.namespace.as_ref().is_some_and(|namespace| !namespace.contains(who)) {
            return None;
        }
        hash::choose(hash::bucket(&self.seed, who), &self.ranges)
    }

    /// What an arm is called in replies, impressions and metrics.
    pub fn label(&self, arm: usize) -> String {
        format!("{}:{}", self.name, self.arms[arm].name)
    }

    /// Whether a user could be in both.
    fn meets(&self, other: &Self) -> bool {
        match (&self.namespace, &other.namespace) {
            (Some(own), Some(others)) if own.name == others.name => {
                own.range.overlaps(&others.range)
            }
            _ => true,
        }
    }

    /// Whether both can run.
    ///
    /// # Errors
    /// [`Refused`] where they share a namespace and overlap in it, or change the same.
    pub fn check_beside(&self, other: &Self) -> Result<(), Refused> {
        if !self.meets(other) {
            return Ok(());
        }
        if let (Some(own), Some(others)) = (&self.namespace, &other.namespace) {
            check(own.name != others.name, || {
                let Range { start, end } = others.range;
                format!(
                    "{} has {start} to {end} of the namespace {}: take another part of it",
                    other.name, others.name
                )
            })?;
        }
        let all = |experiment: &Self| -> BTreeSet<String> {
            experiment.arms.iter().flat_map(|arm| arm.touches.iter().cloned()).collect()
        };
        let both: Vec<String> = all(self).intersection(&all(other)).cloned().collect();
        check(both.is_empty(), || {
            format!(
                "{} and {} both change {}: give them parts of one namespace, so that no user is in \
                 both",
                self.name,
                other.name,
                both.join(", ")
            )
        })
    }
}

fn check_name(what: &str, name: &str) -> Result<(), Refused> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let fits = !name.is_empty() && name.len() <= NAME_LENGTH && name.chars().all(plain);
    check(fits, || {
        format!(
            "{what} is {name:?}; use 1 to {NAME_LENGTH} small letters, digits, - and _: it is part of \
             names in metrics"
        )
    })
}

fn read_arms(records: &[ExperimentArm]) -> Result<Vec<Arm>, Refused> {
    check((2..=ARMS).contains(&records.len()), || {
        format!("{} arms; 2 to {ARMS} are needed, the control first", records.len())
    })?;
    let mut names = BTreeSet::new();
    let mut arms = Vec::new();
    for record in records {
        check_name("the name of an arm", &record.name)?;
        check(names.insert(&record.name), || format!("two arms are called {}", record.name))?;
        check((0.0..=1.0).contains(&record.weight), || {
            format!("the weight of {} is {}; 0 to 1 is allowed", record.name, record.weight)
        })?;
        let version = &record.model_version;
        let model = BasisVersion::parse(version);
        check(model.is_some() || version.is_empty(), || {
            format!(
                "{version:?} is no version of 16 hexadecimal digits: see `driftline models list`"
            )
        })?;
        let settings = Settings::read(&record.settings)
            .map_err(|Refused(why)| Refused(format!("the arm {}: {why}", record.name)))?;
        let mut touches: BTreeSet<String> = record.settings.keys().cloned().collect();
        touches.extend(model.map(|_| "model_version".to_owned()));
        let (name, weight) = (record.name.clone(), record.weight);
        arms.push(Arm { name, weight, model, settings, touches });
    }
    let sum: f64 = arms.iter().map(|arm| arm.weight).sum();
    check((sum - 1.0).abs() < 1e-6, || {
        format!("the weights of the arms sum up to {sum}; make them 1")
    })?;
    Ok(arms)
}

fn read_namespace(record: &ExperimentRecord) -> Result<Option<Namespace>, Refused> {
    let range = Range { start: record.namespace_start, end: record.namespace_end };
    if record.namespace.is_empty() {
        check(range == Range::WHOLE, || {
            "a part of a namespace is given, and no namespace: name it".into()
        })?;
        return Ok(None);
    }
    check_name("the namespace", &record.namespace)?;
    check(range.start >= 0.0 && range.start < range.end && range.end <= 1.0, || {
        format!(
            "the part of the namespace is {} to {}; it must begin before it ends, within 0 to 1",
            range.start, range.end
        )
    })?;
    Ok(Some(Namespace { name: record.namespace.clone(), range }))
}

fn read_metric(name: &str) -> Result<Metric, Refused> {
    Metric::by_name(name).ok_or_else(|| {
        let known = Metric::ALL.map(|metric| metric.name).join(", ");
        Refused(format!("there is no metric {name:?} to decide by; use one of {known}"))
    })
}

//! All experiments, and how they together serve a request.

use std::collections::BTreeMap;

use super::definition::{Definition, Refused};
use super::settings::Settings;
use crate::event::{ExperimentRecord, ExperimentStatus};
use crate::model::BasisVersion;

/// Most experiments that a user may be in at once. Each doubles, at least, the segments that metrics
/// tell apart.
pub const MOST_AT_ONCE: usize = 4;

/// How a request is served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignment {
    /// `experiment:arm`, by the names of experiments, joined by commas; empty where it is in none.
    pub arm: String,
    /// The version that serves; none for the one that serves everybody.
    pub model: Option<BasisVersion>,
    /// What is served otherwise.
    pub settings: Settings,
    /// Arms, as they are labelled, whose version is not there: their lists are not the arm's.
    pub missing: Vec<String>,
}

/// All experiments that are known.
#[derive(Clone, Debug, Default)]
pub struct Experiments {
    all: BTreeMap<String, (Definition, ExperimentRecord)>,
}

impl Experiments {
    /// Takes a record of the topic; an empty value is a tombstone. Whether it changed anything.
    ///
    /// # Errors
    /// What is wrong with it. An experiment of which the newest record is no good is in nobody's way:
    /// it does not run.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Result<bool, Refused> {
        let key = String::from_utf8_lossy(key).into_owned();
        if value.is_empty() {
            return Ok(self.all.remove(&key).is_some());
        }
        let read = || {
            let record =
                ExperimentRecord::decode(value).map_err(|error| Refused(error.to_string()))?;
            if record.name != key {
                return Err(Refused(format!(
                    "the record of {:?} has the key {key:?}",
                    record.name
                )));
            }
            Ok((Definition::read(&record)?, record))
        };
        let (definition, record) = read().inspect_err(|_| drop(self.all.remove(&key)))?;
        // Of two of one revision the last counts, as it does for the topic's compaction.
        if self.all.get(&key).is_some_and(|(known, _)| known.revision > definition.revision) {
            return Ok(false);
        }
        self.all.insert(key, (definition, record));
        Ok(true)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&Definition, &ExperimentRecord)> {
        self.all.values().map(|(definition, record)| (definition, record))
    }

    /// That of a name.
    pub fn get(&self, name: &str) -> Option<(&Definition, &ExperimentRecord)> {
        self.all.get(name).map(|(definition, record)| (definition, record))
    }

    fn with_status(&self, status: ExperimentStatus) -> impl Iterator<Item = &Definition> {
        self.all.values().map(|(one, _)| one).filter(move |one| one.status == status)
    }

    /// Those that a user is in, by name, [`MOST_AT_ONCE`] at most, each with the arm's place. `who` is a
    /// user, or for somebody without a name the request's own id.
    pub fn of<'a>(&'a self, who: &'a str) -> impl Iterator<Item = (&'a Definition, usize)> {
        self.with_status(ExperimentStatus::Running)
            .filter_map(move |one| Some((one, one.arm_of(who)?)))
            .take(MOST_AT_ONCE)
    }

    /// How somebody is served, where `is_there` knows which versions can serve. Of two experiments that
    /// change the same the first by name counts; what was kept of stopped ones gives way to those
    /// that run.
    pub fn assign(&self, who: &str, is_there: impl Fn(BasisVersion) -> bool) -> Assignment {
        let mut assignment = Assignment::default();
        let lacks = |experiment: &Definition, arm: usize| {
            experiment.arms[arm].model.is_some_and(|version| !is_there(version))
        };
        for (experiment, arm) in self.of(who) {
            if lacks(experiment, arm) {
                assignment.missing.push(experiment.label(arm));
                continue;
            }
            if !assignment.arm.is_empty() {
                assignment.arm.push(',');
            }
            assignment.arm.push_str(&experiment.label(arm));
            assignment.join(experiment, arm);
        }
        let stopped = self.with_status(ExperimentStatus::Stopped);
        for (experiment, arm) in stopped.filter_map(|one| Some((one, one.kept?))) {
            if lacks(experiment, arm) {
                assignment.missing.push(experiment.label(arm));
                continue;
            }
            assignment.join(experiment, arm);
        }
        assignment
    }

    /// Whether an experiment can run beside those that do.
    ///
    /// # Errors
    /// [`Refused`] with the one that it cannot run beside, and what to do.
    pub fn check(&self, wanted: &Definition) -> Result<(), Refused> {
        let others =
            || self.with_status(ExperimentStatus::Running).filter(|one| one.name != wanted.name);
        others().try_for_each(|other| wanted.check_beside(other))?;
        // Experiments of one namespace count once: a user is in one of them at most.
        let mut layers: Vec<&str> = others()
            .chain([wanted])
            .map(|one| one.namespace.as_ref().map_or(one.name.as_str(), |space| &space.name))
            .collect();
        layers.sort_unstable();
        layers.dedup();
        if layers.len() > MOST_AT_ONCE {
            return Err(Refused(format!(
                "a user would be in {} experiments at once; {MOST_AT_ONCE} are allowed: stop one, or \
                 give some of them parts of one namespace",
                layers.len()
            )));
        }
        Ok(())
    }
}

impl Assignment {
    fn join(&mut self, experiment: &Definition, arm: usize) {
        let arm = &experiment.arms[arm];
        self.model = self.model.or(arm.model);
        self.settings.fill_in(&arm.settings);
    }
}

/// Whether lists of these arms, as [`Assignment::arm`] names them, are of one arm of an experiment.
pub fn is_of(arms: &str, label: &str) -> bool {
    arms.split(',').any(|arm| arm == label)
}

//! From the lake to a candidate: item vectors trained on what people liked, judged against what
//! serves on what came later.
//!
//! Enters: a pinned snapshot of the lake, the champion's basis. Leaves: a [`Candidate`] with what it
//! was trained on, how it did, and whether it may serve. Never serves, never registers, never talks to
//! Kafka. A program-side room: it puts the rooms together that train and that judge.
//!
//! The newest part of the time is held out. The basis is trained on records of `interactions` below an
//! offset of each partition; live vectors over it learn from there on, here as in the workers. So what
//! is judged on the held out part is what will serve, byte for byte, and nothing is trained again
//! afterwards.

mod checks;
mod events;
mod factors;
mod judging;
mod likes;
pub mod report;
mod stages;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use checks::DataFacts;
pub use factors::{Factors, FactorsError, read_factors};
pub use judging::{Comparison, Judgement};

use crate::config::{Config, TrainingConfig};
use crate::deployment::golden_lists;
use crate::embedding::{Choice, FirstBasis, Settings, Trial};
use crate::evaluation::{PlanError, ReplayError};
use crate::event::GoldenList;
use crate::lake::{Lake, LakeError, Snapshot};
use crate::model::{Basis, BasisVersion, ModelError};
use crate::time::EventTime;
use likes::Likes;
use stages::Stages;

/// Histories that golden lists are made of.
const GOLDEN: usize = 16;

/// Why there is no candidate.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The data is not fit to be trained on: says what is wrong with it.
    #[error("nothing is trained on this data:\n  {}", .0.join("\n  "))]
    Data(Vec<String>),
    /// Training.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Judging.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// There is nothing to judge by.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What a killed run left cannot be read or written.
    #[error("{path}: {reason}")]
    Work {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Whoever runs it said so.
    #[error("stopped; the same command goes on from the last stage that was whole")]
    Stopped,
}

/// A run's progress, for a bar.
pub trait Progress {
    /// Called often; false stops the run.
    fn at(&mut self, stage: &str, done: u64, of: u64) -> bool;
}

impl<F: FnMut(&str, u64, u64) -> bool> Progress for F {
    fn at(&mut self, stage: &str, done: u64, of: u64) -> bool {
        self(stage, done, of)
    }
}

/// What a run is made of.
pub struct Run<'a> {
    /// Where the data is.
    pub lake: &'a Lake,
    /// The data, pinned: the topics as they are named in this installation.
    pub snapshot: &'a Snapshot,
    /// The snapshot's name.
    pub name: &'a str,
    /// What serves, and what it knew of its data; none where nothing was promoted yet.
    pub champion: Option<(Basis, Option<DataFacts>)>,
    /// Vectors that were trained elsewhere, to be judged in place of trained ones.
    pub factors: Option<Factors>,
    /// Fold, tables and pipeline as they serve.
    pub config: &'a Config,
    /// Threads; they change nothing of the result.
    pub threads: usize,
}

/// A model that was trained and judged.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The basis.
    pub basis: Basis,
    /// With what it was trained, and how that was chosen.
    pub choice: Choice,
    /// Users it was trained on.
    pub users: usize,
    /// Positive interactions it was trained on.
    pub positives: usize,
    /// By partition of `interactions`: the first offset that it was not trained on.
    pub live_from: Vec<i64>,
    /// Lists to check it by.
    pub golden: Vec<GoldenList>,
    /// What the data looked like.
    pub facts: DataFacts,
    /// How it did on what was held out.
    pub judgement: Judgement,
    /// The version that it was judged against.
    pub parent: Option<BasisVersion>,
}

/// A choice of settings as a stage keeps it.
#[derive(Serialize, Deserialize)]
struct SavedChoice {
    settings: String,
    trials: Vec<(String, f64)>,
    targets: usize,
}

impl Run<'_> {
    /// Reads, checks, trains and judges. What a run that was stopped or killed has finished is taken
    /// from `training.work_dir`; the result is the same.
    ///
    /// # Errors
    /// [`TrainingError`].
    pub fn train(&self, progress: &mut dyn Progress) -> Result<Candidate, TrainingError> {
        let rules = &self.config.training;
        let stages = Stages::open(&rules.work_dir, &self.identity())?;
        let likes = Likes::read(self, progress)?;
        let split = likes.split(rules.hold_out);
        let facts = likes.facts(split.at);
        let last = self.champion.as_ref().and_then(|(_, facts)| facts.as_ref());
        checks::check(&facts, last, rules)?;
        let mut trainer = FirstBasis::new(rules.limits(), &Settings::TRAINER);
        likes.each_before(&split, |one| trainer.observe(one));
        let (basis, choice) = match &self.factors {
            Some(factors) => {
                let (settings, vectors) = (factors.settings, factors.vectors.clone());
                let adopted = trainer.adopt(&factors.items, vectors, settings, self.threads)?;
                (adopted.basis, Choice { settings, trials: Vec::new(), targets: 0 })
            }
            None => {
                let choice = self.choose(&mut trainer, &stages, progress)?;
                (self.basis(&trainer, &choice, &stages, progress)?, choice)
            }
        };
        let log = events::read(self, progress)?;
        let judgement = judging::judge(self, &basis, &log, split.at, &stages, progress)?;
        let (users, positives) = likes.sizes_before(&split);
        Ok(Candidate {
            golden: golden_lists(&basis, &likes.histories_after(&split, GOLDEN)),
            basis,
            choice,
            users,
            positives,
            live_from: split.live_from,
            facts,
            judgement,
            parent: self.champion.as_ref().map(|(basis, _)| basis.version()),
        })
    }

    /// All that the result follows from.
    fn identity(&self) -> String {
        let parent = self.champion.as_ref().map(|(basis, _)| basis.version().to_string());
        format!(
            "{} {} {parent:?} {:?} {:?} {:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            self.name,
            self.factors.as_ref().map(|factors| (&factors.sha256, factors.settings)),
            TrainingConfig { work_dir: PathBuf::new(), ..self.config.training.clone() },
            self.config.global,
            self.config.serving.list_rules(),
        )
    }

    fn choose(
        &self,
        trainer: &mut FirstBasis,
        stages: &Stages,
        progress: &mut dyn Progress,
    ) -> Result<Choice, TrainingError> {
        let saved = stages.load::<SavedChoice>("settings")?;
        if let Some(choice) = saved.and_then(|saved| saved.choice()) {
            return Ok(choice);
        }
        let epochs: u64 = Settings::TRAINER.iter().map(|s| u64::from(s.ials.epochs)).sum();
        let mut done = 0;
        let go_on = || {
            done += 1;
            progress.at("choosing settings", done, epochs)
        };
        let choice = stopped(trainer.choose(self.threads, go_on))?;
        let choice = choice.ok_or_else(|| too_little(&self.config.training))?;
        stages.save("settings", &SavedChoice::of(&choice))?;
        Ok(choice)
    }

    fn basis(
        &self,
        trainer: &FirstBasis,
        choice: &Choice,
        stages: &Stages,
        progress: &mut dyn Progress,
    ) -> Result<Basis, TrainingError> {
        // A file that is damaged is made anew.
        let saved = stages.load_bytes("basis")?.and_then(|bytes| Basis::from_bytes(&bytes).ok());
        if let Some(basis) = saved {
            return Ok(basis);
        }
        let mut done = 0;
        let go_on = || {
            done += 1;
            progress.at("training", done, choice.settings.ials.epochs.into())
        };
        let trained = stopped(trainer.train_as(choice, self.threads, go_on))?;
        let basis = trained.ok_or_else(|| too_little(&self.config.training))?.basis;
        stages.save_bytes("basis", &basis.to_bytes())?;
        Ok(basis)
    }
}

impl SavedChoice {
    fn of(choice: &Choice) -> Self {
        let trials = choice.trials.iter();
        Self {
            settings: choice.settings.name.into(),
            trials: trials.map(|trial| (trial.settings.name.into(), trial.recall)).collect(),
            targets: choice.targets,
        }
    }

    /// None where it names what this build does not know.
    fn choice(self) -> Option<Choice> {
        let trial = |(name, recall): &(String, f64)| {
            Some(Trial { settings: Settings::by_name(name)?, recall: *recall })
        };
        Some(Choice {
            settings: Settings::by_name(&self.settings)?,
            trials: self.trials.iter().map(trial).collect::<Option<_>>()?,
            targets: self.targets,
        })
    }
}

fn stopped<T>(result: Result<T, ModelError>) -> Result<T, TrainingError> {
    result.map_err(|error| match error {
        ModelError::Stopped { .. } => TrainingError::Stopped,
        error => error.into(),
    })
}

fn too_little(rules: &TrainingConfig) -> TrainingError {
    let TrainingConfig { min_users, min_items, .. } = rules;
    TrainingError::Data(vec![format!(
        "before what is held out there are fewer than {min_users} users or {min_items} items that \
         were liked: archive more, or lower training.min_users and training.min_items"
    )])
}

/// Milliseconds since the epoch as RFC 3339, for reports and messages.
fn text_of(at: EventTime) -> String {
    let time = chrono::DateTime::from_timestamp_millis(at.millis());
    time.map_or_else(|| at.millis().to_string(), |time| time.to_rfc3339())
}

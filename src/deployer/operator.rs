//! Carries decisions out: bytes on `models`, the decision on `model-control`, and then the registry, which
//! follows it. Whoever dies between two of these leaves what the next one ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::deployment::{self, ControlError, Controller, GOLDEN_FILE, verify_golden};
use crate::event::{ExperimentStatus, FIRST_BASIS, GoldenList, ModelControl, ModelManifest};
use crate::experiment::running::Experiments;
use crate::kafka::{KafkaError, WholeTopic};
use crate::model::Basis;
use crate::objects::{ObjectError, Objects};
use crate::registry::{AliasChange, BASIS, Manifest, ModelVersion, Registry, RegistryError};
use crate::time::wall_now;

/// How long a poll waits.
const POLL: Duration = Duration::from_millis(20);

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A decision could not be read or told.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The registry refuses, or is out of reach.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The object store.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The broker.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// It makes no sense now.
    #[error("{0}")]
    Refused(String),
}

/// Who decides, and why.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Who.
    pub by: &'a str,
    /// Why.
    pub why: &'a str,
    /// Why though a blessing is missing.
    pub force: Option<&'a str>,
}

/// Registry and topics of an installation.
pub struct Operator {
    registry: Registry,
    controller: Controller,
    experiments_topic: WholeTopic,
    experiments: Experiments,
}

impl Operator {
    /// Connects.
    ///
    /// # Errors
    /// [`DeployError`] where broker or object store do not answer.
    pub fn open(config: &Config) -> Result<Self, DeployError> {
        let registry = Registry::open(Arc::new(Objects::open(&config.objects.settings())?));
        let (models, control) = (config.topics.models(), config.topics.model_control());
        let client = config.kafka.client();
        let controller = Controller::open(&client, &models, &control)?;
        let experiments = config.topics.experiments();
        let experiments_topic = WholeTopic::open(&client, &experiments, "driftline-control")?;
        Ok(Self { registry, controller, experiments_topic, experiments: Experiments::default() })
    }

    /// The versions.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The topics.
    pub fn controller(&mut self) -> &mut Controller {
        &mut self.controller
    }

    /// Lets a version be tried beside the champion.
    ///
    /// # Errors
    /// [`DeployError`]; [`DeployError::Refused`] while another one is.
    pub fn begin(
        &mut self,
        version: ModelVersion,
        who: &Who<'_>,
    ) -> Result<ModelControl, DeployError> {
        let control = self.controller.read()?.clone();
        let name = version.to_string();
        if !control.candidate.is_empty() {
            let other = &control.candidate;
            return Err(DeployError::Refused(format!(
                "{other} is tried already: wait for it, or `driftline deploy rollback` it"
            )));
        }
        if control.champion == name {
            return Err(DeployError::Refused(format!("{name} serves already")));
        }
        self.send(version, who.force)?;
        let wanted = deployment::begin(&control, &name);
        self.decide(&control, ModelControl { begun_at: wall_now(), ..wanted }, who)
    }

    /// Lets a version serve alone, at once.
    ///
    /// # Errors
    /// [`DeployError`].
    pub fn promote(
        &mut self,
        version: ModelVersion,
        who: &Who<'_>,
    ) -> Result<ModelControl, DeployError> {
        self.send(version, who.force)?;
        let control = self.controller.read()?.clone();
        let name = version.to_string();
        if control.champion == name && control.candidate.is_empty() {
            self.settle(&control)?;
            return Ok(control);
        }
        self.decide(&control, deployment::promote(&control, &name), who)
    }

    /// Turns the candidate down; where there is none, goes back to the version that served before.
    ///
    /// # Errors
    /// [`DeployError`]; [`DeployError::Refused`] where there is nothing to go back to.
    pub fn roll_back(&mut self, who: &Who<'_>) -> Result<ModelControl, DeployError> {
        let control = self.controller.read()?.clone();
        if !control.candidate.is_empty() {
            let wanted = deployment::reject(&control, String::new(), false);
            return self.decide(&control, wanted, who);
        }
        let previous = match ModelVersion::parse(&control.previous) {
            Some(previous) => Some(previous),
            // A rollback before this one has let go of it; the registry remembers.
            None => self.registry.aliases()?.previous_champion,
        };
        let nothing = "there is no version before: nothing else was ever promoted";
        let previous = previous.ok_or_else(|| DeployError::Refused(nothing.into()))?;
        // It has served: what it was promoted with holds.
        self.promote(previous, &Who { force: Some(who.why), ..*who })
    }

    /// Stops or lets go on what is decided by itself.
    ///
    /// # Errors
    /// [`DeployError`].
    pub fn freeze(&mut self, frozen: bool, who: &Who<'_>) -> Result<ModelControl, DeployError> {
        let control = self.controller.read()?.clone();
        if control.frozen == frozen {
            return Ok(control);
        }
        self.decide(&control, ModelControl { frozen, ..control.clone() }, who)
    }

    /// Decides on the ground of `known`, and lets the registry follow.
    ///
    /// # Errors
    /// [`DeployError`]; [`ControlError::Conflict`] where something else was decided meanwhile. Where only
    /// the registry could not follow, that is logged: the decision holds.
    pub fn decide(
        &mut self,
        known: &ModelControl,
        wanted: ModelControl,
        who: &Who<'_>,
    ) -> Result<ModelControl, DeployError> {
        let reason = match wanted.reason.is_empty() || wanted.reason == known.reason {
            true => who.why.to_owned(),
            false => wanted.reason.clone(),
        };
        let by = who.by.to_owned();
        let wanted = ModelControl { by, reason, decided_at: wall_now(), ..wanted };
        let decided = self.controller.decide(known.epoch, wanted)?;
        if let Err(error) = self.settle(&decided) {
            tracing::warn!(%error, epoch = decided.epoch, "the registry does not follow yet");
        }
        Ok(decided)
    }

    /// Lets registry and `models` say what is decided.
    ///
    /// # Errors
    /// [`DeployError`]; it may be called again.
    pub fn settle(&mut self, control: &ModelControl) -> Result<(), DeployError> {
        // Who wrote it without this program need not have said.
        let said =
            |text: &'_ str, other| if text.trim().is_empty() { other } else { text.to_owned() };
        let by = said(&control.by, "somebody".to_owned());
        let why = said(&control.reason, format!("epoch {} of model-control", control.epoch));
        let change = |epoch: u64| AliasChange {
            expected_epoch: epoch,
            by: &by,
            why: &why,
            // What is decided has been asked for its blessings before.
            force: Some(&why),
            at_ms: control.decided_at,
        };
        if let Some(rejected) = ModelVersion::parse(&control.rejected)
            && control.quarantine
            && self.registry.quarantined(rejected)?.is_none()
        {
            self.registry.quarantine(rejected, &why, control.decided_at)?;
        }
        let mut aliases = self.registry.aliases()?;
        if let Some(champion) = ModelVersion::parse(&control.champion)
            && aliases.champion != Some(champion)
        {
            aliases = self.registry.set_champion(champion, &change(aliases.epoch))?;
        }
        let candidate = ModelVersion::parse(&control.candidate);
        if aliases.challenger != candidate {
            self.registry.set_challenger(candidate, &change(aliases.epoch))?;
        }
        let in_experiments = self.in_experiments()?;
        for version in &in_experiments {
            if let Err(error) = self.send(*version, None) {
                tracing::warn!(%error, %version, "an experiment's arm has no model");
            }
        }
        self.retire(control, &in_experiments)
    }

    /// Versions by which running experiments serve.
    fn in_experiments(&mut self) -> Result<BTreeSet<ModelVersion>, DeployError> {
        self.experiments_topic.mark_end()?;
        while !self.experiments_topic.is_at_mark() {
            let Some(record) = self.experiments_topic.poll(POLL) else { continue };
            let key = record.key().unwrap_or_default();
            if let Err(error) = self.experiments.take(key, record.value()) {
                tracing::warn!(%error, offset = record.offset(), "an experiment is passed over");
            }
        }
        let running =
            self.experiments.all().filter(|(_, told)| told.status == ExperimentStatus::Running);
        let arms = running.flat_map(|(_, told)| &told.arms);
        Ok(arms.filter_map(|arm| ModelVersion::parse(&arm.model_version)).collect())
    }

    /// Takes what is not needed out of `models`. Workers let go of it a little later.
    fn retire(
        &mut self,
        control: &ModelControl,
        in_experiments: &BTreeSet<ModelVersion>,
    ) -> Result<(), DeployError> {
        let is_in_use = |version: &ModelVersion| in_experiments.contains(version);
        if control.champion.is_empty() {
            // First bases look after themselves; a candidate that was turned down goes.
            let rejected = ModelVersion::parse(&control.rejected);
            if let Some(rejected) = rejected.filter(|version| !is_in_use(version)) {
                let published = self.controller.published()?;
                for there in published.iter().filter(|m| m.version as u64 == rejected.0) {
                    self.controller.retire(there)?;
                }
            }
            return Ok(());
        }
        let stays = [&control.champion, &control.previous, &control.candidate];
        let mut published = self.controller.published()?;
        published.sort_by_key(|there| std::cmp::Reverse(there.interactions));
        let newest_first = published.iter().find(|there| there.trained_by == FIRST_BASIS).cloned();
        for there in published {
            let version = ModelVersion(there.version as u64);
            let own = version.to_string();
            // Before anything was promoted this served; it is what a rollback would find.
            let is_fallback = control.previous.is_empty()
                && newest_first.as_ref().is_some_and(|first| first.version == there.version);
            if !stays.contains(&&own) && !is_fallback && !is_in_use(&version) {
                self.controller.retire(&there)?;
                tracing::info!(version = own, "a version is retired");
            }
        }
        Ok(())
    }

    /// Sends a version to the workers, where they do not have it, after it was read and checked as they
    /// will.
    fn send(&mut self, version: ModelVersion, force: Option<&str>) -> Result<(), DeployError> {
        let manifest = self.registry.get(version)?;
        self.registry.may_serve(&manifest, force)?;
        let (basis, announced) = self.load(&manifest)?;
        // What is there under this version may be somebody else's word, which workers have refused.
        let is_there = |there: &ModelManifest| {
            there.version as u64 == version.0
                && there.golden == announced.golden
                && there.offsets == announced.offsets
        };
        if !self.controller.published()?.iter().any(is_there) {
            self.controller.publish(&basis, announced)?;
        }
        Ok(())
    }

    /// Sends a version's bytes once more.
    ///
    /// # Errors
    /// [`DeployError`].
    pub fn send_again(&mut self, version: ModelVersion) -> Result<(), DeployError> {
        let (basis, announced) = self.load(&self.registry.get(version)?)?;
        Ok(self.controller.publish(&basis, announced)?)
    }

    /// Reads a version as workers will, and holds it against its golden lists.
    fn load(&self, manifest: &Manifest) -> Result<(Basis, ModelManifest), DeployError> {
        let version = manifest.version;
        let refused =
            |error: String| DeployError::Refused(format!("{version} is refused: {error}"));
        let bytes = self.registry.file(manifest, BASIS)?;
        let basis = Basis::from_bytes(&bytes).map_err(|error| refused(error.to_string()))?;
        let golden: Vec<GoldenList> =
            serde_json::from_slice(&self.registry.file(manifest, GOLDEN_FILE)?)
                .map_err(|error| refused(format!("{GOLDEN_FILE}: {error}")))?;
        let schema = crate::ranking::schema_name();
        if manifest.feature_schema != schema {
            return Err(DeployError::Refused(format!(
                "{version} was made for the features {}, this build has {schema}: train it again, or \
                 promote it with the build that made it",
                manifest.feature_schema
            )));
        }
        verify_golden(&basis, &golden).map_err(refused)?;
        Ok((basis, announced(manifest, golden)))
    }
}

fn announced(manifest: &Manifest, golden: Vec<GoldenList>) -> ModelManifest {
    let training = &manifest.training;
    let settings = training.hyperparameters.get("settings").and_then(|name| name.as_str());
    ModelManifest {
        trained_by: manifest.by.name().into(),
        offsets: manifest.lineage.live_from.clone(),
        users: i64::try_from(training.users).unwrap_or(i64::MAX),
        interactions: i64::try_from(training.interactions).unwrap_or(i64::MAX),
        settings: settings.unwrap_or_default().into(),
        parent: manifest.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        golden,
        ..ModelManifest::default()
    }
}

//! Reads `models`, `item-embeddings` and `item-features` whole into the item tables, and follows.
//!
//! A record over a basis was written after the basis, so whoever reads the bases to their end after
//! it came knows its basis, or the basis is retired. That is all the order that three topics need.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};

use super::shared::Model;
use crate::catalog::Standing;
use crate::deployment::{Announced, Assembly, Control, Refused};
use crate::embedding::{ItemFeatures, TablesError};
use crate::event::{EmbeddingRecord, FeaturesRecord, ModelManifest, item_of_key};
use crate::ids::stable_hash;
use crate::kafka::{KafkaError, Record, WholeTopic};
use crate::model::{Basis, BasisVersion};
use crate::runtime::{self, Urgency};
use crate::telemetry::names;
use crate::worker::{Context, WorkerError, ranking};

/// How long the thread waits for a record where none is there.
const POLL: Duration = Duration::from_millis(20);
/// How often vectors leak, where event time has passed a cut.
const ADVANCE: Duration = Duration::from_secs(1);
/// How long a retired basis stays: longer than any request takes.
const LEAVE: Duration = Duration::from_secs(10);
/// How often the tables are measured, which looks at every cell of the indexes.
const MEASURE: Duration = Duration::from_secs(10);

/// Starts the feed's thread.
pub(super) fn start(context: Context) -> Result<JoinHandle<()>, WorkerError> {
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    runtime::spawn("items-feed", Urgency::Soon, move || {
        while !context.stop.is_requested() {
            match Feed::open(&context) {
                Ok(mut feed) => match feed.run() {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "the item tables are read again"),
                },
                Err(error) => tracing::warn!(%error, "the item tables wait for the broker"),
            }
            context.stop.sleep(Duration::from_secs(1));
        }
    })
    .map_err(io)
}

struct Feed {
    context: Context,
    control: WholeTopic,
    decided: Control,
    models: WholeTopic,
    embeddings: WholeTopic,
    features: WholeTopic,
    assembly: Assembly,
    rankers: ranking::Assembly,
    /// Bases that records name and that are retired.
    retired: HashSet<BasisVersion>,
    /// Retired bases that requests under way may still use.
    leaving: Vec<(Instant, BasisVersion)>,
    is_full: bool,
}

enum Kind {
    Embedding,
    Features,
}

impl Feed {
    fn open(context: &Context) -> Result<Self, KafkaError> {
        let (config, topics) = (context.config.kafka.client(), &context.config.topics);
        let open = |topic: String| WholeTopic::open(&config, &topic, "driftline-items-feed");
        let mut feed = Self {
            context: context.clone(),
            control: open(topics.model_control())?,
            decided: Control::default(),
            models: open(topics.models())?,
            embeddings: open(topics.item_embeddings())?,
            features: open(topics.item_features())?,
            assembly: Assembly::default(),
            rankers: ranking::Assembly::default(),
            retired: HashSet::new(),
            leaving: Vec::new(),
            is_full: false,
        };
        feed.embeddings.mark_end()?;
        feed.features.mark_end()?;
        // A model was published before it was chosen: all that are named here are found there.
        feed.control.mark_end()?;
        while !feed.control.is_at_mark() && !feed.context.stop.is_requested() {
            feed.poll_control(POLL);
        }
        feed.read_models()?;
        Ok(feed)
    }

    fn run(&mut self) -> Result<(), KafkaError> {
        let (mut advanced, mut measured) = (Instant::now(), Instant::now());
        while !self.context.stop.is_requested() {
            let items = &self.context.items;
            if !items.is_loaded() && self.embeddings.is_at_mark() && self.features.is_at_mark() {
                self.advance();
                self.measure();
                self.context.items.note_loaded();
                tracing::info!(items = self.context.items.tables().len(), "item tables are read");
                runtime::lower_priority(Urgency::Later);
            }
            let mut any = self.poll_models(Duration::ZERO);
            any |= self.poll_control(Duration::ZERO);
            any |= self.poll(&Kind::Features, Duration::ZERO)?;
            let wait = if any { Duration::ZERO } else { POLL };
            self.poll(&Kind::Embedding, wait)?;
            if advanced.elapsed() >= ADVANCE {
                advanced = Instant::now();
                self.advance();
            }
            if measured.elapsed() >= MEASURE {
                measured = Instant::now();
                self.measure();
            }
        }
        Ok(())
    }

    /// Reads the bases to where they end now.
    fn read_models(&mut self) -> Result<(), KafkaError> {
        self.models.mark_end()?;
        while !self.models.is_at_mark() && !self.context.stop.is_requested() {
            self.poll_models(POLL);
        }
        Ok(())
    }

    fn poll_control(&mut self, wait: Duration) -> bool {
        let Some(record) = self.control.poll(wait) else { return false };
        if record.is_tombstone() {
            return true;
        }
        match self.decided.take(record.key().unwrap_or_default(), record.value()) {
            Ok(true) => {
                let state = self.decided.state();
                let champion = self.decided.champion();
                self.context.items.tables().set_champion(champion);
                self.context.rollout.obey(state, self.context.items.tables());
                let is_loaded = self.context.items.tables().champion() == champion;
                let (epoch, version) = (state.epoch, &state.champion);
                let (phase, candidate) = (state.phase.name(), &state.candidate);
                tracing::info!(epoch, phase, version, is_loaded, candidate, "it is decided");
                gauge!(names::MODEL_EPOCH).set(epoch as f64);
            }
            Ok(false) => {}
            Err(error) => {
                let offset = record.offset();
                tracing::error!(error, offset, "a decision on models is passed over");
            }
        }
        true
    }

    fn poll_models(&mut self, wait: Duration) -> bool {
        let Some(record) = self.models.poll(wait) else { return false };
        let key = record.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let taken = if key.starts_with(ranking::PREFIX) {
            let version = self.rankers.take(key, record.value());
            version
                .map(|version| version.into_iter().for_each(|v| self.context.ranking.announce(v)))
        } else {
            let announced = self.assembly.take(&record);
            if let Err(Refused { version: Some(version), why }) = &announced {
                let tables = self.context.items.tables();
                self.context.rollout.note_tried(*version, Err(why.clone()), tables);
            }
            match announced {
                Ok(Some(Announced::Basis(whole))) => {
                    self.leaving.retain(|(_, version)| *version != whole.0.version());
                    set_basis(&self.context, *whole);
                    Ok(())
                }
                Ok(Some(Announced::Retired(version))) => {
                    self.leaving.push((Instant::now(), version));
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(refused) => Err(refused.to_string()),
            }
        };
        if let Err(error) = taken {
            let offset = record.offset();
            tracing::error!(error, offset, "a record in the topic of models is passed over");
        }
        true
    }

    fn poll(&mut self, kind: &Kind, wait: Duration) -> Result<bool, KafkaError> {
        let topic = match kind {
            Kind::Embedding => &mut self.embeddings,
            Kind::Features => &mut self.features,
        };
        let Some(record) = topic.poll(wait) else { return Ok(false) };
        let Some(owned) = Owned::of(&record) else { return Ok(true) };
        let mut outcome = self.apply(kind, &owned);
        if let Ok(Outcome::Unknown(versions)) = &outcome {
            // Its basis came before it: either it is there now, or it is gone for good.
            let versions = versions.clone();
            self.read_models()?;
            outcome = self.apply(kind, &owned);
            if let Ok(Outcome::Unknown(_)) = outcome {
                self.retired.extend(versions);
                outcome = Ok(Outcome::Applied);
            }
        }
        let outcome = match outcome {
            Ok(Outcome::Removed) => "removed",
            Ok(Outcome::Applied | Outcome::Unknown(_)) => "applied",
            Err(error) => {
                if !std::mem::replace(&mut self.is_full, true) {
                    tracing::error!(error, "records of items are refused");
                }
                "refused"
            }
        };
        counter!(names::ITEM_RECORDS_READ, "outcome" => outcome).increment(1);
        Ok(true)
    }

    fn apply(&self, kind: &Kind, record: &Owned) -> Result<Outcome, String> {
        let tables = self.context.items.tables();
        let item = record.item.as_str();
        let hash = stable_hash(item.as_bytes());
        let delisted = matches!(self.context.catalog.read().find(hash), Standing::Delisted);
        let Some(value) = record.value.as_deref().filter(|_| !delisted) else {
            tables.remove(item);
            return Ok(Outcome::Removed);
        };
        let refused = |error: TablesError| error.to_string();
        match kind {
            Kind::Embedding => {
                let record = EmbeddingRecord::decode(value).map_err(|e| e.to_string())?;
                let mut unknown = tables.apply_embedding(item, &record).map_err(refused)?;
                unknown.retain(|version| !self.retired.contains(version));
                if unknown.is_empty() {
                    Ok(Outcome::Applied)
                } else {
                    Ok(Outcome::Unknown(unknown))
                }
            }
            Kind::Features => {
                let record = FeaturesRecord::decode(value).map_err(|e| e.to_string())?;
                let features = ItemFeatures::from_record(&record);
                tables.apply_features(item, features).map_err(refused)?;
                Ok(Outcome::Applied)
            }
        }
    }

    fn advance(&mut self) {
        let Self { context, leaving, .. } = &mut *self;
        leaving.retain(|(since, version)| {
            let is_over = since.elapsed() >= LEAVE;
            if is_over {
                context.items.remove_model(*version);
                context.rollout.note_retired(*version, context.items.tables());
            }
            !is_over
        });
        self.context.ranking.read_newest();
        if let Err(error) = self.context.items.tables().advance() {
            tracing::error!(%error, "item vectors do not leak");
        }
    }

    fn measure(&self) {
        let tables = self.context.items.tables();
        gauge!(names::ITEM_TABLE_ITEMS).set(tables.len() as f64);
        gauge!(names::ITEM_TABLE_BYTES).set(tables.bytes() as f64);
        gauge!(names::LIVE_BASES).set(tables.versions().len() as f64);
    }
}

enum Outcome {
    Applied,
    Removed,
    Unknown(Vec<BasisVersion>),
}

/// A record out of its client's hands: reading the bases may have to come before it is applied.
struct Owned {
    item: crate::ids::ItemId,
    value: Option<Vec<u8>>,
}

impl Owned {
    fn of(record: &Record<'_>) -> Option<Self> {
        match item_of_key(record.key()) {
            Ok(item) => {
                let value = (!record.is_tombstone()).then(|| record.value().to_vec());
                Some(Self { item, value })
            }
            Err(rejection) => {
                let (topic, offset) = (record.topic(), record.offset());
                tracing::warn!(%rejection, topic, offset, "an unreadable record of an item");
                None
            }
        }
    }
}

fn set_basis(context: &Context, (basis, manifest): (Basis, ModelManifest)) {
    let (version, rollout) = (basis.version(), &context.rollout);
    match context.items.tables().set_basis(basis) {
        Ok(basis) => {
            tracing::info!(
                version = format!("{:016x}", version.0),
                trained_by = manifest.trained_by,
                items = manifest.items,
                "a basis is live"
            );
            context.items.add_model(Model { basis, manifest: Arc::new(manifest) });
            rollout.note_tried(version, Ok(()), context.items.tables());
        }
        Err(error) => {
            tracing::error!(%error, "a basis is not taken");
            rollout.note_tried(version, Err(error.to_string()), context.items.tables());
        }
    }
}

//! The word on which model serves.
//!
//! A record of `model-control` is the whole desired state under an epoch that only rises. Who decides
//! reads the topic to its end first; who obeys ignores what is not above what it knows. So a decision
//! that comes twice, or late, changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{ModelControl, ModelManifest};
use crate::kafka::{
    ClientSettings, Delivery, ExclusiveWriter, KafkaError, Outgoing, Producer, ProducerKind,
    Tracker, WholeTopic,
};
use crate::model::{Basis, BasisVersion};

use super::models;

/// The key of the record about item vectors.
pub const CONTROLLED: &str = "items";
/// How long deliveries may take.
const DELIVERY_LIMIT: Duration = Duration::from_secs(150);
/// How long a poll waits.
const POLL: Duration = Duration::from_millis(20);

/// The newest decision known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control(ModelControl);

impl Control {
    /// Takes a record. Whether it is news.
    ///
    /// # Errors
    /// What is wrong with it; what was known stays.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Result<bool, String> {
        if key != CONTROLLED.as_bytes() {
            return Err(format!("{:?} is no model", String::from_utf8_lossy(key)));
        }
        let told = ModelControl::decode(value).map_err(|error| error.to_string())?;
        for version in [&told.champion, &told.previous, &told.candidate, &told.rejected] {
            if !version.is_empty() && BasisVersion::parse(version).is_none() {
                return Err(format!("{version:?} is no version of 16 hexadecimal digits"));
            }
        }
        if told.epoch <= self.0.epoch {
            return Ok(false);
        }
        self.0 = told;
        Ok(true)
    }

    /// What it says. Epoch 0 where nothing was ever decided.
    pub fn state(&self) -> &ModelControl {
        &self.0
    }

    /// The version that is to serve; none for the newest that is there.
    pub fn champion(&self) -> Option<BasisVersion> {
        BasisVersion::parse(&self.0.champion)
    }
}

/// Why a decision could not be made or told.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Kafka does not answer.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// What was written did not arrive.
    #[error("{0}")]
    Delivery(String),
    /// Somebody else decided at the same moment.
    #[error("{by} decided first (epoch {epoch}): look at what is there now, and decide again")]
    Conflict {
        /// Theirs.
        epoch: i64,
        /// Who.
        by: String,
    },
    /// A fault of ours, or a topic that holds something else.
    #[error("{0}")]
    Record(String),
}

/// Publishes models and decides which one serves.
pub struct Controller {
    settings: ClientSettings,
    control: WholeTopic,
    known: Control,
    models: WholeTopic,
    published: BTreeMap<String, ModelManifest>,
    producer: Producer,
    models_topic: String,
    control_topic: String,
}

impl Controller {
    /// Connects to an installation's topics.
    ///
    /// # Errors
    /// [`ControlError::Kafka`] where the broker does not answer or a topic is not there.
    pub fn open(
        settings: &ClientSettings,
        models_topic: &str,
        control_topic: &str,
    ) -> Result<Self, ControlError> {
        Ok(Self {
            settings: settings.clone(),
            control: WholeTopic::open(settings, control_topic, "driftline-control")?,
            known: Control::default(),
            models: WholeTopic::open(settings, models_topic, "driftline-control")?,
            published: BTreeMap::new(),
            producer: Producer::new(settings, ProducerKind::Durable, "driftline-control")?,
            models_topic: models_topic.to_owned(),
            control_topic: control_topic.to_owned(),
        })
    }

    /// What was decided last, read to the topic's end.
    ///
    /// # Errors
    /// [`ControlError::Kafka`].
    pub fn read(&mut self) -> Result<&ModelControl, ControlError> {
        self.control.mark_end()?;
        while !self.control.is_at_mark() {
            let Some(record) = self.control.poll(POLL) else { continue };
            let taken = self.known.take(record.key().unwrap_or_default(), record.value());
            if let Err(error) = taken {
                tracing::warn!(error, offset = record.offset(), "a decision is passed over");
            }
        }
        Ok(self.known.state())
    }

    /// Takes in what has come since. Whether something was decided.
    pub fn follow(&mut self) -> bool {
        let mut is_news = false;
        while let Some(record) = self.control.poll(Duration::ZERO) {
            let taken = self.known.take(record.key().unwrap_or_default(), record.value());
            is_news |= taken == Ok(true);
        }
        is_news
    }

    /// What was decided last, as far as it was read.
    pub fn known(&self) -> &ModelControl {
        self.known.state()
    }

    /// What is published of models and not retired, read to the topic's end: versions of the
    /// ranker and bytes of models are passed over.
    ///
    /// # Errors
    /// [`ControlError::Kafka`].
    pub fn published(&mut self) -> Result<Vec<ModelManifest>, ControlError> {
        self.models.mark_end()?;
        while !self.models.is_at_mark() {
            let Some(record) = self.models.poll(POLL) else { continue };
            let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
            if BasisVersion::parse(&key).is_none() {
                continue;
            }
            if record.is_tombstone() {
                self.published.remove(&key);
                continue;
            }
            match ModelManifest::decode(record.value()) {
                Ok(manifest) => drop(self.published.insert(key, manifest)),
                Err(error) => tracing::warn!(%error, key, "a manifest is passed over"),
            }
        }
        Ok(self.published.values().cloned().collect())
    }

    /// Sends a model to the workers, which check it and load it beside what serves.
    ///
    /// # Errors
    /// [`ControlError`]. Half of it in the topic harms nobody: it lacks its manifest.
    pub fn publish(&self, basis: &Basis, manifest: ModelManifest) -> Result<(), ControlError> {
        let all = models::records(basis, manifest).map_err(ControlError::Record)?;
        self.send(&self.models_topic, all.iter().map(|(key, value)| (&key[..], Some(&value[..]))))
    }

    /// Takes a model out of the topic: workers let go of it.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn retire(&self, manifest: &ModelManifest) -> Result<(), ControlError> {
        let keys = models::keys(manifest);
        self.send(&self.models_topic, keys.iter().map(|key| (&key[..], None)))
    }

    /// Decides, as the epoch after `known`, on which the decision stands.
    ///
    /// # Errors
    /// [`ControlError`]; [`ControlError::Conflict`] where somebody else was first.
    pub fn decide(
        &mut self,
        known: i64,
        wanted: ModelControl,
    ) -> Result<ModelControl, ControlError> {
        // From here on nobody writes who opened this before, however long they were held up: a record
        // that comes late would be the one that compaction keeps.
        let name = format!("{}-writer", self.control_topic);
        let writer = ExclusiveWriter::open(&self.settings, &name, "driftline-control")?;
        let last = self.read()?;
        if last.epoch != known {
            return Err(ControlError::Conflict { epoch: last.epoch, by: last.by.clone() });
        }
        let wanted = ModelControl { epoch: known + 1, ..wanted };
        let value = wanted.encode().map_err(|error| ControlError::Record(error.to_string()))?;
        match writer.write(&self.control_topic, CONTROLLED.as_bytes(), &value) {
            Err(error) if !error.is_fenced() => return Err(error.into()),
            _ => {}
        }
        // A commit is answered before readers may see what was committed.
        let until = Instant::now() + DELIVERY_LIMIT;
        while self.known.state().epoch <= known {
            if Instant::now() > until {
                return Err(ControlError::Delivery("what was decided does not appear".into()));
            }
            self.follow();
            std::thread::sleep(Duration::from_millis(1));
        }
        match self.known.state() {
            won if *won == wanted => Ok(wanted),
            won => Err(ControlError::Conflict { epoch: won.epoch, by: won.by.clone() }),
        }
    }

    /// All that was decided as far back as the topic goes, oldest first, each epoch once.
    ///
    /// # Errors
    /// [`ControlError::Kafka`].
    pub fn history(&self) -> Result<Vec<ModelControl>, ControlError> {
        let mut topic = WholeTopic::open(&self.settings, &self.control_topic, "driftline-control")?;
        topic.mark_end()?;
        let (mut known, mut all) = (Control::default(), Vec::new());
        while !topic.is_at_mark() {
            let Some(record) = topic.poll(POLL) else { continue };
            if known.take(record.key().unwrap_or_default(), record.value()) == Ok(true) {
                all.push(known.state().clone());
            }
        }
        Ok(all)
    }

    fn send<'a>(
        &self,
        topic: &str,
        records: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<(), ControlError> {
        let tracker = Arc::new(Tracker::default());
        for (key, value) in records {
            let outgoing = Outgoing {
                topic,
                partition: Some(0),
                key: Some(key.as_bytes()),
                value: value.unwrap_or_default(),
                is_tombstone: value.is_none(),
                ..Outgoing::default()
            };
            self.producer.send(&outgoing, Delivery::Tracked(Arc::clone(&tracker)))?;
        }
        tracker.wait(DELIVERY_LIMIT).map_err(ControlError::Delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_higher_epoch_is_news() {
        let told = |epoch, champion: &str| {
            let told = ModelControl { epoch, champion: champion.into(), ..ModelControl::default() };
            told.encode().unwrap()
        };
        let (one, two) = ("00000000000000a1", "00000000000000a2");
        let mut control = Control::default();
        let mut take = |value: &[u8]| control.take(CONTROLLED.as_bytes(), value);
        assert_eq!(take(&told(2, two)), Ok(true));
        assert_eq!(take(&told(2, one)), Ok(false));
        assert_eq!(take(&told(1, one)), Ok(false));
        assert!(take(&told(3, "latest")).unwrap_err().contains("latest"));
        assert!(control.take(b"others", &told(4, one)).is_err());
        assert_eq!((control.champion(), control.state().epoch), (Some(BasisVersion(0xa2)), 2));
    }
}

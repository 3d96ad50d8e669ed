//! A shard's store from the newest snapshot that is whole and fits the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};

use crate::config::Config;
use crate::kafka::{HandlerError, Log, Position, Reader, TopicPartition};
use crate::objects::Objects;
use crate::runtime::Stop;
use crate::state::snapshots::{Depot, Manifest, ORIGINS, ShardName, SnapshotError, SourcePosition};
use crate::telemetry::names;
use crate::worker::stores;

/// Pause before an object store that is away is asked again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a record may take to come by which a topic is known again.
const ANCHOR_LIMIT: Duration = Duration::from_secs(20);
/// How long the group may wait for an answer. It takes a member for dead after five minutes.
const REBALANCE_LIMIT: Duration = Duration::from_secs(120);

/// Finds a shard's snapshots, and makes its store of one.
pub struct Restorer<'a> {
    pub config: &'a Config,
    pub stop: &'a Stop,
    pub log: &'a Log<'a>,
    pub shard: ShardName,
    /// What its store must have been folded from.
    pub identity: String,
    /// Where its store is to be.
    pub path: PathBuf,
    /// The topics whose history it holds.
    pub topics: Vec<TopicPartition>,
}

/// A topic, its first offset and its end.
type Bounds = Vec<(TopicPartition, (i64, i64))>;

impl Restorer<'_> {
    /// Makes the store of the best snapshot that has folded more records than `beyond`, and puts it
    /// in the place of one that is there. Returns whether there was such a snapshot; else all is as
    /// it was.
    ///
    /// An object store that is away is waited for, unless the log still has everything: a store that
    /// is rebuilt from a log that has not is less than what the snapshot holds, and would soon take
    /// its place.
    ///
    /// # Errors
    /// Where Kafka or this disk fails, or the worker stops: nothing has changed then.
    pub fn restore(&self, beyond: u64) -> Result<bool, HandlerError> {
        let bounds = self.bounds()?;
        let is_whole = bounds.iter().all(|(_, (low, _))| *low == 0);
        let restored = self.while_away(is_whole, || self.try_restore(&bounds, beyond))?;
        if !restored && !is_whole && beyond == 0 {
            let shard = self.shard;
            tracing::warn!(%shard, "no snapshot: what the log no longer has is not known");
        }
        Ok(restored)
    }

    fn bounds(&self) -> Result<Bounds, HandlerError> {
        self.topics.iter().map(|tp| Ok((tp.clone(), self.log.bounds(tp)?))).collect()
    }

    fn depot(&self) -> Result<Depot, HandlerError> {
        let objects = Objects::open(&self.config.objects.settings());
        let objects = Arc::new(objects.map_err(SnapshotError::from)?);
        Ok(Depot::new(objects, &self.config.topics.prefix, self.shard, &self.identity))
    }

    /// Tries until the object store answers; false where it does not and nothing is lost by that.
    fn while_away(
        &self,
        goes_on_without: bool,
        mut attempt: impl FnMut() -> Result<bool, HandlerError>,
    ) -> Result<bool, HandlerError> {
        let shard = self.shard;
        loop {
            let error = match attempt() {
                Ok(restored) => return Ok(restored),
                Err(error) => error,
            };
            if !matches!(error.downcast_ref(), Some(SnapshotError::Object(_))) {
                return Err(error);
            }
            if goes_on_without {
                tracing::warn!(%error, %shard, "snapshots are not looked at; the log has everything");
                return Ok(false);
            }
            tracing::error!(
                %error, %shard,
                "the shard waits for its snapshots, as the log no longer has everything; without \
                 snapshots.enabled it begins with what there is"
            );
            let until = Instant::now() + AGAIN;
            while Instant::now() < until {
                if self.stop.sleep(Duration::from_millis(100)) || self.log.stay_member()? {
                    return Err(error);
                }
            }
        }
    }

    fn try_restore(&self, bounds: &Bounds, beyond: u64) -> Result<bool, HandlerError> {
        let begun = Instant::now();
        let depot = self.depot()?;
        for (folder, manifests) in depot.foreign()? {
            self.skip(&folder, "other_identity", &format!("{manifests} from another log or rules"));
        }
        let mut passed = Vec::new();
        while let Some((key, manifest)) = self.choose(&depot, bounds, &mut passed)?
            && manifest.position() > beyond
        {
            match self.download(&depot, &key, &manifest) {
                Ok(()) => {
                    let (shard, bytes, took) = (self.shard, manifest.bytes(), begun.elapsed());
                    tracing::info!(%shard, key, bytes, ?took, "the store is made from a snapshot");
                    counter!(names::RESTORES, "kind" => shard.kind.name()).increment(1);
                    histogram!(names::RESTORE_SECONDS).record(took);
                    return Ok(true);
                }
                Err(error) => match error.downcast_ref() {
                    Some(SnapshotError::Damaged { .. }) => {
                        self.skip(&key, "damaged", &error.to_string());
                        passed.push(key);
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(false)
    }

    /// The snapshot that has come furthest of those that fit, and that are not `passed`.
    fn choose(
        &self,
        depot: &Depot,
        bounds: &Bounds,
        passed: &mut Vec<String>,
    ) -> Result<Option<(String, Manifest)>, HandlerError> {
        let before = origins(&self.path.with_extension(stores::ASIDE));
        for key in depot.manifests()? {
            if passed.contains(&key) {
                continue;
            }
            let found = match depot.read(&key) {
                _ if before.contains(&key) => {
                    Err(("set_aside", "a store that was made from it had to go".to_owned()))
                }
                Ok(manifest) => match self.misfit(&manifest, bounds)? {
                    None => Ok(manifest),
                    Some(misfit) => Err(misfit),
                },
                Err(SnapshotError::Object(error)) => return Err(SnapshotError::from(error).into()),
                Err(error) => Err(("damaged", error.to_string())),
            };
            match found {
                Ok(manifest) => return Ok(Some((key, manifest))),
                Err((reason, why)) => {
                    self.skip(&key, reason, &why);
                    passed.push(key);
                }
            }
        }
        Ok(None)
    }

    fn skip(&self, key: &str, reason: &'static str, why: &str) {
        counter!(names::SNAPSHOTS_SKIPPED, "reason" => reason).increment(1);
        tracing::warn!(shard = %self.shard, key, reason, why, "a snapshot is passed over");
    }

    /// Why a snapshot does not fit the log, if it does not. One that ends before the log begins
    /// does: what is lost then is lost to all.
    fn misfit(
        &self,
        manifest: &Manifest,
        bounds: &Bounds,
    ) -> Result<Option<(&'static str, String)>, HandlerError> {
        for (tp, (low, high)) in bounds {
            let source = manifest.sources.iter().find(|source| source.topic == tp.topic);
            let Some(SourcePosition { next_offset: next, anchor, .. }) = source else { continue };
            if next > high {
                let why = format!("{tp} holds {low} to {high}, the snapshot expects {next}");
                return Ok(Some(("ahead_of_log", why)));
            }
            let Some(anchor) = anchor.filter(|anchor| (*low..*high).contains(&anchor.offset))
            else {
                continue;
            };
            if self.hash_at(tp, anchor.offset)?.is_some_and(|hash| hash != anchor.hash) {
                let why = format!("{tp} holds another record at offset {}", anchor.offset);
                return Ok(Some(("topic_changed", why)));
            }
        }
        Ok(None)
    }

    /// What the record at this offset is known by; `None` where it is no longer there.
    fn hash_at(&self, tp: &TopicPartition, offset: i64) -> Result<Option<u64>, HandlerError> {
        let kafka = &self.config.kafka;
        let group = format!("{}-anchors", kafka.group);
        let reader = Reader::new(&kafka.client(), &group, "driftline-anchors")?;
        reader.add(tp, Position::At(offset))?;
        let until = Instant::now() + ANCHOR_LIMIT;
        while Instant::now() < until && !self.stop.is_requested() {
            if let Some(record) = reader.poll(Duration::from_millis(100)) {
                return Ok((record.offset() == offset).then(|| stores::hash_of(&record)));
            }
            self.log.stay_member()?;
        }
        Err(format!("{tp} did not bring the record at offset {offset} in time").into())
    }

    fn download(&self, depot: &Depot, key: &str, manifest: &Manifest) -> Result<(), HandlerError> {
        let folder = self.path.with_extension("restoring");
        remove(&folder)?;
        std::fs::create_dir_all(&folder)?;
        let mut waits_since = None;
        let mut failed = None;
        let downloaded = depot.download(manifest, &folder, &mut |_| {
            match self.log.stay_member() {
                Ok(false) => waits_since = None,
                Ok(true) => drop(waits_since.get_or_insert_with(Instant::now)),
                Err(error) => failed = Some(error),
            }
            let waits = waits_since.is_some_and(|since| since.elapsed() > REBALANCE_LIMIT);
            failed.is_none() && !waits && !self.stop.is_requested()
        });
        if let Some(error) = failed {
            return Err(error);
        }
        downloaded?;
        let aside = origins(&self.path.with_extension(stores::ASIDE));
        let all: Vec<&str> = std::iter::once(key).chain(aside.iter().map(String::as_str)).collect();
        std::fs::write(folder.join(ORIGINS), all.join("\n"))?;
        // An empty folder may have been made for it; anything else was a store once.
        if self.path.exists() && std::fs::remove_dir(&self.path).is_err() {
            let why = match is_store(&self.path) {
                true => "it ends before its log begins, and a snapshot has come further",
                false => "it is no store",
            };
            stores::set_aside(&self.path, "replaced", why)?;
        }
        std::fs::rename(&folder, &self.path)?;
        Ok(())
    }
}

/// Whether there is a store in a folder, whole or not.
pub fn is_store(path: &Path) -> bool {
    path.join("CURRENT").exists()
}

/// Removes a folder that may not be there.
pub fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The manifests that the store in a folder was made from, and those before it.
fn origins(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path.join(ORIGINS)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

//! What is in the lake at a moment, as a list of files that stay until it is given up.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::layout::PINS;
use super::manifest::{DataFile, Manifest, SchemaId, to_json};
use super::store::{Lake, LakeError, parse};
use crate::objects::{Created, sha256_hex};

/// How often a list is made anew where compaction or retention came in between.
const ATTEMPTS: usize = 5;

/// A list of files that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its topics, by name.
    pub topics: BTreeMap<String, TopicSnapshot>,
}

/// A topic of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSnapshot {
    /// Its files, by key.
    pub files: Vec<DataFile>,
    /// Rows in them.
    pub rows: u64,
    /// Its newest event time, milliseconds since the epoch; none where nothing is archived.
    pub watermark_ms: Option<i64>,
    /// Ranges of offsets that are archived, expired ones included: partition, generation, first
    /// offset and the one after the last.
    pub offsets: Vec<(i32, i32, i64, i64)>,
    /// The schemas that its rows are of.
    pub schemas: Vec<SchemaId>,
}

impl Snapshot {
    /// A name that follows from what it lists.
    pub fn name(&self) -> Result<String, LakeError> {
        let bytes = to_json(self).map_err(|e| LakeError::damaged("a snapshot", e))?;
        Ok(sha256_hex(&bytes)[..16].to_owned())
    }
}

impl Lake {
    /// What is in these topics now.
    ///
    /// # Errors
    /// [`LakeError`].
    pub fn look(&self, topics: &[String]) -> Result<Snapshot, LakeError> {
        let mut found = BTreeMap::new();
        for topic in topics {
            let (files, manifests) = self.live_files_and_manifests(topic)?;
            let newest = manifests.iter().filter_map(Manifest::newest).max();
            let mut snapshot = TopicSnapshot {
                rows: files.iter().map(|file| file.rows).sum(),
                watermark_ms: newest.map(|at| at.millis()),
                files,
                ..TopicSnapshot::default()
            };
            let mut schemas = BTreeMap::new();
            for manifest in manifests {
                match snapshot.offsets.last_mut() {
                    Some((partition, generation, _, end))
                        if (*partition, *generation, *end)
                            == (manifest.partition, manifest.generation, manifest.start) =>
                    {
                        *end = manifest.end;
                    }
                    _ => snapshot.offsets.push((
                        manifest.partition,
                        manifest.generation,
                        manifest.start,
                        manifest.end,
                    )),
                }
                schemas.insert(manifest.schema.version, manifest.schema);
            }
            snapshot.schemas = schemas.into_values().collect();
            found.insert(topic.clone(), snapshot);
        }
        Ok(Snapshot { topics: found })
    }

    /// Lists what is in these topics now and pins it: until [`Lake::unpin`], none of its files is
    /// merged or expired. Returns its name, which follows from what it lists unless it is given.
    ///
    /// # Errors
    /// [`LakeError`]; [`LakeError::Conflict`] where the name is taken by another list, or
    /// compaction came in between again and again.
    pub fn pin(
        &self,
        topics: &[String],
        name: Option<&str>,
    ) -> Result<(String, Snapshot), LakeError> {
        for _ in 0..ATTEMPTS {
            let snapshot = self.look(topics)?;
            let name = match name {
                Some(name) => name.to_owned(),
                None => snapshot.name()?,
            };
            let key = format!("{PINS}/{name}.json");
            if self.create_json(&key, &snapshot)? == Created::Exists {
                let there: Snapshot = self.must_read(&key)?;
                if there != snapshot {
                    return Err(LakeError::Conflict(key));
                }
                return Ok((name, snapshot));
            }
            // Whoever merges or expires looks at pins after writing down what it will do, and here
            // that is looked at after pinning: one of the two sees the other.
            if self.all_live(&snapshot)? {
                return Ok((name, snapshot));
            }
            self.objects.delete(&key)?;
        }
        Err(LakeError::Conflict("a snapshot: compaction or retention is at work; try again".into()))
    }

    /// Whether every file of a snapshot is there, and nothing is about to take it away.
    fn all_live(&self, snapshot: &Snapshot) -> Result<bool, LakeError> {
        for (topic, listed) in &snapshot.topics {
            let there: BTreeSet<_> =
                self.objects.list(topic)?.into_iter().map(|object| object.key).collect();
            let (live, _) = self.live_files(topic)?;
            let live: BTreeSet<_> = live.iter().map(|file| file.key.as_str()).collect();
            let stays = |key: &str| there.contains(key) && live.contains(key);
            if !listed.files.iter().all(|file| stays(&file.key)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives a snapshot up.
    ///
    /// # Errors
    /// [`LakeError`].
    pub fn unpin(&self, name: &str) -> Result<(), LakeError> {
        Ok(self.objects.delete(&format!("{PINS}/{name}.json"))?)
    }

    /// Snapshots that are pinned, by name.
    ///
    /// # Errors
    /// [`LakeError`].
    pub fn pins(&self) -> Result<BTreeMap<String, Snapshot>, LakeError> {
        let keys: Vec<_> = self.objects.list(PINS)?.into_iter().map(|o| o.key).collect();
        let read = self.objects.get_all(&keys)?;
        keys.iter()
            .zip(read)
            // One that was given up meanwhile is none.
            .filter(|(_, bytes)| bytes.is_some())
            .map(|(key, bytes)| {
                let name = key.trim_start_matches(PINS).trim_matches('/');
                let snapshot = parse(key, bytes)?;
                Ok((name.trim_end_matches(".json").to_owned(), snapshot))
            })
            .collect()
    }

    pub(super) fn pinned_keys(&self) -> Result<BTreeSet<String>, LakeError> {
        let pins = self.pins()?.into_values();
        let topics = pins.flat_map(|snapshot| snapshot.topics.into_values());
        Ok(topics.flat_map(|topic| topic.files).map(|file| file.key).collect())
    }
}

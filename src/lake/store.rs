//! The lake in an object store: how far each partition has come, and how a cut gets there.
//!
//! A cut is planned, its files are made, its manifest is made: in this order, each only where there
//! is none. So whoever dies in between leaves a plan, and whoever comes next makes the very same cut.
//! Of two who write at once one is first at each step, and the other finds its own bytes there or
//! [`LakeError::Conflict`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::cut::{Batch, Cut, CutError, TopicWriter};
use super::layout::{Chain, CutKey, Hour};
use super::manifest::{Anchor, DataFile, Manifest, Plan, to_json};
use super::merging::rows_of;
use crate::objects::{Created, ObjectError, Objects, sha256_hex};

/// Why something was not done in the lake.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The object store: it says whether trying again may help.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A cut could not be made of its records: a fault of ours.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// Another archiver was faster: begin again from what the lake says.
    #[error("another archiver writes {0}: run one, or let them share a group")]
    Conflict(String),
    /// What is there is not what was written: look at it, and restore it.
    #[error("{key} in the lake is damaged: {what}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        what: String,
    },
}

impl LakeError {
    /// Whether trying the same again may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Object(error) if error.may_pass())
    }

    pub(super) fn damaged(key: &str, what: impl ToString) -> Self {
        Self::Damaged { key: key.to_owned(), what: what.to_string() }
    }
}

/// How far a partition has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Its newest generation.
    pub chain: Chain,
    /// Number of the next cut.
    pub cut: u64,
    /// The next offset; `None` where there is no cut yet.
    pub next: Option<i64>,
    /// What the next cut must be, where somebody has begun it.
    pub plan: Option<Plan>,
    /// The last record, by which the topic is known again.
    pub anchor: Option<Anchor>,
}

/// A cut to be made.
pub struct Job {
    /// Of which partition.
    pub chain: Chain,
    /// Its number.
    pub cut: u64,
    /// Its range.
    pub plan: Plan,
    /// Whether the plan was there before: files may be too.
    pub resumed: bool,
    /// Whether the log still had all of the range.
    pub whole: bool,
    /// Offsets lost before it.
    pub lost: Option<(i64, i64)>,
    /// Its records.
    pub batch: Batch,
}

/// The lake.
#[derive(Clone)]
pub struct Lake {
    pub(super) objects: Arc<Objects>,
}

impl Lake {
    /// A lake in this store.
    pub fn new(objects: Arc<Objects>) -> Self {
        Self { objects }
    }

    /// How far a partition has come.
    ///
    /// # Errors
    /// [`LakeError`].
    pub fn tail(&self, topic: &str, partition: i32) -> Result<Tail, LakeError> {
        let folder = Chain::partition_folder(topic, partition);
        let keys = self.objects.list(&folder)?;
        let keys: Vec<_> = keys.iter().filter_map(|o| CutKey::parse(&o.key)).collect();
        let generation = keys.iter().map(|(generation, _)| *generation).max().unwrap_or(0);
        let chain = Chain { topic: topic.to_owned(), partition, generation };
        let of_it = || keys.iter().filter(|(g, _)| *g == generation).map(|(_, key)| *key);
        let done = of_it().filter_map(|key| match key {
            CutKey::Manifest(cut) => Some(cut),
            _ => None,
        });
        let last = done.max();
        let cut = last.map_or(0, |last| last + 1);
        let mut tail = Tail { chain, cut, next: None, plan: None, anchor: None };
        if let Some(last) = last {
            let manifest: Manifest = self.must_read(&tail.chain.manifest_key(last))?;
            tail.next = Some(manifest.end);
            tail.anchor = manifest.last;
        }
        if of_it().any(|key| key == CutKey::Plan(cut)) {
            tail.plan = Some(self.must_read(&tail.chain.plan_key(cut))?);
        }
        Ok(tail)
    }

    /// Notes that a topic was made anew: what follows `chain` begins at its first offset.
    ///
    /// # Errors
    /// [`LakeError`].
    pub fn begin_anew(&self, chain: &Chain) -> Result<(), LakeError> {
        let next = Chain { generation: chain.generation + 1, ..chain.clone() };
        // Another archiver may have seen it first.
        self.objects.create(&next.begin_key(), Bytes::from_static(b"{}\n"))?;
        Ok(())
    }

    /// Makes a cut of a job's records; nothing is written yet.
    ///
    /// # Errors
    /// [`LakeError::Cut`].
    pub fn prepare(writer: &TopicWriter, job: &mut Job) -> Result<Cut, LakeError> {
        let batch = std::mem::take(&mut job.batch);
        let mut cut = writer.cut(&job.chain, &job.plan, batch)?;
        cut.manifest.lost = job.lost;
        Ok(cut)
    }

    /// Writes a cut. Done again after it failed, or by another, it changes nothing.
    ///
    /// # Errors
    /// [`LakeError`].
    pub fn commit(&self, job: &Job, cut: &mut Cut) -> Result<(), LakeError> {
        let key = job.chain.plan_key(job.cut);
        let mut resumed = job.resumed;
        if self.create_json(&key, &job.plan)? == Created::Exists {
            let planned: Plan = self.must_read(&key)?;
            if planned != job.plan {
                return Err(LakeError::Conflict(key));
            }
            resumed = true;
        }
        if resumed {
            self.settle(job, cut)?;
        }
        let files = &cut.manifest.files;
        let all = files.iter().zip(&cut.bytes).map(|(f, bytes)| (f.key.as_str(), bytes.clone()));
        let created = self.objects.create_all(all.collect())?;
        for (file, created) in files.iter().zip(created) {
            // Nobody had planned this cut, so nobody can have made its files.
            if created == Created::Exists && !resumed {
                self.check_same(file)?;
            }
        }
        let key = job.chain.manifest_key(job.cut);
        if self.create_json(&key, &cut.manifest)? == Created::Exists {
            let there: Manifest = self.must_read(&key)?;
            if (there.start, there.end) != (job.plan.start, job.plan.end) {
                return Err(LakeError::Conflict(key));
            }
            cut.manifest = there;
        }
        Ok(())
    }

    fn check_same(&self, file: &DataFile) -> Result<(), LakeError> {
        let there = self.objects.get(&file.key)?.unwrap_or_default();
        if sha256_hex(&there) == file.sha256 {
            return Ok(());
        }
        Err(LakeError::Conflict(file.key.clone()))
    }

    /// Brings what an earlier attempt left into line with the cut, while nothing says that it is
    /// whole. Mostly they are the same bytes. They are not where another version began it: then
    /// the log decides, or, where it has lost records meanwhile, what was saved of them.
    fn settle(&self, job: &Job, cut: &mut Cut) -> Result<(), LakeError> {
        if self.objects.get(&job.chain.manifest_key(job.cut))?.is_some() {
            return Ok(());
        }
        let name = job.chain.file_name(job.plan.start, job.plan.end);
        let listed = self.objects.list(&job.chain.topic)?;
        for found in listed.into_iter().filter(|o| o.key.rsplit('/').next() == Some(&name)) {
            let ours = cut.manifest.files.iter().position(|f| f.key == found.key);
            let Some(there) = self.objects.get(&found.key)? else { continue };
            let sha256 = sha256_hex(&there);
            if ours.is_some_and(|n| cut.manifest.files[n].sha256 == sha256) {
                continue;
            }
            tracing::warn!(key = found.key, whole = job.whole, "an unfinished cut differs");
            if job.whole {
                self.objects.delete(&found.key)?;
            } else {
                adopt(cut, ours, &found.key, there)?;
            }
        }
        Ok(())
    }

    pub(super) fn create_json(
        &self,
        key: &str,
        value: &impl serde::Serialize,
    ) -> Result<Created, LakeError> {
        let bytes = to_json(value).map_err(|e| LakeError::damaged(key, e))?;
        Ok(self.objects.create(key, bytes)?)
    }

    pub(super) fn must_read<T: DeserializeOwned>(&self, key: &str) -> Result<T, LakeError> {
        let bytes = self.objects.get(key)?;
        parse(key, bytes)
    }

    /// Every manifest of a topic, by partition, generation and number.
    ///
    /// # Errors
    /// [`LakeError`].
    pub fn manifests(&self, topic: &str) -> Result<BTreeMap<String, Manifest>, LakeError> {
        let keys = self.objects.list(&format!("{}/{topic}", super::layout::CUTS))?;
        let is_manifest = |key: &str| matches!(CutKey::parse(key), Some((_, CutKey::Manifest(_))));
        let keys: Vec<_> = keys.into_iter().map(|o| o.key).filter(|key| is_manifest(key)).collect();
        let read = self.objects.get_all(&keys)?;
        keys.into_iter()
            .zip(read)
            .map(|(key, bytes)| parse(&key, bytes).map(|manifest| (key, manifest)))
            .collect()
    }
}

pub(super) fn parse<T: DeserializeOwned>(key: &str, bytes: Option<Bytes>) -> Result<T, LakeError> {
    let bytes = bytes.ok_or_else(|| LakeError::damaged(key, "it is gone"))?;
    serde_json::from_slice(&bytes).map_err(|e| LakeError::damaged(key, e))
}

/// Takes a file of an earlier attempt for ours: it holds what ours would, and records that the log
/// has lost since.
fn adopt(cut: &mut Cut, ours: Option<usize>, key: &str, there: Bytes) -> Result<(), LakeError> {
    let rows = rows_of(&there).map_err(|e| LakeError::damaged(key, e))?;
    let file = DataFile {
        key: key.to_owned(),
        rows,
        bytes: there.len() as u64,
        sha256: sha256_hex(&there),
    };
    let manifest = &mut cut.manifest;
    let before = match ours {
        Some(n) => {
            cut.bytes[n] = there;
            std::mem::replace(&mut manifest.files[n], file).rows
        }
        None => {
            manifest.files.push(file);
            cut.bytes.push(there);
            0
        }
    };
    manifest.rows = manifest.rows + rows - before;
    manifest.absent = manifest.absent.saturating_sub(rows.saturating_sub(before));
    if let Some(hour) = Hour::of_key(key) {
        let (first, last) = (hour.begin().millis(), hour.end().millis() - 1);
        let (from, to) = manifest.event_time.unwrap_or((first, last));
        manifest.event_time = Some((from.min(first), to.max(last)));
    }
    Ok(())
}

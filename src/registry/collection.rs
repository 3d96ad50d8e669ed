//! What is given up: versions that no alias names, nobody relies on and that are no longer young.
//!
//! Others may be registering or promoting at the same time. So what is to be deleted is written down
//! first, and then all is looked at once more: see [`claims`](super::claims). Of a version that goes
//! the manifest is kept elsewhere, and its files are deleted after the manifest, so that
//! what is there is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::claims::{LOST_MS, Plan, claimed};
use super::{
    CLAIMS, MANIFEST, ModelVersion, PLANS, Registry, RegistryError, VERSIONS, collected_key,
    manifest_key, version_and_file,
};
use crate::objects::ObjectInfo;

/// How long a collector relies on what it has looked at. Far below the time after which others think
/// it dead, so that one that was asleep does not delete what somebody relies on by now.
const LOOK_HOLDS: Duration = Duration::from_secs(600);

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct KeepRules {
    /// Newest epochs of the aliases: what they name stays.
    pub epochs: usize,
    /// Milliseconds for which a version stays after it was registered.
    pub young_ms: i64,
    /// Milliseconds for which the files of a registration that has not ended stay after the newest of
    /// them. Longer than a registration takes.
    pub grace_ms: i64,
}

/// Why something stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// One of the newest epochs names it.
    Alias {
        /// As what.
        name: &'static str,
        /// The newest epoch that does.
        epoch: u64,
    },
    /// Somebody is registering or promoting it, or a child of it.
    Claimed,
    /// It was registered not long ago.
    Young,
    /// The parent of one that stays.
    ParentOf(ModelVersion),
}

/// What becomes of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It stays.
    Stays(Kept),
    /// It goes.
    Goes,
}

/// A version, or what a registration that died left of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its name.
    pub version: ModelVersion,
    /// Whether it has a manifest.
    pub whole: bool,
    /// Objects that it consists of.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What becomes of it.
    pub fate: Fate,
    #[serde(skip)]
    keys: Vec<String>,
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// What was deleted.
    pub deleted: Vec<Found>,
    /// What was to be deleted, and somebody began to rely on.
    pub spared: Vec<ModelVersion>,
    /// What stays.
    pub kept: Vec<Found>,
    /// Claims and plans that were removed since those who made them had died.
    pub lost: usize,
}

impl Registry {
    /// What becomes of every version by these rules: what [`collect`](Self::collect) would do now.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`], [`RegistryError::Format`] of an alias or of a manifest that stays:
    /// while it cannot be read, nobody knows what it names.
    pub fn survey(&self, rules: &KeepRules, now_ms: i64) -> Result<Vec<Found>, RegistryError> {
        // Claims first: what somebody has done under one that is gone by now is seen below.
        let claims = self.objects.list(CLAIMS)?;
        let claims = claims.iter().filter(|claim| !is_lost(claim, now_ms));
        let claims: BTreeSet<_> = claims.filter_map(|claim| claimed(&claim.key)).collect();
        let mut folders: BTreeMap<ModelVersion, Vec<ObjectInfo>> = BTreeMap::new();
        for object in self.objects.list(VERSIONS)? {
            if let Some((version, _)) = version_and_file(&object.key) {
                folders.entry(version).or_default().push(object);
            }
        }
        let mut kept: BTreeMap<ModelVersion, Kept> = BTreeMap::new();
        for aliases in self.newest_aliases(rules.epochs.max(1))? {
            for (name, version) in aliases.named() {
                kept.entry(version).or_insert(Kept::Alias { name, epoch: aliases.epoch });
            }
        }
        for (version, objects) in &folders {
            let manifest = manifest_of(objects, *version);
            let (since, stays_ms) = match manifest {
                Some(manifest) => (Some(manifest.modified_ms), rules.young_ms),
                None => (objects.iter().map(|o| o.modified_ms).max(), rules.grace_ms),
            };
            if claims.contains(version) {
                kept.entry(*version).or_insert(Kept::Claimed);
            } else if since.is_some_and(|since| now_ms.saturating_sub(since) < stays_ms) {
                kept.entry(*version).or_insert(Kept::Young);
            }
        }
        for child in kept.keys().copied().collect::<Vec<_>>() {
            let whole = folders.get(&child).and_then(|objects| manifest_of(objects, child));
            if whole.is_some()
                && let Some(parent) = self.parent_of(child)?
            {
                kept.entry(parent).or_insert(Kept::ParentOf(child));
            }
        }
        let found = folders.into_iter().map(|(version, objects)| Found {
            version,
            whole: manifest_of(&objects, version).is_some(),
            objects: objects.len(),
            bytes: objects.iter().map(|object| object.bytes).sum(),
            fate: kept.get(&version).map_or(Fate::Goes, |why| Fate::Stays(why.clone())),
            keys: objects.into_iter().map(|object| object.key).collect(),
        });
        Ok(found.collect())
    }

    /// The parent of a version; none also where it was collected since it was listed.
    fn parent_of(&self, version: ModelVersion) -> Result<Option<ModelVersion>, RegistryError> {
        match self.get(version) {
            Ok(manifest) => Ok(manifest.parent),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes what these rules do not keep. Safe beside others who register, promote or collect.
    /// `now_ms` is held against the times of the object store's clock: rules are of hours and days,
    /// so minutes between the two do not matter.
    ///
    /// # Errors
    /// As [`survey`](Self::survey); what is left is deleted the next time.
    pub fn collect(&self, rules: &KeepRules, now_ms: i64) -> Result<Collected, RegistryError> {
        let goes = |found: &Found| found.fate == Fate::Goes;
        let first = self.survey(rules, now_ms)?;
        let dead: Vec<_> = first.iter().filter(|f| goes(f)).map(|f| f.version).collect();
        if dead.is_empty() {
            let lost = self.forget_lost(now_ms)?;
            return Ok(Collected { kept: first, lost, ..Collected::default() });
        }
        let plan = format!("{PLANS}/{}.json", uuid::Uuid::new_v4());
        let text = serde_json::to_vec(&Plan { versions: dead.clone() });
        let text = text.map_err(|error| RegistryError::damaged(&plan, error))?;
        self.objects.create(&plan, text.into())?;
        // Who has come in between is seen now; who comes from here on sees the plan.
        let looked = Instant::now();
        let second = self.survey(rules, now_ms)?;
        let (going, kept): (Vec<Found>, Vec<Found>) =
            second.into_iter().partition(|f| goes(f) && dead.contains(&f.version));
        let spared = kept.iter().map(|f| f.version).filter(|v| dead.contains(v)).collect();
        let mut deleted = Vec::with_capacity(going.len());
        for found in going {
            if looked.elapsed() > LOOK_HOLDS {
                break;
            }
            self.delete_version(&found)?;
            deleted.push(found);
        }
        self.objects.delete(&plan)?;
        Ok(Collected { deleted, spared, kept, lost: self.forget_lost(now_ms)? })
    }

    fn delete_version(&self, found: &Found) -> Result<(), RegistryError> {
        let manifest = manifest_key(found.version);
        // What it was made from is asked for long after it served. Where there was one of the
        // same name before, it was made from the same.
        if let Some(bytes) = self.objects.get(&manifest)? {
            self.objects.create(&collected_key(found.version), bytes)?;
        }
        self.objects.delete(&manifest)?;
        let files = found.keys.iter().filter(|key| **key != manifest);
        files.into_iter().try_for_each(|key| self.objects.delete(key).map_err(Into::into))
    }

    /// Removes claims and plans of those who died.
    fn forget_lost(&self, now_ms: i64) -> Result<usize, RegistryError> {
        let mut all = self.objects.list(CLAIMS)?;
        all.extend(self.objects.list(PLANS)?);
        all.retain(|object| is_lost(object, now_ms));
        all.iter().try_for_each(|object| self.objects.delete(&object.key))?;
        Ok(all.len())
    }
}

fn is_lost(object: &ObjectInfo, now_ms: i64) -> bool {
    now_ms.saturating_sub(object.modified_ms) > LOST_MS
}

fn manifest_of(objects: &[ObjectInfo], version: ModelVersion) -> Option<&ObjectInfo> {
    let is_manifest = |o: &&ObjectInfo| version_and_file(&o.key) == Some((version, MANIFEST));
    objects.iter().find(is_manifest)
}

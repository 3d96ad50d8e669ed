//! Which lists a version ranked, as the lake has them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::{ModelVersion, Registry, RegistryError};
use crate::ids::{Prehashed, stable_hash};
use crate::lake::{Lake, LakeColumns, LakeError};

/// Lists that a version ranked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Served {
    /// How many; one that was written twice is one, known by its request and time.
    pub lists: u64,
    /// The time of the first, milliseconds since the epoch.
    pub first_ms: Option<i64>,
    /// That of the last.
    pub last_ms: Option<i64>,
    /// The newest of them, the last first: time and request.
    pub newest: Vec<(i64, String)>,
    /// Rows that were looked at: lists of all versions that the lake holds.
    pub rows: u64,
}

impl Registry {
    /// Looks through the lake of the same object store for lists that `version` ranked. `topic` is the one
    /// of impressions, `newest` how many requests to name. `progress` is told rows done and in
    /// all. Holds 8 bytes a list found, and one file at a time.
    ///
    /// # Errors
    /// [`RegistryError::Lake`]; also where a file was merged or expired meanwhile: look again.
    pub fn served(
        &self,
        version: ModelVersion,
        topic: &str,
        newest: usize,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Served, RegistryError> {
        let (files, _) = Lake::new(Arc::clone(&self.objects)).live_files(topic)?;
        let total = files.iter().map(|file| file.rows).sum();
        let keys: Vec<String> = files.iter().map(|file| file.key.clone()).collect();
        let mut counting = Counting { name: version.to_string(), newest, ..Counting::default() };
        let mut all = files.iter();
        self.objects.get_each(&keys, 1, |found| {
            let Some(file) = all.next() else { return Ok(()) };
            let gone = || LakeError::Damaged {
                key: file.key.clone(),
                what: "it is gone: if it was merged or expired just now, look again".into(),
            };
            let (bytes, _) = found.ok_or_else(gone)?;
            counting.add(&LakeColumns::open(&file.key, bytes)?)?;
            counting.served.rows += file.rows;
            progress(counting.served.rows, total);
            Ok::<_, RegistryError>(())
        })?;
        let newest = counting.requests.into_iter().rev().collect();
        Ok(Served { newest, ..counting.served })
    }
}

#[derive(Default)]
struct Counting {
    name: String,
    newest: usize,
    seen: HashSet<u64, Prehashed>,
    requests: BTreeSet<(i64, String)>,
    served: Served,
}

impl Counting {
    fn add(&mut self, file: &LakeColumns) -> Result<(), LakeError> {
        let versions = file.texts("model_version")?;
        let is_ours = |version: &Option<bytes::Bytes>| {
            version.as_deref().is_some_and(|version| version == self.name.as_bytes())
        };
        // Most files are of one version, and the other columns are the larger ones.
        if !versions.iter().any(is_ours) {
            return Ok(());
        }
        let (times, requests) = (file.longs("event_time")?, file.texts("request_id")?);
        for ((_, time), request) in
            versions.iter().zip(times).zip(requests).filter(|((version, _), _)| is_ours(version))
        {
            let (time, request) = (time.unwrap_or_default(), request.unwrap_or_default());
            let key = [&time.to_le_bytes(), request.as_ref()].concat();
            if !self.seen.insert(stable_hash(&key)) {
                continue;
            }
            let served = &mut self.served;
            served.lists += 1;
            served.first_ms = Some(served.first_ms.map_or(time, |first| first.min(time)));
            served.last_ms = served.last_ms.max(Some(time));
            let request = String::from_utf8_lossy(&request).into_owned();
            self.requests.insert((time, request));
            if self.requests.len() > self.newest {
                self.requests.pop_first();
            }
        }
        Ok(())
    }
}

//! Small files of an hour → one.
//!
//! A reader that lists files must never see a row twice, and no object store replaces several files
//! at once. So the new file is made aside, its plan is written, the old ones are deleted, and only
//! then does the new one appear: for that moment a reader sees fewer rows, never more. Once the plan
//! is there it is carried through, by whoever comes next.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::layout::{Hour, MERGES};
use super::manifest::{DataFile, Manifest, to_line};
use super::merging::{Read, merge};
use super::store::{Lake, LakeError, parse};
use crate::objects::sha256_hex;
use crate::time::{EventTime, HOUR_MS};

/// Which files are made one.
#[derive(Clone, Copy, Debug)]
pub struct CompactionRules {
    /// Hours of event time, counted back from the topic's newest, that an hour must be past.
    pub after_hours: u32,
    /// Bytes from which on a file is left alone; also the most that become one file.
    pub bytes: u64,
}

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Compacted {
    /// Files that are gone.
    pub merged: u64,
    /// Files in their place.
    pub made: u64,
    /// Bytes of those that are gone.
    pub bytes_before: u64,
    /// Bytes of those in their place.
    pub bytes_after: u64,
    /// Compactions of before that were carried through.
    pub healed: u64,
    /// Hours left alone because something pinned needs their files.
    pub pinned: u64,
}

/// Several files, and the one in their place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Merge {
    pub inputs: Vec<DataFile>,
    pub output: DataFile,
}

impl Merge {
    fn id(&self) -> &str {
        let name = self.output.key.rsplit('/').next().unwrap_or_default();
        name.trim_end_matches(".parquet")
    }

    fn plan_key(&self, topic: &str) -> String {
        format!("{MERGES}/{topic}/{}.json", self.id())
    }

    fn staged_key(&self, topic: &str) -> String {
        format!("{MERGES}/{topic}/{}.staged", self.id())
    }
}

impl Lake {
    /// Every compaction of a topic that was planned.
    pub(super) fn merges(&self, topic: &str) -> Result<Vec<Merge>, LakeError> {
        let listed = self.objects.list(&format!("{MERGES}/{topic}"))?;
        let keys: Vec<_> =
            listed.into_iter().map(|o| o.key).filter(|key| key.ends_with(".json")).collect();
        let read = self.objects.get_all(&keys)?;
        keys.iter().zip(read).map(|(key, bytes)| parse(key, bytes)).collect()
    }

    /// Carries through what was begun, then makes one of the small files of each hour that is old
    /// enough. `progress` is told of hours done and of those there are.
    ///
    /// # Errors
    /// [`LakeError`]; what was begun is carried through the next time.
    pub fn compact(
        &self,
        topic: &str,
        rules: &CompactionRules,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Compacted, LakeError> {
        let mut done = Compacted { healed: self.heal(topic)?, ..Compacted::default() };
        let (files, newest) = self.live_files(topic)?;
        let Some(newest) = newest else { return Ok(done) };
        let until = newest.plus_millis(-(i64::from(rules.after_hours) * HOUR_MS));
        let pinned = self.pinned_keys()?;
        let mut hours: BTreeMap<Hour, Vec<DataFile>> = BTreeMap::new();
        for file in files {
            if let Some(hour) = Hour::of_key(&file.key)
                && hour.end() <= until
                && file.bytes < rules.bytes
            {
                hours.entry(hour).or_default().push(file);
            }
        }
        hours.retain(|_, files| files.len() > 1);
        let total = hours.len() as u64;
        for (number, (hour, files)) in (1..).zip(hours) {
            if files.iter().any(|file| pinned.contains(&file.key)) {
                done.pinned += 1;
            } else {
                self.compact_hour(topic, hour, files, rules, &mut done)?;
            }
            progress(number, total);
        }
        Ok(done)
    }

    fn compact_hour(
        &self,
        topic: &str,
        hour: Hour,
        files: Vec<DataFile>,
        rules: &CompactionRules,
        done: &mut Compacted,
    ) -> Result<(), LakeError> {
        // Files of one schema only: another has other columns.
        let mut groups: Vec<(Vec<DataFile>, Vec<Read>)> = Vec::new();
        for file in files {
            let bytes = self.objects.get(&file.key)?;
            let Some(bytes) = bytes.filter(|b| sha256_hex(b) == file.sha256) else {
                return Err(LakeError::damaged(&file.key, "it is not what its manifest says"));
            };
            let read = Read::open(bytes).map_err(|e| LakeError::damaged(&file.key, e))?;
            let fits = groups.iter_mut().find(|(files, reads)| {
                let size: u64 = files.iter().map(|f| f.bytes).sum();
                reads[0].schema == read.schema && size + file.bytes <= rules.bytes
            });
            match fits {
                Some((files, reads)) => {
                    files.push(file);
                    reads.push(read);
                }
                None => groups.push((vec![file], vec![read])),
            }
        }
        for (inputs, reads) in groups.into_iter().filter(|(files, _)| files.len() > 1) {
            let (merge, bytes) = merged(topic, hour, inputs, &reads)?;
            self.objects.create(&merge.staged_key(topic), bytes.clone())?;
            self.create_json(&merge.plan_key(topic), &merge)?;
            // Whoever pins looks at plans after pinning: one of the two sees the other.
            let pinned = self.pinned_keys()?;
            if merge.inputs.iter().any(|file| pinned.contains(&file.key)) {
                self.objects.delete(&merge.plan_key(topic))?;
                self.objects.delete(&merge.staged_key(topic))?;
                done.pinned += 1;
                continue;
            }
            let there = merge.inputs.iter().map(|file| file.key.clone()).collect();
            self.carry_through(topic, &merge, &there)?;
            done.merged += merge.inputs.len() as u64;
            done.made += 1;
            done.bytes_before += merge.inputs.iter().map(|f| f.bytes).sum::<u64>();
            done.bytes_after += merge.output.bytes;
        }
        Ok(())
    }

    /// Carries through every compaction that was planned and is not done, and removes files that
    /// came back after they were merged: an archiver that slept through it made them again.
    fn heal(&self, topic: &str) -> Result<u64, LakeError> {
        let merges = self.merges(topic)?;
        let staged: BTreeSet<String> =
            self.objects.list(&format!("{MERGES}/{topic}"))?.into_iter().map(|o| o.key).collect();
        let there: BTreeSet<String> =
            self.objects.list(topic)?.into_iter().map(|o| o.key).collect();
        let pinned = self.pinned_keys()?;
        let mut healed = 0;
        for merge in merges {
            let back = merge.inputs.iter().filter(|file| there.contains(&file.key)).count();
            let is_staged = staged.contains(&merge.staged_key(topic));
            if back == 0 && !is_staged {
                continue;
            }
            healed += 1;
            let untouched = is_staged && back == merge.inputs.len();
            if untouched && merge.inputs.iter().any(|file| pinned.contains(&file.key)) {
                self.objects.delete(&merge.plan_key(topic))?;
                self.objects.delete(&merge.staged_key(topic))?;
            } else {
                self.carry_through(topic, &merge, &there)?;
            }
        }
        Ok(healed)
    }

    fn carry_through(
        &self,
        topic: &str,
        merge: &Merge,
        there: &BTreeSet<String>,
    ) -> Result<(), LakeError> {
        for file in merge.inputs.iter().filter(|file| there.contains(&file.key)) {
            self.objects.delete(&file.key)?;
        }
        let staged = merge.staged_key(topic);
        if let Some(bytes) = self.objects.get(&staged)? {
            self.objects.create(&merge.output.key, bytes)?;
            self.objects.delete(&staged)?;
        }
        Ok(())
    }

    /// Files of a topic that are part of it now, by key, and the newest event time.
    ///
    /// # Errors
    /// [`LakeError`].
    pub fn live_files(&self, topic: &str) -> Result<(Vec<DataFile>, Option<EventTime>), LakeError> {
        let (files, manifests) = self.live_files_and_manifests(topic)?;
        Ok((files, manifests.iter().filter_map(Manifest::newest).max()))
    }

    /// The same, and the manifests of the cuts that they came from.
    pub(super) fn live_files_and_manifests(
        &self,
        topic: &str,
    ) -> Result<(Vec<DataFile>, Vec<Manifest>), LakeError> {
        let horizon = self.horizon(topic)?;
        // Before the manifests: of every merge that is seen, the cuts are seen too.
        let merges = self.merges(topic)?;
        let manifests: Vec<Manifest> = self.manifests(topic)?.into_values().collect();
        let of_cuts = manifests.iter().flat_map(|manifest| &manifest.files);
        let of_merges = merges.iter().map(|merge| &merge.output);
        let mut live: BTreeMap<&str, &DataFile> =
            of_cuts.chain(of_merges).map(|file| (file.key.as_str(), file)).collect();
        for file in merges.iter().flat_map(|merge| &merge.inputs) {
            live.remove(file.key.as_str());
        }
        live.retain(|key, _| Hour::of_key(key).is_some_and(|hour| hour.begin() >= horizon));
        Ok((live.into_values().cloned().collect(), manifests))
    }

    /// Forgets compactions of hours before `horizon`: what they made is deleted.
    pub(super) fn forget_merges(&self, topic: &str, horizon: EventTime) -> Result<(), LakeError> {
        for merge in self.merges(topic)? {
            if Hour::of_key(&merge.output.key).is_some_and(|hour| hour.begin() < horizon) {
                self.objects.delete(&merge.staged_key(topic))?;
                self.objects.delete(&merge.plan_key(topic))?;
            }
        }
        Ok(())
    }
}

fn merged(
    topic: &str,
    hour: Hour,
    inputs: Vec<DataFile>,
    reads: &[Read],
) -> Result<(Merge, Bytes), LakeError> {
    let shas: Vec<&str> = inputs.iter().map(|file| file.sha256.as_str()).collect();
    let id = &sha256_hex(shas.concat().as_bytes())[..16];
    let key = format!("{}/{topic}+merged+{id}.parquet", hour.folder(topic));
    let failed = |e| LakeError::damaged(&key, e);
    let bytes = Bytes::from(merge(reads, lineage(topic, reads)).map_err(failed)?);
    let rows = inputs.iter().map(|file| file.rows).sum();
    let output = DataFile { key, rows, bytes: bytes.len() as u64, sha256: sha256_hex(&bytes) };
    Ok((Merge { inputs, output }, bytes))
}

/// What a merged file says of itself: as the others, but for the ranges of offsets, which are many.
fn lineage(topic: &str, reads: &[Read]) -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for read in reads {
        let number = |key: &str| {
            let text = read.metadata.get(key).map_or("", String::as_str);
            text.parse::<i64>().unwrap_or(0)
        };
        match read.metadata.get("driftline.sources").map(|text| serde_json::from_str(text)) {
            Some(Ok(Value::Array(all))) => sources.extend(all),
            _ => sources.push(json!({
                "partition": number("driftline.partition"),
                "generation": number("driftline.generation"),
                "start": number("driftline.start_offset"),
                "end": number("driftline.end_offset"),
            })),
        }
    }
    let schema = reads[0].metadata.iter().filter(|(key, _)| key.starts_with("driftline.schema"));
    let own = [
        ("driftline.topic".to_owned(), topic.to_owned()),
        ("driftline.sources".to_owned(), to_line(&Value::Array(sources))),
    ];
    own.into_iter().chain(schema.map(|(k, v)| (k.clone(), v.clone()))).collect()
}

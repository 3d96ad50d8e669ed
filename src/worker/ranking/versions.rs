//! Versions of the ranker in the topic `models`: put together from their chunks, and written.

use std::collections::HashMap;

use super::Version;
use crate::event::RankerManifest;
use crate::objects::sha256_hex;
use crate::ranking::{Learner, schema_name};

/// What the keys of all records of rankers begin with.
pub const PREFIX: &str = "ranker/";
/// Bytes of a chunk, far below a broker's limit for a record.
const CHUNK_BYTES: usize = 512 << 10;
/// Chunks of a slot. A learner that knows something of every slot of its ids has 80.
const MOST_CHUNKS: usize = 256;
/// Slots that versions take in turn.
const SLOTS: i64 = 2;

/// Chunks as the topic last had them.
#[derive(Default)]
pub struct Assembly {
    chunks: HashMap<(i64, usize), Vec<u8>>,
}

impl Assembly {
    /// Takes a record whose key begins with [`PREFIX`]. Returns the version that it completes.
    ///
    /// # Errors
    /// What is wrong with the record; whatever was known stays.
    pub fn take(&mut self, key: &str, value: &[u8]) -> Result<Option<Version>, String> {
        let parts = key.strip_prefix(PREFIX).unwrap_or_default();
        let (slot, chunk) = match parts.split_once('/') {
            Some((slot, chunk)) => (slot, Some(chunk)),
            None => (parts, None),
        };
        let unknown = || format!("key {key:?} is no {PREFIX}slot/chunk");
        let slot: i64 = slot.parse().map_err(|_| unknown())?;
        if !(0..SLOTS).contains(&slot) {
            return Err(unknown());
        }
        let Some(chunk) = chunk else { return self.finish(slot, value).map(Some) };
        let chunk: usize = chunk.parse().map_err(|_| unknown())?;
        if chunk >= MOST_CHUNKS {
            return Err(format!("a ranker has no chunk {chunk}"));
        }
        self.chunks.insert((slot, chunk), value.to_vec());
        Ok(None)
    }

    fn finish(&mut self, slot: i64, manifest: &[u8]) -> Result<Version, String> {
        let manifest = RankerManifest::decode(manifest).map_err(|error| error.to_string())?;
        if manifest.version.rem_euclid(SLOTS) != slot {
            return Err(format!("version {} is in another's slot", manifest.version));
        }
        let mut bytes = Vec::new();
        for chunk in 0..usize::try_from(manifest.chunks).unwrap_or(0).min(MOST_CHUNKS) {
            let chunk = self.chunks.get(&(slot, chunk));
            bytes.extend_from_slice(chunk.ok_or("a chunk of the ranker is missing")?);
        }
        self.chunks.retain(|(other, _), _| *other != slot);
        if sha256_hex(&bytes) != manifest.sha256 {
            return Err("the ranker's bytes are not those that its manifest names".into());
        }
        Ok(Version { manifest, bytes })
    }
}

/// The records of a version, keys and values: chunks first, the manifest last. `manifest` says its
/// number and what it has read.
///
/// # Errors
/// Where it does not fit.
pub fn records(
    learner: &Learner,
    manifest: RankerManifest,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let bytes = learner.to_bytes();
    let slot = manifest.version.rem_euclid(SLOTS);
    let chunks = (0..).zip(bytes.chunks(CHUNK_BYTES));
    let mut records: Vec<_> =
        chunks.map(|(n, chunk)| (format!("{PREFIX}{slot}/{n}"), chunk.to_vec())).collect();
    if records.len() > MOST_CHUNKS {
        return Err(format!("a ranker of {} bytes is too large to publish", bytes.len()));
    }
    let manifest = RankerManifest {
        chunks: records.len() as i32,
        bytes: bytes.len() as i64,
        sha256: sha256_hex(&bytes),
        feature_schema: schema_name().into(),
        examples: i64::try_from(learner.weights().learnt()).unwrap_or(i64::MAX),
        watermark: learner.weights().watermark().millis(),
        ..manifest
    };
    let manifest_key = format!("{PREFIX}{slot}");
    records.push((manifest_key, manifest.encode().map_err(|error| error.to_string())?));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::Kind;

    fn written(version: i64) -> Vec<(String, Vec<u8>)> {
        let manifest = RankerManifest { version, offsets: vec![7], ..RankerManifest::default() };
        records(&Learner::new(Kind::Kalman), manifest).unwrap()
    }

    #[test]
    fn a_version_is_put_together_from_its_records_and_the_one_before_stays_whole() {
        let mut assembly = Assembly::default();
        let mut whole = Vec::new();
        for (key, value) in written(4).iter().chain(&written(5)) {
            whole.extend(assembly.take(key, value).unwrap());
        }
        let [four, five] = &whole[..] else { panic!("two versions") };
        assert_eq!((four.manifest.version, five.manifest.version), (4, 5));
        assert_eq!(five.manifest.offsets, [7]);
        let bytes = Learner::new(Kind::Kalman).to_bytes();
        assert_eq!(five.learner().unwrap().to_bytes(), bytes);
        let keys = |version| written(version).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(4), keys(6), "slots come again, so that compaction forgets");
        assert!(keys(5).iter().all(|key| !keys(4).contains(key)));
    }

    #[test]
    fn what_is_missing_changed_or_mixed_is_refused_and_says_how() {
        let records = written(1);
        let (key, manifest) = &records[1];
        let take = |assembly: &mut Assembly, key: &str, value: &[u8]| {
            assembly.take(key, value).err().unwrap_or_default()
        };
        let mut assembly = Assembly::default();
        assert!(take(&mut assembly, key, manifest).contains("missing"));
        let mut changed = records[0].1.clone();
        changed[100] ^= 1;
        assert!(take(&mut assembly, &records[0].0, &changed).is_empty());
        assert!(take(&mut assembly, key, manifest).contains("not those"));
        assert!(take(&mut assembly, "ranker/0", manifest).contains("another's slot"));
        for key in ["ranker/", "ranker/2", "ranker/0/x", "ranker/0/256"] {
            assert!(assembly.take(key, b"").is_err(), "{key}");
        }
    }
}

//! Bases in the topic `models`: put together from their chunks, and written.

use std::collections::HashMap;

use super::golden::verify_golden;
use crate::event::ModelManifest;
use crate::kafka::Record;
use crate::model::{Basis, BasisVersion};
use crate::objects::sha256_hex;

/// Bytes of a chunk, far below a broker's limit for a record.
const CHUNK_BYTES: usize = 512 << 10;
/// Bytes of chunks that wait for their manifest; what is beyond belongs to bases whose publisher
/// died, or to one larger than any that can be trained.
const WAITING_BYTES: usize = 1 << 30;

/// Something that the topic says.
pub enum Announced {
    /// A basis is whole.
    Basis(Box<(Basis, ModelManifest)>),
    /// A basis is retired.
    Retired(BasisVersion),
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The version that cannot serve for it; none where the record is of no version, or more may come.
    pub version: Option<BasisVersion>,
    /// What is wrong with it.
    pub why: String,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { version: None, why }
    }
}

/// Chunks that wait for their manifest.
#[derive(Default)]
pub struct Assembly {
    chunks: HashMap<BasisVersion, HashMap<usize, Vec<u8>>>,
    bytes: usize,
}

impl Assembly {
    /// Takes a record of the topic. Returns what it says, where it says something.
    ///
    /// # Errors
    /// What is wrong with the record; whatever was known stays.
    pub fn take(&mut self, record: &Record<'_>) -> Result<Option<Announced>, Refused> {
        let key = record.key().unwrap_or_default();
        let value = (!record.is_tombstone()).then(|| record.value());
        self.take_value(key, value)
    }

    fn take_value(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Option<Announced>, Refused> {
        let (version, chunk) = parse_key(key)
            .ok_or_else(|| format!("key {:?} is no version/chunk", String::from_utf8_lossy(key)))?;
        match (chunk, value) {
            (None, None) => {
                self.forget(version);
                Ok(Some(Announced::Retired(version)))
            }
            (None, Some(value)) => match self.finish(version, value) {
                Ok(whole) => Ok(Some(whole)),
                Err(why) => Err(Refused { version: Some(version), why }),
            },
            (Some(_), None) => Ok(None),
            (Some(chunk), Some(value)) => {
                if self.bytes + value.len() > WAITING_BYTES {
                    self.chunks.clear();
                    self.bytes = 0;
                    return Err("too many chunks wait for their manifests".to_owned().into());
                }
                self.bytes += value.len();
                let chunks = self.chunks.entry(version).or_default();
                let old = chunks.insert(chunk, value.to_vec());
                self.bytes -= old.map_or(0, |old| old.len());
                Ok(None)
            }
        }
    }

    fn finish(&mut self, version: BasisVersion, manifest: &[u8]) -> Result<Announced, String> {
        let manifest = ModelManifest::decode(manifest).map_err(|e| e.to_string())?;
        let mut chunks = self.forget(version);
        let mut bytes = Vec::new();
        for chunk in 0..usize::try_from(manifest.chunks).unwrap_or(0) {
            let chunk = chunks.remove(&chunk);
            bytes.extend_from_slice(&chunk.ok_or("a chunk of the basis is missing")?);
        }
        if sha256_hex(&bytes) != manifest.sha256 {
            return Err("the basis' bytes are not those that its manifest names".into());
        }
        let basis = Basis::from_bytes(&bytes).map_err(|e| e.to_string())?;
        if basis.version() != version || manifest.version as u64 != version.0 {
            return Err("the basis is of another version than its key says".into());
        }
        verify_golden(&basis, &manifest.golden)?;
        Ok(Announced::Basis(Box::new((basis, manifest))))
    }

    fn forget(&mut self, version: BasisVersion) -> HashMap<usize, Vec<u8>> {
        let chunks = self.chunks.remove(&version).unwrap_or_default();
        self.bytes -= chunks.values().map(Vec::len).sum::<usize>();
        chunks
    }
}

/// The records of a basis, keys and values: chunks first, the manifest last. `manifest` says what
/// is not in the bytes themselves.
///
/// # Errors
/// Where the manifest does not fit its schema: a fault of ours.
pub fn records(basis: &Basis, manifest: ModelManifest) -> Result<Vec<(String, Vec<u8>)>, String> {
    let bytes = basis.to_bytes();
    let version = basis.version();
    let mut records: Vec<_> = (0..)
        .zip(bytes.chunks(CHUNK_BYTES))
        .map(|(n, chunk)| (chunk_key(version, n), chunk.to_vec()))
        .collect();
    let manifest = ModelManifest {
        version: version.0 as i64,
        chunks: records.len() as i32,
        bytes: bytes.len() as i64,
        sha256: sha256_hex(&bytes),
        watermark: basis.watermark().millis(),
        items: basis.items().len() as i64,
        ..manifest
    };
    records.push((manifest_key(version), manifest.encode().map_err(|e| e.to_string())?));
    Ok(records)
}

/// The keys of a basis' records, the manifest's first: the order in which they are taken out.
pub fn keys(manifest: &ModelManifest) -> Vec<String> {
    let version = BasisVersion(manifest.version as u64);
    let chunks = (0..usize::try_from(manifest.chunks).unwrap_or(0)).map(|n| chunk_key(version, n));
    std::iter::once(manifest_key(version)).chain(chunks).collect()
}

fn manifest_key(version: BasisVersion) -> String {
    version.to_string()
}

fn chunk_key(version: BasisVersion, chunk: usize) -> String {
    format!("{version}/{chunk}")
}

fn parse_key(key: &[u8]) -> Option<(BasisVersion, Option<usize>)> {
    let text = std::str::from_utf8(key).ok()?;
    let (version, chunk) = match text.split_once('/') {
        Some((version, chunk)) => (version, Some(chunk.parse().ok()?)),
        None => (text, None),
    };
    Some((BasisVersion::parse(version)?, chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ItemId;
    use crate::model::ials::IalsConfig;
    use crate::model::{Dim, HistoryWeights, Hyperparameters, Position, Training, Vectors};
    use crate::time::EventTime;

    fn basis() -> Basis {
        let items = 3_000;
        let values = (0..items * 64).map(|n| ((n * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let training = Training {
            items: (0..items).map(|n| ItemId::new(format!("v{n}"))).collect(),
            counts: vec![1; items],
            vectors: Vectors::from_values(Dim::DEFAULT, values).unwrap(),
            hyperparameters: Hyperparameters::new(&IalsConfig::VIDEOS, HistoryWeights::VIDEOS),
            watermark: EventTime::from_millis(5),
        };
        Basis::seal(training, [[Position(0)]], 1).unwrap()
    }

    #[test]
    fn a_basis_is_put_together_from_its_records_and_retired_by_its_tombstone() {
        let basis = basis();
        let manifest = ModelManifest { offsets: vec![3, 4], ..ModelManifest::default() };
        let records = records(&basis, manifest).unwrap();
        assert_eq!(records.len(), 3);
        assert!(records.iter().all(|(_, value)| value.len() <= CHUNK_BYTES));
        let mut assembly = Assembly::default();
        let mut announced = Vec::new();
        for (key, value) in &records {
            announced.extend(assembly.take_value(key.as_bytes(), Some(value)).unwrap());
        }
        let [Announced::Basis(whole)] = &announced[..] else { panic!("one basis") };
        let (read, manifest) = &**whole;
        assert_eq!(read.to_bytes(), basis.to_bytes());
        assert_eq!((manifest.offsets.clone(), manifest.items), (vec![3, 4], 3_000));
        assert_eq!(assembly.bytes, 0);
        let names: Vec<String> = records.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys(manifest), [&names[2..], &names[..2]].concat());
        let retired = assembly.take_value(names[2].as_bytes(), None).unwrap();
        assert!(matches!(retired, Some(Announced::Retired(v)) if v == basis.version()));
    }

    #[test]
    fn what_is_missing_or_changed_is_refused_and_says_how() {
        let basis = basis();
        let records = records(&basis, ModelManifest::default()).unwrap();
        let (key, value) = &records[2];
        let mut assembly = Assembly::default();
        let refused = |assembly: &mut Assembly| {
            let refused = assembly.take_value(key.as_bytes(), Some(value)).err().unwrap();
            assert_eq!(refused.version, Some(basis.version()));
            refused.why
        };
        assert!(refused(&mut assembly).contains("missing"));
        for (chunk, bytes) in &records[..2] {
            let mut bytes = bytes.clone();
            bytes[200] ^= 1;
            drop(assembly.take_value(chunk.as_bytes(), Some(&bytes)));
        }
        assert!(refused(&mut assembly).contains("not those"));
        assert!(assembly.take_value(b"no version", Some(b"")).is_err());
    }
}

mod basics;
mod collecting;
mod crashes;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::ids::ItemId;
use crate::model::{Dim, HistoryWeights, Hyperparameters, Position, Training, Vectors};
use crate::objects::mortal::{Memory, mortal};
use crate::time::EventTime;

fn basis(n: u16) -> Basis {
    let vectors = Vectors::from_values(Dim::new(8).unwrap(), vec![0.5 + f32::from(n); 16]).unwrap();
    let history = HistoryWeights { newest: 5.0, ratio: 0.7, limit: 50 };
    let training = Training {
        items: vec![ItemId::from("a"), ItemId::from("b")],
        counts: vec![3, 5],
        vectors,
        hyperparameters: Hyperparameters { unobserved: 0.1, regularization: 0.01, history },
        watermark: EventTime::from_millis(1_000),
    };
    Basis::seal(training, [[Position(0)]], 1).unwrap()
}

fn files(basis: &Basis) -> Vec<(String, Bytes)> {
    let report = format!("# Report on {}\n", ModelVersion::from(basis.version()));
    vec![(BASIS.into(), basis.to_bytes().into()), ("report.md".into(), report.into())]
}

/// Of a version that may not serve.
fn unblessed(basis: &Basis) -> Manifest {
    let difference = Some([-0.01, 0.02, 0.05]);
    let metric = Metric { name: "ndcg@10".into(), candidate: 0.1, champion: None, difference };
    let refused = Blessing { granted: false, reasons: vec!["clicks fell".into()] };
    Manifest {
        feature_schema: "00000000000000aa".into(),
        dimension: 8,
        training: TrainingRun {
            settings: json!({ "b": 1, "a": [0.1, -0.0, 1e300] }),
            hyperparameters: json!({ "regularization": 0.003 }),
            users: 1,
            items: 2,
            interactions: 3,
            seconds: 0.1 + 0.2,
        },
        validation: Some(Validation { from_ms: 1, to_ms: 2, targets: 3, metrics: vec![metric] }),
        blessings: Blessings { validation: refused, loading: Blessing::default() },
        ..Manifest::draft(basis.version().into(), Origin::Train, 10)
    }
}

fn told(basis: &Basis) -> Manifest {
    let granted = Blessing { granted: true, reasons: vec![] };
    let blessings = Blessings { validation: granted.clone(), loading: granted };
    Manifest { blessings, ..unblessed(basis) }
}

/// Registers the version of this number.
fn register(registry: &Registry, n: u16) -> Manifest {
    let basis = basis(n);
    let draft = Manifest { created_at_ms: i64::from(n), ..told(&basis) };
    registry.register(draft, files(&basis)).unwrap()
}

fn change(expected_epoch: u64) -> AliasChange<'static> {
    AliasChange { expected_epoch, by: "ann", why: "it is better", force: None, at_ms: 4 }
}

fn in_memory(memory: &Memory) -> Registry {
    Registry::open(mortal(memory, i64::MAX, false))
}

fn registry() -> (Memory, Registry) {
    let memory = Memory::default();
    (Arc::clone(&memory), in_memory(&memory))
}

/// Every object.
fn dump(memory: &Memory) -> BTreeMap<String, Bytes> {
    let objects = mortal(memory, i64::MAX, false);
    let keys = objects.list("models").unwrap().into_iter().map(|object| object.key);
    keys.map(|key| (key.clone(), objects.get(&key).unwrap().unwrap())).collect()
}

fn restored(objects: &BTreeMap<String, Bytes>) -> (Memory, Registry) {
    let (memory, registry) = registry();
    objects.iter().for_each(|(key, bytes)| overwrite(&memory, key, bytes.clone()));
    (memory, registry)
}

fn overwrite(memory: &Memory, key: &str, bytes: impl Into<Bytes>) {
    let objects = mortal(memory, i64::MAX, false);
    objects.delete(key).unwrap();
    objects.create(key, bytes.into()).unwrap();
}

fn flip(bytes: &[u8], at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

//! `driftline state … --items`: the same questions of item shards.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::state::Scratch;
use super::{Failure, output};
use crate::config::Config;
use crate::embedding::ItemState;
use crate::model::vector::dot;
use crate::state::{Access, ItemStore, StoreResources};

/// An item shard's store, opened beside its worker.
pub struct Opened {
    partition: i32,
    store: ItemStore,
    /// RocksDB's notes of this reader; removed with it.
    _scratch: Scratch,
}

/// Opens every item shard in `worker.data_dir`.
pub fn open_all(config: &Config) -> Result<Vec<Opened>, Failure> {
    let folder = &config.worker.data_dir;
    let resources = StoreResources::new(32 << 20, 8 << 20);
    let partitions = super::state::partitions(folder, "item-")?;
    partitions.into_iter().map(|p| open(folder, p, &resources)).collect()
}

fn open(folder: &Path, partition: i32, resources: &StoreResources) -> Result<Opened, Failure> {
    let scratch = Scratch::make()?;
    let path = folder.join(format!("item-{partition}"));
    let access = Access::Reader { scratch: scratch.path() };
    let store = ItemStore::open(&path, resources, &access)?;
    Ok(Opened { partition, store, _scratch: scratch })
}

/// A digest by shard and over all.
pub fn digest(stores: &[Opened], as_json: bool) -> Result<(), Failure> {
    let mut all = Sha256::new();
    let mut items = 0;
    let mut shards = Vec::new();
    for opened in stores {
        let digest = opened.store.digest()?;
        all.update(&digest.sha256);
        items += digest.items;
        shards.push((opened.partition, digest));
    }
    let sha256: String = all.finalize().iter().map(|b| format!("{b:02x}")).collect();
    if as_json {
        let shards: Vec<Value> = shards
            .iter()
            .map(|(p, d)| json!({"shard": p, "items": d.items, "sha256": d.sha256}))
            .collect();
        println!("{}", json!({"items": items, "sha256": sha256, "shards": shards}));
        return Ok(());
    }
    let mut rows: Vec<Vec<String>> = shards
        .into_iter()
        .map(|(p, d)| vec![p.to_string(), d.items.to_string(), d.sha256])
        .collect();
    rows.push(vec!["all".into(), items.to_string(), sha256]);
    output::table(&["shard", "items", "sha256"], &rows);
    Ok(())
}

/// Items, bytes and progress by shard.
pub fn stats(stores: &[Opened], as_json: bool) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for opened in stores {
        let stats = opened.store.stats()?;
        let progress = opened.store.progress::<Value>()?.unwrap_or_default();
        if as_json {
            let shard = opened.partition;
            println!("{}", json!({"shard": shard, "stats": stats, "progress": progress}));
            continue;
        }
        let bases = progress["vectors"].as_object().map_or(0, serde_json::Map::len);
        rows.push(vec![
            opened.partition.to_string(),
            stats.estimated_keys.to_string(),
            output::bytes(stats.file_bytes),
            output::bytes(stats.memtable_bytes),
            progress["statistics"]["next"].to_string(),
            bases.to_string(),
        ]);
    }
    if !as_json {
        let names = ["shard", "items (est.)", "files", "memory", "next interaction", "bases"];
        output::table(&names, &rows);
    }
    Ok(())
}

/// One item.
pub fn get(stores: &[Opened], item: &str, as_json: bool) -> Result<ExitCode, Failure> {
    for opened in stores {
        if let Some(bytes) = opened.store.get(item)? {
            let state = item_json(item, &ItemState::decode(&bytes)?);
            if as_json {
                println!("{state}");
            } else {
                println!("item shard {}, {}", opened.partition, output::bytes(bytes.len() as u64));
                println!("{}", serde_json::to_string_pretty(&state)?);
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
    eprintln!("no item {item} in {} item shards", stores.len());
    Ok(ExitCode::FAILURE)
}

/// Every item, one JSON object a line.
pub fn dump(stores: &[Opened]) -> Result<(), Failure> {
    for opened in stores {
        opened.store.for_each(|item, bytes| match ItemState::decode(bytes) {
            Ok(state) => println!("{}", item_json(item, &state)),
            Err(error) => tracing::error!(item, %error, "skipped"),
        })?;
    }
    Ok(())
}

fn item_json(item: &str, state: &ItemState) -> Value {
    let features = state.features();
    let decayed = features.decayed.iter().map(|d| {
        json!({
            "half_life_ms": d.half_life_ms,
            "watches": d.watches,
            "long_views": d.long_views,
            "clicks": d.clicks,
        })
    });
    let co_watched = features.co_watched.iter();
    let vectors = state.vectors().map(|(version, vector)| {
        json!({
            "basis": format!("{:016x}", version.0),
            "updates": vector.updates(),
            "newest": vector.newest().map(|at| at.millis()),
            "norm": dot(vector.live(), vector.live()).sqrt(),
        })
    });
    json!({
        "item": item,
        "newest": state.newest().map(|at| at.millis()),
        "watches": features.totals.watches,
        "long_views": features.totals.long_views,
        "clicks": features.totals.clicks,
        "long_view_rate": features.long_view_rate(),
        "click_rate": features.click_rate(),
        "decayed": decayed.collect::<Vec<_>>(),
        "co_watched": co_watched
            .map(|(hash, weight)| json!({"item_hash": format!("{hash:016x}"), "weight": weight}))
            .collect::<Vec<_>>(),
        "vectors": vectors.collect::<Vec<_>>(),
    })
}

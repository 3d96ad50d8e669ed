//! Versions of the model and who named them what: looked at in the object store, now and then.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Live;
use crate::config::Config;
use crate::objects::Objects;
use crate::registry::{Aliases, Manifest, ModelVersion, Registry};
use crate::runtime::Stop;

/// Versions that are shown, the newest.
const VERSIONS: usize = 30;
/// Changes of the aliases that are shown, the newest.
const CHANGES: usize = 12;

/// Looks until it is told to stop.
pub fn run(config: &Config, live: &Live, stop: &Stop) {
    let every = Duration::from_secs(config.gateway.registry_seconds);
    while !stop.is_requested() {
        let told = match look(config) {
            Ok(told) => told,
            Err(error) => json!({"error": error}),
        };
        live.set("models", &told);
        stop.sleep(every);
    }
}

fn look(config: &Config) -> Result<Value, String> {
    let objects = Objects::open(&config.objects.settings()).map_err(|e| e.to_string())?;
    let registry = Registry::open(Arc::new(objects));
    let aliases = registry.aliases().map_err(|e| e.to_string())?;
    let all = registry.scan().map_err(|e| e.to_string())?;
    let count = all.len();
    let mut versions = Vec::new();
    for (version, manifest) in all.into_iter().take(VERSIONS) {
        let quarantined = registry.quarantined(version).map_err(|e| e.to_string())?.is_some();
        versions.push(match manifest {
            Ok(manifest) => told(&manifest, &aliases, quarantined),
            Err(error) => {
                json!({"version": version, "roles": roles(version, &aliases, quarantined),
                    "error": error.to_string()})
            }
        });
    }
    let history = registry.newest_aliases(CHANGES).map_err(|e| e.to_string())?;
    let changes: Vec<Value> = history
        .into_iter()
        .map(|a| {
            json!({"epoch": a.epoch, "at": a.at_ms, "champion": a.champion, "by": a.by,
                "why": a.why, "forced": a.forced})
        })
        .collect();
    Ok(json!({"count": count, "versions": versions, "changes": changes}))
}

fn roles(version: ModelVersion, aliases: &Aliases, quarantined: bool) -> Vec<&'static str> {
    let named = aliases.named().filter(|(_, named)| *named == version).map(|(name, _)| name);
    named.chain(quarantined.then_some("quarantined")).collect()
}

fn told(manifest: &Manifest, aliases: &Aliases, quarantined: bool) -> Value {
    let missing = manifest.blessings.missing();
    let metrics = manifest.validation.as_ref().map(|validation| &validation.metrics);
    json!({
        "version": manifest.version,
        "roles": roles(manifest.version, aliases, quarantined),
        "made": manifest.created_at_ms,
        "by": manifest.by.name(),
        "parent": manifest.parent,
        "items": manifest.training.items,
        "interactions": manifest.training.interactions,
        "bytes": manifest.bytes(),
        "blessed": missing.is_empty(),
        "missing": missing,
        "trigger": manifest.lineage.trigger,
        "snapshot": manifest.lineage.snapshot,
        "watermark": manifest.lineage.watermark_ms,
        "metrics": metrics,
    })
}

//! Who relies on a version that may be about to be deleted.
//!
//! Whoever registers a version, or gives one an alias, first writes a claim on it, and then looks at
//! what collectors have written down. A collector first writes down what it will delete, and then
//! looks at claims. Whichever of the two is second sees the other.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{CLAIMS, ModelVersion, PLANS, Registry, RegistryError};
use crate::time::{DAY_MS, HOUR_MS};

/// Milliseconds after which a claim or a plan is of somebody who died. Shorter: one that was only
/// asleep goes on, and nobody sees it. Longer: what a dead collector was about to delete cannot
/// be registered again for so long.
pub(super) const LOST_MS: i64 = DAY_MS;

/// How long somebody may rely on a claim, by a clock that only runs forward. Well below [`LOST_MS`],
/// since the object store's clock and ours differ, and one that sleeps does not see time pass.
const HOLDS: Duration = Duration::from_secs((DAY_MS / 2 / 1_000) as u64);

/// What a collector will delete.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) versions: Vec<ModelVersion>,
}

/// Versions that stay while it is there.
pub(super) struct Claim {
    versions: Vec<ModelVersion>,
    keys: Vec<String>,
    since: Instant,
}

impl Claim {
    /// To be asked right before what the claim is for is written.
    pub(super) fn still_holds(&self) -> Result<(), RegistryError> {
        if self.since.elapsed() < HOLDS {
            return Ok(());
        }
        let version = self.versions.first().copied().unwrap_or(ModelVersion(0));
        Err(RegistryError::TooSlow { version, hours: HOLDS.as_secs() * 1_000 / HOUR_MS as u64 })
    }
}

impl Registry {
    /// Does `work` while nothing of `versions` can be collected.
    pub(super) fn claiming<T>(
        &self,
        versions: &[ModelVersion],
        work: impl FnOnce(&Claim) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let name = uuid::Uuid::new_v4();
        let keys = versions.iter().map(|version| format!("{CLAIMS}/{version}/{name}.json"));
        let keys = keys.collect();
        let claim = Claim { versions: versions.to_vec(), keys, since: Instant::now() };
        let done = self.take(&claim).and_then(|()| work(&claim));
        for key in &claim.keys {
            // What was done is done. The claim only keeps a version for a day longer than needed.
            if let Err(error) = self.objects.delete(key) {
                tracing::warn!(%error, "a claim of a model's version stays until it is a day old");
            }
        }
        done
    }

    fn take(&self, claim: &Claim) -> Result<(), RegistryError> {
        let note = Bytes::from_static(b"{}\n");
        let writes = claim.keys.iter().map(|key| (key.as_str(), note.clone()));
        self.objects.create_all(writes.collect())?;
        for (plan, versions) in self.plans()? {
            if let Some(version) = claim.versions.iter().find(|v| versions.contains(v)) {
                return Err(RegistryError::Collecting { version: *version, plan });
            }
        }
        Ok(())
    }

    /// What collectors are about to delete, by key.
    fn plans(&self) -> Result<Vec<(String, Vec<ModelVersion>)>, RegistryError> {
        let keys: Vec<_> = self.objects.list(PLANS)?.into_iter().map(|plan| plan.key).collect();
        let read = self.objects.get_all(&keys)?;
        // A collector may have ended meanwhile.
        let there = keys.into_iter().zip(read).filter_map(|(key, bytes)| Some((key, bytes?)));
        there
            .map(|(key, bytes)| {
                let plan: Plan = serde_json::from_slice(&bytes)
                    .map_err(|error| RegistryError::damaged(&key, error))?;
                Ok((key, plan.versions))
            })
            .collect()
    }
}

/// The version that a claim is on, by the claim's key.
pub(super) fn claimed(key: &str) -> Option<ModelVersion> {
    key.strip_prefix(CLAIMS)?.strip_prefix('/')?.split('/').next()?.parse().ok()
}

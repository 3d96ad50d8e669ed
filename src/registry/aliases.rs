//! Which version serves: a sequence of states, each whole and made once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{self, FORMAT};
use super::{ALIASES, Manifest, ModelVersion, QUARANTINE, Registry, RegistryError};
use crate::objects::Created;

/// Which versions serve, and who said so. Epoch 0, where nobody has said anything yet, names none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aliases {
    /// Version of this format.
    pub format: u32,
    /// How many changes there were: each makes it one more.
    pub epoch: u64,
    /// The version that serves.
    #[serde(default)]
    pub champion: Option<ModelVersion>,
    /// The version that is tried beside it.
    #[serde(default)]
    pub challenger: Option<ModelVersion>,
    /// The champion before: what a rollback goes back to.
    #[serde(default)]
    pub previous_champion: Option<ModelVersion>,
    /// Who changed it.
    pub by: String,
    /// Why.
    pub why: String,
    /// Why it was done though a blessing was missing; none where none was.
    #[serde(default)]
    pub forced: Option<String>,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// Tells a change that was made and not answered from one that somebody else made.
    pub change: String,
}

impl Default for Aliases {
    fn default() -> Self {
        Self {
            format: FORMAT,
            epoch: 0,
            champion: None,
            challenger: None,
            previous_champion: None,
            by: String::new(),
            why: String::new(),
            forced: None,
            at_ms: 0,
            change: String::new(),
        }
    }
}

impl Aliases {
    /// Every version that it names, and as what.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, ModelVersion)> {
        let all = [
            ("champion", self.champion),
            ("challenger", self.challenger),
            ("previous", self.previous_champion),
        ];
        all.into_iter().filter_map(|(name, version)| Some((name, version?)))
    }
}

/// Who changes aliases, why, and on the ground of what.
#[derive(Clone, Copy, Debug)]
pub struct AliasChange<'a> {
    /// The epoch that the decision was made on: where it is no longer the newest, nothing changes.
    pub expected_epoch: u64,
    /// Who.
    pub by: &'a str,
    /// Why.
    pub why: &'a str,
    /// Why it shall be done though a blessing is missing.
    pub force: Option<&'a str>,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
}

/// Why a version must not serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Version of this format.
    pub format: u32,
    /// The version.
    pub version: ModelVersion,
    /// Why.
    pub why: String,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
}

impl Registry {
    /// Which versions serve now.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`], [`RegistryError::Format`].
    pub fn aliases(&self) -> Result<Aliases, RegistryError> {
        match self.epochs()?.last() {
            Some(epoch) => self.aliases_of(*epoch),
            None => Ok(Aliases::default()),
        }
    }

    /// Every state that the aliases were in, the newest first.
    ///
    /// # Errors
    /// As [`aliases`](Self::aliases).
    pub fn history(&self) -> Result<Vec<Aliases>, RegistryError> {
        self.newest_aliases(usize::MAX)
    }

    /// The newest `count` states, the newest first.
    ///
    /// # Errors
    /// As [`aliases`](Self::aliases).
    pub fn newest_aliases(&self, count: usize) -> Result<Vec<Aliases>, RegistryError> {
        let epochs: Vec<u64> = self.epochs()?.into_iter().rev().take(count).collect();
        let keys: Vec<String> = epochs.iter().map(|epoch| alias_key(*epoch)).collect();
        let read = self.objects.get_all(&keys)?;
        epochs.into_iter().zip(read).map(|(epoch, bytes)| opened(epoch, bytes.as_deref())).collect()
    }

    fn aliases_of(&self, epoch: u64) -> Result<Aliases, RegistryError> {
        opened(epoch, self.objects.get(&alias_key(epoch))?.as_deref())
    }

    /// Epochs that there are, in their order.
    fn epochs(&self) -> Result<Vec<u64>, RegistryError> {
        let all = self.objects.list(ALIASES)?;
        let mut epochs: Vec<u64> = all.iter().filter_map(|o| epoch_of(&o.key)).collect();
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// Lets a version serve. Its files are read and verified first. The one before becomes the previous
    /// champion; where it is the champion already, nothing changes.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] where somebody else changed the aliases meanwhile,
    /// [`RegistryError::NotBlessed`] unless forced, [`RegistryError::Quarantined`],
    /// [`RegistryError::Damaged`].
    pub fn set_champion(
        &self,
        version: ModelVersion,
        change: &AliasChange<'_>,
    ) -> Result<Aliases, RegistryError> {
        self.change(Some(version), change, |now| Aliases {
            champion: Some(version),
            challenger: now.challenger.filter(|challenger| *challenger != version),
            previous_champion: match now.champion {
                Some(champion) if champion != version => Some(champion),
                _ => now.previous_champion,
            },
            ..now
        })
    }

    /// Lets a version be tried beside the champion, or none. Otherwise as
    /// [`set_champion`](Self::set_champion).
    ///
    /// # Errors
    /// As [`set_champion`](Self::set_champion).
    pub fn set_challenger(
        &self,
        version: Option<ModelVersion>,
        change: &AliasChange<'_>,
    ) -> Result<Aliases, RegistryError> {
        self.change(version, change, |now| Aliases { challenger: version, ..now })
    }

    fn change(
        &self,
        version: Option<ModelVersion>,
        change: &AliasChange<'_>,
        apply: impl FnOnce(Aliases) -> Aliases,
    ) -> Result<Aliases, RegistryError> {
        let AliasChange { expected_epoch, by, why, force, at_ms } = *change;
        for (what, said) in [("by", Some(by)), ("why", Some(why)), ("force", force)] {
            if said.is_some_and(|said| said.trim().is_empty()) {
                return Err(RegistryError::Unsaid(what));
            }
        }
        let claimed: Vec<ModelVersion> = version.into_iter().collect();
        self.claiming(&claimed, |claim| {
            let now = self.aliases()?;
            if now.epoch != expected_epoch {
                return Err(RegistryError::Conflict { expected: expected_epoch, found: now.epoch });
            }
            let manifest = version.map(|version| self.get(version)).transpose()?;
            let forced = match &manifest {
                Some(manifest) => self.may_serve(manifest, force)?,
                None => None,
            };
            let next = apply(now.clone());
            if next == now {
                return Ok(now);
            }
            let next = Aliases {
                epoch: now.epoch + 1,
                by: by.to_owned(),
                why: why.to_owned(),
                forced,
                at_ms,
                change: uuid::Uuid::new_v4().to_string(),
                ..next
            };
            claim.still_holds()?;
            self.append(next)
        })
    }

    fn append(&self, next: Aliases) -> Result<Aliases, RegistryError> {
        let key = alias_key(next.epoch);
        let sealed = record::seal(&next).map_err(|e| RegistryError::damaged(&key, e))?;
        if self.objects.create(&key, sealed)? == Created::Exists {
            // Ours, where only the answer was lost and the request was sent again.
            if self.aliases_of(next.epoch)? != next {
                let found = self.epochs()?.last().copied().unwrap_or(next.epoch);
                return Err(RegistryError::Conflict { expected: next.epoch - 1, found });
            }
        }
        Ok(next)
    }

    /// Whether a version may serve; why it does nevertheless, where a blessing is missing. Its files are
    /// read and verified.
    ///
    /// # Errors
    /// [`RegistryError::NotBlessed`] unless forced, [`RegistryError::Quarantined`],
    /// [`RegistryError::Damaged`].
    pub fn may_serve(
        &self,
        manifest: &Manifest,
        force: Option<&str>,
    ) -> Result<Option<String>, RegistryError> {
        let version = manifest.version;
        if let Some(Quarantine { why, .. }) = self.quarantined(version)? {
            return Err(RegistryError::Quarantined { version, why });
        }
        let missing = manifest.blessings.missing();
        let forced = match force {
            _ if missing.is_empty() => None,
            Some(reason) => Some(reason.to_owned()),
            None => return Err(RegistryError::NotBlessed { version, missing }),
        };
        self.verify(manifest)?;
        Ok(forced)
    }

    /// Bars a version from serving from now on; aliases that name it stay as they are. One that is
    /// barred stays so for its first reason, which is returned.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::Unsaid`].
    pub fn quarantine(
        &self,
        version: ModelVersion,
        why: &str,
        at_ms: i64,
    ) -> Result<Quarantine, RegistryError> {
        if why.trim().is_empty() {
            return Err(RegistryError::Unsaid("why"));
        }
        // Its manifest may be what is damaged, so that it is enough that there is one.
        if !self.names()?.contains(&version) {
            return Err(self.missing(version)?);
        }
        let quarantine = Quarantine { format: FORMAT, version, why: why.to_owned(), at_ms };
        let key = quarantine_key(version);
        let sealed = record::seal(&quarantine).map_err(|e| RegistryError::damaged(&key, e))?;
        if self.objects.create(&key, sealed)? == Created::New {
            return Ok(quarantine);
        }
        self.quarantined(version)?.ok_or_else(|| RegistryError::damaged(&key, "it is gone"))
    }

    /// Why a version must not serve; none where it may.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`], [`RegistryError::Format`]: then nobody knows, and it must not.
    pub fn quarantined(&self, version: ModelVersion) -> Result<Option<Quarantine>, RegistryError> {
        let key = quarantine_key(version);
        let bytes = self.objects.get(&key)?;
        bytes.map(|bytes| record::open(&key, &bytes)).transpose()
    }

    /// All versions that must not serve.
    ///
    /// # Errors
    /// As [`quarantined`](Self::quarantined).
    pub fn quarantines(&self) -> Result<BTreeMap<ModelVersion, Quarantine>, RegistryError> {
        let keys: Vec<_> = self.objects.list(QUARANTINE)?.into_iter().map(|o| o.key).collect();
        let read = self.objects.get_all(&keys)?;
        let there = keys.into_iter().zip(read).filter_map(|(key, bytes)| Some((key, bytes?)));
        there
            .map(|(key, bytes)| {
                let quarantine: Quarantine = record::open(&key, &bytes)?;
                Ok((quarantine.version, quarantine))
            })
            .collect()
    }
}

fn opened(epoch: u64, bytes: Option<&[u8]>) -> Result<Aliases, RegistryError> {
    let key = alias_key(epoch);
    let bytes = bytes.ok_or_else(|| RegistryError::damaged(&key, "it is gone"))?;
    let aliases: Aliases = record::open(&key, bytes)?;
    if aliases.epoch != epoch {
        let what = format!("it is of epoch {}: it was put here by hand", aliases.epoch);
        return Err(RegistryError::damaged(&key, what));
    }
    Ok(aliases)
}

fn alias_key(epoch: u64) -> String {
    format!("{ALIASES}/{epoch:010}.json")
}

fn epoch_of(key: &str) -> Option<u64> {
    let name = key.strip_prefix(ALIASES)?.strip_prefix('/')?.strip_suffix(".json")?;
    name.parse().ok().filter(|_| name.len() == 10)
}

fn quarantine_key(version: ModelVersion) -> String {
    format!("{QUARANTINE}/{version}.json")
}

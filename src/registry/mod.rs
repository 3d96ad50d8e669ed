//! Versions of the model in the object store: each is files and a manifest, never changed again;
//! aliases say which of them serves.
//!
//! Enters: a trained or imported version with all that is known of it. Leaves: the same bytes,
//! verified, on any machine; which version is the champion; what a version was made from.
//!
//! | key below `models/` | what |
//! |---|---|
//! | `versions/VERSION/FILE` | a file of a version |
//! | `versions/VERSION/manifest.json` | written last: without it there is no version |
//! | `aliases/NUMBER.json` | the aliases after so many changes, whole; the largest number counts |
//! | `quarantine/VERSION.json` | a version that must not serve, and why |
//! | `collected/VERSION.json` | the manifest of a version whose files are deleted |
//! | `claims/VERSION/…`, `plans/…` | who relies on a version, and who is about to delete some |
//!
//! Every object is made only where there is none, so of two writers one wins and the other learns it
//! (`docs/adr/0023-the-model-registry.md`). Looks at no clock: callers say what time it is.

mod aliases;
mod claims;
mod collection;
mod export;
mod manifest;
mod record;
mod served;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub use aliases::{AliasChange, Aliases, Quarantine};
pub use collection::{Collected, Fate, Found, KeepRules, Kept};
pub use manifest::{
    Blessing, Blessings, LakeFile, Lineage, Manifest, Metric, ModelFile, ModelVersion, NoVersion,
    OffsetRange, Origin, TopicLineage, TrainingRun, Validation,
};
pub use record::FORMAT;
pub use served::Served;

use crate::lake::LakeError;
use crate::model::{Basis, ModelError};
use crate::objects::{Created, ObjectError, Objects, sha256_hex};

const VERSIONS: &str = "models/versions";
const ALIASES: &str = "models/aliases";
const QUARANTINE: &str = "models/quarantine";
const COLLECTED: &str = "models/collected";
const CLAIMS: &str = "models/claims";
const PLANS: &str = "models/plans";

/// The file of every version that holds its basis, by whose bytes it is named.
pub const BASIS: &str = "basis.bin";

/// The name of what is written last.
const MANIFEST: &str = "manifest.json";

/// Why a version or an alias was not made, found or taken.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The object store: it says whether trying again may help.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The lake, where it is asked.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A folder that a version was to be written into.
    #[error("{folder}: {what}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What is there is not what was written.
    #[error("{key} is damaged: {what}; restore it, or delete it and register the version again")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// Written by another version of this program.
    #[error("{key} is of format {found}, and this driftline reads {FORMAT}: use a newer one")]
    Format {
        /// The object.
        key: String,
        /// Its format.
        found: String,
    },
    /// There is none of this name.
    #[error("there is no version {wanted}{}; `driftline models list` shows those there are", match collected {
        true => ": its files were collected",
        false => "",
    })]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// Whether there was one, whose files are deleted.
        collected: bool,
    },
    /// A file that a version has not.
    #[error("version {version} has no file {name:?}; it has {}", files.join(", "))]
    NoFile {
        /// The version.
        version: ModelVersion,
        /// What was asked for.
        name: String,
        /// What there is.
        files: Vec<String>,
    },
    /// More than one begins so.
    #[error("{prefix:?} begins {}: give more digits", join(versions))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// What begins so.
        versions: Vec<ModelVersion>,
    },
    /// What was to be registered makes no sense.
    #[error("version {version} cannot be registered: {what}")]
    Invalid {
        /// The version.
        version: ModelVersion,
        /// What is wrong.
        what: String,
    },
    /// There is another one of the same name.
    #[error(
        "version {version} is there with another {what}, or half of it is, by a registration that \
         is under way or died: versions never change. What died is cleared by `driftline models gc` \
         after registry.grace_hours"
    )]
    Differs {
        /// The version.
        version: ModelVersion,
        /// What differs.
        what: String,
    },
    /// Somebody else was faster.
    #[error("the aliases are at epoch {found} and not {expected}: look again, and decide anew")]
    Conflict {
        /// What the caller had seen.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// About to be deleted.
    #[error(
        "version {version} is being collected ({plan}): try again when `driftline models gc` has \
         ended; one that died is forgotten by the next after a day"
    )]
    Collecting {
        /// The version.
        version: ModelVersion,
        /// What says so.
        plan: String,
    },
    /// It took so long that others may no longer wait for it.
    #[error("version {version}: writing it took longer than {hours} hours: register it again")]
    TooSlow {
        /// The version.
        version: ModelVersion,
        /// How long it may take.
        hours: u64,
    },
    /// It must not serve.
    #[error("version {version} is in quarantine: {why}")]
    Quarantined {
        /// The version.
        version: ModelVersion,
        /// Why it is there.
        why: String,
    },
    /// It may not serve.
    #[error("version {version} is not blessed: {}; it serves only if forced, with a reason", missing.join("; "))]
    NotBlessed {
        /// The version.
        version: ModelVersion,
        /// What is missing, and why.
        missing: Vec<String>,
    },
    /// A change that does not say who and why.
    #[error("{0} is empty: whoever looks at the history must see who changed an alias, and why")]
    Unsaid(&'static str),
}

fn join(versions: &[ModelVersion]) -> String {
    versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl RegistryError {
    /// Whether trying the same again may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Object(error) => error.may_pass(),
            Self::Lake(error) => error.may_pass(),
            Self::Collecting { .. } => true,
            _ => false,
        }
    }

    fn damaged(key: &str, what: impl ToString) -> Self {
        Self::Damaged { key: key.to_owned(), what: what.to_string() }
    }

    fn not_found(wanted: impl ToString) -> Self {
        Self::NotFound { wanted: wanted.to_string(), collected: false }
    }
}

/// The registry in an object store. Blocking.
#[derive(Clone)]
pub struct Registry {
    objects: Arc<Objects>,
}

impl Registry {
    /// The registry in this store; nothing is asked yet.
    pub fn open(objects: Arc<Objects>) -> Self {
        Self { objects }
    }

    /// Writes a version: its files, and its manifest last. `draft` says all that is known of it but
    /// the files; returns it with them. One of them is [`BASIS`], by whose bytes the version is named.
    /// Done again with the same files it changes nothing, whatever else the draft says, and
    /// returns what is there; so one that died half-way is registered again.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] where the draft does not fit its files, [`RegistryError::Differs`]
    /// where there is one of other files, [`RegistryError::Collecting`] where it is just being deleted.
    pub fn register(
        &self,
        draft: Manifest,
        files: Vec<(String, Bytes)>,
    ) -> Result<Manifest, RegistryError> {
        let version = draft.version;
        let (manifest, files) = completed(draft, files)?;
        let invalid = |what: String| RegistryError::Invalid { version, what };
        let sealed = record::seal(&manifest).map_err(|e| invalid(e.to_string()))?;
        // JSON has no numbers that are not finite: they would be written as nulls.
        let read: Result<Manifest, _> = record::open("the manifest", &sealed);
        read.map_err(|e| invalid(format!("a number in its manifest may not be finite: {e}")))?;
        let relied: Vec<_> = [Some(version), manifest.parent].into_iter().flatten().collect();
        self.claiming(&relied, |claim| {
            // One after the other, by name: of two with other files the first that differs decides, and
            // one of them gets through.
            for (name, bytes) in files {
                let key = file_key(version, &name);
                let sha256 = &manifest.files[&name].sha256;
                if self.objects.create(&key, bytes)? == Created::Exists
                    && self.objects.get(&key)?.is_none_or(|there| sha256_hex(&there) != *sha256)
                {
                    return Err(RegistryError::Differs { version, what: name });
                }
            }
            claim.still_holds()?;
            if self.objects.create(&manifest_key(version), sealed)? == Created::New {
                return Ok(manifest);
            }
            let there = self.get(version)?;
            if there.files != manifest.files {
                return Err(RegistryError::Differs { version, what: "set of files".into() });
            }
            Ok(there)
        })
    }

    /// All versions, the newest first.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`] and [`RegistryError::Format`] of any; [`scan`](Self::scan) shows the
    /// others.
    pub fn versions(&self) -> Result<Vec<Manifest>, RegistryError> {
        self.scan()?.into_iter().map(|(_, manifest)| manifest).collect()
    }

    /// All versions, the newest first, those that cannot be read at the end with the reason.
    ///
    /// # Errors
    /// [`RegistryError::Object`].
    #[allow(clippy::type_complexity)]
    pub fn scan(
        &self,
    ) -> Result<Vec<(ModelVersion, Result<Manifest, RegistryError>)>, RegistryError> {
        let versions: Vec<ModelVersion> = self.names()?.into_iter().collect();
        let keys: Vec<String> = versions.iter().map(|version| manifest_key(*version)).collect();
        let read = self.objects.get_all(&keys)?;
        // One that was collected meanwhile is none.
        let there = versions.into_iter().zip(read).filter_map(|(v, bytes)| Some((v, bytes?)));
        let mut all: Vec<_> = there.map(|(v, bytes)| (v, opened(v, &bytes))).collect();
        let newest = |manifest: &Result<Manifest, RegistryError>| {
            manifest.as_ref().map_or(i64::MIN, |manifest| manifest.created_at_ms)
        };
        all.sort_by_key(|(version, manifest)| (std::cmp::Reverse(newest(manifest)), *version));
        Ok(all)
    }

    /// Names of all versions.
    fn names(&self) -> Result<BTreeSet<ModelVersion>, RegistryError> {
        let keys = self.objects.list(VERSIONS)?;
        let named = |key: &str| {
            let (version, file) = version_and_file(key)?;
            (file == MANIFEST).then_some(version)
        };
        Ok(keys.iter().filter_map(|object| named(&object.key)).collect())
    }

    /// The version that a text names: its digits, as many of the first of them as no other begins
    /// with, or `champion`, `challenger`, `previous`.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::Ambiguous`].
    pub fn resolve(&self, text: &str) -> Result<ModelVersion, RegistryError> {
        if matches!(text, "champion" | "challenger" | "previous") {
            let Aliases { champion, challenger, previous_champion, .. } = self.aliases()?;
            let found = match text {
                "champion" => champion,
                "challenger" => challenger,
                _ => previous_champion,
            };
            return found.ok_or_else(|| RegistryError::not_found(format!("called {text}")));
        }
        let all = self.names()?;
        let begins = |version: &&ModelVersion| version.to_string().starts_with(text);
        let found: Vec<ModelVersion> = all.iter().filter(begins).copied().collect();
        match found.as_slice() {
            [version] => Ok(*version),
            [] => Err(match text.parse() {
                Ok(version) => self.missing(version)?,
                Err(_) => RegistryError::not_found(format!("that begins with {text:?}")),
            }),
            _ => Err(RegistryError::Ambiguous { prefix: text.to_owned(), versions: found }),
        }
    }

    /// The manifest of the version that a text names, as [`resolve`](Self::resolve) reads it.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve) and [`get`](Self::get).
    pub fn manifest(&self, text: &str) -> Result<Manifest, RegistryError> {
        self.get(self.resolve(text)?)
    }

    /// The manifest of a version.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::Damaged`], [`RegistryError::Format`].
    pub fn get(&self, version: ModelVersion) -> Result<Manifest, RegistryError> {
        match self.objects.get(&manifest_key(version))? {
            Some(bytes) => opened(version, &bytes),
            None => Err(self.missing(version)?),
        }
    }

    /// The manifest of a version whose files were collected: what it was made from outlives it.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`], [`RegistryError::Format`].
    pub fn collected(&self, version: ModelVersion) -> Result<Option<Manifest>, RegistryError> {
        let key = collected_key(version);
        let bytes = self.objects.get(&key)?;
        bytes.map(|bytes| opened_at(&key, version, &bytes)).transpose()
    }

    fn missing(&self, version: ModelVersion) -> Result<RegistryError, RegistryError> {
        let collected = self.objects.get(&collected_key(version))?.is_some();
        Ok(RegistryError::NotFound { wanted: version.to_string(), collected })
    }

    /// The bytes of a file of a version, if they are those that were registered.
    ///
    /// # Errors
    /// [`RegistryError::NoFile`]; [`RegistryError::Damaged`] where size or SHA-256 are others.
    pub fn file(&self, manifest: &Manifest, name: &str) -> Result<Bytes, RegistryError> {
        let version = manifest.version;
        let Some(file) = manifest.files.get(name) else {
            let files = manifest.files.keys().cloned().collect();
            return Err(RegistryError::NoFile { version, name: name.to_owned(), files });
        };
        let key = file_key(version, name);
        let bytes = self.objects.get(&key)?;
        let bytes = bytes.ok_or_else(|| RegistryError::damaged(&key, "it is gone"))?;
        if bytes.len() as u64 != file.bytes {
            let what = format!("{} bytes where {} were registered", bytes.len(), file.bytes);
            return Err(RegistryError::damaged(&key, what));
        }
        if sha256_hex(&bytes) != file.sha256 {
            return Err(RegistryError::damaged(&key, "its SHA-256 is another"));
        }
        Ok(bytes)
    }

    /// Reads every file of a version.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn verify(&self, manifest: &Manifest) -> Result<(), RegistryError> {
        manifest.files.keys().try_for_each(|name| self.file(manifest, name).map(drop))
    }
}

/// A draft with its files, if they fit together; the files by name.
fn completed(
    draft: Manifest,
    files: Vec<(String, Bytes)>,
) -> Result<(Manifest, BTreeMap<String, Bytes>), RegistryError> {
    let version = draft.version;
    let invalid = |what: String| RegistryError::Invalid { version, what };
    let mut by_name = BTreeMap::new();
    for (name, bytes) in files {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.starts_with('.') || name == MANIFEST || !name.chars().all(plain)
        {
            let what = format!("{name:?} is no name of a file: use letters, digits and . - _");
            return Err(invalid(what));
        }
        if by_name.insert(name.clone(), bytes).is_some() {
            return Err(invalid(format!("{name} is given twice")));
        }
    }
    let bytes = by_name.get(BASIS).ok_or_else(|| invalid(format!("it has no file {BASIS}")))?;
    let basis = Basis::from_bytes(bytes);
    let basis = basis.map_err(|e: ModelError| invalid(format!("{BASIS}: {e}")))?;
    if ModelVersion::from(basis.version()) != version {
        let found = ModelVersion::from(basis.version());
        return Err(invalid(format!("{BASIS} is {found}: a version is named by its basis")));
    }
    if basis.dim().get() != draft.dimension {
        let (told, found) = (draft.dimension, basis.dim().get());
        return Err(invalid(format!("it tells of {told} dimensions, and {BASIS} has {found}")));
    }
    let described = by_name.iter().map(|(name, bytes)| {
        let file = ModelFile { sha256: sha256_hex(bytes), bytes: bytes.len() as u64 };
        (name.clone(), file)
    });
    let files = described.collect();
    Ok((Manifest { format: FORMAT, files, ..draft }, by_name))
}

fn opened(version: ModelVersion, bytes: &[u8]) -> Result<Manifest, RegistryError> {
    opened_at(&manifest_key(version), version, bytes)
}

fn opened_at(key: &str, version: ModelVersion, bytes: &[u8]) -> Result<Manifest, RegistryError> {
    let manifest: Manifest = record::open(key, bytes)?;
    if manifest.version != version {
        let what = format!("it is of version {}: it was put here by hand", manifest.version);
        return Err(RegistryError::damaged(key, what));
    }
    Ok(manifest)
}

fn version_folder(version: ModelVersion) -> String {
    format!("{VERSIONS}/{version}")
}

fn file_key(version: ModelVersion, name: &str) -> String {
    format!("{}/{name}", version_folder(version))
}

fn manifest_key(version: ModelVersion) -> String {
    file_key(version, MANIFEST)
}

fn collected_key(version: ModelVersion) -> String {
    format!("{COLLECTED}/{version}.json")
}

/// What a key below [`VERSIONS`] is of.
fn version_and_file(key: &str) -> Option<(ModelVersion, &str)> {
    let (version, file) = key.strip_prefix(VERSIONS)?.strip_prefix('/')?.split_once('/')?;
    Some((version.parse().ok()?, file))
}

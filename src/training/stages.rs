//! What a run has finished, in files of its own: a run that is killed goes on from there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TrainingError;
use crate::objects::sha256_hex;

/// Finished stages of one run.
pub(super) struct Stages {
    folder: PathBuf,
}

impl Stages {
    /// Those of the run of this identity: all that its result follows from.
    pub fn open(work_dir: &Path, identity: &str) -> Result<Self, TrainingError> {
        let folder = work_dir.join(&sha256_hex(identity.as_bytes())[..16]);
        let stages = Self { folder };
        fs::create_dir_all(&stages.folder)
            .map_err(|error| stages.failed(&stages.folder, error.to_string()))?;
        Ok(stages)
    }

    /// What a stage left; none where it is not finished, or what it left cannot be read any more.
    pub fn load<T: DeserializeOwned>(&self, stage: &str) -> Result<Option<T>, TrainingError> {
        let bytes = self.load_bytes(stage)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The same, as bytes.
    pub fn load_bytes(&self, stage: &str) -> Result<Option<Vec<u8>>, TrainingError> {
        let path = self.folder.join(stage);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&path, error.to_string())),
        }
    }

    /// Keeps what a stage made.
    pub fn save<T: Serialize>(&self, stage: &str, made: &T) -> Result<(), TrainingError> {
        let path = self.folder.join(stage);
        let bytes = serde_json::to_vec(made).map_err(|e| self.failed(&path, e.to_string()))?;
        self.save_bytes(stage, &bytes)
    }

    /// The same of bytes. Whole or not at all.
    pub fn save_bytes(&self, stage: &str, bytes: &[u8]) -> Result<(), TrainingError> {
        let path = self.folder.join(stage);
        let half = self.folder.join(format!("{stage}.half"));
        let written = fs::write(&half, bytes).and_then(|()| fs::rename(&half, &path));
        written.map_err(|error| self.failed(&path, error.to_string()))
    }

    fn failed(&self, path: &Path, reason: String) -> TrainingError {
        TrainingError::Work { path: path.to_owned(), reason }
    }
}

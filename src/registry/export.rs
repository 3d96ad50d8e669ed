//! A version's files in a folder.

use std::io::Write as _;
use std::path::Path;

use super::{MANIFEST, Manifest, ModelVersion, Registry, RegistryError, manifest_key, opened};

impl Registry {
    /// Writes a version's files into a folder that is empty or not there yet, each verified first, and
    /// its manifest last, as it is in the object store.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`file`](Self::file); [`RegistryError::Folder`] where the folder
    /// cannot be written or has something in it.
    pub fn export(&self, version: ModelVersion, folder: &Path) -> Result<Manifest, RegistryError> {
        let bytes = self.objects.get(&manifest_key(version))?;
        let Some(bytes) = bytes else { return Err(self.missing(version)?) };
        let manifest = opened(version, &bytes)?;
        let failed = |what: String| RegistryError::Folder { folder: folder.to_owned(), what };
        std::fs::create_dir_all(folder).map_err(|e| failed(e.to_string()))?;
        let mut there = std::fs::read_dir(folder).map_err(|e| failed(e.to_string()))?;
        if there.next().is_some() {
            return Err(failed("it is not empty: name a new one".into()));
        }
        let write = |name: &str, bytes: &[u8]| {
            let mut file = std::fs::File::create_new(folder.join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        for name in manifest.files.keys() {
            let bytes = self.file(&manifest, name)?;
            write(name, &bytes).map_err(|e| failed(format!("{name}: {e}")))?;
        }
        write(MANIFEST, &bytes).map_err(|e| failed(format!("{MANIFEST}: {e}")))?;
        Ok(manifest)
    }
}

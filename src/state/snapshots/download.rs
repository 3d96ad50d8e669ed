//! From a snapshot to a store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, Part};
use super::{Depot, SnapshotError};

/// A file in a restored store's folder: keys of manifests that are not to be taken again should the
/// store have to be set aside, one a line, its own first.
pub const ORIGINS: &str = "restored-from";

/// Parts that are read while one is being looked at; as many are in memory.
const AHEAD: usize = 8;

impl Depot {
    /// Writes the files of a snapshot into `folder`, which must be empty, and makes them durable.
    /// `pace` is told how many bytes have come; where it says no, the download ends.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] where a part is gone or not what was written: another snapshot
    /// must do. What is in `folder` is then of no use.
    pub fn download(
        &self,
        manifest: &Manifest,
        folder: &Path,
        pace: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), SnapshotError> {
        let mut paths = Vec::with_capacity(manifest.files.len());
        for file in &manifest.files {
            // A name from elsewhere must not lead out of the folder.
            if file.name.is_empty() || file.name.contains(['/', '\\']) || file.name.starts_with('.')
            {
                return Err(SnapshotError::damaged(&file.name, "it is no name of a store's file"));
            }
            paths.push(folder.join(&file.name));
        }
        // One file after the other: each part says which it is of.
        let owners = manifest.files.iter().zip(&paths);
        let mut owners = owners.flat_map(|(file, path)| file.parts.iter().map(move |_| path));
        let mut open: Option<(&PathBuf, File)> = None;
        let all: Vec<&Part> = manifest.parts().collect();
        let io = |path: &Path, source| SnapshotError::Io { path: path.to_owned(), source };
        for path in &paths {
            File::create_new(path).map_err(|e| io(path, e))?;
        }
        self.parts(&all, &mut |bytes| {
            let Some(path) = owners.next() else { return Ok(()) };
            let mut file = match open.take() {
                Some((of, file)) if of == path => file,
                _ => File::options().append(true).open(path).map_err(|e| io(path, e))?,
            };
            file.write_all(bytes).map_err(|e| io(path, e))?;
            open = Some((path, file));
            if pace(bytes.len() as u64) { Ok(()) } else { Err(SnapshotError::Stopped) }
        })?;
        // At the end: most is on the disk by then.
        for path in paths.iter().map(PathBuf::as_path).chain([folder]) {
            File::open(path).and_then(|file| file.sync_all()).map_err(|e| io(path, e))?;
        }
        Ok(())
    }

    /// Reads every part of a snapshot and looks whether it is what was written, but for those whose
    /// keys are in `verified`, to which it adds the others.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn verify(
        &self,
        manifest: &Manifest,
        verified: &mut BTreeSet<String>,
    ) -> Result<(), SnapshotError> {
        let rest = manifest.parts().filter(|part| !verified.contains(&part.key));
        let rest: Vec<&Part> = rest.collect();
        self.parts(&rest, &mut |_| Ok(()))?;
        verified.extend(rest.into_iter().map(|part| part.key.clone()));
        Ok(())
    }

    /// Hands the verified bytes of parts on, in order.
    fn parts(
        &self,
        parts: &[&Part],
        each: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let keys: Vec<String> = parts.iter().map(|part| part.key.clone()).collect();
        let mut expected = parts.iter();
        self.objects.get_each(&keys, AHEAD, |found| {
            let Some(part) = expected.next() else { return Ok(()) };
            let (bytes, sha256) =
                found.ok_or_else(|| SnapshotError::damaged(&part.key, "it is gone"))?;
            if sha256 != part.sha256 {
                let what = "its bytes are not those that were written";
                return Err(SnapshotError::damaged(&part.key, what));
            }
            each(&bytes)
        })
    }
}

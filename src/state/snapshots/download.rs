//! From a snapshot to a store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::manifest::{Manifest, Part};
use super::{Depot, SnapshotError};
use crate::objects::sha256_hex;

/// A file in a restored store's folder: keys of manifests that are not to be taken again should the
/// store have to be set aside, one a line, its own first.
pub const ORIGINS: &str = "restored-from";

/// Parts read side by side; as many are in memory.
const CONCURRENT: usize = 8;

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
        for file in &manifest.files {
            // A name from elsewhere must not lead out of the folder.
            if file.name.is_empty() || file.name.contains(['/', '\\']) || file.name.starts_with('.')
            {
                return Err(SnapshotError::damaged(&file.name, "it is no name of a store's file"));
            }
            let path = folder.join(&file.name);
            let io = |source| SnapshotError::Io { path: path.clone(), source };
            let mut written = File::create_new(&path).map_err(io)?;
            self.parts(&file.parts, &mut |bytes| {
                written.write_all(bytes).map_err(io)?;
                if pace(bytes.len() as u64) { Ok(()) } else { Err(SnapshotError::Stopped) }
            })?;
            written.sync_all().map_err(io)?;
        }
        let io = |source| SnapshotError::Io { path: folder.to_owned(), source };
        File::open(folder).and_then(|opened| opened.sync_all()).map_err(io)
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
        let rest: Vec<Part> = rest.cloned().collect();
        self.parts(&rest, &mut |_| Ok(()))?;
        verified.extend(rest.into_iter().map(|part| part.key));
        Ok(())
    }

    /// Hands the verified bytes of parts on, in order.
    fn parts(
        &self,
        parts: &[Part],
        each: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        for some in parts.chunks(CONCURRENT) {
            let keys: Vec<String> = some.iter().map(|part| part.key.clone()).collect();
            for (part, bytes) in some.iter().zip(self.objects.get_all(&keys)?) {
                let bytes = bytes.ok_or_else(|| SnapshotError::damaged(&part.key, "it is gone"))?;
                if sha256_hex(&bytes) != part.sha256 {
                    let what = "its bytes are not those that were written";
                    return Err(SnapshotError::damaged(&part.key, what));
                }
                each(&bytes)?;
            }
        }
        Ok(())
    }
}

//! Old bytes for tests: what an earlier build wrote must still be read.

use std::path::Path;

/// The bytes of `tests/fixtures/<name>`. A file that is not there is made by `written`, and the
/// test fails once, so that somebody looks at it and commits it; a file that is there never
/// changes.
pub fn bytes(name: &str, written: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if !path.exists() {
        std::fs::write(&path, written()).unwrap();
        panic!("{} was not there and has been written: commit it", path.display());
    }
    std::fs::read(&path).unwrap()
}

//! Lines of a text file, one at a time. Enters: a file. Leaves: lines without their ends, and
//! their numbers. Never holds more than the longest line allowed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::{DatasetError, shown};

/// Longest line in bytes. The formats read by lines have a few numbers on each; more is a file
/// of another kind, and reading it on would only fill memory.
const LINE_LIMIT: usize = 4_096;

/// A text file being read.
pub(super) struct Lines {
    file: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    limit: usize,
}

impl Lines {
    pub(super) fn open(file: &Path) -> Result<Self, DatasetError> {
        Self::open_with(file, LINE_LIMIT)
    }

    /// The same for a format whose lines may be longer.
    pub(super) fn open_with(file: &Path, limit: usize) -> Result<Self, DatasetError> {
        let opened = File::open(file).map_err(|source| DatasetError::io(file, source))?;
        let reader = BufReader::with_capacity(64 * 1024, opened);
        Ok(Self { file: file.to_owned(), reader, line: Vec::new(), number: 0, limit })
    }

    /// Steps to the next line that is not blank; false at the end. Blank lines count.
    pub(super) fn advance(&mut self) -> Result<bool, DatasetError> {
        loop {
            self.line.clear();
            self.number += 1;
            let mut limited = (&mut self.reader).take(self.limit as u64 + 1);
            let read = limited
                .read_until(b'\n', &mut self.line)
                .map_err(|source| DatasetError::io(&self.file, source))?;
            if read == 0 {
                return Ok(false);
            }
            if read > self.limit {
                let (file, row) = (self.file.clone(), self.number);
                return Err(DatasetError::RowTooLong { file, row, limit: self.limit });
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The line stepped to, without its end.
    pub(super) fn line(&self) -> &[u8] {
        self.line.trim_ascii_end()
    }

    /// The number of the line stepped to, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// A value of this line is not what it should be.
    pub(super) fn bad(&self, column: &str, value: &[u8], expected: &'static str) -> DatasetError {
        DatasetError::BadCell {
            file: self.file.clone(),
            row: self.number,
            column: column.to_owned(),
            value: shown(value),
            expected,
        }
    }

    /// This line has the wrong number of values.
    pub(super) fn misshapen(&self, found: usize, expected: usize) -> DatasetError {
        DatasetError::BadShape {
            file: self.file.clone(),
            row: self.number,
            found: found as u64,
            expected: expected as u64,
        }
    }
}

/// What is in a directory, by name; or the file itself.
pub(super) fn files_of(
    path: &Path,
    expected: &'static str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<PathBuf>, DatasetError> {
    let about = std::fs::metadata(path).map_err(|source| DatasetError::io(path, source))?;
    if !about.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|source| DatasetError::io(path, source))? {
        let entry = entry.map_err(|source| DatasetError::io(path, source))?;
        if entry.file_name().to_str().is_some_and(&wanted) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(DatasetError::Nothing { path: path.to_owned(), expected });
    }
    Ok(files)
}

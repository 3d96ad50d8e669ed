//! How far a replay has surely come, in memory and in a file.

use std::collections::VecDeque;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::Failure;

/// What the resume file says, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noted {
    /// The data set's format.
    pub format: String,
    /// Its path as it was given.
    pub path: String,
    /// Whether rows are sorted by time first: row numbers mean something else then.
    pub by_time: bool,
    /// Rows from the beginning that are delivered or need no delivery.
    pub rows: u64,
    /// What is added to every event time, in milliseconds: an event sent again must be the same.
    pub shift_ms: i64,
}

impl Noted {
    /// Reads the file; none where there is no such file yet.
    ///
    /// # Errors
    /// Where it cannot be read or is of another replay.
    pub fn read(file: &Path, expected: &Noted) -> Result<Option<Self>, Failure> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("--resume {}: {error}", file.display()).into()),
        };
        let noted: Noted = serde_json::from_str(&text).map_err(|error| {
            format!(
                "--resume {} is no note of a replay ({error}): name another file, or remove it to \
                 begin anew",
                file.display()
            )
        })?;
        let same = |n: &Noted| (n.format.clone(), n.path.clone(), n.by_time);
        if same(&noted) != same(expected) {
            return Err(format!(
                "--resume {} is of another replay: {} {}{}. Name another file, or remove it",
                file.display(),
                noted.format,
                noted.path,
                if noted.by_time { " --by-time" } else { "" },
            )
            .into());
        }
        Ok(Some(noted))
    }

    /// Writes the file, in one step: a kill leaves the old note or the new one.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let fresh = file.with_file_name(name);
        let text = serde_json::to_string(self)?;
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, file))
            .map_err(|error| format!("--resume {}: {error}", file.display()).into())
    }
}

/// Which rows are surely delivered, as deliveries end in any order.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Rows taken up so far.
    rows: u64,
    /// Number of the event at the front.
    first: u64,
    /// Events under way, oldest first: the row each came from, and whether it has arrived.
    under_way: VecDeque<(u64, bool)>,
    failed: Option<String>,
}

impl Deliveries {
    /// As if the first `rows` were delivered.
    pub fn from_row(rows: u64) -> Self {
        Self { rows, ..Self::default() }
    }

    /// One more row is taken up; if it is sent, returns the event's number.
    pub fn begin(&mut self, is_sent: bool) -> u64 {
        let number = self.first + self.under_way.len() as u64;
        if is_sent {
            self.under_way.push_back((self.rows, false));
        }
        self.rows += 1;
        number
    }

    /// An event's delivery has ended.
    pub fn end(&mut self, number: u64, result: Result<(), String>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
            return;
        }
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(entry) = place.and_then(|place| self.under_way.get_mut(place)) {
            entry.1 = true;
        }
        while self.under_way.front().is_some_and(|(_, arrived)| *arrived) {
            self.under_way.pop_front();
            self.first += 1;
        }
    }

    /// Rows from the beginning of which nothing is missing.
    pub fn delivered_rows(&self) -> u64 {
        self.under_way.front().map_or(self.rows, |(row, _)| *row)
    }

    /// Events that have arrived, those behind one that has not excepted.
    pub fn delivered_events(&self) -> u64 {
        self.first
    }

    /// Why a delivery failed, where one did.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted() -> Noted {
        let (format, path) = ("movielens".to_owned(), "ml/ratings.csv".to_owned());
        Noted { format, path, by_time: false, rows: 17, shift_ms: 5 }
    }

    #[test]
    fn only_rows_of_which_nothing_is_missing_are_delivered() {
        let mut deliveries = Deliveries::from_row(10);
        assert_eq!(deliveries.delivered_rows(), 10);
        let first = deliveries.begin(true);
        deliveries.begin(false);
        let second = deliveries.begin(true);
        let third = deliveries.begin(true);
        deliveries.begin(false);
        assert_eq!(deliveries.delivered_rows(), 10);
        deliveries.end(second, Ok(()));
        assert_eq!(deliveries.delivered_rows(), 10);
        deliveries.end(first, Ok(()));
        assert_eq!((deliveries.delivered_rows(), deliveries.delivered_events()), (13, 2));
        deliveries.end(third, Ok(()));
        assert_eq!((deliveries.delivered_rows(), deliveries.delivered_events()), (15, 3));
    }

    #[test]
    fn a_failed_delivery_is_never_passed() {
        let mut deliveries = Deliveries::default();
        let (first, second) = (deliveries.begin(true), deliveries.begin(true));
        deliveries.end(first, Err("no".into()));
        deliveries.end(second, Ok(()));
        assert_eq!((deliveries.delivered_rows(), deliveries.failure()), (0, Some("no")));
    }

    #[test]
    fn a_note_is_read_back_and_one_of_another_replay_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("note.json");
        assert_eq!(Noted::read(&file, &noted()).unwrap(), None);
        noted().write(&file).unwrap();
        let expected = Noted { rows: 0, shift_ms: 0, ..noted() };
        assert_eq!(Noted::read(&file, &expected).unwrap(), Some(noted()));
        let other = Noted { path: "other".into(), ..noted() };
        assert!(Noted::read(&file, &other).unwrap_err().to_string().contains("another replay"));
        std::fs::write(&file, "17").unwrap();
        assert!(Noted::read(&file, &noted()).is_err());
    }
}

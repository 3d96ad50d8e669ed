//! KuaiRand exposures (Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with
//! Randomly Exposed Videos", CIKM 2022).
//!
//! Enters: a table with `time_ms`, `user_id`, `video_id`, `tab`, `is_click`, `play_time_ms` and
//! `duration_ms`, and where it is there `is_hate`; other columns are not read. A directory is read as
//! `impressions.parquet` or `impressions.csv` where it has one, else as all its `log_*.csv`, in the
//! order of their names.
//! Leaves: for each exposure an impression, then a click where `is_click` is 1, then a watch
//! where `play_time_ms` is above 0, then that the user does not want the item where `is_hate` is 1;
//! all at the time of the exposure, because a watch put at its end would come out of order. A `duration_ms` of 0 means that the length is not known. The
//! surface is `tab-<tab>`: the publishers give no names.
//! Never reorders: the published logs are ordered by user, for which there is
//! [`Dataset::by_time`](super::Dataset::by_time).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ids::{ItemId, Surface, UserId};

use super::columns::TimeUnit;
use super::error::DatasetError;
use super::lines::files_of;
use super::table::{Tables, columns_of};
use super::{Row, RowKind, Source};

const COLUMNS: [&str; 7] =
    ["time_ms", "user_id", "video_id", "tab", "is_click", "play_time_ms", "duration_ms"];
// Places in `COLUMNS`.
const TIME: usize = 0;
const USER: usize = 1;
const VIDEO: usize = 2;
const TAB: usize = 3;
const CLICK: usize = 4;
const PLAYED: usize = 5;
const LENGTH: usize = 6;
const HATE: usize = 7;
/// "Dislikes", as the app offers it. Cut-down copies of the data set lack it.
const HATE_COLUMN: &str = "is_hate";
const EXPECTED: &str = "impressions.parquet, impressions.csv or log_*.csv";

/// Reads exposures.
pub(super) struct Reader {
    tables: Tables,
    tells_hate: bool,
    source: Arc<str>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, DatasetError> {
        let files = locate(path)?;
        let mut columns = COLUMNS.map(str::to_owned).to_vec();
        let mut tells_hate = true;
        for file in &files {
            tells_hate &= columns_of(file, None)?.iter().any(|name| name == HATE_COLUMN);
        }
        if tells_hate {
            columns.push(HATE_COLUMN.to_owned());
        }
        let tables = Tables::open(files, columns, None)?;
        Ok(Self { tables, tells_hate, source: Arc::from("kuairand") })
    }
}

impl Source for Reader {
    fn read(&mut self, out: &mut VecDeque<Row>) -> Result<bool, DatasetError> {
        if !self.tables.advance()? {
            return Ok(false);
        }
        let tables = &self.tables;
        let clicked = tables.take(CLICK, |cell| cell.flag())?;
        let watched_ms = tables.take(PLAYED, |cell| cell.length())?;
        let length = tables.take(LENGTH, |cell| cell.length())?;
        let hated = self.tells_hate && tables.take(HATE, |cell| cell.flag())?;
        let tab = tables.take(TAB, |cell| cell.id())?;
        let shown = Row {
            user: UserId::new(tables.take(USER, |cell| cell.id())?),
            item: ItemId::new(tables.take(VIDEO, |cell| cell.id())?),
            at: tables.take(TIME, |cell| cell.time(TimeUnit::Millis))?,
            surface: Some(Surface::new(format!("tab-{tab}"))),
            session: None,
            kind: RowKind::Impression,
            source: Arc::clone(&self.source),
            number: tables.number(),
        };
        if clicked {
            out.push_back(Row { kind: RowKind::Click, ..shown.clone() });
        }
        if watched_ms > 0 {
            let duration_ms = Some(length).filter(|&length| length > 0);
            let kind = RowKind::Watch { watched_ms, duration_ms };
            out.push_back(Row { kind, ..shown.clone() });
        }
        if hated {
            out.push_back(Row { kind: RowKind::NotInterested, ..shown.clone() });
        }
        out.push_front(shown);
        Ok(true)
    }

    fn total_rows(&self) -> Option<u64> {
        self.tables.total()
    }
}

fn locate(path: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    for name in ["impressions.parquet", "impressions.csv"] {
        let file = path.join(name);
        if file.is_file() {
            return Ok(vec![file]);
        }
    }
    files_of(path, EXPECTED, |name| name.starts_with("log_") && name.ends_with(".csv"))
}

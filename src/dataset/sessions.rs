//! Sessions of clicks: lines of `session item`, oldest first, as the DIGINETICA log (CIKM Cup
//! 2016) is split by week for ADER (Mi et al., RecSys 2020).
//!
//! Enters: one file, or a directory of `period_<n>.txt`, read in the order of n. Leaves: one
//! click a line; user and session are both the session id, since nothing else is known of the
//! person. Never invents more order than the lines have: times are synthetic, see [`period_of`].

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ids::{ItemId, UserId};
use crate::time::{DAY_MS, EventTime, SECOND_MS};

use super::error::DatasetError;
use super::lines::{Lines, files_of};
use super::{Row, RowKind, Source};

/// Where synthetic time begins: 2016-01-01T00:00:00Z, the first day of the log.
pub const SESSIONS_EPOCH: EventTime = EventTime::from_millis(1_451_606_400_000);

/// The length of a period in milliseconds: a week.
pub const PERIOD_MS: i64 = 7 * DAY_MS;

/// The period a synthetic time lies in. The click on line k (from 0) of period p happened at
/// `SESSIONS_EPOCH + p weeks + k seconds`; a period of more lines than a week has seconds
/// (604,800) pushes the next one back, and this no longer holds for it.
pub fn period_of(at: EventTime) -> i64 {
    at.since(SESSIONS_EPOCH).div_euclid(PERIOD_MS)
}

/// Reads sessions.
pub(super) struct Reader {
    /// Files to come, the next one last.
    files: Vec<(u64, PathBuf)>,
    lines: Option<Lines>,
    source: Arc<str>,
    /// The time of the next click.
    next_at: EventTime,
}

impl Reader {
    /// A file whose name ends in a number is that period, any other is period 0.
    pub(super) fn open(path: &Path) -> Result<Self, DatasetError> {
        let wanted = |name: &str| name.starts_with("period_") && name.ends_with(".txt");
        let mut files: Vec<(u64, PathBuf)> =
            files_of(path, "period_<n>.txt, lines of `session item`", wanted)?
                .into_iter()
                .map(|file| (period(&file), file))
                .collect();
        files.sort();
        files.reverse();
        let mut reader =
            Self { files, lines: None, source: Arc::from(""), next_at: SESSIONS_EPOCH };
        reader.turn()?;
        Ok(reader)
    }

    /// Goes on to the next file; false where there is none.
    fn turn(&mut self) -> Result<bool, DatasetError> {
        let Some((period, file)) = self.files.pop() else {
            self.lines = None;
            return Ok(false);
        };
        self.lines = Some(Lines::open(&file)?);
        self.source = Arc::from(format!("sessions-p{period}"));
        let weeks = i64::try_from(period).unwrap_or(i64::MAX).saturating_mul(PERIOD_MS);
        self.next_at = self.next_at.max(SESSIONS_EPOCH.plus_millis(weeks));
        Ok(true)
    }
}

impl Source for Reader {
    fn read(&mut self, out: &mut VecDeque<Row>) -> Result<bool, DatasetError> {
        loop {
            let Some(lines) = &mut self.lines else {
                return Ok(false);
            };
            if lines.advance()? {
                let at = self.next_at;
                self.next_at = at.plus_millis(SECOND_MS);
                out.push_back(click(lines, at, &self.source)?);
                return Ok(true);
            }
            self.turn()?;
        }
    }

    fn total_rows(&self) -> Option<u64> {
        None
    }
}

fn click(lines: &Lines, at: EventTime, source: &Arc<str>) -> Result<Row, DatasetError> {
    let mut fields = lines.line().split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let (Some(session), Some(item), None) = (fields.next(), fields.next(), fields.next()) else {
        let found = lines.line().split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).count();
        return Err(lines.misshapen(found, 2));
    };
    let text = |column, value| {
        std::str::from_utf8(value).map_err(|_| lines.bad(column, value, "UTF-8 text"))
    };
    let (session, item) = (text("session", session)?, text("item", item)?);
    Ok(Row {
        user: UserId::from(session),
        item: ItemId::from(item),
        at,
        surface: None,
        session: Some(session.to_owned()),
        kind: RowKind::Click,
        source: Arc::clone(source),
        number: lines.number(),
    })
}

/// The number a file's name ends in, 0 where it ends in none.
fn period(file: &Path) -> u64 {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    stem[stem.len() - digits..].parse().unwrap_or(0)
}

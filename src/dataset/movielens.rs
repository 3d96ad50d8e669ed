//! MovieLens ratings (Harper and Konstan, "The MovieLens Datasets", 2015) as watches.
//!
//! Enters: `u.data` (tabs), `ratings.dat` (`::`) or `ratings.csv` (commas and a header), told
//! apart by their first line; or a directory with one of them. Leaves: one watch a rating, in
//! time order, ties in the order of the file. A rating of r stars is a watch of r/5 of a film of
//! [`FILM_MS`]: five stars are a completion, one star is a fifth; half stars in between.
//!
//! The files are ordered by user, so they are sorted here: 20 bytes a rating are held, 20 MB for
//! a million, 640 MB for the 32 million of the largest release.
//! Never clips a rating outside 0.5 to 5.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ids::{ItemId, UserId};
use crate::time::{EventTime, MINUTE_MS, SECOND_MS};

use super::error::DatasetError;
use super::lines::Lines;
use super::{Row, RowKind, Source};

/// The nominal length of a film, in milliseconds: 100 minutes. Ratings say nothing of lengths;
/// only the share watched means anything.
pub const FILM_MS: u64 = 100 * MINUTE_MS as u64;

/// The files of a directory, the first one found is read.
const NAMES: [&str; 3] = ["ratings.csv", "ratings.dat", "u.data"];
const LAYOUT: &str = "MovieLens ratings";
/// The header of `ratings.csv`.
const HEADER: &[u8] = b"userId,";

/// A rating, small enough to sort in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rating {
    at_s: u32,
    number: u32,
    user: u32,
    item: u32,
    half_stars: u8,
}

/// Gives ratings out in time order.
pub(super) struct Reader {
    ratings: Vec<Rating>,
    next: usize,
    source: Arc<str>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, DatasetError> {
        let file = locate(path)?;
        let mut ratings = load(&file)?;
        ratings.sort_unstable();
        Ok(Self { ratings, next: 0, source: Arc::from("movielens") })
    }
}

impl Source for Reader {
    fn read(&mut self, out: &mut VecDeque<Row>) -> Result<bool, DatasetError> {
        let Some(rating) = self.ratings.get(self.next) else {
            return Ok(false);
        };
        self.next += 1;
        out.push_back(Row {
            user: UserId::new(rating.user.to_string()),
            item: ItemId::new(rating.item.to_string()),
            at: EventTime::from_millis(i64::from(rating.at_s) * SECOND_MS),
            surface: None,
            session: None,
            kind: RowKind::Watch {
                watched_ms: FILM_MS * u64::from(rating.half_stars) / 10,
                duration_ms: Some(FILM_MS),
            },
            source: Arc::clone(&self.source),
            number: rating.number.into(),
        });
        Ok(true)
    }

    fn total_rows(&self) -> Option<u64> {
        Some(self.ratings.len() as u64)
    }
}

fn locate(path: &Path) -> Result<PathBuf, DatasetError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let found = NAMES.iter().map(|name| path.join(name)).find(|file| file.is_file());
    found.ok_or(DatasetError::Nothing {
        path: path.to_owned(),
        expected: "ratings.csv, ratings.dat or u.data",
    })
}

fn load(file: &Path) -> Result<Vec<Rating>, DatasetError> {
    let mut lines = Lines::open(file)?;
    let mut ratings = Vec::new();
    let mut separator: Option<&[u8]> = None;
    while lines.advance()? {
        let found = match separator {
            Some(known) => known,
            None => {
                let found = separator_of(lines.line())
                    .ok_or_else(|| DatasetError::layout(file, LAYOUT, NO_SEPARATOR))?;
                separator = Some(found);
                if lines.line().starts_with(HEADER) {
                    continue;
                }
                found
            }
        };
        ratings.push(rating(&lines, found)?);
    }
    Ok(ratings)
}

const NO_SEPARATOR: &str = "its first line has neither tabs, nor \"::\", nor commas between \
                            user, item, rating and time";

fn separator_of(line: &[u8]) -> Option<&'static [u8]> {
    let separators: [&[u8]; 3] = [b"\t", b"::", b","];
    separators.into_iter().find(|separator| split(line, separator).count() >= 4)
}

/// The parts of `line` between occurrences of `separator`.
pub(super) fn split<'a>(line: &'a [u8], separator: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let part = rest?;
        let end = part.windows(separator.len()).position(|window| window == separator);
        rest = end.map(|end| &part[end + separator.len()..]);
        Some(&part[..end.unwrap_or(part.len())])
    })
}

fn rating(lines: &Lines, separator: &[u8]) -> Result<Rating, DatasetError> {
    let mut fields = [&[][..]; 4];
    let mut found = 0;
    for part in split(lines.line(), separator) {
        if let Some(field) = fields.get_mut(found) {
            *field = part.trim_ascii();
        }
        found += 1;
    }
    if found != fields.len() {
        return Err(lines.misshapen(found, fields.len()));
    }
    let [user, item, stars, at] = fields;
    let number = u32::try_from(lines.number())
        .map_err(|_| DatasetError::TooMany { what: "ratings", limit: u32::MAX.into() })?;
    Ok(Rating {
        at_s: whole(lines, "timestamp", at, "seconds since 1970-01-01 UTC, before 2106")?,
        number,
        user: whole(lines, "user", user, "a whole number")?,
        item: whole(lines, "item", item, "a whole number")?,
        half_stars: half_stars(stars)
            .ok_or_else(|| lines.bad("rating", stars, "0.5 to 5 stars, in halves"))?,
    })
}

fn whole(
    lines: &Lines,
    column: &str,
    value: &[u8],
    expected: &'static str,
) -> Result<u32, DatasetError> {
    let text = std::str::from_utf8(value).ok();
    let parsed = text.and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| lines.bad(column, value, expected))
}

fn half_stars(stars: &[u8]) -> Option<u8> {
    let stars: f64 = std::str::from_utf8(stars).ok()?.parse().ok()?;
    let halves = stars * 2.0;
    let whole = halves.fract() == 0.0 && (1.0..=10.0).contains(&halves);
    whole.then_some(halves as u8)
}

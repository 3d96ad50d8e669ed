//! Films of MovieLens, as items of a catalog (Harper and Konstan, 2015).
//!
//! Enters: `movies.dat` (`id::title::genre|genre`, ISO 8859-1), `u.item` (separated by `|`, a flag a
//! genre at its end, ISO 8859-1) or `movies.csv` (a header, `id,title,genre|genre`, UTF-8), told
//! apart by their names. Leaves: items whose categories are the genres, published at the beginning
//! of the year that the title ends with, where the catalog knows such times. A film without a genre has no category. A bad line costs
//! only itself.

use std::path::{Path, PathBuf};

use chrono::NaiveDate;

use super::error::DatasetError;
use super::items::{ItemRow, RefusedRow};
use super::lines::Lines;
use super::movielens::split;
use super::table::Tables;
use crate::event::CatalogRecord;
use crate::time::DAY_MS;

/// Where films are, by layout.
const NAMES: [(&str, Layout); 3] =
    [("movies.csv", Layout::Csv), ("movies.dat", Layout::Dat), ("u.item", Layout::Flags)];
/// The columns of `movies.csv`.
const COLUMNS: [&str; 3] = ["movieId", "title", "genres"];
/// What `movies.csv` has where there is no genre.
const NO_GENRE: &str = "(no genres listed)";
/// The catalog takes nothing as published before: of older films the year is left out.
const EARLIEST_YEAR: i32 = 1990;
/// Genres in the order of the flags of `u.item`, after one that means that none is known.
const GENRES: [&str; 18] = [
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];
/// Fields of `u.item` before the flags of genres: id, title, release, video release, address, and
/// the flag of no genre.
const BEFORE_GENRES: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Csv,
    Dat,
    Flags,
}

/// Films being read.
pub(super) struct Movies {
    source: Source,
}

enum Source {
    Csv(Box<Tables>),
    Lines(Lines, Layout),
}

/// A film as a line tells of it.
struct Movie {
    id: String,
    title: String,
    genres: Vec<String>,
}

impl Movies {
    /// The films beside ratings, `ratings` being a file or its folder; none where there are none.
    pub fn beside(ratings: &Path) -> Option<PathBuf> {
        let folder = if ratings.is_dir() { Some(ratings) } else { ratings.parent() };
        let folder = folder?;
        NAMES.iter().map(|(name, _)| folder.join(name)).find(|file| file.is_file())
    }

    /// Whether a file has the name of one of the layouts.
    pub fn is_named_so(file: &Path) -> bool {
        layout(file).is_some()
    }

    pub fn open(file: &Path) -> Result<Self, DatasetError> {
        let source = match layout(file) {
            None => {
                let known = NAMES.map(|(name, _)| name).to_vec();
                let name = file.display().to_string();
                return Err(DatasetError::UnknownFormat { name, known });
            }
            Some(Layout::Csv) => {
                let columns = COLUMNS.map(str::to_owned).to_vec();
                Source::Csv(Box::new(Tables::open(vec![file.to_owned()], columns, Some(b','))?))
            }
            Some(layout) => Source::Lines(Lines::open(file)?, layout),
        };
        Ok(Self { source })
    }

    /// The next film; none at the end.
    pub fn read(&mut self) -> Result<Option<ItemRow>, DatasetError> {
        let (row, movie) = match &mut self.source {
            Source::Lines(lines, layout) => {
                if !lines.advance()? {
                    return Ok(None);
                }
                let movie = match layout {
                    Layout::Flags => flagged(lines),
                    Layout::Dat | Layout::Csv => separated(lines),
                };
                (lines.number(), movie)
            }
            Source::Csv(tables) => match tables.advance() {
                Ok(false) => return Ok(None),
                Ok(true) => (tables.number(), of_table(tables)),
                Err(error) => (tables.number(), Err(error)),
            },
        };
        match movie {
            Ok(movie) => Ok(Some(movie.into_item(row))),
            Err(error) if error.is_one_row() => {
                Ok(Some(Err(RefusedRow { row, item: None, reason: error.to_string() })))
            }
            Err(error) => Err(error),
        }
    }
}

fn layout(file: &Path) -> Option<Layout> {
    let name = file.file_name()?.to_str()?;
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, layout)| *layout)
}

/// `id::title::genre|genre`. Titles may have colons, so the ends are cut off.
fn separated(lines: &Lines) -> Result<Movie, DatasetError> {
    let parts: Vec<&[u8]> = split(lines.line(), b"::").collect();
    let [id, title @ .., genres] = parts.as_slice() else { return Err(lines.misshapen(1, 3)) };
    if title.is_empty() {
        return Err(lines.misshapen(parts.len(), 3));
    }
    let genres = latin_1(genres);
    Ok(Movie { id: latin_1(id), title: latin_1(&title.join(&b"::"[..])), genres: named(&genres) })
}

/// `id|title|release|video release|address|flag|flag…`.
fn flagged(lines: &Lines) -> Result<Movie, DatasetError> {
    let parts: Vec<&[u8]> = split(lines.line(), b"|").collect();
    if parts.len() != BEFORE_GENRES + GENRES.len() {
        return Err(lines.misshapen(parts.len(), BEFORE_GENRES + GENRES.len()));
    }
    let mut genres = Vec::new();
    for (flag, genre) in parts[BEFORE_GENRES..].iter().zip(GENRES) {
        match *flag {
            b"1" => genres.push(genre.to_owned()),
            b"0" => {}
            other => return Err(lines.bad(genre, other, "0 or 1")),
        }
    }
    Ok(Movie { id: latin_1(parts[0]), title: latin_1(parts[1]), genres })
}

fn of_table(tables: &Tables) -> Result<Movie, DatasetError> {
    let text = |place| {
        tables.take(place, |cell| {
            if cell.is_missing() { Ok(String::new()) } else { cell.text().ok_or("a text") }
        })
    };
    let genres = text(2)?;
    let genres = if genres == NO_GENRE { Vec::new() } else { named(&genres) };
    Ok(Movie { id: text(0)?, title: text(1)?, genres })
}

fn named(genres: &str) -> Vec<String> {
    genres.split('|').map(str::trim).filter(|genre| !genre.is_empty()).map(str::to_owned).collect()
}

/// In ISO 8859-1 every byte is the Unicode character of its number.
fn latin_1(bytes: &[u8]) -> String {
    bytes.trim_ascii().iter().map(|&byte| char::from(byte)).collect()
}

/// The year that a title ends with, as in `Toy Story (1995)`.
fn year(title: &str) -> Option<i32> {
    let (_, inside) = title.trim_end().strip_suffix(')')?.rsplit_once('(')?;
    let is_year = inside.len() == 4 && inside.bytes().all(|byte| byte.is_ascii_digit());
    inside.parse().ok().filter(|&year| is_year && year >= EARLIEST_YEAR)
}

impl Movie {
    fn into_item(self, row: u64) -> ItemRow {
        let first_day = |year| NaiveDate::from_ymd_opt(year, 1, 1);
        let published = year(&self.title)
            .and_then(first_day)
            .map(|day| i64::from(day.to_epoch_days()) * DAY_MS);
        let refused = (!self.id.is_empty()).then(|| self.id.clone());
        let record = CatalogRecord {
            item: self.id,
            title: self.title,
            categories: self.genres,
            published,
            ..CatalogRecord::default()
        };
        record.validate().map_err(|rejection| RefusedRow {
            row,
            item: refused,
            reason: rejection.message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CatalogItem;

    /// Writes a file of this name and reads it back.
    fn read(name: &str, bytes: &[u8]) -> Vec<ItemRow> {
        let folder = tempfile::tempdir().unwrap();
        let ratings = folder.path().join("ratings.dat");
        std::fs::write(&ratings, "1::1::5::1\n").unwrap();
        assert_eq!(Movies::beside(&ratings), None);
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let found = Movies::beside(&ratings).unwrap();
        assert_eq!(Some(&found), Movies::beside(folder.path()).as_ref());
        assert!(Movies::is_named_so(&found));
        let mut movies = Movies::open(&found).unwrap();
        std::iter::from_fn(|| movies.read().unwrap()).collect()
    }

    fn told(item: &CatalogItem) -> (&str, &str, Vec<&str>, Option<i64>) {
        let categories = item.categories.iter().map(|c| &**c).collect();
        (item.item.as_str(), &item.title, categories, item.published.map(|at| at.millis()))
    }

    const NEW_YEAR_1995: i64 = 788_918_400_000;

    #[test]
    fn films_of_every_layout_are_read_with_their_genres_and_years() {
        let flags = "0|0|0|0|1|0|0|0|1|0|0|0|0|0|0|0|0|0|0";
        let dat = b"7::Mis\xe9rables, Les (1995)::Drama|Musical\n9::Tape: 2::3 (x)::\n";
        let item = format!("7|Les (1995)|01-Jan-1995||http://x/?a|{flags}\n");
        let csv = "movieId,title,genres\n7,\"Les (1995) \",Drama|Musical\n9,N,(no genres listed)\n";
        let rows = read("movies.dat", dat);
        let first = rows[0].as_ref().unwrap();
        let expected =
            ("7", "Misérables, Les (1995)", vec!["Drama", "Musical"], Some(NEW_YEAR_1995));
        assert_eq!(told(first), expected);
        assert_eq!(told(rows[1].as_ref().unwrap()), ("9", "Tape: 2::3 (x)", vec![], None));
        let rows = read("u.item", item.as_bytes());
        let of_flags = rows[0].as_ref().unwrap();
        assert_eq!(told(of_flags).3, Some(NEW_YEAR_1995));
        // The flag of no genre comes first.
        assert_eq!(told(of_flags).2, vec!["Children's", "Drama"]);
        let rows = read("movies.csv", csv.as_bytes());
        assert_eq!(told(rows[0].as_ref().unwrap()).2, vec!["Drama", "Musical"]);
        assert_eq!(told(rows[1].as_ref().unwrap()).2, Vec::<&str>::new());
    }

    #[test]
    fn a_bad_line_costs_only_itself_and_says_what_is_wrong() {
        let rows = read("movies.dat", b"no film\n::Title::Drama\n3::T (1890)::Drama\n");
        let reason = |row: &ItemRow| row.clone().unwrap_err().reason;
        assert!(reason(&rows[0]).contains("1 values, expected 3"), "{:?}", rows[0]);
        assert!(rows[1].is_err());
        assert_eq!(told(rows[2].as_ref().unwrap()), ("3", "T (1890)", vec!["Drama"], None));
        let rows = read("u.item", b"1|T|d||u|0|1|yes|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n");
        assert!(reason(&rows[0]).contains("\"Adventure\" is \"yes\""), "{:?}", rows[0]);
    }

    #[test]
    fn a_file_of_another_name_is_refused_with_the_names_that_are_read() {
        let error = Movies::open(Path::new("films.txt")).err().unwrap().to_string();
        assert!(error.contains("movies.dat") && error.contains("u.item"), "{error}");
    }
}

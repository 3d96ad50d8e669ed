//! Flags of data sets that several commands take.

use std::time::Duration;

use crate::dataset::{ColumnMapping, EventKind, Format, Sessions, TimeUnit};

/// The gap of `--session-gap` for data known to lack sessions.
const USUAL_GAP: Duration = Duration::from_secs(30 * 60);

/// Which column holds what, for `columns`.
#[derive(clap::Args)]
#[command(next_help_heading = "Columns (format columns)")]
pub struct Columns {
    /// The user's id
    #[arg(long, default_value = "user_id")]
    user_column: String,
    /// The item's id
    #[arg(long, default_value = "item_id")]
    item_column: String,
    /// When it happened
    #[arg(long, default_value = "timestamp")]
    time_column: String,
    /// What the time counts: s, ms or us
    #[arg(long, default_value = "ms")]
    time_unit: TimeUnit,
    /// Milliseconds watched; makes rows watches
    #[arg(long)]
    watched_column: Option<String>,
    /// The item's length in milliseconds
    #[arg(long)]
    duration_column: Option<String>,
    /// The surface
    #[arg(long)]
    surface_column: Option<String>,
    /// The session
    #[arg(long)]
    session_column: Option<String>,
    /// What rows become: click or watch [default: watch where --watched-column is given]
    #[arg(long)]
    kind: Option<EventKind>,
    /// Separator of CSV files [default: a comma, a tab in .tsv files]
    #[arg(long, value_parser = parse_delimiter)]
    delimiter: Option<u8>,
}

impl Columns {
    /// As the data set's reader takes it.
    pub fn mapping(&self) -> ColumnMapping {
        ColumnMapping {
            user: self.user_column.clone(),
            item: self.item_column.clone(),
            time: self.time_column.clone(),
            time_unit: self.time_unit,
            watched: self.watched_column.clone(),
            duration: self.duration_column.clone(),
            surface: self.surface_column.clone(),
            session: self.session_column.clone(),
            kind: self.kind,
            delimiter: self.delimiter,
        }
    }
}

/// Reads one ASCII character, or `\t`.
pub fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        b"\\t" => Ok(b'\t'),
        _ => Err(format!("{text:?}: one ASCII character, or \\t for a tab")),
    }
}

/// Reads `30m` or `none`.
pub fn parse_gap(text: &str) -> Result<Gap, String> {
    if text == "none" {
        return Ok(Gap(None));
    }
    super::parse_duration(text).map(|gap| Gap(Some(gap)))
}

/// The quiet time after which a new session begins; none where none are derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap(pub Option<Duration>);

impl Gap {
    /// What derives the sessions of a data set of `format`, where `--session-gap` was `given`;
    /// none where it needs none.
    pub fn sessions(given: Option<Gap>, format: Format) -> Option<Sessions> {
        let usual = Gap((format == Format::KuaiRand).then_some(USUAL_GAP));
        given.unwrap_or(usual).0.map(Sessions::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delimiter_is_one_character_or_a_tab() {
        assert_eq!(parse_delimiter(";"), Ok(b';'));
        assert_eq!(parse_delimiter("\\t"), Ok(b'\t'));
        assert!(parse_delimiter("").is_err() && parse_delimiter("::").is_err());
    }

    #[test]
    fn a_gap_is_a_duration_or_none() {
        assert_eq!(parse_gap("none"), Ok(Gap(None)));
        assert_eq!(parse_gap("30m"), Ok(Gap(Some(Duration::from_secs(1_800)))));
        assert!(parse_gap("often").is_err());
    }
}

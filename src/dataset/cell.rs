//! One value of a table, whatever stored it. Enters: a CSV field or a Parquet value. Leaves: an
//! id, a time, a length, a yes or no, or what was expected instead. Never rounds an id or wraps
//! a number.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::time::{DAY_MS, EventTime, SECOND_MS};

use super::columns::TimeUnit;
use super::error::shown;

/// Whole numbers a double holds exactly, up to and including this one.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    /// No value: null in Parquet, an empty field in CSV.
    Missing,
    /// A whole number.
    Integer(i128),
    /// A fraction, or a whole number stored as one.
    Float(f64),
    /// Text, perhaps not UTF-8.
    Text(&'a [u8]),
    /// Yes or no.
    Bool(bool),
    /// A point in time whose unit the file itself declares, in nanoseconds since the epoch.
    Nanos(i128),
}

/// What was expected instead.
pub(super) type Expected = &'static str;

const ID: Expected = "an id: text or a whole number";
const LENGTH: Expected = "a length of time in milliseconds, 0 or more";
const MOMENT: Expected = "a time as a number, or as in 2024-05-17 or 2024-05-17T09:30:00Z";
const FLAG: Expected = "0 or 1, or true or false";

impl<'a> Cell<'a> {
    /// The value for an error's text.
    pub(super) fn shown(&self) -> String {
        match self {
            Cell::Missing => "missing".to_owned(),
            Cell::Integer(value) => value.to_string(),
            Cell::Float(value) => value.to_string(),
            Cell::Text(text) => shown(text),
            Cell::Bool(value) => value.to_string(),
            Cell::Nanos(value) => format!("a timestamp ({value} ns)"),
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        *self == Cell::Missing
    }

    /// An id: text as it is, a number as its digits.
    pub(super) fn id(&self) -> Result<String, Expected> {
        match *self {
            Cell::Text(text) if !text.is_empty() => {
                std::str::from_utf8(text).map(str::to_owned).map_err(|_| ID)
            }
            Cell::Integer(value) => Ok(value.to_string()),
            // Libraries that have no missing integers store ids as doubles.
            Cell::Float(value) if value.fract() == 0.0 && value.abs() <= EXACT => {
                Ok((value as i64).to_string())
            }
            _ => Err(ID),
        }
    }

    /// A point in time, counted in `unit` unless the file itself declares one.
    pub(super) fn time(&self, unit: TimeUnit) -> Result<EventTime, Expected> {
        let expected = unit.expected();
        let millis = match self.number() {
            Some(Number::Whole(count)) => match unit {
                TimeUnit::Seconds => count.checked_mul(i128::from(SECOND_MS)),
                TimeUnit::Millis => Some(count),
                TimeUnit::Micros => Some(count.div_euclid(1_000)),
            },
            Some(Number::Fraction(count)) => {
                let scale = match unit {
                    TimeUnit::Seconds => 1_000.0,
                    TimeUnit::Millis => 1.0,
                    TimeUnit::Micros => 0.001,
                };
                let millis = (count * scale).round();
                (millis.abs() <= EXACT).then_some(millis as i128)
            }
            None => match *self {
                Cell::Nanos(nanos) => Some(nanos.div_euclid(1_000_000)),
                _ => None,
            },
        };
        let millis = millis.and_then(|ms| i64::try_from(ms).ok()).ok_or(expected)?;
        // A year past 9999 is a time read in the wrong unit.
        let limit = 8_000 * 366 * DAY_MS;
        if millis.abs() <= limit { Ok(EventTime::from_millis(millis)) } else { Err(expected) }
    }

    /// A point in time: a number as [`Cell::time`] reads it, or a date or time of ISO 8601. What
    /// names no offset is UTC, a date its beginning.
    pub(super) fn moment(&self, unit: TimeUnit) -> Result<EventTime, Expected> {
        let written = match *self {
            Cell::Text(text) => std::str::from_utf8(text).ok().and_then(iso_8601),
            _ => None,
        };
        match written {
            Some(at) => Ok(at),
            None => self.time(unit).map_err(|_| MOMENT),
        }
    }

    /// Any value as text, but for what is missing or not UTF-8.
    pub(super) fn text(&self) -> Option<String> {
        match *self {
            Cell::Missing | Cell::Nanos(_) => None,
            Cell::Text(text) => std::str::from_utf8(text).ok().map(str::to_owned),
            Cell::Bool(value) => Some(value.to_string()),
            Cell::Float(value) if value.fract() != 0.0 => Some(value.to_string()),
            Cell::Integer(_) | Cell::Float(_) => self.id().ok(),
        }
    }

    /// A length of time in whole milliseconds; fractions are rounded.
    pub(super) fn length(&self) -> Result<u64, Expected> {
        match self.number() {
            Some(Number::Whole(value)) => u64::try_from(value).map_err(|_| LENGTH),
            Some(Number::Fraction(value)) if (0.0..=EXACT).contains(&value) => {
                Ok(value.round() as u64)
            }
            _ => Err(LENGTH),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&self) -> Result<bool, Expected> {
        match *self {
            Cell::Bool(value) => Ok(value),
            Cell::Text(b"true" | b"True" | b"TRUE") => Ok(true),
            Cell::Text(b"false" | b"False" | b"FALSE") => Ok(false),
            _ => match self.number() {
                Some(Number::Whole(0)) => Ok(false),
                Some(Number::Whole(1)) => Ok(true),
                Some(Number::Fraction(0.0)) => Ok(false),
                Some(Number::Fraction(1.0)) => Ok(true),
                _ => Err(FLAG),
            },
        }
    }

    fn number(&self) -> Option<Number> {
        let parsed = match *self {
            Cell::Integer(value) => Number::Whole(value),
            Cell::Float(value) => Number::Fraction(value),
            Cell::Text(text) => {
                let text = std::str::from_utf8(text).ok()?.trim();
                match text.parse::<i64>() {
                    Ok(value) => Number::Whole(value.into()),
                    Err(_) => Number::Fraction(text.parse().ok()?),
                }
            }
            Cell::Missing | Cell::Bool(_) | Cell::Nanos(_) => return None,
        };
        match parsed {
            Number::Fraction(value) if !value.is_finite() => None,
            number => Some(number),
        }
    }
}

fn iso_8601(text: &str) -> Option<EventTime> {
    let text = text.trim();
    let naive = || {
        let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
        time.or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")).ok()
    };
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let millis = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.timestamp_millis(),
        Err(_) => naive().or_else(date)?.and_utc().timestamp_millis(),
    };
    Some(EventTime::from_millis(millis))
}

enum Number {
    Whole(i128),
    Fraction(f64),
}

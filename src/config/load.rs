//! From texts to a [`Config`]: defaults, then file, then environment, then flags.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("config file {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("config file {path}: {message}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown config key {key} (from {origin}){}", hint(.nearest))]
    UnknownKey {
        /// As given.
        key: String,
        /// File, variable or flag.
        origin: String,
        /// The known key most like it.
        nearest: Option<String>,
    },
    /// A value of another type than the key's.
    #[error("config key {key} (from {origin}): {message}")]
    BadValue {
        /// The key.
        key: String,
        /// File, variable or flag.
        origin: String,
        /// What was expected.
        message: String,
    },
    /// A value that cannot work.
    #[error("config: {0}")]
    Invalid(String),
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(key) => format!("; did you mean {key}?"),
        None => "; `driftline config show` lists all keys".into(),
    }
}

/// Where a configuration comes from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables; those named `DRIFTLINE_SECTION__KEY` count.
    pub environment: Vec<(String, String)>,
    /// `section.key=value` from flags.
    pub overrides: Vec<String>,
}

/// Tables whose keys are the user's own.
const OPEN_TABLES: &[&str] = &["kafka.properties", "global.trending_half_life_hours_by_surface"];

/// Variables of the project's scripts that are no config keys.
const OTHER_VARIABLES: &[&str] = &[
    "CACHE",
    "STATE_DIR",
    "BROKER",
    "BROKER_DIR",
    "ROCKSDB",
    "CONFIG",
    "BOOTSTRAP",
    "QUALITY",
    "SCREENSHOTS",
];

/// Reads and validates a configuration.
///
/// # Errors
/// [`ConfigError`] that names the key and where it came from.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let known = Table::try_from(Config::default())
        .map_err(|e| ConfigError::Invalid(format!("the defaults: {e}")))?;
    let mut merged = Table::new();
    if let Some(path) = &sources.file {
        merged = read_file(path)?;
        check_keys(&known, &merged, "", &path.display().to_string())?;
    }
    for (name, value) in &sources.environment {
        if name == "DRIFTLINE_BOOTSTRAP" && !value.is_empty() {
            set(&known, &mut merged, "kafka.bootstrap", value, name)?;
        } else if let Some(key) = config_key(name) {
            set(&known, &mut merged, &key, value, name)?;
        }
    }
    for text in &sources.overrides {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            ConfigError::Invalid(format!("--set {text}: expected section.key=value"))
        })?;
        set(&known, &mut merged, key.trim(), value.trim(), &format!("--set {key}"))?;
    }
    let config = Config::deserialize(Value::Table(merged))
        .map_err(|e| ConfigError::Invalid(e.to_string().trim().replace('\n', " ")))?;
    config.validate()?;
    Ok(config)
}

fn config_key(variable: &str) -> Option<String> {
    let rest = variable.strip_prefix("DRIFTLINE_")?;
    // A variable without a section is no key, but a misspelt one must not pass in silence.
    if OTHER_VARIABLES.contains(&rest) {
        return None;
    }
    Some(rest.to_ascii_lowercase().replace("__", "."))
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Io { path: path.into(), source })?;
    text.parse::<Table>()
        .map_err(|e| ConfigError::Syntax { path: path.into(), message: syntax(&text, &e) })
}

/// Where and why, without the line itself: it may hold a secret.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start));
    let line = line.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}

fn check_keys(known: &Table, given: &Table, path: &str, origin: &str) -> Result<(), ConfigError> {
    for (key, value) in given {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if OPEN_TABLES.contains(&full.as_str()) {
            continue;
        }
        match (known.get(key), value) {
            (Some(Value::Table(known)), Value::Table(given)) => {
                check_keys(known, given, &full, origin)?;
            }
            (Some(Value::Table(_)), _) => {
                return Err(ConfigError::BadValue {
                    key: full.clone(),
                    origin: origin.into(),
                    message: format!("is a section: write [{full}]"),
                });
            }
            (Some(_), _) => {}
            (None, _) => return Err(unknown(full, origin)),
        }
    }
    Ok(())
}

fn set(
    known: &Table,
    merged: &mut Table,
    key: &str,
    text: &str,
    origin: &str,
) -> Result<(), ConfigError> {
    let open = OPEN_TABLES.iter().find_map(|table| {
        key.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')).map(|k| (*table, k))
    });
    let (section, name, sample) = match open {
        Some((table, name)) => (table, name, None),
        None => {
            let (section, name) =
                key.rsplit_once('.').ok_or_else(|| unknown(key.to_owned(), origin))?;
            let mut parts = section.split('.');
            let first = parts.next().and_then(|part| known.get(part));
            let sample = parts.fold(first, |table, part| table.and_then(|t| t.get(part)));
            let sample = sample.and_then(|table| table.get(name)).filter(|found| !found.is_table());
            (section, name, Some(sample.ok_or_else(|| unknown(key.to_owned(), origin))?))
        }
    };
    let bad =
        |message: String| ConfigError::BadValue { key: key.into(), origin: origin.into(), message };
    let value = match sample {
        None if section == "kafka.properties" => Value::String(text.into()),
        Some(sample) => typed(text, sample).map_err(bad)?,
        None => Value::Float(text.parse().map_err(|_| bad(format!("{text:?} is no number")))?),
    };
    let mut table = merged;
    for part in section.split('.') {
        let entry = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
        table = entry.as_table_mut().ok_or_else(|| bad(format!("{part} is no section")))?;
    }
    table.insert(name.into(), value);
    Ok(())
}

fn unknown(key: String, origin: &str) -> ConfigError {
    let mut all = Vec::new();
    if let Ok(known) = Table::try_from(Config::default()) {
        collect_keys(&known, "", &mut all);
    }
    let nearest = all
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&k, &key), k))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.75)
        .map(|(_, k)| k);
    ConfigError::UnknownKey { key, origin: origin.into(), nearest }
}

fn collect_keys(table: &Table, path: &str, all: &mut Vec<String>) {
    for (key, value) in table {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => collect_keys(inner, &full, all),
            _ => all.push(full),
        }
    }
}

/// A text as the type of `sample`; of a list, its parts between commas as that of its first.
fn typed(text: &str, sample: &Value) -> Result<Value, String> {
    Ok(match sample {
        Value::String(_) => Value::String(text.into()),
        Value::Array(all) => {
            let text = text.trim();
            let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            let parts = inner.unwrap_or(text).split(',').map(str::trim).filter(|p| !p.is_empty());
            let of = all.first().cloned().unwrap_or_else(|| Value::String(String::new()));
            Value::Array(parts.map(|part| typed(part, &of)).collect::<Result<_, _>>()?)
        }
        Value::Boolean(_) => {
            Value::Boolean(text.parse().map_err(|_| format!("{text:?}: use true or false"))?)
        }
        Value::Integer(_) => {
            Value::Integer(text.parse().map_err(|_| format!("{text:?} is no whole number"))?)
        }
        _ => Value::Float(text.parse().map_err(|_| format!("{text:?} is no number"))?),
    })
}

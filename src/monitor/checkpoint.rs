//! The state in one file, replaced atomically.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Settings, Watch};

/// Raised with every change of what is stored: an older state is not read.
const FORMAT: u32 = 2;
const FILE: &str = "state.json";

#[derive(Deserialize)]
struct Stored {
    format: u32,
    topic: String,
    watch: Watch,
}

#[derive(Serialize)]
struct ToStore<'a> {
    format: u32,
    topic: &'a str,
    watch: &'a Watch,
}

/// Why there is no state to go on from.
#[derive(Debug, thiserror::Error)]
pub enum NoState {
    /// There never was one.
    #[error("there is no state yet")]
    None,
    /// It is of something else, or damaged.
    #[error("{0}")]
    Other(String),
    /// The file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Reads the state of a folder.
///
/// # Errors
/// [`NoState`] that says why there is none that fits.
pub fn read(folder: &Path, topic: &str, settings: &Settings) -> Result<Watch, NoState> {
    let path = folder.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(NoState::None),
        Err(source) => return Err(NoState::Io { path, source }),
    };
    // The format first: of another nothing else can be read.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged =
        |error: serde_json::Error| NoState::Other(format!("the state is damaged: {error}"));
    let Format { format } = serde_json::from_slice(&text).map_err(damaged)?;
    if format != FORMAT {
        return Err(NoState::Other(format!("the state is of format {format}, not {FORMAT}")));
    }
    let stored: Stored = serde_json::from_slice(&text).map_err(damaged)?;
    if stored.format != FORMAT || stored.topic != topic {
        return Err(NoState::Other(format!("the state is of topic {}, not {topic}", stored.topic)));
    }
    if stored.watch.settings() != settings {
        return Err(NoState::Other("the state was made with other settings".into()));
    }
    Ok(stored.watch)
}

/// Writes the state of a folder: whole, or not at all.
///
/// # Errors
/// Where the disk does not take it.
pub fn write(folder: &Path, topic: &str, watch: &Watch) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let (path, new) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
    let text = serde_json::to_vec(&ToStore { format: FORMAT, topic, watch })?;
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, &path)
}

/// Keeps a state that does not fit beside the new one, once.
///
/// # Errors
/// Where it cannot be renamed.
pub fn set_aside(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(FILE);
    if path.exists() { fs::rename(&path, folder.join(format!("{FILE}.set-aside"))) } else { Ok(()) }
}

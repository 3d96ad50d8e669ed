//! What KuaiRand says of users beside the log: what they did before it begins, and who they are.
//!
//! Enters: the log's folder with `histories.parquet` and `users.parquet`, where they are there. Leaves: a
//! [`Past`] and a [`Profile`] a user, streamed in the order of the file.

use std::path::{Path, PathBuf};

use super::columns::TimeUnit;
use super::error::DatasetError;
use super::table::{Tables, columns_of};
use crate::ids::{ItemId, UserId};
use crate::time::EventTime;

/// What a user did before the log begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// Who.
    pub user: UserId,
    /// When they last did something; of the rest only the order is known.
    pub last: EventTime,
    /// What they watched, the newest last, what they watched again again.
    pub watched: Vec<ItemId>,
    /// What they viewed long, likewise.
    pub viewed_long: Vec<ItemId>,
}

/// What a platform knows of a user without watching them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Who.
    pub user: UserId,
    /// Columns and their values, where there are values.
    pub values: Vec<(String, String)>,
}

const USER: &str = "user_id";
const PAST: [&str; 4] = [USER, "last_time_ms", "watch_seq", "long_watch_seq"];
/// Counts that the file has in ranges too.
const COUNTS: [&str; 4] = ["follow_user_num", "fans_user_num", "friend_user_num", "register_days"];

/// Reads what users did before the log of this folder begins; nothing where it has no
/// `histories.parquet`.
///
/// # Errors
/// Where the file is there and cannot be read, or a row is none.
pub fn pasts(folder: &Path, mut each: impl FnMut(Past)) -> Result<(), DatasetError> {
    let Some(file) = beside(folder, "histories.parquet") else { return Ok(()) };
    let there = columns_of(&file, None)?;
    // A list is known by the path of its entries.
    let path = |name: &str| {
        let is_path = |column: &&String| {
            column.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        there.iter().find(is_path).cloned().unwrap_or_else(|| name.to_owned())
    };
    let wanted = PAST.map(path).to_vec();
    let mut tables = Tables::open_with_lists(file, wanted, None)?;
    while tables.advance()? {
        let items = |slot: usize| -> Vec<ItemId> {
            tables.list(slot).iter().filter_map(|cell| cell.id().ok()).map(ItemId::new).collect()
        };
        each(Past {
            user: UserId::new(tables.take(0, |cell| cell.id())?),
            last: tables.take(1, |cell| cell.time(TimeUnit::Millis))?,
            watched: items(2),
            viewed_long: items(3),
        });
    }
    Ok(())
}

/// Reads who the users of the log of this folder are; nothing where it has no `users.parquet`.
///
/// # Errors
/// Where the file is there and cannot be read, or a row is none.
pub fn profiles(folder: &Path, mut each: impl FnMut(Profile)) -> Result<(), DatasetError> {
    let Some(file) = beside(folder, "users.parquet") else { return Ok(()) };
    let mut wanted = columns_of(&file, None)?;
    wanted.retain(|name| name != USER && !COUNTS.contains(&name.as_str()));
    let names = wanted.clone();
    wanted.push(USER.to_owned());
    let mut tables = Tables::open(vec![file], wanted, None)?;
    while tables.advance()? {
        let value =
            |(slot, name): (usize, &String)| Some((name.clone(), tables.cell(slot).text()?));
        each(Profile {
            user: UserId::new(tables.take(names.len(), |cell| cell.id())?),
            values: names.iter().enumerate().filter_map(value).collect(),
        });
    }
    Ok(())
}

fn beside(folder: &Path, name: &str) -> Option<PathBuf> {
    Some(folder.join(name)).filter(|file| file.is_file())
}

//! `driftline state digest|get|stats|dump|snapshots`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Failure, item_state, output, snapshots};
use crate::config::Config;
use crate::event::Source;
use crate::feature::{Entry, UserState};
use crate::state::hot::{HotConnection, HotValue, Version};
use crate::state::{Access, ShardStore, StoreResources};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline state digest            equal for equal sets of events, however they came
  driftline state get alice
  driftline state get alice --hot   what the hot tier in Redis has; needs no store
  driftline state get video-1 --items
  driftline state stats
  driftline state dump              every user as one line of JSON
  driftline state snapshots list    what is in the object store; needs no store

Reads the committed state in worker.data_dir, beside a running worker or without one.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Look at item shards in place of user shards
    #[arg(long, global = true)]
    items: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// A digest by shard and over all
    Digest,
    /// One user, or one item
    Get {
        /// The user's or item's id
        id: String,
        /// Look in the hot tier, which any machine can reach, and not in worker.data_dir
        #[arg(long)]
        hot: bool,
    },
    /// Users or items, bytes and progress by shard
    Stats,
    /// Every user or item, one JSON object a line
    Dump,
    /// Snapshots of shards in the object store, of users and of items
    Snapshots {
        #[command(subcommand)]
        action: snapshots::Action,
    },
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    if let Action::Snapshots { action } = &args.action {
        return snapshots::run(action, config, args.json);
    }
    if let Action::Get { id, hot: true } = &args.action {
        if args.items {
            return Err("the hot tier holds users, no items: leave --hot or --items out".into());
        }
        return get_hot(config, id, args.json);
    }
    if args.items {
        let stores = item_state::open_all(config)?;
        match &args.action {
            Action::Digest => item_state::digest(&stores, args.json)?,
            Action::Get { id, .. } => return item_state::get(&stores, id, args.json),
            Action::Stats => item_state::stats(&stores, args.json)?,
            Action::Dump => item_state::dump(&stores)?,
            Action::Snapshots { .. } => {}
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stores = open_all(config)?;
    match &args.action {
        Action::Digest => digest(&stores, args.json)?,
        Action::Get { id, .. } => return get(&stores, id, args.json),
        Action::Stats => stats(&stores, args.json)?,
        Action::Dump => dump(&stores)?,
        Action::Snapshots { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

struct Opened {
    partition: i32,
    store: ShardStore,
    /// RocksDB's notes of this reader; removed with it.
    _scratch: Scratch,
}

/// An empty folder that goes with its owner.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub fn make() -> std::io::Result<Self> {
        let name = format!("driftline-reader-{}", uuid::Uuid::new_v4());
        let scratch = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&scratch.0)?;
        Ok(scratch)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "removing a reader's notes");
        }
    }
}

fn open_all(config: &Config) -> Result<Vec<Opened>, Failure> {
    let folder = &config.worker.data_dir;
    let resources = StoreResources::new(32 << 20, 8 << 20);
    partitions(folder, "user-")?.into_iter().map(|p| open(config, folder, p, &resources)).collect()
}

/// The shards that have a folder of this prefix.
pub(super) fn partitions(folder: &Path, prefix: &str) -> Result<Vec<i32>, Failure> {
    let mut partitions: Vec<i32> = std::fs::read_dir(folder)
        .map_err(|e| format!("worker.data_dir {}: {e}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix(prefix)?.parse().ok())
        .collect();
    partitions.sort_unstable();
    if partitions.is_empty() {
        return Err(format!("no shard in {}: has a worker run there?", folder.display()).into());
    }
    Ok(partitions)
}

fn open(
    config: &Config,
    folder: &Path,
    partition: i32,
    resources: &StoreResources,
) -> Result<Opened, Failure> {
    let scratch = Scratch::make()?;
    let path = folder.join(format!("user-{partition}"));
    let access = Access::Reader { scratch: scratch.path() };
    let store = ShardStore::open(&path, config.state.rules(), resources, &access)?;
    Ok(Opened { partition, store, _scratch: scratch })
}

fn digest(stores: &[Opened], as_json: bool) -> Result<(), Failure> {
    let mut all = Sha256::new();
    let mut users = 0;
    let mut shards = Vec::new();
    for opened in stores {
        let digest = opened.store.digest()?;
        all.update(&digest.sha256);
        users += digest.users;
        shards.push((opened.partition, digest));
    }
    let sha256: String = all.finalize().iter().map(|b| format!("{b:02x}")).collect();
    if as_json {
        let shards: Vec<Value> = shards
            .iter()
            .map(|(p, d)| json!({"shard": p, "users": d.users, "sha256": d.sha256}))
            .collect();
        println!("{}", json!({"users": users, "sha256": sha256, "shards": shards}));
        return Ok(());
    }
    let mut rows: Vec<Vec<String>> = shards
        .into_iter()
        .map(|(p, d)| vec![p.to_string(), d.users.to_string(), d.sha256])
        .collect();
    rows.push(vec!["all".into(), users.to_string(), sha256]);
    output::table(&["shard", "users", "sha256"], &rows);
    Ok(())
}

fn stats(stores: &[Opened], as_json: bool) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for opened in stores {
        let (stats, progress) = (opened.store.stats()?, opened.store.progress()?);
        if as_json {
            println!(
                "{}",
                json!({"shard": opened.partition, "stats": stats, "progress": progress})
            );
            continue;
        }
        rows.push(vec![
            opened.partition.to_string(),
            stats.estimated_keys.to_string(),
            output::bytes(stats.file_bytes),
            output::bytes(stats.memtable_bytes),
            progress.watch.next_offset.to_string(),
            progress.click.next_offset.to_string(),
            progress.feedback.next_offset.to_string(),
        ]);
    }
    if !as_json {
        output::table(
            &[
                "shard",
                "users (est.)",
                "files",
                "memory",
                "next watch",
                "next click",
                "next feedback",
            ],
            &rows,
        );
    }
    Ok(())
}

fn get(stores: &[Opened], user: &str, as_json: bool) -> Result<ExitCode, Failure> {
    for opened in stores {
        if let Some(bytes) = opened.store.get(user)? {
            let state = UserState::decode(&bytes)?;
            if as_json {
                println!("{}", user_json(user, &state));
            } else {
                print_user(opened.partition, user, &state, bytes.len());
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
    eprintln!("no user {user} in {} shards", stores.len());
    Ok(ExitCode::FAILURE)
}

/// How long a look-up waits for Redis.
const HOT_LIMIT: Duration = Duration::from_secs(5);

fn get_hot(config: &Config, user: &str, as_json: bool) -> Result<ExitCode, Failure> {
    let server = config.hot.server().ok_or(
        "there is no hot tier: set hot.address to a Redis, as the workers have it \
         (--set hot.address=HOST:PORT)",
    )?;
    let mut connection = HotConnection::open(&server, HOT_LIMIT, HOT_LIMIT)?;
    let Some(Some(bytes)) = connection.get(&[user])?.pop() else {
        eprintln!("no user {user} in the hot tier at {server}");
        return Ok(ExitCode::FAILURE);
    };
    let HotValue { version, shard, state: encoded, .. } = HotValue::decode(&bytes)?;
    let state = UserState::decode(encoded)?;
    if as_json {
        let mut shown = user_json(user, &state);
        shown["shard"] = shard.into();
        shown["next_watch"] = version.watch.into();
        shown["next_click"] = version.click.into();
        shown["next_feedback"] = version.feedback.into();
        println!("{shown}");
    } else {
        print_user(shard, user, &state, encoded.len());
        let Version { watch, click, feedback } = version;
        println!("folded to watch@{watch}, click@{click} and feedback@{feedback}");
    }
    Ok(ExitCode::SUCCESS)
}

fn dump(stores: &[Opened]) -> Result<(), Failure> {
    for opened in stores {
        opened.store.for_each_user(|user, bytes| {
            match UserState::decode(bytes) {
                Ok(state) => println!("{}", user_json(user, &state)),
                Err(error) => tracing::error!(user, %error, "skipped"),
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A user as JSON: what `get --json` and `dump` print.
fn user_json(user: &str, state: &UserState<'_>) -> Value {
    let entries = |source| -> Vec<Value> { state.recent(source).iter().map(entry_json).collect() };
    let totals = state.totals();
    json!({
        "user": user,
        "last_seen": state.newest().map(|at| at.millis()),
        "watches": totals.watches,
        "clicks": totals.clicks,
        "watched_ms": totals.watched_ms,
        "completions": totals.completions,
        "skips": totals.skips,
        "recent_watches": entries(Source::Watch),
        "recent_clicks": entries(Source::Click),
        "refused": state.refused().map(|subject| json!({
            "kind": subject.kind.name(),
            "subject": subject.id,
        })).collect::<Vec<_>>(),
        "buckets": state.buckets().iter().map(|b| json!({
            "start": b.start.millis(),
            "width_ms": b.resolution.width_ms(),
            "watches": b.counts.watches,
            "clicks": b.counts.clicks,
            "watched_ms": b.counts.watched_ms,
            "completions": b.counts.completions,
            "skips": b.counts.skips,
        })).collect::<Vec<_>>(),
        "periods": state.periods().iter().map(|p| json!({
            "index": p.index,
            "by_hour": p.by_hour,
            "seen_beyond_history": p.seen.len(),
        })).collect::<Vec<_>>(),
    })
}

fn entry_json(entry: &Entry<'_>) -> Value {
    json!({
        "item": entry.item,
        "event_time": entry.at.millis(),
        "id_hash": entry.id,
        "fraction": entry.watched_fraction(),
        "duration_s": entry.duration_s,
        "surface": entry.surface,
    })
}

fn print_user(partition: i32, user: &str, state: &UserState<'_>, bytes: usize) {
    let totals = state.totals();
    println!("user {user}, shard {partition}, {}", output::bytes(bytes as u64));
    println!(
        "{} watches ({:.0} s, {} completed, {} skipped), {} clicks, newest at {}",
        totals.watches,
        totals.watched_ms as f64 / 1000.0,
        totals.completions,
        totals.skips,
        totals.clicks,
        state.newest().map_or(0, |at| at.millis())
    );
    let refused: Vec<String> =
        state.refused().map(|subject| format!("{} {}", subject.kind.name(), subject.id)).collect();
    if !refused.is_empty() {
        println!("does not want {}", refused.join(", "));
    }
    let mut rows: Vec<(i64, Vec<String>)> = Vec::new();
    for (source, kind) in [(Source::Watch, "watch"), (Source::Click, "click")] {
        rows.extend(state.recent(source).iter().map(|e| {
            let part = if source == Source::Watch && e.duration_s > 0 {
                format!("{:.0} %", e.watched_fraction() * 100.0)
            } else {
                String::new()
            };
            let cells =
                vec![e.at.millis().to_string(), kind.into(), e.item.into(), part, e.surface.into()];
            (e.at.millis(), cells)
        }));
    }
    rows.sort_by_key(|(at, _)| -at);
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, cells)| cells).take(20).collect();
    output::table(&["event time", "kind", "item", "watched", "surface"], &rows);
}

//! `driftline lake status|compact|expire|snapshot|pins|unpin`

use std::process::ExitCode;
use std::sync::Arc;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::archive::chosen;
use super::{Failure, output};
use crate::config::Config;
use crate::lake::{CompactionRules, Lake, Snapshot};
use crate::objects::Objects;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline lake status                          what is in it
  driftline lake compact                         make one of each old hour's small files
  driftline lake expire --set lake.retention_days=90
  driftline lake snapshot --name run-7 --json    a list of files that stay until it is given up
  driftline lake unpin run-7

Run one compact at a time. docs/lake.md tells what readers see meanwhile.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Only these of lake.topics
    #[arg(long, global = true, value_delimiter = ',', value_name = "TOPIC,…")]
    topics: Vec<String>,
    /// JSON for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show rows, files and offsets of each topic
    Status,
    /// Make one of the small files of each hour that is older than lake.compact_after_hours
    Compact,
    /// Delete what is older than lake.retention_days, but for what is pinned
    Expire,
    /// List what is in the lake now, and keep it until `unpin`
    Snapshot {
        /// Its name [default: one that follows from what it lists]
        #[arg(long)]
        name: Option<String>,
    },
    /// Show the snapshots that are kept
    Pins,
    /// Give a snapshot up
    Unpin {
        /// Its name
        name: String,
    },
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let lake = Lake::new(Arc::new(Objects::open(&config.objects.settings())?));
    let topics: Vec<String> =
        chosen(&args.topics, config)?.iter().map(|name| config.topics.named(name)).collect();
    match &args.action {
        Action::Status => status(&lake, &topics, args.json)?,
        Action::Compact => compact(&lake, &topics, config, args.json)?,
        Action::Expire => expire(&lake, &topics, config, args.json)?,
        Action::Snapshot { name } => {
            if name.as_ref().is_some_and(|n| n.is_empty() || n.contains(['/', '.', '%'])) {
                return Err("a snapshot's name is not empty, and without / . %".into());
            }
            let (name, snapshot) = lake.pin(&topics, name.as_deref())?;
            if args.json {
                println!("{}", json!({ "name": name, "topics": snapshot.topics }));
            } else {
                show(&snapshot);
                println!("pinned as {name}");
            }
        }
        Action::Pins => {
            for (name, snapshot) in lake.pins()? {
                let files: usize = snapshot.topics.values().map(|t| t.files.len()).sum();
                let rows: u64 = snapshot.topics.values().map(|t| t.rows).sum();
                if args.json {
                    println!("{}", json!({ "name": name, "files": files, "rows": rows }));
                } else {
                    println!("{name}: {rows} rows in {files} files");
                }
            }
        }
        Action::Unpin { name } => {
            if !lake.pins()?.contains_key(name) {
                return Err(format!("{name} is not pinned; `driftline lake pins` lists").into());
            }
            lake.unpin(name)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(lake: &Lake, topics: &[String], as_json: bool) -> Result<(), Failure> {
    let snapshot = lake.look(topics)?;
    if as_json {
        println!("{}", serde_json::to_string(&snapshot)?);
    } else {
        show(&snapshot);
    }
    Ok(())
}

fn show(snapshot: &Snapshot) {
    let rows: Vec<Vec<String>> = snapshot
        .topics
        .iter()
        .map(|(topic, found)| {
            let offsets: i64 = found.offsets.iter().map(|(.., start, end)| end - start).sum();
            let bytes: u64 = found.files.iter().map(|f| f.bytes).sum();
            vec![
                topic.clone(),
                found.rows.to_string(),
                found.files.len().to_string(),
                output::bytes(bytes),
                offsets.to_string(),
            ]
        })
        .collect();
    output::table(&["topic", "rows", "files", "size", "offsets"], &rows);
}

fn compact(lake: &Lake, topics: &[String], config: &Config, as_json: bool) -> Result<(), Failure> {
    let rules = CompactionRules {
        after_hours: config.lake.compact_after_hours,
        bytes: config.lake.compact_bytes,
    };
    let bar = ProgressBar::new(0);
    let mut all = serde_json::Map::new();
    let mut rows = Vec::new();
    for topic in topics {
        let done = lake.compact(topic, &rules, |hours, total| {
            bar.set_length(total);
            bar.set_position(hours);
        })?;
        rows.push(vec![
            topic.clone(),
            done.merged.to_string(),
            done.made.to_string(),
            output::bytes(done.bytes_before),
            output::bytes(done.bytes_after),
            done.pinned.to_string(),
        ]);
        all.insert(topic.clone(), serde_json::to_value(done)?);
    }
    bar.finish_and_clear();
    if as_json {
        println!("{}", Value::Object(all));
    } else {
        output::table(&["topic", "files", "became", "size", "became", "hours pinned"], &rows);
    }
    Ok(())
}

fn expire(lake: &Lake, topics: &[String], config: &Config, as_json: bool) -> Result<(), Failure> {
    let days = config.lake.retention_days;
    if days == 0 {
        return Err("lake.retention_days is 0, which keeps all: set the days to keep".into());
    }
    let mut all = serde_json::Map::new();
    let mut rows = Vec::new();
    for topic in topics {
        let done = lake.expire(topic, days)?;
        rows.push(vec![
            topic.clone(),
            done.files.to_string(),
            output::bytes(done.bytes),
            done.pinned.to_string(),
        ]);
        all.insert(topic.clone(), serde_json::to_value(done)?);
    }
    if as_json {
        println!("{}", Value::Object(all));
    } else {
        output::table(&["topic", "files deleted", "size", "pinned"], &rows);
    }
    Ok(())
}

//! `driftline catalog import|show|sync`

mod import;
mod publish;
mod sync;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Failure, cluster};
use crate::config::Config;
use crate::event::CatalogItem;
use crate::kafka::WholeTopic;
pub(super) use publish::{Changes, Published, Publisher};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline catalog import items.csv --dry-run       show what would change
  driftline catalog import items.jsonl --prune       and delist what is not in the file
  driftline catalog import videos.parquet --item video_id --creator author_id --tags tag
  driftline catalog show v17
  driftline catalog sync --once                      from the database of [catalog.sync]
  driftline catalog sync --every 15m

Only what changed is published. Workers know it as soon as they have read it.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Publish the items of a CSV, Parquet or JSON lines file
    Import(Box<import::Args>),
    /// Show what is published of an item
    Show {
        /// The item
        item: String,
    },
    /// Publish the items of a PostgreSQL database, once or on a schedule
    Sync(sync::Args),
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let (_, topics) = cluster::connect(config)?;
    cluster::require(&topics, &[&config.topics.item_catalog()])?;
    match &args.action {
        Action::Import(args) => import::run(args, config),
        Action::Show { item } => show(item, config),
        Action::Sync(args) => sync::run(args, config),
    }
}

/// The item's last record, wherever its producer has put it.
fn show(item: &str, config: &Config) -> Result<ExitCode, Failure> {
    let name = config.topics.item_catalog();
    let mut topic = WholeTopic::open(&config.kafka.client(), &name, "driftline-catalog-tool")?;
    topic.mark_end()?;
    let mut last = None;
    let mut heard = Instant::now();
    while !topic.is_at_mark() {
        let Some(record) = topic.poll(Duration::from_millis(100)) else {
            if heard.elapsed() > Duration::from_secs(20) {
                return Err(
                    format!("{name} sends nothing; `driftline doctor` looks further").into()
                );
            }
            continue;
        };
        heard = Instant::now();
        if record.key() == Some(item.as_bytes()) {
            let place = format!("{name}-{}@{}", record.partition(), record.offset());
            let value = (!record.is_tombstone()).then(|| record.value().to_vec());
            last = Some((place, record.timestamp_ms(), value));
        }
    }
    let Some((place, written, value)) = last else {
        eprintln!("{item} is not in the catalog");
        return Ok(ExitCode::FAILURE);
    };
    let record = match value {
        Some(value) => {
            let found = CatalogItem::decode(Some(item.as_bytes()), &value)?;
            serde_json::to_value(found.record()?)?
        }
        None => serde_json::Value::Null,
    };
    let shown = json!({
        "item": item,
        "listed": !record.is_null(),
        "position": place,
        "written": written,
        "record": record,
    });
    println!("{}", serde_json::to_string_pretty(&shown)?);
    Ok(ExitCode::SUCCESS)
}

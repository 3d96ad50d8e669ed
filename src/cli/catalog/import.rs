//! `driftline catalog import`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;

use super::publish::{Changes, Published, Publisher};
use crate::cli::Failure;
use crate::cli::rows::parse_delimiter;
use crate::config::Config;
use crate::dataset::{ItemColumns, ItemFormat, Items, TimeUnit};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline catalog import items.csv --dry-run
  driftline catalog import items.jsonl --prune
  driftline catalog import videos.parquet --item video_id --creator author_id \\
      --duration-ms duration_ms --tags tag --published upload_dt

Without a flag, a field is read from the column of its own name, as schemas/catalog-item.v1.avsc
names it, where there is one; `item` must be there. Each row is the whole truth about its item.
Rows that are no items are shown and passed over; the exit code is then 1.")]
pub struct Args {
    /// CSV with a header, Parquet, or one JSON object a line
    file: PathBuf,
    /// csv, parquet or jsonl [default: what the file begins with, then how its name ends]
    #[arg(long)]
    format: Option<ItemFormat>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Delist items that are not in the file
    #[arg(long)]
    prune: bool,
    /// Most items that may be delisted, in percent of the catalog
    #[arg(long, value_name = "PERCENT", default_value_t = 100, requires = "prune")]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    prune_limit: u8,
    /// A summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    columns: Columns,
}

/// Which column holds what.
#[derive(clap::Args)]
#[command(next_help_heading = "Columns")]
struct Columns {
    /// The item's id
    #[arg(long, value_name = "COLUMN")]
    item: Option<String>,
    /// What people call it
    #[arg(long, value_name = "COLUMN")]
    title: Option<String>,
    /// Who made it
    #[arg(long, value_name = "COLUMN")]
    creator: Option<String>,
    /// Categories, the main one first
    #[arg(long, value_name = "COLUMN")]
    categories: Option<String>,
    /// Free tags
    #[arg(long, value_name = "COLUMN")]
    tags: Option<String>,
    /// Length in milliseconds
    #[arg(long, value_name = "COLUMN")]
    duration_ms: Option<String>,
    /// When it was published
    #[arg(long, value_name = "COLUMN")]
    published: Option<String>,
    /// Languages, as BCP 47 tags
    #[arg(long, value_name = "COLUMN")]
    languages: Option<String>,
    /// Countries in which it may be shown, as ISO 3166-1 alpha-2
    #[arg(long, value_name = "COLUMN")]
    available_countries: Option<String>,
    /// From when on it may be shown
    #[arg(long, value_name = "COLUMN")]
    available_from: Option<String>,
    /// Until when it may be shown
    #[arg(long, value_name = "COLUMN")]
    available_until: Option<String>,
    /// Whether it must not be shown
    #[arg(long, value_name = "COLUMN")]
    blocked: Option<String>,
    /// Further texts: an object in JSON lines, a map or struct in Parquet; else columns named
    /// attributes.KEY
    #[arg(long, value_name = "COLUMN")]
    attributes: Option<String>,
    /// What stands between the entries of a list that is one text
    #[arg(long, default_value = ",")]
    separator: String,
    /// What numbers in columns of times count: s, ms or us; dates of ISO 8601 need none
    #[arg(long, default_value = "ms")]
    time_unit: TimeUnit,
    /// Separator of CSV files [default: a comma, a tab in .tsv files]
    #[arg(long, value_parser = parse_delimiter)]
    delimiter: Option<u8>,
}

impl Columns {
    fn mapping(&self) -> ItemColumns {
        let named = [
            ("item", &self.item),
            ("title", &self.title),
            ("creator", &self.creator),
            ("categories", &self.categories),
            ("tags", &self.tags),
            ("duration_ms", &self.duration_ms),
            ("published", &self.published),
            ("languages", &self.languages),
            ("available_countries", &self.available_countries),
            ("available_from", &self.available_from),
            ("available_until", &self.available_until),
            ("blocked", &self.blocked),
            ("attributes", &self.attributes),
        ];
        let named = named.into_iter().filter_map(|(field, name)| Some((field, name.clone()?)));
        ItemColumns {
            named: named.collect(),
            separator: self.separator.clone(),
            time_unit: self.time_unit,
            delimiter: self.delimiter,
        }
    }
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let begun = Instant::now();
    let mut items = Items::open(&args.file, args.format, args.columns.mapping())?;
    let mut published = Published::open(config)?;
    published.catch_up()?;
    let mut publisher = Publisher::begin(config, &mut published.difference, args.dry_run)?;
    let mut number = 0;
    while let Some(row) = items.read()? {
        number += 1;
        publisher.take(number, row)?;
    }
    if args.prune {
        publisher.prune(args.prune_limit)?;
    }
    let changes = publisher.finish()?;
    print(args, &changes, begun.elapsed().as_secs_f64());
    let unseen = items.unseen_columns();
    if !unseen.is_empty() {
        eprintln!("! no row has {}; is a column's name misspelt?", unseen.join(", "));
    }
    let complete = changes.is_complete() && unseen.is_empty();
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(args: &Args, changes: &Changes, seconds: f64) {
    if args.json {
        let mut json = changes.to_json();
        json["dry_run"] = json!(args.dry_run);
        json["seconds"] = json!(seconds);
        println!("{json}");
        return;
    }
    changes.print_examples();
    let nothing = if args.dry_run { "; nothing was published" } else { "" };
    println!("{} in {seconds:.1} s{nothing}", changes.sentence());
}

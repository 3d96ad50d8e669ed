//! `driftline models import`: vectors that were trained elsewhere, through the same gates.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::Failure;
use crate::cli::train::{Ask, make};
use crate::config::Config;
use crate::embedding::Settings;
use crate::model::ials::IalsConfig;
use crate::training::read_factors;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline models import item_factors.parquet --unobserved 0.03 --regularization 0.02
  driftline models import factors.parquet --item-column id --vector-column features

A file, or a folder of them, has one row an item: its id, and a list of numbers, of all items equally
many. integrations/spark makes such with Spark's ALS. Users are folded in over them with the unobserved weight and regularization
that they were trained with. The version is judged on the newest part of the lake, as a trained one
is (train on what is older), and registered with its report; `driftline models promote` lets it serve.")]
pub struct Args {
    /// The Parquet file, or a folder of them
    file: PathBuf,
    /// The column of item ids
    #[arg(long, default_value = "item")]
    item_column: String,
    /// The column of vectors
    #[arg(long, default_value = "vector")]
    vector_column: String,
    /// Like which settings users are folded in: videos, dense, between, sessions
    #[arg(long, default_value = "videos", value_parser = parse_settings)]
    settings: Settings,
    /// The weight of what did not happen, that it was trained with, in place of the settings'
    #[arg(long)]
    unobserved: Option<f32>,
    /// The regularization that it was trained with, in place of the settings'
    #[arg(long)]
    regularization: Option<f32>,
    /// A snapshot of the lake that is pinned already [default: what is there now, pinned]
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
    /// Also write report.md, report.json and recall.svg into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Judge, and register nothing
    #[arg(long)]
    dry_run: bool,
}

fn parse_settings(name: &str) -> Result<Settings, String> {
    Settings::by_name(name).ok_or_else(|| {
        let known: Vec<&str> = Settings::TRAINER.iter().map(|settings| settings.name).collect();
        format!("known are {}", known.join(", "))
    })
}

pub fn run(args: &Args, config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let like = args.settings;
    let ials = IalsConfig {
        unobserved: args.unobserved.unwrap_or(like.ials.unobserved),
        regularization: args.regularization.unwrap_or(like.ials.regularization),
        ..like.ials
    };
    let settings = Settings { ials, ..like };
    let factors = read_factors(&args.file, &args.item_column, &args.vector_column, settings)?;
    let ask = Ask {
        snapshot: args.snapshot.as_deref(),
        report: args.report.as_ref(),
        trigger: None,
        source: Some(format!("{} (sha256 {})", args.file.display(), factors.sha256)),
        dry_run: args.dry_run,
        json,
    };
    make(&ask, Some(factors), config)
}

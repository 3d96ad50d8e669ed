//! `driftline models gc`

use std::process::ExitCode;

use serde_json::json;

use super::output;
use crate::cli::Failure;
use crate::config::Config;
use crate::registry::{Fate, Found, Kept, Registry};
use crate::time::wall_now;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline models gc --dry-run                         what would go, and why the others stay
  driftline models gc --set registry.keep_days=7

What stays: versions that one of the newest registry.keep_epochs changes of the aliases names, their
parents, what is younger than registry.keep_days, and what somebody is registering or promoting.
Safe beside everything else. `models lineage` still tells what a deleted version was made from.")]
pub struct Args {
    /// Delete nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(
    args: &Args,
    registry: &Registry,
    config: &Config,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let rules = config.registry.rules();
    if args.dry_run {
        let found = registry.survey(&rules, wall_now())?;
        if as_json {
            println!("{}", json!({ "would": found }));
        } else {
            show(&found, "would go");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let done = registry.collect(&rules, wall_now())?;
    if as_json {
        println!("{}", json!(done));
        return Ok(ExitCode::SUCCESS);
    }
    let all: Vec<Found> = done.deleted.iter().chain(&done.kept).cloned().collect();
    show(&all, "deleted");
    if done.lost > 0 {
        println!("{} notes of processes that died were removed", done.lost);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(all: &[Found], goes: &str) {
    let rows = all.iter().map(|found| {
        let what = if found.whole { "version" } else { "rest of a registration" };
        let fate = match &found.fate {
            Fate::Goes => goes.to_owned(),
            Fate::Stays(Kept::Alias { name, epoch }) => format!("stays: {name} at epoch {epoch}"),
            Fate::Stays(Kept::Claimed) => "stays: being registered or promoted".into(),
            Fate::Stays(Kept::Young) => "stays: young".into(),
            Fate::Stays(Kept::ParentOf(child)) => format!("stays: parent of {child}"),
        };
        vec![found.version.to_string(), what.into(), output::bytes(found.bytes), fate]
    });
    output::table(&["version", "what", "size", ""], &rows.collect::<Vec<_>>());
}

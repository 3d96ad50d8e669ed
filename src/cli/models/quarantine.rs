//! `driftline models quarantine`

use std::process::ExitCode;

use serde_json::json;

use super::time;
use crate::cli::Failure;
use crate::registry::Registry;
use crate::time::wall_now;

#[derive(clap::Args)]
#[command(after_help = "Example:
  driftline models quarantine 3f2a --why 'its lists name delisted items'

Nobody can make it champion or challenger any more, also by force. Aliases that name it stay as they are.")]
pub struct Args {
    /// The version
    version: String,
    /// What is wrong with it
    #[arg(long)]
    why: String,
}

pub fn run(args: &Args, registry: &Registry, as_json: bool) -> Result<ExitCode, Failure> {
    let version = registry.resolve(&args.version)?;
    let quarantine = registry.quarantine(version, &args.why, wall_now())?;
    if as_json {
        println!("{}", json!(quarantine));
    } else {
        println!(
            "{version} is in quarantine since {} UTC: {}",
            time(quarantine.at_ms),
            quarantine.why
        );
    }
    if let Some((name, _)) = registry.aliases()?.named().find(|(_, named)| *named == version) {
        eprintln!("{version} is still {name}: give that alias to another version");
    }
    Ok(ExitCode::SUCCESS)
}

//! `driftline models export`

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::output;
use crate::cli::Failure;
use crate::registry::Registry;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline models export champion /tmp/champion
  driftline models export 3f2a ./3f2a --json

Every byte is verified. manifest.json comes last: a folder without it is not whole.")]
pub struct Args {
    /// The version
    version: String,
    /// A folder that is empty or not there yet
    folder: PathBuf,
}

pub fn run(args: &Args, registry: &Registry, as_json: bool) -> Result<ExitCode, Failure> {
    let version = registry.resolve(&args.version)?;
    let manifest = registry.export(version, &args.folder)?;
    if as_json {
        println!("{}", json!({ "folder": args.folder, "manifest": manifest }));
    } else {
        let (files, bytes) = (manifest.files.len(), output::bytes(manifest.bytes()));
        println!("{version}: {files} files, {bytes}, in {}", args.folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

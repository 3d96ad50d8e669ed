//! `driftline config show`

use std::process::ExitCode;

use super::Failure;
use crate::config::Config;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline config show
  driftline --config my.toml --set state.ttl_days=90 config show")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Print every key with its effective value, secrets masked, as TOML
    Show,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    match args.action {
        Action::Show => print!("{}", toml::to_string(config)?),
    }
    Ok(ExitCode::SUCCESS)
}

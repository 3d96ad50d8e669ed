//! `driftline models …`

mod import;
mod promote;

use std::process::ExitCode;

use super::Failure;
use crate::config::Config;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Take vectors that were trained elsewhere
    Import(import::Args),
    /// Let a version serve
    Promote(promote::PromoteArgs),
    /// Go back to the version that served before
    Rollback(promote::RollbackArgs),
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    match &args.action {
        Action::Import(args) => import::run(args, config),
        Action::Promote(args) => promote::promote(args, config),
        Action::Rollback(args) => promote::rollback(args, config),
    }
}

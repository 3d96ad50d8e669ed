//! `driftline deadletters`

use std::process::ExitCode;

use super::Failure;
use crate::config::Config;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, _config: &Config) -> Result<ExitCode, Failure> {
    Ok(ExitCode::SUCCESS)
}

//! `driftline models …`: one file a subcommand.

mod diff;
mod export;
mod gc;
mod history;
mod import;
mod lineage;
mod list;
mod quarantine;
mod show;

use std::process::ExitCode;
use std::sync::Arc;

use super::{Failure, deploy, output};
use crate::config::Config;
use crate::objects::Objects;
use crate::registry::{Aliases, ModelVersion, Registry, RegistryError};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline models list                     versions, the newest first
  driftline models show champion            all that is known of the one that serves
  driftline models lineage 3f2a             which events made it, and which lists it ranked
  driftline models diff champion 3f2a       settings, data and metrics side by side
  driftline models promote 3f2a             let it serve on every worker
  driftline models gc --dry-run             what would be deleted, and why the others stay

A VERSION is its 16 digits, as many of the first as are enough, or champion, challenger or previous.
Versions are in the object store of [objects]; docs/models.md tells more.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// JSON for programs
    #[arg(long, global = true)]
    json: bool,
}

const PROMOTE_HELP: &str = "Examples:
  driftline models promote 1f0c3a9be2d45a77
  driftline models promote 1f0c --why 'new catalog'
  driftline models promote 1f0c --force 'the hold-out was a holiday'

Verifies files and golden lists, sends the version through the topic models, and decides in
model-control. Workers check it once more, load it beside what serves, and swap it in between two
requests. The version before stays loaded: `driftline models rollback` goes back to it.
`driftline deploy start` tries it on a share of users first.";
const ROLLBACK_HELP: &str = "Examples:
  driftline models rollback --why 'clicks fell'

Nothing is loaded: the version before is still there on every worker.";

#[derive(clap::Subcommand)]
enum Action {
    /// Show all versions, the newest first
    List,
    /// Show all that is known of a version
    Show(show::Args),
    /// Show what a version was made from, and which lists it ranked
    Lineage(lineage::Args),
    /// Show two versions side by side
    Diff(diff::Args),
    /// Judge and register vectors that were trained elsewhere
    Import(import::Args),
    /// Let a version serve at once: as `deploy promote`
    #[command(after_help = PROMOTE_HELP)]
    Promote(deploy::VersionArgs),
    /// Go back to the version that served before: as `deploy rollback`
    #[command(after_help = ROLLBACK_HELP)]
    Rollback(deploy::WhyArgs),
    /// Write a version's files into a folder
    Export(export::Args),
    // What changes which version serves comes here: import, promote.
    /// Show who changed which alias, and why
    History,
    /// Bar a version from serving
    Quarantine(quarantine::Args),
    /// Delete versions that nothing needs any more
    Gc(gc::Args),
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let registry = Registry::open(Arc::new(Objects::open(&config.objects.settings())?));
    match &args.action {
        Action::List => list::run(&registry, args.json),
        Action::Show(own) => show::run(own, &registry, args.json),
        Action::Lineage(own) => lineage::run(own, &registry, config, args.json),
        Action::Diff(own) => diff::run(own, &registry, args.json),
        Action::Import(own) => import::run(own, config, args.json),
        Action::Promote(own) => {
            deploy::promote(own, config, args.json)?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Rollback(own) => {
            deploy::roll_back(own, config, args.json)?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Export(own) => export::run(own, &registry, args.json),
        Action::History => history::run(&registry, args.json),
        Action::Quarantine(own) => quarantine::run(own, &registry, args.json),
        Action::Gc(own) => gc::run(own, &registry, config, args.json),
    }
}

/// A time for people: minutes are enough.
pub(super) fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |at| at.format("%Y-%m-%d %H:%M").to_string())
}

fn time_or_dash(ms: Option<i64>) -> String {
    ms.map_or_else(|| "-".into(), time)
}

fn version_or_dash(version: Option<ModelVersion>) -> String {
    version.map_or_else(|| "-".into(), |version| version.to_string())
}

/// What a version is at the moment.
fn roles(
    version: ModelVersion,
    aliases: &Aliases,
    registry: &Registry,
) -> Result<Vec<&'static str>, RegistryError> {
    let named = aliases.named().filter(|(_, named)| *named == version);
    let mut roles: Vec<_> = named.map(|(name, _)| name).collect();
    if registry.quarantined(version)?.is_some() {
        roles.push("quarantined");
    }
    Ok(roles)
}

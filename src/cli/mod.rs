//! The command line: one file per subcommand, each a thin shell over a room.

mod archive;
mod catalog;
mod cluster;
mod config;
mod dashboard;
mod deadletters;
mod demo;
mod deploy;
mod doctor;
mod drift;
mod evaluate;
mod experiments;
mod interrupt;
mod item_state;
mod lake;
mod metrics;
mod models;
mod monitor;
mod output;
mod pace;
mod recommend;
mod replay;
mod retrain;
mod rows;
mod simulate;
mod snapshots;
mod state;
mod topics;
mod train;
mod triggers;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{Config, Sources, load};
use crate::telemetry::start_logging;

/// Whatever a command ended with, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(
    name = "driftline",
    version,
    about = "Streaming recommender: watch and click events in through Kafka, recommendations out",
    after_help = "Examples:
  driftline topics apply                      make the topics
  driftline worker                            fold events, answer requests
  driftline recommend --user alice            ask once
  driftline simulate --for 60s                a world of users that watch and click
  driftline metrics                           what came of the lists
  driftline monitor                           tell when something has to be done
  driftline deploy run                        let better models in, step by step
  driftline dashboard                         see all of it in a browser; REST
  driftline catalog import items.csv          what is there to recommend, and to whom
  driftline doctor                            what is wrong, and what to do

Every config key can be given as --set section.key=value or DRIFTLINE_SECTION__KEY=value.",
    propagate_version = true
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand.
#[derive(clap::Args)]
struct Common {
    /// TOML file; `config/driftline.toml` documents every key
    #[arg(long, global = true, env = "DRIFTLINE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides one config key
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// Kafka's host:port,… (short for --set kafka.bootstrap=…; DRIFTLINE_BOOTSTRAP does the same)
    #[arg(long, global = true, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Fold events and answer requests
    Worker(worker::Args),
    /// Make the topics as topics/*.yaml describe them
    Topics(topics::Args),
    /// Publish what the platform says about its items
    Catalog(catalog::Args),
    /// Ask for recommendations once
    Recommend(recommend::Args),
    /// Send a public data set as events
    Replay(replay::Args),
    /// See how well what serves would have done on a data set
    Evaluate(evaluate::Args),
    /// Let a seeded world of users watch, click and ask
    Simulate(simulate::Args),
    /// Copy event topics to the lake as Parquet files
    Archive(archive::Args),
    /// Look after the lake: what is in it, small files, old files, lists for training
    Lake(lake::Args),
    /// Train item vectors on the lake, judge and register them
    Train(train::Args),
    /// Look after versions of the model: what there is, what made it, which one serves
    Models(models::Args),
    /// Try versions beside the one that serves, and let them serve or turn them down
    Deploy(deploy::Args),
    /// Serve users by arms, and see which is better
    Experiments(experiments::Args),
    /// See what came of lists, and what workers answered
    Metrics(metrics::Args),
    /// Watch the metrics, and tell when something has to be done
    Monitor(monitor::Args),
    /// See what the monitor has told
    Triggers(triggers::Args),
    /// See why something was told, and what a detector would have told
    Drift(drift::Args),
    /// Ask for a new model
    Retrain(retrain::Args),
    /// Serve the dashboard and REST
    #[command(alias = "gateway")]
    Dashboard(dashboard::Args),
    /// Look at the state of users
    State(state::Args),
    /// Look at refused records and send them again
    Deadletters(deadletters::Args),
    /// Check broker, topics, lag, state and clocks
    Doctor(doctor::Args),
    /// Everything in one process: topics, worker, simulated users, changing recommendations
    Demo(demo::Args),
    /// Show the effective configuration
    Config(config::Args),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  driftline completions bash > ~/.local/share/bash-completion/completions/driftline
  driftline completions zsh > ~/.zfunc/_driftline")]
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("driftline: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "driftline", &mut std::io::stdout());
        return Ok(ExitCode::SUCCESS);
    }
    let mut config = read_config(cli.common)?;
    if matches!(cli.command, Command::Demo(_)) && config.log.level == Config::default().log.level {
        // The demo tells its own story; what goes wrong still shows.
        config.log.level = "warn,librdkafka=error,rdkafka=error".into();
    }
    start_logging(&config.log.level, config.log.format)?;
    match cli.command {
        Command::Worker(args) => worker::run(&args, config),
        Command::Topics(args) => topics::run(&args, &config),
        Command::Catalog(args) => catalog::run(&args, &config),
        Command::Recommend(args) => recommend::run(&args, &config),
        Command::Replay(args) => replay::run(&args, &config),
        Command::Evaluate(args) => evaluate::run(&args, &config),
        Command::Simulate(args) => simulate::run(&args, &config),
        Command::Archive(args) => archive::run(&args, &config),
        Command::Lake(args) => lake::run(&args, &config),
        Command::Train(args) => train::run(&args, &config),
        Command::Models(args) => models::run(&args, &config),
        Command::Deploy(args) => deploy::run(&args, &config),
        Command::Experiments(args) => experiments::run(&args, &config),
        Command::Metrics(args) => metrics::run(&args, &config),
        Command::Monitor(args) => monitor::run(&args, &config),
        Command::Triggers(args) => triggers::run(&args, &config),
        Command::Drift(args) => drift::run(&args, &config),
        Command::Retrain(args) => retrain::run(&args, &config),
        Command::Dashboard(args) => dashboard::run(&args, &config),
        Command::State(args) => state::run(&args, &config),
        Command::Deadletters(args) => deadletters::run(&args, &config),
        Command::Doctor(args) => doctor::run(&args, &config),
        Command::Demo(args) => demo::run(&args, config),
        Command::Config(args) => config::run(&args, &config),
        Command::Completions { .. } => Ok(ExitCode::SUCCESS),
    }
}

fn read_config(common: Common) -> Result<Config, Failure> {
    let mut overrides = all_overrides(std::env::args());
    overrides.extend(common.bootstrap.map(|b| format!("kafka.bootstrap={b}")));
    let environment = std::env::vars().filter(|(name, _)| name.starts_with("DRIFTLINE_")).collect();
    Ok(load(&Sources { file: common.config, environment, overrides })?)
}

/// Every `--set`, wherever it stands: of a flag that may stand before and after the subcommand,
/// clap keeps the later ones only.
fn all_overrides(args: impl Iterator<Item = String>) -> Vec<String> {
    let mut args = args.skip(1);
    let mut all = Vec::new();
    while let Some(arg) = args.next() {
        if arg == "--set" {
            all.extend(args.next());
        } else if let Some(value) = arg.strip_prefix("--set=") {
            all.push(value.to_owned());
        }
    }
    all
}

/// Reads `30s`, `5m`, `2h`, `1d`, `250ms`.
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(format!("{text:?}: the unit must be ms, s, m, h or d")),
    };
    number
        .parse::<f64>()
        .ok()
        .filter(|n| n.is_finite() && *n >= 0.0)
        .map(|n| std::time::Duration::from_secs_f64(n * seconds))
        .ok_or_else(|| format!("{text:?} is no duration such as 30s or 5m"))
}

#[cfg(test)]
mod tests {
    use super::all_overrides;

    #[test]
    fn overrides_before_and_after_the_subcommand_all_count() {
        let line = "driftline --set a.b=1 worker --set=c.d=2 --set e.f=3 --json";
        let all = all_overrides(line.split(' ').map(str::to_owned));
        assert_eq!(all, ["a.b=1", "c.d=2", "e.f=3"]);
    }
}

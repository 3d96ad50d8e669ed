//! `driftline simulate judge` and `table`: what a closed loop made of scenarios.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::plot;
use super::verdict::{self, HEADER, Served, Verdict, World};
use crate::cli::{Failure, metrics, output, triggers};
use crate::config::Config;
use crate::time::{HOUR_MS, MINUTE_MS};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline simulate --scenario taste-shift --json > world.json
  driftline simulate judge world.json --plot loop.svg
  driftline simulate judge world.json --oracle oracle.json > verdict.json
  driftline simulate table */verdict.json

It reads retrain-triggers and metrics. The oracle is another world of the same flags whose people have
had the new tastes from the beginning (--at 0s). docs/loop.md tells what is judged by what.")]
pub struct JudgeArgs {
    /// What `driftline simulate --scenario … --json` ended with
    world: PathBuf,
    /// The same of a world that has nothing to get over
    #[arg(long, value_name = "FILE")]
    oracle: Option<PathBuf>,
    /// What the table calls it [default: the scenario's name]
    #[arg(long)]
    label: Option<String>,
    /// Draw click rates over event time
    #[arg(long, value_name = "SVG")]
    plot: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct TableArgs {
    /// What `driftline simulate judge` has printed
    #[arg(required = true)]
    verdicts: Vec<PathBuf>,
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let told =
        |error: &dyn std::error::Error| Failure::from(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| told(&e))?;
    serde_json::from_str(&text).map_err(|e| told(&e))
}

/// Prints a verdict as JSON.
pub fn judge(args: &JudgeArgs, config: &Config) -> Result<(), Failure> {
    let world: World = read(&args.world)?;
    let oracle: Option<World> = args.oracle.as_deref().map(read).transpose()?;
    let (_, told) = triggers::read(config)?;
    let mut verdict = verdict::judge(&world, &told, versions(config)?, oracle.as_ref())?;
    if let Some(label) = &args.label {
        verdict.scenario.clone_from(label);
    }
    if let Some(path) = &args.plot {
        let drawn = plot::svg(&world, oracle.as_ref(), &verdict);
        fs::write(path, drawn).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    println!("{}", serde_json::to_string_pretty(&verdict)?);
    Ok(())
}

/// Prints the table of verdicts.
pub fn table(args: &TableArgs) -> Result<(), Failure> {
    let verdicts: Vec<Verdict> =
        args.verdicts.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let rows: Vec<Vec<String>> = verdicts.iter().map(Verdict::row).collect();
    output::table(&HEADER, &rows);
    for verdict in &verdicts {
        for alarm in &verdict.false_alarms {
            println!("false alarm in {}: {} {}", verdict.scenario, alarm.action, alarm.reason);
        }
        if !verdict.system_alarms.is_empty() {
            let n = verdict.system_alarms.len();
            println!("{}: {n} alarms of errors or latency, by the wall's clock", verdict.scenario);
        }
    }
    Ok(())
}

/// When each version answered, by the minutes of `metrics`.
fn versions(config: &Config) -> Result<Vec<Served>, Failure> {
    let mut found: BTreeMap<String, Served> = BTreeMap::new();
    let mut hours: BTreeMap<i64, BTreeMap<String, i64>> = BTreeMap::new();
    for window in metrics::read(config)?.windows.into_values().filter(|window| window.lists > 0) {
        let version = window.model_version.clone();
        let served = found.entry(version.clone()).or_insert(Served {
            version,
            first: window.start,
            last: window.start,
            lists: 0,
            most: None,
        });
        served.first = served.first.min(window.start);
        served.last = served.last.max(window.start + MINUTE_MS);
        served.lists += window.lists;
        let hour = hours.entry(window.start.div_euclid(HOUR_MS) * HOUR_MS).or_default();
        *hour.entry(window.model_version).or_default() += window.lists;
    }
    for (start, hour) in hours {
        let most = hour.into_iter().max_by_key(|(_, lists)| *lists);
        if let Some(served) = most.and_then(|(version, _)| found.get_mut(&version)) {
            served.most.get_or_insert(start);
        }
    }
    let mut all: Vec<Served> = found.into_values().collect();
    all.sort_by_key(|served| served.first);
    Ok(all)
}

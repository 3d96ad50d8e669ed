//! `driftline experiments …`

mod change;
mod plot;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;

use super::{Failure, cluster, models, output};
use crate::config::Config;
use crate::event::{Encoding, ExperimentArm, ExperimentRecord, ExperimentStatus};
use crate::experiment::running::Experiments;
use crate::kafka::WholeTopic;

/// How long a read waits.
const WAIT: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline experiments apply diversity.toml        begin to serve users by its arms
  driftline experiments ramp diversity --coverage 50%
  driftline experiments override diversity --user tester --arm more
  driftline experiments assign alice                which arms a user is in
  driftline experiments report diversity            what came of it so far
  driftline experiments stop diversity --keep more  end it, and serve everybody by that arm

A definition, diversity.toml:
  name = \"diversity\"
  hypothesis = \"less of the same creator keeps people watching\"
  coverage = 0.2
  primary_metric = \"long_view_rate\"
  guardrails = [\"click_rate\"]
  [[arms]]                      # the first is the control
  name = \"control\"
  weight = 0.5
  [[arms]]
  name = \"more\"
  weight = 0.5
  [arms.settings]
  \"serving.diversity\" = 0.6

docs/experiments.md tells more.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// JSON for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Begin an experiment, or change it, as a file says
    Apply(ApplyArgs),
    /// Show all experiments
    List,
    /// Show all that is said of one
    Show(NameArgs),
    /// Change the share of users who are in it
    Ramp(RampArgs),
    /// Put a user into an arm, to try it out
    Override(OverrideArgs),
    /// End it
    Stop(StopArgs),
    /// Forget one that was stopped, and what was kept of it
    Forget(NameArgs),
    /// Show which arms a user is in
    Assign(AssignArgs),
    /// Show what came of it so far
    Report(report::Args),
}

#[derive(clap::Args)]
struct ApplyArgs {
    /// TOML: see the example of `driftline experiments --help`
    file: PathBuf,
    /// Only keep it, for nobody yet
    #[arg(long)]
    draft: bool,
}

#[derive(clap::Args)]
struct NameArgs {
    /// The experiment
    name: String,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline experiments ramp diversity --coverage 50%

Whoever is in an arm stays in it as the share rises; as it falls, users leave.")]
struct RampArgs {
    /// The experiment
    name: String,
    /// Share of its users who are in it, as 20% or 0.2
    #[arg(long, value_parser = share, value_name = "SHARE")]
    coverage: f64,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline experiments override diversity --user tester --arm more
  driftline experiments override diversity --user tester --clear

Lists of such users count in reports: use users of your own, and few.")]
struct OverrideArgs {
    /// The experiment
    name: String,
    /// The user
    #[arg(long)]
    user: String,
    /// The arm
    #[arg(long, required_unless_present = "clear", conflicts_with = "clear")]
    arm: Option<String>,
    /// By their hash again
    #[arg(long)]
    clear: bool,
}

#[derive(clap::Args)]
struct StopArgs {
    /// The experiment
    name: String,
    /// Serve everybody by this arm from now on, until it is forgotten
    #[arg(long, value_name = "ARM")]
    keep: Option<String>,
}

#[derive(clap::Args)]
struct AssignArgs {
    /// The user
    user: String,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    match &args.action {
        Action::Apply(own) => change::apply(own, config)?,
        Action::Ramp(own) => change::ramp(own, config)?,
        Action::Override(own) => change::put(own, config)?,
        Action::Stop(own) => change::stop(own, config)?,
        Action::Forget(own) => change::forget(&own.name, config)?,
        Action::List => list(&read(config)?, args.json)?,
        Action::Show(own) => println!("{}", json(find(&read(config)?, &own.name)?)?),
        Action::Assign(own) => assign(&read(config)?, &own.user, args.json),
        Action::Report(own) => report::run(own, &read(config)?, config, args.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads `20%` and `0.2`.
fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().ok().map(|number| number / whole);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("{text:?} is no share such as 20% or 0.2"))
}

/// A definition as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    hypothesis: String,
    #[serde(default)]
    seed: String,
    #[serde(default = "whole")]
    coverage: f64,
    #[serde(default)]
    namespace: String,
    #[serde(default = "everybody")]
    namespace_range: [f64; 2],
    arms: Vec<ArmOfFile>,
    #[serde(default)]
    overrides: BTreeMap<String, String>,
    primary_metric: String,
    #[serde(default)]
    guardrails: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArmOfFile {
    name: String,
    weight: f64,
    #[serde(default)]
    model_version: String,
    #[serde(default)]
    settings: toml::Table,
}

fn whole() -> f64 {
    1.0
}

fn everybody() -> [f64; 2] {
    [0.0, 1.0]
}

fn read_file(path: &Path) -> Result<ExperimentRecord, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let file: File = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let arms = file.arms.into_iter().map(|arm| {
        let mut settings = BTreeMap::new();
        flatten("", &arm.settings, &mut settings);
        let ArmOfFile { name, weight, model_version, .. } = arm;
        ExperimentArm { name, weight, model_version, settings }
    });
    Ok(ExperimentRecord {
        name: file.name,
        hypothesis: file.hypothesis,
        seed: file.seed,
        coverage: file.coverage,
        namespace: file.namespace,
        namespace_start: file.namespace_range[0],
        namespace_end: file.namespace_range[1],
        arms: arms.collect(),
        overrides: file.overrides,
        primary_metric: file.primary_metric,
        guardrails: file.guardrails,
        ..ExperimentRecord::default()
    })
}

/// Keys with their sections, whether written `"a.b" = 1`, `a.b = 1` or in a table of `a`.
fn flatten(path: &str, table: &toml::Table, into: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, into),
            toml::Value::String(text) => drop(into.insert(key, text.clone())),
            toml::Value::Array(all) => {
                let all: Vec<String> = all
                    .iter()
                    .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
                    .collect();
                into.insert(key, all.join(","));
            }
            other => drop(into.insert(key, other.to_string())),
        }
    }
}

/// What the topic holds.
fn read(config: &Config) -> Result<Experiments, Failure> {
    let topic = config.topics.experiments();
    cluster::require(&cluster::connect(config)?.1, &[&topic])?;
    let mut reader = WholeTopic::open(&config.kafka.client(), &topic, "driftline-experiments")?;
    reader.mark_end()?;
    let mut experiments = Experiments::default();
    while !reader.is_at_mark() {
        let Some(record) = reader.poll(WAIT) else { continue };
        let taken = experiments.take(record.key().unwrap_or_default(), record.value());
        if let Err(error) = taken {
            let (partition, offset) = (record.partition(), record.offset());
            eprintln!("{topic}-{partition}@{offset} is passed over: {error}");
        }
    }
    Ok(experiments)
}

fn find<'a>(experiments: &'a Experiments, name: &str) -> Result<&'a ExperimentRecord, Failure> {
    if let Some((_, record)) = experiments.get(name) {
        return Ok(record);
    }
    let known: Vec<&str> = experiments.all().map(|(one, _)| one.name.as_str()).collect();
    let known = if known.is_empty() { "there is none".into() } else { known.join(", ") };
    Err(format!("there is no experiment {name:?}: {known}").into())
}

fn json(record: &ExperimentRecord) -> Result<String, Failure> {
    Ok(String::from_utf8(record.encode(Encoding::Json)?)?)
}

fn list(experiments: &Experiments, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return experiments.all().try_for_each(|(_, record)| {
            println!("{}", json(record)?);
            Ok(())
        });
    }
    let rows: Vec<Vec<String>> = experiments
        .all()
        .map(|(experiment, record)| {
            let arms: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
            let status = match record.kept.as_str() {
                "" => record.status.name().to_owned(),
                kept => format!("{}, {kept} kept", record.status.name()),
            };
            let since = match record.status {
                ExperimentStatus::Stopped => record.stopped_at,
                _ => record.begun_at,
            };
            vec![
                experiment.name.clone(),
                status,
                if since > 0 { models::time(since) } else { "-".into() },
                format!("{:.0} %", record.coverage * 100.0),
                if record.namespace.is_empty() { "-".into() } else { record.namespace.clone() },
                arms.join(", "),
                record.hypothesis.clone(),
            ]
        })
        .collect();
    let header = ["experiment", "status", "since", "coverage", "namespace", "arms", "hypothesis"];
    output::table(&header, &rows);
    Ok(())
}

fn assign(experiments: &Experiments, user: &str, as_json: bool) {
    if as_json {
        let arms: serde_json::Map<String, serde_json::Value> = experiments
            .of(user)
            .map(|(one, arm)| (one.name.clone(), one.arms[arm].name.as_str().into()))
            .collect();
        let arm = experiments.assign(user, |_| true).arm;
        println!("{}", serde_json::json!({"user": user, "arms": arms, "arm": arm}));
        return;
    }
    let rows: Vec<Vec<String>> = experiments
        .of(user)
        .map(|(experiment, arm)| {
            let how = if experiment.overrides.contains_key(user) { "override" } else { "hash" };
            vec![experiment.name.clone(), experiment.arms[arm].name.clone(), how.to_owned()]
        })
        .collect();
    if rows.is_empty() {
        println!("{user} is in no experiment that runs");
    } else {
        output::table(&["experiment", "arm", "by"], &rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::definition::Definition;

    #[test]
    fn shares_are_read_as_percent_and_as_fractions() {
        assert_eq!((share("20%"), share("0.2"), share("100 %")), (Ok(0.2), Ok(0.2), Ok(1.0)));
        for text in ["120%", "-1", "much", "1.1", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_are_read_however_toml_writes_them() {
        let table: toml::Table = toml::from_str(
            "\"serving.diversity\" = 0.6\n[serving]\nmax_per_creator = 2\n\
             sources = [\"nearest\", \"trending\"]\n[ranker]\nclick = 1.5",
        )
        .unwrap();
        let mut settings = BTreeMap::new();
        flatten("", &table, &mut settings);
        let told: Vec<String> = settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            told,
            [
                "ranker.click=1.5",
                "serving.diversity=0.6",
                "serving.max_per_creator=2",
                "serving.sources=nearest,trending"
            ]
        );
    }

    #[test]
    fn the_example_of_the_help_is_a_definition() {
        use clap::{Args as _, Command};
        let help = Args::augment_args(Command::new("x")).render_help().to_string();
        let begin = help.find("  name = ").unwrap();
        let end = help.find("docs/experiments.md").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.toml");
        std::fs::write(&path, &help[begin..end]).unwrap();
        let record = read_file(&path).unwrap();
        assert_eq!(Definition::read(&record).unwrap().arms.len(), 2);
        assert_eq!(record.arms[1].settings["serving.diversity"], "0.6");
    }
}

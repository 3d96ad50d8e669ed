//! `driftline models diff`

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{output, time_or_dash, version_or_dash};
use crate::cli::Failure;
use crate::registry::{Manifest, Registry};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline models diff champion challenger
  driftline models diff previous champion --only-different

Metrics of two versions were measured on their own hold-outs: they compare where from and to are equal.")]
pub struct Args {
    /// A version
    a: String,
    /// Another one
    b: String,
    /// Leave out what is the same
    #[arg(long)]
    only_different: bool,
}

pub fn run(args: &Args, registry: &Registry, as_json: bool) -> Result<ExitCode, Failure> {
    let (a, b) = (registry.manifest(&args.a)?, registry.manifest(&args.b)?);
    let (facts_a, facts_b) = (facts(&a), facts(&b));
    let mut names: Vec<&Fact> = facts_a.keys().chain(facts_b.keys()).collect();
    names.sort();
    names.dedup();
    let both = names.into_iter().map(|name| (name, facts_a.get(name), facts_b.get(name)));
    let shown: Vec<_> = both.filter(|(_, a, b)| !args.only_different || a != b).collect();
    if as_json {
        let rows: Vec<_> = shown
            .iter()
            .map(
                |(name, a, b)| json!({ "what": name.1.clone(), "a": a, "b": b, "differs": a != b }),
            )
            .collect();
        println!("{}", json!({ "a": a.version, "b": b.version, "rows": rows }));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|(name, a, b)| {
            let text = |fact: Option<&String>| fact.cloned().unwrap_or_else(|| "-".into());
            let mark = if a == b { "" } else { "≠" };
            vec![name.1.clone(), text(*a), text(*b), mark.into()]
        })
        .collect();
    output::table(&["", &a.version.to_string(), &b.version.to_string(), ""], &rows);
    Ok(ExitCode::SUCCESS)
}

/// What is compared: its place, so that settings come before data and data before metrics, and its name.
type Fact = (u8, String);

fn facts(manifest: &Manifest) -> BTreeMap<Fact, String> {
    let Manifest { lineage, training, .. } = manifest;
    let mut all = BTreeMap::new();
    let mut put = |place: u8, name: &str, value: String| {
        all.insert((place, name.to_owned()), value);
    };
    put(0, "by", manifest.by.name().into());
    put(0, "code version", manifest.code_version.clone());
    put(0, "parent", version_or_dash(manifest.parent));
    put(0, "seed", manifest.seed.map_or_else(|| "-".into(), |seed| seed.to_string()));
    put(0, "dimension", manifest.dimension.to_string());
    put(0, "feature schema", manifest.feature_schema.clone());
    flat("settings", &training.settings, &mut |name, value| put(1, name, value));
    flat("hyperparameters", &training.hyperparameters, &mut |name, value| put(2, name, value));
    let counts = [
        ("users", training.users),
        ("items", training.items),
        ("interactions", training.interactions),
    ];
    counts.iter().for_each(|(name, count)| put(3, name, count.to_string()));
    put(3, "newest event", time_or_dash(lineage.watermark_ms));
    for (name, topic) in &lineage.topics {
        put(4, &format!("{name}: rows"), topic.rows.to_string());
        let ranges = topic.offsets.iter().map(|r| {
            let again = if r.generation > 0 { format!("@{}", r.generation) } else { String::new() };
            format!("{}{again}:{}–{}", r.partition, r.start, r.end - 1)
        });
        put(4, &format!("{name}: offsets"), ranges.collect::<Vec<_>>().join(" "));
    }
    if let Some(validation) = &manifest.validation {
        put(5, "validated from", time_or_dash(Some(validation.from_ms)));
        put(5, "validated to", time_or_dash(Some(validation.to_ms)));
        put(5, "targets", validation.targets.to_string());
        for metric in &validation.metrics {
            put(6, &metric.name, format!("{:.4}", metric.candidate));
        }
    }
    for (name, file) in &manifest.files {
        let digits: String = file.sha256.chars().take(8).collect();
        put(7, name, format!("{} {digits}…", output::bytes(file.bytes)));
    }
    all
}

/// Every value of a JSON tree under its path.
fn flat(path: &str, value: &Value, put: &mut dyn FnMut(&str, String)) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| flat(&format!("{path}.{name}"), value, put));
        }
        Value::Null => {}
        Value::String(text) => put(path, text.clone()),
        other => put(path, other.to_string()),
    }
}

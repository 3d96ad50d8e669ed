//! `driftline models show`

use std::process::ExitCode;

use serde_json::json;

use super::{output, roles, time, version_or_dash};
use crate::cli::Failure;
use crate::registry::{Blessing, Manifest, Metric, Registry};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline models show champion
  driftline models show 3f2a --verify        and read every byte of its files
  driftline models show 3f2a --json | jq .manifest.training.hyperparameters")]
pub struct Args {
    /// The version
    version: String,
    /// Read its files, and fail where one is not what was registered
    #[arg(long)]
    verify: bool,
}

pub fn run(args: &Args, registry: &Registry, as_json: bool) -> Result<ExitCode, Failure> {
    let manifest = registry.manifest(&args.version)?;
    let version = manifest.version;
    if args.verify {
        registry.verify(&manifest)?;
    }
    let roles = roles(version, &registry.aliases()?, registry)?;
    let quarantine = registry.quarantined(version)?;
    if as_json {
        let line = json!({ "roles": roles, "quarantine": quarantine, "manifest": manifest });
        println!("{line}");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "version {version}{}",
        match roles.as_slice() {
            [] => String::new(),
            roles => format!(" ({})", roles.join(", ")),
        }
    );
    if let Some(quarantine) = quarantine {
        println!("in quarantine since {} UTC: {}", time(quarantine.at_ms), quarantine.why);
    }
    let Manifest { by, code_version, training, .. } = &manifest;
    println!("made {} UTC by {}, {code_version}", time(manifest.created_at_ms), by.name());
    println!("parent {}", version_or_dash(manifest.parent));
    println!("vectors of {} components; features {}", manifest.dimension, manifest.feature_schema);
    let seed = manifest.seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
    println!(
        "trained on {} interactions of {} users with {} items in {:.1} s{seed}",
        training.interactions, training.users, training.items, training.seconds
    );
    for (name, blessing) in
        [("validation", &manifest.blessings.validation), ("loading", &manifest.blessings.loading)]
    {
        println!("{name}: {}", blessed(blessing));
    }
    println!();
    let files = manifest
        .files
        .iter()
        .map(|(name, file)| vec![name.clone(), output::bytes(file.bytes), file.sha256.clone()]);
    output::table(&["file", "size", "sha256"], &files.collect::<Vec<_>>());
    if let Some(validation) = &manifest.validation {
        let (from, to) = (time(validation.from_ms), time(validation.to_ms));
        println!("\nvalidated on {} targets, {from} to {to} UTC", validation.targets);
        let metrics: Vec<_> = validation.metrics.iter().map(row).collect();
        output::table(&["metric", "this", "champion", "difference", "interval"], &metrics);
    }
    Ok(ExitCode::SUCCESS)
}

fn blessed(blessing: &Blessing) -> String {
    let word = if blessing.granted { "passed" } else { "not passed" };
    match blessing.reasons.as_slice() {
        [] => word.into(),
        reasons => format!("{word}: {}", reasons.join("; ")),
    }
}

fn row(metric: &Metric) -> Vec<String> {
    let shown = |number: Option<f64>| number.map_or_else(|| "-".into(), |n| format!("{n:.4}"));
    let signed = |number: f64| format!("{number:+.4}");
    let (difference, interval) = match metric.difference {
        Some([low, mid, high]) => (signed(mid), format!("{} to {}", signed(low), signed(high))),
        None => ("-".into(), "-".into()),
    };
    let Metric { name, candidate, champion, .. } = metric;
    vec![name.clone(), shown(Some(*candidate)), shown(*champion), difference, interval]
}

//! `driftline models lineage`

use std::process::ExitCode;

use indicatif::ProgressBar;
use serde_json::json;

use super::{output, time, time_or_dash};
use crate::cli::Failure;
use crate::config::Config;
use crate::registry::{Manifest, ModelVersion, Registry, RegistryError, Served, TopicLineage};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline models lineage champion
  driftline models lineage 3f2a --requests 5     and the newest requests that it answered
  driftline models lineage 3f2a --files          and every file of the lake that it was made from

Which lists it ranked is what the lake has of the topic impressions: those of the last minutes are not
there yet, and of expired days no longer.")]
pub struct Args {
    /// The version; also one whose files were collected, by all of its digits
    version: String,
    /// Name so many of the newest requests that it answered
    #[arg(long, default_value_t = 0, value_name = "N")]
    requests: usize,
    /// Name every file of the lake
    #[arg(long)]
    files: bool,
    /// Do not look for lists that it ranked
    #[arg(long, conflicts_with = "requests")]
    no_requests: bool,
}

/// A version on the way to the root.
struct Ancestor {
    version: ModelVersion,
    /// None where nothing is known of it any more.
    manifest: Option<Manifest>,
    /// Whether its files are gone.
    collected: bool,
}

pub fn run(
    args: &Args,
    registry: &Registry,
    config: &Config,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let version = resolve(registry, &args.version)?;
    let own = find(registry, version)?;
    let Some(manifest) = &own.manifest else { return Err(missing(version).into()) };
    let ancestors = ancestors(registry, manifest)?;
    let served = match args.no_requests {
        true => None,
        false => Some(served(registry, version, config, args.requests)?),
    };
    if as_json {
        let ancestors: Vec<_> = ancestors
            .iter()
            .map(|a| {
                json!({
                    "version": a.version, "collected": a.collected,
                    "created_at_ms": a.manifest.as_ref().map(|m| m.created_at_ms),
                    "lineage": a.manifest.as_ref().map(|m| &m.lineage),
                })
            })
            .collect();
        let line = json!({
            "version": version, "collected": own.collected, "lineage": manifest.lineage,
            "training": manifest.training, "seed": manifest.seed,
            "code_version": manifest.code_version, "ancestors": ancestors, "served": served,
        });
        println!("{line}");
        return Ok(ExitCode::SUCCESS);
    }
    origin(&own, manifest, args.files);
    println!("\nparents");
    match ancestors.as_slice() {
        [] => println!("  none: it is a root"),
        all => all.iter().for_each(|ancestor| println!("  {}", told(ancestor))),
    }
    if let Some(served) = served {
        show_served(&served);
    }
    Ok(ExitCode::SUCCESS)
}

/// Also a version that was collected, which no prefix finds.
fn resolve(registry: &Registry, text: &str) -> Result<ModelVersion, RegistryError> {
    match registry.resolve(text) {
        Err(RegistryError::NotFound { collected: true, .. })
            if text.parse::<ModelVersion>().is_ok() =>
        {
            Ok(text.parse().unwrap_or(ModelVersion(0)))
        }
        found => found,
    }
}

fn missing(version: ModelVersion) -> RegistryError {
    RegistryError::NotFound { wanted: version.to_string(), collected: false }
}

fn find(registry: &Registry, version: ModelVersion) -> Result<Ancestor, RegistryError> {
    match registry.get(version) {
        Ok(manifest) => Ok(Ancestor { version, manifest: Some(manifest), collected: false }),
        Err(RegistryError::NotFound { .. }) => {
            let manifest = registry.collected(version)?;
            Ok(Ancestor { version, manifest, collected: true })
        }
        Err(error) => Err(error),
    }
}

/// Parents up to the root, or to where nothing is known any more.
fn ancestors(registry: &Registry, manifest: &Manifest) -> Result<Vec<Ancestor>, RegistryError> {
    let mut all: Vec<Ancestor> = Vec::new();
    let mut next = manifest.parent;
    while let Some(version) = next {
        let is_known = version == manifest.version || all.iter().any(|a| a.version == version);
        // A manifest names what it likes: going round for ever helps nobody.
        if is_known {
            break;
        }
        let found = find(registry, version)?;
        next = found.manifest.as_ref().and_then(|manifest| manifest.parent);
        all.push(found);
    }
    Ok(all)
}

fn served(
    registry: &Registry,
    version: ModelVersion,
    config: &Config,
    requests: usize,
) -> Result<Served, RegistryError> {
    let bar = ProgressBar::new(0).with_prefix("rows of impressions");
    let served = registry.served(version, &config.topics.impressions(), requests, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    served
}

fn origin(own: &Ancestor, manifest: &Manifest, with_files: bool) {
    let gone = if own.collected { "; its files were collected" } else { "" };
    let (version, made) = (own.version, time(manifest.created_at_ms));
    println!("version {version}, made {made} UTC by {}{gone}", manifest.by.name());
    let lineage = &manifest.lineage;
    let asked = lineage.trigger.as_deref().unwrap_or("somebody, by hand");
    println!("asked for by {asked}");
    if let Some(source) = &lineage.source {
        println!("imported from {source}");
    }
    if let Some(pin) = &lineage.snapshot {
        println!("read from the lake's snapshot {pin}");
    }
    println!("newest event {} UTC", time_or_dash(lineage.watermark_ms));
    let seed = manifest.seed.map_or_else(|| "-".into(), |seed| seed.to_string());
    println!("{}, seed {seed}, settings {}", manifest.code_version, manifest.training.settings);
    println!();
    let mut rows = Vec::new();
    for (name, topic) in &lineage.topics {
        rows.extend(topic_rows(name, topic));
    }
    output::table(&["topic", "partition", "offsets", "rows", "files", "newest (UTC)"], &rows);
    if !lineage.live_from.is_empty() {
        let from: Vec<_> = lineage.live_from.iter().map(ToString::to_string).collect();
        println!("live vectors learn interactions from offsets {} on", from.join(", "));
    }
    if with_files {
        println!();
        let files = lineage.topics.values().flat_map(|topic| &topic.files);
        let rows =
            files.map(|f| vec![f.key.clone(), f.sha256.clone().unwrap_or_else(|| "-".into())]);
        output::table(&["file", "sha256"], &rows.collect::<Vec<_>>());
    }
}

/// A row a range of offsets; what is known of the whole topic stands in the first.
fn topic_rows(name: &str, topic: &TopicLineage) -> Vec<Vec<String>> {
    let whole =
        [topic.rows.to_string(), topic.files.len().to_string(), time_or_dash(topic.watermark_ms)];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for range in &topic.offsets {
        let partition = match range.generation {
            0 => range.partition.to_string(),
            again => format!("{} (made anew {again}×)", range.partition),
        };
        rows.push(vec![String::new(), partition, format!("{} to {}", range.start, range.end - 1)]);
    }
    if rows.is_empty() {
        rows.push(vec![String::new(), "-".into(), "-".into()]);
    }
    rows[0][0] = name.to_owned();
    rows[0].extend(whole);
    rows
}

fn told(ancestor: &Ancestor) -> String {
    let gone = if ancestor.collected { ", its files were collected" } else { "" };
    match &ancestor.manifest {
        Some(manifest) => {
            let (made, newest) = (time(manifest.created_at_ms), manifest.lineage.watermark_ms);
            let newest = time_or_dash(newest);
            format!("{} made {made} UTC, newest event {newest} UTC{gone}", ancestor.version)
        }
        None => format!("{}: nothing is known of it here", ancestor.version),
    }
}

fn show_served(served: &Served) {
    println!("\nlists in the lake: {} of {}", served.lists, served.rows);
    if let (Some(first), Some(last)) = (served.first_ms, served.last_ms) {
        println!("  first {} UTC, last {} UTC", time(first), time(last));
    }
    for (at, request) in &served.newest {
        println!("  {} {request}", time(*at));
    }
}

//! `driftline models promote|rollback`: lets a version serve on every worker.

use std::process::ExitCode;

use crate::cli::train::GOLDEN;
use crate::cli::{Failure, cluster};
use crate::config::Config;
use crate::deployment::{Controller, verify_golden};
use crate::event::{FIRST_BASIS, GoldenList, ModelControl, ModelManifest};
use crate::model::Basis;
use crate::registry::{AliasChange, BASIS, Manifest, ModelVersion, Registry};
use crate::time::wall_now;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline models promote 1f0c3a9be2d45a77
  driftline models promote 1f0c --why 'new catalog'
  driftline models promote 1f0c --force 'the hold-out was a holiday'

Verifies files and golden lists, sends the version through the topic models, and decides in
model-control. Workers check it once more, load it beside what serves, and swap it in between two
requests. The version before stays loaded: `driftline models rollback` goes back to it.")]
pub struct PromoteArgs {
    /// The version, or what only it begins with
    version: String,
    /// Why, for the history
    #[arg(long, default_value = "promoted by hand")]
    why: String,
    /// Though a blessing is missing: why
    #[arg(long, value_name = "REASON")]
    force: Option<String>,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline models rollback --why 'clicks fell'

Nothing is loaded: the version before is still there on every worker.")]
pub struct RollbackArgs {
    /// Why, for the history
    #[arg(long, default_value = "rolled back by hand")]
    why: String,
}

pub fn promote(
    args: &PromoteArgs,
    registry: &Registry,
    config: &Config,
) -> Result<ExitCode, Failure> {
    let version = registry.resolve(&args.version)?;
    serve(registry, version, &args.why, args.force.as_deref(), config)
}

pub fn rollback(
    args: &RollbackArgs,
    registry: &Registry,
    config: &Config,
) -> Result<ExitCode, Failure> {
    let previous = registry.aliases()?.previous_champion;
    let previous = previous.ok_or("there is no version before: nothing else was ever promoted")?;
    // It has served: what it was promoted with holds.
    serve(registry, previous, &args.why, Some(&args.why), config)
}

fn serve(
    registry: &Registry,
    version: ModelVersion,
    why: &str,
    force: Option<&str>,
    config: &Config,
) -> Result<ExitCode, Failure> {
    let manifest = registry.get(version)?;
    let (basis, golden) = load(registry, &manifest)?;
    let topics = &config.topics;
    let settings = config.kafka.client();
    let (models, control) = (topics.models(), topics.model_control());
    cluster::require(&cluster::connect(config)?.1, &[&models, &control])?;
    let mut controller = Controller::open(&settings, &models, &control)?;
    let by = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let by = by.unwrap_or_else(|| "driftline models".into());
    let now = wall_now();
    let expected_epoch = registry.aliases()?.epoch;
    let change = AliasChange { expected_epoch, by: &by, why, force, at_ms: now };
    registry.set_champion(version, &change)?;
    // From here on the same command finishes what one that died has begun.
    let mut published = controller.published()?;
    let announced = announced(&manifest, golden);
    // What is there under this version may be somebody else's word, which workers have refused.
    let is_there = |there: &ModelManifest| {
        there.version as u64 == version.0
            && there.golden == announced.golden
            && there.offsets == announced.offsets
    };
    if !published.iter().any(is_there) {
        controller.publish(&basis, announced)?;
    }
    let served = controller.read()?.clone();
    let champion = version.to_string();
    if served.champion == champion {
        println!("{champion} serves already, since epoch {}", served.epoch);
        return Ok(ExitCode::SUCCESS);
    }
    let decided = controller.decide(ModelControl {
        champion: champion.clone(),
        previous: served.champion,
        by,
        reason: why.to_owned(),
        decided_at: now,
        ..ModelControl::default()
    })?;
    println!("{champion} serves from epoch {} on", decided.epoch);
    // Requests under way may still use what goes; it leaves a worker when the last has ended.
    let stays = [&decided.champion, &decided.previous];
    published.sort_by_key(|there| std::cmp::Reverse(there.interactions));
    let newest_first = published.iter().find(|there| there.trained_by == FIRST_BASIS).cloned();
    for there in published {
        let own = ModelVersion(there.version as u64).to_string();
        let is_fallback = decided.previous.is_empty()
            && newest_first.as_ref().is_some_and(|first| first.version == there.version);
        if !stays.contains(&&own) && !is_fallback {
            controller.retire(&there)?;
            println!("{own} is retired");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a version as workers will, and holds it against its golden lists.
fn load(registry: &Registry, manifest: &Manifest) -> Result<(Basis, Vec<GoldenList>), Failure> {
    let version = manifest.version;
    let basis = Basis::from_bytes(&registry.file(manifest, BASIS)?)?;
    let golden: Vec<GoldenList> = serde_json::from_slice(&registry.file(manifest, GOLDEN)?)
        .map_err(|error| format!("{GOLDEN} of {version}: {error}"))?;
    let schema = crate::ranking::schema_name();
    if manifest.feature_schema != schema {
        return Err(format!(
            "{version} was made for the features {}, this build has {schema}: train it again, or \
             promote it with the build that made it",
            manifest.feature_schema
        )
        .into());
    }
    verify_golden(&basis, &golden).map_err(|error| format!("{version} is refused: {error}"))?;
    Ok((basis, golden))
}

fn announced(manifest: &Manifest, golden: Vec<GoldenList>) -> ModelManifest {
    let training = &manifest.training;
    let settings = training.hyperparameters.get("settings").and_then(|name| name.as_str());
    ModelManifest {
        trained_by: manifest.by.name().into(),
        offsets: manifest.lineage.live_from.clone(),
        users: i64::try_from(training.users).unwrap_or(i64::MAX),
        interactions: i64::try_from(training.interactions).unwrap_or(i64::MAX),
        settings: settings.unwrap_or_default().into(),
        parent: manifest.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        golden,
        ..ModelManifest::default()
    }
}

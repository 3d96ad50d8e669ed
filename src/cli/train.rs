//! `driftline train`: from the lake to a registered version, with its report.

mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Failure, interrupt};
use crate::config::Config;
use crate::deployment::{GOLDEN_FILE, verify_golden};
use crate::lake::{Lake, Snapshot};
use crate::model::Basis;
use crate::objects::Objects;
use crate::registry::{
    BASIS, Blessing, Blessings, Lineage, Manifest, Metric, Origin, Registry, TrainingRun,
    Validation,
};
use crate::runtime::Stop;
use crate::time::wall_now;
use crate::training::{Candidate, DataFacts, Factors, Run, TrainingError, report};

/// What a version says of itself and the next run compares with, in `training.settings`.
const FACTS: &str = "data";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline archive --once --topics interactions,watch-events,click-events
  driftline train                          train on all of it, judge, register
  driftline train --report report          and write the report there
  driftline train --snapshot run-7         on a list that `driftline lake snapshot --name` made
  driftline models promote VERSION         let it serve

The newest part (training.hold_out) is held out; the candidate must not be worse there than what
serves. What is registered is what was judged. A run that is killed goes on from its last whole stage
(training.work_dir); the same snapshot and settings give the same bytes. Ends with 2 where a version
was trained and registered, and may not serve; with 3 where the data is not fit.

  driftline train --watch --promote        a run for each trigger of `driftline monitor`, one at a
                                           time; what may serve does

Of several that watch, one trains and the others stand by. docs/models.md tells more.")]
pub struct Args {
    /// A snapshot of the lake that is pinned already [default: what is there now, pinned]
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
    /// Also write report.md, report.json and recall.svg into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// What asked for it, as the version's lineage tells it
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// Train and judge, and register nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Train whenever a trigger asks for it, until stopped
    #[arg(long, conflicts_with_all = ["snapshot", "report", "trigger", "dry_run", "json"])]
    watch: bool,
    /// With --watch: let a version serve that may
    #[arg(long, requires = "watch")]
    promote: bool,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    if args.watch {
        return watch::run(config, args.promote);
    }
    let ask = Ask {
        snapshot: args.snapshot.as_deref(),
        report: args.report.as_ref(),
        trigger: args.trigger.clone(),
        source: None,
        dry_run: args.dry_run,
        json: args.json,
    };
    make(&ask, None, config)
}

/// What is wanted of a run.
pub struct Ask<'a> {
    pub snapshot: Option<&'a str>,
    pub report: Option<&'a PathBuf>,
    pub trigger: Option<String>,
    pub source: Option<String>,
    pub dry_run: bool,
    pub json: bool,
}

/// Trains, or takes `factors`; judges, reports and registers.
pub fn make(ask: &Ask<'_>, factors: Option<Factors>, config: &Config) -> Result<ExitCode, Failure> {
    let stop = interrupt::stop_on_signal()?;
    let begun = Instant::now();
    if let Some(folder) = ask.report {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let objects = Arc::new(Objects::open(&config.objects.settings())?);
    let (lake, registry) = (Lake::new(Arc::clone(&objects)), Registry::open(objects));
    let (name, snapshot) = snapshot(ask, &lake, config)?;
    let by = if factors.is_some() { Origin::Import } else { Origin::Train };
    let run = Run {
        lake: &lake,
        snapshot: &snapshot,
        name: &name,
        champion: champion(&registry)?,
        factors,
        config,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let candidate = match train(&run, &stop) {
        Err(error) if matches!(error.downcast_ref(), Some(TrainingError::Data(_))) => {
            eprintln!("driftline: {error}");
            return Ok(ExitCode::from(3));
        }
        trained => trained?,
    };
    let files = files(&candidate, &name)?;
    if let Some(folder) = ask.report {
        for (file, bytes) in &files {
            if file.starts_with("re") {
                let path = folder.join(file);
                std::fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))?;
            }
        }
    }
    if ask.json {
        println!("{:#}", report::json(&candidate, &name));
    } else {
        println!("{}", report::markdown(&candidate, &name));
    }
    let version = candidate.basis.version();
    // The same data and settings give the same version, whatever it was judged against this time.
    let is_there = registry.versions()?.iter().any(|there| there.version == version.into());
    if ask.dry_run {
        eprintln!("driftline: {version} is not registered: --dry-run");
    } else if is_there {
        eprintln!("driftline: {version} was registered before, and stays as it was");
    } else {
        let seconds = begun.elapsed().as_secs_f64();
        let manifest = Manifest {
            training: TrainingRun { seconds, ..training_run(&candidate, config) },
            ..manifest(&candidate, &run, by, ask)
        };
        registry.register(manifest, files)?;
        eprintln!("driftline: {version} is registered; `driftline models show {version}`");
    }
    if candidate.judgement.is_blessed {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("driftline: it may not serve: {}", candidate.judgement.reasons.join("; "));
    Ok(ExitCode::from(2))
}

/// The data: a pinned list.
fn snapshot(ask: &Ask<'_>, lake: &Lake, config: &Config) -> Result<(String, Snapshot), Failure> {
    if let Some(name) = ask.snapshot {
        let found = lake.pins()?.remove(name);
        let missing = || format!("{name} is not pinned; `driftline lake pins` lists what is");
        return Ok((name.to_owned(), found.ok_or_else(missing)?));
    }
    let topics = &config.topics;
    let read = [topics.interactions(), topics.watch_events(), topics.click_events()];
    Ok(lake.pin(&read, None)?)
}

/// What serves, and what is known of the data that it was trained on.
/// The basis of the champion and the facts of its data, where there is one.
pub fn champion(registry: &Registry) -> Result<Option<(Basis, Option<DataFacts>)>, Failure> {
    let Some(champion) = registry.aliases()?.champion else { return Ok(None) };
    let manifest = registry.get(champion)?;
    let basis = Basis::from_bytes(&registry.file(&manifest, BASIS)?)?;
    let facts = manifest.training.settings.get(FACTS).cloned();
    Ok(Some((basis, facts.and_then(|facts| serde_json::from_value(facts).ok()))))
}

fn train(run: &Run<'_>, stop: &Stop) -> Result<Candidate, Failure> {
    let bar = ProgressBar::new(0);
    let style = "{msg:28} {bar:30} {percent} %, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let mut progress = |stage: &str, done: u64, of: u64| {
        if bar.message() != stage {
            bar.reset();
            bar.set_message(stage.to_owned());
        }
        bar.set_length(of);
        bar.set_position(done);
        !stop.is_requested()
    };
    let trained = run.train(&mut progress);
    bar.finish_and_clear();
    Ok(trained?)
}

fn files(candidate: &Candidate, snapshot: &str) -> Result<Vec<(String, Bytes)>, Failure> {
    let golden = serde_json::to_vec(&candidate.golden)?;
    let json = format!("{:#}\n", report::json(candidate, snapshot));
    let markdown = report::markdown(candidate, snapshot);
    Ok(vec![
        (BASIS.into(), candidate.basis.to_bytes().into()),
        (GOLDEN_FILE.into(), golden.into()),
        ("report.json".into(), json.into()),
        ("report.md".into(), markdown.into()),
        ("recall.svg".into(), candidate.judgement.plot.clone().into()),
    ])
}

fn manifest(candidate: &Candidate, run: &Run<'_>, by: Origin, ask: &Ask<'_>) -> Manifest {
    let judgement = &candidate.judgement;
    let metrics = judgement.comparisons.iter().map(|one| Metric {
        name: one.metric.clone(),
        candidate: one.candidate,
        champion: Some(one.champion),
        difference: one.difference,
    });
    let loading = Basis::from_bytes(&candidate.basis.to_bytes())
        .map_err(|error| error.to_string())
        .and_then(|read| verify_golden(&read, &candidate.golden));
    Manifest {
        seed: (by == Origin::Train).then_some(run.config.training.seed),
        feature_schema: crate::ranking::schema_name().into(),
        dimension: candidate.basis.dim().get(),
        lineage: Lineage {
            live_from: candidate.live_from.clone(),
            watermark_ms: Some(candidate.basis.watermark().millis()),
            trigger: ask.trigger.clone(),
            source: ask.source.clone(),
            ..Lineage::of(run.name, run.snapshot)
        },
        parent: candidate.parent.map(Into::into),
        validation: Some(Validation {
            from_ms: judgement.from_ms,
            to_ms: judgement.to_ms,
            targets: judgement.targets,
            metrics: metrics.collect(),
        }),
        blessings: Blessings {
            validation: Blessing {
                granted: judgement.is_blessed,
                reasons: judgement.reasons.clone(),
            },
            loading: Blessing {
                granted: loading.is_ok(),
                reasons: match loading {
                    Ok(()) => {
                        vec![format!("{} golden lists are as trained", candidate.golden.len())]
                    }
                    Err(reason) => vec![reason],
                },
            },
        },
        ..Manifest::draft(candidate.basis.version().into(), by, wall_now())
    }
}

fn training_run(candidate: &Candidate, config: &Config) -> TrainingRun {
    let choice = &candidate.choice;
    let ials = &choice.settings.ials;
    TrainingRun {
        settings: json!({ "training": config.training, FACTS: candidate.facts }),
        hyperparameters: json!({
            "settings": choice.settings.name,
            "components": ials.dim.get(),
            "unobserved": ials.unobserved,
            "regularization": ials.regularization,
            "epochs": ials.epochs,
            "seed": ials.seed,
        }),
        users: candidate.users as u64,
        items: candidate.basis.items().len() as u64,
        interactions: candidate.positives as u64,
        seconds: 0.0,
    }
}

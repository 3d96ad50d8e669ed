//! `driftline evaluate`: how well what serves would have done on a data set.

mod ranker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::rows::{Columns, Gap, parse_gap};
use super::{Failure, interrupt};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::dataset::{Dataset, DatasetError, Format, ItemColumns, Items, RefusedRow};
use crate::evaluation::{
    Arm, Controls, GivenTarget, Log, Protocol, Run, Selection, Target, plan, read_negatives,
    report, sliding_svg,
};
use crate::event::{CatalogItem, MAX_COUNT};
use crate::runtime::Stop;
use crate::serving::{ListRules, SourceKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ProtocolName {
    /// Score every target, then learn it
    Prequential,
    /// Learn the periods before p, test on p
    Periods,
    /// Each user's last target; leaks the future
    LeaveLastOut,
    /// Given targets among given negatives
    Negatives,
    /// Learn the first part of the log, test on the rest
    TimeSplit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TargetName {
    /// Any watch
    NextWatch,
    /// Any click
    NextClick,
    /// A watch of 18 s, or to the end; of films, of four fifths
    LongView,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Repeats {
    /// What a user has had may be on the list, and is scored
    Keep,
    /// It is not on the list, and not scored
    Mask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Update {
    /// Tables learn each event once it is scored
    Event,
    /// Tables learn a period at its end, as published
    Period,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum VectorsName {
    /// They move with every interaction, as they serve; always there
    Online,
    /// They stay where training left them
    Frozen,
    /// There are none
    Off,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline evaluate movielens ml-1m
  driftline evaluate kuairand KuaiRand-Pure --target long-view --ablate --plot kuairand.svg
  driftline evaluate kuairand KuaiRand-Pure --target long-view --impressions --sample 0.1
  driftline evaluate kuairand KuaiRand-Pure --impressions --ranker online \\
      --test-from 2022-05-03T00:00:00+08:00
  driftline evaluate kuairand KuaiRand-Pure --target long-view --vectors online,frozen,off
  driftline evaluate sessions diginetica --protocol periods --update event --sample 0.25
  driftline evaluate movielens ml-1m --protocol leave-last-out --json result.json
  driftline evaluate movielens ml-1m --protocol negatives --negatives ml-1m.test.negative
  driftline evaluate columns log.csv --user-column uid --item-column vid --time-column ts \\
      --time-unit s --protocol time-split --train-share 0.9

Needs no broker: the same fold, tables and pipeline that a worker runs, in memory, under the same
configuration. Always compared with what is trending. Items a user has had are masked, but for the
format sessions and the protocol periods, where they are kept; --repeats decides otherwise.")]
pub struct Args {
    /// kuairand, movielens, sessions or columns
    format: Format,
    /// Files, or directories of files, of this format
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// What is scored when
    #[arg(long, value_enum, default_value = "prequential")]
    protocol: ProtocolName,
    /// What counts as wanted [default: next-click for sessions and where rows are clicks, else
    /// next-watch]
    #[arg(long, value_enum)]
    target: Option<TargetName>,
    /// Length of the lists
    #[arg(long, default_value_t = 20, value_parser = parse_top)]
    top: usize,
    /// Sources of the blend [default: all; where repeats are masked, all but unfinished, which puts
    /// nothing else forward]
    #[arg(long, value_delimiter = ',', value_name = "SOURCE,…")]
    sources: Vec<SourceKind>,
    /// Also each source alone, and the blend without it
    #[arg(long)]
    ablate: bool,
    /// Also how well scores tell what was taken of what was shown: AUC, GAUC, order within
    /// sessions, log loss, calibration. For kuairand; taken is what is a --target
    #[arg(long)]
    impressions: bool,
    /// Beside item vectors that move: nearest and the blend with others, compared on the items that
    /// training knew and on newer ones
    #[arg(long, value_enum, value_delimiter = ',', value_name = "online,frozen,off")]
    vectors: Vec<VectorsName>,
    /// The share of targets scored, and of users whose impressions are, above 0, at most 1
    #[arg(long, default_value_t = 1.0, value_parser = parse_share)]
    sample: f64,
    /// The share of places given to items drawn at random, in place of `serving.exploration`
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_exploration)]
    exploration: f64,
    /// Decides the sample and the intervals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Whether items that a user has had before may come again
    #[arg(long, value_enum)]
    repeats: Option<Repeats>,
    /// Score also the first event of a user
    #[arg(long)]
    newcomers: bool,
    /// Items of the catalog, in a CSV, Parquet or JSON lines file whose columns are named as the
    /// catalog's fields, or in movies.dat, movies.csv or u.item of MovieLens [default: for kuairand,
    /// videos.parquet in the log's folder; for movielens, such a file beside the ratings]
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Protocol periods: how long one is
    #[arg(long, default_value = "7d", value_name = "DURATION", value_parser = super::parse_duration)]
    period: std::time::Duration,
    /// Protocol periods: when tables learn
    #[arg(long, value_enum, default_value = "period")]
    update: Update,
    /// Protocol time-split: the share of events learnt, below 1
    #[arg(long, default_value_t = 0.8, value_parser = parse_share)]
    train_share: f64,
    /// Protocol negatives: lines of user, item and negatives
    #[arg(long, value_name = "FILE", required_if_eq("protocol", "negatives"))]
    negatives: Option<PathBuf>,
    /// Where the data has no sessions, a new one begins after so long without an event of the
    /// user; none for no sessions [default: 30m for kuairand, else none]
    #[arg(long, value_name = "DURATION", value_parser = parse_gap)]
    session_gap: Option<Gap>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw recall and MRR over time
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Count and pass over rows that cannot be read, instead of stopping at the first
    #[arg(long)]
    skip_bad_rows: bool,
    #[command(flatten)]
    ranker: ranker::RankerArgs,
    #[command(flatten)]
    columns: Columns,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| format!("{text:?} is no share above 0 and at most 1, such as 0.1"))
}

fn parse_exploration(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share from 0 to 1, such as 0.02"))
}

fn parse_top(text: &str) -> Result<usize, String> {
    let top = text.parse().ok().filter(|top| (1..=MAX_COUNT).contains(top));
    top.ok_or_else(|| format!("{text:?}: a list has 1 to {MAX_COUNT} items"))
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let stop = interrupt::stop_on_signal()?;
    // Before anything is read: places that cannot be written to are found out now.
    for file in args.json.iter().chain(&args.plot) {
        write(file, "")?;
    }
    let (protocol, given) = args.protocol()?;
    let Some(log) = args.read(&stop)? else { return stopped() };
    if args.ranker.ranker.is_some() {
        return args.evaluate_ranker(&log, &stop).map(|()| ExitCode::SUCCESS);
    }
    let catalog = args.read_catalog()?;
    let selection = args.selection(&log);
    let planned = plan(&log, &protocol, &selection)?;
    let sources = args.sources(selection.repeats);
    let bar = ProgressBar::new(planned.steps.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent} %, {eta} left") {
        bar.set_style(style);
    }
    let run = Run {
        log: &log,
        plan: &planned,
        given: &given,
        arms: args.arms(&sources),
        top: args.top,
        lists: ListRules { exploration: args.exploration, ..config.serving.list_rules() },
        repeats: selection.repeats,
        target: selection.target,
        basis: None,
    };
    let found =
        run.evaluate(config.state.rules(), &config.global, catalog, &config.items, |done| {
            bar.set_position(done as u64);
            !stop.is_requested()
        })?;
    bar.finish_and_clear();
    let Some(found) = found else { return stopped() };
    let head = args.head(&log, &protocol, &selection, planned.left_out);
    print!("{}", report::markdown(&head, &found));
    if let Some(file) = &args.json {
        write(file, &format!("{:#}\n", report::json(&head, &found)))?;
    }
    if let Some(file) = &args.plot {
        let title = format!("{}, {}, target {}", head.data, head.protocol, head.target);
        write(file, &sliding_svg(&title, &found, args.top))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn stopped() -> Result<ExitCode, Failure> {
    Err("stopped before the end: nothing is reported".into())
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|e| format!("cannot write {}: {e}", file.display()).into())
}

impl Args {
    fn protocol(&self) -> Result<(Protocol, Vec<GivenTarget>), Failure> {
        if self.negatives.is_some() && self.protocol != ProtocolName::Negatives {
            return Err("--negatives goes with --protocol negatives".into());
        }
        if self.impressions && self.protocol != ProtocolName::Prequential {
            return Err(
                "--impressions goes with --protocol prequential: others do not go through \
                        the log in its order"
                    .into(),
            );
        }
        Ok(match (self.protocol, &self.negatives) {
            (ProtocolName::Negatives, Some(file)) => {
                let given = read_negatives(file)?;
                (Protocol::Negatives(given.clone()), given)
            }
            (ProtocolName::Negatives, None) => {
                return Err("--protocol negatives needs --negatives FILE".into());
            }
            (ProtocolName::Prequential, _) => (Protocol::Prequential, Vec::new()),
            (ProtocolName::LeaveLastOut, _) => (Protocol::LeaveLastOut, Vec::new()),
            (ProtocolName::TimeSplit, _) if self.train_share == 1.0 => {
                return Err("--train-share 1 leaves nothing to test".into());
            }
            (ProtocolName::TimeSplit, _) => {
                (Protocol::TimeSplit { train_share: self.train_share }, Vec::new())
            }
            (ProtocolName::Periods, _) => {
                let length_ms = i64::try_from(self.period.as_millis()).unwrap_or(i64::MAX);
                if length_ms == 0 {
                    return Err("--period must be above 0".into());
                }
                let per_event = self.update == Update::Event;
                (Protocol::Periods { length_ms, per_event }, Vec::new())
            }
        })
    }

    /// All events of all paths in time order; none where it was told to stop.
    fn read(&self, stop: &Stop) -> Result<Option<Log>, Failure> {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} rows read") {
            bar.set_style(style);
        }
        let mut log = if self.impressions { Log::with_exposures() } else { Log::default() };
        let mut bad_rows = 0;
        for path in &self.paths {
            for row in Dataset::open(self.format, path, &self.columns.mapping())? {
                match row {
                    Ok(row) => log.push(&row),
                    Err(error) if error.is_one_row() && self.skip_bad_rows => bad_rows += 1,
                    Err(error) => return Err(explain(error)),
                }
                bar.inc(1);
                if stop.is_requested() {
                    return Ok(None);
                }
            }
        }
        bar.finish_and_clear();
        if bad_rows > 0 {
            eprintln!("{bad_rows} rows that cannot be read were passed over");
        }
        if self.impressions && log.exposures().is_empty() {
            let advice = "leave out --impressions, or read a log of what was shown as kuairand";
            return Err(format!("the data does not say what was shown; {advice}").into());
        }
        log.finish(Gap::sessions(self.session_gap, self.format));
        Ok(Some(log))
    }

    /// All items of the catalog; none where the data has none.
    fn read_catalog(&self) -> Result<Catalog, Failure> {
        let mut catalog = Catalog::default();
        self.each_catalog_item(|item| catalog.upsert(item))?;
        Ok(catalog)
    }

    fn each_catalog_item(&self, mut each: impl FnMut(&CatalogItem)) -> Result<(), Failure> {
        let mut files = Vec::new();
        match &self.catalog {
            Some(file) => files.push(self.open_catalog(file)?),
            None => {
                for path in &self.paths {
                    files.extend(Items::of_dataset(self.format, path)?);
                }
            }
        }
        for mut items in files {
            while let Some(row) = items.read()? {
                match row {
                    Ok(item) => each(&item),
                    Err(RefusedRow { row, reason, .. }) if self.skip_bad_rows => {
                        eprintln!("! row {row} of the catalog is passed over: {reason}");
                    }
                    Err(RefusedRow { row, reason, .. }) => {
                        let advice = "--skip-bad-rows passes over such rows";
                        return Err(format!("row {row} of the catalog: {reason}; {advice}").into());
                    }
                }
            }
        }
        Ok(())
    }

    fn open_catalog(&self, file: &Path) -> Result<Items, DatasetError> {
        match self.format {
            Format::MovieLens if Items::is_movies(file) => Items::of_movies(file),
            _ => Items::open(file, None, ItemColumns::default()),
        }
    }

    fn arms(&self, sources: &[SourceKind]) -> Vec<Arm> {
        let mut arms = Arm::all(sources, self.ablate);
        let wants = |vectors| self.vectors.contains(&vectors);
        let controls =
            Controls { frozen: wants(VectorsName::Frozen), off: wants(VectorsName::Off) };
        Arm::add_controls(&mut arms, controls);
        arms
    }

    fn selection(&self, log: &Log) -> Selection {
        let keeps = self.format == Format::Sessions || self.protocol == ProtocolName::Periods;
        let watches = log.events().iter().any(|event| event.is(Target::NextWatch));
        let target = match self.target {
            Some(TargetName::NextWatch) => Target::NextWatch,
            Some(TargetName::NextClick) => Target::NextClick,
            Some(TargetName::LongView) => Target::LongView,
            None if watches => Target::NextWatch,
            None => Target::NextClick,
        };
        Selection {
            target,
            repeats: self.repeats.map_or(keeps, |repeats| repeats == Repeats::Keep),
            newcomers: self.newcomers,
            sample: self.sample,
            seed: self.seed,
        }
    }

    fn sources(&self, repeats: bool) -> Vec<SourceKind> {
        if !self.sources.is_empty() {
            return self.sources.clone();
        }
        let scores = |kind: &SourceKind| repeats || *kind != SourceKind::Unfinished;
        SourceKind::ALL.into_iter().filter(scores).collect()
    }

    fn head(
        &self,
        log: &Log,
        protocol: &Protocol,
        selection: &Selection,
        left_out: crate::evaluation::LeftOut,
    ) -> report::Head {
        let paths: Vec<String> = self.paths.iter().map(|p| p.display().to_string()).collect();
        report::Head {
            data: format!("{} {}", self.format, paths.join(" ")),
            protocol: protocol.name(),
            target: selection.target.name().to_owned(),
            top: self.top,
            repeats: selection.repeats,
            sample: self.sample,
            seed: self.seed,
            events: log.events().len(),
            users: log.users(),
            items: log.items.len(),
            left_out,
        }
    }
}

fn explain(error: DatasetError) -> Failure {
    if error.is_one_row() {
        format!("{error}; --skip-bad-rows counts and passes over such rows").into()
    } else {
        error.into()
    }
}

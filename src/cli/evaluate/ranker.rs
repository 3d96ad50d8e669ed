//! `driftline evaluate … --ranker online`: how well the ranker tells what is taken of what is shown.

use std::fs::File;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Args, explain, stopped, write};
use crate::cli::Failure;
use crate::dataset::{Format, pasts, profiles};
use crate::evaluation::Log;
use crate::evaluation::ranker::{Columns, People, RankerRun, Row, report};
use crate::event::CatalogItem;
use crate::ids::stable_hash;
use crate::ranking::Item;
use crate::runtime::Stop;
use crate::time::EventTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Ranker {
    /// Learns from each exposure half an hour after it, in one pass
    Online,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Ranker")]
pub(super) struct RankerArgs {
    /// In place of sources and lists: how well the ranker tells what is taken of what is shown. Goes with
    /// --impressions; for kuairand, whose histories and profiles of users it reads too
    #[arg(long, value_enum, requires_all = ["impressions", "test_from"])]
    pub ranker: Option<Ranker>,
    /// Exposures from this time on are judged, such as 2022-05-03T00:00:00+08:00
    #[arg(long, value_name = "TIME", requires = "ranker", value_parser = parse_time)]
    test_from: Option<EventTime>,
    /// Exposures from this time on are not read
    #[arg(long, value_name = "TIME", requires = "ranker", value_parser = parse_time)]
    until: Option<EventTime>,
    /// Write every exposure's features, outcome and log-odds as Parquet
    #[arg(long, value_name = "FILE.parquet", requires = "ranker")]
    features_out: Option<PathBuf>,
}

fn parse_time(text: &str) -> Result<EventTime, String> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text);
    let time = parsed.map_err(|e| format!("{text:?}: {e}; write 2022-05-03T00:00:00+08:00"))?;
    Ok(EventTime::from_millis(time.timestamp_millis()))
}

/// What a ranker knows of an item from its record.
fn item_of(record: &CatalogItem) -> Item {
    let key = |text: &str| if text.is_empty() { 0 } else { stable_hash(text.as_bytes()) };
    let labels = || record.categories.iter().chain(&record.tags);
    Item {
        id: key(record.item.as_str()),
        creator: key(&record.creator),
        category: labels().next().map_or(0, |label| key(label)),
        duration_ms: record.duration_ms,
        published: record.published,
        attributes: labels().map(|label| key(label)).collect(),
    }
}

impl Args {
    /// Evaluates the ranker and prints what it found.
    pub(super) fn evaluate_ranker(&self, log: &Log, stop: &Stop) -> Result<(), Failure> {
        if self.format != Format::KuaiRand {
            return Err("--ranker needs a log that says what was shown: read it as kuairand".into());
        }
        let Some(test_from) = self.ranker.test_from else {
            return Err("--ranker needs --test-from".into());
        };
        let unknown = |number: u32| {
            let id = stable_hash(log.item_of(number).as_bytes());
            Item { id, ..Item::default() }
        };
        let mut items: Vec<Item> = (0..log.items.len() as u32).map(unknown).collect();
        self.each_catalog_item(|record| {
            if let Some(number) = log.items.find(record.item.as_str()) {
                items[number as usize] = item_of(record);
            }
        })?;
        let mut people = People::default();
        for folder in &self.paths {
            pasts(folder, |past| people.add_past(past)).map_err(explain)?;
            profiles(folder, |profile| people.add_profile(&profile)).map_err(explain)?;
        }
        let until = self.ranker.until.unwrap_or(EventTime::from_millis(i64::MAX));
        let run = RankerRun { log, items: &items, test_from, until };
        let bar = ProgressBar::new(run.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent} %, {eta} left") {
            bar.set_style(style);
        }
        let progress = |done: usize| {
            bar.set_position(done as u64);
            !stop.is_requested()
        };
        let found = match &self.ranker.features_out {
            None => run.evaluate(people, |_| Ok::<(), Failure>(()), progress)?,
            Some(path) => {
                let failed = |e| Failure::from(format!("cannot write {}: {e}", path.display()));
                let mut columns = Columns::new(create(path)?).map_err(failed)?;
                let push = |row: Row<'_>| columns.push(&row).map_err(failed);
                let found = run.evaluate(people, push, progress)?;
                columns.finish().map_err(failed)?;
                found
            }
        };
        bar.finish_and_clear();
        let Some(found) = found else { return stopped().map(|_| ()) };
        if found.tested.is_empty() {
            return Err("no exposure is at or after --test-from and before --until".into());
        }
        let paths: Vec<String> = self.paths.iter().map(|p| p.display().to_string()).collect();
        let data = format!("{} {}", self.format, paths.join(" "));
        print!("{}", report::markdown(&data, &found, self.seed));
        if let Some(file) = &self.json {
            write(file, &format!("{:#}\n", report::json(&data, &found, self.seed)))?;
        }
        Ok(())
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()).into())
}

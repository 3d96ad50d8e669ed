//! `driftline replay`: a data set as events.

mod resume;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use self::resume::{Deliveries, Noted};
use super::pace::{Pacer, Speed};
use super::rows::{Columns, Gap, parse_gap};
use super::{Failure, cluster, interrupt};
use crate::client::EventSender;
use crate::config::Config;
use crate::dataset::{Dataset, DatasetError, Format, Row, Sessions};
use crate::event::EventTopic;
use crate::kafka::{Delivery, ProducerKind};
use crate::runtime::Stop;
use crate::time::{DAY_MS, wall_now};

/// How often the resume file is written. A kill sends again what came after: deduplicated.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How long the last events may take to be delivered.
const FLUSH_LIMIT: Duration = Duration::from_secs(120);
/// Bad rows shown; the rest is only counted.
const SHOWN_BAD_ROWS: u64 = 5;
/// How far back in time a row may lie before it is pointed out that the rows are in no order.
const DISORDER_MS: i64 = DAY_MS;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline replay movielens ml-1m/ratings.dat
  driftline replay kuairand KuaiRand-1K/data --by-time --speed 1000x
  driftline replay sessions diginetica --limit 100000 --shift-to now
  driftline replay columns log.csv --user-column uid --item-column vid --time-column ts \\
      --time-unit s --watched-column played_ms --skip-bad-rows
  driftline replay movielens ml-32m --resume ml.progress     goes on there after a kill

Formats: kuairand (exposures with clicks, play times and dislikes), movielens (u.data, ratings.dat,
ratings.csv: a rating becomes a watch), sessions (lines of `session item`), columns (any CSV or
Parquet). An event sent twice is folded once: the same file gives the same event ids.")]
pub struct Args {
    /// kuairand, movielens, sessions or columns
    format: Format,
    /// A file, or a directory of files of this format
    path: PathBuf,
    /// Event time against wall time: 1000x, or max
    #[arg(long, default_value = "max", value_parser = Speed::parse)]
    speed: Speed,
    /// Send at most this many events
    #[arg(long)]
    limit: Option<u64>,
    /// Move all event times so that the last is now
    #[arg(long, value_name = "now", value_parser = ["now"])]
    shift_to: Option<String>,
    /// Sort by event time first: takes about 100 bytes of memory a row
    #[arg(long)]
    by_time: bool,
    /// Where the data has no sessions, a new one begins after so long without an event of the
    /// user; none for no sessions [default: 30m for kuairand, else none]
    #[arg(long, value_name = "DURATION", value_parser = parse_gap)]
    session_gap: Option<Gap>,
    /// Note in this file how far it has surely come, and go on there
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Count and pass over rows that cannot be read, instead of stopping at the first
    #[arg(long)]
    skip_bad_rows: bool,
    /// A summary as JSON at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    columns: Columns,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let (_, topics) = cluster::connect(config)?;
    let names = EventTopic::ALL.map(|topic| config.topics.events(topic));
    cluster::require(&topics, &names.each_ref().map(String::as_str))?;
    let stop = interrupt::stop_on_signal()?;
    let mut noted = Noted {
        format: args.format.to_string(),
        path: args.path.display().to_string(),
        by_time: args.by_time,
        rows: 0,
        shift_ms: 0,
    };
    let earlier = match &args.resume {
        Some(file) => Noted::read(file, &noted)?,
        None => None,
    };
    match earlier {
        Some(earlier) => noted = earlier,
        None if args.shift_to.is_some() => noted.shift_ms = shift_to_now(args, &stop)?,
        None => {}
    }
    let mut replay = Replay::new(args, config, noted, stop)?;
    // Before anything is sent: a place that cannot be written to is found out now.
    replay.note()?;
    let begun = Instant::now();
    let outcome = replay.run();
    replay.bar.finish_and_clear();
    replay.note()?;
    outcome?;
    replay.print_summary(begun.elapsed());
    Ok(ExitCode::SUCCESS)
}

fn open(args: &Args, on_bad_row: impl FnMut(&DatasetError)) -> Result<Dataset, Failure> {
    let dataset = Dataset::open(args.format, &args.path, &args.columns.mapping())?;
    if !args.by_time {
        return Ok(dataset);
    }
    let mut on_bad_row = on_bad_row;
    let sorted = dataset.by_time_with(|error| {
        if !args.skip_bad_rows {
            return Err(error);
        }
        on_bad_row(&error);
        Ok(())
    });
    sorted.map_err(explain)
}

/// The shift in milliseconds that makes the last event happen now. Reads everything once.
fn shift_to_now(args: &Args, stop: &Stop) -> Result<i64, Failure> {
    let dataset = Dataset::open(args.format, &args.path, &args.columns.mapping())?;
    let mut last = None;
    for row in dataset {
        match row {
            Ok(row) => last = last.max(Some(row.at)),
            Err(error) if error.is_one_row() && args.skip_bad_rows => {}
            Err(error) => return Err(explain(error)),
        }
        if stop.is_requested() {
            return Err("stopped before anything was sent".into());
        }
    }
    Ok(last.map_or(0, |last| wall_now().saturating_sub(last.millis())))
}

fn explain(error: DatasetError) -> Failure {
    if error.is_one_row() {
        format!("{error}; --skip-bad-rows counts and passes over such rows").into()
    } else {
        error.into()
    }
}

struct Replay<'a> {
    args: &'a Args,
    sender: EventSender,
    deliveries: Arc<Mutex<Deliveries>>,
    noted: Noted,
    last_note: Instant,
    sessions: Option<Sessions>,
    pacer: Pacer,
    bar: ProgressBar,
    stop: Stop,
    sent: u64,
    bad_rows: u64,
}

impl<'a> Replay<'a> {
    fn new(args: &'a Args, config: &Config, noted: Noted, stop: Stop) -> Result<Self, Failure> {
        Ok(Self {
            args,
            sender: EventSender::new(config, ProducerKind::Durable)?,
            deliveries: Arc::new(Mutex::new(Deliveries::from_row(noted.rows))),
            noted,
            last_note: Instant::now(),
            sessions: Gap::sessions(args.session_gap, args.format),
            pacer: Pacer::new(args.speed),
            bar: ProgressBar::new_spinner(),
            stop,
            sent: 0,
            bad_rows: 0,
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut bad = BadRows::default();
        let mut dataset = open(self.args, |error| bad.count(error))?;
        self.show_total(dataset.total_rows());
        let (mut number, mut newest, mut disorder) = (0, None, false);
        loop {
            if self.stop.is_requested() || self.args.limit.is_some_and(|limit| self.sent >= limit) {
                break;
            }
            let Some(row) = dataset.next() else { break };
            self.bar.set_position(dataset.rows_read());
            number += 1;
            match row {
                Ok(row) => {
                    let behind = newest.is_some_and(|at| row.at.plus_millis(DISORDER_MS) < at);
                    if behind && !std::mem::replace(&mut disorder, true) {
                        eprintln!("rows are in no order of time: --by-time sorts them first");
                    }
                    newest = newest.max(Some(row.at));
                    self.take(&row, number)?;
                }
                Err(error) if error.is_one_row() && self.args.skip_bad_rows => {
                    bad.count(&error);
                    if number > self.noted.rows {
                        self.lock().begin(false);
                    }
                }
                Err(error) => return Err(explain(error)),
            }
            self.note_now_and_then()?;
        }
        self.bad_rows = bad.count;
        self.sender.flush(FLUSH_LIMIT)?;
        self.check()
    }

    /// Sends a row, the `number`th from 1, unless an earlier run has.
    fn take(&mut self, row: &Row, number: u64) -> Result<(), Failure> {
        // Derived also for rows that are passed over: those after them may be of one session.
        let derived = match (&row.session, &mut self.sessions) {
            (None, Some(sessions)) => Some(sessions.of(&row.user, row.at)),
            _ => None,
        };
        if number <= self.noted.rows {
            return Ok(());
        }
        let session = row.session.as_deref().or(derived.as_deref()).unwrap_or_default();
        let shift_ms = self.noted.shift_ms;
        let (event, feedback) = (row.event(session, shift_ms), row.feedback(session, shift_ms));
        if event.is_none() && feedback.is_none() {
            self.lock().begin(false);
            return Ok(());
        }
        loop {
            let wait = self.pacer.until(row.at.plus_millis(shift_ms));
            // In steps, so that the resume file is written also in a quiet night.
            if wait.is_zero() || self.stop.sleep(wait.min(NOTE_EVERY)) {
                break;
            }
            self.note_now_and_then()?;
        }
        let number = self.lock().begin(true);
        let deliveries = Arc::clone(&self.deliveries);
        let delivery = Delivery::Call(Box::new(move |result| {
            lock(&deliveries).end(number, result.map(drop));
        }));
        match (event, feedback) {
            (Some(event), _) => self.sender.send(&event, delivery)?,
            (None, Some(feedback)) => self.sender.send_feedback(&feedback, delivery)?,
            (None, None) => unreachable!("it was looked at above"),
        }
        self.sent += 1;
        Ok(())
    }

    fn note_now_and_then(&mut self) -> Result<(), Failure> {
        if self.last_note.elapsed() < NOTE_EVERY {
            return Ok(());
        }
        self.last_note = Instant::now();
        self.check()?;
        self.note()
    }

    fn check(&self) -> Result<(), Failure> {
        match self.lock().failure() {
            None => Ok(()),
            Some(error) => Err(format!("an event was not delivered: {error}").into()),
        }
    }

    fn note(&self) -> Result<(), Failure> {
        let Some(file) = &self.args.resume else { return Ok(()) };
        Noted { rows: self.lock().delivered_rows(), ..self.noted.clone() }.write(file)
    }

    fn lock(&self) -> MutexGuard<'_, Deliveries> {
        lock(&self.deliveries)
    }

    fn show_total(&self, total: Option<u64>) {
        let style = |template| ProgressStyle::with_template(template);
        let style = match total {
            Some(total) => {
                self.bar.set_length(total);
                style("{bar:40} {human_pos}/{human_len} rows, {per_sec}, {eta} left")
            }
            None => style("{spinner} {human_pos} rows, {per_sec}"),
        };
        if let Ok(style) = style {
            self.bar.set_style(style);
        }
    }

    fn print_summary(&self, took: Duration) {
        let (delivered, rows) = {
            let deliveries = self.lock();
            (deliveries.delivered_events(), deliveries.delivered_rows())
        };
        let seconds = took.as_secs_f64();
        let rate = delivered as f64 / seconds.max(0.001);
        if self.args.json {
            let summary = json!({
                "events": delivered,
                "seconds": seconds,
                "events_per_second": rate,
                "rows": rows - self.noted.rows.min(rows),
                "rows_before": self.noted.rows,
                "bad_rows": self.bad_rows,
                "shift_ms": self.noted.shift_ms,
                "stopped": self.stop.is_requested(),
            });
            println!("{summary}");
            return;
        }
        let stopped = if self.stop.is_requested() { "stopped: " } else { "" };
        let before = match self.noted.rows {
            0 => String::new(),
            rows => format!(", after {rows} rows of an earlier run"),
        };
        let bad = match self.bad_rows {
            0 => String::new(),
            count => format!(", {count} bad rows passed over"),
        };
        println!("{stopped}{delivered} events in {seconds:.1} s, {rate:.0} events/s{before}{bad}");
    }
}

fn lock(deliveries: &Mutex<Deliveries>) -> MutexGuard<'_, Deliveries> {
    deliveries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows that could not be read.
#[derive(Default)]
struct BadRows {
    count: u64,
}

impl BadRows {
    fn count(&mut self, error: &DatasetError) {
        self.count += 1;
        if self.count <= SHOWN_BAD_ROWS {
            eprintln!("passed over: {error}");
        } else if self.count == SHOWN_BAD_ROWS + 1 {
            eprintln!("passed over: more, which are only counted");
        }
    }
}

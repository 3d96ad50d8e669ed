//! `driftline catalog sync`: an items table of PostgreSQL, once or on a schedule.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};
use serde_json::json;

use super::publish::{Changes, Published, Publisher};
use crate::cli::{Failure, interrupt, parse_duration};
use crate::config::{Config, SyncTls};
use crate::dataset::{Database, DatabaseError, DatabasePass, DatabaseTls};
use crate::runtime::Stop;
use crate::time::wall_now;

/// How often a pass is tried before it is given up until the next one is due.
const ATTEMPTS: u32 = 6;
/// The first wait before a pass is tried again; each later one is twice as long.
const BACK_OFF: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  DRIFTLINE_CATALOG__SYNC__URL=postgresql://me:secret@db/shop driftline catalog sync --once
  driftline catalog sync --every 15m
  driftline catalog sync --once --set catalog.sync.query='SELECT id AS item, name AS title FROM v'

The first pass reads everything, and so does one a day (catalog.sync.full_every_minutes); those
between read what changed, where catalog.sync.updated_at names a column that says so. Rows that are
no items are shown and passed over; with --once the exit code is then 1. A connection that dies is
tried again, and what was read before is kept.")]
pub struct Args {
    /// One pass over everything
    #[arg(long, conflicts_with = "every")]
    once: bool,
    /// A pass now and then again after so long: 15m, 1h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    #[arg(required_unless_present = "once")]
    every: Option<Duration>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a pass
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let sync = &config.catalog.sync;
    if sync.url.expose().is_empty() {
        return Err("catalog.sync.url is empty; set DRIFTLINE_CATALOG__SYNC__URL to \
                    postgresql://user:password@host/database"
            .into());
    }
    if args.every.is_some_and(|every| every < Duration::from_millis(100)) {
        return Err("--every: at least 100ms".into());
    }
    let tls = match sync.tls {
        SyncTls::Off => DatabaseTls::Off,
        SyncTls::Prefer => DatabaseTls::Prefer,
        SyncTls::Verify => DatabaseTls::Verify,
    };
    let url = sync.url.expose();
    let database = Database::new(url, tls, &sync.tls_ca, &sync.query, &sync.updated_at)?;
    let mut schedule = Schedule {
        args,
        config,
        stop: interrupt::stop_on_signal()?,
        // Connections are made and dropped in it; one thread does for both ends of one.
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        database,
        published: Published::open(config)?,
        newest: None,
        full_at: None,
    };
    schedule.run()
}

struct Schedule<'a> {
    args: &'a Args,
    config: &'a Config,
    stop: Stop,
    runtime: tokio::runtime::Runtime,
    database: Database,
    published: Published,
    /// The newest change that a pass has seen.
    newest: Option<i64>,
    /// When the last full pass ended.
    full_at: Option<Instant>,
}

impl Schedule<'_> {
    fn run(&mut self) -> Result<ExitCode, Failure> {
        let mut due = Instant::now();
        loop {
            let outcome = self.pass();
            let Some(every) = self.args.every else {
                let complete = outcome?.is_complete();
                return Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            };
            // The schedule is kept: a pass that took long does not move the ones after it, and
            // those that fell into it are left out.
            due += every;
            let late = Instant::now().saturating_duration_since(due);
            due += every.saturating_mul(late.as_nanos().div_ceil(every.as_nanos().max(1)) as u32);
            let wait = due.saturating_duration_since(Instant::now());
            self.say_next(outcome, wait);
            if self.stop.is_requested() || self.stop.sleep(wait) {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    fn say_next(&self, outcome: Result<Changes, Failure>, wait: Duration) {
        if let Err(failure) = outcome {
            eprintln!("! this pass was given up: {failure}");
        }
        if self.stop.is_requested() {
            return;
        }
        let at = wall_now() + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
        let at = clock(at);
        if self.args.json {
            println!("{}", json!({"next": at}));
        } else {
            println!("next pass at {at}");
        }
    }

    /// One pass, tried again while the connection dies.
    fn pass(&mut self) -> Result<Changes, Failure> {
        let full_every = Duration::from_secs(self.config.catalog.sync.full_every_minutes * 60);
        let is_full = !self.database.is_incremental()
            || self.newest.is_none()
            || self.full_at.is_none_or(|at| at.elapsed() >= full_every);
        let since = if is_full { None } else { self.newest };
        let mut back_off = BACK_OFF;
        for attempt in 1.. {
            match self.attempt(since) {
                Ok((pass, changes)) => {
                    self.newest = self.newest.max(pass.newest);
                    if is_full {
                        self.full_at = Some(Instant::now());
                    }
                    return Ok(changes);
                }
                Err(Failed::Lost(why)) if attempt < ATTEMPTS && !self.stop.is_requested() => {
                    let left = ATTEMPTS - attempt;
                    eprintln!(
                        "! {why}; trying again in {} s, {left} times more",
                        back_off.as_secs()
                    );
                    self.stop.sleep(back_off);
                    back_off *= 2;
                }
                Err(Failed::Lost(why) | Failed::Other(why)) => return Err(why),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn attempt(&mut self, since: Option<i64>) -> Result<(DatabasePass, Changes), Failed> {
        let begun = Instant::now();
        // What the attempt before has published is read back, and so is what others have.
        self.published.catch_up().map_err(Failed::Other)?;
        let difference = &mut self.published.difference;
        let mut publisher =
            Publisher::begin(self.config, difference, self.args.dry_run).map_err(Failed::Other)?;
        let mut number = 0;
        let read = self.runtime.block_on(self.database.read(since, |row| {
            number += 1;
            publisher.take(number, row).map_err(|failure| failure.to_string())
        }));
        let pass = match read {
            Ok(pass) => pass,
            Err(error) => {
                // What was handed over is good, and the next attempt must find it published.
                publisher.finish().map_err(Failed::Other)?;
                let lost = matches!(error, DatabaseError::Lost { .. });
                return Err(if lost {
                    Failed::Lost(error.into())
                } else {
                    Failed::Other(error.into())
                });
            }
        };
        let sync = &self.config.catalog.sync;
        if since.is_none() && sync.prune {
            publisher.prune(sync.prune_limit_percent).map_err(Failed::Other)?;
        }
        let changes = publisher.finish().map_err(Failed::Other)?;
        self.print(since, &changes, begun.elapsed());
        Ok((pass, changes))
    }

    fn print(&self, since: Option<i64>, changes: &Changes, took: Duration) {
        let seconds = took.as_secs_f64();
        if self.args.json {
            let mut json = changes.to_json();
            json["at"] = json!(clock(wall_now()));
            json["full"] = json!(since.is_none());
            json["dry_run"] = json!(self.args.dry_run);
            json["seconds"] = json!(seconds);
            println!("{json}");
            return;
        }
        changes.print_examples();
        let what = if since.is_none() { "everything" } else { "what changed" };
        let place = self.database.place();
        println!(
            "{} read {what} from {place}: {} in {seconds:.1} s{}",
            clock(wall_now()),
            changes.sentence(),
            if self.args.dry_run { "; nothing was published" } else { "" }
        );
    }
}

/// Why an attempt failed.
enum Failed {
    /// The connection died: another attempt may succeed.
    Lost(Failure),
    /// Another attempt would fail too.
    Other(Failure),
}

/// Wall time to the second, UTC.
fn clock(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

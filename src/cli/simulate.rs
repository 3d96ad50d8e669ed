//! `driftline simulate`: the seeded world of [`crate::simulation`] over a real Kafka.

mod catalog;
mod control;
mod driver;
mod judge;
mod lists;
mod plot;
mod record;
mod scramble;
mod settings;
mod tally;
mod trainings;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::json;

pub(super) use driver::Driver;
pub(super) use lists::Policy;
pub(super) use settings::Settings;
pub(super) use tally::Tally;

use super::pace::Speed;
use super::{Failure, cluster, interrupt, output, parse_duration};
use crate::config::Config;
use crate::runtime::Stop;
use crate::simulation::{Scenario, Shift, WorldConfig};
use crate::time::{DAY_MS, EventTime, HOUR_MS, MINUTE_MS, wall_now};
use record::Record;

/// How often a line is printed.
const EVERY: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  driftline simulate --for 60s                    the default world against running workers
  driftline simulate --days 3 --compare           and what random, popular and perfect lists get
  driftline simulate --users 500 --items 1000 --seed 7 --speed 3600x
  driftline simulate --taste-shift-at 2:0.6:5     on day 2, 60 % turn to categories 5 further on
  driftline simulate --policy popular --days 1    traffic without a worker
  driftline simulate --scenario taste-shift --at 4d --days 7 --json
  driftline simulate --listen                     and elsewhere, while it runs:
  driftline simulate inject taste-shift

The same flags give the same world. Its people know each other's ids from run to run: start a
second world under another --set topics.prefix=…, or its users begin with a past.")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// People
    #[arg(long, default_value_t = WorldConfig::default().users)]
    users: usize,
    /// Items, those published during the run included
    #[arg(long, default_value_t = WorldConfig::default().items)]
    items: usize,
    /// Everything random comes from it
    #[arg(long, default_value_t = WorldConfig::default().seed)]
    seed: u64,
    /// Days of event time
    #[arg(long, default_value_t = WorldConfig::default().days)]
    days: u32,
    /// Stop after this much wall time, however far it came
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    wall_limit: Option<Duration>,
    /// Event time against wall time: 600x, or max
    #[arg(long, default_value = "max", value_parser = Speed::parse)]
    speed: Speed,
    /// Let the last day end now; without it the world begins on 2025-06-02
    #[arg(long, value_name = "now", value_parser = ["now"])]
    shift_to: Option<String>,
    /// A change of tastes: on day DAY, a SHARE of people turn to categories BY further on
    #[arg(long = "taste-shift-at", value_name = "DAY:SHARE:BY", value_parser = parse_shift)]
    taste_shifts: Vec<TasteShift>,
    /// What happens to the world, or to what is told of it
    #[arg(long, value_name = "NAME", value_parser = scenario_parser())]
    scenario: Option<Scenario>,
    /// When it does: event time after the beginning [default: in the middle]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "scenario")]
    at: Option<Duration>,
    /// A command for the shell after so much event time; the world waits until it has ended
    #[arg(long = "run-at", value_name = "DURATION:COMMAND", value_parser = parse_command)]
    commands: Vec<(Duration, String)>,
    /// Let `driftline simulate inject` and the dashboard make things happen
    #[arg(long)]
    listen: bool,
    /// Event time at the beginning for which --speed does not hold
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    head_start: Duration,
    /// What a training takes of the world's time once it is asked for, however long it takes here: the
    /// world waits for it. For runs beside `driftline train --watch`
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    training_takes: Option<Duration>,
    /// Who makes the lists
    #[arg(long, value_enum, default_value_t = Policy::Served)]
    policy: Policy,
    /// Afterwards, run the same world with the other policies, locally, and show all click rates
    #[arg(long)]
    compare: bool,
    /// Items on a list
    #[arg(long, default_value_t = 10)]
    count: usize,
    /// Ask to leave out the last so many items shown to the user, as an app does that pages
    #[arg(long, value_name = "ITEMS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u16).range(0..=1000))]
    exclude_shown: u16,
    /// Visits under way at a time
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// How long to wait for a reply
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    /// A summary as JSON at the end; progress goes to stderr
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Say what a closed loop made of a scenario
    Judge(judge::JudgeArgs),
    /// Show what was judged, as a table
    Table(judge::TableArgs),
    /// Register the champion with its vectors dealt out to other items: a bad model
    Scramble,
    /// Let something happen in a world that runs with --listen
    Inject {
        /// What
        #[arg(value_parser = scenario_parser())]
        scenario: Scenario,
    },
}

fn scenario_parser() -> impl TypedValueParser<Value = Scenario> {
    let value = |scenario: Scenario| PossibleValue::new(scenario.name()).help(scenario.about());
    PossibleValuesParser::new(Scenario::ALL.map(value)).try_map(|name| name.parse::<Scenario>())
}

/// A change of tastes as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct TasteShift {
    day: f64,
    share: f64,
    by: usize,
}

fn parse_shift(text: &str) -> Result<TasteShift, String> {
    let shape =
        || format!("{text:?}: expected DAY:SHARE:BY such as 2:0.6:5, with a share of 0 to 1");
    let mut parts = text.split(':');
    let mut next = || parts.next().ok_or_else(shape);
    let day: f64 = next()?.parse().map_err(|_| shape())?;
    let share: f64 = next()?.parse().map_err(|_| shape())?;
    let by = next()?.parse().map_err(|_| shape())?;
    let fits = (0.0..=3_650.0).contains(&day) && (0.0..=1.0).contains(&share);
    if !fits || parts.next().is_some() {
        return Err(shape());
    }
    Ok(TasteShift { day, share, by })
}

fn parse_command(text: &str) -> Result<(Duration, String), String> {
    let (at, command) =
        text.split_once(':').ok_or_else(|| format!("{text:?}: expected 2d:COMMAND"))?;
    Ok((parse_duration(at)?, command.to_owned()))
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    match &args.command {
        Some(command) => command.run(config),
        None => simulate(args, config),
    }
}

impl Command {
    fn run(&self, config: &Config) -> Result<ExitCode, Failure> {
        match self {
            Command::Judge(own) => judge::judge(own, config)?,
            Command::Table(own) => judge::table(own)?,
            Command::Scramble => return scramble::run(config),
            Command::Inject { scenario } => {
                control::inject(config, *scenario)?;
                println!("{scenario}: {}", scenario.about());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn simulate(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let settings = settings(args)?;
    let (_, topics) = cluster::connect(config)?;
    let names = &config.topics;
    let mut needed = vec![names.watch_events(), names.click_events(), names.item_catalog()];
    if args.policy == Policy::Served {
        needed.extend([names.requests(), names.replies()]);
    }
    let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
    cluster::require(&topics, &needed)?;

    let stop = interrupt::stop_on_signal()?;
    let begun = Instant::now();
    let driver = Driver::start(config, settings.clone(), stop.clone())?;
    watch(&driver, &settings, args.json);
    let (tally, record) = driver.join()?;
    let took = begun.elapsed();
    let mut results = vec![(args.policy, tally)];
    if args.compare && !stop.is_requested() {
        results.extend(compare(&settings, results[0].1.now, &stop)?);
    }
    if args.json {
        println!("{}", summary_json(&settings, &results, &record, took));
    } else {
        print_summary(&results, took);
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &Args) -> Result<Settings, Failure> {
    let defaults = WorldConfig::default();
    if args.in_flight == 0 || args.count == 0 {
        return Err("--in-flight and --count must be at least 1".into());
    }
    let start = match args.shift_to {
        // A day's visits may be answered a little after its end.
        Some(_) => EventTime::from_millis(wall_now() - i64::from(args.days) * DAY_MS - MINUTE_MS),
        None => defaults.start,
    };
    let world = WorldConfig {
        seed: args.seed,
        users: args.users,
        items: args.items,
        // As many items by each creator as in the default world.
        creators: (args.items * defaults.creators / defaults.items).max(1),
        days: args.days,
        start,
        ..defaults
    };
    world.validate()?;
    let shift = |shift: &TasteShift| Shift::TasteShift {
        at: start.plus_millis((shift.day * DAY_MS as f64) as i64),
        share: shift.share,
        by: shift.by,
    };
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let middle = i64::from(args.days) * DAY_MS / 2;
    let mut settings = Settings {
        world,
        shifts: args.taste_shifts.iter().map(shift).collect(),
        count: args.count,
        exclude_shown: usize::from(args.exclude_shown),
        in_flight: args.in_flight,
        timeout: args.timeout,
        wall_limit: args.wall_limit,
        commands: args
            .commands
            .iter()
            .map(|(at, c)| (start.plus_millis(millis(*at)), c.clone()))
            .collect(),
        listens: args.listen,
        training_ms: args.training_takes.map(millis),
        head_start: start.plus_millis(millis(args.head_start)),
        ..Settings::new(args.policy, args.speed)
    };
    if let Some(scenario) = args.scenario {
        let at = start.plus_millis(args.at.map_or(middle, millis));
        settings.add(scenario.plan(start, at));
    }
    Ok(settings)
}

/// Prints a line every few seconds until the driver ends.
fn watch(driver: &Driver, settings: &Settings, to_stderr: bool) {
    let mut last = (Instant::now(), driver.tally());
    while !driver.is_finished() {
        std::thread::sleep(Duration::from_millis(50));
        if last.0.elapsed() < EVERY {
            continue;
        }
        let tally = driver.tally();
        let line = progress_line(settings, &tally, &tally.since(&last.1), last.0.elapsed());
        last = (Instant::now(), tally);
        if to_stderr {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }
}

/// One line: where the world is, how fast it goes, and how its lists are liked.
pub(super) fn progress_line(
    settings: &Settings,
    all: &Tally,
    window: &Tally,
    took: Duration,
) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    let mut line = format!(
        "{}  {:>6.0} visits/s  {:>6.0} events/s  CTR {:>5.2} % (overall {:.2} %)",
        simulated(all.now, settings.world.start),
        window.visits as f64 / seconds,
        window.events as f64 / seconds,
        100.0 * window.ctr(),
        100.0 * all.ctr(),
    );
    if settings.policy == Policy::Served {
        line += &format!(
            "  degraded {:.1} %  errors {}  p50 {:.1} ms  p99 {:.1} ms",
            100.0 * window.degraded_share(),
            all.errors,
            window.round_trip_ms(0.5),
            window.round_trip_ms(0.99),
        );
    }
    line
}

/// `day 3 07:42`, the first day being 1.
fn simulated(now: EventTime, start: EventTime) -> String {
    let since = now.since(start).max(0);
    let (day, rest) = (since / DAY_MS, since % DAY_MS);
    format!("day {} {:02}:{:02}", day + 1, rest / HOUR_MS, rest % HOUR_MS / MINUTE_MS)
}

/// The same world up to `until` under each policy that has not run, one thread each.
fn compare(
    settings: &Settings,
    until: EventTime,
    stop: &Stop,
) -> Result<Vec<(Policy, Tally)>, Failure> {
    eprintln!("running the same world with the other lists…");
    let others = Policy::LOCAL.into_iter().filter(|policy| *policy != settings.policy);
    std::thread::scope(|scope| {
        let threads: Vec<_> = others
            .map(|policy| {
                (policy, scope.spawn(move || lists::run_locally(settings, policy, until, stop)))
            })
            .collect();
        threads
            .into_iter()
            .map(|(policy, thread)| {
                let tally = thread.join().map_err(|_| "a comparison panicked")??;
                Ok((policy, tally))
            })
            .collect()
    })
}

fn summary_json(
    settings: &Settings,
    results: &[(Policy, Tally)],
    record: &Record,
    took: Duration,
) -> serde_json::Value {
    let policies: serde_json::Map<String, serde_json::Value> =
        results.iter().map(|(policy, tally)| (policy.name().to_owned(), tally.to_json())).collect();
    let (driven, tally) = (results[0].0, &results[0].1);
    let mut summary = json!({
        "seed": settings.world.seed,
        "users": settings.world.users,
        "items": settings.world.items,
        "policy": driven.name(),
        "simulated_seconds": tally.now.since(settings.world.start).max(0) / 1_000,
        "seconds": took.as_secs_f64(),
        "events_per_second": tally.events as f64 / took.as_secs_f64().max(0.001),
        "policies": policies,
    });
    if let (Some(all), serde_json::Value::Object(more)) =
        (summary.as_object_mut(), record.to_json())
    {
        all.extend(more);
    }
    summary
}

fn print_summary(results: &[(Policy, Tally)], took: Duration) {
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|(policy, tally)| {
            vec![
                policy.name().to_owned(),
                tally.visits.to_string(),
                tally.lists.to_string(),
                tally.shown.to_string(),
                tally.clicks.to_string(),
                format!("{:.2} %", 100.0 * tally.ctr()),
                format!("{:.3}", tally.clicks_per_list()),
            ]
        })
        .collect();
    println!();
    output::table(&["policy", "visits", "lists", "shown", "clicks", "CTR", "clicks/list"], &rows);
    let tally = &results[0].1;
    println!(
        "{} events in {:.1} s; {} lists degraded, {} without the user's last events, {} errors; \
         round trip p50 {:.1} ms, p99 {:.1} ms",
        tally.events,
        took.as_secs_f64(),
        tally.degraded,
        tally.stale,
        tally.errors,
        tally.round_trip_ms(0.5),
        tally.round_trip_ms(0.99),
    );
    if tally.unknown > 0 {
        println!(
            "{} items on lists are not of this world: the topics hold events of another one; \
             --set topics.prefix=… gives this one topics of its own",
            tally.unknown
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taste_shift_has_a_day_a_share_and_a_step() {
        assert_eq!(parse_shift("2:0.6:5"), Ok(TasteShift { day: 2.0, share: 0.6, by: 5 }));
        assert_eq!(parse_shift("1.5:1:3"), Ok(TasteShift { day: 1.5, share: 1.0, by: 3 }));
        for bad in ["", "2", "2:0.6", "2:1.6:5", "-1:0.5:1", "2:0.6:x", "2:0.6:5:1", "NaN:0.5:1"] {
            assert!(parse_shift(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn simulated_time_counts_days_from_one() {
        let start = WorldConfig::default().start;
        assert_eq!(simulated(start, start), "day 1 00:00");
        let later = start.plus_millis(2 * DAY_MS + 7 * HOUR_MS + 42 * MINUTE_MS);
        assert_eq!(simulated(later, start), "day 3 07:42");
    }
}

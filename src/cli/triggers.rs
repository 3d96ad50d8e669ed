//! `driftline triggers`

use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, cluster, interrupt, output};
use crate::config::Config;
use crate::event::{Encoding, RetrainTrigger, TriggerAction};
use crate::kafka::WholeTopic;

/// How long a read waits.
const WAIT: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline triggers                    what was told, the newest last
  driftline triggers --follow           and what comes
  driftline triggers --acting --json    what asks for something, a line of JSON each

`driftline drift explain EVENT_ID` shows the evidence.")]
pub struct Args {
    /// Go on until stopped
    #[arg(long)]
    follow: bool,
    /// Only those that ask for something
    #[arg(long)]
    acting: bool,
    /// JSON for programs, a line each, by the schema of the topic
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let (mut topic, all) = read(config)?;
    let is_shown = |trigger: &RetrainTrigger| !args.acting || trigger.action != TriggerAction::None;
    let shown: Vec<&RetrainTrigger> = all.iter().filter(|trigger| is_shown(trigger)).collect();
    if args.json {
        shown.iter().try_for_each(|trigger| print_json(trigger))?;
    } else if !args.follow || !shown.is_empty() {
        let rows: Vec<_> = shown.iter().map(|trigger| row(trigger)).collect();
        output::table(&HEADER, &rows);
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    let stop = interrupt::stop_on_signal()?;
    while !stop.is_requested() {
        let Some(record) = topic.poll(WAIT) else { continue };
        let Ok(trigger) = RetrainTrigger::decode(record.value()) else { continue };
        if is_shown(&trigger) {
            if args.json {
                print_json(&trigger)?;
            } else {
                println!("{}", row(&trigger).join("  "));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is on the topic now, and the topic to go on from there.
pub(super) fn read(config: &Config) -> Result<(WholeTopic, Vec<RetrainTrigger>), Failure> {
    let name = config.topics.retrain_triggers();
    let (_, there) = cluster::connect(config)?;
    cluster::require(&there, &[&name])?;
    let mut topic = WholeTopic::open(&config.kafka.client(), &name, "driftline-triggers")?;
    topic.mark_end()?;
    let mut all = Vec::new();
    while !topic.is_at_mark() {
        let Some(record) = topic.poll(WAIT) else { continue };
        match RetrainTrigger::decode(record.value()) {
            Ok(trigger) => all.push(trigger),
            Err(error) => {
                let (partition, offset) = (record.partition(), record.offset());
                eprintln!("{name}-{partition}@{offset} is passed over: {error}");
            }
        }
    }
    Ok((topic, all))
}

fn print_json(trigger: &RetrainTrigger) -> Result<(), Failure> {
    println!("{}", String::from_utf8(trigger.encode(Encoding::Json)?)?);
    Ok(())
}

const HEADER: [&str; 8] =
    ["at", "type", "state", "action", "segment", "metric", "event id", "reason"];

fn row(trigger: &RetrainTrigger) -> Vec<String> {
    let at = chrono::DateTime::from_timestamp_millis(trigger.emitted_at);
    let action = match trigger.suppressed_by.as_str() {
        "" => trigger.action.name().to_owned(),
        _ => format!("({})", trigger.wanted_action.name()),
    };
    let reason = match trigger.suppressed_by.as_str() {
        "" => trigger.reason.clone(),
        why => format!("{} Held back by {why}.", trigger.reason),
    };
    vec![
        at.map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M").to_string()),
        trigger.trigger_type.name().to_owned(),
        trigger.state.name().to_owned(),
        action,
        trigger.segment.clone(),
        trigger.metric.name.clone(),
        trigger.event_id.clone(),
        reason,
    ]
}

//! `driftline retrain`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::{Failure, cluster};
use crate::config::Config;
use crate::kafka::{Producer, ProducerKind, Tracker};
use crate::monitor::encode_and_send;
use crate::time::{EventTime, wall_now};
use crate::trigger;

/// How long the broker may take.
const DELIVERY_LIMIT: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline retrain --reason \"new categories in the catalog\"
  driftline retrain --reason \"as asked by ops\" --wish ticket-4711     once, however often it is run

It goes out whatever fires or cools down: a person has decided. Whoever trains decides what to do with
it while a run is open.")]
pub struct Args {
    /// Why, for those who read it later
    #[arg(long)]
    reason: String,
    /// Names the wish: the same one asks once. Without it each call is one of its own
    #[arg(long, value_name = "ID")]
    wish: Option<String>,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    if args.reason.trim().is_empty() {
        return Err("say why: --reason \"…\"".into());
    }
    let (_, there) = cluster::connect(config)?;
    cluster::require(&there, &[&config.topics.retrain_triggers()])?;
    let wish = args.wish.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let now = EventTime::from_millis(wall_now());
    let trigger = trigger::manual(&config.monitor.model, args.reason.trim(), &wish, now);
    let client = config.kafka.client();
    let producer = Producer::new(&client, ProducerKind::Durable, "driftline-retrain")?;
    let tracker = Arc::new(Tracker::default());
    encode_and_send(config, &producer, &trigger, &tracker)?;
    tracker.wait(DELIVERY_LIMIT)?;
    println!("{}", trigger.event_id);
    Ok(ExitCode::SUCCESS)
}

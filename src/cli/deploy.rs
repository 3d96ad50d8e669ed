//! `driftline deploy …`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Failure, cluster, interrupt, output};
use crate::config::Config;
use crate::deployer::{self, Observer, Operator, Who};
use crate::deployment::{ALL_USERS, Decision, decide};
use crate::event::{ModelAck, ModelControl, RolloutArm};
use crate::registry::ModelVersion;
use crate::telemetry::{HealthReport, HttpServer, install_metrics};

/// How long `--wait` looks.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline deploy run                          try what trainers bless, step by step
  driftline deploy start 1f0c                   try this one
  driftline deploy status                       what is tried, how far it is, who is behind
  driftline deploy promote 1f0c --why 'now'     serve it at once, without steps
  driftline deploy rollback --why 'clicks fell' turn the candidate down, or go back to the one before
  driftline deploy freeze --why 'release day'   nothing goes forward by itself
  driftline deploy history                      what was decided, by whom, and why

Any number of `deploy run` may run: each decision is one's. [deployment] says how a version is tried;
docs/models.md tells more.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// JSON for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Try what trainers bless, and let it serve or turn it down
    Run,
    /// Show what is decided and what every worker has made of it
    Status,
    /// Try a version beside the one that serves
    Start(VersionArgs),
    /// Let a version serve on every worker, at once
    Promote(VersionArgs),
    /// Turn the candidate down, or go back to the version that served before
    Rollback(WhyArgs),
    /// Let nothing go forward by itself; what harms is still turned down
    Freeze(WhyArgs),
    /// Let it go on
    Unfreeze(WhyArgs),
    /// Show what was decided in the last 30 days
    History,
}

#[derive(clap::Args)]
pub struct VersionArgs {
    /// The version, or what only it begins with
    version: String,
    /// Why, for the history
    #[arg(long, default_value = "by hand")]
    why: String,
    /// Though a blessing is missing: why
    #[arg(long, value_name = "REASON")]
    force: Option<String>,
    /// Return when every worker follows
    #[arg(long)]
    wait: bool,
}

#[derive(clap::Args)]
pub struct WhyArgs {
    /// Why, for the history
    #[arg(long, default_value = "by hand")]
    why: String,
    /// Return when every worker follows
    #[arg(long)]
    wait: bool,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    require_topics(config)?;
    match &args.action {
        Action::Run => return serve(config),
        Action::Status => return status(config, args.json),
        Action::History => return history(config, args.json),
        Action::Start(own) => {
            let decided = with_version(own, config, Operator::begin)?;
            tell(&decided, args.json);
            wait_for(own.wait, &decided, config)?;
        }
        Action::Promote(own) => promote(own, config, args.json)?,
        Action::Rollback(own) => roll_back(own, config, args.json)?,
        Action::Freeze(own) => freeze(own, true, config, args.json)?,
        Action::Unfreeze(own) => freeze(own, false, config, args.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets a version serve at once; `models promote` does the same.
pub fn promote(args: &VersionArgs, config: &Config, json: bool) -> Result<(), Failure> {
    require_topics(config)?;
    let mut before = 0;
    let decided = with_version(args, config, |operator, version, who| {
        before = operator.controller().read()?.epoch;
        operator.promote(version, who)
    })?;
    if decided.epoch == before && !json {
        println!("{} serves already, since epoch {before}", decided.champion);
    } else {
        tell(&decided, json);
    }
    wait_for(args.wait, &decided, config)
}

/// Goes back; `models rollback` does the same.
pub fn roll_back(args: &WhyArgs, config: &Config, json: bool) -> Result<(), Failure> {
    require_topics(config)?;
    let by = user();
    let decided = Operator::open(config)?.roll_back(&who(&by, &args.why, None))?;
    tell(&decided, json);
    wait_for(args.wait, &decided, config)
}

fn freeze(args: &WhyArgs, frozen: bool, config: &Config, json: bool) -> Result<(), Failure> {
    let by = user();
    let decided = Operator::open(config)?.freeze(frozen, &who(&by, &args.why, None))?;
    tell(&decided, json);
    wait_for(args.wait, &decided, config)
}

fn with_version(
    args: &VersionArgs,
    config: &Config,
    act: impl FnOnce(
        &mut Operator,
        ModelVersion,
        &Who<'_>,
    ) -> Result<ModelControl, deployer::DeployError>,
) -> Result<ModelControl, Failure> {
    let mut operator = Operator::open(config)?;
    let version = operator.registry().resolve(&args.version)?;
    let by = user();
    Ok(act(&mut operator, version, &who(&by, &args.why, args.force.as_deref()))?)
}

fn who<'a>(by: &'a str, why: &'a str, force: Option<&'a str>) -> Who<'a> {
    Who { by, why, force }
}

fn user() -> String {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    user.unwrap_or_else(|| "driftline deploy".into())
}

fn require_topics(config: &Config) -> Result<(), Failure> {
    let topics = &config.topics;
    let names = [
        topics.models(),
        topics.model_control(),
        topics.model_acks(),
        topics.metrics(),
        topics.retrain_triggers(),
        topics.training_runs(),
        topics.experiments(),
    ];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster::require(&cluster::connect(config)?.1, &names)?;
    Ok(())
}

fn serve(config: &Config) -> Result<ExitCode, Failure> {
    let stop = interrupt::stop_on_signal()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("http")
        .enable_all()
        .build()?;
    let listen = &config.http.listen;
    if !listen.is_empty() {
        // It is up as long as the process is: what it cannot do it tries again.
        let health = Arc::new(|| HealthReport { ready: true, details: Vec::new() });
        let server = runtime.block_on(HttpServer::start(listen, install_metrics()?, health))?;
        tracing::info!(address = %server.address, "metrics and health");
    }
    deployer::run(config, &stop)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(control: &ModelControl, json: bool) {
    if json {
        return println!("{}", control_json(control));
    }
    let epoch = control.epoch;
    match control.candidate.as_str() {
        "" if control.champion.is_empty() => println!("epoch {epoch}: the newest basis serves"),
        "" => println!("epoch {epoch}: {} serves", control.champion),
        candidate => println!("epoch {epoch}: {candidate} is tried: {}", phase(control)),
    }
}

fn phase(control: &ModelControl) -> String {
    let frozen = if control.frozen { ", frozen" } else { "" };
    let share = 100.0 * f64::from(control.share) / f64::from(ALL_USERS);
    match control.share {
        0 => format!("{}{frozen}", control.phase.name()),
        _ => format!("{} with {share} % of users{frozen}", control.phase.name()),
    }
}

fn control_json(control: &ModelControl) -> serde_json::Value {
    serde_json::to_value(control).unwrap_or_default()
}

/// Waits until every worker that lives follows the decision.
fn wait_for(wanted: bool, control: &ModelControl, config: &Config) -> Result<(), Failure> {
    if !wanted {
        return Ok(());
    }
    let mut observer = Observer::open(config, control)?;
    let begun = Instant::now();
    while begun.elapsed() < WAIT_LIMIT {
        observer.read();
        let view = observer.view();
        let mut workers = view.fleet.leased(view.now_ms).peekable();
        if workers.peek().is_some() && workers.all(|ack| ack.epoch >= control.epoch) {
            return Ok(());
        }
    }
    let limit = WAIT_LIMIT.as_secs();
    Err(format!("not every worker follows after {limit} s: see `driftline deploy status`").into())
}

fn status(config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let mut operator = Operator::open(config)?;
    let control = operator.controller().read()?.clone();
    let observer = Observer::open(config, &control)?;
    let view = observer.view();
    let next = match decide(&view, &config.deployment.plan()) {
        Decision::Wait(why) => format!("waits: {why}"),
        Decision::SendAgain => "its bytes are to be sent again".into(),
        Decision::Next(next) => format!("is due: {} ({})", next.phase.name(), next.reason),
    };
    let workers: Vec<&ModelAck> = view.fleet.leased(view.now_ms).collect();
    if json {
        println!(
            "{}",
            json!({"control": control_json(&control), "next": next, "workers": workers})
        );
        return Ok(ExitCode::SUCCESS);
    }
    let dash = |text: &str| if text.is_empty() { "-".into() } else { text.to_owned() };
    println!("epoch      {}", control.epoch);
    println!("phase      {}", phase(&control));
    println!("champion   {}", dash(&control.champion));
    println!("candidate  {}", dash(&control.candidate));
    println!("previous   {}", dash(&control.previous));
    println!(
        "decided    {} by {}: {}",
        time(control.decided_at),
        dash(&control.by),
        control.reason
    );
    println!("next       {next}\n");
    let rows: Vec<_> = workers.iter().map(|ack| row(ack)).collect();
    output::table(&["worker", "epoch", "serves", "candidate", "canary", "shadow", "error"], &rows);
    Ok(ExitCode::SUCCESS)
}

fn row(ack: &ModelAck) -> Vec<String> {
    let requests = |arm| {
        let served = ack.served.iter().find(|served| served.arm == arm);
        served.map_or_else(|| "-".into(), |served| served.requests.to_string())
    };
    vec![
        ack.worker.clone(),
        ack.epoch.to_string(),
        if ack.champion.is_empty() { "-".into() } else { ack.champion.clone() },
        format!("{:?}", ack.state).to_lowercase(),
        requests(RolloutArm::Canary),
        requests(RolloutArm::Shadow),
        ack.error.clone(),
    ]
}

fn history(config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let all = Operator::open(config)?.controller().history()?;
    if json {
        all.iter().for_each(|control| println!("{}", control_json(control)));
        return Ok(ExitCode::SUCCESS);
    }
    let short = |version: &str| version.chars().take(8).collect::<String>();
    let row = |control: &ModelControl| {
        vec![
            control.epoch.to_string(),
            time(control.decided_at),
            phase(control),
            short(&control.champion),
            short(&control.candidate),
            control.by.clone(),
            control.reason.clone(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    output::table(&["epoch", "when", "phase", "champion", "candidate", "by", "why"], &rows);
    Ok(ExitCode::SUCCESS)
}

fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

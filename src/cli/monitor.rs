//! `driftline monitor`

use std::process::ExitCode;
use std::sync::Arc;

use super::{Failure, cluster, interrupt};
use crate::config::Config;
use crate::monitor::{self, Role};
use crate::telemetry::{HttpServer, install_metrics};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline monitor
  driftline monitor --set http.listen=127.0.0.1:9603      beside a worker
  driftline monitor --set monitor.json=true               triggers as JSON too

One of a group leads, the others stand by. What it has read to is in monitor.data_dir: whatever is
killed when, each trigger is told at least once, under the same event_id. docs/drift.md tells more.")]
pub struct Args {}

pub fn run(_args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let (_, there) = cluster::connect(config)?;
    let topics = &config.topics;
    let mut names = vec![topics.metrics(), topics.retrain_triggers()];
    if config.monitor.json {
        names.push(topics.retrain_triggers_json());
    }
    cluster::require(&there, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let stop = interrupt::stop_on_signal()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("http")
        .enable_all()
        .build()?;
    let role = Role::default();
    let listen = &config.http.listen;
    if !listen.is_empty() {
        let asked = role.clone();
        let health = Arc::new(move || asked.health());
        let server = runtime.block_on(HttpServer::start(listen, install_metrics()?, health))?;
        tracing::info!(address = %server.address, "metrics and health");
    }
    monitor::run(config, &role, &stop)?;
    Ok(ExitCode::SUCCESS)
}

//! `driftline dashboard`, by its other name `driftline gateway`

use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, interrupt};
use crate::config::Config;
use crate::gateway::Gateway;
use crate::kafka::has_lost_brokers;
use crate::telemetry::{HttpServer, install_metrics};

/// Between two looks at whether to stop.
const LOOK: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline dashboard                                        read-only, on gateway.listen
  DRIFTLINE_GATEWAY__API_KEY=$(openssl rand -hex 24) driftline dashboard
  driftline gateway --set gateway.listen=0.0.0.0:9700        the same under its other name

One process serves the page at / and REST under /v1. It waits for a broker that is away, and says so
on the page. docs/gateway.md shows every call.")]
pub struct Args {}

pub fn run(_args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let stop = interrupt::stop_on_signal()?;
    let metrics = install_metrics()?;
    let gateway = Gateway::start(config.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("http")
        .enable_all()
        .build()?;
    let listen = &config.http.listen;
    if !listen.is_empty() {
        let server = HttpServer::start(listen, metrics, gateway.health_source());
        let server = runtime.block_on(server)?;
        tracing::info!(address = %server.address, "metrics and health");
    }
    tracing::info!(address = %gateway.address, "gateway");
    println!("dashboard: http://{}", gateway.address);
    while !stop.sleep(LOOK) {
        if has_lost_brokers() {
            return Err("a Kafka client has lost all brokers for good: start it again".into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

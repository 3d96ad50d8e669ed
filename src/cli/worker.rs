//! `driftline worker`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use crate::config::Config;
use crate::telemetry::{HttpServer, install_metrics};
use crate::worker::Worker;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline worker
  driftline worker --bootstrap kafka:9092 --set worker.data_dir=/var/lib/driftline
  driftline worker --set http.listen=127.0.0.1:9601 --set worker.data_dir=second   one more

Metrics and health: http://127.0.0.1:9600/metrics, /health/live, /health/ready.
SIGTERM or Ctrl-C drains: what was accepted is folded, answered and committed.")]
pub struct Args {}

pub fn run(_args: &Args, config: Config) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("http")
        .enable_all()
        .build()?;
    let metrics = install_metrics()?;
    let listen = config.http.listen.clone();
    let worker = Worker::start(config)?;
    let ended = runtime.block_on(async {
        if !listen.is_empty() {
            let server =
                HttpServer::start(&listen, Arc::clone(&metrics), worker.health_source()).await?;
            tracing::info!(address = %server.address, "metrics and health");
        }
        until_told_or_failed(&worker).await
    });
    let failed = ended?;
    worker.shutdown()?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Returns whether the worker failed by itself.
async fn until_told_or_failed(worker: &Worker) -> Result<bool, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut look = tokio::time::interval(Duration::from_millis(500));
    let mut was_ready = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = look.tick() => {
                if worker.has_failed() {
                    tracing::error!("a part of the worker ended; shutting down, start it again");
                    return Ok(true);
                }
                let ready = worker.health().ready;
                if ready && !was_ready {
                    tracing::info!("ready");
                }
                was_ready = ready;
            }
        }
    }
    tracing::info!("draining");
    Ok(false)
}

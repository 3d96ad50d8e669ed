//! Ctrl-C and SIGTERM as a request to stop, so that a command ends with its summary.

use super::Failure;
use crate::runtime::{self, Stop, Urgency};

/// A stop that is requested when the process is told to end. A second signal ends it at once.
///
/// # Errors
/// Where signals cannot be listened for.
pub fn stop_on_signal() -> Result<Stop, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Stop::default();
    let asked = stop.clone();
    // Not joined: it waits for a signal that may never come, and holds nothing.
    runtime::spawn("signals", Urgency::Now, move || {
        let told = runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            for round in 0..2 {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if round == 0 {
                    asked.request();
                } else {
                    std::process::exit(130);
                }
            }
            Ok::<(), std::io::Error>(())
        });
        if let Err(error) = told {
            tracing::warn!(%error, "Ctrl-C is not listened for");
        }
    })?;
    Ok(stop)
}

//! Threads that stop when told and are never forgotten.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request to stop, shared by everything that must hear it.
#[derive(Clone, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Default)]
struct StopState {
    requested: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    /// Asks everything to stop.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::Release);
        let _held = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.changed.notify_all();
    }

    /// Whether a stop was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// Sleeps, but not past a request to stop. Returns whether there was one.
    pub fn sleep(&self, time: Duration) -> bool {
        let held = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_requested() {
            drop(self.0.changed.wait_timeout(held, time));
        }
        self.is_requested()
    }
}

/// How much a thread's work may be put off when processors are short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it: requests.
    Now,
    /// It must keep up: folding.
    Soon,
    /// It may lag behind a burst: tables over all users.
    Later,
}

impl Urgency {
    /// The niceness of the thread; each step of 5 is a factor of about three in CPU time.
    fn niceness(self) -> i32 {
        match self {
            Urgency::Now => 0,
            Urgency::Soon => 5,
            Urgency::Later => 19,
        }
    }
}

/// Starts a named thread.
///
/// # Errors
/// Where the system has no more threads.
pub fn spawn(
    name: &str,
    urgency: Urgency,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        lower_priority(urgency);
        body();
    })
}

/// Lets the calling thread's work be put off from now on. It cannot become more urgent again.
#[cfg(target_os = "linux")]
pub fn lower_priority(urgency: Urgency) {
    if urgency == Urgency::Now {
        return;
    }
    // Linux keeps niceness by thread: the thread's own id stands for the process id.
    let thread = Some(rustix::thread::gettid());
    if let Err(error) = rustix::process::setpriority_process(thread, urgency.niceness()) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// Lets the calling thread's work be put off from now on. It cannot become more urgent again.
#[cfg(not(target_os = "linux"))]
pub fn lower_priority(urgency: Urgency) {
    // Elsewhere niceness is by process, and all threads stay as they are.
    let _ = urgency.niceness();
}

/// Waits for a thread's end.
///
/// # Errors
/// Where it panicked.
pub fn join(handle: JoinHandle<()>) -> Result<(), String> {
    let name = handle.thread().name().unwrap_or("a thread").to_owned();
    handle.join().map_err(|_| format!("{name} panicked"))
}

//! Harness of the black-box tests: a real broker, real worker processes, clients of the topics
//! and an oracle of the fold. Nothing here calls the product's own code: it knows the product by
//! its schemas, topics, commands and documented rules.

// Every test binary compiles the harness and uses its own part of it.
#![allow(dead_code)]

pub mod avro;
pub mod broker;
pub mod browser;
pub mod dice;
pub mod duckdb;
pub mod events;
pub mod http;
pub mod installation;
pub mod kafka;
pub mod load;
pub mod minutes;
pub mod oracle;
pub mod postgres;
pub mod python;
pub mod redis;
pub mod requests;
pub mod s3;
pub mod server;
pub mod worker;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long anything may take before a test gives up: far above what a busy machine needs, so
/// that only what never happens fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `look` finds something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a clock before the year 292 million")
}

/// Settings under which a worker commits nothing within a test, but by ending.
pub const NEVER_COMMIT: &[(&str, &str)] =
    &[("state.commit_interval_ms", "60000"), ("state.backlog_commit_interval_ms", "60000")];

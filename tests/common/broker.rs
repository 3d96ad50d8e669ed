//! The broker under test: the one that is given, or one of our own.

use std::sync::OnceLock;

use super::server::Server;

/// The broker that tests share: `DRIFTLINE_BOOTSTRAP`, or one started for this process.
pub fn shared() -> &'static str {
    static SHARED: OnceLock<(String, Option<Server>)> = OnceLock::new();
    let (bootstrap, _) = SHARED.get_or_init(|| match std::env::var("DRIFTLINE_BOOTSTRAP") {
        Ok(given) if !given.is_empty() => (given, None),
        _ => {
            let own = start_new("shared");
            (own.address.clone(), Some(own))
        }
    });
    bootstrap
}

/// A broker that a test may kill; its data stays.
pub fn start_new(name: &str) -> Server {
    Server::start_new("broker", name, &[])
}

//! An S3 server of the test's own, which it may kill and hang.

use super::server::Server;

pub struct S3 {
    pub server: Server,
}

/// What its clients need in their environment.
pub const CREDENTIALS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "driftline"), ("AWS_SECRET_ACCESS_KEY", "driftline-secret")];

impl S3 {
    /// `None`, with the reason said, where none can be built here.
    pub fn start_new(name: &str) -> Option<Self> {
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/s3.sh");
        let can = std::process::Command::new(script).arg("can-start").status();
        if !can.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: no S3 server; building one needs Go");
            return None;
        }
        Some(Self { server: Server::start_new("s3", name, &[]) })
    }

    /// It hangs: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.server.command("pause", &[]);
    }

    /// The folder in which its bucket's objects lie.
    pub fn bucket(&self) -> std::path::PathBuf {
        self.server.path("objects/lake")
    }
}

//! A Redis server of the test's own, which it may kill, hang, empty and fill.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Gone when the test process is, however it ends.
pub struct Redis {
    folder: PathBuf,
    /// `host:port`
    pub address: String,
    secure: bool,
    /// Removes the server as soon as its standard input closes.
    _guard: Child,
}

pub const PASSWORD: &str = "open-sesame";

impl Redis {
    pub fn start_new(name: &str) -> Self {
        Self::start_with(name, false)
    }

    /// With TLS and a password.
    pub fn start_secure(name: &str) -> Self {
        Self::start_with(name, true)
    }

    fn start_with(name: &str, secure: bool) -> Self {
        let unique = format!("driftline-redis-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(unique);
        let guard = guard(&folder);
        let options: &[&str] = if secure { &["--tls", "--password", PASSWORD] } else { &[] };
        let address = script(&folder, "up", options);
        Self { folder, address, secure, _guard: guard }
    }

    /// kill -9.
    pub fn kill(&self) {
        script(&self.folder, "kill", &[]);
    }

    /// It hangs: connections stay, nothing is answered.
    pub fn pause(&self) {
        script(&self.folder, "pause", &[]);
    }

    /// After [`Redis::kill`], on the same port and empty; after [`Redis::pause`], as it was.
    pub fn start(&self) {
        assert_eq!(script(&self.folder, "up", &[]), self.address);
    }

    /// The certificate that its own was signed with: itself.
    pub fn authority(&self) -> String {
        self.folder.join("server.crt").display().to_string()
    }

    /// Runs one command; returns what it said.
    pub fn run(&self, arguments: &[&str]) -> String {
        let (host, port) = self.address.split_once(':').expect("host:port");
        let mut command = Command::new("redis-cli");
        command.args(["-h", host, "-p", port]);
        if self.secure {
            command.args(["--tls", "--cacert", &self.authority()]);
            command.env("REDISCLI_AUTH", PASSWORD);
        }
        let output = command.args(arguments).output().expect("redis-cli runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn keys(&self) -> usize {
        self.run(&["DBSIZE"]).parse().expect("a number of keys")
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/redis.sh");

fn script(folder: &PathBuf, command: &str, options: &[&str]) -> String {
    let output = Command::new(SCRIPT)
        .args([command, "--dir"])
        .arg(folder)
        .args(options)
        .stderr(Stdio::inherit())
        .output()
        .expect("scripts/redis.sh runs");
    assert!(output.status.success(), "scripts/redis.sh {command} failed");
    String::from_utf8(output.stdout).expect("an address").trim().to_owned()
}

/// A process that waits for the end of this one, of which it hears by its closed input.
fn guard(folder: &PathBuf) -> Child {
    use std::os::unix::process::CommandExt as _;
    Command::new("sh")
        .args(["-c", r#"cat >/dev/null; "$1" wipe --dir "$2""#, "guard", SCRIPT])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in the terminal ends the tests, and must not end what cleans up after them.
        .process_group(0)
        .spawn()
        .expect("sh runs")
}

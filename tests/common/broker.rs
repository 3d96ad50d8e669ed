//! The broker under test: the one that is given, or one of our own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A broker that this test process started. Gone when the process is, however it ends.
pub struct Broker {
    folder: PathBuf,
    pub bootstrap: String,
    /// Removes the broker as soon as its standard input closes.
    _guard: Child,
}

/// The broker that tests share: `DRIFTLINE_BOOTSTRAP`, or one started for this process.
pub fn shared() -> &'static str {
    static SHARED: OnceLock<(String, Option<Broker>)> = OnceLock::new();
    let (bootstrap, _) = SHARED.get_or_init(|| match std::env::var("DRIFTLINE_BOOTSTRAP") {
        Ok(given) if !given.is_empty() => (given, None),
        _ => {
            let own = Broker::start_new("shared");
            (own.bootstrap.clone(), Some(own))
        }
    });
    bootstrap
}

impl Broker {
    /// A broker that a test may kill.
    pub fn start_new(name: &str) -> Self {
        let unique = format!("driftline-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(unique);
        let guard = guard(&folder);
        let bootstrap = script(&folder, "up");
        Self { folder, bootstrap, _guard: guard }
    }

    /// kill -9.
    pub fn kill(&self) {
        script(&self.folder, "kill");
    }

    /// Starts it again on the same port, data kept.
    pub fn start(&self) {
        assert_eq!(script(&self.folder, "start"), self.bootstrap);
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/broker.sh");

fn script(folder: &PathBuf, command: &str) -> String {
    let output = Command::new(SCRIPT)
        .args([command, "--dir"])
        .arg(folder)
        .stderr(Stdio::inherit())
        .output()
        .expect("scripts/broker.sh runs");
    assert!(output.status.success(), "scripts/broker.sh {command} failed");
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

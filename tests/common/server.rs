//! A server that a test process starts for itself by a script of `scripts/`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Gone when the test process is, however it ends.
pub struct Server {
    script: PathBuf,
    folder: PathBuf,
    /// What `up` printed: how to reach it.
    pub address: String,
    /// Removes the server as soon as its standard input closes.
    _guard: Child,
}

impl Server {
    /// Starts `scripts/KIND.sh` in a folder of its own. `name` tells servers of one process apart.
    pub fn start_new(kind: &str, name: &str, options: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scripts/{kind}.sh"));
        let unique = format!("driftline-{kind}-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(unique);
        let guard = guard(&script, &folder);
        let mut server = Self { script, folder, address: String::new(), _guard: guard };
        server.address = server.command("up", options);
        server
    }

    /// kill -9.
    pub fn kill(&self) {
        self.command("kill", &[]);
    }

    /// Starts it again, on the same port.
    pub fn start(&self) {
        assert_eq!(self.command("up", &[]), self.address);
    }

    /// The certificate that its own was signed with: itself.
    pub fn authority(&self) -> String {
        self.folder.join("server.crt").display().to_string()
    }

    /// A file or folder of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a command of the script; returns what it printed.
    pub fn command(&self, command: &str, options: &[&str]) -> String {
        let output = Command::new(&self.script)
            .args([command, "--dir"])
            .arg(&self.folder)
            .args(options)
            .stderr(Stdio::inherit())
            .output()
            .expect("the script runs");
        assert!(output.status.success(), "{} {command} failed", self.script.display());
        String::from_utf8(output.stdout).expect("an address").trim().to_owned()
    }
}

/// A process that waits for the end of this one, of which it hears by its closed input.
fn guard(script: &Path, folder: &Path) -> Child {
    use std::os::unix::process::CommandExt as _;
    Command::new("sh")
        .args(["-c", r#"cat >/dev/null; "$1" wipe --dir "$2""#, "guard"])
        .args([script, folder])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in the terminal ends the tests, and must not end what cleans up after them.
        .process_group(0)
        .spawn()
        .expect("sh runs")
}

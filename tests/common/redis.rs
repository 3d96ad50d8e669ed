//! A Redis server of the test's own, which it may kill, hang, empty and fill.

use std::process::Command;

use super::server::Server;

pub struct Redis {
    /// Empty after it was killed; [`Server::start`] also lets one go on that is paused.
    pub server: Server,
    secure: bool,
}

pub const PASSWORD: &str = "open-sesame";

impl Redis {
    pub fn start_new(name: &str) -> Self {
        Self { server: Server::start_new("redis", name, &[]), secure: false }
    }

    /// With TLS and a password.
    pub fn start_secure(name: &str) -> Self {
        let options = ["--tls", "--password", PASSWORD];
        Self { server: Server::start_new("redis", name, &options), secure: true }
    }

    /// It hangs: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.server.command("pause", &[]);
    }

    /// Runs one command; returns what it said.
    pub fn run(&self, arguments: &[&str]) -> String {
        let (host, port) = self.server.address.split_once(':').expect("host:port");
        let mut command = Command::new("redis-cli");
        command.args(["-h", host, "-p", port]);
        if self.secure {
            command.args(["--tls", "--cacert", &self.server.authority()]);
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

//! A worker as a process of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::eventually;

/// A running `driftline worker`; killed when dropped.
pub struct Worker {
    child: Child,
    pub data_dir: PathBuf,
    pub log: PathBuf,
}

impl Worker {
    pub fn spawn(mut command: Command, data_dir: PathBuf, log: PathBuf) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file.expect("a log file"))
            .spawn()
            .expect("the worker starts");
        Self { child, data_dir, log }
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success(), "the worker is gone already:\n{}", self.log_text());
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.signal("-KILL");
        self.child.wait().expect("a killed process ends");
    }

    /// SIGTERM, upon which it must drain and end well.
    pub fn drain(mut self) {
        self.signal("-TERM");
        let status = self.wait();
        assert!(status.success(), "{status} after SIGTERM:\n{}", self.log_text());
    }

    pub fn wait(&mut self) -> ExitStatus {
        eventually("the worker ends", || self.child.try_wait().expect("a status"))
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_none()
    }

    /// Where it listens: its log says so.
    fn address(&self) -> Option<String> {
        let text = self.log_text();
        // A log may hold earlier runs over the same folder: the last line counts.
        let line = text.lines().rev().find(|l| l.contains("\"metrics and health\""))?;
        let line: serde_json::Value = serde_json::from_str(line).expect("a JSON log line");
        Some(line["fields"]["address"].as_str()?.to_owned())
    }

    /// Status and body, once it listens.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address()?).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = text.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    pub fn is_ready(&self) -> bool {
        self.get("/health/ready").is_some_and(|(status, _)| status == 200)
    }

    pub fn wait_ready(&mut self) {
        eventually("the worker is ready", || {
            assert!(self.is_running(), "the worker ended:\n{}", self.log_text());
            self.is_ready().then_some(())
        });
    }

    /// The sum of a metric over its labels; 0 where it has not been counted yet.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, body) = self.get("/metrics").expect("metrics are served");
        body.lines()
            .filter(|l| l.starts_with(name) && l[name.len()..].starts_with([' ', '{']))
            .map(|l| l.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).expect("a number"))
            .sum()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail where it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.log_text();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- {}\n{}", self.log.display(), tail.join("\n"));
        }
    }
}

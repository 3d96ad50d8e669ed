//! `driftline doctor`: what is wrong, and what to do.

mod backlog;
mod disk;
mod probe;
mod topics;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

use self::backlog::Backlog;
use super::{Failure, cluster};
use crate::config::Config;
use crate::event::EventTopic;
use crate::kafka::{TopicMetadata, load_topic_files};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline doctor
  driftline doctor --bootstrap kafka:9092 --json
  driftline doctor --dir my-topics          topic files of your own

Each line begins with `ok`, or with `!!` and ends with what to do. The exit code is 1 where
something is not ok. It sends one request, for nobody, and changes nothing.")]
pub struct Args {
    /// Folder of KafkaTopic files; the built-in ones without it
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was looked at, and found.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    /// Findings printed as they come; a test's are not.
    live: bool,
}

struct Finding {
    check: &'static str,
    what: String,
    /// What to do; none where it is ok.
    todo: Option<&'static str>,
}

impl Finding {
    fn line(&self) -> String {
        match self.todo {
            None => format!("ok  {:<12}  {}", self.check, self.what),
            Some(todo) => format!("!!  {:<12}  {}: {todo}", self.check, self.what),
        }
    }
}

impl Report {
    fn good(&mut self, check: &'static str, what: String) {
        self.add(Finding { check, what, todo: None });
    }

    fn bad(&mut self, check: &'static str, what: String, todo: &'static str) {
        self.add(Finding { check, what, todo: Some(todo) });
    }

    fn add(&mut self, finding: Finding) {
        if self.live {
            println!("{}", finding.line());
        }
        self.findings.push(finding);
    }

    /// A check that could not be made to its end.
    fn note_failure(&mut self, check: &'static str, outcome: Result<(), Failure>) {
        if let Err(error) = outcome {
            self.bad(check, error.to_string(), "mend what is above first, and look again");
        }
    }

    fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.todo.is_none())
    }

    #[cfg(test)]
    fn lines(&self) -> Vec<String> {
        self.findings.iter().map(Finding::line).collect()
    }

    fn to_json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(
                |f| json!({"check": f.check, "ok": f.todo.is_none(), "what": f.what, "do": f.todo}),
            )
            .collect();
        json!({"ok": self.is_ok(), "checks": findings})
    }
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let mut report = Report { live: !args.json, ..Report::default() };
    let files = load_topic_files(args.dir.as_deref(), &config.topics.prefix)?;
    let begun = Instant::now();
    match cluster::connect(config) {
        Ok((admin, there)) => {
            let ms = begun.elapsed().as_secs_f64() * 1_000.0;
            let id = admin.cluster_id().unwrap_or_else(|| "of unknown id".into());
            let bootstrap = &config.kafka.bootstrap;
            report.good("broker", format!("{bootstrap} answered in {ms:.0} ms, cluster {id}"));
            let outcome = topics::check(&mut report, config, &files, &admin);
            report.note_failure("topics", outcome);
            examine(&mut report, config, &there);
        }
        Err(error) => report.bad(
            "broker",
            error.to_string(),
            "is it up, is its advertised.listeners reachable from here, and do \
             kafka.security_protocol and the SASL keys fit it?",
        ),
    }
    disk::check(&mut report, config);
    if args.json {
        println!("{}", report.to_json());
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What can only be looked at where the topics are there.
fn examine(report: &mut Report, config: &Config, there: &[TopicMetadata]) {
    let topics = &config.topics;
    let find = |name: &str| there.iter().find(|topic| topic.name == name);
    let group = config.kafka.group.clone();
    let requests_group = format!("{group}-requests");
    let requests = find(&topics.requests());

    // Ends are noted before the probe adds a request of its own; whether they were reached is
    // looked at after it, which gives workers the time to note it.
    let events = EventTopic::ALL.iter().filter_map(|topic| find(&topics.events(*topic)));
    let events = events.collect::<Vec<_>>();
    let events = Backlog::new(config, &group, &events);
    let requests_backlog = requests.map(|topic| Backlog::new(config, &requests_group, &[topic]));
    if let (Some(_), Some(_)) = (requests, find(&topics.replies())) {
        let outcome = probe::check(report, config);
        report.note_failure("worker", outcome);
    }
    let outcome = events.and_then(|events| events.tell_events(report, &group));
    report.note_failure("lag", outcome);
    if let Some(backlog) = requests_backlog {
        let outcome = backlog.and_then(|backlog| backlog.tell_requests(report));
        report.note_failure("requests", outcome);
    }
    if let Some(topic) = find(&topics.dead_letters()) {
        let outcome = backlog::dead_letters(report, config, topic.partitions);
        report.note_failure("dead letters", outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_ok_only_if_everything_is() {
        let mut report = Report::default();
        report.good("broker", "there".into());
        assert!(report.is_ok());
        report.bad("lag", "10 behind".into(), "wait");
        assert!(!report.is_ok());
        assert_eq!(
            report.lines(),
            ["ok  broker        there", "!!  lag           10 behind: wait"]
        );
        let json = report.to_json();
        assert_eq!((&json["ok"], &json["checks"][1]["do"]), (&json!(false), &json!("wait")));
    }
}

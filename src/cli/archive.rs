//! `driftline archive`

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Failure, cluster, interrupt, output};
use crate::config::Config;
use crate::kafka::{GroupConsumer, HandlerError, WholeTopic};
use crate::lake::{Archiver, BeginAgain, Lake, Sink, Tally, TopicWriter, subject_of};
use crate::objects::Objects;
use crate::runtime::Stop;
use crate::telemetry::{HealthReport, HttpServer, install_metrics};

/// How long an archiver waits before it begins again from what the lake says.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often one that is to end by itself begins again. Another archiver that is always faster has
/// the records in the lake by then.
const ATTEMPTS: usize = 20;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline archive                                        go on until stopped
  driftline archive --set http.listen=127.0.0.1:9602       beside a worker
  driftline archive --once                                 up to where the topics end now
  driftline archive --once --json --topics watch-events,click-events
  driftline archive --set objects.uri=s3://bucket/events --set objects.region=eu-central-1

Files: TOPIC/dt=YYYY-MM-DD/hh=HH/TOPIC+PARTITION+START-END.parquet, by event time. Each offset is in
them once, whatever is killed when: what is in the lake says where to go on. Several archivers of
one group share the partitions. docs/lake.md tells how to read it.")]
pub struct Args {
    /// End where the topics end now
    #[arg(long)]
    once: bool,
    /// Only these of lake.topics
    #[arg(long, value_delimiter = ',', value_name = "TOPIC,…")]
    topics: Vec<String>,
    /// A summary as JSON at the end
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let (_, there) = cluster::connect(config)?;
    let mut writers = HashMap::new();
    for name in chosen(&args.topics, config)? {
        let subject = subject_of(&name).ok_or_else(|| format!("{name} cannot be archived"))?;
        writers.insert(config.topics.named(&name), Arc::new(TopicWriter::new(subject)?));
    }
    let mut names: Vec<String> = writers.keys().cloned().collect();
    names.sort();
    cluster::require(&there, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let lake = Lake::new(Arc::new(Objects::open(&config.objects.settings())?));
    let stop = interrupt::stop_on_signal()?;
    let begun = Instant::now();
    let task = Task { config, lake, writers, names, stop };
    let tally = if args.once { task.once()? } else { task.follow()? };
    print_summary(&tally, args.json, begun.elapsed());
    Ok(ExitCode::SUCCESS)
}

/// The topics that a command is about.
pub(super) fn chosen(named: &[String], config: &Config) -> Result<Vec<String>, Failure> {
    let all = config.lake.archived();
    if let Some(unknown) = named.iter().find(|topic| !all.contains(topic)) {
        return Err(format!("{unknown} is not archived; lake.topics are {}", all.join(", ")).into());
    }
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

struct Task<'a> {
    config: &'a Config,
    lake: Lake,
    writers: HashMap<String, Arc<TopicWriter>>,
    names: Vec<String>,
    stop: Stop,
}

type Tallies = BTreeMap<String, Tally>;

impl Task<'_> {
    fn archiver(&self, stop: &Stop) -> Result<Archiver, Failure> {
        let sink = Sink::start(&self.lake, self.config.lake.threads, stop.clone())?;
        let rules = self.config.lake.rules();
        Ok(Archiver::new(self.lake.clone(), self.writers.clone(), rules, sink))
    }

    /// One topic after the other, to where it ends.
    fn once(&self) -> Result<Tallies, Failure> {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:30} {human_pos}/{human_len} {per_sec} {elapsed} {msg}",
        ) {
            bar.set_style(style);
        }
        let mut all = Tallies::new();
        for name in &self.names {
            bar.set_message(name.clone());
            let mut attempts = 0;
            while let Some(why) = self.once_through(name, &bar, &mut all)? {
                attempts += 1;
                if attempts == ATTEMPTS {
                    return Err(why.into());
                }
                tracing::warn!(why, "beginning again from what the lake says");
                self.stop.sleep(AGAIN_AFTER);
            }
            if self.stop.is_requested() {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(all)
    }

    /// Returns why it has to begin again, where it has to.
    fn once_through(
        &self,
        name: &str,
        bar: &ProgressBar,
        all: &mut Tallies,
    ) -> Result<Option<String>, Failure> {
        let stop = Stop::default();
        let mut archiver = self.archiver(&stop)?;
        let settings = self.config.kafka.client();
        let mut topic = WholeTopic::open(&settings, name, "driftline-archive")?;
        let asked = || self.stop.is_requested();
        let ended = archiver.catch_up(&mut topic, name, asked, |read, total| {
            bar.set_length(total);
            bar.set_position(read);
        });
        stop.request();
        add(all, archiver.end()?);
        again(ended)
    }

    /// As a member of a group, until it is told to stop.
    fn follow(&self) -> Result<Tallies, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("http")
            .enable_all()
            .build()?;
        let listen = &self.config.http.listen;
        if !listen.is_empty() {
            let health = Arc::new(|| HealthReport { ready: true, details: Vec::new() });
            let server = HttpServer::start(listen, install_metrics()?, health);
            let server = runtime.block_on(server)?;
            tracing::info!(address = %server.address, "metrics and health");
        }
        let mut all = Tallies::new();
        while !self.stop.is_requested() {
            let stop = Stop::default();
            let mut archiver = self.archiver(&stop)?;
            let kafka = &self.config.kafka;
            let group = format!("{}-archive", kafka.group);
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let consumer = GroupConsumer::join(
                &kafka.client(),
                &group,
                kafka.group_protocol,
                "driftline-archive",
                &names,
            )?;
            let ended = consumer.run(&mut archiver, || self.stop.is_requested());
            stop.request();
            add(&mut all, archiver.end()?);
            if let Some(why) = again(ended)? {
                tracing::warn!(why, "beginning again from what the lake says");
                self.stop.sleep(AGAIN_AFTER);
            }
        }
        Ok(all)
    }
}

fn again(ended: Result<(), HandlerError>) -> Result<Option<String>, Failure> {
    match ended {
        Ok(()) => Ok(None),
        Err(error) => error.downcast::<BeginAgain>().map(|why| Some(why.to_string())),
    }
}

fn add(all: &mut Tallies, some: Tallies) {
    for (topic, tally) in some {
        all.entry(topic).or_default().merge(tally);
    }
}

fn print_summary(all: &Tallies, as_json: bool, took: Duration) {
    let rows: u64 = all.values().map(|t| t.rows).sum();
    let rate = rows as f64 / took.as_secs_f64().max(1e-9);
    if as_json {
        let seconds = took.as_secs_f64();
        println!("{}", json!({ "topics": all, "seconds": seconds, "rows_per_second": rate }));
        return;
    }
    let lines: Vec<Vec<String>> = all
        .iter()
        .map(|(topic, tally)| {
            let passed: u64 = tally.passed.values().sum();
            vec![
                topic.clone(),
                tally.rows.to_string(),
                tally.files.to_string(),
                output::bytes(tally.bytes),
                passed.to_string(),
                tally.lost.to_string(),
            ]
        })
        .collect();
    output::table(&["topic", "rows", "files", "size", "passed over", "lost"], &lines);
    println!("{rows} rows in {:.1} s, {rate:.0} a second", took.as_secs_f64());
}

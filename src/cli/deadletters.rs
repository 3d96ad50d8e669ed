//! `driftline deadletters list|replay`

mod letter;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

pub(super) use self::letter::Letters;
use self::letter::{Letter, shorten, text_or_hex};
use super::{Failure, cluster, output};
use crate::config::Config;
use crate::kafka::{
    Delivery, Outgoing, Producer, ProducerKind, TopicMetadata, Tracker, load_topic_files,
};

/// How long the last deliveries may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline deadletters list                        the newest 20
  driftline deadletters list --summary              how many of which class
  driftline deadletters list --class FutureTime --json --limit 1000
  driftline deadletters replay --class Json --dry-run
  driftline deadletters replay --class UnknownSchema   after the schema has been added
  driftline deadletters replay --offset 0@17,0@19

A record is sent back to the topic it was refused from, with its own key and headers. Sending one
twice does no harm: events are folded once. Dead letters stay where they are until they age out.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show refused records, the newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// The oldest first
        #[arg(long)]
        from_beginning: bool,
        /// Count by class and topic instead
        #[arg(long)]
        summary: bool,
    },
    /// Send refused records back to where they came from
    Replay {
        #[command(flatten)]
        filter: Filter,
        /// These only: partition@offset of the dead-letter topic
        #[arg(long = "offset", value_name = "P@O", value_delimiter = ',')]
        #[arg(value_parser = parse_offset)]
        offsets: Vec<(i32, i64)>,
        /// All of them
        #[arg(long, conflicts_with_all = ["class", "topic", "offsets"])]
        all: bool,
        /// Only say what would be sent
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(clap::Args)]
struct Filter {
    /// Refused from this topic
    #[arg(long)]
    topic: Option<String>,
    /// Refused for this reason, as `list` names it
    #[arg(long)]
    class: Option<String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.topic.is_none() && self.class.is_none()
    }

    fn admits(&self, letter: &Letter) -> bool {
        let class = |wanted: &String| letter.class().eq_ignore_ascii_case(wanted);
        self.topic.as_ref().is_none_or(|wanted| letter.origin() == *wanted)
            && self.class.as_ref().is_none_or(class)
    }
}

fn parse_offset(text: &str) -> Result<(i32, i64), String> {
    let shape = || format!("{text:?}: expected partition@offset such as 0@17");
    let (partition, offset) = text.split_once('@').ok_or_else(shape)?;
    // `dead-letters-0@17`, as `list` prints it, will do too.
    let partition = partition.rsplit_once('-').map_or(partition, |(_, number)| number);
    Ok((partition.parse().map_err(|_| shape())?, offset.parse().map_err(|_| shape())?))
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let (_, topics) = cluster::connect(config)?;
    let name = config.topics.dead_letters();
    let partitions = cluster::require(&topics, &[&name])?[0].partitions;
    let letters = Letters::open(config, partitions)?;
    match &args.action {
        Action::List { filter, summary: true, .. } => summarize(&letters, filter, args.json)?,
        Action::List { filter, limit, from_beginning, .. } => {
            let found = collect(&letters, filter, *limit, *from_beginning, partitions)?;
            print_list(&found, &name, args.json);
        }
        Action::Replay { filter, offsets, all, dry_run } => {
            if filter.is_empty() && offsets.is_empty() && !all {
                return Err(
                    "say which: --class, --topic, --offset or --all; --dry-run shows what would \
                     be sent"
                        .into(),
                );
            }
            let wanted: BTreeSet<_> = offsets.iter().copied().collect();
            let replay = Replay::new(config, &topics, *dry_run, args.json)?;
            return replay.run(&letters, filter, &wanted);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn collect(
    letters: &Letters,
    filter: &Filter,
    limit: usize,
    from_beginning: bool,
    partitions: i32,
) -> Result<Vec<Letter>, Failure> {
    // Without a filter the newest are at the end; with one, everything must be looked at.
    let newest = match i64::try_from(limit) {
        Ok(limit) if filter.is_empty() && !from_beginning => limit,
        _ => i64::MAX,
    };
    let mut found = VecDeque::new();
    // Partitions have an order each. Between them only the records' own times can tell.
    let one = partitions == 1;
    let order = |letter: &Letter| {
        (if one { 0 } else { letter.timestamp_ms }, letter.offset, letter.partition)
    };
    letters.scan(newest, |letter| {
        if filter.admits(&letter) {
            found.push_back(letter);
        }
        if from_beginning && one && found.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        if found.len() > limit.saturating_mul(2).max(1_000) {
            sort_and_cut(&mut found, limit, from_beginning, order);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    sort_and_cut(&mut found, limit, from_beginning, order);
    Ok(found.into())
}

fn sort_and_cut<K: Ord>(
    found: &mut VecDeque<Letter>,
    limit: usize,
    from_beginning: bool,
    order: impl Fn(&Letter) -> K,
) {
    found.make_contiguous().sort_by(|a, b| {
        let (a, b) = (order(a), order(b));
        if from_beginning { a.cmp(&b) } else { b.cmp(&a) }
    });
    found.truncate(limit);
}

fn print_list(found: &[Letter], topic: &str, as_json: bool) {
    if as_json {
        found.iter().for_each(|letter| println!("{}", letter.to_json(topic)));
        return;
    }
    if found.is_empty() {
        println!("no dead letters");
        return;
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|letter| {
            vec![
                format!("{topic}-{}@{}", letter.partition, letter.offset),
                letter.class(),
                letter.origin_position(),
                shorten(&letter.message(), 60),
                shorten(&text_or_hex(letter.key.as_deref().unwrap_or_default()).0, 20),
                shorten(&text_or_hex(&letter.value).0, 40),
            ]
        })
        .collect();
    output::table(&["dead letter", "class", "from", "message", "key", "value"], &rows);
}

/// By class and topic of origin: how many, and the time of the newest.
pub(super) type Counts = BTreeMap<(String, String), (u64, i64)>;

/// Counts the `newest` of each partition.
pub(super) fn count_by_class(
    letters: &Letters,
    newest: i64,
    mut admits: impl FnMut(&Letter) -> bool,
) -> Result<Counts, Failure> {
    let mut counts = Counts::new();
    letters.scan(newest, |letter| {
        if admits(&letter) {
            let (count, last) = counts.entry((letter.class(), letter.origin())).or_default();
            *count += 1;
            *last = letter.timestamp_ms.max(*last);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(counts)
}

fn summarize(letters: &Letters, filter: &Filter, as_json: bool) -> Result<(), Failure> {
    let counts = count_by_class(letters, i64::MAX, |letter| filter.admits(letter))?;
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    if as_json {
        for ((class, topic), (count, newest)) in &rows {
            println!(
                "{}",
                json!({"class": class, "topic": topic, "count": count, "newest": newest})
            );
        }
        return Ok(());
    }
    if rows.is_empty() {
        println!("no dead letters");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|((class, topic), (count, _))| vec![class, topic, count.to_string()])
        .collect();
    output::table(&["class", "from topic", "count"], &rows);
    Ok(())
}

/// Sends letters back.
struct Replay {
    producer: Producer,
    tracker: Arc<Tracker>,
    /// Topics that may be sent to: a letter's headers are whoever wrote it's word.
    allowed: Vec<String>,
    dry_run: bool,
    json: bool,
    sent: BTreeMap<String, u64>,
    left_out: BTreeMap<String, u64>,
}

impl Replay {
    fn new(
        config: &Config,
        topics: &[TopicMetadata],
        dry_run: bool,
        json: bool,
    ) -> Result<Self, Failure> {
        let own = load_topic_files(None, &config.topics.prefix)?;
        let dead = config.topics.dead_letters();
        let there = |name: &String| *name != dead && topics.iter().any(|t| t.name == *name);
        Ok(Self {
            producer: Producer::new(
                &config.kafka.client(),
                ProducerKind::Durable,
                "driftline-deadletters",
            )?,
            tracker: Arc::default(),
            allowed: own.into_iter().map(|file| file.name).filter(there).collect(),
            dry_run,
            json,
            sent: BTreeMap::new(),
            left_out: BTreeMap::new(),
        })
    }

    fn run(
        mut self,
        letters: &Letters,
        filter: &Filter,
        offsets: &BTreeSet<(i32, i64)>,
    ) -> Result<ExitCode, Failure> {
        // Drawn only on a terminal.
        let bar = ProgressBar::new(letters.count());
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40} {human_pos}/{human_len}, {eta} left")
        {
            bar.set_style(style);
        }
        let mut missing = offsets.clone();
        let scanned = letters.scan(i64::MAX, |letter| {
            bar.inc(1);
            let place = (letter.partition, letter.offset);
            missing.remove(&place);
            if filter.admits(&letter) && (offsets.is_empty() || offsets.contains(&place)) {
                self.send(&letter)?;
            }
            let done = !offsets.is_empty() && missing.is_empty();
            Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        // Also where reading failed half-way: what was sent is told.
        self.producer.flush(FLUSH_LIMIT)?;
        let delivered = self.tracker.wait(FLUSH_LIMIT);
        bar.finish_and_clear();
        self.tell(&missing);
        scanned?;
        delivered?;
        let complete = missing.is_empty() && self.left_out.is_empty();
        Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn send(&mut self, letter: &Letter) -> Result<(), Failure> {
        let topic = letter.origin();
        if !self.allowed.contains(&topic) {
            *self.left_out.entry(topic).or_default() += 1;
            return Ok(());
        }
        if !self.dry_run {
            let outgoing = Outgoing {
                topic: &topic,
                key: letter.key.as_deref(),
                value: &letter.value,
                headers: letter.own_headers(),
                ..Outgoing::default()
            };
            self.producer.send(&outgoing, Delivery::Tracked(Arc::clone(&self.tracker)))?;
        }
        *self.sent.entry(topic).or_default() += 1;
        Ok(())
    }

    fn tell(&self, missing: &BTreeSet<(i32, i64)>) {
        let mut out = std::io::stdout().lock();
        let missing: Vec<String> = missing.iter().map(|(p, o)| format!("{p}@{o}")).collect();
        // A closed pipe is no reason to fail after everything was sent.
        let written = if self.json {
            writeln!(
                out,
                "{}",
                json!({
                    "sent": self.sent,
                    "left_out": self.left_out,
                    "not_there": missing,
                    "dry_run": self.dry_run,
                })
            )
        } else {
            writeln!(out, "{}", self.in_words(&missing))
        };
        drop(written);
    }

    fn in_words(&self, missing: &[String]) -> String {
        let verb = if self.dry_run { "would send" } else { "sent" };
        let mut lines: Vec<String> =
            self.sent.iter().map(|(topic, count)| format!("{verb} {count} to {topic}")).collect();
        if lines.is_empty() {
            lines.push("no dead letter fits: nothing sent".into());
        }
        lines.extend(self.left_out.iter().map(|(topic, count)| {
            format!(
                "left out {count} from {topic:?}: none of this installation's topics \
                 (topics.prefix?)"
            )
        }));
        if !missing.is_empty() {
            lines.push(format!("not there, or aged out: {}", missing.join(", ")));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_with_and_without_their_topic() {
        assert_eq!(parse_offset("0@17"), Ok((0, 17)));
        assert_eq!(parse_offset("dead-letters-2@5"), Ok((2, 5)));
        for bad in ["", "17", "0@", "@1", "a@b"] {
            assert!(parse_offset(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_newest_come_first_and_the_rest_is_cut_off() {
        let letter = |offset| Letter { offset, ..Letter::default() };
        let mut found: VecDeque<Letter> = [3, 1, 2].map(letter).into();
        sort_and_cut(&mut found, 2, false, |letter| letter.offset);
        assert_eq!(found, [letter(3), letter(2)]);
        let mut found: VecDeque<Letter> = [3, 1, 2].map(letter).into();
        sort_and_cut(&mut found, 2, true, |letter| letter.offset);
        assert_eq!(found, [letter(1), letter(2)]);
    }
}

//! What waits: events not folded, requests not answered, dead letters not looked at.

use std::time::{Duration, Instant};

use super::Report;
use crate::cli::Failure;
use crate::cli::deadletters::{Letters, count_by_class};
use crate::config::Config;
use crate::kafka::{Reader, TopicMetadata, TopicPartition};
use crate::time::{HOUR_MS, wall_now};

/// Workers note the group's offsets every two seconds: what is not noted after this long was not
/// folded.
const SETTLE: Duration = Duration::from_millis(2_500);
/// Dead letters of which the class is looked at, from the newest.
const LOOKED_AT: i64 = 10_000;

/// The records of some topics at the time of asking, and a group that should pass them.
pub struct Backlog {
    reader: Reader,
    began: Instant,
    topics: Vec<Topic>,
}

struct Topic {
    name: String,
    /// The partition, its first offset and the one after its last.
    ends: Vec<(TopicPartition, i64, i64)>,
}

/// How much of a topic a group has not passed.
struct Lag {
    records: i64,
    /// Whether the group has ever noted a position of this topic.
    known: bool,
}

impl Backlog {
    /// Takes note of where the topics end now.
    ///
    /// # Errors
    /// Where the broker does not answer.
    pub fn new(config: &Config, group: &str, topics: &[&TopicMetadata]) -> Result<Self, Failure> {
        let reader = Reader::new(&config.kafka.client(), group, "driftline-doctor")?;
        let topics = topics
            .iter()
            .map(|topic| {
                let ends = (0..topic.partitions).map(|partition| {
                    let tp = TopicPartition { topic: topic.name.clone(), partition };
                    let (low, high) = reader.bounds(&tp)?;
                    Ok((tp, low, high))
                });
                let ends = ends.collect::<Result<_, Failure>>()?;
                Ok(Topic { name: topic.name.clone(), ends })
            })
            .collect::<Result<_, Failure>>()?;
        Ok(Self { reader, began: Instant::now(), topics })
    }

    fn lag(&self, topic: &Topic) -> Result<Lag, Failure> {
        let mut lag = Lag { records: 0, known: false };
        for (tp, low, high) in &topic.ends {
            let noted = self.reader.noted(tp)?;
            lag.known |= noted.is_some();
            lag.records += (high - noted.unwrap_or(*low).max(*low)).max(0);
        }
        Ok(lag)
    }

    /// The lag of a topic once whatever is under way has been noted.
    fn settled(&self, topic: &Topic) -> Result<Lag, Failure> {
        let lag = self.lag(topic)?;
        if lag.records == 0 {
            return Ok(lag);
        }
        std::thread::sleep(SETTLE.saturating_sub(self.began.elapsed()));
        self.lag(topic)
    }

    /// Tells of events that were there and are not folded yet.
    pub fn tell_events(&self, report: &mut Report, group: &str) -> Result<(), Failure> {
        for topic in &self.topics {
            let (lag, name) = (self.settled(topic)?, &topic.name);
            let end: i64 = topic.ends.iter().map(|(_, low, high)| high - low).sum();
            match lag {
                Lag { records: 0, .. } => {
                    report.good("lag", format!("{name}: all of {end} records are folded"));
                }
                Lag { records, known: false } => report.bad(
                    "lag",
                    format!("{name}: {records} records, and group {group} has folded none"),
                    "start a worker with `driftline worker`; is kafka.group the workers'?",
                ),
                Lag { records, .. } => report.bad(
                    "lag",
                    format!("{name}: {records} of {end} records are not folded yet"),
                    "if this does not shrink, look at the workers' logs, or start more of them",
                ),
            }
        }
        Ok(())
    }

    /// Tells of requests that were there and have no answer yet.
    pub fn tell_requests(&self, report: &mut Report) -> Result<(), Failure> {
        for topic in &self.topics {
            let waiting = self.settled(topic)?.records;
            if waiting == 0 {
                report.good("requests", "none waits for its answer".into());
            } else {
                report.bad(
                    "requests",
                    format!("{waiting} wait in {} for an answer", topic.name),
                    "are as many workers running as there should be? Requests that nobody waits \
                     for any more are passed over once one runs",
                );
            }
        }
        Ok(())
    }
}

/// Dead letters: those of the last hour are a fault that somebody should look at now.
pub fn dead_letters(report: &mut Report, config: &Config, partitions: i32) -> Result<(), Failure> {
    let letters = Letters::open(config, partitions)?;
    let count = letters.count();
    if count == 0 {
        report.good("dead letters", "none".into());
        return Ok(());
    }
    let since = wall_now() - HOUR_MS;
    let mut fresh = 0;
    let counts = count_by_class(&letters, LOOKED_AT, |letter| {
        fresh += u64::from(letter.timestamp_ms >= since);
        true
    })?;
    let commonest = counts.iter().max_by_key(|(_, (count, _))| *count);
    let commonest = commonest.map_or(String::new(), |((class, topic), (count, _))| {
        format!("; the commonest lately: {class} from {topic} ({count})")
    });
    if fresh == 0 {
        report.good("dead letters", format!("{count}, none of the last hour{commonest}"));
    } else {
        report.bad(
            "dead letters",
            format!("{count}, {fresh} of the last hour{commonest}"),
            "`driftline deadletters list` shows why; mend the producer, then `deadletters replay`",
        );
    }
    Ok(())
}

//! How fast topics grow, and how far behind their readers are: asked of the brokers every two seconds,
//! without reading a record. Also what says whether a broker answers at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Live;
use crate::config::Config;
use crate::event::EventTopic;
use crate::kafka::{Admin, KafkaError, Reader, TopicPartition};
use crate::runtime::Stop;
use crate::time::wall_now;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// How long a broker may take to answer one. Longer: that it is away is noticed later.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at which topics there are.
const TOPICS_EVERY: Duration = Duration::from_secs(20);
/// What of a rate is of the newest look: it settles within some ten seconds.
const NEWEST: f64 = 0.3;

/// Topics of the loop, without the prefix: all that have a place in the picture.
fn topics(config: &Config) -> Vec<String> {
    let t = &config.topics;
    let mut all: Vec<String> = EventTopic::ALL.map(|topic| t.events(topic)).to_vec();
    all.extend([
        t.requests(),
        t.replies(),
        t.impressions(),
        t.interactions(),
        t.item_catalog(),
        t.training_examples(),
        t.metrics(),
        t.retrain_triggers(),
        t.training_runs(),
        t.models(),
        t.model_control(),
        t.dead_letters(),
    ]);
    all
}

/// Who reads what: the part of the loop, its group, and its topics.
fn readers(config: &Config) -> Vec<(&'static str, String, Vec<String>)> {
    let (t, group) = (&config.topics, &config.kafka.group);
    let events = EventTopic::ALL.map(|topic| t.events(topic)).to_vec();
    vec![
        ("events", group.clone(), events),
        ("requests", format!("{group}-requests"), vec![t.requests()]),
        ("items", format!("{group}-items"), vec![t.interactions()]),
        ("monitor", format!("{group}-monitor"), vec![t.metrics()]),
        ("trainer", format!("{group}-trainer"), vec![t.retrain_triggers()]),
        ("archive", format!("{group}-archive"), vec![t.interactions()]),
    ]
}

/// Looks until it is told to stop.
pub fn run(config: &Config, live: &Live, stop: &Stop) {
    let mut looks = None;
    while !stop.is_requested() {
        let outcome = look(config, &mut looks, live);
        if let (Err(_), Some(looks)) = (&outcome, &mut looks) {
            // What was counted before says nothing of how fast it goes after.
            looks.last = None;
        }
        live.set_broker(outcome.map_err(|error| error.to_string()));
        stop.sleep(EVERY);
    }
}

fn look(config: &Config, looks: &mut Option<Looks>, live: &Live) -> Result<(), KafkaError> {
    let looks = match looks {
        Some(looks) => looks,
        None => looks.insert(Looks::new(config)?),
    };
    looks.hear();
    looks.find_topics(config, live)?;
    let flow = looks.flow(config)?;
    live.set("flow", &flow);
    Ok(())
}

/// What was seen so far.
struct Looks {
    admin: Admin,
    reader: Reader,
    groups: Vec<Group>,
    partitions: Vec<TopicPartition>,
    beginnings: Vec<Option<i64>>,
    found: Option<Instant>,
    /// Whether all topics were there.
    is_complete: bool,
    last: Option<(Instant, Vec<Option<i64>>)>,
    rates: BTreeMap<String, f64>,
}

/// A group of readers.
struct Group {
    name: &'static str,
    topics: Vec<String>,
    reader: Reader,
    /// Its positions taken together, and when they last were others.
    moved: (i64, i64),
}

impl Looks {
    fn new(config: &Config) -> Result<Self, KafkaError> {
        let settings = config.kafka.client();
        let groups = readers(config).into_iter().map(|(name, group, topics)| {
            let reader = Reader::new(&settings, &group, "driftline-gateway")?;
            Ok(Group { name, topics, reader, moved: (0, 0) })
        });
        Ok(Self {
            admin: Admin::new(&settings)?,
            reader: Reader::new(&settings, "driftline-gateway", "driftline-gateway")?,
            groups: groups.collect::<Result<_, KafkaError>>()?,
            partitions: Vec::new(),
            beginnings: Vec::new(),
            found: None,
            is_complete: false,
            last: None,
            rates: BTreeMap::new(),
        })
    }

    /// Lets the clients get rid of what they have to say: none of them reads a record, and what nobody
    /// takes would pile up.
    fn hear(&self) {
        let all = self.groups.iter().map(|group| &group.reader).chain([&self.reader]);
        all.for_each(|reader| while reader.poll(Duration::ZERO).is_some() {});
    }

    /// Which topics there are, now and then, and while some are missing each time.
    fn find_topics(&mut self, config: &Config, live: &Live) -> Result<(), KafkaError> {
        let wanted = topics(config);
        if self.is_complete && self.found.is_some_and(|at| at.elapsed() < TOPICS_EVERY) {
            return Ok(());
        }
        let there = self.admin.topics()?;
        let mut partitions = Vec::new();
        let mut missing = Vec::new();
        for name in wanted {
            match there.iter().find(|topic| topic.name == name) {
                Some(topic) => partitions.extend(
                    (0..topic.partitions)
                        .map(|partition| TopicPartition { topic: name.clone(), partition }),
                ),
                None => missing.push(short(config, &name)),
            }
        }
        live.set("missing", &missing);
        self.is_complete = missing.is_empty();
        self.found = Some(Instant::now());
        self.beginnings = self.reader.beginnings(&partitions, PATIENCE)?;
        if partitions != self.partitions {
            self.last = None;
            self.partitions = partitions;
        }
        Ok(())
    }

    fn flow(&mut self, config: &Config) -> Result<Value, KafkaError> {
        let ends = self.reader.ends(&self.partitions, PATIENCE)?;
        let now = Instant::now();
        let mut topics: BTreeMap<String, (i64, i64, f64, i64)> = BTreeMap::new();
        for (place, tp) in self.partitions.iter().enumerate() {
            let Some(end) = ends[place] else { continue };
            let before = self.last.as_ref().and_then(|(_, ends)| ends[place]).unwrap_or(end);
            let begin = self.beginnings[place].unwrap_or(0);
            let topic = topics.entry(short(config, &tp.topic)).or_default();
            topic.0 += end;
            topic.1 += end - begin;
            // A topic that was made anew has not shrunk.
            topic.2 += (end - before).max(0) as f64;
            topic.3 += 1;
        }
        let seconds = self.last.as_ref().map(|(at, _)| now.duration_since(*at).as_secs_f64());
        let mut told = serde_json::Map::new();
        for (name, (end, held, grown, partitions)) in topics {
            let newest = seconds.map(|seconds| grown / seconds.max(0.001));
            let rate = match (newest, self.rates.get(&name)) {
                (None, _) => None,
                (Some(newest), None) => Some(newest),
                (Some(newest), Some(before)) => Some(before + NEWEST * (newest - before)),
            };
            if let Some(rate) = rate {
                self.rates.insert(name.clone(), rate);
            }
            let rate = rate.map(|rate| (rate * 100.0).round() / 100.0);
            told.insert(
                name,
                json!({"end": end, "held": held, "rate": rate, "partitions": partitions}),
            );
        }
        let groups = self.lags(&ends)?;
        self.last = Some((now, ends));
        Ok(json!({"at": wall_now(), "topics": told, "groups": groups}))
    }

    /// How far behind each group is: records, whether it ever noted a position, and milliseconds since
    /// its positions last moved.
    fn lags(&mut self, ends: &[Option<i64>]) -> Result<Value, KafkaError> {
        let mut told = serde_json::Map::new();
        for group in &mut self.groups {
            let own: Vec<usize> = (0..self.partitions.len())
                .filter(|place| group.topics.contains(&self.partitions[*place].topic))
                .collect();
            if own.is_empty() {
                continue;
            }
            let partitions: Vec<_> = own.iter().map(|p| self.partitions[*p].clone()).collect();
            let noted = group.reader.all_noted(&partitions, PATIENCE)?;
            let (mut lag, mut sum, mut is_known) = (0, 0, false);
            for (place, noted) in own.into_iter().zip(noted) {
                let begin = self.beginnings[place].unwrap_or(0);
                is_known |= noted.is_some();
                sum += noted.unwrap_or(0);
                let from = noted.unwrap_or(begin).max(begin);
                lag += ends[place].map_or(0, |end| (end - from).max(0));
            }
            let now = wall_now();
            if group.moved.0 != sum || group.moved.1 == 0 {
                group.moved = (sum, now);
            }
            let still_ms = now - group.moved.1;
            told.insert(
                group.name.into(),
                // Seconds are enough: a millisecond more is no news.
                json!({"lag": lag, "known": is_known, "still_s": still_ms / 1_000}),
            );
        }
        Ok(told.into())
    }
}

/// A topic's name without the installation's prefix.
fn short(config: &Config, name: &str) -> String {
    name.strip_prefix(config.topics.prefix.as_str()).unwrap_or(name).to_owned()
}

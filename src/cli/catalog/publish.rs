//! The catalog's topic as tools see it: what is published, and publishing what differs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::catalog::{Change, Difference, Field};
use crate::cli::Failure;
use crate::config::Config;
use crate::dataset::{ItemRow, RefusedRow};
use crate::event::{CatalogItem, Encoding, item_of_key};
use crate::ids::ItemId;
use crate::kafka::{Delivery, Outgoing, Producer, ProducerKind, Tracker, WholeTopic};

/// How long the broker may send nothing before reading is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// How long the last deliveries may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(120);
/// Items shown of each kind of change, and refused rows; the rest is only counted.
const EXAMPLES: usize = 5;

/// What is published: a fold of the topic, to be brought up to date before each pass.
pub struct Published {
    topic: WholeTopic,
    /// What is published, and what the source said of it.
    pub difference: Difference,
}

impl Published {
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let name = config.topics.item_catalog();
        let topic = WholeTopic::open(&config.kafka.client(), &name, "driftline-catalog-tool")?;
        Ok(Self { topic, difference: Difference::default() })
    }

    /// Reads to where the topic ends now.
    pub fn catch_up(&mut self) -> Result<(), Failure> {
        self.topic.mark_end()?;
        let mut heard = Instant::now();
        while !self.topic.is_at_mark() {
            let Some(record) = self.topic.poll(Duration::from_millis(100)) else {
                if heard.elapsed() > SILENCE {
                    let silent = format!("the catalog's topic sent nothing for {SILENCE:?}");
                    return Err(format!("{silent}; `driftline doctor` looks at the broker").into());
                }
                continue;
            };
            heard = Instant::now();
            // What cannot be read is as good as not published: the source's word replaces it.
            let Ok(item) = item_of_key(record.key()) else { continue };
            match CatalogItem::decode(record.key(), record.value()) {
                _ if record.is_tombstone() => self.difference.delisted(item.as_str()),
                Ok(item) => self.difference.published(&item)?,
                Err(rejection) => {
                    tracing::warn!(%rejection, %item, "an unreadable catalog record");
                    self.difference.delisted(item.as_str());
                }
            }
        }
        Ok(())
    }
}

/// What a pass over a source found and published.
#[derive(Default)]
pub struct Changes {
    pub rows: u64,
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
    pub unchanged: u64,
    pub refused: u64,
    /// Why nothing was removed though something is missing.
    pub kept: Option<String>,
    new: Vec<(String, String)>,
    differing: Vec<(String, Vec<Field>)>,
    gone: Vec<String>,
    bad: Vec<RefusedRow>,
    /// Whether a refused row did not even say which item it is about.
    nameless: bool,
}

/// Publishes what differs while a source is read; only looks, where it is a dry run.
pub struct Publisher<'a> {
    producer: Option<Producer>,
    tracker: Arc<Tracker>,
    topic: String,
    difference: &'a mut Difference,
    changes: Changes,
}

impl<'a> Publisher<'a> {
    pub fn begin(
        config: &Config,
        difference: &'a mut Difference,
        dry_run: bool,
    ) -> Result<Self, Failure> {
        let client = config.kafka.client();
        let producer = || Producer::new(&client, ProducerKind::Durable, "driftline-catalog");
        difference.begin_pass();
        Ok(Self {
            producer: if dry_run { None } else { Some(producer()?) },
            tracker: Arc::default(),
            topic: config.topics.item_catalog(),
            difference,
            changes: Changes::default(),
        })
    }

    /// Takes one row of the source.
    pub fn take(&mut self, number: u64, row: ItemRow) -> Result<(), Failure> {
        self.changes.rows += 1;
        let item = match row {
            Ok(item) => item,
            Err(refused) => {
                if let Some(item) = &refused.item {
                    self.difference.keep(item);
                }
                self.refuse(refused);
                return Ok(());
            }
        };
        let name = item.item.to_string();
        let changes = &mut self.changes;
        match self.difference.observe(&item)? {
            Change::Same => {
                changes.unchanged += 1;
                return Ok(());
            }
            Change::Repeated => {
                let reason = format!("{name} was in an earlier row, which counts");
                self.refuse(RefusedRow { row: number, item: Some(name), reason });
                return Ok(());
            }
            Change::Added => {
                changes.added += 1;
                if changes.new.len() < EXAMPLES {
                    changes.new.push((name, item.title.clone()));
                }
            }
            Change::Changed(fields) => {
                changes.changed += 1;
                if changes.differing.len() < EXAMPLES {
                    changes.differing.push((name, fields));
                }
            }
        }
        let value = item.encode(Encoding::AvroSingleObject)?;
        self.send(&item.item, Some(&value))
    }

    fn refuse(&mut self, refused: RefusedRow) {
        self.changes.refused += 1;
        self.changes.nameless |= refused.item.is_none();
        if self.changes.bad.len() < EXAMPLES * 4 {
            self.changes.bad.push(refused);
        }
    }

    /// Delists what the source does not have, after all of it was read; at most so many percent
    /// of what is published.
    pub fn prune(&mut self, limit_percent: u8) -> Result<(), Failure> {
        let missing: Vec<ItemId> = self.difference.missing().into_iter().cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (count, all) = (missing.len(), self.difference.len());
        if self.changes.nameless {
            self.changes.kept = Some(format!(
                "{count} items are missing and stay: a refused row does not say which item it is \
                 about, and may be one of them"
            ));
            return Ok(());
        }
        if count * 100 > all * usize::from(limit_percent) {
            self.changes.kept = Some(format!(
                "{count} of {all} items are missing and stay: more than {limit_percent} % at once \
                 looks like a mistake. If it is none, raise the limit"
            ));
            return Ok(());
        }
        for item in missing {
            self.send(&item, None)?;
            self.changes.removed += 1;
            if self.changes.gone.len() < EXAMPLES {
                self.changes.gone.push(item.to_string());
            }
        }
        Ok(())
    }

    fn send(&self, item: &ItemId, value: Option<&[u8]>) -> Result<(), Failure> {
        let Some(producer) = &self.producer else { return Ok(()) };
        let outgoing = Outgoing {
            topic: &self.topic,
            key: Some(item.as_str().as_bytes()),
            value: value.unwrap_or_default(),
            is_tombstone: value.is_none(),
            ..Outgoing::default()
        };
        Ok(producer.send(&outgoing, Delivery::Tracked(Arc::clone(&self.tracker)))?)
    }

    /// Waits until everything is delivered.
    pub fn finish(self) -> Result<Changes, Failure> {
        self.tracker.wait(FLUSH_LIMIT)?;
        Ok(self.changes)
    }
}

impl Changes {
    /// Whether every row was taken, and everything that was to be removed was.
    pub fn is_complete(&self) -> bool {
        self.refused == 0 && self.kept.is_none()
    }

    /// Examples of what changed on standard output, of what was refused on standard error.
    pub fn print_examples(&self) {
        let more = |count: u64, shown: usize, what: &str| {
            if count > shown as u64 {
                println!("  … and {} more {what}", count - shown as u64);
            }
        };
        for (item, title) in &self.new {
            println!("+ {item}  {title}");
        }
        more(self.added, self.new.len(), "added");
        for (item, fields) in &self.differing {
            let fields: Vec<&str> = fields.iter().map(|field| field.name()).collect();
            println!("~ {item}  {}", fields.join(", "));
        }
        more(self.changed, self.differing.len(), "changed");
        for item in &self.gone {
            println!("- {item}");
        }
        more(self.removed, self.gone.len(), "removed");
        for RefusedRow { row, item, reason } in &self.bad {
            let item = item.as_ref().map_or_else(String::new, |item| format!(" ({item})"));
            eprintln!("! row {row}{item}: {reason}");
        }
        if self.refused > self.bad.len() as u64 {
            eprintln!("! … and {} more rows refused", self.refused - self.bad.len() as u64);
        }
        if let Some(why) = &self.kept {
            eprintln!("! {why}");
        }
    }

    /// The counts as a sentence.
    pub fn sentence(&self) -> String {
        format!(
            "{} rows: {} added, {} changed, {} removed, {} unchanged, {} refused",
            self.rows, self.added, self.changed, self.removed, self.unchanged, self.refused
        )
    }

    pub fn to_json(&self) -> Value {
        let differing = self.differing.iter().map(|(item, fields)| {
            json!({"item": item, "fields": fields.iter().map(|f| f.name()).collect::<Vec<_>>()})
        });
        let bad = self.bad.iter().map(
            |RefusedRow { row, item, reason }| json!({"row": row, "item": item, "reason": reason}),
        );
        json!({
            "rows": self.rows,
            "added": self.added,
            "changed": self.changed,
            "removed": self.removed,
            "unchanged": self.unchanged,
            "refused": self.refused,
            "kept": self.kept,
            "examples": {
                "added": self.new.iter().map(|(item, _)| item).collect::<Vec<_>>(),
                "changed": differing.collect::<Vec<_>>(),
                "removed": self.gone,
            },
            "refused_rows": bad.collect::<Vec<_>>(),
        })
    }
}

//! Configuration: one TOML file, then environment, then flags, read once into validated structs.
//!
//! Unknown keys are refused with the nearest known one. Secrets are masked wherever a
//! configuration is shown.

mod catalog;
mod deployment;
mod gateway;
mod global;
mod hot;
mod items;
mod lake;
mod load;
mod monitor;
mod objects;
mod quality;
mod ranker;
mod registry;
mod secret;
mod snapshots;
#[cfg(test)]
mod tests;
mod training;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use catalog::{CatalogConfig, SyncConfig, SyncTls};
pub use deployment::DeploymentConfig;
pub use gateway::GatewayConfig;
pub use global::GlobalConfig;
pub use hot::HotConfig;
pub use items::{FirstBasisConfig, ItemsConfig};
pub use lake::LakeConfig;
pub use load::{ConfigError, Sources, load};
pub use monitor::MonitorConfig;
pub use objects::ObjectsConfig;
pub use quality::QualityConfig;
pub use ranker::RankerConfig;
pub use registry::RegistryConfig;
pub use secret::{Properties, Secret};
pub use snapshots::SnapshotsConfig;
pub use training::TrainingConfig;

use crate::event::EventTopic;
use crate::feature::{FoldRules, MAX_TTL_DAYS};
use crate::kafka::{ClientSettings, GroupProtocol};
use crate::serving::ListRules;
use crate::telemetry::LogFormat;

/// The whole configuration. `config/driftline.toml` documents every key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// How to reach Kafka.
    pub kafka: KafkaConfig,
    /// Names of topics.
    pub topics: TopicsConfig,
    /// The worker process.
    pub worker: WorkerConfig,
    /// What is kept of users, and how.
    pub state: StateConfig,
    /// What is accepted as an event.
    pub events: EventsConfig,
    /// Requests and replies.
    pub serving: ServingConfig,
    /// Tables that every worker holds whole.
    pub global: GlobalConfig,
    /// What the platform says about items.
    pub catalog: CatalogConfig,
    /// Recently active users in Redis.
    pub hot: HotConfig,
    /// Item vectors and statistics.
    pub items: ItemsConfig,
    /// Examples of what was shown and what came of it.
    pub quality: QualityConfig,
    /// What learns from them to rank.
    pub ranker: RankerConfig,
    /// The object store.
    pub objects: ObjectsConfig,
    /// Event topics as Parquet files.
    pub lake: LakeConfig,
    /// Versions of the model in the object store.
    pub registry: RegistryConfig,
    /// Snapshots of shards in the object store.
    pub snapshots: SnapshotsConfig,
    /// Models trained on the lake.
    pub training: TrainingConfig,
    /// How a new version is let in.
    pub deployment: DeploymentConfig,
    /// What watches metrics.
    pub monitor: MonitorConfig,
    /// REST and the dashboard.
    pub gateway: GatewayConfig,
    /// The HTTP port.
    pub http: HttpConfig,
    /// Logs.
    pub log: LogConfig,
}

/// How to reach Kafka.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaConfig {
    /// `host:port,…`
    pub bootstrap: String,
    /// Consumer group of the workers; one group is one installation.
    pub group: String,
    /// Who computes assignments.
    pub group_protocol: GroupProtocol,
    /// `plaintext`, `ssl`, `sasl_plaintext`, `sasl_ssl`.
    pub security_protocol: String,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`; empty without SASL.
    pub sasl_mechanism: String,
    /// SASL user.
    pub sasl_username: String,
    /// SASL password.
    pub sasl_password: Secret,
    /// Any other librdkafka property.
    pub properties: Properties,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            bootstrap: "localhost:9092".into(),
            group: "driftline".into(),
            group_protocol: GroupProtocol::Consumer,
            security_protocol: "plaintext".into(),
            sasl_mechanism: String::new(),
            sasl_username: String::new(),
            sasl_password: Secret::default(),
            properties: Properties::default(),
        }
    }
}

impl KafkaConfig {
    /// Settings for a client.
    pub fn client(&self) -> ClientSettings {
        let mut properties = BTreeMap::new();
        let mut set = |key: &str, value: &str| {
            if !value.is_empty() {
                properties.insert(key.to_owned(), value.to_owned());
            }
        };
        set("security.protocol", &self.security_protocol);
        set("sasl.mechanism", &self.sasl_mechanism);
        set("sasl.username", &self.sasl_username);
        set("sasl.password", self.sasl_password.expose());
        properties.extend(self.properties.0.clone());
        ClientSettings { bootstrap: self.bootstrap.clone(), properties }
    }
}

/// Names of topics.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicsConfig {
    /// Before every topic's name: several installations can share a cluster.
    pub prefix: String,
}

impl TopicsConfig {
    /// The topic of this name in this installation.
    pub fn named(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Watch events.
    pub fn watch_events(&self) -> String {
        self.named("watch-events")
    }

    /// Click events.
    pub fn click_events(&self) -> String {
        self.named("click-events")
    }

    /// What users do not want to see.
    pub fn feedback_events(&self) -> String {
        self.named("feedback-events")
    }

    /// A topic of users' events.
    pub fn events(&self, topic: EventTopic) -> String {
        match topic {
            EventTopic::Watch => self.watch_events(),
            EventTopic::Click => self.click_events(),
            EventTopic::Feedback => self.feedback_events(),
        }
    }

    /// Requests.
    pub fn requests(&self) -> String {
        self.named("recommendation-requests")
    }

    /// The default reply topic.
    pub fn replies(&self) -> String {
        self.named("recommendation-replies")
    }

    /// What shards tell all workers.
    pub fn interactions(&self) -> String {
        self.named("interactions")
    }

    /// What the platform says about items.
    pub fn item_catalog(&self) -> String {
        self.named("item-catalog")
    }

    /// Live vectors of items.
    pub fn item_embeddings(&self) -> String {
        self.named("item-embeddings")
    }

    /// What is counted of items.
    pub fn item_features(&self) -> String {
        self.named("item-features")
    }

    /// Bases of item vectors.
    pub fn models(&self) -> String {
        self.named("models")
    }

    /// What became of triggers.
    pub fn training_runs(&self) -> String {
        self.named("training-runs")
    }

    /// Which model serves.
    pub fn model_control(&self) -> String {
        self.named("model-control")
    }

    /// What workers made of it.
    pub fn model_acks(&self) -> String {
        self.named("model-acks")
    }

    /// Lists of a candidate that nobody saw.
    pub fn shadow_impressions(&self) -> String {
        self.named("shadow-impressions")
    }

    /// Who is served how.
    pub fn experiments(&self) -> String {
        self.named("experiments")
    }

    /// Lists as they were answered.
    pub fn impressions(&self) -> String {
        self.named("impressions")
    }

    /// What was shown, item by item, and what came of it.
    pub fn training_examples(&self) -> String {
        self.named("training-examples")
    }

    /// What came of lists, and what workers answered, by the minute.
    pub fn metrics(&self) -> String {
        self.named("metrics")
    }

    /// What may ask for a new model.
    pub fn retrain_triggers(&self) -> String {
        self.named("retrain-triggers")
    }

    /// The same as JSON.
    pub fn retrain_triggers_json(&self) -> String {
        self.named("retrain-triggers-json")
    }

    /// What came of it later.
    pub fn label_corrections(&self) -> String {
        self.named("label-corrections")
    }

    /// What a simulated world is asked for over the gateway, where that is open; see `[gateway]`.
    pub fn gateway_simulation(&self, gateway: &GatewayConfig) -> Option<String> {
        let name = gateway.simulation_topic.as_str();
        (!name.is_empty()).then(|| self.named(name))
    }

    /// Topic of what is asked of a running simulation.
    pub fn simulation_control(&self) -> String {
        self.named("simulation-control")
    }

    /// What was refused.
    pub fn dead_letters(&self) -> String {
        self.named("dead-letters")
    }
}

/// The worker process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerConfig {
    /// Folder of the shards' stores.
    pub data_dir: PathBuf,
    /// Threads that consume and fold events; each is a member of the group.
    pub ingest_threads: usize,
    /// Threads that answer requests.
    pub serving_threads: usize,
    /// Seconds that a shutdown may take before the process ends anyway.
    pub shutdown_seconds: u64,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            data_dir: ".driftline/state".into(),
            ingest_threads: 1,
            serving_threads: 2,
            shutdown_seconds: 30,
        }
    }
}

/// What is kept of users, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StateConfig {
    /// Newest events kept per user and topic.
    pub history_limit: usize,
    /// Days after which a user's events are forgotten.
    pub ttl_days: u32,
    /// Milliseconds between commits.
    pub commit_interval_ms: u64,
    /// Milliseconds between commits while records are waiting to be folded: fewer and larger
    /// writes, since a user's events between two commits are one.
    pub backlog_commit_interval_ms: u64,
    /// Bytes of uncommitted events per shard at which folding waits for the commit.
    pub pending_max_bytes: usize,
    /// Bytes of RocksDB's block cache, all shards together.
    pub cache_bytes: usize,
    /// Bytes of RocksDB's unflushed writes, all shards together.
    pub write_buffer_bytes: usize,
}

impl Default for StateConfig {
    fn default() -> Self {
        let rules = FoldRules::default();
        Self {
            history_limit: rules.history_limit,
            ttl_days: rules.ttl_days,
            commit_interval_ms: 250,
            backlog_commit_interval_ms: 3_000,
            pending_max_bytes: 32 << 20,
            cache_bytes: 256 << 20,
            write_buffer_bytes: 256 << 20,
        }
    }
}

impl StateConfig {
    /// The part that decides what a state is.
    pub fn rules(&self) -> FoldRules {
        FoldRules { history_limit: self.history_limit, ttl_days: self.ttl_days }
    }
}

/// What is accepted as an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct EventsConfig {
    /// Milliseconds that an event time may lie ahead of the record's append time.
    pub max_ahead_ms: i64,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { max_ahead_ms: 3_600_000 }
    }
}

/// Requests and replies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ServingConfig {
    /// Requests that may wait for a serving thread before more are refused as overloaded.
    pub queue_limit: usize,
    /// Deadline of a request without one, milliseconds after it was appended.
    pub default_deadline_ms: i64,
    /// Reply topics that a client may name, after the prefix; `*` stands for anything.
    pub reply_topics: Vec<String>,
    /// Whether every list that is answered goes to `impressions`.
    pub impressions: bool,
    /// Bytes of what users were lately shown, all shards together.
    pub shown_bytes: usize,
    /// Records of `impressions` read back when a shard is opened.
    pub shown_warm_records: i64,
    /// How far an item gives way to one less like those above it, 0 to 1.
    pub diversity: f64,
    /// Items of one creator in a list at most, where others can fill it.
    pub max_per_creator: usize,
    /// Share of places given to new and little known items, drawn at random; 0 for none.
    pub exploration: f64,
}

impl Default for ServingConfig {
    fn default() -> Self {
        let lists = ListRules::default();
        Self {
            queue_limit: 1_000,
            default_deadline_ms: 5_000,
            reply_topics: vec!["recommendation-replies".into(), "recommendation-replies-*".into()],
            impressions: true,
            shown_bytes: 64 << 20,
            shown_warm_records: 10_000,
            diversity: lists.diversity,
            max_per_creator: lists.max_per_creator,
            exploration: lists.exploration,
        }
    }
}

impl ServingConfig {
    /// What lists are made by, beside scores.
    pub fn list_rules(&self) -> ListRules {
        let Self { diversity, max_per_creator, exploration, .. } = *self;
        ListRules { diversity, max_per_creator, exploration }
    }
}

/// The HTTP port.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpConfig {
    /// `host:port` of /metrics and /health; empty for none, port 0 for any free one.
    pub listen: String,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9600".into() }
    }
}

/// Logs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters such as `driftline=debug,warn`.
    pub level: String,
    /// How logs look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info,librdkafka=error,rdkafka=error".into(), format: LogFormat::Text }
    }
}

impl Config {
    /// The topics whose partitions are user shards.
    pub fn user_keyed_topics(&self) -> Vec<String> {
        let topics = &self.topics;
        let mut names = EventTopic::ALL.map(|topic| topics.events(topic)).to_vec();
        names.push(topics.requests());
        if self.serving.impressions || self.quality.enabled {
            names.push(topics.impressions());
        }
        if self.quality.enabled {
            names.extend([topics.training_examples(), topics.label_corrections()]);
        }
        names
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("worker.ingest_threads", self.worker.ingest_threads),
            ("worker.serving_threads", self.worker.serving_threads),
            ("state.history_limit", self.state.history_limit),
            ("state.cache_bytes", self.state.cache_bytes),
            ("state.write_buffer_bytes", self.state.write_buffer_bytes),
            ("serving.queue_limit", self.serving.queue_limit),
            ("serving.max_per_creator", self.serving.max_per_creator),
        ];
        for (key, value) in positive {
            in_range(key, value, 1, usize::MAX)?;
        }
        in_range("state.history_limit", self.state.history_limit, 1, 10_000)?;
        in_range("state.ttl_days", self.state.ttl_days, 1, MAX_TTL_DAYS)?;
        in_range("state.commit_interval_ms", self.state.commit_interval_ms, 1, 60_000)?;
        in_range(
            "state.backlog_commit_interval_ms",
            self.state.backlog_commit_interval_ms,
            self.state.commit_interval_ms,
            600_000,
        )?;
        // Positions inside the arena are 32 bits wide.
        in_range("state.pending_max_bytes", self.state.pending_max_bytes, 1 << 16, 1 << 30)?;
        in_range("events.max_ahead_ms", self.events.max_ahead_ms, 0, i64::MAX)?;
        in_range("serving.default_deadline_ms", self.serving.default_deadline_ms, 1, 600_000)?;
        in_range("serving.shown_bytes", self.serving.shown_bytes, 1 << 16, 1 << 40)?;
        in_range("serving.shown_warm_records", self.serving.shown_warm_records, 0, i64::MAX)?;
        let shares = [
            ("serving.diversity", self.serving.diversity),
            ("serving.exploration", self.serving.exploration),
        ];
        for (key, value) in shares {
            // Not a number is in no range.
            if !(0.0..=1.0).contains(&value) {
                return Err(ConfigError::Invalid(format!("{key} is {value}; 0 to 1 are allowed")));
            }
        }
        self.global.validate()?;
        self.catalog.validate()?;
        self.hot.validate()?;
        self.items.validate()?;
        self.quality.validate()?;
        self.ranker.validate()?;
        self.objects.validate()?;
        self.lake.validate()?;
        self.registry.validate()?;
        self.deployment.validate()?;
        self.snapshots.validate()?;
        self.training.validate()?;
        self.monitor.validate()?;
        self.gateway.validate()?;
        if self.kafka.bootstrap.is_empty() {
            return Err(ConfigError::Invalid("kafka.bootstrap is empty; give host:port".into()));
        }
        Ok(())
    }
}

fn in_range<T: PartialOrd + fmt::Display>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ConfigError> {
    // What is no number is in no range.
    if !(least <= value && value <= most) {
        return Err(ConfigError::Invalid(format!(
            "{key} is {value}; {least} to {most} are allowed"
        )));
    }
    Ok(())
}

use std::collections::BTreeSet;

use tempfile::TempDir;
use toml::{Table, Value};

use super::secret::MASK;
use super::*;
use crate::kafka::GroupProtocol;

/// `config/driftline.toml`, which documents every key.
const DOCUMENTED: &str = include_str!("../../config/driftline.toml");

struct Given {
    dir: TempDir,
    sources: Sources,
}

fn given() -> Given {
    Given { dir: TempDir::new().unwrap(), sources: Sources::default() }
}

impl Given {
    fn file(mut self, text: &str) -> Self {
        let path = self.dir.path().join("driftline.toml");
        std::fs::write(&path, text).unwrap();
        self.sources.file = Some(path);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, text: &str) -> Self {
        self.sources.overrides.push(text.into());
        self
    }

    fn load(&self) -> Config {
        load(&self.sources).unwrap()
    }

    fn refused(&self) -> String {
        load(&self.sources).map(|_| ()).unwrap_err().to_string()
    }
}

#[test]
fn without_any_source_the_defaults_hold() {
    let config = given().load();
    assert_eq!(toml::to_string(&config).unwrap(), toml::to_string(&Config::default()).unwrap());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file_and_that_over_defaults() {
    let file = "[state]\nttl_days = 10\nhistory_limit = 11\ncommit_interval_ms = 12\n";
    let config = given()
        .file(file)
        .env("DRIFTLINE_STATE__HISTORY_LIMIT", "21")
        .env("DRIFTLINE_STATE__COMMIT_INTERVAL_MS", "22")
        .flag("state.commit_interval_ms = 32")
        .load()
        .state;
    assert_eq!((config.ttl_days, config.history_limit, config.commit_interval_ms), (10, 21, 32));
    assert_eq!(config.pending_max_bytes, StateConfig::default().pending_max_bytes);
}

#[test]
fn texts_become_the_types_of_their_keys() {
    let config = given()
        .flag("serving.reply_topics=a, b-*")
        .flag("global.trending_half_life_hours=12")
        .flag("global.trending_half_life_hours_by_surface.search=6")
        .flag("kafka.properties.ssl.ca.location=/ca.pem")
        .flag("kafka.group_protocol=classic")
        .flag("log.format=json")
        .flag("http.listen=")
        .flag("catalog.required=true")
        .flag("deployment.steps=[0.2, 0.5]")
        .flag("catalog.sync.full_every_minutes=5")
        .env("DRIFTLINE_CATALOG__SYNC__TLS", "verify")
        .load();
    assert!(config.catalog.required);
    assert_eq!(config.deployment.steps, [0.2, 0.5]);
    assert_eq!(config.catalog.sync.full_every_minutes, 5);
    assert_eq!(config.catalog.sync.tls, SyncTls::Verify);
    assert_eq!(config.serving.reply_topics, ["a", "b-*"]);
    assert!((config.global.trending_half_life_hours - 12.0).abs() < 1e-9);
    assert_eq!(config.global.trending_half_life_hours_by_surface["search"], 6.0);
    assert_eq!(config.kafka.properties.0["ssl.ca.location"], "/ca.pem");
    assert_eq!(config.kafka.group_protocol, GroupProtocol::Classic);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.http.listen, "");
}

#[test]
fn a_bootstrap_address_has_a_variable_of_its_own() {
    let config = given().env("DRIFTLINE_BOOTSTRAP", "broker:1").load();
    assert_eq!(config.kafka.bootstrap, "broker:1");
    let config = given().env("DRIFTLINE_BOOTSTRAP", "").load();
    assert_eq!(config.kafka.bootstrap, "localhost:9092");
}

#[test]
fn variables_of_others_are_left_alone() {
    given().env("PATH", "/bin").env("DRIFTLINE_CACHE", "/x").env("MY_DRIFTLINE_X", "1").load();
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_and_where_it_came_from() {
    let file = given().file("[state]\nttl_day = 3\n").refused();
    assert!(file.contains("state.ttl_day ") && file.contains("did you mean state.ttl_days?"));
    assert!(file.contains("driftline.toml"), "{file}");
    let section = given().file("[stat]\nttl_days = 3\n").refused();
    assert!(section.contains("unknown config key stat"), "{section}");
    let env = given().env("DRIFTLINE_KAFKA__BOOTSTRAPS", "x").refused();
    assert!(env.contains("DRIFTLINE_KAFKA__BOOTSTRAPS"), "{env}");
    assert!(env.contains("did you mean kafka.bootstrap?"), "{env}");
    let flag = given().flag("worker.ingest_thread=2").refused();
    assert!(flag.contains("did you mean worker.ingest_threads?"), "{flag}");
    let far = given().flag("zzz=2").refused();
    assert!(far.contains("driftline config show"), "{far}");
    let half = given().flag("state.ttl_days").refused();
    assert!(half.contains("section.key=value"), "{half}");
}

#[test]
fn a_value_of_another_type_is_refused_by_its_key() {
    let flag = given().flag("state.ttl_days=soon").refused();
    assert!(flag.contains("state.ttl_days") && flag.contains("no whole number"), "{flag}");
    let flag = given().flag("global.trending_half_life_hours=long").refused();
    assert!(flag.contains("global.trending_half_life_hours"), "{flag}");
    let file = given().file("[state]\nttl_days = \"soon\"\n").refused();
    assert!(file.contains("ttl_days") && file.contains("soon"), "{file}");
    let file = given().file("state = 3\n").refused();
    assert!(file.contains("write [state]"), "{file}");
    let choice = given().flag("log.format=xml").refused();
    assert!(choice.contains("xml") && choice.contains("json"), "{choice}");
    let negative = given().flag("state.ttl_days=-1").refused();
    assert!(negative.contains("ttl_days"), "{negative}");
}

#[test]
fn values_that_cannot_work_are_refused_by_their_key() {
    let cases = [
        "worker.ingest_threads=0",
        "worker.serving_threads=0",
        "state.history_limit=0",
        "state.history_limit=10001",
        "state.ttl_days=0",
        "state.ttl_days=3651",
        "state.commit_interval_ms=0",
        "state.backlog_commit_interval_ms=1",
        "state.pending_max_bytes=1",
        "state.pending_max_bytes=1073741825",
        "events.max_ahead_ms=-1",
        "serving.queue_limit=0",
        "serving.max_per_creator=0",
        "serving.diversity=1.1",
        "serving.diversity=nan",
        "serving.exploration=-0.1",
        "serving.default_deadline_ms=0",
        "global.sessions=0",
        "global.warm_records=-1",
        "global.trending_half_life_hours=0",
        "global.trending_half_life_hours=NaN",
        "catalog.required=perhaps",
        "catalog.sync.tls=maybe",
        "catalog.sync.query= ",
        "catalog.sync.full_every_minutes=0",
        "catalog.sync.prune_limit_percent=101",
        "catalog.sync.prune=2",
        "catalog.sync=2",
        "hot.address=redis",
        "hot.address=:6379",
        "hot.address=redis:port",
        "hot.ttl_seconds=0",
        "hot.read_timeout_ms=0",
        "hot.queue_limit=0",
        "hot.username=someone",
        "hot.tls_ca=/ca.pem",
        "kafka.bootstrap=",
    ];
    for case in cases {
        let error = given().flag(case).refused();
        let key = case.split('=').next().unwrap();
        assert!(error.contains(key), "{case}: {error}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_refused_by_its_path() {
    let mut missing = given();
    missing.sources.file = Some(missing.dir.path().join("none.toml"));
    assert!(missing.refused().contains("none.toml"));
    let broken = given().file("[state\n").refused();
    assert!(broken.contains("driftline.toml"), "{broken}");
}

const SECRET: &str = "hunter2-and-more";

#[test]
fn secrets_are_shown_nowhere() {
    let secret = |key: &str| format!("{key}={SECRET}");
    let config = given()
        .flag(&secret("kafka.sasl_password"))
        .flag(&secret("catalog.sync.url"))
        .flag(&secret("hot.password"))
        .flag(&secret("gateway.api_key"))
        .flag("hot.address=redis:6379")
        .flag(&secret("kafka.properties.sasl.password"))
        .flag(&secret("kafka.properties.ssl.key.password"))
        .flag(&secret("kafka.properties.ssl.key.pem"))
        .flag(&secret("kafka.properties.ssl.keystore.password"))
        .flag(&secret("kafka.properties.sasl.oauthbearer.config"))
        .flag(&secret("kafka.properties.sasl.oauthbearer.client.secret"))
        .flag("kafka.properties.ssl.ca.location=/ca.pem")
        .load();
    let shown = toml::to_string(&config).unwrap();
    let hot = format!("{:?}", config.hot.server().unwrap());
    for text in [&shown, &format!("{config:?}"), &format!("{:?}", config.kafka.client()), &hot] {
        assert!(!text.contains(SECRET), "{text}");
    }
    assert!(shown.contains("/ca.pem") && shown.contains(MASK));
    assert_eq!(config.kafka.sasl_password.expose(), SECRET);
    assert_eq!(config.kafka.client().properties["sasl.password"], SECRET);
}

#[test]
fn a_key_of_the_gateway_that_is_soon_guessed_or_fits_no_header_is_refused_without_quoting_it() {
    for key in ["fifteen-letters", "sixteen and spaces", "sixteen-ünd-more"] {
        let error = given().flag(&format!("gateway.api_key={key}")).refused();
        assert!(error.contains("openssl rand -hex 24") && !error.contains(key), "{error}");
    }
    assert!(given().load().gateway.api_key.expose().is_empty());
}

#[test]
fn a_redis_that_is_given_as_a_url_is_refused_without_quoting_its_password() {
    let error = given().flag(&format!("hot.address=redis://:{SECRET}@host:6379")).refused();
    assert!(error.contains("host:port") && !error.contains(SECRET), "{error}");
}

#[test]
fn a_redis_is_reached_as_it_is_configured() {
    assert!(given().load().hot.server().is_none());
    let server = |address: &str| {
        let config = given().flag(&format!("hot.address={address}")).flag("hot.tls=true").load();
        config.hot.server().unwrap()
    };
    assert_eq!((server("[::1]:7000").host.as_str(), server("[::1]:7000").port), ("::1", 7_000));
    assert_eq!(server("redis:6379").to_string(), "redis:6379");
    assert!(server("redis:6379").tls.is_some());
}

#[test]
fn an_error_in_the_file_does_not_quote_its_secrets() {
    let broken = format!("[kafka]\nsasl_password = \"{SECRET}\n");
    let error = given().file(&broken).refused();
    assert!(!error.contains(SECRET), "{error}");
    assert!(error.contains("line 2"), "{error}");
    let number = given().file("[kafka]\nsasl_password = 424242\n").refused();
    assert!(!number.contains("424242"), "{number}");
    assert!(number.contains("sasl_password"), "{number}");
    let nested = given().file("[kafka.properties]\n\"ssl.key.password\" = 424242\n").refused();
    assert!(!nested.contains("424242"), "{nested}");
}

#[test]
fn the_topics_of_an_installation_share_its_prefix() {
    let topics = given().flag("topics.prefix=staging-").load().topics;
    let all = [
        topics.watch_events(),
        topics.click_events(),
        topics.feedback_events(),
        topics.requests(),
        topics.replies(),
        topics.interactions(),
        topics.dead_letters(),
        topics.item_catalog(),
        topics.item_embeddings(),
        topics.item_features(),
        topics.models(),
        topics.model_control(),
        topics.model_acks(),
        topics.shadow_impressions(),
        topics.training_runs(),
        topics.impressions(),
        topics.training_examples(),
        topics.label_corrections(),
        topics.metrics(),
        topics.retrain_triggers(),
        topics.retrain_triggers_json(),
        topics.experiments(),
        topics.simulation_control(),
    ];
    assert!(all.iter().all(|t| t.starts_with("staging-")), "{all:?}");
    let files = crate::kafka::load_topic_files(None, "staging-").unwrap();
    let files: BTreeSet<String> = files.into_iter().map(|f| f.name).collect();
    assert_eq!(files, all.into_iter().collect());
}

/// The documentation with its keys in force.
fn uncommented() -> String {
    let key = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
            .map(str::to_owned)
    };
    DOCUMENTED.lines().map(|l| key(l).unwrap_or_else(|| l.into()) + "\n").collect()
}

#[test]
fn the_documented_file_names_every_key_with_its_default() {
    let documented: Table = uncommented().parse().unwrap();
    let defaults = Table::try_from(Config::default()).unwrap();
    for (section, keys) in &defaults {
        let found = documented.get(section).and_then(Value::as_table);
        let found = found.unwrap_or_else(|| panic!("config/driftline.toml lacks [{section}]"));
        for (key, default) in keys.as_table().unwrap() {
            let message = format!("{section}.{key} of config/driftline.toml is not the default");
            assert_eq!(found.get(key), Some(default), "{message}");
        }
    }
    assert_eq!(documented, defaults, "config/driftline.toml names keys that do not exist");
    given().file(&uncommented()).load();
    given().file(DOCUMENTED).load();
}

#[test]
fn every_documented_key_and_section_is_explained() {
    let mut before = "";
    for line in DOCUMENTED.lines() {
        let is_key = line.starts_with('#') && line[1..].starts_with(|c: char| c.is_lowercase());
        if is_key || line.starts_with('[') {
            assert!(before.starts_with("# "), "config/driftline.toml: {line} is not explained");
        }
        assert!(line.chars().count() <= 100, "{line}");
        before = line;
    }
}

use super::*;

const FILE: &str = "
apiVersion: kafka.strimzi.io/v1
kind: KafkaTopic
metadata:
  name: watch-events
  labels:
    strimzi.io/cluster: main
spec:
  partitions: 8
  replicas: 3
  config:
    cleanup.policy: delete
    retention.ms: 604800000
    unclean.leader.election.enable: false
";

fn pairs(config: &[(&str, &str)]) -> BTreeMap<String, String> {
    config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn wanted() -> TopicFile {
    parse("watch-events.yaml", FILE, "").unwrap()
}

/// The wanted topic as a cluster has it that was made from the file.
fn there() -> TopicMetadata {
    let file = wanted();
    let mut config = file.config.clone();
    config.insert("max.message.bytes".into(), "1048588".into());
    TopicMetadata { name: file.name, partitions: file.partitions, config, overrides: file.config }
}

#[test]
fn a_file_in_strimzis_shape_is_read() {
    let file = wanted();
    assert_eq!((file.name.as_str(), file.partitions, file.replicas), ("watch-events", 8, 3));
    let config = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "604800000"),
        ("unclean.leader.election.enable", "false"),
    ];
    assert_eq!(file.config, pairs(&config));
}

#[test]
fn the_topic_name_wins_over_the_resource_name_and_takes_the_prefix() {
    let text = FILE.replace("spec:", "spec:\n  topicName: watch.events");
    assert_eq!(parse("f", &text, "staging-").unwrap().name, "staging-watch.events");
    assert_eq!(parse("f", FILE, "staging-").unwrap().name, "staging-watch-events");
}

#[test]
fn files_that_are_no_topics_are_refused_by_name() {
    let cases = [
        ("KafkaTopic", "KafkaUser"),
        ("kafka.strimzi.io/v1", "apps/v1"),
        ("partitions: 8", "partitions: 0"),
        ("partitions: 8", "partitions: many"),
        ("replicas: 3", "replicas: 0"),
        ("replicas: 3", "replica: 3"),
        ("delete", "[delete, compact]"),
        ("spec:", "specs:"),
    ];
    for (from, to) in cases {
        let error = parse("orders.yaml", &FILE.replace(from, to), "").unwrap_err().to_string();
        assert!(error.starts_with("orders.yaml: "), "{to}: {error}");
    }
    assert!(parse("empty.yaml", "", "").is_err());
}

#[test]
fn the_built_in_files_are_those_of_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("topics");
    let sorted = |folder: Option<&Path>| {
        let mut files = load_topic_files(folder, "x-").unwrap();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    };
    assert_eq!(sorted(None), sorted(Some(&folder)));
    assert!(load_topic_files(Some(&folder.join("none")), "").is_err());
}

#[test]
fn user_keyed_topics_have_the_same_number_of_partitions() {
    let files = load_topic_files(None, "").unwrap();
    let partitions = |name: &str| files.iter().find(|f| f.name == name).unwrap().partitions;
    assert_eq!(partitions("watch-events"), partitions("click-events"));
    assert_eq!(partitions("watch-events"), partitions("recommendation-requests"));
}

#[test]
fn a_topic_that_is_missing_is_made() {
    let other = TopicMetadata { name: "other".into(), partitions: 1, ..Default::default() };
    let plan = plan(&[wanted()], &[other]);
    assert_eq!(plan.changes, [Change::Create(wanted())]);
    assert_eq!((plan.unchanged, plan.is_refused()), (0, false));
    assert!(plan.changes[0].to_string().starts_with("+ watch-events (8 partitions, 3 replicas"));
}

#[test]
fn a_topic_that_is_as_wanted_is_left_alone_whatever_else_was_set_on_it() {
    let mut found = there();
    found.overrides.insert("max.message.bytes".into(), "2000000".into());
    found.config.insert("max.message.bytes".into(), "2000000".into());
    assert_eq!(plan(&[wanted()], &[found]), Plan { changes: vec![], unchanged: 1 });
}

#[test]
fn a_difference_is_set_without_resetting_what_others_have_set() {
    let mut found = there();
    for config in [&mut found.config, &mut found.overrides] {
        config.insert("retention.ms".into(), "1000".into());
        config.insert("segment.bytes".into(), "5000".into());
    }
    let plan = plan(&[wanted()], &[found]);
    let [Change::Configure { topic, all, differences }] = &plan.changes[..] else {
        panic!("{plan:?}");
    };
    assert_eq!(topic, "watch-events");
    let expected = ("retention.ms".to_owned(), "1000".to_owned(), "604800000".to_owned());
    assert_eq!(differences, &[expected]);
    let mut kept = wanted().config;
    kept.insert("segment.bytes".into(), "5000".into());
    assert_eq!(all, &kept, "defaults are not pinned, foreign overrides are kept");
    assert!(plan.changes[0].to_string().contains("retention.ms: 1000 -> 604800000"));
}

#[test]
fn partitions_are_never_changed() {
    for partitions in [4, 16] {
        let found = TopicMetadata { partitions, ..there() };
        let plan = plan(&[wanted()], &[found]);
        assert!(plan.is_refused());
        let refused = Change::Refuse { topic: "watch-events".into(), found: partitions, wanted: 8 };
        assert_eq!(plan.changes, [refused]);
        let text = plan.changes[0].to_string();
        assert!(text.contains(&format!("has {partitions} partitions")), "{text}");
    }
}

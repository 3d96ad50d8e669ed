//! Are the topics as their files want them?

use super::Report;
use crate::cli::Failure;
use crate::config::Config;
use crate::kafka::{Admin, Change, TopicFile, TopicMetadata, plan};

const CHECK: &str = "topics";

/// Whether every topic is there and configured, whether those that meet in a shard agree, and
/// where replies may go.
pub fn check(
    report: &mut Report,
    config: &Config,
    files: &[TopicFile],
    admin: &Admin,
) -> Result<(), Failure> {
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let there = admin.describe(&names)?;
    let wanted = plan(files, &there);
    for change in &wanted.changes {
        match change {
            Change::Create(file) => report.bad(
                CHECK,
                format!("{} does not exist", file.name),
                "make it with `driftline topics apply`",
            ),
            Change::Configure { topic, differences, .. } => {
                let differences: Vec<String> = differences
                    .iter()
                    .map(|(key, old, new)| format!("{key} is {old} instead of {new}"))
                    .collect();
                report.bad(
                    CHECK,
                    format!("{topic}: {}", differences.join(", ")),
                    "`driftline topics apply` sets it; own files go with --dir",
                );
            }
            // Made so with `apply --partitions`; what matters is that they agree, see below.
            Change::Refuse { topic, found, wanted } => report
                .good(CHECK, format!("{topic} has {found} partitions; its file says {wanted}")),
        }
    }
    if wanted.unchanged > 0 {
        report.good(CHECK, format!("{} are as their files want them", wanted.unchanged));
    }
    partitions_agree(report, config, &there);
    reply_topics(report, config);
    Ok(())
}

/// A user's events and requests must meet in one shard.
fn partitions_agree(report: &mut Report, config: &Config, there: &[TopicMetadata]) {
    let keyed = config.user_keyed_topics();
    let found: Vec<&TopicMetadata> = there.iter().filter(|t| keyed.contains(&t.name)).collect();
    let (Some(first), true) = (found.first(), found.len() == keyed.len()) else { return };
    if found.iter().all(|topic| topic.partitions == first.partitions) {
        report.good(CHECK, format!("user-keyed topics have {} partitions each", first.partitions));
        return;
    }
    let counts: Vec<String> =
        found.iter().map(|t| format!("{} has {}", t.name, t.partitions)).collect();
    report.bad(
        CHECK,
        format!("users' events and requests do not meet: {}", counts.join(", ")),
        "make the odd one out anew with the same number of partitions (its records are lost), or \
         start under another topics.prefix",
    );
}

fn reply_topics(report: &mut Report, config: &Config) {
    let patterns = &config.serving.reply_topics;
    let reaches_all = |pattern: &String| !pattern.is_empty() && pattern.chars().all(|c| c == '*');
    if patterns.is_empty() {
        report.bad(
            "reply topics",
            "serving.reply_topics is empty: no client may name one".into(),
            "list the topics replies may go to, such as recommendation-replies",
        );
    } else if patterns.iter().any(reaches_all) {
        report.bad(
            "reply topics",
            "serving.reply_topics allows any topic: whoever may send a request may have records \
             written anywhere"
                .into(),
            "name them by what they begin with, such as recommendation-replies-*",
        );
    } else {
        report.good("reply topics", format!("replies may go to {}", patterns.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(counts: [i32; 7]) -> Report {
        let config = Config::default();
        let names = config.user_keyed_topics();
        assert_eq!(names.len(), counts.len());
        let there: Vec<TopicMetadata> = names
            .into_iter()
            .zip(counts)
            .map(|(name, partitions)| TopicMetadata { name, partitions, ..Default::default() })
            .collect();
        let mut report = Report::default();
        partitions_agree(&mut report, &config, &there);
        report
    }

    #[test]
    fn user_keyed_topics_must_have_the_same_number_of_partitions() {
        assert!(partitions([4; 7]).is_ok());
        assert!(!partitions([4, 8, 4, 4, 4, 4, 4]).is_ok());
        assert!(!partitions([4, 4, 8, 4, 4, 4, 4]).is_ok());
        assert!(!partitions([4, 4, 4, 4, 4, 4, 8]).is_ok());
    }

    #[test]
    fn a_pattern_that_allows_every_reply_topic_is_not_ok() {
        let mut config = Config::default();
        let mut report = Report::default();
        reply_topics(&mut report, &config);
        assert!(report.is_ok());
        config.serving.reply_topics.push("*".into());
        reply_topics(&mut report, &config);
        assert!(!report.is_ok());
    }
}

//! A run's report, for people as Markdown and for programs as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Candidate, text_of};
use crate::time::EventTime;

/// As Markdown; the plot lies beside it as `recall.svg`.
pub fn markdown(candidate: &Candidate, snapshot: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, candidate, snapshot);
    text
}

fn write(out: &mut String, candidate: &Candidate, snapshot: &str) -> std::fmt::Result {
    let Candidate { basis, choice, judgement, facts, .. } = candidate;
    let time = |millis| text_of(EventTime::from_millis(millis));
    writeln!(out, "# Model {}\n", basis.version())?;
    let verdict = if judgement.is_blessed { "It may serve" } else { "It may not serve" };
    writeln!(out, "**{verdict}**: {}\n", judgement.reasons.join("; "))?;
    writeln!(out, "## Held out\n")?;
    writeln!(
        out,
        "{} targets ({}) from {} to {}, each scored by the pipeline that serves, then learnt. The \
         champion: {}. Differences with their 95 % interval over users.\n",
        judgement.targets,
        judgement.target,
        time(judgement.from_ms),
        time(judgement.to_ms),
        judgement.champion
    )?;
    writeln!(out, "| metric | candidate | champion | trending | difference |")?;
    writeln!(out, "|---|---|---|---|---|")?;
    for one in &judgement.comparisons {
        let difference = one.difference.map_or_else(String::new, |[low, mean, high]| {
            format!("{mean:+.4} [{low:+.4}, {high:+.4}]")
        });
        writeln!(
            out,
            "| {} | {:.4} | {:.4} | {:.4} | {difference} |",
            one.metric, one.candidate, one.champion, one.trending
        )?;
    }
    writeln!(out, "\n![Recall and MRR over the held out time](recall.svg)\n")?;
    writeln!(out, "## Training\n")?;
    writeln!(
        out,
        "{} items, vectors of {} components, from {} likes of {} users up to {}. Settings: {}.\n",
        basis.items().len(),
        basis.dim().get(),
        candidate.positives,
        candidate.users,
        text_of(basis.watermark()),
        choice.settings.name
    )?;
    if !choice.trials.is_empty() {
        writeln!(out, "| settings | Recall@20 on {} earlier targets |", choice.targets)?;
        writeln!(out, "|---|---|")?;
        for trial in &choice.trials {
            writeln!(out, "| {} | {:.4} |", trial.settings.name, trial.recall)?;
        }
        writeln!(out)?;
    }
    writeln!(out, "## Data\n")?;
    writeln!(
        out,
        "Snapshot `{snapshot}`: {} interactions, {} liked ({:.1} %) by {} users of {} items, from {} to \
         {}; {} were sent again, {} name no item, {} have no time, {} files were left out for want of \
         memory.",
        facts.interactions,
        facts.liked,
        100.0 * facts.like_rate(),
        facts.users,
        facts.items,
        time(facts.from_ms),
        time(facts.to_ms),
        facts.sent_again,
        facts.without_item,
        facts.without_time,
        facts.files_left_out
    )
}

/// As JSON.
pub fn json(candidate: &Candidate, snapshot: &str) -> Value {
    let Candidate { basis, choice, judgement, facts, .. } = candidate;
    let trials = choice.trials.iter();
    let trials = trials.map(|t| json!({ "settings": t.settings.name, "recall": t.recall }));
    let comparisons = judgement.comparisons.iter().map(|one| {
        json!({
            "metric": one.metric,
            "candidate": one.candidate,
            "champion": one.champion,
            "trending": one.trending,
            "difference": one.difference,
        })
    });
    json!({
        "version": basis.version().to_string(),
        "parent": candidate.parent.map(|parent| parent.to_string()),
        "snapshot": snapshot,
        "blessed": judgement.is_blessed,
        "reasons": judgement.reasons,
        "held_out": {
            "from_ms": judgement.from_ms,
            "to_ms": judgement.to_ms,
            "targets": judgement.targets,
            "target": judgement.target,
            "champion": judgement.champion,
            "metrics": comparisons.collect::<Vec<_>>(),
        },
        "training": {
            "settings": choice.settings.name,
            "trials": trials.collect::<Vec<_>>(),
            "items": basis.items().len(),
            "components": basis.dim().get(),
            "likes": candidate.positives,
            "users": candidate.users,
            "watermark_ms": basis.watermark().millis(),
        },
        "data": facts,
    })
}

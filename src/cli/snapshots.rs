//! `driftline state snapshots list|verify`

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::ProgressBar;
use serde_json::json;

use super::{Failure, output};
use crate::config::Config;
use crate::objects::Objects;
use crate::state::snapshots::{Depot, Found, find_all};

#[derive(clap::Subcommand)]
pub enum Action {
    /// Snapshots by shard, that which has come furthest first
    List,
    /// Read every part of every snapshot, and say which are whole; fails where one is not
    Verify,
}

pub fn run(action: &Action, config: &Config, as_json: bool) -> Result<ExitCode, Failure> {
    let objects = Arc::new(Objects::open(&config.objects.settings())?);
    let prefix = &config.topics.prefix;
    let found = find_all(&objects, prefix)?;
    let mut verified = BTreeSet::new();
    let bar = match action {
        Action::Verify => ProgressBar::new(found.len() as u64),
        Action::List => ProgressBar::hidden(),
    };
    let mut rows = Vec::new();
    let mut damaged = 0;
    for Found { shard, key, made_ms, manifest } in &found {
        let checked = match (manifest, action) {
            (Ok(manifest), Action::Verify) => {
                let depot = Depot::new(Arc::clone(&objects), prefix, *shard, &manifest.identity);
                depot.verify(manifest, &mut verified)
            }
            _ => Ok(()),
        };
        bar.inc(1);
        let error = manifest.as_ref().err().or(checked.as_ref().err()).map(ToString::to_string);
        damaged += usize::from(error.is_some());
        let manifest = manifest.as_ref().ok();
        let (position, bytes) = (manifest.map(|m| m.position()), manifest.map(|m| m.bytes()));
        if as_json {
            let line = json!({
                "shard": shard.to_string(), "key": key, "made_ms": made_ms, "records": position,
                "bytes": bytes, "sources": manifest.map(|m| &m.sources),
                "identity": manifest.map(|m| &m.identity), "error": error,
            });
            println!("{line}");
            continue;
        }
        let shown = |number: Option<String>| number.unwrap_or_else(|| "?".into());
        rows.push(vec![
            shard.to_string(),
            shown(position.map(|records| records.to_string())),
            shown(bytes.map(output::bytes)),
            age(crate::time::wall_now() - made_ms),
            error.unwrap_or_else(|| match action {
                Action::Verify => "whole".into(),
                Action::List => "".into(),
            }),
        ]);
    }
    bar.finish_and_clear();
    if !as_json {
        output::table(&["shard", "records", "size", "age", ""], &rows);
    }
    let fails = matches!(action, Action::Verify) && damaged > 0;
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Milliseconds in the unit that suits them.
fn age(ms: i64) -> String {
    match ms / 60_000 {
        0..=119 => format!("{} min", ms / 60_000),
        120..=2_879 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

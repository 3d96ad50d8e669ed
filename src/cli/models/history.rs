//! `driftline models history`

use std::process::ExitCode;

use serde_json::json;

use super::{output, time, version_or_dash};
use crate::cli::Failure;
use crate::registry::Registry;

pub fn run(registry: &Registry, as_json: bool) -> Result<ExitCode, Failure> {
    let mut rows = Vec::new();
    for aliases in registry.history()? {
        if as_json {
            println!("{}", json!(aliases));
            continue;
        }
        let why = match &aliases.forced {
            Some(forced) => format!("{} (forced: {forced})", aliases.why),
            None => aliases.why.clone(),
        };
        rows.push(vec![
            aliases.epoch.to_string(),
            time(aliases.at_ms),
            version_or_dash(aliases.champion),
            version_or_dash(aliases.challenger),
            version_or_dash(aliases.previous_champion),
            aliases.by,
            why,
        ]);
    }
    if !as_json {
        let header = ["epoch", "when (UTC)", "champion", "challenger", "previous", "by", "why"];
        output::table(&header, &rows);
    }
    Ok(ExitCode::SUCCESS)
}

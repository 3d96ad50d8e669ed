//! `driftline models list`

use std::process::ExitCode;

use serde_json::json;

use super::{output, roles, time, version_or_dash};
use crate::cli::Failure;
use crate::registry::Registry;

pub fn run(registry: &Registry, as_json: bool) -> Result<ExitCode, Failure> {
    let aliases = registry.aliases()?;
    let mut rows = Vec::new();
    let mut damaged = 0;
    for (version, manifest) in registry.scan()? {
        let roles = roles(version, &aliases, registry)?;
        if as_json {
            let error = manifest.as_ref().err().map(ToString::to_string);
            let manifest = manifest.ok();
            let line = json!({
                "version": version, "roles": roles, "error": error, "manifest": manifest,
            });
            println!("{line}");
            damaged += usize::from(error.is_some());
            continue;
        }
        let roles = roles.join(", ");
        rows.push(match manifest {
            Ok(manifest) => vec![
                version.to_string(),
                time(manifest.created_at_ms),
                manifest.by.name().into(),
                manifest.training.items.to_string(),
                output::bytes(manifest.bytes()),
                if manifest.blessings.missing().is_empty() { "yes" } else { "no" }.into(),
                version_or_dash(manifest.parent),
                roles,
            ],
            Err(error) => {
                damaged += 1;
                eprintln!("{version}: {error}");
                let unknown = std::iter::repeat_n("?".to_owned(), 6);
                [version.to_string()].into_iter().chain(unknown).chain([roles]).collect()
            }
        });
    }
    if !as_json {
        let header = ["version", "made (UTC)", "by", "items", "size", "blessed", "parent", ""];
        output::table(&header, &rows);
    }
    Ok(if damaged > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

//! The state on this machine's disk. Looks at files only: a running worker is not disturbed.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Report;
use crate::cli::output::bytes;
use crate::config::Config;

/// Below this share of free space a compaction may not fit.
const LEAST_FREE_SHARE: f64 = 0.05;
/// Below this many free bytes one may not fit however large the disk is.
const LEAST_FREE_BYTES: u64 = 1 << 30;

/// Shards, their size, stores set aside, free space.
pub fn check(report: &mut Report, config: &Config) {
    let folder = &config.worker.data_dir;
    let entries: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let shown = folder.display();
            report.good("state", format!("no worker has run with worker.data_dir {shown} here"));
            return;
        }
        Err(error) => {
            report.bad(
                "state",
                format!("worker.data_dir {}: {error}", folder.display()),
                "give this user the right to read it, or set worker.data_dir to another folder",
            );
            return;
        }
    };
    let named = |path: &&PathBuf, suffix: &str| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("user-").and_then(|rest| rest.strip_suffix(suffix));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let shards: Vec<&PathBuf> = entries.iter().filter(|path| named(path, "")).collect();
    let aside: Vec<&PathBuf> = entries.iter().filter(|path| named(path, ".set-aside")).collect();
    let total = |paths: &[&PathBuf]| paths.iter().map(|path| size(path)).sum::<u64>();
    report.good(
        "state",
        format!("{} shards, {}, in {}", shards.len(), bytes(total(&shards)), folder.display()),
    );
    if !aside.is_empty() {
        report.bad(
            "state",
            format!(
                "{} damaged or outdated stores set aside, {}",
                aside.len(),
                bytes(total(&aside))
            ),
            "their shards were rebuilt from the log; once you know why from the worker's log, \
             delete the *.set-aside folders",
        );
    }
    if let Some((free, size)) = free_space(folder) {
        let what = format!("{} of {} free", bytes(free), bytes(size));
        if free < LEAST_FREE_BYTES || (free as f64) < LEAST_FREE_SHARE * size as f64 {
            report.bad("disk", what, "make room, or move worker.data_dir to a larger disk");
        } else {
            report.good("disk", what);
        }
    }
}

/// Bytes of all files below. Files that go while it looks count nothing.
fn size(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Free and total bytes of the disk that holds `path`. The standard library does not know, and
/// POSIX `df` does; none where there is no such program.
fn free_space(path: &Path) -> Option<(u64, u64)> {
    let output = Command::new("df").arg("-Pk").arg(path).output().ok()?;
    parse_df(&String::from_utf8_lossy(&output.stdout))
}

fn parse_df(text: &str) -> Option<(u64, u64)> {
    // Filesystem 1024-blocks Used Available Capacity Mounted. The first may contain spaces, so
    // the numbers are counted from the percentage on.
    let fields: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let percent = fields.iter().position(|field| field.ends_with('%'))?;
    let number = |back: usize| fields.get(percent.checked_sub(back)?)?.parse::<u64>().ok();
    Some((number(1)? * 1024, number(3)? * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_read_from_posix_df() {
        let head = "Filesystem 1024-blocks Used Available Capacity Mounted on\n";
        let line = "/dev/a b 1000 250 700 27% /data\n";
        assert_eq!(parse_df(&format!("{head}{line}")), Some((700 * 1024, 1000 * 1024)));
        assert_eq!(parse_df(head), None);
        assert_eq!(parse_df(&format!("{head}df: no such thing")), None);
    }

    #[test]
    fn shards_are_counted_and_stores_set_aside_are_pointed_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["user-0", "user-1", "other"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("user-0/file"), [0; 2_048]).unwrap();
        let mut config = Config::default();
        config.worker.data_dir = folder.path().into();
        let mut report = Report::default();
        check(&mut report, &config);
        assert!(report.lines()[0].contains("2 shards, 2.0 KiB"), "{:?}", report.lines());
        std::fs::create_dir(folder.path().join("user-1.set-aside")).unwrap();
        let mut report = Report::default();
        check(&mut report, &config);
        assert!(!report.is_ok());
    }
}

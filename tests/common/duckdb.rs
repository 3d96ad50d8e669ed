//! DuckDB, which is not ours, asked about the lake.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A Python with DuckDB, fetched once; `None`, with the reason said, where it cannot be.
pub fn python() -> Option<PathBuf> {
    let venv = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("python-duckdb");
    let python = venv.join("bin/python");
    let works = || {
        let import = Command::new(&python).args(["-c", "import duckdb"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    if works() {
        return Some(python);
    }
    let steps: [(&str, &[&str]); 2] = [
        ("python3", &["-m", "venv", venv.to_str()?]),
        (python.to_str()?, &["-m", "pip", "install", "--quiet", "duckdb"]),
    ];
    for (program, arguments) in steps {
        let output = Command::new(program).args(arguments).output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: no DuckDB, {program} {arguments:?}: {output:?}");
            return None;
        }
    }
    works().then_some(python)
}

const PROGRAM: &str = r#"
import duckdb, json, sys
rows = duckdb.connect().execute(sys.argv[1]).fetchall()
print(json.dumps(rows, default=str))
"#;

/// The rows that a query gives.
pub fn query(python: &Path, sql: &str) -> Vec<Vec<Value>> {
    let output = Command::new(python).args(["-c", PROGRAM, sql]).output().expect("Python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sql}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A topic's files as a table.
pub fn topic(lake: &Path, topic: &str) -> String {
    let glob = lake.join(topic).join("**/*.parquet");
    format!("read_parquet('{}', hive_partitioning = true, union_by_name = true)", glob.display())
}

//! DuckDB, which is not ours, asked about the lake.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A Python with DuckDB, fetched once; `None`, with the reason said, where it cannot be.
pub fn python() -> Option<PathBuf> {
    super::python::with("duckdb", "duckdb")
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

//! Rows by time, the newest so many.

use std::collections::BTreeMap;

use serde_json::Value;

/// Rows by their begin.
pub struct Series {
    rows: BTreeMap<i64, String>,
    most: usize,
}

impl Series {
    pub fn new(most: usize) -> Self {
        Self { rows: BTreeMap::new(), most }
    }

    /// Takes rows in, and says them for those who have the others.
    pub fn grow(&mut self, rows: Vec<(i64, Value)>) -> String {
        // Of more rows than are kept the oldest need not be said.
        let skipped = rows.len().saturating_sub(self.most);
        let mut said = Vec::with_capacity(rows.len() - skipped);
        for (start, row) in rows.into_iter().skip(skipped) {
            let text = row.to_string();
            said.push(text.clone());
            self.rows.insert(start, text);
        }
        while self.rows.len() > self.most {
            self.rows.pop_first();
        }
        format!("{{\"rows\":[{}]}}", said.join(","))
    }

    /// All rows, for those who have none.
    pub fn all(&self) -> String {
        let rows: Vec<&str> = self.rows.values().map(String::as_str).collect();
        format!("{{\"all\":true,\"rows\":[{}]}}", rows.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_series_keeps_the_newest_rows_and_a_row_told_anew_once() {
        let mut series = Series::new(3);
        assert_eq!(series.all(), "{\"all\":true,\"rows\":[]}");
        series.grow((1..=4).map(|n| (n, json!([n]))).collect());
        assert_eq!(series.grow(vec![(4, json!([4, "anew"]))]), "{\"rows\":[[4,\"anew\"]]}");
        assert_eq!(series.all(), "{\"all\":true,\"rows\":[[2],[3],[4,\"anew\"]]}");
        let many = series.grow((10..20).map(|n| (n, json!(n))).collect());
        assert_eq!(many, "{\"rows\":[17,18,19]}");
    }
}

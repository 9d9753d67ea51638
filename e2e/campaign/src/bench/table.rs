//! What the benchmarks found: a table for people, JSON for programs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What a value must not pass.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bar {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// One value that was measured.
#[derive(Clone, Debug)]
pub(super) struct Row {
    id: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    bar: Option<Bar>,
    ratio: Option<(f64, &'static str)>,
    note: String,
}

impl Row {
    /// A value; units are `ms`, `calls`, `KiB` and so on.
    pub(super) fn new(id: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Row {
        Row { id, what: what.into(), value, unit, bar: None, ratio: None, note: String::new() }
    }

    /// What it is judged by.
    pub(super) fn bar(mut self, bar: Bar) -> Row {
        self.bar = Some(bar);
        self
    }

    /// Its ratio to a floor of the same run.
    pub(super) fn ratio(mut self, ratio: f64, floor: &'static str) -> Row {
        self.ratio = Some((ratio, floor));
        self
    }

    /// What a reader has to know about it.
    pub(super) fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }

    /// The number of the benchmark, to sort by.
    pub(super) fn order(&self) -> u32 {
        self.id.trim_start_matches('B').parse().unwrap_or(u32::MAX)
    }

    fn verdict(&self) -> Option<bool> {
        self.bar.map(|bar| match bar {
            Bar::AtMost(limit) => self.value <= limit,
            Bar::AtLeast(limit) => self.value >= limit,
        })
    }

    fn cells(&self) -> [String; 6] {
        let bar = match self.bar {
            None => String::new(),
            Some(Bar::AtMost(limit)) => format!("≤ {} {}", number(limit), self.unit),
            Some(Bar::AtLeast(limit)) => format!("≥ {} {}", number(limit), self.unit),
        };
        let verdict = match self.verdict() {
            None => "",
            Some(true) => "ok",
            Some(false) => "missed",
        };
        let ratio = self.ratio.map_or_else(String::new, |(ratio, floor)| format!("{} x {floor}", number(ratio)));
        let what = if self.note.is_empty() { self.what.clone() } else { format!("{} ({})", self.what, self.note) };
        [self.id.to_owned(), what, bar, format!("{} {}", number(self.value), self.unit), ratio, verdict.to_owned()]
    }

    fn json(&self) -> Value {
        let (limit, kind) = match self.bar {
            None => (None, None),
            Some(Bar::AtMost(limit)) => (Some(limit), Some("atMost")),
            Some(Bar::AtLeast(limit)) => (Some(limit), Some("atLeast")),
        };
        json!({
            "id": self.id, "what": self.what, "value": self.value, "unit": self.unit, "note": self.note,
            "bar": limit, "barKind": kind, "ok": self.verdict(),
            "ratio": self.ratio.map(|(ratio, _)| ratio), "floor": self.ratio.map(|(_, floor)| floor),
        })
    }
}

/// The rows of a run, and where it ran.
#[derive(Debug)]
pub(super) struct Report {
    /// What the machine is and what ran on it, as name and value.
    pub(super) machine: Vec<(&'static str, String)>,
    /// What was measured.
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// As a table of Markdown.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.machine {
            let _ = writeln!(text, "{name}: {value}");
        }
        text += "\n| id | what | bar | measured | ratio | |\n|---|---|---|---|---|---|\n";
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.cells().join(" | "));
        }
        text
    }

    /// How many bars were held, and how many missed.
    pub(super) fn verdicts(&self) -> (usize, usize) {
        let count = |held| self.rows.iter().filter(|row| row.verdict() == Some(held)).count();
        (count(true), count(false))
    }

    /// Writes all of it for programs.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let machine: serde_json::Map<String, Value> =
            self.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let text = serde_json::to_string_pretty(&json!({"machine": machine, "rows": rows}))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
    }
}

/// Three digits that tell, and none that pretend.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size.fract() == 0.0 || size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_held_or_missed() {
        let row = |value| Row::new("B0", "things", value, "calls");
        for (row, expected) in [
            (row(3.0), None),
            (row(3.0).bar(Bar::AtMost(3.0)), Some(true)),
            (row(3.1).bar(Bar::AtMost(3.0)), Some(false)),
            (row(3.0).bar(Bar::AtLeast(3.0)), Some(true)),
            (row(2.9).bar(Bar::AtLeast(3.0)), Some(false)),
        ] {
            assert_eq!(row.verdict(), expected, "{row:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in
            [(0.0, "0"), (0.1234, "0.123"), (1.239, "1.24"), (12.34, "12.3"), (123.4, "123"), (2000.0, "2000")]
        {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn a_row_is_a_line() {
        let row = Row::new("B0", "things", 3.0, "calls").bar(Bar::AtMost(2.0)).ratio(1.5, "W").note("of two");
        let report = Report { machine: vec![("cores", "2".to_owned())], rows: vec![row] };
        assert!(report.table().ends_with("| B0 | things (of two) | ≤ 2 calls | 3 calls | 1.50 x W | missed |\n"));
        assert_eq!(report.verdicts(), (0, 1));
    }
}

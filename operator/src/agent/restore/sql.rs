//! Names and texts within SQL, and values out of rows.

use crate::services::postgres::Row;

/// A name, whatever characters it has.
pub(super) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A text, whatever `standard_conforming_strings` is.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// The value of a column; nothing if it is null.
pub(super) fn text(row: &Row, column: usize) -> &str {
    row.get(column).and_then(Option::as_deref).unwrap_or_default()
}

/// A column that is not null.
pub(super) fn value(row: &Row, column: usize) -> Option<String> {
    row.get(column)?.clone()
}

/// Whether a column is true.
pub(super) fn is_true(row: &Row, column: usize) -> bool {
    text(row, column) == "t"
}

/// A column that is a number.
pub(super) fn number(row: &Row, column: usize) -> u64 {
    text(row, column).parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_quotes() {
        assert_eq!(name("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(literal(r"it's \"), r"E'it''s \\'");
    }
}

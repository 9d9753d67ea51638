//! What `pg_restore` says of a drill: what the point is to blame for, what the server of the drill is, and what neither is, since the
//! image or the dump is known to lack something.
//!
//! Whatever cannot be restored has one first error, which must be explained by itself: "does not exist" of something that the image
//! or the dump lacks. What could not be made for that reason is lost, and explains what follows from it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;

use super::{Ended, fault};
use crate::agent::manifest::Contents;
use crate::agent::pg_restore::{Kind, Problem, kind};
use crate::contract::DrillFault;

/// How many errors are kept in words, and how much of each.
const KEPT: usize = 20;
const LONGEST: usize = 160;
/// How long a list of them may be.
const LONGEST_LIST: usize = 500;

/// What the manifest tells of a dump.
#[derive(Clone, Copy, Default)]
pub(super) struct Known<'a> {
    /// The schemas that it leaves out.
    pub(super) excluded: &'a [String],
    /// What the database held.
    pub(super) contents: Option<&'a Contents>,
}

/// A dump that was restored.
#[derive(Debug, Default)]
pub(in crate::agent) struct Restored {
    /// Extensions that the server lacks.
    pub(in crate::agent) missing: BTreeSet<String>,
    /// Schemas that the dump leaves out, and that something in it needs.
    pub(in crate::agent) schemas: BTreeSet<String>,
    /// What could not be made without them, by its name without quotes.
    pub(in crate::agent) lost: BTreeSet<String>,
    /// Errors that nothing follows from: the first of them.
    pub(in crate::agent) understood: Vec<String>,
    /// How many there were.
    pub(in crate::agent) errors: u64,
}

impl Restored {
    /// Whether all of the dump was restored.
    pub(super) fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.schemas.is_empty()
    }

    /// The errors that nothing follows from, in one line. `None`: there were none.
    pub(super) fn told(&self) -> Option<String> {
        let mut told = format!("pg_restore reported {} errors that were expected: ", self.errors);
        let mut named = 0;
        for error in &self.understood {
            if named > 0 && told.len() + error.len() > LONGEST_LIST {
                break;
            }
            told.push_str(if named > 0 { "; " } else { "" });
            told.push_str(error);
            named += 1;
        }
        if self.errors > named {
            let _ = write!(told, "; and {} more", self.errors - named);
        }
        (self.errors > 0).then_some(told)
    }
}

/// Listens.
pub(super) struct Judge<'a> {
    known: Known<'a>,
    restored: Restored,
    /// The first error that the server of the drill is to blame for.
    of_server: Option<Problem>,
    /// The first error that nothing explains.
    real: Option<Problem>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(known: Known<'a>) -> Self {
        Self { known, restored: Restored::default(), of_server: None, real: None }
    }

    /// Takes an error.
    pub(super) fn hear(&mut self, problem: &Problem) {
        self.restored.errors += 1;
        if is_of_server(&problem.error) {
            self.of_server.get_or_insert_with(|| problem.clone());
        } else if self.understands(problem) {
            if self.restored.understood.len() < KEPT {
                self.restored.understood.push(shortened(after(&problem.error, "ERROR:")));
            }
        } else {
            self.real.get_or_insert_with(|| problem.clone());
        }
    }

    /// The dump could not be read to its end, though it is that of its manifest.
    pub(super) fn broken(&mut self, error: &io::Error) {
        let error = format!("the dump ended early: {error}");
        self.real = Some(Problem { error, command: String::new() });
    }

    /// What is left of the errors. `pg_restore` goes on after an error, and ends with status 1 whatever it was: it says in the end
    /// after how many it went on.
    pub(super) fn verdict(self, success: bool, ignored: Option<u64>, key: &str) -> Result<Restored, Ended> {
        if let Some(problem) = self.of_server {
            return fault(DrillFault::NotRun, told_of_server(&problem.said()));
        }
        if let Some(problem) = self.real {
            let of = match kind(&problem.error) {
                Kind::TooNew => DrillFault::ServerTooOld,
                _ => DrillFault::NotRestored,
            };
            return fault(of, format!("failed to restore {key}: {}", problem.said()));
        }
        if !success && ignored != Some(self.restored.errors) {
            let why = "pg_restore ended before its end, and did not say why";
            return fault(DrillFault::NotRun, told_of_server(why));
        }
        Ok(self.restored)
    }

    /// Whether the image or the dump is known to lack what an error is about.
    fn understands(&mut self, problem: &Problem) -> bool {
        let Problem { error, command } = problem;
        // Since PostgreSQL 15 every new database has it.
        if error.contains("schema \"public\" already exists") || problem.is_understood() {
            return true;
        }
        let error = after(error, "ERROR:");
        if let Some(name) = command.strip_prefix("CREATE EXTENSION ") {
            let name = name.strip_prefix("IF NOT EXISTS ").unwrap_or(name);
            self.restored.missing.insert(identifier(name));
        } else if let Some(library) = error.strip_prefix("could not access file \"$libdir/") {
            self.restored.missing.insert(identifier(library.trim_end_matches('"')));
        } else if !self.is_lacking(error) {
            return false;
        }
        self.restored.schemas.extend(self.schema_of(error));
        self.restored.lost.extend(made_by(command));
        true
    }

    /// The schema that the dump leaves out, if the error says that it is not there, or something in it.
    fn schema_of(&self, error: &str) -> Option<String> {
        let (what, name) = missing_thing(error)?;
        let of = if what == "schema" { name.as_str() } else { name.split_once('.')?.0 };
        self.known.excluded.iter().find(|schema| *schema == of).cloned()
    }

    fn is_lacking(&self, error: &str) -> bool {
        let Restored { missing, lost, schemas, .. } = &self.restored;
        let extensions = !missing.is_empty();
        // Of an operator class that an extension brings.
        if extensions && error.contains("has no default operator class for access method") {
            return true;
        }
        let Some((what, name)) = missing_thing(error) else { return false };
        if self.schema_of(error).is_some() || lost.contains(&name) {
            return true;
        }
        match what.as_str() {
            "role" | "database" | "column" => false,
            "extension" => missing.contains(&name),
            // Extensions bring schemas.
            "schema" => extensions && !self.held().any(|held| held.starts_with(&format!("{name}."))),
            // Extensions bring tables and types, and what is lost had indexes and sequences.
            _ => (extensions || !lost.is_empty() || !schemas.is_empty()) && !self.held().any(|held| held == name),
        }
    }

    /// The tables and materialized views that the database held.
    fn held(&self) -> impl Iterator<Item = String> {
        let contents = self.known.contents.into_iter();
        contents
            .flat_map(|held| held.rows.keys().chain(held.estimated.keys()).chain(held.materialized_views.keys()))
            .map(|name| unquoted(name))
    }
}

/// Whether the server of the drill has failed, and not the statement. What is quoted is the user's.
pub(super) fn is_of_server(error: &str) -> bool {
    const WORDS: [&str; 9] = [
        "out of memory",
        "out of shared memory",
        "could not fork",
        "too many clients",
        "Disk quota exceeded",
        "Input/output error",
        "Read-only file system",
        "Too many open files",
        "the database system is",
    ];
    let own: String = error.split('"').step_by(2).collect();
    matches!(kind(&own), Kind::DiskFull | Kind::Connection) || WORDS.iter().any(|word| own.contains(word))
}

/// What the user is told of that.
pub(super) fn told_of_server(error: &str) -> String {
    let way_out = if kind(error) == Kind::DiskFull {
        "set backup.verify.storage.size to more"
    } else {
        "look at the memory of its pod (backup.verify.resources) and at its volume"
    };
    format!("the server of the drill failed, and the point itself was not judged; {way_out}: {error}")
}

/// What the dump or the image lacks: its kind, and its name without quotes and arguments.
fn missing_thing(error: &str) -> Option<(String, String)> {
    // `relation "public.a" does not exist`, `type public.a does not exist`, `function public.a(integer) does not exist`
    let (said, rest) = error.split_once(" does not exist")?;
    if let Some(operands) = rest.strip_prefix(": ") {
        return Some((said.to_owned(), unquoted(operands)));
    }
    let (what, name) = match said.split_once('"') {
        Some((what, name)) => (what.trim(), name.split('"').next().unwrap_or(name)),
        None => said.split_once(' ')?,
    };
    Some((what.to_owned(), unquoted(name.split('(').next().unwrap_or(name))))
}

/// The name of what a statement makes or fills, without quotes.
fn made_by(command: &str) -> Option<String> {
    const REFRESH: &str = "REFRESH MATERIALIZED VIEW ";
    const KINDS: [&str; 12] = [
        "TABLE ",
        "UNLOGGED TABLE ",
        "FOREIGN TABLE ",
        "VIEW ",
        "RECURSIVE VIEW ",
        "MATERIALIZED VIEW ",
        "SEQUENCE ",
        "TYPE ",
        "DOMAIN ",
        "FUNCTION ",
        "PROCEDURE ",
        "AGGREGATE ",
    ];
    let name = command.strip_prefix(REFRESH).or_else(|| {
        let made = command.strip_prefix("CREATE ")?;
        let made = made.strip_prefix("OR REPLACE ").unwrap_or(made);
        KINDS.iter().find_map(|kind| made.strip_prefix(kind))
    })?;
    Some(identifier(name))
}

/// The name that a text begins with, quotes taken off.
fn identifier(text: &str) -> String {
    let mut quoted = false;
    let ends = |c: char| {
        quoted ^= c == '"';
        !quoted && (c.is_whitespace() || matches!(c, '(' | ';'))
    };
    unquoted(&text[..text.find(ends).unwrap_or(text.len())])
}

/// A name without its quotes, as PostgreSQL writes it in its messages.
pub(super) fn unquoted(name: &str) -> String {
    name.replace("\"\"", "\0").replace('"', "").replace('\0', "\"")
}

fn after<'a>(text: &'a str, word: &str) -> &'a str {
    text.split_once(word).map_or(text, |(_, rest)| rest.trim_start())
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn contents() -> Contents {
        let rows = [("public.receipts", 3), ("public.\"My Places\"", 1)].map(|(name, rows)| (name.to_owned(), rows));
        Contents { rows: rows.into(), ..Contents::default() }
    }

    async fn judged(excluded: &[&str], text: &str) -> Result<Restored, (DrillFault, String)> {
        let excluded: Vec<_> = excluded.iter().map(|schema| (*schema).to_owned()).collect();
        let contents = contents();
        let mut judge = Judge::new(Known { excluded: &excluded, contents: Some(&contents) });
        let ignored = crate::agent::pg_restore::errors_in(text.as_bytes(), |problem| judge.hear(&problem)).await;
        judge.verdict(false, ignored, "a.dump").map_err(|ended| match ended {
            Ended::Fault(fault, why) => (fault, why),
            Ended::Stopped => panic!("it was not stopped"),
        })
    }

    /// As `pg_restore` says it.
    fn said(errors: &[(&str, &str)]) -> String {
        let error = |(error, command): &(&str, &str)| {
            format!("pg_restore: error: could not execute query: ERROR:  {error}\nCommand was: {command}\n\n\n")
        };
        let all: String = errors.iter().map(error).collect();
        format!("{all}pg_restore: warning: errors ignored on restore: {}\n", errors.len())
    }

    const POSTGIS: (&str, &str) =
        ("extension \"postgis\" is not available", "CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;");
    const PLACES: (&str, &str) = ("type \"public.geometry\" does not exist", "CREATE TABLE public.\"My Places\" (");
    const ROWS: (&str, &str) =
        ("relation \"public.My Places\" does not exist", "COPY public.\"My Places\" (id, at) FROM stdin;");
    const RECEIPTS: (&str, &str) =
        ("relation \"public.receipts\" does not exist", "COPY public.receipts (id) FROM stdin;");
    const KEY: (&str, &str) = ("schema \"auth\" does not exist", "ALTER TABLE ONLY public.receipts");
    const VIEW: (&str, &str) = ("relation \"auth.users\" does not exist", "CREATE VIEW public.people AS");
    const OF_VIEW: (&str, &str) = ("relation \"public.people\" does not exist", "CREATE VIEW public.names AS");

    #[tokio::test]
    async fn a_missing_extension_and_what_follows_from_it_are_no_failure() {
        let restored = judged(&[], &said(&[POSTGIS, PLACES, ROWS])).await.expect("understood");
        assert_eq!(restored.missing, BTreeSet::from(["postgis".to_owned()]));
        assert_eq!(restored.lost, BTreeSet::from(["public.My Places".to_owned()]));
        assert_eq!((restored.errors, restored.understood.len()), (3, 3));
        assert_eq!(restored.understood[2], "relation \"public.My Places\" does not exist");
        let control =
            "could not open extension control file \"/usr/share/postgresql/14/extension/x y.control\": No such file";
        let restored =
            judged(&[], &said(&[(control, "CREATE EXTENSION IF NOT EXISTS \"x y\" WITH SCHEMA public;")])).await;
        assert_eq!(restored.expect("of 14").missing, BTreeSet::from(["x y".to_owned()]));
    }

    #[tokio::test]
    async fn what_needs_a_schema_that_is_left_out_is_no_failure() {
        let restored = judged(&["auth"], &said(&[KEY, VIEW, OF_VIEW])).await.expect("understood");
        assert_eq!(restored.schemas, BTreeSet::from(["auth".to_owned()]));
        assert_eq!(restored.lost, BTreeSet::from(["public.names", "public.people"].map(str::to_owned)));
        assert!(restored.missing.is_empty());
    }

    #[rstest]
    #[case::nothing_explains_it(&[], &[PLACES], "geometry")]
    #[case::a_table_that_no_extension_brings(&[], &[POSTGIS, RECEIPTS], "receipts")]
    #[case::another_schema(&["storage"], &[KEY], "auth")]
    #[case::a_table_beside_the_schema(&["auth"], &[KEY, RECEIPTS], "public.receipts")]
    #[case::a_column(&[], &[POSTGIS, ("column \"vat\" does not exist", "CREATE VIEW public.v AS")], "vat")]
    #[case::a_row(&[], &[POSTGIS, ("duplicate key value violates unique constraint \"a\"", "")], "duplicate key")]
    #[case::a_name_like_a_fault(&[], &[("relation \"public.SSL disk full\" does not exist", "CREATE VIEW public.v AS")], "SSL")]
    #[tokio::test]
    async fn what_nothing_explains_is_a_failure(
        #[case] excluded: &[&str],
        #[case] errors: &[(&str, &str)],
        #[case] words: &str,
    ) {
        let (fault, why) = judged(excluded, &said(errors)).await.expect_err("a failure");
        assert!(fault == DrillFault::NotRestored && why.contains(words), "{fault:?} {why}");
    }

    #[rstest]
    #[case::full(
        "pg_restore: error: COPY failed for table \"a\": ERROR:  could not extend file \"base/1\": No space left on device\n",
        "verify.storage.size"
    )]
    #[case::gone(
        "pg_restore: error: could not execute query: server closed the connection unexpectedly\n",
        "closed the connection"
    )]
    #[case::restarts(
        "pg_restore: error: connection to server at \"127.0.0.1\", port 1 failed: FATAL:  the database system is in recovery mode\n",
        "recovery mode"
    )]
    #[case::killed("", "did not say why")]
    #[tokio::test]
    async fn the_server_of_the_drill_condemns_no_point(#[case] first: &str, #[case] words: &str) {
        // What follows from it says nothing of the point.
        let rest = "pg_restore: error: could not execute query: ERROR:  relation \"public.receipts\" does not exist\n";
        for text in [first.to_owned(), format!("{first}{rest}")] {
            if text == rest {
                continue;
            }
            let (fault, why) = judged(&[], &text).await.expect_err("a failure");
            assert!(fault == DrillFault::NotRun && why.contains(words), "{fault:?} {why}");
        }
    }

    #[tokio::test]
    async fn a_dump_that_cannot_be_read_is_the_points_own_fault() {
        let cut = "pg_restore: error: could not read from input file: end of file\n";
        let (fault, why) = judged(&[], cut).await.expect_err("a failure");
        assert!(fault == DrillFault::NotRestored && why.contains("end of file"), "{why}");
        let new = "pg_restore: error: unsupported version (1.99) in file header\n";
        assert_eq!(judged(&[], new).await.expect_err("a failure").0, DrillFault::ServerTooOld);
    }

    /// However much it says.
    #[tokio::test]
    async fn the_last_of_many_errors_counts() {
        let mut errors = vec![POSTGIS];
        errors.extend(std::iter::repeat_n(PLACES, 5000));
        let restored = judged(&[], &said(&errors)).await.expect("understood");
        assert_eq!((restored.errors, restored.understood.len()), (5001, KEPT));
        errors.push(RECEIPTS);
        let (fault, why) = judged(&[], &said(&errors)).await.expect_err("a failure");
        assert!(fault == DrillFault::NotRestored && why.contains("receipts"), "{why}");
    }
}

//! The child process that restores. It reads the dump from a pipe, as it comes from the bucket: nothing is on disk.
//!
//! `pg_restore` goes on after an error and says in the end how many there were, with status 1. Whether that matters is judged
//! here, error by error: a role that is gone leaves an object with its restorer, a missing table leaves nothing.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::ChildStdin;
use tokio_util::sync::CancellationToken;

use super::checked::{OpenError, ReadError, read_error};
use super::client_program;

const PROGRAM: &str = "pg_restore";
/// All or nothing: it ends at the first error.
pub(super) const ONE_TRANSACTION: &str = "--single-transaction";
/// How much of a line is looked at.
const LONGEST_LINE: usize = 2000;
/// How many errors that do not matter are kept in words.
const KEPT: usize = 8;

/// A restore that `pg_restore` has ended well, or with errors that do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Restored {
    /// The errors that do not matter, each in one line: the first of them.
    pub(super) understood: Vec<String>,
    /// How many there were.
    pub(super) errors: u64,
}

/// Why nothing counts of what was restored.
#[derive(Debug, thiserror::Error)]
pub(super) enum PgRestoreError {
    #[error("failed to find pg_restore in this image; set spec.backup.image to an image of PostgreSQL")]
    NoProgram,
    #[error("failed to run pg_restore: {0}")]
    Run(io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It says what went wrong.
    #[error("failed to restore the dump: {said}")]
    Said { kind: Kind, said: String },
    #[error("failed to finish: the pod was told to stop")]
    Stopped,
}

/// What an error of `pg_restore` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The dump cannot be read.
    Corrupt,
    /// A newer `pg_dump` wrote it.
    TooNew,
    /// The role lacks a right.
    Rights,
    /// The server has no room.
    DiskFull,
    /// The server went away.
    Connection,
    /// An error in what was restored.
    Statement,
}

/// The version of the `pg_restore` of this image.
pub(super) async fn version() -> Result<String, PgRestoreError> {
    client_program::version(PROGRAM).await.map_err(failed_to_run)
}

/// Restores a dump from a reader into the database that the variables lead to. The reader is read to its end whatever happens, so
/// that a dump which is not what it should be is told as that.
pub(super) async fn restore(
    environment: &[(&'static str, String)],
    arguments: &[&str],
    input: impl AsyncBufRead + Unpin,
    stop: &CancellationToken,
) -> Result<Restored, PgRestoreError> {
    let database = environment.iter().find(|(name, _)| *name == "PGDATABASE").map_or("", |(_, name)| name);
    let mut command = client_program::command(PROGRAM);
    command.args(["--format=custom", "--no-password", "--dbname", &connection_string(database)]).args(arguments);
    command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed_to_run)?;
    let (Some(pipe), Some(errors)) = (child.stdin.take(), child.stderr.take()) else {
        return Err(PgRestoreError::Run(io::Error::other("its pipes are not ours")));
    };
    let listening = tokio::spawn(listen(errors));
    let fed = tokio::select! {
        biased;
        () = stop.cancelled() => Err(PgRestoreError::Stopped),
        fed = feed(input, pipe) => fed,
    };
    if let Err(error) = fed {
        // Killed, and waited for: its session ends with it, and whoever drops the database finds it unused.
        let _ = child.kill().await;
        return Err(error);
    }
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        ended = child.wait() => Some(ended),
    };
    let Some(ended) = ended else {
        let _ = child.kill().await;
        return Err(PgRestoreError::Stopped);
    };
    let heard = listening.await.unwrap_or_default();
    let success = ended.map_err(PgRestoreError::Run)?.success();
    heard.judge(success, arguments.contains(&ONE_TRANSACTION))
}

/// The name alone would be read as a connection string if it had an equals sign in it.
fn connection_string(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', r"\\").replace('\'', r"\'"))
}

async fn feed(mut input: impl AsyncBufRead + Unpin, mut pipe: ChildStdin) -> Result<(), PgRestoreError> {
    match tokio::io::copy_buf(&mut input, &mut pipe).await {
        Ok(_) => return Ok(()),
        // It has ended, or needs no more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => drop(pipe),
        Err(error) => return Err(failed_to_read(error)),
    }
    tokio::io::copy_buf(&mut input, &mut tokio::io::sink()).await.map(drop).map_err(failed_to_read)
}

fn failed_to_read(error: io::Error) -> PgRestoreError {
    match read_error(&error) {
        Some(read) => PgRestoreError::Read(read.clone()),
        None => PgRestoreError::Run(error),
    }
}

fn failed_to_run(source: io::Error) -> PgRestoreError {
    if source.kind() == io::ErrorKind::NotFound { PgRestoreError::NoProgram } else { PgRestoreError::Run(source) }
}

/// What it said, as far as it is of use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    understood: Vec<String>,
    errors: u64,
    /// The first error that matters.
    real: Option<String>,
    /// The last error.
    last: Option<String>,
    /// How many errors it says that it ignored: it came to its end.
    ignored: Option<u64>,
}

/// An error, and what it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The line that tells it.
    pub(super) error: String,
    /// The first line of the statement; empty if it was none.
    pub(super) command: String,
}

/// The lines so far.
#[derive(Default)]
struct Lines {
    open: Option<Problem>,
    ignored: Option<u64>,
}

impl Lines {
    /// Takes a line. Gives the error that it ends.
    fn hear(&mut self, line: &str) -> Option<Problem> {
        if let Some(error) = line.strip_prefix("pg_restore: error: ") {
            return self.open.replace(Problem { error: error.to_owned(), command: String::new() });
        }
        if let Some(count) = line.strip_prefix("pg_restore: warning: errors ignored on restore: ") {
            self.ignored = count.trim().parse().ok();
            return self.open.take();
        }
        if let Some(command) = line.strip_prefix("Command was: ")
            && let Some(open) = &mut self.open
            && open.command.is_empty()
        {
            command.clone_into(&mut open.command);
        }
        None
    }
}

impl Heard {
    fn add(&mut self, problem: &Problem) {
        self.errors += 1;
        let said = problem.said();
        self.last = Some(said.clone());
        if !problem.is_understood() {
            self.real.get_or_insert(said);
        } else if self.understood.len() < KEPT {
            let error = problem.error.rsplit_once("ERROR:").map_or(&*problem.error, |(_, error)| error.trim());
            self.understood.push(format!("{error} ({})", problem.command));
        }
    }

    fn judge(mut self, success: bool, one_transaction: bool) -> Result<Restored, PgRestoreError> {
        if one_transaction && !success {
            self.real = self.real.or(self.last.take());
        }
        let said = match (success, self.real, self.ignored) {
            (true, None, _) => None,
            (_, Some(real), _) => Some(real),
            // It says how many errors it went on after, and all of them were understood.
            (false, None, Some(ignored)) if ignored == self.errors => None,
            (false, None, _) => Some("it ended before its end, and did not say why".to_owned()),
        };
        match said {
            None => Ok(Restored { understood: self.understood, errors: self.errors }),
            Some(said) => Err(PgRestoreError::Said { kind: kind(&said), said }),
        }
    }
}

impl Problem {
    /// The error and the statement in one line.
    pub(super) fn said(&self) -> String {
        let command = if self.command.is_empty() { String::new() } else { format!(" ({})", self.command) };
        format!("{}{command}", self.error)
    }

    /// Whether what was restored is the same without the statement that failed, but for whose it is and what it is said to be.
    pub(super) fn is_understood(&self) -> bool {
        let starts = |words: &[&str]| words.iter().any(|word| self.command.starts_with(word));
        let no_role = self.error.contains("ERROR:  role \"") && self.error.ends_with("\" does not exist");
        let ownership = starts(&["GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES "])
            || (starts(&["ALTER "]) && self.command.contains(" OWNER TO "));
        // Whoever may not own an extension did not install it: the one that is there has the comment of its own.
        let comment = starts(&["COMMENT ON EXTENSION "]) && self.error.contains("must be owner of extension ");
        // Of a `pg_restore` that is newer than the server: 0 is what a server does that has no such setting.
        let no_setting = starts(&["SET transaction_timeout = 0;"])
            && self.error.contains("unrecognized configuration parameter \"transaction_timeout\"");
        (no_role && ownership) || comment || no_setting
    }
}

/// What an error is about, by its words.
pub(super) fn kind(said: &str) -> Kind {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["unsupported version ("]) {
        Kind::TooNew
    } else if has(&[
        "does not appear to be a valid archive",
        "could not read from input file",
        "unexpected end of file",
    ]) {
        Kind::Corrupt
    } else if has(&["No space left on device", "could not extend file", "disk full"]) {
        Kind::DiskFull
    } else if has(&["permission denied", "must be owner of", "must be able to SET ROLE", "must be member of role"])
        || has(&["must be superuser", "must have "])
    {
        Kind::Rights
    } else if has(&["connection to server", "server closed the connection", "terminating connection", "SSL"])
        || has(&[
            "no connection to the server",
            "could not receive data",
            "could not send data",
            "ended before its end",
        ])
    {
        Kind::Connection
    } else {
        Kind::Statement
    }
}

async fn listen(errors: impl AsyncRead + Unpin) -> Heard {
    let mut heard = Heard::default();
    heard.ignored = errors_in(errors, |problem| heard.add(&problem)).await;
    heard
}

/// Reads what it says to the end, or the child would stop at a full pipe, and gives each error. In the end: how many it says that it
/// went on after.
pub(super) async fn errors_in(errors: impl AsyncRead + Unpin, mut found: impl FnMut(Problem)) -> Option<u64> {
    let mut errors = BufReader::new(errors);
    let mut lines = Lines::default();
    let mut line = Vec::new();
    while let Ok(chunk @ [_, ..]) = errors.fill_buf().await {
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(LONGEST_LINE - line.len())]);
        let read = end.map_or(chunk.len(), |end| end + 1);
        errors.consume(read);
        if end.is_some() {
            lines.hear(&String::from_utf8_lossy(&line)).into_iter().for_each(&mut found);
            line.clear();
        }
    }
    lines.hear(&String::from_utf8_lossy(&line)).into_iter().for_each(&mut found);
    lines.open.take().into_iter().for_each(found);
    lines.ignored
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ROLE: &str = "pg_restore: from TOC entry 215; 1259 16385 TABLE a owner\n\
        pg_restore: error: could not execute query: ERROR:  role \"owner\" does not exist\n\
        Command was: ALTER TABLE public.a OWNER TO owner;\n\n";
    const GRANT: &str = "pg_restore: error: could not execute query: ERROR:  role \"reader\" does not exist\n\
        Command was: GRANT SELECT ON TABLE public.a TO reader;\n\n";
    const COMMENT: &str = "pg_restore: error: could not execute query: ERROR:  must be owner of extension pg_trgm\n\
        Command was: COMMENT ON EXTENSION pg_trgm IS 'text';\n\n";
    const SETTING: &str = "pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter \"transaction_timeout\"\n\
        Command was: SET transaction_timeout = 0;\n";
    const POLICY: &str = "pg_restore: error: could not execute query: ERROR:  role \"reader\" does not exist\n\
        Command was: CREATE POLICY p ON public.a TO reader;\n\n";
    const ROW: &str = "pg_restore: error: COPY failed for table \"a\": ERROR:  duplicate key value violates unique constraint\n\
        DETAIL:  Key (x)=(pg_restore: warning: errors ignored on restore: 1\n\
        pg_restore: error: could not execute query: ERROR:  role \"owner\" does not exist\n\
        Command was: GRANT SELECT ON TABLE public.a TO reader;\n\
        pg_restore: warning: errors ignored on restore: 2\n) already exists.\n";

    async fn judged(text: &str, success: bool) -> Result<Restored, (Kind, String)> {
        kinds(listen(text.as_bytes()).await.judge(success, false))
    }

    fn kinds(judged: Result<Restored, PgRestoreError>) -> Result<Restored, (Kind, String)> {
        judged.map_err(|error| match error {
            PgRestoreError::Said { kind, said } => (kind, said),
            error => panic!("{error}"),
        })
    }

    #[tokio::test]
    async fn errors_that_change_nothing_of_the_data_pass_and_are_listed() {
        let text = [SETTING, ROLE, GRANT, COMMENT, "pg_restore: warning: errors ignored on restore: 4\n"].concat();
        let restored = judged(&text, false).await.expect("understood");
        assert_eq!(restored.errors, 4);
        assert_eq!(restored.understood[1], "role \"owner\" does not exist (ALTER TABLE public.a OWNER TO owner;)");
        assert_eq!(judged("", true).await, Ok(Restored::default()));
    }

    #[rstest]
    #[case::a_policy_is_lost(&[ROLE, POLICY, "pg_restore: warning: errors ignored on restore: 2\n"], Kind::Statement, "CREATE POLICY")]
    #[case::it_ended_within(&[ROLE, GRANT], Kind::Connection, "did not say why")]
    #[case::it_counts_more(&[ROLE, "pg_restore: warning: errors ignored on restore: 2\n"], Kind::Connection, "did not say why")]
    #[case::a_row_that_speaks_like_the_program(&[ROW, "pg_restore: warning: errors ignored on restore: 1\n"], Kind::Statement, "duplicate key")]
    #[case::killed(&[], Kind::Connection, "did not say why")]
    #[case::cut_off(&["pg_restore: error: could not read from input file: end of file\n"], Kind::Corrupt, "end of file")]
    #[case::no_dump(&["pg_restore: error: input file does not appear to be a valid archive\n"], Kind::Corrupt, "archive")]
    #[case::too_new(&["pg_restore: error: unsupported version (1.99) in file header\n"], Kind::TooNew, "1.99")]
    // What of a block still fitted was written (SQLSTATE 53100 as well).
    #[case::nearly_full(&["pg_restore: error: COPY failed for table \"a\": ERROR:  could not extend file \"base/1\": wrote only 4096 of 8192 bytes at block 974\n"], Kind::DiskFull, "extend")]
    #[case::full(&["pg_restore: error: COPY failed for table \"a\": ERROR:  could not extend file \"base/1\": No space left on device\n"], Kind::DiskFull, "extend")]
    #[case::of_another_role(&["pg_restore: error: could not execute query: ERROR:  must be able to SET ROLE \"owner\"\n", "Command was: ALTER TABLE public.a OWNER TO owner;\n"], Kind::Rights, "OWNER TO")]
    #[case::gone(&["pg_restore: error: could not execute query: server closed the connection unexpectedly\n"], Kind::Connection, "closed")]
    #[tokio::test]
    async fn any_other_error_counts(#[case] said: &[&str], #[case] kind: Kind, #[case] words: &str) {
        let (found, said) = judged(&said.concat(), false).await.expect_err("it counts");
        assert!(found == kind && said.contains(words), "{found:?} {said}");
    }

    #[tokio::test]
    async fn one_transaction_ends_at_any_error() {
        let (kind, said) = kinds(listen(COMMENT.as_bytes()).await.judge(false, true)).expect_err("it ended");
        assert!(kind == Kind::Rights && said.contains("(COMMENT ON EXTENSION "), "{kind:?} {said}");
        let (kind, _) = kinds(listen(&b""[..]).await.judge(false, true)).expect_err("it was killed");
        assert_eq!(kind, Kind::Connection);
    }

    #[tokio::test]
    async fn a_line_without_an_end_takes_no_memory() {
        let text = format!("pg_restore: error: {}\nCommand was: {}", "x".repeat(1 << 20), "y".repeat(1 << 20));
        let (_, said) = judged(&text, false).await.expect_err("it counts");
        assert!(said.len() < 2 * LONGEST_LINE + 10, "{}", said.len());
    }

    #[test]
    fn a_name_is_no_connection_string() {
        assert_eq!(connection_string("host=x it's\\"), r"dbname='host=x it\'s\\'");
    }
}

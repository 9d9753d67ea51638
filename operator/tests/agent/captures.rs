//! Programs that print statements: what they print is kept or refused, and what sanitizes by it is the same as by statements of a spec.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rorun_operator::contract::{self, DumpOutcome};

use crate::process::{signal, until};
use crate::programs;
use crate::sanitizes::{Safe, production};

/// A folder, and the agent with a program of the user in it.
struct Run {
    folder: tempfile::TempDir,
    command: Command,
}

impl Run {
    fn of(program: &[&str]) -> Self {
        Self::within("60", program)
    }

    fn within(seconds: &str, program: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut command = Command::new(programs::agent());
        command.args([contract::AGENT, contract::CAPTURE, contract::ARG_INTO]).arg(folder.path().join("printed.sql"));
        command.args([contract::ARG_TIMEOUT_SECONDS, seconds, "--termination-path"]).arg(folder.path().join("result"));
        command.arg("--").args(program).env_clear().env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { folder, command }
    }

    fn shell(script: &str) -> Self {
        Self::of(&["sh", "-c", script])
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("printed.sql")
    }

    /// Ends, and gives what was kept.
    fn kept(mut self) -> String {
        let Output { status, stderr, .. } = self.command.output().expect("agent");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        assert!(!self.folder.path().join("result").exists(), "a good run says nothing");
        std::fs::read_to_string(self.file()).expect("the statements")
    }

    /// Ends in vain, and gives why, which is what the pod says.
    fn refused(mut self) -> String {
        let Output { status, stderr, .. } = self.command.output().expect("agent");
        assert_eq!(status.code(), Some(1), "{}", String::from_utf8_lossy(&stderr));
        assert!(!self.file().exists(), "nothing is kept");
        message(&self.folder.path().join("result"))
    }
}

fn message(result: &Path) -> String {
    let result = std::fs::read(result).expect("a result");
    assert!(result.len() <= 4096, "the kubelet would cut it");
    match serde_json::from_slice(&result).expect("JSON") {
        DumpOutcome::Failed { message } => message,
        other @ DumpOutcome::Complete(_) => panic!("{other:?}"),
    }
}

#[test]
fn what_a_program_prints_is_kept() {
    assert_eq!(
        Run::shell("printf 'SELECT 1;\\nSELECT \"\u{fc}\";'; echo done >&2").kept(),
        "SELECT 1;\nSELECT \"\u{fc}\";"
    );
    let all = Run::shell("printf x; head -c 1048575 /dev/zero | tr '\\000' ' '").kept();
    assert_eq!(all.len(), 1 << 20, "a mebibyte is not too much");
    let mut given = Run::shell("echo \"SELECT '$TABLES' -- $0 $1\"");
    given.command.args(["name", "more"]).env("TABLES", "people");
    assert_eq!(given.kept(), "SELECT 'people' -- name more\n");
}

#[test]
fn what_is_no_statement_is_refused_with_its_reason() {
    let loud = "i=0; while [ $i -lt 400 ]; do echo \"line $i of many\" >&2; i=$((i+1)); done; exit 7";
    for (script, expected) in [
        ("printf x; head -c 1048576 /dev/zero | tr '\\000' ' '", "sanitize.command prints more than 1 MiB"),
        // One that never ends is not waited for.
        ("exec yes", "sanitize.command prints more than 1 MiB"),
        ("printf 'SELECT \\377'", "what sanitize.command prints is no UTF-8 text, from byte 8 on"),
        ("printf 'SELECT \\000'", "has a NUL byte"),
        ("echo", "sanitize.command printed nothing"),
        ("exit 1", "sanitize.command failed: exit status: 1: it wrote nothing to its standard error"),
        ("echo SELECT 1; echo no such table >&2; exit 3", "sanitize.command failed: exit status: 3: no such table"),
        ("printf 'no \\377\\376 text' >&2; exit 1", "exit status: 1: no \u{fffd}\u{fffd} text"),
        (loud, "line 398 of many line 399 of many"),
        ("kill -9 $$", "sanitize.command failed: signal: 9 (SIGKILL)"),
    ] {
        let told = Run::shell(script).refused();
        assert!(told.contains(expected), "{script}: {told}");
    }
    let told = Run::of(&["/no/such/program"]).refused();
    assert!(told.contains("failed to start /no/such/program of sanitize.command: No such file"), "{told}");
}

#[test]
fn a_program_that_fails_tells_no_secret() {
    let mut run = Run::shell("echo \"refused: $API_TOKEN at postgres://ada:$WORD@db/shop for $TABLES\" >&2; exit 1");
    run.command.env("API_TOKEN", "hunter2").env("WORD", "swordfish").env("TABLES", "people");
    let told = run.refused();
    assert!(told.ends_with("refused: *** at postgres://***@db/shop for people"), "{told}");
}

#[tokio::test]
async fn a_program_that_hangs_ends_with_all_that_it_started() {
    let elsewhere = tempfile::tempdir().expect("folder");
    let mut run = Run::within("1", &["sh", "-c", "sleep 600 & echo $! > pid; wait"]);
    run.command.current_dir(elsewhere.path());
    let told = tokio::task::spawn_blocking(|| run.refused()).await.expect("agent");
    assert!(told.contains("sanitize.command did not end within 1 s, and was ended"), "{told}");
    let pid = std::fs::read_to_string(elsewhere.path().join("pid")).expect("its child");
    until("its child ends", async || is_gone(pid.trim())).await;
}

#[tokio::test]
async fn a_pod_that_is_told_to_stop_ends_the_program() {
    let mut run = Run::shell("echo $$ > pid; echo SELECT 1; exec sleep 600");
    run.command.current_dir(run.folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = run.command.spawn().expect("agent");
    let pid = || std::fs::read_to_string(run.folder.path().join("pid")).unwrap_or_default();
    until("the program runs", async || !pid().trim().is_empty()).await;
    signal("TERM", child.id());
    assert_eq!(child.wait().expect("agent").code(), Some(143));
    assert!(!run.file().exists(), "nothing is kept");
    until("the program ends", async || is_gone(pid().trim())).await;
}

/// Whether a process has ended. Its parent may not have asked yet how.
fn is_gone(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_err() || stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

#[tokio::test]
async fn printed_statements_sanitize_as_those_of_a_spec() {
    let (scenario, _) = production("sanitize-printed").await;
    let safe = Safe::of(&scenario);
    let program = "for table in customers; do \
                   echo \"UPDATE $table SET email = 'customer' || id || '@invalid';\"; done; echo 'REFRESH MATERIALIZED VIEW addresses;'";
    let record = safe.complete_by(&print(&safe, program)).await;
    assert_eq!(record.rows, Some(1000));
    let restored = safe.restored(&record.id).await;
    let leaked = "SELECT count(*) FROM customers WHERE email LIKE '%example.com'";
    assert_eq!(scenario.sql_in(&restored, leaked).await, "0");
}

#[tokio::test]
async fn printed_statements_that_fail_leave_no_point() {
    let (scenario, _) = production("sanitize-printed-bad").await;
    let safe = Safe::of(&scenario);
    for (program, words) in [
        ("echo 'UPDATE customers SET email = 1'; echo 'UPDATE customer SET email = 2'", "failed"),
        (
            "echo; echo 'UPDATE customer SET id = 2'",
            "a statement of sanitize.command failed in line 2: relation \"customer\"",
        ),
        ("echo 'UPDATE receipts SET total = 1; COMMIT; BEGIN'", "sanitize.command ends its transaction"),
        ("echo 'SELECT 1'", "sanitize.command changes nothing"),
    ] {
        let message = safe.failure_by(&print(&safe, program)).await;
        assert!(message.contains(words), "{program}: {message}");
    }
    // What the program made of the file itself.
    let file = print(&safe, "echo SELECT 1");
    std::fs::remove_file(&file).expect("the file");
    std::os::unix::fs::symlink("/proc/self/environ", &file).expect("a link");
    let message = safe.failure_by(&file).await;
    assert!(message.contains("sanitize.command changed the file"), "{message}");
}

/// Runs a program, and gives the file with what it printed where the agent reads it.
fn print(safe: &Safe<'_>, program: &str) -> PathBuf {
    let file = safe.folder().join("printed.sql");
    let _ = std::fs::remove_file(&file);
    std::fs::write(&file, Run::shell(program).kept()).expect("the statements");
    file
}

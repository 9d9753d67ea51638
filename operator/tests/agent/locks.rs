//! Dumps and migrations of one database exclude each other, by a lock that no statement waits for.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use rorun_operator::agent::Manifest;
use rorun_operator::contract::{self, LOCK_KEYS, LockOutcome, MANIFEST_FILE, MIGRATION_SESSION, NOT_BEGUN};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::pooler::Pooler;
use crate::process::{signal, until};
use crate::scenario::Scenario;
use crate::servers::PASSWORD;

/// The sessions of dumps that have the lock, and of those that have asked who has it.
const DUMP_HOLDS: &str = "application_name LIKE 'rorun-operator dump since 2%'";
const DUMP_WAITS: &str = "application_name = 'rorun-operator dump' AND query LIKE '%a.application_name FROM pg_locks%'";

/// `agent hold-lock`, as the sidecar of a migration runs it.
pub(crate) struct Holder {
    pid: u32,
    lock_file: PathBuf,
    ended: JoinHandle<(Option<i32>, LockOutcome, String)>,
}

impl Holder {
    pub(crate) fn start(scenario: &Scenario, url: &str, seconds: &str) -> Self {
        let [lock_file, result] =
            ["lock", "lock-result"].map(|ending| scenario.servers.folder().join(format!("{}.{ending}", scenario.name)));
        let mut command = agent(contract::HOLD_LOCK);
        command.args([contract::ARG_TIMEOUT_SECONDS, seconds]).arg("--lock-file").arg(&lock_file);
        command.arg("--termination-path").arg(&result).env(contract::ENV_DATABASE_URL, url);
        let child = command.spawn().expect("agent");
        let pid = child.id();
        let ended = tokio::task::spawn_blocking(move || {
            let output = child.wait_with_output().expect("agent");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let result = std::fs::read(result).unwrap_or_else(|error| panic!("no result: {error}: {said}"));
            assert!(!said.contains(PASSWORD) && !String::from_utf8_lossy(&result).contains(PASSWORD), "{said}");
            (output.status.code(), serde_json::from_slice(&result).expect("result"), said)
        });
        Self { pid, lock_file, ended }
    }

    /// What `agent await-lock` says that waits no longer: nothing while the lock is held, or why it is not.
    fn probe(&self) -> Option<String> {
        let (code, outcome) = self.wait("0");
        let outcome = outcome?;
        let message = outcome.message().unwrap_or_else(|| panic!("{outcome:?}")).to_owned();
        assert_eq!(code, Some(if outcome.may_pass() { NOT_BEGUN.into() } else { 1 }), "{message}");
        Some(message)
    }

    /// `agent await-lock`, as the container between the lock and the migration runs it.
    fn wait(&self, seconds: &str) -> (Option<i32>, Option<LockOutcome>) {
        let result = self.lock_file.with_extension("waited");
        let mut command = agent(contract::AWAIT_LOCK);
        command.args([contract::ARG_TIMEOUT_SECONDS, seconds]).arg("--lock-file").arg(&self.lock_file);
        let output = command.arg("--termination-path").arg(&result).output().expect("agent");
        let outcome = (!output.status.success()).then(|| std::fs::read(&result).expect("a result"));
        (output.status.code(), outcome.map(|json| serde_json::from_slice(&json).expect("an outcome")))
    }

    pub(crate) async fn has_the_lock(&self) {
        until("the lock is held", async || self.probe().is_none()).await;
    }

    /// Waits until it says that it waits for such a session.
    async fn waits_for(&self, session: &str) {
        let waits = |why: String| why.starts_with("waiting for the lock: session ") && why.contains(session);
        until("it waits for the lock", async || self.probe().is_some_and(waits)).await;
    }

    pub(crate) async fn end(self) -> (Option<i32>, LockOutcome, String) {
        signal("TERM", self.pid);
        self.ended.await.expect("agent")
    }
}

fn agent(command: &str) -> Command {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_rorun-operator"));
    agent.args([contract::AGENT, command]).env_clear();
    agent.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    agent
}

/// A session of the test itself, which stays open.
async fn session(scenario: &Scenario) -> Client {
    let url = scenario.servers.database_url(scenario.name);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

/// Whether there are sessions of the scenario's database of which a condition is true.
async fn there_are(scenario: &Scenario, condition: &str) -> bool {
    let sql = format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{}' AND {condition}", scenario.name);
    scenario.sql_in("postgres", &sql).await == "t"
}

async fn advisory_locks(scenario: &Scenario) -> String {
    let database = format!("(SELECT oid FROM pg_database WHERE datname = '{}')", scenario.name);
    let sql = format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = {database}");
    scenario.sql_in("postgres", &sql).await
}

#[tokio::test]
async fn a_dump_waits_for_a_migration_and_goes_on() {
    let scenario = Scenario::new("dump-waits").await;
    scenario.sql("CREATE TABLE receipts (id int)").await;
    let holder = Holder::start(&scenario, &scenario.servers.database_url(scenario.name), "30");
    holder.has_the_lock().await;
    let mut released = String::new();
    let run = scenario.run_during(scenario.command(), async |_| {
        until("the dump waits", async || there_are(&scenario, DUMP_WAITS).await).await;
        released = scenario.sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").await;
        let (code, outcome, said) = holder.end().await;
        assert_eq!((code, outcome), (Some(0), LockOutcome::Released), "{said}");
    });
    let run = run.await;
    assert!(run.output.contains("(rorun-operator migration since 2"), "it says for whom it waits: {}", run.output);
    let record = run.complete();
    assert_eq!(record.not_locked, None);
    let manifest = scenario.bucket.get(&format!("{}{}/{MANIFEST_FILE}", scenario.prefix, record.id)).await;
    let manifest: Manifest = serde_json::from_slice(&manifest.expect("get").expect("manifest")).expect("manifest");
    let released: Timestamp = released.parse().expect("a moment");
    assert!(manifest.started_at >= released, "{} before {released}", manifest.started_at);
    assert_eq!(advisory_locks(&scenario).await, "0");
}

/// Which ones a list of Prisma's has when the lock is given back and had not before, in a schema of its own, or none at all. A table of
/// that name with other columns, and a name that is none, stop nothing.
#[tokio::test]
async fn the_lock_of_a_migration_tells_which_ones_were_applied_while_it_was_held() {
    let scenario = Scenario::new("applied").await;
    let url = scenario.servers.database_url(scenario.name);
    let hold = async |meanwhile: &str| {
        let holder = Holder::start(&scenario, &url, "30");
        holder.has_the_lock().await;
        scenario.sql(meanwhile).await;
        let (code, outcome, said) = holder.end().await;
        assert_eq!(code, Some(0), "{said}");
        for file in ["begun", "before", "told"] {
            let _ = std::fs::remove_file(scenario.servers.folder().join(format!("applied.{file}")));
        }
        outcome
    };
    assert_eq!(hold("SELECT 1").await, LockOutcome::Released, "there is no list");
    let list = "CREATE SCHEMA app; CREATE TABLE app.\"_prisma_migrations\" (migration_name text, finished_at timestamptz, \
                rolled_back_at timestamptz)";
    let row = |name: &str, finished: &str| {
        format!("; INSERT INTO app.\"_prisma_migrations\" VALUES ('{name}', {finished}, NULL)")
    };
    let first = hold(&(list.to_owned() + &row("20260101_init", "now()") + &row("20260102_half", "NULL"))).await;
    assert_eq!(first, LockOutcome::Applied { migrations: vec!["20260101_init".to_owned()] });
    assert_eq!(hold("SELECT 1").await, LockOutcome::Applied { migrations: Vec::new() });
    let many: String = (0..30).map(|index| row(&format!("2026 {index:02}<b>"), "clock_timestamp()")).collect();
    let LockOutcome::Applied { migrations } = hold(&format!("SELECT 1{many}")).await else { panic!("they are listed") };
    assert_eq!((migrations.len(), migrations.last().map(String::as_str)), (20, Some("202629b")));
    scenario.sql("CREATE TABLE \"_prisma_migrations\" (id int)").await;
    assert_eq!(hold("SELECT 1").await, LockOutcome::Released, "it is not known");
    assert_eq!(advisory_locks(&scenario).await, "0");
}

/// `pg_dump` is kept from its end by a table that it may not read yet.
#[tokio::test]
async fn a_migration_waits_for_a_dump_and_says_so() {
    let scenario = Scenario::new("migration-waits").await;
    scenario.sql("CREATE TABLE receipts (id int)").await;
    let blocker = session(&scenario).await;
    blocker.batch_execute("BEGIN; LOCK TABLE receipts IN ACCESS EXCLUSIVE MODE").await.expect("lock");
    let run = scenario.run_during(scenario.command(), async |_| {
        until("the dump has the lock", async || there_are(&scenario, DUMP_HOLDS).await).await;
        let holder = Holder::start(&scenario, &scenario.servers.database_url(scenario.name), "30");
        holder.waits_for("(rorun-operator dump since 2").await;
        blocker.batch_execute("COMMIT").await.expect("commit");
        holder.has_the_lock().await;
        assert!(!there_are(&scenario, "application_name = 'rorun-operator'").await, "pg_dump has not ended");
        let (code, outcome, said) = holder.end().await;
        assert_eq!((code, outcome), (Some(0), LockOutcome::Released), "{said}");
    });
    run.await.complete();
}

#[tokio::test]
async fn a_dump_that_loses_its_lock_fails_and_leaves_nothing() {
    let scenario = Scenario::new("lock-lost").await;
    scenario.sql("CREATE TABLE receipts (id int)").await;
    let blocker = session(&scenario).await;
    blocker.batch_execute("BEGIN; LOCK TABLE receipts IN ACCESS EXCLUSIVE MODE").await.expect("lock");
    let run = scenario.run_during(scenario.command(), async |_| {
        until("the dump has the lock", async || there_are(&scenario, DUMP_HOLDS).await).await;
        until("pg_dump waits", async || there_are(&scenario, "wait_event_type = 'Lock'").await).await;
        let own = "datname = current_database()";
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own} AND {DUMP_HOLDS}");
        scenario.sql(&end).await;
    });
    let run = run.await;
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let message = run.failed();
    assert!(message.starts_with("failed to keep the lock that excludes dumps and migrations"), "{message}");
    assert!(message.contains("SQLSTATE 57P0x"), "{message}");
    scenario.assert_nothing_left().await;
}

#[tokio::test]
async fn a_migration_that_loses_its_lock_says_so_to_its_probe() {
    let scenario = Scenario::new("holder-lost").await;
    let holder = Holder::start(&scenario, &scenario.servers.database_url(scenario.name), "30");
    holder.has_the_lock().await;
    let own = "datname = current_database() AND application_name LIKE 'rorun-operator migration%'";
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}");
    scenario.sql(&end).await;
    until("the probe fails", async || holder.probe().is_some()).await;
    let (code, outcome, said) = holder.ended.await.expect("agent");
    assert!(
        matches!(&outcome, LockOutcome::Lost { message } if message.contains("SQLSTATE 57P0x")),
        "{outcome:?}: {said}"
    );
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn no_migration_begins_beside_the_session_of_one_that_was_ended() {
    let scenario = Scenario::new("not-alone").await;
    let url = scenario.servers.database_url(scenario.name);
    let ended = session(&scenario).await;
    ended.batch_execute(&format!("SET application_name = '{MIGRATION_SESSION}'")).await.expect("a name");
    let pid: i32 = ended.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
    let (code, outcome, said) = Holder::start(&scenario, &url, "2").ended.await.expect("agent");
    let LockOutcome::TimedOut { message } = outcome else { panic!("{outcome:?}: {said}") };
    assert!(message.contains(&format!("SELECT pg_terminate_backend({pid})")) && code == Some(1), "{message}");
    assert_eq!(advisory_locks(&scenario).await, "0");

    let holder = Holder::start(&scenario, &url, "30");
    until("it waits to be alone", async || holder.probe().is_some_and(|why| why.contains("waiting to be alone"))).await;
    drop(ended);
    holder.has_the_lock().await;
    // The migration of this pod itself is nothing to wait for, should the container that holds the lock start anew.
    let own = session(&scenario).await;
    own.batch_execute(&format!("SET application_name = '{MIGRATION_SESSION}'")).await.expect("a name");
    holder.end().await;
    let holder = Holder::start(&scenario, &url, "30");
    holder.has_the_lock().await;
    let (code, outcome, said) = holder.end().await;
    assert_eq!((code, outcome), (Some(0), LockOutcome::Released), "{said}");
}

/// A statement that waited for the lock would hold a snapshot, which the index waits for.
#[tokio::test]
async fn an_index_is_made_concurrently_while_a_migration_waits() {
    let scenario = Scenario::new("index").await;
    scenario.sql("CREATE TABLE receipts (id int)").await;
    let other = session(&scenario).await;
    let (one, two) = LOCK_KEYS;
    let take = format!("SET application_name = 'somebody''s \u{1f600} session'; SELECT pg_advisory_lock({one}, {two})");
    other.batch_execute(&take).await.expect("lock");
    let holder = Holder::start(&scenario, &scenario.servers.database_url(scenario.name), "600");
    holder.waits_for("(somebodys").await;
    let index = session(&scenario).await;
    index.batch_execute("SET statement_timeout = '20s'").await.expect("limit");
    index.batch_execute("CREATE INDEX CONCURRENTLY receipts_id ON receipts (id)").await.expect("index");
    assert!(holder.probe().is_some(), "it still waits");
    let (code, outcome, said) = holder.end().await;
    assert_eq!((code, outcome), (Some(143), LockOutcome::Stopped), "{said}");
}

#[tokio::test]
async fn a_migration_that_does_not_get_its_lock_never_begins_and_its_pod_says_who_has_it() {
    let scenario = Scenario::new("not-begun").await;
    let url = scenario.servers.database_url(scenario.name);
    let other = session(&scenario).await;
    let (one, two) = LOCK_KEYS;
    let take = format!("SET application_name = 'by hand'; SELECT pg_advisory_lock({one}, {two})");
    other.batch_execute(&take).await.expect("lock");
    let pid: i32 = other.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
    // Its first container ends to tell, though it may wait longer.
    let first = Holder::start(&scenario, &url, "600");
    let lock_file = first.lock_file.clone();
    let (code, outcome, said) = first.ended.await.expect("agent");
    let LockOutcome::TimedOut { message } = outcome else { panic!("{outcome:?}: {said}") };
    let holder = format!("waiting for the lock: session {pid} (by hand) holds it, connected from 127.0.0.1 since 2");
    assert!(code == Some(1) && message.starts_with(&holder) && message.ends_with('Z'), "{message}");
    // The next one waits, and the container after it gives up.
    let second = Holder::start(&scenario, &url, "600");
    until("it asks again", async || there_are(&scenario, "application_name = 'rorun-operator migration'").await).await;
    let told = LockOutcome::TimedOut { message };
    assert_eq!(second.wait("1"), (Some(NOT_BEGUN.into()), Some(told)));
    assert!(!lock_file.with_extension("begun").exists(), "nothing has begun");
    drop(other);
    // The session of this test ends by the same thread.
    second.has_the_lock().await;
    assert_eq!(second.wait("1"), (Some(0), None));
    assert!(lock_file.with_extension("begun").exists());
    let (code, outcome, said) = second.end().await;
    assert_eq!((code, outcome), (Some(0), LockOutcome::Released), "{said}");
}

/// A database that does not answer, and one that does not know the role: only the first may pass by itself.
#[tokio::test]
async fn a_migration_that_does_not_reach_its_database_never_begins() {
    let scenario = Scenario::new("not-reached").await;
    let good = scenario.servers.database_url(scenario.name);
    let nobody = good.replacen(PASSWORD, "not-the-password", 1);
    let nowhere = format!("postgres://u:{PASSWORD}@127.0.0.1:1/d");
    for (url, words, passes) in [(&nowhere, "failed to reach PostgreSQL", true), (&nobody, "failed to log in", false)] {
        let holder = Holder::start(&scenario, url, "30");
        let lock_file = holder.lock_file.clone();
        let (code, outcome, said) = holder.ended.await.expect("agent");
        assert!(code == Some(1) && outcome.message().is_some_and(|said| said.contains(words)), "{outcome:?}: {said}");
        assert_eq!(outcome.may_pass(), passes, "{outcome:?}");
        let waits =
            Holder { pid: 0, lock_file, ended: tokio::spawn(async { (None, LockOutcome::Stopped, String::new()) }) };
        assert_eq!(waits.wait("0"), (Some(if passes { NOT_BEGUN.into() } else { 1 }), Some(outcome)));
    }
}

#[tokio::test]
async fn a_wait_has_a_limit_and_names_the_session() {
    let scenario = Scenario::new("limit").await;
    let other = session(&scenario).await;
    let (one, two) = LOCK_KEYS;
    let take = format!("SET application_name = 'by hand'; SELECT pg_advisory_lock({one}, {two})");
    other.batch_execute(&take).await.expect("lock");
    let holder = Holder::start(&scenario, &scenario.servers.database_url(scenario.name), "1");
    let (code, outcome, said) = holder.ended.await.expect("agent");
    let LockOutcome::TimedOut { message } = outcome else { panic!("{outcome:?}: {said}") };
    assert!(message.starts_with("failed to get the lock on PostgreSQL at 127.0.0.1:"), "{message}");
    assert!(message.contains("within 1 s: session ") && message.contains("(by hand) holds it"), "{message}");
    assert_eq!(code, Some(1));
    let mut command = scenario.command();
    command.arg("--lock-timeout-seconds=1");
    let message = scenario.failure(command).await;
    assert!(message.contains("within 1 s: session ") && message.contains("(by hand) holds it"), "{message}");
    scenario.assert_nothing_left().await;
}

/// Locks of other keys, and of other databases of the server, are nobody's business.
#[tokio::test]
async fn other_locks_are_not_waited_for() {
    let scenario = Scenario::new("other-locks").await;
    let (one, two) = LOCK_KEYS;
    let other = session(&scenario).await;
    let bigint = (i64::from(one) << 32) | i64::from(two);
    let take = format!("SELECT pg_advisory_lock({bigint}), pg_advisory_lock({two}, {one}), pg_advisory_lock(72707369)");
    other.batch_execute(&take).await.expect("locks");
    let elsewhere = Scenario::new("other-locks-elsewhere").await;
    let there = session(&elsewhere).await;
    there.batch_execute(&format!("SELECT pg_advisory_lock({one}, {two})")).await.expect("lock");
    let mut command = scenario.command();
    command.arg("--lock-timeout-seconds=1");
    scenario.run(command).await.complete();
}

#[tokio::test]
async fn a_pooler_that_shares_connections_is_told_and_leaves_no_lock_behind() {
    let scenario = Scenario::new("pooled").await;
    scenario.sql("CREATE TABLE receipts (id int)").await;
    for settings in [&["pool_mode = transaction"][..], &["pool_mode = transaction", "server_round_robin = 1"]] {
        let pooler = Pooler::start(&scenario, settings).await;
        // More than one connection in the pool, so that there is another one to get.
        pooler.fill(3).await;
        let holder = Holder::start(&scenario, &pooler.url, "5");
        let (code, outcome, said) = holder.ended.await.expect("agent");
        let LockOutcome::PooledConnection { message } = outcome else { panic!("{settings:?}: {outcome:?}: {said}") };
        assert!(message.contains("DIRECT_URL leads to a pooler"), "{message}");
        assert_eq!((code, advisory_locks(&scenario).await), (Some(1), "0".to_owned()), "{settings:?}");
        // A backup is worth more than the lock.
        let mut command = scenario.command();
        command.env(contract::ENV_DATABASE_URL, &pooler.url);
        let record = scenario.run(command).await.complete();
        assert!(record.not_locked.is_some_and(|why| why.contains("DIRECT_URL leads to a pooler")), "{settings:?}");
        assert_eq!(advisory_locks(&scenario).await, "0", "{settings:?}");
    }
    let pooler = Pooler::start(&scenario, &["pool_mode = session"]).await;
    let holder = Holder::start(&scenario, &pooler.url, "5");
    holder.has_the_lock().await;
    assert_eq!(advisory_locks(&scenario).await, "1");
    let (code, outcome, said) = holder.end().await;
    assert_eq!((code, outcome), (Some(0), LockOutcome::Released), "{said}");
    until("the lock is given back", async || advisory_locks(&scenario).await == "0").await;
}

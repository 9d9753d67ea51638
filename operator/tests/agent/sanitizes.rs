//! Points without what must not leave: with the real PostgreSQL and two places in real buckets, and what tries to get data out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rorun_operator::agent::Manifest;
use rorun_operator::contract::{
    self, BucketLocation, DUMP_FILE, DumpOutcome, DumpRecord, MANIFEST_FILE, RestoreRefusal, RestoreStep,
};

use crate::drills::of_agent;
use crate::points::manifest;
use crate::process::{signal, until};
use crate::programs;
use crate::restores::Restore;
use crate::scenario::Scenario;
use crate::servers::{PASSWORD, location};

const REQUEST: &str = "5e0c37f4-3a55-4b8a-9a86-1c1f2a3b4c5d";
const SCHEMA: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, email text UNIQUE, CHECK (email <> ''));
    INSERT INTO customers SELECT n, 'ada' || n || '@example.com' FROM generate_series(1, 300) n;
    CREATE TABLE receipts (id int PRIMARY KEY, total numeric);
    INSERT INTO receipts SELECT n, n FROM generate_series(1, 700) n;
    CREATE MATERIALIZED VIEW addresses AS SELECT email FROM customers;";
pub(crate) const SANITIZE: &str =
    "UPDATE customers SET email = 'customer' || id || '@invalid';\nREFRESH MATERIALIZED VIEW addresses;";

/// Where the sanitized points of a scenario go.
pub(crate) struct Safe<'a> {
    pub(crate) from: &'a Scenario,
    pub(crate) into: Scenario,
}

impl<'a> Safe<'a> {
    /// A folder of its own in the same bucket.
    pub(crate) fn of(from: &'a Scenario) -> Self {
        let (servers, bucket) = (from.servers.clone(), from.bucket.clone());
        Self { from, into: Scenario::of(servers, (from.name, "safe/shop/".to_owned()), bucket) }
    }

    fn location(&self) -> BucketLocation {
        location(&self.into.servers.bucket(self.into.name))
    }

    pub(crate) fn command(&self, sql: &str) -> (Command, PathBuf) {
        let (mut command, result) = of_agent(self.from, contract::SANITIZE);
        command.args([contract::ARG_INTO_PREFIX, &self.into.prefix, contract::ARG_REQUEST, REQUEST]);
        command.args([contract::ARG_ENVIRONMENT, "Production"]);
        command.env(contract::ENV_SANITIZE_SQL, sql);
        command.env(contract::ENV_SANITIZED, serde_json::to_string(&self.location()).expect("JSON"));
        (command, result)
    }

    /// The folder of the agent.
    pub(crate) fn folder(&self) -> PathBuf {
        let (_, result) = self.command("");
        result.parent().expect("a folder").to_owned()
    }

    /// The agent with statements that a program printed.
    fn printed(&self, file: &Path) -> (Command, PathBuf) {
        let (mut command, result) = self.command("");
        command.env_remove(contract::ENV_SANITIZE_SQL).arg(contract::ARG_SQL_FILE).arg(file);
        (command, result)
    }

    /// Runs the agent, and gives what it reports and all that it said.
    async fn run_command(&self, (mut command, result): (Command, PathBuf)) -> (DumpOutcome, String) {
        let _ = std::fs::remove_file(&result);
        let run = tokio::task::spawn_blocking(move || command.output().expect("agent"));
        let Output { status, stdout, stderr } = run.await.expect("agent");
        let said = String::from_utf8_lossy(&stderr).into_owned() + &String::from_utf8_lossy(&stdout);
        let result_text = std::fs::read_to_string(&result).unwrap_or_else(|error| panic!("no result: {error}: {said}"));
        assert!(!said.contains(PASSWORD) && result_text.len() <= 4096, "{said}");
        let outcome: DumpOutcome = serde_json::from_str(&result_text).expect("result");
        assert_eq!(status.success(), matches!(outcome, DumpOutcome::Complete(_)), "{outcome:?}: {said}");
        let files = result.with_file_name("work").join("server");
        assert!(!files.exists(), "the data of production stay on the volume: {said}");
        (outcome, said)
    }

    async fn complete(&self, sql: &str) -> DumpRecord {
        self.complete_command(self.command(sql)).await
    }

    pub(crate) async fn complete_by(&self, file: &Path) -> DumpRecord {
        self.complete_command(self.printed(file)).await
    }

    pub(crate) async fn complete_command(&self, command: (Command, PathBuf)) -> DumpRecord {
        match self.run_command(command).await {
            (DumpOutcome::Complete(record), _) => record,
            failed => panic!("{failed:?}"),
        }
    }

    pub(crate) async fn failure_by(&self, file: &Path) -> String {
        self.failure_command(self.printed(file)).await.0
    }

    /// Runs the agent, which must fail and leave nothing, and gives its message and all that it said.
    async fn failure(&self, sql: &str) -> (String, String) {
        self.failure_command(self.command(sql)).await
    }

    pub(crate) async fn failure_command(&self, command: (Command, PathBuf)) -> (String, String) {
        let before = self.into.keys().await;
        let (outcome, said) = self.run_command(command).await;
        let DumpOutcome::Failed { message } = outcome else { panic!("{outcome:?}") };
        assert_eq!(self.into.keys().await, before, "{message}");
        assert_eq!(self.into.bucket.uploads(&self.into.prefix).await.expect("uploads"), [], "{message}");
        (message, said)
    }

    /// Restores a point of it beside, and gives the name of the database.
    pub(crate) async fn restored(&self, id: &str) -> String {
        let key = format!("{}{id}/{DUMP_FILE}", self.into.prefix);
        let dump = self.into.bucket.get(&key).await.expect("get").expect("dump");
        let database = format!("{}-restored", self.from.name);
        self.from.sql_in("postgres", &format!("CREATE DATABASE \"{database}\"")).await;
        let file = self.from.servers.folder().join(&database);
        std::fs::write(&file, dump).expect("dump");
        let url = self.from.servers.database_url(&database);
        let pg_restore = self.from.servers.programs.join("pg_restore");
        programs::run(Command::new(pg_restore).args(["--exit-on-error", "--no-owner", "--dbname", &url]).arg(&file));
        database
    }
}

/// Production with rows and a point of them.
pub(crate) async fn production(name: &'static str) -> (Scenario, DumpRecord) {
    let scenario = Scenario::new(name).await;
    scenario.sql(SCHEMA).await;
    let mut dump = scenario.command();
    dump.args([contract::ARG_ENVIRONMENT, "Production"]);
    let point = scenario.run(dump).await.complete();
    (scenario, point)
}

#[tokio::test]
async fn a_sanitized_point_has_the_rows_and_not_the_addresses() {
    let (scenario, point) = production("sanitize-good").await;
    let raw = scenario.keys().await;
    let safe = Safe::of(&scenario);
    let record = safe.complete(SANITIZE).await;
    assert_eq!((record.rows, record.reused, record.not_whole.as_deref()), (Some(1000), false, None));
    let told: Manifest = manifest(&safe.into, &record.id).await;
    let of = (told.sanitized, told.environment.as_deref(), told.sanitized_from.as_ref().map(ToString::to_string));
    assert_eq!(of, (true, Some("Production"), Some(point.id.clone())));
    assert_eq!((told.owner, told.bucket, told.stack_uid), (Some(scenario.owner()), None, None));
    assert_eq!(told.contents.expect("contents").rows["public.customers"], 300);
    let restored = safe.restored(&record.id).await;
    let leaked = "SELECT (SELECT count(*) FROM customers WHERE email LIKE '%example.com') + \
                  (SELECT count(*) FROM addresses WHERE email LIKE '%example.com')";
    assert_eq!(scenario.sql_in(&restored, leaked).await, "0");
    assert_eq!(scenario.sql_in(&restored, "SELECT count(*) FROM customers").await, "300");
    assert_eq!(scenario.sql_in(&restored, "SELECT sum(total) FROM receipts").await, "245350");
    // What it is made of is as it was, and so is what is live.
    assert_eq!(scenario.keys().await, raw);
    assert_eq!(scenario.sql("SELECT count(*) FROM customers WHERE email LIKE '%example.com'").await, "300");
    // The pod of the same Job that is made again finds it done.
    let keys = safe.into.keys().await;
    let again = safe.complete("this is not run").await;
    assert_eq!((again.id, again.sha256, again.reused), (record.id, record.sha256, true));
    assert_eq!(safe.into.keys().await, keys);
}

#[tokio::test]
async fn a_statement_that_fails_leaves_no_point_and_quotes_no_value() {
    let (scenario, _) = production("sanitize-bad").await;
    let safe = Safe::of(&scenario);
    let first = "UPDATE customers SET email = 'customer' || id || '@invalid';\n";
    for (sql, words) in [
        ("UPDATE customer SET email = ''", "in line 2: relation \"customer\" does not exist (SQLSTATE 42P01)"),
        ("UPDATE customers SET email = ''", "SQLSTATE 23514, constraint customers_email_check, table customers"),
        ("SELECT email::int FROM customers", "failed: SQLSTATE 22P02"),
        ("COMMIT; BEGIN", "sanitize.sql ends its transaction"),
        ("ROLLBACK; BEGIN; UPDATE receipts SET total = 0", "sanitize.sql ends its transaction"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "failed to sanitize"),
    ] {
        let (message, said) = safe.failure(&format!("{first}{sql}")).await;
        assert!(message.contains(words), "{sql}: {message}");
        assert!(!said.contains("@example.com") && !said.contains("customer7@invalid"), "{sql}: {said}");
    }
    for sql in ["-- nothing", "UPDATE customers SET email = '' WHERE false"] {
        let (message, _) = safe.failure(sql).await;
        assert!(message.contains("changes nothing"), "{sql}: {message}");
    }
    // Credentials of other servers are in no table that a statement would clean.
    let connection = "CREATE SUBSCRIPTION elsewhere CONNECTION 'host=127.0.0.1 password=its-own' PUBLICATION all_rows WITH (connect = false);";
    let (message, said) = safe.failure(&format!("{first}{connection}")).await;
    assert!(message.contains("subscription elsewhere; drop them in sanitize.sql"), "{message}");
    assert!(!said.contains("its-own"), "{said}");
    assert_eq!(safe.into.keys().await, BTreeSet::new());
}

/// A key for the sanitized points must open no other.
#[tokio::test]
async fn a_destination_among_points_that_are_not_sanitized_is_refused() {
    let (scenario, point) = production("sanitize-where").await;
    for prefix in [scenario.prefix.clone(), "backups/".to_owned(), format!("{}safe/", scenario.prefix)] {
        let mut safe = Safe::of(&scenario);
        safe.into.prefix = prefix;
        let (message, _) = safe.failure(SANITIZE).await;
        assert!(message.contains("set a prefix of its own in destination"), "{message}");
    }
    // That of another stack, by its marker.
    let mut safe = Safe::of(&scenario);
    safe.into.prefix = "backups/shop/another/".to_owned();
    safe.into.bucket.put(&format!("{}owner.json", safe.into.prefix), b"{}".to_vec()).await.expect("put");
    let (message, _) = safe.failure(SANITIZE).await;
    assert!(message.contains("holds backups that are not sanitized"), "{message}");
    // That of a copy, which has none.
    let mut safe = Safe::of(&scenario);
    safe.into.prefix = "copies/shop/".to_owned();
    let raw =
        scenario.bucket.get(&format!("{}{}/{MANIFEST_FILE}", scenario.prefix, point.id)).await.expect("an answer");
    let copied = format!("{}{}/{MANIFEST_FILE}", safe.into.prefix, point.id);
    safe.into.bucket.put(&copied, raw.expect("the manifest")).await.expect("put");
    let (message, _) = safe.failure(SANITIZE).await;
    assert!(message.contains(&format!("not sanitized, by its {}", point.id)), "{message}");
    assert!(scenario.keys().await.contains(&format!("{}/{MANIFEST_FILE}", point.id)));
}

#[tokio::test]
async fn without_a_whole_point_there_is_nothing_to_sanitize() {
    let scenario = Scenario::new("sanitize-none").await;
    let safe = Safe::of(&scenario);
    let (message, _) = safe.failure(SANITIZE).await;
    assert!(message.contains("create a RorunBackup without sanitize first"), "{message}");
    scenario.sql(SCHEMA).await;
    let point = scenario.dump().await;
    scenario.change_manifest(&point.id, |manifest| manifest["objects"][0]["sha256"] = "0".repeat(64).into()).await;
    let (message, _) = safe.failure(SANITIZE).await;
    assert!(message.contains("another SHA-256"), "{message}");
    // Its own points are none that it could start from.
    let (good, _) = production("sanitize-own").await;
    let made = Safe::of(&good).complete(SANITIZE).await;
    let mut of_safe = Safe::of(&good);
    let into = std::mem::replace(&mut of_safe.into.prefix, "other/shop/".to_owned());
    let only = Scenario::of(good.servers.clone(), (good.name, into), good.bucket.clone());
    let of_safe = Safe { from: &only, into: of_safe.into };
    let (message, _) = of_safe.failure(SANITIZE).await;
    assert!(message.contains("there is no recovery point of this stack under safe/shop/"), "{}: {message}", made.id);
}

/// The statements run as a superuser of the server, which is a child of the agent: not a way to the keys of the buckets.
#[tokio::test]
async fn statements_do_not_reach_the_keys_of_the_agent() {
    let (scenario, _) = production("sanitize-keys").await;
    let safe = Safe::of(&scenario);
    // The shell is a child of the session, which is one of the server, which is one of the agent. It has no PATH but the server's.
    let of_agent = |file: &str| {
        let parent = "read -r a b c p rest < /proc/$p/stat";
        format!("p=$PPID; {parent}; {parent}; (/usr/bin/tr '\\000\\134' '  ' < /proc/$p/{file}) || true")
            .replace('\'', "''")
    };
    let sql = format!(
        "{SANITIZE} CREATE TABLE stolen (t text); COPY stolen FROM PROGRAM '{}' (DELIMITER E'\\x01'); COPY stolen FROM PROGRAM '{}' \
         (DELIMITER E'\\x01'); COPY stolen FROM PROGRAM '/usr/bin/env' (DELIMITER E'\\x01');",
        of_agent("cmdline"),
        of_agent("environ")
    );
    let record = safe.complete(&sql).await;
    let restored = safe.restored(&record.id).await;
    let count = async |like: &str| {
        scenario.sql_in(&restored, &format!("SELECT count(*) FROM stolen WHERE t LIKE '%{like}%'")).await
    };
    assert_eq!(count("agent sanitize --prefix").await, "1", "the process was found");
    assert_eq!((count(PASSWORD).await, count(contract::ENV_SECRET_ACCESS_KEY).await), ("0".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn a_kill_leaves_no_point_and_a_second_run_makes_one() {
    let (scenario, _) = production("sanitize-killed").await;
    scenario.fill(8).await;
    scenario.dump().await;
    let safe = Safe::of(&scenario);
    let log = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
    // While a statement runs.
    let (mut command, result) = safe.command(&format!("{SANITIZE} SELECT pg_sleep(600)"));
    let mut child =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("agent");
    let server = result.with_file_name("work").join("server");
    until("the statements run", async || log(&server.join("log")).contains("ready to accept connections")).await;
    signal("KILL", child.id());
    child.wait().expect("killed");
    assert_eq!(safe.into.keys().await, BTreeSet::new());
    // The server of a killed pod ends with it; here it is ours to end.
    let lock = server.join("data/postmaster.pid");
    let pid = log(&lock).lines().next().and_then(|line| line.parse().ok());
    signal("QUIT", pid.expect("the server of the killed agent"));
    // It removes this file last, and the next agent empties the folder.
    until("the server of the killed agent ends", async || !lock.exists()).await;
    let record = safe.complete(SANITIZE).await;
    let files = [DUMP_FILE, MANIFEST_FILE].map(|file| format!("{}/{file}", record.id));
    assert_eq!(safe.into.keys().await, BTreeSet::from(files));
}

/// Whoever asks: only what is sanitized leaves its environment.
#[tokio::test]
async fn a_raw_point_of_another_environment_is_refused() {
    let (scenario, point) = production("sanitize-refused").await;
    let any = |environment: &'static str| [contract::ARG_ANY_OWNER, contract::ARG_ENVIRONMENT, environment];
    let raw = Restore::of(&scenario, &point.id);
    for step in [RestoreStep::Check, RestoreStep::Fill, RestoreStep::Copy] {
        let (reason, message) = raw.refused(step, &any("Development")).await;
        assert_eq!(reason, RestoreRefusal::PointNotSanitized, "{message}");
        assert!(message.contains("of Production, not of Development"), "{message}");
    }
    // One's own does not become another's by a stack of the same name.
    let (reason, _) = raw.refused(RestoreStep::Check, &[contract::ARG_ENVIRONMENT, "Staging"]).await;
    assert_eq!(reason, RestoreRefusal::PointNotSanitized);
    let (reason, message) = raw.refused(RestoreStep::Check, &[contract::ARG_SANITIZED]).await;
    assert!(reason == RestoreRefusal::PointNotSanitized && message.contains("is not sanitized"), "{message}");
    raw.run(RestoreStep::Check, &any("Production")).await.done();
    // Of a release that did not say it.
    scenario.change_manifest(&point.id, |manifest| drop(manifest["environment"].take())).await;
    let (reason, message) = raw.refused(RestoreStep::Check, &any("Staging")).await;
    assert!(reason == RestoreRefusal::PointNotSanitized && message.contains("does not say"), "{message}");
    raw.run(RestoreStep::Check, &any("Production")).await.done();
    raw.run(RestoreStep::Check, &[contract::ARG_ENVIRONMENT, "Staging"]).await.done();
    // A sanitized one fills an empty database of whoever has the key.
    let safe = Safe::of(&scenario);
    let made = safe.complete(SANITIZE).await;
    scenario.sql_in("postgres", "CREATE DATABASE \"sanitize-filled\"").await;
    let mut fill = Restore::of(&safe.into, &made.id);
    fill.url = scenario.servers.database_url("sanitize-filled");
    let more = [contract::ARG_ANY_OWNER, contract::ARG_ENVIRONMENT, "Development", contract::ARG_SANITIZED];
    let filled = fill.run(RestoreStep::Fill, &more).await.done();
    assert_eq!(filled.rows, Some(1000));
    let leaked = "SELECT count(*) FROM customers WHERE email LIKE '%example.com'";
    assert_eq!(scenario.sql_in("sanitize-filled", leaked).await, "0");
    // It takes the place of nothing.
    let (reason, message) = Restore::of(&safe.into, &made.id).refused(RestoreStep::Check, &[]).await;
    assert!(reason == RestoreRefusal::PointForeign && message.contains("replaces no data"), "{message}");
    // With data in it already it stays as it is.
    let mut another = Restore::of(&safe.into, &made.id);
    another.uid = "uid-another".to_owned();
    another.url.clone_from(&fill.url);
    let (reason, message) = another.run(RestoreStep::Fill, &more).await.refused();
    assert!(reason == RestoreRefusal::DataFound && message.contains("public.customers"), "{message}");
}

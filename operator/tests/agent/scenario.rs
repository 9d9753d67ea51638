//! One test's own database and bucket, and the agent as a pod would run it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use rorun_operator::agent::BackupId;
use rorun_operator::contract::{self, DumpOutcome, DumpRecord};
use rorun_operator::services::bucket::{BucketClient, Timeouts};
use tokio_postgres::NoTls;

use crate::process::until;
use crate::programs;
use crate::servers::{PASSWORD, Servers};

/// A database and a bucket of this name.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) servers: Arc<Servers>,
    pub(crate) name: &'static str,
    pub(crate) prefix: String,
    pub(crate) bucket: BucketClient,
    /// The second of the newest point, by [`Scenario::dump`].
    newest: AtomicI64,
}

/// How a run of the agent ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) outcome: DumpOutcome,
    pub(crate) output: String,
}

impl Scenario {
    pub(crate) async fn new(name: &'static str) -> Self {
        let servers = Servers::shared().await;
        let bucket = BucketClient::new(&servers.bucket(name), Timeouts::CHECK).expect("client");
        bucket.create().await.expect("bucket");
        let scenario = Self::of(servers, (name, format!("backups/shop/{name}/")), bucket);
        scenario.sql_in("postgres", &format!("CREATE DATABASE \"{name}\"")).await;
        scenario
    }

    /// A database that is there, and a folder of a bucket that is there.
    pub(crate) fn of(servers: Arc<Servers>, (name, prefix): (&'static str, String), bucket: BucketClient) -> Self {
        Self { servers, name, prefix, bucket, newest: AtomicI64::new(0) }
    }

    /// Runs SQL in the scenario's database and gives the first column of the last row.
    pub(crate) async fn sql(&self, sql: &str) -> String {
        self.sql_in(self.name, sql).await
    }

    pub(crate) async fn sql_in(&self, database: &str, sql: &str) -> String {
        let url = self.servers.database_url(database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connect");
        let driver = tokio::spawn(connection);
        let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        drop(client);
        driver.await.expect("driver").expect("connection");
        let last = messages.into_iter().rev().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        last.unwrap_or_default()
    }

    /// A table of so many MiB that cannot be compressed.
    pub(crate) async fn fill(&self, mebibytes: u32) {
        let row = "SELECT string_agg(sha512(int8send(n * 1024 + i)), '') FROM generate_series(1, 1024) i";
        self.sql("CREATE TABLE filler (n bigint, data bytea); ALTER TABLE filler ALTER data SET STORAGE EXTERNAL")
            .await;
        let rows = mebibytes * 16;
        self.sql(&format!("INSERT INTO filler SELECT n, ({row}) FROM generate_series(1::bigint, {rows}) n")).await;
    }

    /// Whose the backups of this scenario are.
    pub(crate) fn owner(&self) -> String {
        format!("6f1f3a5c-0000-4000-8000-000000000001/{}", self.name)
    }

    /// Puts a small backup there, as an owner wrote it, or a release that wrote none.
    pub(crate) async fn put_backup(&self, id: &str, owner: Option<&str>) -> [String; 2] {
        let [dump, manifest] = [contract::DUMP_FILE, contract::MANIFEST_FILE].map(|file| format!("{id}/{file}"));
        let key = |file: &str| format!("{}{file}", self.prefix);
        let mut body = serde_json::json!({
            "apiVersion": "backup.rorun.app/v1", "id": id, "startedAt": "2020-01-01T00:00:00Z",
            "createdAt": "2020-01-01T00:00:00Z", "tool": "rorun-operator 0.1.0", "pgDumpVersion": "17",
            "serverVersion": "17", "database": self.name, "format": "pg_dump custom", "note": "of another release",
            "objects": [{"key": key(&dump), "size": 5, "sha256": "0"}],
        });
        if let Some(owner) = owner {
            body["owner"] = owner.into();
        }
        self.bucket.put(&key(&dump), vec![1; 5]).await.expect("put");
        self.bucket.put(&key(&manifest), body.to_string().into_bytes()).await.expect("put");
        [dump, manifest]
    }

    fn termination_path(&self) -> PathBuf {
        self.servers.folder().join(format!("{}.result", self.name))
    }

    /// `agent dump` with the arguments and variables of the contract.
    pub(crate) fn command(&self) -> Command {
        self.command_of(Some(&self.owner()))
    }

    /// As [`Scenario::command`], for another owner, or without one as an operator of 0.1.0 starts it.
    pub(crate) fn command_of(&self, owner: Option<&str>) -> Command {
        let mut command = Command::new(programs::agent());
        command.args([contract::AGENT, contract::DUMP, contract::ARG_PREFIX, &self.prefix]);
        command.args([contract::ARG_RETENTION_DAYS, "7", contract::ARG_MINIMUM_KEPT, "2"]);
        if let Some(owner) = owner {
            command.args([contract::ARG_OWNER, owner, contract::ARG_STACK_UID, "stack-uid"]);
        }
        command.arg("--termination-path").arg(self.termination_path());
        command.env_clear().env("PATH", &self.servers.programs);
        // The pod has these of the application, perhaps through a pooler: they must not count.
        command.env("PGHOST", "pooler.invalid").env("PGDATABASE", "wrong").env("PGSSLMODE", "verify-full");
        command.env(contract::ENV_DATABASE_URL, self.servers.database_url(self.name));
        command.env(contract::ENV_S3_ENDPOINT, format!("http://127.0.0.1:{}", self.servers.s3_port));
        command.env(contract::ENV_S3_REGION, "us-east-1").env(contract::ENV_S3_BUCKET, self.name);
        command.env(contract::ENV_S3_FORCE_PATH_STYLE, "true");
        command.env(contract::ENV_ACCESS_KEY_ID, "owner").env(contract::ENV_SECRET_ACCESS_KEY, PASSWORD);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command of [`Scenario::command`] and reads what it reports; `during` happens while it runs. The identifiers of
    /// points sort by seconds, so no two are made in one.
    #[expect(clippy::disallowed_methods, reason = "the agent takes the time of this machine")]
    pub(crate) async fn run_during(&self, mut command: Command, during: impl AsyncFnOnce(u32)) -> Run {
        let newest = self.newest.load(Ordering::Relaxed);
        until("the second of the last point to be over", async || Timestamp::now().as_second() > newest).await;
        let _ = std::fs::remove_file(self.termination_path());
        let child = command.spawn().expect("agent");
        let pid = child.id();
        let wait = tokio::task::spawn_blocking(move || child.wait_with_output().expect("agent"));
        during(pid).await;
        let output = wait.await.expect("agent");
        let said = String::from_utf8_lossy(&output.stderr);
        let result =
            std::fs::read(self.termination_path()).unwrap_or_else(|error| panic!("no result: {error}: {said}"));
        let outcome = serde_json::from_slice(&result).expect("result");
        if let DumpOutcome::Complete(record) = &outcome {
            let id: BackupId = record.id.parse().expect("an identifier");
            self.newest.store(id.created().as_second(), Ordering::Relaxed);
        }
        let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = output_text.lines().last().unwrap_or_default();
        assert_eq!(last.as_bytes(), result, "the log ends with the result");
        for text in [&said, last] {
            assert!(!text.contains(PASSWORD), "a secret in {text}");
        }
        Run { status: output.status, outcome, output: said.into_owned() }
    }

    pub(crate) async fn run(&self, command: Command) -> Run {
        self.run_during(command, async |_| {}).await
    }

    /// Runs the agent, which must succeed.
    pub(crate) async fn dump(&self) -> DumpRecord {
        self.run(self.command()).await.complete()
    }

    /// Runs the agent, which must fail, and gives the message.
    pub(crate) async fn failure(&self, command: Command) -> String {
        let run = self.run(command).await;
        assert_eq!(run.status.code(), Some(1), "{run:?}");
        run.failed()
    }

    /// All keys under the prefix, without the prefix.
    pub(crate) async fn keys(&self) -> BTreeSet<String> {
        let objects = self.bucket.list(&self.prefix).await.expect("list");
        objects.into_iter().map(|object| object.key.trim_start_matches(&self.prefix).to_owned()).collect()
    }

    /// Neither an object nor a part of one.
    pub(crate) async fn assert_nothing_left(&self) {
        assert_eq!(self.keys().await, BTreeSet::new());
        assert_eq!(self.bucket.uploads(&self.prefix).await.expect("uploads"), []);
    }

    /// Restores a dump into a new database and gives its name.
    pub(crate) async fn restore(&self, dump: &[u8]) -> String {
        let database = format!("{}-restored", self.name);
        self.sql_in("postgres", &format!("CREATE DATABASE \"{database}\"")).await;
        let file = self.servers.folder().join(&database);
        std::fs::write(&file, dump).expect("dump");
        let url = self.servers.database_url(&database);
        let pg_restore = self.servers.programs.join("pg_restore");
        programs::run(Command::new(pg_restore).args(["--exit-on-error", "--dbname", &url]).arg(&file));
        database
    }
}

impl Run {
    pub(crate) fn complete(self) -> DumpRecord {
        match self.outcome {
            DumpOutcome::Complete(record) if self.status.success() => record,
            outcome => panic!("{:?}: {outcome:?}: {}", self.status, self.output),
        }
    }

    pub(crate) fn failed(self) -> String {
        match self.outcome {
            DumpOutcome::Failed { message } => message,
            outcome @ DumpOutcome::Complete(_) => panic!("{outcome:?}"),
        }
    }
}

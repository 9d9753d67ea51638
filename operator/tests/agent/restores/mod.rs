//! The steps of a restore against real servers, and what tries to trick them.

mod checks;
pub(crate) mod copied;
mod copies;
mod discards;
mod fills;
mod kills;
mod moments;
pub(crate) mod objects;
mod sealed;
mod switches;

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rorun_operator::contract::{
    self, DUMP_FILE, MANIFEST_FILE, RestoreOutcome, RestoreRefusal, RestoreResult, RestoreStep, copy_database,
    kept_database,
};
use serde_json::Value;

use crate::programs;
use crate::scenario::Scenario;
use crate::servers::PASSWORD;

static RUNS: AtomicU32 = AtomicU32::new(0);

/// One restore of a point into the scenario's database.
pub(crate) struct Restore<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) uid: String,
    pub(crate) point: String,
    pub(crate) url: String,
    pub(crate) database: String,
    /// The folder of the point.
    pub(crate) prefix: String,
}

/// How a step ended.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) status: ExitStatus,
    pub(crate) outcome: RestoreOutcome,
    pub(crate) output: String,
}

impl<'a> Restore<'a> {
    /// Of this point, by the superuser.
    pub(crate) fn of(scenario: &'a Scenario, point: &str) -> Self {
        let url = scenario.servers.database_url(scenario.name);
        let (point, database) = (point.to_owned(), scenario.name.to_owned());
        let prefix = scenario.prefix.clone();
        Self { scenario, uid: format!("uid-{}", scenario.name), point, url, database, prefix }
    }

    /// By a role that is made for it.
    pub(crate) async fn by(mut self, role: &str, attributes: &str) -> Self {
        let sql = format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{PASSWORD}' {attributes}");
        self.scenario.sql_in("postgres", &sql).await;
        let port = self.scenario.servers.postgres_port;
        self.url = format!("postgres://{role}:{PASSWORD}@127.0.0.1:{port}/{}?sslmode=disable", self.database);
        self
    }

    pub(crate) fn copy(&self) -> String {
        copy_database(&self.database, &self.uid)
    }

    pub(crate) fn kept(&self) -> String {
        kept_database(&self.database, &self.uid)
    }

    fn result_file(&self) -> PathBuf {
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        self.scenario.servers.folder().join(format!("restore-{run}.result"))
    }

    /// `agent restore` with the arguments and variables of the contract.
    pub(crate) fn command(&self, step: RestoreStep, more: &[&str]) -> Command {
        let mut command = Command::new(programs::agent());
        command.args([contract::AGENT, contract::RESTORE, step.as_str(), contract::ARG_RESTORE, &self.uid]);
        if !matches!(step, RestoreStep::Switch | RestoreStep::Discard) {
            command.args([contract::ARG_PREFIX, &self.prefix, contract::ARG_POINT, &self.point]);
            if !more.contains(&contract::ARG_ANY_OWNER) {
                command.args([contract::ARG_OWNER, &self.scenario.owner()]);
            }
        }
        if step == RestoreStep::Check {
            command.args([contract::ARG_SCOPE, "database"]);
        }
        command.args(more).arg("--termination-path").arg(self.result_file());
        command.env_clear().env("PATH", &self.scenario.servers.programs);
        // The pod has these of the application, perhaps through a pooler: they must not count.
        command.env("PGHOST", "pooler.invalid").env("PGDATABASE", "wrong").env("PGSSLMODE", "verify-full");
        command.env(contract::ENV_DATABASE_URL, &self.url);
        command.env(contract::ENV_S3_ENDPOINT, format!("http://127.0.0.1:{}", self.scenario.servers.s3_port));
        command.env(contract::ENV_S3_REGION, "us-east-1").env(contract::ENV_S3_BUCKET, self.scenario.name);
        command.env(contract::ENV_S3_FORCE_PATH_STYLE, "true");
        command.env(contract::ENV_ACCESS_KEY_ID, "owner").env(contract::ENV_SECRET_ACCESS_KEY, PASSWORD);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command while something happens, and reads what it reports.
    pub(crate) async fn run_during(&self, mut command: Command, during: impl AsyncFnOnce(u32)) -> Step {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
        assert!(!arguments.join(" ").contains(PASSWORD), "a secret in {arguments:?}");
        let file = PathBuf::from(arguments.last().expect("a file for the result"));
        let child = command.spawn().expect("agent");
        let pid = child.id();
        let wait = tokio::task::spawn_blocking(move || child.wait_with_output().expect("agent"));
        during(pid).await;
        let ended = wait.await.expect("agent");
        let output = String::from_utf8_lossy(&ended.stderr).into_owned() + &String::from_utf8_lossy(&ended.stdout);
        assert!(!output.contains(PASSWORD), "a secret in {output}");
        let result = std::fs::read(&file).unwrap_or_else(|error| panic!("no result: {error}: {output}"));
        assert!(result.len() <= 4096 && !String::from_utf8_lossy(&result).contains(PASSWORD), "{result:?}");
        let outcome = serde_json::from_slice(&result).expect("result");
        Step { status: ended.status, outcome, output }
    }

    pub(crate) async fn run(&self, step: RestoreStep, more: &[&str]) -> Step {
        self.run_during(self.command(step, more), async |_| {}).await
    }

    /// Runs a step, which must be done.
    pub(crate) async fn done(&self, step: RestoreStep) -> RestoreResult {
        self.run(step, &[]).await.done()
    }

    /// Runs a step, which must be refused.
    pub(crate) async fn refused(&self, step: RestoreStep, more: &[&str]) -> (RestoreRefusal, String) {
        self.run(step, more).await.refused()
    }

    pub(crate) async fn discard(&self, database: &str) -> Step {
        self.run(RestoreStep::Discard, &[contract::ARG_DATABASE, database]).await
    }

    /// Starts a step that will be killed.
    pub(crate) fn spawn(&self, step: RestoreStep) -> std::process::Child {
        self.command(step, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("agent")
    }
}

impl Step {
    pub(crate) fn done(self) -> RestoreResult {
        match self.outcome {
            RestoreOutcome::Done(result) if self.status.success() => result,
            outcome => panic!("{:?}: {outcome:?}: {}", self.status, self.output),
        }
    }

    pub(crate) fn refused(self) -> (RestoreRefusal, String) {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        match self.outcome {
            RestoreOutcome::Refused { reason, message } => (reason, message),
            outcome => panic!("{outcome:?}: {}", self.output),
        }
    }
}

impl Scenario {
    /// Changes the manifest of a point.
    pub(crate) async fn change_manifest(&self, point: &str, change: impl FnOnce(&mut Value)) {
        let key = format!("{}{point}/{MANIFEST_FILE}", self.prefix);
        let body = self.bucket.get(&key).await.expect("get").expect("manifest");
        let mut manifest = serde_json::from_slice(&body).expect("JSON");
        change(&mut manifest);
        self.bucket.put(&key, manifest.to_string().into_bytes()).await.expect("put");
    }

    pub(crate) fn dump_key(&self, point: &str) -> String {
        format!("{}{point}/{DUMP_FILE}", self.prefix)
    }

    /// A table with so many rows, and a dump of it.
    pub(crate) async fn point(&self, rows: u32) -> String {
        self.sql(&format!("CREATE TABLE receipts AS SELECT n FROM generate_series(1, {rows}) n")).await;
        self.dump().await.id
    }

    pub(crate) async fn exists(&self, database: &str) -> bool {
        let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{database}'");
        self.sql_in("postgres", &sql).await == "1"
    }

    pub(crate) async fn oid(&self, database: &str) -> String {
        self.sql_in("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{database}'")).await
    }
}

/// Counts the rows of the table.
pub(crate) const ROWS: &str = "SELECT count(*) FROM receipts";

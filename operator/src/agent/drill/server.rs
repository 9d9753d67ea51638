//! The PostgreSQL of a drill: a child process on the loopback interface of its pod, with a password that nobody else learns.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rand::RngExt as _;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use super::{Ended, fault};
use crate::agent::manifest::Contents;
use crate::contract::DrillFault;
use crate::services::postgres::{self, PostgresTarget};

/// The superuser of the server, and the database that a dump is restored into.
pub(in crate::agent) const NAME: &str = "drill";
/// A server on a busy node takes a while.
const STARTS_WITHIN: Duration = Duration::from_mins(2);
const STOPS_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// A running server. Dropping it kills it.
pub(in crate::agent) struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
    password: String,
}

/// The major version in what PostgreSQL says of itself: `postgres (PostgreSQL) 17.6` or `17.6`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whether the server of this image is at least that of the dump.
pub(in crate::agent) async fn fits(dumped: &str) -> Result<(), Ended> {
    let output = clean("postgres").arg("--version").stdin(Stdio::null()).output().await;
    let said = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => {
            return fault(
                DrillFault::NotRun,
                format!("failed to run postgres: {error}; set backup.verify.image to an image of PostgreSQL"),
            );
        }
    };
    match (major(&said), major(dumped)) {
        (Some(own), Some(dumped)) if own < dumped => fault(
            DrillFault::ServerTooOld,
            format!(
                "the dump is of PostgreSQL {dumped}, and the image of the drill has {own}: set backup.verify.image to one of \
                 {dumped}"
            ),
        ),
        _ => Ok(()),
    }
}

impl Server {
    /// Makes a cluster in an empty folder, and starts it.
    pub(in crate::agent) async fn start(
        folder: &Path,
        contents: Option<&Contents>,
        stop: &CancellationToken,
    ) -> Result<Self, Ended> {
        let failed =
            |what: &str, error: &io::Error| Ended::Fault(DrillFault::NotRun, format!("failed to {what}: {error}"));
        let folder = folder.join("server");
        // What a drill left that was killed: the folder is ours alone.
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|error| failed("empty the volume of the drill", &error))?;
        }
        std::fs::create_dir_all(&folder).map_err(|error| failed("write to the volume of the drill", &error))?;
        let password: String = rand::rng().sample_iter(rand::distr::Alphanumeric).take(32).map(char::from).collect();
        let password_file = folder.join("password");
        std::fs::write(&password_file, &password)
            .map_err(|error| failed("write to the volume of the drill", &error))?;
        init(&folder).await?;
        let _ = std::fs::remove_file(&password_file);
        let port = free_port().map_err(|error| failed("find a port for the drill", &error))?;
        let child = run(&folder, port).map_err(|error| failed("run postgres", &error))?;
        let mut server = Self { child, folder, port, password };
        server.ready(stop).await?;
        server.prepare(contents).await?;
        Ok(server)
    }

    async fn ready(&mut self, stop: &CancellationToken) -> Result<(), Ended> {
        let deadline = Instant::now() + STARTS_WITHIN;
        loop {
            let Err(error) = self.connect("postgres").await else { return Ok(()) };
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let last = log.lines().rev().find(|line| line.contains("FATAL")).unwrap_or_default();
                return fault(DrillFault::NotRun, format!("the server of the drill does not start: {error}; {last}"));
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Ended::Stopped),
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Roles that policies name, without a way to log in, and a database of the dump's encoding.
    async fn prepare(&self, contents: Option<&Contents>) -> Result<(), Ended> {
        let client = self.connect("postgres").await.map_err(|error| not_run(&error))?;
        let encoding = contents.map_or("UTF8", |contents| contents.encoding.as_str());
        let known = !encoding.is_empty() && encoding.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let encoding = if known { encoding } else { "UTF8" };
        let mut statements =
            vec![format!("CREATE DATABASE {NAME} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")];
        let roles = contents.map(|contents| contents.roles.as_slice()).unwrap_or_default();
        let others = roles.iter().filter(|role| *role != NAME);
        statements.extend(others.map(|role| format!("CREATE ROLE {} NOLOGIN", quoted(role))));
        for statement in statements {
            client.simple_query(&statement).await.map_err(|error| not_run(&error))?;
        }
        Ok(())
    }

    /// A session, as the superuser.
    pub(in crate::agent) async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(NAME).password(&self.password).dbname(database);
        let (client, driver) = config.connect_timeout(Duration::from_secs(10)).connect(NoTls).await?;
        tokio::spawn(driver);
        Ok(client)
    }

    /// The variables that lead `libpq` to the database of the drill.
    pub(in crate::agent) fn environment(&self) -> [(&'static str, String); 6] {
        [
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", NAME.to_owned()),
            ("PGPASSWORD", self.password.clone()),
            ("PGDATABASE", NAME.to_owned()),
            ("PGSSLMODE", "disable".to_owned()),
        ]
    }

    /// The same, for clients of ours.
    pub(in crate::agent) fn target(&self) -> PostgresTarget {
        let url = format!("postgres://{NAME}:{}@127.0.0.1:{}/{NAME}?sslmode=disable", self.password, self.port);
        PostgresTarget { url, ca: None, client: None }
    }

    /// Its version, as it says it.
    pub(in crate::agent) async fn version(&self) -> Result<String, Ended> {
        Ok(postgres::check(&self.target(), STARTS_WITHIN).await?.version)
    }

    /// Ends it, and removes its files.
    pub(in crate::agent) async fn stop(mut self) {
        // What the statements of a user have started may still run, as the same user.
        let mut stop = clean("pg_ctl");
        stop.args(["stop", "--mode=immediate", "--no-wait", "-D"]).arg(self.folder.join("data"));
        stop.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let _ = tokio::time::timeout(STOPS_WITHIN, stop.status()).await;
        if tokio::time::timeout(STOPS_WITHIN, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, "the files of the drill stay until its pod is removed");
        }
    }
}

async fn init(folder: &Path) -> Result<(), Ended> {
    let mut initdb = clean("initdb");
    initdb.current_dir(folder).args(["--pgdata=data", "--pwfile=password", "--auth=scram-sha-256", "--encoding=UTF8"]);
    initdb.args(["--no-locale", "--no-sync", &format!("--username={NAME}")]);
    let output = initdb.stdin(Stdio::null()).output().await;
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            fault(DrillFault::NotRun, format!("failed to make a server for the drill: {said}"))
        }
        Err(error) => fault(DrillFault::NotRun, format!("failed to run initdb: {error}; set backup.verify.image")),
    }
}

fn run(folder: &Path, port: u16) -> io::Result<Child> {
    let log = std::fs::File::create(folder.join("log"))?;
    let mut postgres = clean("postgres");
    postgres.current_dir(folder).args(["-D", "data", "-p", &port.to_string()]);
    // What is thrown away need not survive a crash.
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "full_page_writes=off",
        "synchronous_commit=off",
        "wal_level=minimal",
        "max_wal_senders=0",
        "archive_mode=off",
        "autovacuum=off",
    ] {
        postgres.args(["-c", setting]);
    }
    postgres.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()
}

/// A program without the keys that this process was given.
pub(in crate::agent) fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    let kept = ["PATH", "LD_LIBRARY_PATH", "TMPDIR"];
    let variables = kept.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    command.env_clear().envs(variables).env("LC_ALL", "C");
    command
}

fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

pub(in crate::agent) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn not_run(error: &tokio_postgres::Error) -> Ended {
    Ended::Fault(DrillFault::NotRun, format!("the server of the drill refuses: {}", said(error)))
}

/// What the server of the drill says, which is ours.
pub(in crate::agent) fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_major_version_is_read_from_either_form() {
        let versions = ["postgres (PostgreSQL) 17.6 (Debian 17.6-1)", "15.18", "18beta2", "PostgreSQL"].map(major);
        assert_eq!(versions, [Some(17), Some(15), Some(18), None]);
    }
}

//! The role and the database of the application, made by the master of a server as RDS has one: no superuser.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rorun_operator::contract::{self, ProvisionOutcome};
use tokio_postgres::NoTls;

use crate::servers::{PASSWORD, Servers};

const MASTER_PASSWORD: &str = "pass-of-the-master";
const APP_PASSWORD: &str = "pass-of-the-application";

/// A server with a master for one test, and the login that the test asks for.
struct Server {
    servers: Arc<Servers>,
    name: &'static str,
}

impl Server {
    async fn new(name: &'static str) -> Self {
        let server = Self { servers: Servers::shared().await, name };
        server.sql(&format!("CREATE ROLE {name}_master LOGIN CREATEROLE CREATEDB PASSWORD '{MASTER_PASSWORD}'")).await;
        server
    }

    /// As the superuser, whom the master of RDS is not.
    async fn sql(&self, sql: &str) -> String {
        let url = self.servers.database_url("postgres");
        self.sql_by(&url, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As the application, in its database.
    async fn as_app(&self, sql: &str) -> Result<String, String> {
        let Self { name, servers } = self;
        let port = servers.postgres_port;
        let url = format!("postgres://{name}:{APP_PASSWORD}@127.0.0.1:{port}/{name}?sslmode=disable");
        self.sql_by(&url, sql).await
    }

    async fn sql_by(&self, url: &str, sql: &str) -> Result<String, String> {
        let told = |error: tokio_postgres::Error| {
            error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
        };
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(told)?;
        let driver = tokio::spawn(connection);
        let messages = client.simple_query(sql).await.map_err(told)?;
        drop(client);
        driver.await.expect("driver").expect("connection");
        let last = messages.into_iter().rev().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(last.unwrap_or_default())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rorun-operator"));
        let port = self.servers.postgres_port.to_string();
        command.args([contract::AGENT, contract::PROVISION_DATABASE, contract::ARG_HOST, "localhost"]);
        command.args([contract::ARG_PORT, &port, contract::ARG_DATABASE_CA_FILE]).arg(&self.servers.database_ca_file);
        command.arg("--termination-path").arg(self.result());
        command.env_clear();
        command.env(contract::ENV_MASTER_USERNAME, format!("{}_master", self.name));
        command.env(contract::ENV_MASTER_PASSWORD, MASTER_PASSWORD);
        command.env(contract::ENV_APP_USERNAME, self.name).env(contract::ENV_APP_DATABASE, self.name);
        command.env(contract::ENV_APP_PASSWORD, APP_PASSWORD);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn result(&self) -> std::path::PathBuf {
        self.servers.folder().join(format!("{}.result", self.name))
    }

    /// Runs it, and tells what the kubelet would put into the status of the pod.
    async fn run(&self, mut command: Command) -> ProvisionOutcome {
        let run = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
        let output = run.await.expect("a thread");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        for secret in [MASTER_PASSWORD, APP_PASSWORD] {
            assert!(!said.contains(secret), "{said}");
        }
        let result = std::fs::read(self.result()).expect("a result");
        let outcome = serde_json::from_slice(&result).expect("JSON");
        assert_eq!(output.status.success(), matches!(outcome, ProvisionOutcome::Complete { .. }), "{said}");
        outcome
    }

    async fn fails(&self, command: Command, words: &[&str]) {
        let ProvisionOutcome::Failed { message } = self.run(command).await else { panic!("it succeeded") };
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
    }
}

fn made(what: &[&str]) -> ProvisionOutcome {
    ProvisionOutcome::Complete { made: what.iter().map(|name| (*name).to_owned()).collect() }
}

#[tokio::test]
async fn what_is_missing_is_made_once_and_is_enough_for_migrations() {
    let server = Server::new("fresh").await;
    let logged = server.sql("SELECT pg_current_logfile() IS NULL").await;
    assert_eq!(logged, "t", "the test reads no log of statements");
    assert_eq!(server.run(server.command()).await, made(&["role fresh", "database fresh"]));
    // What a migration does: tables, types, schemas, extensions that are trusted, and the lock of the migration tool.
    let migration = "CREATE TABLE receipts (id bigserial PRIMARY KEY); CREATE TYPE state AS ENUM ('new');
        CREATE SCHEMA audit; CREATE TABLE audit.log (id bigint REFERENCES receipts); SELECT pg_advisory_lock(1)";
    server.as_app(migration).await.expect("a migration");
    let rights =
        "SELECT rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = 'fresh'";
    assert_eq!(server.sql(rights).await, "f");
    server
        .as_app("CREATE DATABASE fresh_restore TEMPLATE template0")
        .await
        .expect("a database beside, as a restore makes");
    assert_eq!(server.sql("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'fresh'").await, "fresh");
    assert_eq!(
        server.sql("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'fresh'").await,
        "UTF8"
    );
    let may_become = "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
        WHERE r.rolname = 'fresh_master' AND m.roleid = 'fresh'::regrole AND NOT m.admin_option";
    assert_eq!(server.sql(may_become).await, "0", "the master is a member of the role no longer");
    assert!(
        server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'fresh'").await.starts_with("SCRAM-SHA-256$")
    );

    let before = state(&server).await;
    assert_eq!(server.run(server.command()).await, made(&[]));
    assert_eq!(state(&server).await, before, "the second run changed something");
}

/// All that a run could change.
async fn state(server: &Server) -> String {
    let name = server.name;
    let sql = format!(
        "SELECT (SELECT r.xmin::text || r.rolpassword FROM pg_authid r WHERE rolname = '{name}') || (SELECT d.xmin::text || datdba FROM pg_database d WHERE datname = '{name}')"
    );
    server.sql(&sql).await
}

#[tokio::test]
async fn a_run_that_ended_half_way_is_taken_up() {
    let server = Server::new("halfway").await;
    server
        .sql(&format!(
            "CREATE ROLE halfway LOGIN PASSWORD '{APP_PASSWORD}'; GRANT halfway TO halfway_master WITH ADMIN OPTION"
        ))
        .await;
    assert_eq!(server.run(server.command()).await, made(&["database halfway"]));
    server.as_app("CREATE TABLE receipts (id bigint)").await.expect("a table");
}

#[tokio::test]
async fn what_is_there_is_left_as_it_is_and_told() {
    let server = Server::new("taken").await;
    server.sql("CREATE ROLE taken LOGIN PASSWORD 'another'; GRANT taken TO taken_master WITH ADMIN OPTION").await;
    let hash = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'taken'").await;
    server.fails(server.command(), &["role taken, which was there before", "ALTER ROLE"]).await;
    assert_eq!(server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'taken'").await, hash);

    let server = Server::new("stranger").await;
    server.sql("CREATE DATABASE \"stranger\"").await;
    server.fails(server.command(), &["belongs to postgres", "ALTER DATABASE"]).await;
    assert_eq!(
        server.sql("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'stranger'").await,
        "postgres"
    );
}

#[tokio::test]
async fn the_server_is_verified_and_its_refusals_are_told() {
    let server = Server::new("refusing").await;
    let mut wrong = server.command();
    wrong.env(contract::ENV_MASTER_PASSWORD, PASSWORD);
    server.fails(wrong, &["log in as the master", "refuses the user or the password"]).await;

    let mut other = server.command();
    // The authority of another server: the last of an argument counts for none.
    let arguments: Vec<_> = other.get_args().map(std::ffi::OsStr::to_owned).collect();
    let program = other.get_program().to_owned();
    let replaced = arguments.iter().map(|argument| {
        if argument == server.servers.database_ca_file.as_os_str() {
            server.servers.ca_file.as_os_str()
        } else {
            argument
        }
    });
    let mut rebuilt = Command::new(program);
    rebuilt.args(replaced).env_clear();
    for (key, value) in other.get_envs() {
        rebuilt.env(key, value.unwrap_or_default());
    }
    rebuilt.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    other = rebuilt;
    server.fails(other, &["log in as the master", "certificate"]).await;
    assert_eq!(server.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'refusing'").await, "0");

    server.sql("ALTER ROLE refusing_master NOCREATEROLE").await;
    server.fails(server.command(), &["failed to create the role refusing"]).await;
}

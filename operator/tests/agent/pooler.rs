//! A real PgBouncer in front of the real PostgreSQL.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use futures::future::join_all;
use rorun_e2e::engine::ports;
use rorun_operator::services::postgres::{self, PostgresTarget};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::process::Server;
use crate::programs;
use crate::scenario::Scenario;
use crate::servers::{PASSWORD, as_postgres};

/// A pooler of a scenario's database. It ends with the test.
#[derive(Debug)]
pub(crate) struct Pooler {
    pub(crate) url: String,
    // Dropped in this order: the folder last.
    _server: Server,
    _folder: TempDir,
}

impl Pooler {
    pub(crate) async fn start(scenario: &Scenario, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let [port] = ports::free().expect("port");
        let (name, server_port) = (scenario.name, scenario.servers.postgres_port);
        let fixed = [
            "listen_addr = 127.0.0.1",
            "unix_socket_dir =",
            "auth_type = trust",
            "auth_file = users",
            "ignore_startup_parameters = extra_float_digits,options",
            "default_pool_size = 5",
        ];
        let lines = [&fixed[..], settings].concat().join("\n");
        let database = format!("host=127.0.0.1 port={server_port} user=postgres password={PASSWORD}");
        let text = format!("[databases]\n{name} = {database}\n[pgbouncer]\nlisten_port = {port}\n{lines}\n");
        fs::write(folder.path().join("pgbouncer.ini"), text).expect("configuration");
        fs::write(folder.path().join("users"), format!("\"postgres\" \"{PASSWORD}\"\n")).expect("users");
        let mut command = as_postgres(&programs::pgbouncer());
        command.current_dir(folder.path()).arg("pgbouncer.ini");
        let log = folder.path().join("pgbouncer.log");
        let mut server = Server::start(&mut command, "INT", &log);
        let url = format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/{name}?sslmode=disable");
        let target = PostgresTarget { url: url.clone(), ca: None, client: None };
        server.ready(async || postgres::check(&target, Duration::from_secs(1)).await).await;
        Self { url, _server: server, _folder: folder }
    }

    /// Makes it open so many connections to the server, which it then keeps.
    pub(crate) async fn fill(&self, connections: usize) {
        let open = async || {
            let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.expect("connect");
            tokio::spawn(connection);
            client.batch_execute("BEGIN").await.expect("begin");
            client
        };
        let clients = join_all((0..connections).map(|_| open())).await;
        for client in clients {
            client.batch_execute("COMMIT").await.expect("commit");
        }
    }
}

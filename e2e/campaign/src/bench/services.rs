//! A PostgreSQL and a Redis for all stacks of a run, and what passes for a bucket, so that the operator finds what it asks
//! for. They let everybody in without a password: what they do is no part of what is measured.

use std::convert::Infallible;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rorun_e2e::engine::cleanup::{Registration, on_interrupt};
use rorun_e2e::engine::process::{Run, find_program};
use rorun_e2e::engine::record::ProcessRecord;
use rorun_e2e::engine::{packages, ports, wait};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const UP_WITHIN: Duration = Duration::from_mins(1);

/// The servers. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Services {
    postgres: u16,
    redis: u16,
    bucket: u16,
    _buckets: JoinSet<()>,
    // Dropped in this order: the folder last.
    _running: Vec<Running>,
    _folder: TempDir,
}

#[derive(Debug)]
struct Running {
    child: Child,
    _interrupted: Registration,
}

impl Running {
    fn start(command: &mut Command, log: &Path) -> Result<Running> {
        let output = File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn();
        let child = child.with_context(|| format!("failed to start {command:?}"))?;
        let record = ProcessRecord::of(child.id())?;
        Ok(Running { child, _interrupted: on_interrupt(move || record.kill()) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Services {
    /// Starts them, getting what is missing first.
    pub(super) async fn start() -> Result<Services> {
        let (folder, [postgres, redis]) = (tempfile::tempdir()?, ports::free()?);
        // The user of PostgreSQL has to pass through.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        let running = vec![start_postgres(folder.path(), postgres)?, start_redis(folder.path(), redis)?];
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let bucket = listener.local_addr()?.port();
        let mut serving = JoinSet::new();
        serving.spawn(buckets(listener));
        for port in [postgres, redis] {
            wait::until_true(&format!("port {port} is open"), UP_WITHIN, || {
                Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
            })?;
        }
        Ok(Services { postgres, redis, bucket, _buckets: serving, _running: running, _folder: folder })
    }

    /// The Secrets that lead to them, by name with their values.
    pub(super) fn secrets(&self) -> [(&'static str, Value); 3] {
        let Services { postgres, redis, .. } = self;
        let database = format!("postgresql://postgres:none@127.0.0.1:{postgres}/postgres?sslmode=disable");
        [
            ("database", json!({"DATABASE_URL": database})),
            ("redis", json!({"REDIS_URL": format!("redis://127.0.0.1:{redis}")})),
            ("s3", json!({"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"})),
        ]
    }

    /// What a stack says of its services.
    pub(super) fn spec(&self) -> [(&'static str, Value); 3] {
        let endpoint = format!("http://127.0.0.1:{}", self.bucket);
        let bucket = json!({
            "name": "bench", "endpoint": endpoint, "region": "us-east-1", "forcePathStyle": true,
            "credentialsSecretRef": {"name": "s3"},
        });
        [
            ("database", json!({"external": {"secretRef": {"name": "database"}}})),
            ("redis", json!({"external": {"secretRef": {"name": "redis"}}})),
            ("bucket", json!({ "external": bucket })),
        ]
    }
}

fn start_postgres(folder: &Path, port: u16) -> Result<Running> {
    let programs = postgres_programs()?;
    let home = folder.join("postgres");
    fs::create_dir(&home)?;
    if rustix::process::geteuid().is_root() {
        Run::new("chown", ["postgres:postgres"]).arg(&home).output()?;
    }
    let mut initdb = as_postgres(&programs.join("initdb"), &home)?;
    initdb.args([
        "--pgdata=data",
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
    ]);
    let made = initdb.output().context("failed to run initdb")?;
    anyhow::ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
    let mut postgres = as_postgres(&programs.join("postgres"), &home)?;
    postgres.args(["-D", "data", "-p", &port.to_string()]);
    for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "autovacuum=off"] {
        postgres.args(["-c", setting]);
    }
    Running::start(&mut postgres, &folder.join("postgres.log"))
}

/// As the user of the package where we are root: PostgreSQL refuses to run as that.
fn as_postgres(program: &Path, home: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command.current_dir(home);
    if rustix::process::geteuid().is_root() {
        let id = |kind: &str| -> Result<u32> { Ok(Run::new("id", [kind, "postgres"]).output()?.trim().parse()?) };
        command.uid(id("-u")?).gid(id("-g")?);
    }
    Ok(command)
}

/// The folder of the newest `initdb` and `postgres`.
fn postgres_programs() -> Result<PathBuf> {
    let find = || {
        let versions =
            fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        versions.filter(|folder| folder.join("initdb").is_file()).max()
    };
    if find().is_none() {
        packages::ensure(&["postgresql"], "for the database of the stacks")?;
    }
    find().context("no initdb below /usr/lib/postgresql")
}

fn start_redis(folder: &Path, port: u16) -> Result<Running> {
    let find = || ["redis-server", "valkey-server"].into_iter().find_map(find_program);
    if find().is_none() {
        packages::ensure(&["redis-server"], "for the Redis of the stacks")?;
    }
    let mut redis = Command::new(find().context("no redis-server")?);
    redis.current_dir(folder).args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    Running::start(&mut redis, &folder.join("redis.log"))
}

/// What every bucket answers that it holds.
const LIST: &[u8] = br#"<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bench</Name><KeyCount>0</KeyCount><MaxKeys>1</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"#;

/// Says yes to whatever is asked of a bucket: the operator asks whether it is there.
async fn buckets(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let yes = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(LIST)))) });
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), yes));
        while connections.try_join_next().is_some() {}
    }
}

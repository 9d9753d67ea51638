//! Real servers: PostgreSQL, Redis and an S3 server, each with and without TLS.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rorun_e2e::engine::ports;
use rorun_operator::contract::{self, BucketLocation};
use rorun_operator::services::bucket::{AccessKeys, BucketClient, BucketTarget, Timeouts};
use rorun_operator::services::{postgres, redis};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::process::Server;
use crate::programs;

pub(crate) const PASSWORD: &str = "pass-of-the-tests";

/// All of them. They run while a test holds them.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) programs: PathBuf,
    /// The authority of Redis and the S3 server.
    pub(crate) ca_file: PathBuf,
    /// The authority of PostgreSQL.
    pub(crate) database_ca_file: PathBuf,
    /// The authority that PostgreSQL trusts for its clients.
    pub(crate) clients: CertifiedIssuer<'static, KeyPair>,
    pub(crate) postgres_port: u16,
    pub(crate) redis_port: u16,
    pub(crate) redis_tls_port: u16,
    pub(crate) s3_port: u16,
    pub(crate) s3_tls_port: u16,
    // Dropped in this order: the folder last.
    postgres: Server,
    redis: Server,
    s3: Server,
    folder: TempDir,
}

static SHARED: Mutex<Weak<Servers>> = Mutex::const_new(Weak::new());

impl Servers {
    /// Those of another test, if there is one at work, else new ones.
    pub(crate) async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(servers) = shared.upgrade() {
            return servers;
        }
        let servers = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&servers);
        servers
    }

    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        // The user of PostgreSQL has to pass through.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("permissions");
        let [ca_file, database_ca_file] = certificates(folder.path());
        let clients = authority("rorun test clients");
        fs::write(folder.path().join("client-ca.crt"), clients.pem()).expect("authority");
        let programs = programs::postgres();
        let [postgres_port, redis_port, redis_tls_port, s3_port, s3_tls_port] = ports::free().expect("ports");
        let mut servers = Self {
            postgres: start_postgres(folder.path(), &programs, postgres_port),
            redis: start_redis(folder.path(), redis_port, redis_tls_port),
            s3: start_s3(folder.path(), s3_port, s3_tls_port),
            programs,
            ca_file,
            database_ca_file,
            clients,
            postgres_port,
            redis_port,
            redis_tls_port,
            s3_port,
            s3_tls_port,
            folder,
        };
        servers.wait().await;
        servers
    }

    async fn wait(&mut self) {
        let second = Duration::from_secs(1);
        let database = postgres::PostgresTarget { url: self.database_url("postgres"), ca: None, client: None };
        let cache = redis::RedisTarget { url: format!("redis://:{PASSWORD}@127.0.0.1:{}", self.redis_port), ca: None };
        let bucket = BucketClient::new(&self.bucket("probe"), Timeouts::CHECK).expect("client");
        self.postgres.ready(async || postgres::check(&database, second).await).await;
        self.redis.ready(async || redis::check(&cache, second).await).await;
        let write = async || {
            bucket.create().await?;
            bucket.put("probe", vec![1]).await
        };
        self.s3.ready(write).await;
    }

    /// For the superuser.
    pub(crate) fn database_url(&self, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}?sslmode=disable", self.postgres_port)
    }

    /// For keys that may do everything.
    pub(crate) fn bucket(&self, name: &str) -> BucketTarget {
        BucketTarget {
            endpoint: format!("http://127.0.0.1:{}", self.s3_port),
            region: "us-east-1".to_owned(),
            bucket: name.to_owned(),
            force_path_style: true,
            keys: Some(by_keys("owner", PASSWORD)),
            ca: None,
        }
    }

    /// A place for a test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// An authority of clients.
pub(crate) fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("an authority")
}

/// Users that are known by a certificate alone, and one that has to have a password besides; all others need no certificate.
const ACCESS: &str = "hostssl all certified,certified_dump,certified_lock all cert\n\
    hostssl all certified_too all scram-sha-256 clientcert=verify-full\n\
    host all certified,certified_dump,certified_lock,certified_too all reject\n";

/// Two authorities, and a certificate of each.
fn certificates(folder: &Path) -> [PathBuf; 2] {
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new(programs::openssl());
        command.current_dir(folder).args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
        programs::run(command.args(["-pkeyopt", "ec_paramgen_curve:P-256"]).args(arguments));
    };
    let names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"];
    for (ca, key, server_key, server) in
        [("ca.crt", "ca.key", "server.key", "server.crt"), ("db-ca.crt", "db-ca.key", "db.key", "db.crt")]
    {
        openssl(&["-subj", &format!("/CN=rorun test {ca}"), "-keyout", key, "-out", ca]);
        let files = ["-CA", ca, "-CAkey", key, "-keyout", server_key, "-out", server];
        openssl(&[&["-subj", "/CN=localhost"][..], &names, &files].concat());
    }
    ["ca.crt", "db-ca.crt"].map(|file| folder.join(file))
}

/// As the user of the package where we are root.
pub(crate) fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new(program);
    if programs::is_root() {
        command.uid(programs::id(&["-u", "postgres"])).gid(programs::id(&["-g", "postgres"]));
    }
    command
}

fn start_postgres(folder: &Path, programs: &Path, port: u16) -> Server {
    let home = folder.join("postgres");
    fs::create_dir(&home).expect("folder");
    fs::write(home.join("password"), PASSWORD).expect("password");
    for file in ["db.key", "db.crt", "client-ca.crt"] {
        fs::copy(folder.join(file), home.join(file)).expect("certificate");
    }
    // PostgreSQL refuses a key that others can read.
    fs::set_permissions(home.join("db.key"), Permissions::from_mode(0o600)).expect("permissions");
    if programs::is_root() {
        programs::run(Command::new("chown").args(["-R", "postgres:postgres"]).arg(&home));
    }
    let mut initdb = as_postgres(&programs.join("initdb"));
    initdb.current_dir(&home).args(["--pgdata=data", "--username=postgres", "--pwfile=password"]);
    programs::run(initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]));
    let access = home.join("data/pg_hba.conf");
    let others = fs::read_to_string(&access).expect("access");
    fs::write(&access, format!("{ACCESS}{others}")).expect("access");
    let mut postgres = as_postgres(&programs.join("postgres"));
    postgres.current_dir(&home).args(["-D", "data", "-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "full_page_writes=off",
        "autovacuum=off",
        "archive_mode=on",
        "archive_command=true",
        "ssl=on",
        "ssl_cert_file=../db.crt",
        "ssl_key_file=../db.key",
        "ssl_ca_file=../client-ca.crt",
    ] {
        postgres.args(["-c", setting]);
    }
    Server::start(&mut postgres, "QUIT", &folder.join("postgres.log"))
}

fn start_redis(folder: &Path, port: u16, tls_port: u16) -> Server {
    let mut redis = Command::new(programs::redis());
    redis.current_dir(folder).args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    redis.args(["--requirepass", PASSWORD, "--save", "", "--tls-port", &tls_port.to_string()]);
    redis.args(["--tls-cert-file", "server.crt", "--tls-key-file", "server.key"]);
    redis.args(["--tls-ca-cert-file", "ca.crt", "--tls-auth-clients", "no"]);
    redis.args(["--user", "narrow", "on", ">narrow-password", "+ping"]);
    Server::start(&mut redis, "TERM", &folder.join("redis.log"))
}

fn start_s3(folder: &Path, port: u16, tls_port: u16) -> Server {
    let home = folder.join("s3");
    fs::create_dir(&home).expect("folder");
    let identity = |name: &str, actions: &[&str]| {
        let credentials = serde_json::json!([{"accessKey": name, "secretKey": PASSWORD}]);
        serde_json::json!({"name": name, "credentials": credentials, "actions": actions})
    };
    let owner = identity("owner", &["Admin", "Read", "Write", "List", "Tagging"]);
    let stranger = identity("stranger", &["Read:elsewhere", "List:elsewhere"]);
    let limited = ["Read:limited/backups/*", "Write:limited/backups/*", "List:limited/backups/*"];
    let identities = [owner, stranger, identity("limited", &limited)];
    let config = serde_json::json!({ "identities": identities }).to_string();
    fs::write(folder.join("s3.json"), config).expect("configuration");
    let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3_grpc] = ports::free().expect("ports");
    let mut weed = Command::new(programs::weed());
    weed.current_dir(folder).args(["-logtostderr=true", "server", "-dir=s3", "-filer", "-s3", "-s3.config=s3.json"]);
    weed.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=127.0.0.1", "-master.telemetry=false"]);
    weed.args(["-volume.max=0", "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
    weed.args(["-s3.cert.file=server.crt", "-s3.key.file=server.key"]);
    // Each bucket has volumes of its own, seven of them at once without this: a small disk has not room for so many.
    weed.env("WEED_MASTER_VOLUME_GROWTH_COPY_1", "1");
    for (name, value) in [
        ("master.port", master),
        ("master.port.grpc", master_grpc),
        ("volume.port", volume),
        ("volume.port.grpc", volume_grpc),
        ("filer.port", filer),
        ("filer.port.grpc", filer_grpc),
        ("s3.port", port),
        ("s3.port.grpc", s3_grpc),
        ("s3.port.https", tls_port),
    ] {
        weed.arg(format!("-{name}={value}"));
    }
    // It listens there besides, wherever its other files are.
    let sockets = [
        ("s3", port),
        ("s3-grpc", s3_grpc),
        ("filer", filer),
        ("filer-grpc", filer_grpc),
        ("master-grpc", master_grpc),
        ("volume-grpc", volume_grpc),
    ];
    let sockets = sockets.map(|(server, port)| PathBuf::from(format!("/tmp/seaweedfs-{server}-{port}.sock")));
    Server::start(&mut weed, "KILL", &folder.join("s3.log")).leaving(sockets)
}

/// Keys of a bucket.
pub(crate) fn by_keys(id: &str, secret: &str) -> AccessKeys {
    AccessKeys { id: id.to_owned(), secret: secret.to_owned(), session_token: None }
}

/// Gives the keys of a bucket to an agent; without any it looks for the role of its pod.
pub(crate) fn log_in(command: &mut Command, target: &BucketTarget) {
    if let Some(keys) = &target.keys {
        command.env(contract::ENV_ACCESS_KEY_ID, &keys.id).env(contract::ENV_SECRET_ACCESS_KEY, &keys.secret);
    }
}

/// A bucket as the operator tells an agent of it.
pub(crate) fn location(target: &BucketTarget) -> BucketLocation {
    let keys = target.keys.clone();
    BucketLocation {
        endpoint: target.endpoint.clone(),
        region: target.region.clone(),
        bucket: target.bucket.clone(),
        force_path_style: target.force_path_style,
        access_key_id: keys.as_ref().map(|keys| keys.id.clone()),
        secret_access_key: keys.map(|keys| keys.secret),
        session_token: None,
        ca: None,
    }
}

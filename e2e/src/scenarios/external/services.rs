//! A PostgreSQL, a Redis and an S3 server that the operator does not run: in another namespace, by manifests of their own.
//! They accept TLS alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::engine::image::data::{POSTGRES, SEAWEEDFS, VALKEY};
use crate::scenarios::kit::{Authority, Bucket, BucketAccess, Observed, Receipt, TestContext, ready, until};

/// Each character of it means something in a URL, a shell, SQL or a configuration file.
pub(in crate::scenarios) const PASSWORD: &str = r#"a:b@c/d?e#f[g]h%i&j=k+l m"n'o\p|q^r<s>t{u}`v$w!x;y,z~"#;
pub(in crate::scenarios) const KEY_ID: &str = "AKIAEXTERNAL";

const DATABASE: &str = "receipts";
pub(in crate::scenarios) const USER: &str = "rorun app";
/// The name of the bucket on each S3 server.
pub(in crate::scenarios) const BUCKET: &str = "rorun-staging";
const UP_WITHIN: Duration = Duration::from_mins(2);

/// Only connections with TLS are let in; the socket is for looking from inside.
const HBA: &str = "local all all trust\nhostssl all all all scram-sha-256";
/// What is asked of them besides a password.
const WITH_CERTIFICATE: &str = " clientcert=verify-full";

/// The services, in a namespace of theirs.
pub(in crate::scenarios) struct Services {
    namespace: String,
}

/// Who signs the certificate of each.
pub(in crate::scenarios) struct Issuers<'a> {
    pub(in crate::scenarios) postgres: &'a Authority,
    pub(in crate::scenarios) redis: &'a Authority,
    pub(in crate::scenarios) s3: &'a Authority,
    /// Of a second S3 server, for dumps alone. `None`: there is none.
    pub(in crate::scenarios) dumps: Option<&'a Authority>,
    /// Of the clients of PostgreSQL. `None`: it asks them for no certificate.
    pub(in crate::scenarios) clients: Option<&'a Authority>,
}

impl Issuers<'_> {
    fn services(&self) -> impl Iterator<Item = (&'static Service, &Authority)> {
        let [postgres, redis, s3, dumps] = &SERVICES;
        let always = [(postgres, self.postgres), (redis, self.redis), (s3, self.s3)];
        always.into_iter().chain(self.dumps.map(|authority| (dumps, authority)))
    }
}

/// The values that differ between the three.
struct Service {
    name: &'static str,
    image: &'static str,
    user: i64,
    port: u16,
    args: &'static [&'static str],
    data: &'static str,
}

const S3_ARGS: &[&str] = &[
    "server",
    "-dir=/data",
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-filer",
    "-s3",
    "-s3.ip.bind=0.0.0.0",
    "-s3.cert.file=/tls/tls.crt",
    "-s3.key.file=/tls/tls.key",
    "-volume.port=9340",
    "-volume.max=0",
    "-master.volumeSizeLimitMB=64",
    "-master.telemetry=false",
];

static SERVICES: [Service; 4] = [
    Service {
        name: "postgres",
        image: POSTGRES,
        user: 999,
        port: 5432,
        args: &[
            "postgres",
            "-cssl=on",
            "-cssl_cert_file=/tls/tls.crt",
            "-cssl_key_file=/tls/tls.key",
            "-chba_file=/config/pg_hba.conf",
        ],
        data: "/var/lib/postgresql/data",
    },
    Service { name: "redis", image: VALKEY, user: 999, port: 6380, args: &["/config/valkey.conf"], data: "/data" },
    Service { name: "s3", image: SEAWEEDFS, user: 1000, port: 8333, args: S3_ARGS, data: "/data" },
    Service { name: "dumps", image: SEAWEEDFS, user: 1000, port: 8333, args: S3_ARGS, data: "/data" },
];

impl Services {
    /// Starts them and waits until they run; makes the bucket, which an operator has no business making.
    pub(in crate::scenarios) async fn start(test: &TestContext, issuers: &Issuers<'_>) -> Result<Services> {
        let services = Services { namespace: test.namespace_called("services").await? };
        let mut items = vec![services.configuration(issuers.clients)];
        for (service, authority) in issuers.services() {
            let certificate = authority.issue(&[&services.host(service.name), "localhost"])?;
            items.push(json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": services.metadata(&format!("{}-tls", service.name)),
                "type": "kubernetes.io/tls",
                "stringData": {"tls.crt": certificate.certificate, "tls.key": certificate.key},
            }));
            items.extend([services.deployment(service, issuers.clients.is_some()), services.service(service)]);
        }
        test.apply_objects(&json!({"apiVersion": "v1", "kind": "List", "items": items})).await?;
        services.wait_until_up(test, issuers.services().count()).await?;
        services.bucket(test, "s3", issuers.s3).await?.create().await?;
        if let Some(authority) = issuers.dumps {
            services.bucket(test, "dumps", authority).await?.create().await?;
        }
        Ok(services)
    }

    pub(in crate::scenarios) fn database_url(&self) -> String {
        let host = self.host("postgres");
        format!("postgresql://{}:{}@{host}:5432/{DATABASE}?sslmode=verify-full", encode(USER), encode(PASSWORD))
    }

    pub(in crate::scenarios) fn redis_url(&self) -> String {
        format!("rediss://default:{}@{}:6380/0", encode(PASSWORD), self.host("redis"))
    }

    pub(in crate::scenarios) fn bucket_endpoint(&self) -> String {
        format!("https://{}:8333", self.host("s3"))
    }

    pub(in crate::scenarios) fn dumps_endpoint(&self) -> String {
        format!("https://{}:8333", self.host("dumps"))
    }

    /// Asks each of them for a receipt, without the application.
    pub(in crate::scenarios) async fn has(&self, test: &TestContext, receipt: &Receipt) -> Result<()> {
        let query = format!("SELECT count(*) FROM receipts WHERE id = '{}'", receipt.id);
        ensure!(self.psql(test, &query).await? == "1", "PostgreSQL has no row of {}", receipt.id);
        let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE client_addr IS NOT NULL AND NOT ssl";
        ensure!(self.psql(test, plain).await? == "0", "there are connections to PostgreSQL without TLS");
        let read = "REDISCLI_AUTH=\"$PASSWORD\" exec redis-cli --tls --insecure -p 6380 LRANGE receipts 0 -1";
        let queue = test.exec(&self.namespace, "deployment/redis", &["sh", "-c", read]).await?;
        ensure!(queue.lines().any(|id| id == receipt.id), "Redis has the queue {queue}");
        Ok(())
    }

    async fn psql(&self, test: &TestContext, query: &str) -> Result<String> {
        let command = ["psql", "--username", USER, "--dbname", DATABASE, "-At", "--command", query];
        Ok(test.exec(&self.namespace, "deployment/postgres", &command).await?.trim().to_owned())
    }

    /// The bucket on one of the S3 servers, for its owner.
    pub(in crate::scenarios) async fn bucket(
        &self,
        test: &TestContext,
        server: &str,
        authority: &Authority,
    ) -> Result<Bucket> {
        let authority = authority.pem();
        let access = BucketAccess {
            namespace: &self.namespace,
            server: &format!("deployment/{server}"),
            name: BUCKET,
            keys: (KEY_ID, PASSWORD),
            authority: Some(&authority),
        };
        Bucket::open(test, access).await
    }

    async fn wait_until_up(&self, test: &TestContext, count: usize) -> Result<()> {
        let pods = test.api::<Pod>(&self.namespace);
        until(test, &self.namespace, "the external services to run", UP_WITHIN, async || {
            let up = pods.list(&ListParams::default()).await?.iter().filter(|pod| ready(pod)).count();
            Ok(Observed::when(up == count, format!("{up} of {count} pods are ready")))
        })
        .await
    }

    fn host(&self, name: &str) -> String {
        format!("{name}.{}.svc", self.namespace)
    }

    fn metadata(&self, name: &str) -> Value {
        json!({"name": name, "namespace": self.namespace})
    }

    fn configuration(&self, clients: Option<&Authority>) -> Value {
        let asked = if clients.is_some() { WITH_CERTIFICATE } else { "" };
        let hba = format!("{HBA}{asked}\n");
        let clients = clients.map(Authority::pem).unwrap_or_default();
        let escaped = PASSWORD.replace('\\', r"\\").replace('"', "\\\"");
        let valkey = [
            "port 0",
            "tls-port 6380",
            "tls-cert-file /tls/tls.crt",
            "tls-key-file /tls/tls.key",
            "tls-ca-cert-file /tls/tls.crt",
            "tls-auth-clients no",
            "dir /data",
            &format!("requirepass \"{escaped}\""),
        ];
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self.metadata("configuration"),
            "stringData": {"pg_hba.conf": hba, "clients.crt": clients, "valkey.conf": valkey.join("\n"), "password": PASSWORD},
        })
    }

    fn service(&self, service: &Service) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(service.name),
            "spec": {"selector": {"app": service.name}, "ports": [{"port": service.port}]},
        })
    }

    fn deployment(&self, service: &Service, certified: bool) -> Value {
        let mut args = service.args.to_vec();
        args.extend(Some("-cssl_ca_file=/config/clients.crt").filter(|_| certified && service.image == POSTGRES));
        let password = |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "configuration", "key": "password"}}});
        let plain = |name: &str, value: &str| json!({"name": name, "value": value});
        let container = json!({
            "name": service.name,
            "image": service.image,
            "imagePullPolicy": "IfNotPresent",
            "args": args,
            "env": [
                password("PASSWORD"),
                plain("POSTGRES_USER", USER),
                password("POSTGRES_PASSWORD"),
                plain("POSTGRES_DB", DATABASE),
                plain("PGDATA", "/var/lib/postgresql/data/pgdata"),
                plain("AWS_ACCESS_KEY_ID", KEY_ID),
                password("AWS_SECRET_ACCESS_KEY"),
            ],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
            "readinessProbe": {"tcpSocket": {"port": service.port}, "periodSeconds": 1},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [
                {"name": "data", "mountPath": service.data},
                {"name": "tls", "mountPath": "/tls"},
                {"name": "configuration", "mountPath": "/config"},
            ],
        });
        let labels = json!({"app": service.name});
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata(service.name),
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "automountServiceAccountToken": false,
                    // A Service called s3 would set S3_PORT, which the server takes for an argument of its own.
                    "enableServiceLinks": false,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": service.user,
                        "runAsGroup": service.user,
                        "fsGroup": service.user,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": [
                        {"name": "data", "emptyDir": {}},
                        // PostgreSQL refuses a key that others may read.
                        {"name": "tls", "secret": {"secretName": format!("{}-tls", service.name), "defaultMode": 0o440}},
                        {"name": "configuration", "secret": {"secretName": "configuration"}},
                    ],
                }},
            },
        })
    }
}

/// Percent-encodes all but letters and digits.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |url, byte| {
        if byte.is_ascii_alphanumeric() { url + &char::from(byte).to_string() } else { format!("{url}%{byte:02X}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metacharacter_is_encoded() {
        assert_eq!(encode("a b/ü%"), "a%20b%2F%C3%BC%25");
        assert!(encode(PASSWORD).chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '%'));
    }
}

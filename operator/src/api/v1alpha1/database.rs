//! PostgreSQL: run by the operator, by AWS, or somebody else's.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CloudNativePgDatabase, CloudSqlProxy, LocalReference, Modes, PodTemplate, RdsDatabase, Resources, Scheduling,
    SecretKeyReference, Storage, modes, text,
};

/// The modes of `database`.
pub const DATABASE_MODES: Modes = &["embedded", "external", "cloudNativePG", "rds"];

/// The PostgreSQL database of the stack: exactly one of `embedded`, `external`, `cloudNativePG` and `rds`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = modes::exactly_one(DATABASE_MODES, "`embedded: {}` or `external: {secretRef: {name: my-database}}`"))]
pub struct DatabaseSpec {
    /// A single PostgreSQL server that the operator runs in the cluster, with a volume and a generated password. Not for
    /// Production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedDatabase>,
    /// An existing PostgreSQL server that the operator does not manage. A Secret holds its URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalDatabase>,
    /// PostgreSQL with replicas and failover that CloudNativePG runs in the cluster, which needs CloudNativePG 1.30, and the
    /// operator `optionalApis.cloudNativePG: true` in its chart. It outlives the stack, unless `deletionPolicy` says otherwise.
    #[serde(default, rename = "cloudNativePG", skip_serializing_if = "Option::is_none")]
    pub cloud_native_pg: Option<CloudNativePgDatabase>,
    /// A DB instance of Amazon RDS that the ACK controller for RDS makes. It needs `optionalApis.ackRDS` of the operator's chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rds: Option<RdsDatabase>,
}

/// A single PostgreSQL server that the operator runs in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedDatabase {
    /// The major version of PostgreSQL, `13` to `18`. Defaults to `17`. Cannot change. On a volume with the files of another
    /// version, which an earlier stack of the name left, the reason `VersionMismatch` says so and nothing is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^1[3-8]$"))]
    pub version: Option<String>,
    /// The image of the server. It must read the environment variables of the official image and be of the major version of
    /// `version`. Defaults to `postgres:<version>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// The volume of the data files. Defaults to `10Gi` of the cluster's default StorageClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// CPU and memory of the server. Defaults to requests of `100m` and `256Mi` without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the pod may run. Defaults to any node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Merged over the pod template as `api.podTemplate` is, which tells what is refused, e.g.
    /// `spec: {containers: [{name: postgres, securityContext: {runAsUser: 1000}}]}`. Defaults to no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// An existing PostgreSQL server that the operator does not manage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.cloudSQLProxy) || !(has(self.tls) || has(self.allowInsecure) || has(self.probeInterval))")
        .message("the proxy encrypts the connection, and a Job asks by it once: leave tls, allowInsecure and probeInterval out beside cloudSQLProxy"),
    validation = Rule::new("!has(self.cloudSQLProxy) || !has(self.provider) || self.provider == 'CloudSQL'")
        .message("cloudSQLProxy leads to Cloud SQL: leave provider out, or write `CloudSQL`"),
    validation = Rule::new(
        "!has(self.tls) || !has(self.tls.clientCertificateSecretRef) || !has(self.urlStyle) || self.urlStyle != 'Prisma'",
    )
        .message("Prisma's own engine reads no tls.crt and tls.key: use Prisma with a driver adapter, and leave urlStyle out"),
)]
pub struct ExternalDatabase {
    /// The Secret with the connection URLs.
    pub secret_ref: DatabaseSecretReference,
    /// The dialect of the URLs that the operator gives the application. Defaults to `Libpq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_style: Option<UrlStyle>,
    /// Whose database it is, which decides how often it is probed and what messages advise. Defaults to the provider whose host the
    /// URL names; `status.services` tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<DatabaseProvider>,
    /// The TLS of the connection. Defaults to the `sslmode` of the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DatabaseTls>,
    /// Connect by the Cloud SQL Auth Proxy, a sidecar of the pods that use the database. `DATABASE_URL` then names the host
    /// `127.0.0.1`. Defaults to none.
    #[serde(default, rename = "cloudSQLProxy", skip_serializing_if = "Option::is_none")]
    pub cloud_sql_proxy: Option<CloudSqlProxy>,
    /// `true`: the operator also probes a database whose `sslmode` is `disable` or `allow`, so that anyone on the network path
    /// can read the login. In Development it always does; pods connect in any case. Defaults to `false`: it does not, and the
    /// condition says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_insecure: Option<bool>,
    /// How often the operator probes the database while it answers, from `10s` to `24h`, e.g. `1h30m`. Defaults to `1m`, to `5m`
    /// for a provider known to count requests, and to `1h` for one that sleeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-validations" = text::interval()))]
    pub probe_interval: Option<String>,
}

/// A provider of databases. Defaults to the one whose host the URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseProvider {
    /// Supabase.
    Supabase,
    /// Render.
    Render,
    /// Amazon RDS.
    RDS,
    /// Google Cloud SQL.
    CloudSQL,
    /// Neon.
    Neon,
}

impl DatabaseProvider {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supabase => "Supabase",
            Self::Render => "Render",
            Self::RDS => "RDS",
            Self::CloudSQL => "CloudSQL",
            Self::Neon => "Neon",
        }
    }
}

/// The Secret with the connection URLs of a database, and its keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSecretReference {
    /// The name of the Secret in the stack's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the URL of the application at run time, `postgresql://user:password@host:port/database`, perhaps of a pooler.
    /// Reserved characters in the password are percent-encoded. Defaults to `DATABASE_URL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub url_key: Option<String>,
    /// The key of the URL of the server itself, never of a pooler, for backups. Defaults to `DIRECT_URL` if the Secret has it, else
    /// to the run-time URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub direct_url_key: Option<String>,
    /// The key of the URL of a read replica. Defaults to `READ_URL` if the Secret has it, else to the run-time URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub read_url_key: Option<String>,
}

/// The dialect of the URLs that the application gets. `Prisma` is for Prisma's own engine, which Prisma up to 6 uses without a
/// driver adapter: it silently takes `verify-full` for `prefer`. Backups and probes use libpq's dialect. Defaults to `Libpq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UrlStyle {
    /// `sslmode=verify-full`, as libpq and the clients modelled on it read it.
    #[default]
    Libpq,
    /// `sslmode=require&sslaccept=strict&sslcert=<file>`, as Prisma's own engine reads it.
    Prisma,
}

/// The TLS of the connection to an external database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.clientCertificateSecretRef) || !has(self.mode) || self.mode != 'disable'")
        .message("without TLS no certificate is shown: write another mode beside clientCertificateSecretRef"),
)]
pub struct DatabaseTls {
    /// The `sslmode` of libpq in place of the URL's. Defaults to `verify-full` with `caSecretRef`, else to the URL's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SslMode>,
    /// A Secret with the certificate authority (PEM) that signed the server's certificate. Defaults to the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyReference>,
    /// A Secret with the certificate that clients show the server (`tls.crt`) and its key (`tls.key`), as cert-manager makes it.
    /// Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret_ref: Option<LocalReference>,
}

/// The `sslmode` of libpq (PostgreSQL documentation, section 32.19) in place of the URL's. Defaults to `verify-full` with
/// `caSecretRef`, else to the URL's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No encryption.
    Disable,
    /// Encryption if the server offers it. The client does not check the certificate.
    Prefer,
    /// Encryption. The client does not check the certificate.
    Require,
    /// Encryption. The authority must have signed the certificate.
    VerifyCa,
    /// Encryption. The authority must have signed the certificate, which must name the host.
    VerifyFull,
}

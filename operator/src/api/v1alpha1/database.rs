//! PostgreSQL: run by the operator, or somebody else's.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PodTemplate, Resources, Scheduling, SecretKeyReference, Storage, text};

/// The PostgreSQL database of the stack: exactly one of `embedded` and `external`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.embedded) != has(self.external)")
        .message("set exactly one of embedded and external, e.g. `embedded: {}` or `external: {secretRef: {name: my-database}}`")
)]
pub struct DatabaseSpec {
    /// A single PostgreSQL server in the cluster with a volume and a generated password. Not for Production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedDatabase>,
    /// A PostgreSQL server that the operator did not make, described by a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalDatabase>,
}

/// A single PostgreSQL server in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedDatabase {
    /// The major version of PostgreSQL, `13` to `18`. Left out: `17`. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^1[3-8]$"))]
    pub version: Option<String>,
    /// The image to run instead of `postgres:<version>`. It must honour the environment variables of the official image
    /// and be of the same major version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// The volume for the data files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// CPU and memory of the server. Left out: requests of `100m` and `256Mi`, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the pod may run. Defaults to any node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Merged over the pod template as a strategic merge patch: containers and volumes by `name`, mounts by `mountPath`,
    /// e.g. `spec: {containers: [{name: postgres, securityContext: {runAsUser: 1000}}]}`. `$patch: replace` in a
    /// `securityContext`, a probe or `lifecycle` replaces the whole block. Refused is what other fields of this spec set,
    /// what the Pod Security Standard `baseline` forbids, and what is the operator's: labels, ServiceAccount, its
    /// containers and volumes. The condition of the component then names the field, and the pods stay as they are. Secrets
    /// and ConfigMaps that its volumes name must exist; a change of their content reaches the files in the pods and
    /// replaces no pod. Defaults to no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// A PostgreSQL server that the operator did not make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalDatabase {
    /// The Secret with the connection URLs.
    pub secret_ref: DatabaseSecretReference,
    /// The dialect of the URLs that the application gets. Defaults to `Libpq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_style: Option<UrlStyle>,
    /// How the connection is secured. Left out: what the URL's `sslmode` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DatabaseTls>,
    /// `true`: the operator asks whether the database answers also where `sslmode` is `disable` or `allow`, so that whoever listens on the way
    /// can read the login. It concerns Staging and Production, and the question alone: the pods connect as they are told. Defaults
    /// to `false`: such a database is used and not asked, and its condition says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_insecure: Option<bool>,
    /// How often the operator asks whether the database answers, while it does, such as `30s`, `5m` or `1h30m`: from `10s` to
    /// `24h`. Defaults to `1m`, and to `5m` where the provider is known to sleep or to count requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-validations" = text::interval()))]
    pub probe_interval: Option<String>,
}

/// The Secret that holds the connection URLs of a database, and its keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSecretReference {
    /// The name of the Secret in the stack's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the URL that the application uses at run time, `postgresql://user:password@host:port/database`; it may
    /// lead to a pooler. Reserved characters in the password are percent-encoded. Left out: `DATABASE_URL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub url_key: Option<String>,
    /// The key of the URL that leads to the server itself, never to a pooler: backups use it. Left out: `DIRECT_URL` if
    /// the Secret has it, else the run-time URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub direct_url_key: Option<String>,
    /// The key of the URL of a read replica. Left out: `READ_URL` if the Secret has it, else the run-time URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub read_url_key: Option<String>,
}

/// The dialect of the URLs that the application gets. `Prisma` is for an application with Prisma's own engine, which is that of Prisma
/// up to 6 without a driver adapter: it knows no `verify-full`, and falls back to `prefer` without a word. Backups and the
/// operator's own questions use libpq's dialect in any case. Defaults to `Libpq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UrlStyle {
    /// `sslmode=verify-full`, as libpq and the clients after its model read it.
    #[default]
    Libpq,
    /// `sslmode=require&sslaccept=strict&sslcert=<file>`, as Prisma's own engine reads it.
    Prisma,
}

/// How the connection to an external database is secured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseTls {
    /// As `sslmode` of libpq; it replaces what the URL says. Left out: `verify-full` with `caSecretRef`, else what the URL says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SslMode>,
    /// A Secret with the certificate authority (PEM) that signed the server's certificate. Left out: the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyReference>,
}

/// `sslmode` as in libpq (PostgreSQL documentation, section 32.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No encryption.
    Disable,
    /// Encryption if the server offers it, without checking who it is.
    Prefer,
    /// Encryption, without checking who the server is.
    Require,
    /// Encryption, and the certificate must come from the authority.
    VerifyCa,
    /// Encryption, and the certificate must come from the authority and name the host.
    VerifyFull,
}

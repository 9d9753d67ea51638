//! The values of the Secret `<stack>-connection`, which the application reads.

use std::collections::BTreeMap;

use super::{
    Bucket, BucketAccess, Database, Ingress, NamedUrl, Redis, Workload, mode::service_host, released::Released,
};
use crate::{
    api::v1alpha1::{Checksums, Environment},
    contract::{self, PostgresUrl, TlsMode},
    names::Component,
};

/// The members of the connection Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Values by key. The keys are documented and stable.
    pub data: BTreeMap<&'static str, String>,
    /// Certificate authorities (PEM) of external services, all in one.
    pub ca: Option<String>,
    /// Those of the database alone.
    pub database_ca: Option<String>,
    /// Whether Redis or the bucket names authorities: then those of the database have a file of their own.
    pub apart: bool,
    /// The Secret with the certificate that clients show to the database, which pods that use it mount.
    pub client_secret: Option<String>,
    /// The URL of the database without a pooler, for backups.
    pub direct_url: String,
    /// The values of an earlier version.
    released: Released,
    /// Whether the hash leaves the session token out.
    token_unhashed: bool,
}

/// The parts of a stack that a connection is computed from.
pub(super) struct Parts<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) environment: Environment,
    pub(super) api: &'a Workload,
    pub(super) ocr: Option<&'a Workload>,
    pub(super) ingress: Option<&'a Ingress>,
    pub(super) database: &'a Database,
    pub(super) redis: &'a Redis,
    pub(super) bucket: &'a Bucket,
}

impl Connection {
    /// Puts the members together. `None`: a service is not resolved.
    pub(super) fn new(parts: &Parts<'_>) -> Option<Self> {
        let database = parts.database.mode().access()?;
        let redis = parts.redis.mode().access()?;
        let bucket = parts.bucket.access()?;
        let mut data = BTreeMap::new();
        let mut set = |key, value| data.insert(key, value);
        let direct = &database.direct.url;
        let direct_url = direct.to_string();
        let apart = redis.ca.is_some() || bucket.ca.is_some();
        let file = if apart { contract::DATABASE_CA_PATH } else { contract::CA_PATH };
        let ca_file = database.ca.as_ref().map(|_| file);
        let render = |url: &NamedUrl| database.render(url, ca_file);
        set("DATABASE_URL", render(&database.url));
        set("DIRECT_URL", render(&database.direct));
        set("DATABASE_READ_URL", render(&database.read));
        set("PGHOST", direct.hosts().join(","));
        set("PGPORT", direct.ports().join(","));
        set("PGUSER", direct.user().to_owned());
        set("PGPASSWORD", direct.password().to_owned());
        set("PGDATABASE", direct.database().to_owned());
        set("PGSSLMODE", ssl_mode(direct));
        set("REDIS_URL", redis.url.clone());
        set("REDIS_HOST", redis.host.clone());
        set("REDIS_PORT", redis.port.to_string());
        if let Some(username) = &redis.username {
            set("REDIS_USERNAME", username.clone());
        }
        set("REDIS_PASSWORD", redis.password.clone());
        if redis.cluster_mode == Some(true) {
            set("REDIS_CLUSTER", "true".to_owned());
            // The keys of a queue must be in one slot, which the braces decide.
            set("REDIS_KEY_PREFIX", format!("{{{}-{}}}:", parts.namespace, parts.name));
        }
        data.extend(s3(bucket));
        let mut set = |key, value| data.insert(key, value);
        set(
            "NODE_ENV",
            if parts.environment == Environment::Development { "development" } else { "production" }.to_owned(),
        );
        set("PORT", parts.api.port.to_string());
        if let Some(ocr) = parts.ocr {
            let host = service_host(parts.name, parts.namespace, Component::Ocr);
            set("OCR_URL", format!("http://{host}:{}", ocr.port));
        }
        let origins = parts.ingress.map(|ingress| ingress.origins(Component::Admin)).unwrap_or_default();
        if !origins.is_empty() {
            set("CORS_ORIGINS", origins.join(","));
        }
        let ca = authorities([database.ca.as_deref(), redis.ca.as_deref(), bucket.ca.as_deref()]);
        let released = Released::new(database, redis, &data);
        let token_unhashed = bucket.session_token().is_some_and(|token| !token.named);
        let database_ca = authorities([database.ca.as_deref()]);
        let client_secret = database.client.as_ref().map(|client| client.name.clone());
        Some(Self { data, ca, database_ca, apart, client_secret, direct_url, released, token_unhashed })
    }

    /// Whether 0.1.0 gave the application a wrong value for this stack's URLs, so that an upgrade replaces its pods: an encoded
    /// name of a database that a client looks up literally, a plus sign that became a space, an IPv6 address in brackets in
    /// `PGHOST` or `REDIS_HOST`, the first of a parameter's values where the last counts.
    pub fn corrected_urls(&self) -> bool {
        self.released.corrected
    }

    /// The values that the hash of the pods covers: those of 0.1.0 where they mean the same.
    pub(super) fn hashed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let values = self.data.iter().filter(|(key, _)| !(self.token_unhashed && **key == contract::ENV_SESSION_TOKEN));
        values.map(|(key, value)| (*key, self.released.hashed.get(key).unwrap_or(value).as_str()))
    }
}

/// The mode as libpq reads it; `allow` stays `allow`.
fn ssl_mode(url: &PostgresUrl) -> String {
    let written = url.parameter("sslmode").filter(|_| url.parameter("ssl") != Some("true"));
    let mode = || url.tls_mode().unwrap_or(TlsMode::VerifyFull).as_str();
    written.unwrap_or_else(mode).to_owned()
}

/// The bucket and the keys to it, in the variables that clients of S3 read. Without keys they look for the role of their pod.
pub fn bucket_variables(bucket: &BucketAccess) -> BTreeMap<&'static str, String> {
    let mut data = BTreeMap::from([
        (contract::ENV_S3_ENDPOINT, bucket.endpoint.clone()),
        (contract::ENV_S3_REGION, bucket.region.clone()),
        (contract::ENV_S3_BUCKET, bucket.name.clone()),
        (contract::ENV_S3_FORCE_PATH_STYLE, bucket.force_path_style.to_string()),
    ]);
    if let Some(keys) = &bucket.keys {
        data.insert(contract::ENV_ACCESS_KEY_ID, keys.id.clone());
        data.insert(contract::ENV_SECRET_ACCESS_KEY, keys.secret.clone());
        data.extend(keys.session_token.as_ref().map(|token| (contract::ENV_SESSION_TOKEN, token.value.clone())));
    }
    data
}

/// As [`bucket_variables`], with those that only the application's client reads.
fn s3(bucket: &BucketAccess) -> BTreeMap<&'static str, String> {
    let mut data = bucket_variables(bucket);
    if let Some(checksums) = bucket.checksums {
        let when = match checksums {
            Checksums::WhenRequired => "WHEN_REQUIRED",
            Checksums::WhenSupported => "WHEN_SUPPORTED",
        };
        data.insert("AWS_REQUEST_CHECKSUM_CALCULATION", when.to_owned());
        data.insert("AWS_RESPONSE_CHECKSUM_VALIDATION", when.to_owned());
    }
    data
}

/// One bundle of the distinct authorities.
pub fn authorities<const N: usize>(parts: [Option<&str>; N]) -> Option<String> {
    let mut distinct: Vec<&str> = Vec::new();
    for pem in parts.into_iter().flatten() {
        let pem = pem.trim();
        if !distinct.contains(&pem) {
            distinct.push(pem);
        }
    }
    (!distinct.is_empty()).then(|| distinct.join("\n") + "\n")
}

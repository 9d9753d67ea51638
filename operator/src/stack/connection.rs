//! What the application is told about its services: the Secret `<stack>-connection`.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    Bucket, Database, Ingress, PostgresUrl, REDIS_PORT, Redis, Workload,
    external::{DatabaseAccess, RedisAccess},
    service_host,
};
use crate::{api::v1alpha1::Environment, contract, names::Component};

/// The members of the connection Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Values by key. The keys are documented and stable.
    pub data: BTreeMap<&'static str, String>,
    /// Certificate authorities (PEM) of external services, all in one.
    pub ca: Option<String>,
    /// Those of the database alone.
    pub database_ca: Option<String>,
    /// Whether Redis or the bucket names authorities: then those of the database are kept apart from them.
    pub apart: bool,
    /// The URL of the database without a pooler, for backups.
    pub direct_url: String,
}

/// What a connection is made of.
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
        let database = database(parts)?;
        let redis = redis(parts)?;
        let bucket = parts.bucket.access()?;
        let mut data = BTreeMap::new();
        let mut set = |key, value| data.insert(key, value);
        let direct_url = database.direct.to_string();
        set("DATABASE_URL", database.url.to_string());
        set("DIRECT_URL", direct_url.clone());
        set("DATABASE_READ_URL", database.read.to_string());
        set("PGHOST", database.direct.host.clone());
        set("PGPORT", database.direct.port.to_string());
        set("PGUSER", database.direct.user.clone());
        set("PGPASSWORD", database.direct.password.clone());
        set("PGDATABASE", database.direct.database.clone());
        set("PGSSLMODE", database.direct.parameter("sslmode").unwrap_or("prefer").to_owned());
        set("REDIS_URL", redis.url.clone());
        set("REDIS_HOST", redis.host.clone());
        set("REDIS_PORT", redis.port.to_string());
        set("REDIS_PASSWORD", redis.password.clone());
        set(contract::ENV_S3_ENDPOINT, bucket.endpoint.clone());
        set(contract::ENV_S3_REGION, bucket.region.clone());
        set(contract::ENV_S3_BUCKET, bucket.name.clone());
        set(contract::ENV_S3_FORCE_PATH_STYLE, bucket.force_path_style.to_string());
        set(contract::ENV_ACCESS_KEY_ID, bucket.access_key_id.clone());
        set(contract::ENV_SECRET_ACCESS_KEY, bucket.secret_access_key.clone());
        set(
            "NODE_ENV",
            if parts.environment == Environment::Development { "development" } else { "production" }.to_owned(),
        );
        set("PORT", parts.api.port.to_string());
        if let Some(ocr) = parts.ocr {
            let host = service_host(parts.name, parts.namespace, Component::Ocr);
            set("OCR_URL", format!("http://{host}:{}", ocr.port));
        }
        if let Some(url) = parts.ingress.and_then(|ingress| ingress.url(Component::Admin)) {
            set("CORS_ORIGINS", url);
        }
        let ca = authorities([database.ca.as_deref(), redis.ca.as_deref(), bucket.ca.as_deref()]);
        let apart = redis.ca.is_some() || bucket.ca.is_some();
        Some(Self { data, ca, database_ca: authorities([database.ca.as_deref()]), apart, direct_url })
    }
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

fn database<'a>(parts: &Parts<'a>) -> Option<Cow<'a, DatabaseAccess>> {
    match parts.database {
        Database::External(access) => access.as_deref().map(Cow::Borrowed),
        Database::Embedded { credentials, .. } => {
            let credentials = credentials.as_ref()?;
            let url = PostgresUrl {
                host: service_host(parts.name, parts.namespace, Component::Database),
                port: 5432,
                user: credentials.text("username").to_owned(),
                password: credentials.text("password").to_owned(),
                database: credentials.text("database").to_owned(),
                parameters: vec![("sslmode".to_owned(), "disable".to_owned())],
            };
            Some(Cow::Owned(DatabaseAccess { direct: url.clone(), read: url.clone(), url, ca: None }))
        }
    }
}

fn redis<'a>(parts: &Parts<'a>) -> Option<Cow<'a, RedisAccess>> {
    match parts.redis {
        Redis::External(access) => access.as_deref().map(Cow::Borrowed),
        Redis::Embedded { credentials, .. } => {
            let password = credentials.as_ref()?.text("password").to_owned();
            let host = service_host(parts.name, parts.namespace, Component::Redis);
            Some(Cow::Owned(RedisAccess {
                url: format!("redis://default:{password}@{host}:{REDIS_PORT}/0"),
                host,
                port: 6379,
                password,
                ca: None,
            }))
        }
    }
}

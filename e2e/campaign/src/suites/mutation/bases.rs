//! The stacks that the suite changes, and the objects of their user.

use anyhow::Result;
use rorun_e2e::scenarios::kit::Authority;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A part of every secret value that the user has.
pub(super) const CANARY: &str = "Canary7Bird";

/// A stack that is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Base {
    /// All data services embedded; the bucket never answers, so that nothing is made that needs it.
    Development,
    /// Everything behind an Ingress, with a bucket that answers: every workload is made.
    Ingress,
    /// Backups to a bucket of their own, and every other part at its default.
    Backup,
    /// All data services outside.
    Staging,
}

impl Base {
    /// All of them.
    pub(super) const ALL: [Base; 4] = [Base::Development, Base::Ingress, Base::Backup, Base::Staging];

    /// The one in which a place shows best.
    pub(super) fn of(place: &str) -> Base {
        const BASES: &[(&str, Base)] = &[
            ("database/external", Base::Staging),
            ("redis/external", Base::Staging),
            ("bucket/external", Base::Staging),
            ("bucket/embedded", Base::Development),
            ("database", Base::Development),
            ("redis", Base::Development),
            ("bucket", Base::Development),
            ("deletionPolicy", Base::Development),
            ("environment", Base::Development),
            ("backup", Base::Backup),
            ("ocr", Base::Backup),
        ];
        BASES.iter().find(|(start, _)| place.starts_with(start)).map_or(Base::Ingress, |(_, base)| *base)
    }

    /// Its spec. The endpoint is that of the bucket that answers.
    pub(super) fn spec(self, endpoint: &str) -> Value {
        let bucket = json!({"external": {
            "name": "files", "endpoint": endpoint, "forcePathStyle": true, "credentialsSecretRef": {"name": "services"},
        }});
        // Not empty: the API server drops an empty block when its manager had applied more in it before.
        let embedded = json!({"storage": {"size": "2Gi"}});
        match self {
            Base::Development => json!({
                "environment": "Development",
                "api": {"image": "rorun-api:1"},
                "database": {"embedded": embedded},
                "redis": {"embedded": embedded},
                "bucket": {"embedded": embedded},
                "backup": {},
            }),
            Base::Ingress => json!({
                "environment": "Development",
                "image": {"registry": "registry.example.com/rorun"},
                "api": {"image": "rorun-api:1", "autoscaling": {"maxReplicas": 4}},
                "ocr": {"image": "rorun-ai-service:1"},
                "admin": {"image": "rorun-admin:1"},
                "bucket": bucket,
                "ingress": {
                    "host": "api.example.com",
                    "adminHost": "admin.example.com",
                    "ocrHost": "ocr.example.com",
                    "className": "traefik",
                    "annotations": {"example.com/x": "y"},
                    "tls": {"secretName": "tls"},
                },
            }),
            Base::Backup => json!({
                "environment": "Development",
                "api": {"image": "rorun-api:1"},
                "ocr": {"image": "rorun-ai-service:1"},
                "bucket": bucket,
                "backup": {
                    "schedule": "15 3 * * *",
                    "retention": {"days": 14},
                    // What drills alone use shows in theirs.
                    "verify": {"schedule": "15 4 * * 0"},
                    "destination": {"external": {
                        "name": "offsite", "endpoint": endpoint, "forcePathStyle": true,
                        "credentialsSecretRef": {"name": "services"},
                    }},
                },
            }),
            Base::Staging => {
                let clear = json!({"external": {"secretRef": {"name": "services"}, "allowInsecure": true}});
                let mut bucket = bucket;
                bucket["external"]["allowInsecure"] = json!(true);
                json!({
                    "environment": "Staging",
                    "api": {"image": "rorun-api:1"},
                    "database": clear,
                    "redis": clear,
                    "bucket": bucket,
                })
            }
        }
    }
}

/// The Secrets and `ConfigMap`s of the user, twice, and a Service that is in the way of an admin panel.
pub(super) fn surroundings() -> Result<Vec<Value>> {
    let data = |number: usize| -> Result<Value> {
        let authority = Authority::create(&format!("authority {number}"))?.pem();
        let other_authority = Authority::create(&format!("other authority {number}"))?.pem();
        let url = |scheme: &str, host: &str, rest: &str| format!("{scheme}://user:{CANARY}{number}@{host}:1{rest}");
        Ok(json!({
            "DATABASE_URL": url("postgresql", "127.0.0.1", "/rorun"),
            "DIRECT_URL": url("postgresql", "127.0.0.2", "/rorun"),
            "READ_URL": url("postgresql", "127.0.0.3", "/rorun"),
            "REDIS_URL": url("redis", "127.0.0.1", "/0"),
            "CACHE_URL": url("redis", "127.0.0.2", "/0"),
            "TLS_URL": url("rediss", "127.0.0.1", "/0"),
            "AWS_ACCESS_KEY_ID": format!("{CANARY}Id{number}"),
            "AWS_SECRET_ACCESS_KEY": format!("{CANARY}Key{number}"),
            "used": format!("{CANARY}Used{number}"),
            "other": format!("{CANARY}Other{number}"),
            "ca.crt": authority,
            "root.pem": other_authority,
            "tls.crt": authority,
            "tls.key": format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----"),
        }))
    };
    let (first, second) = (data(1)?, data(2)?);
    let secret = |name: &str, data: &Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    let map = |name: &str, value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"used": value, "other": value}});
    let mut objects: Vec<Value> =
        ["services", "settings", "pull", "tls", "authority"].map(|name| secret(name, &first)).into();
    objects.push(secret("others", &second));
    objects.extend([map("features", "first"), map("others", "second")]);
    Ok(objects)
}

/// An object of another owner, with a name that the stack may come to need.
pub(super) fn in_the_way() -> Value {
    let port = json!({"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"});
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "shop-admin", "labels": {"team": "others"}},
        "spec": {"ports": [port], "selector": {"app": "somebody-else"}},
    })
}

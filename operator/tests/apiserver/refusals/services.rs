//! What a stack asks of its data services.

use serde_json::{Value, json};

use super::{
    super::support::{Fixture, stack},
    Case, case,
};

fn bucket(name: &str, secret: &str) -> Value {
    json!({"name": name, "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": secret}})
}

fn with(rules: &Value) -> Fixture {
    let mut block = json!({"external": bucket("files", "s3")});
    block.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    stack("shop").set("bucket", block)
}

const INSTANCE: &str = "my-project:europe-west1:rorun";

/// A database that is reached by its proxy.
fn proxied(proxy: &Value) -> Fixture {
    stack("shop").with_external_services().set("database.external.cloudSQLProxy", proxy.clone())
}

/// A database that asks its clients for a certificate.
fn certified() -> Fixture {
    let tls = json!({"clientCertificateSecretRef": {"name": "database-client"}});
    stack("shop").with_external_services().set("database.external.tls", tls)
}

/// Of connections and providers.
pub fn of_providers() -> Vec<Case> {
    let set = |field: &str, value: Value| stack("shop").with_external_services().with_all_workloads().set(field, value);
    vec![
        case(
            set("api.databaseConnections", json!(0)),
            &["spec.api.databaseConnections"],
            set("ocr.databaseConnections", json!(5)),
        ),
        case(
            set("admin.databaseConnections", json!(5)),
            &["unknown field \"spec.admin.databaseConnections\""],
            set("api.databaseConnections", json!(1000)),
        ),
        case(
            set("database.external.provider", json!("supabase")),
            &["spec.database.external.provider", "supported values", "Supabase"],
            set("database.external.provider", json!("Supabase")),
        ),
        case(
            set("redis.external.provider", json!("Neon")),
            &["spec.redis.external.provider", "supported values", "Upstash"],
            set("redis.external.provider", json!("Upstash")),
        ),
        case(
            proxied(&json!({"instanceConnectionName": "rorun"})),
            &["spec.database.external.cloudSQLProxy.instanceConnectionName", "write `<project>:<region>:<instance>`"],
            proxied(&json!({"instanceConnectionName": "example.com:my-project:europe-west1:rorun"})),
        ),
        case(
            proxied(&json!({"instanceConnectionName": INSTANCE, "privateIP": true, "psc": true})),
            &["set privateIP or psc, and leave the other out"],
            proxied(&json!({"instanceConnectionName": INSTANCE, "privateIP": false, "psc": true})),
        ),
        case(
            proxied(&json!({"instanceConnectionName": INSTANCE}))
                .set("database.external.tls", json!({"mode": "require"})),
            &["leave tls, allowInsecure and probeInterval out beside cloudSQLProxy"],
            proxied(&json!({"instanceConnectionName": INSTANCE, "autoIAMAuthn": true})),
        ),
        case(
            proxied(&json!({"instanceConnectionName": INSTANCE})).set("database.external.provider", json!("RDS")),
            &["cloudSQLProxy leads to Cloud SQL: leave provider out, or write `CloudSQL`"],
            proxied(&json!({"instanceConnectionName": INSTANCE})).set("database.external.provider", json!("CloudSQL")),
        ),
        case(
            proxied(&json!({"instanceConnectionName": INSTANCE, "image": "https://images.example.com/proxy"})),
            &["spec.database.external.cloudSQLProxy.image", "write the name of an image"],
            proxied(&json!({"instanceConnectionName": INSTANCE, "image": "images.example.com/proxy:2"})),
        ),
    ]
}

/// Of a certificate that clients show.
pub fn of_certificates() -> Vec<Case> {
    vec![
        case(
            certified().set("database.external.tls.mode", json!("disable")),
            &["spec.database.external.tls", "write another mode beside clientCertificateSecretRef"],
            certified().set("database.external.tls.mode", json!("require")),
        ),
        case(
            certified().set("database.external.urlStyle", json!("Prisma")),
            &["use Prisma with a driver adapter, and leave urlStyle out"],
            certified().set("database.external.urlStyle", json!("Libpq")),
        ),
        case(
            certified().set("database.external.cloudSQLProxy", json!({"instanceConnectionName": INSTANCE})),
            &["leave tls, allowInsecure and probeInterval out beside cloudSQLProxy"],
            certified(),
        ),
        case(
            certified().set("database.external.tls.clientCertificateSecretRef", json!({"name": ""})),
            &["spec.database.external.tls.clientCertificateSecretRef.name"],
            certified(),
        ),
    ]
}

pub fn cases() -> Vec<Case> {
    let lifecycle = |lifecycle: Value| with(&json!({"lifecycle": lifecycle}));
    let archive = |prefix: &str| lifecycle(json!({"prefix": prefix, "archiveAfterDays": 90}));
    let origins = |origins: &[&str]| with(&json!({"cors": {"allowOrigins": origins}}));
    let replication = |field: &str, value: &str| {
        let mut to =
            json!({"bucket": "replica", "region": "eu-central-1", "roleARN": "arn:aws:iam::123456789012:role/r"});
        to[field] = json!(value);
        with(&json!({"replication": to}))
    };
    let backups = |prefix: &str| json!({"destination": {"prefix": prefix}});
    let elsewhere = json!({"destination": {"external": bucket("offsite", "offsite")}});
    vec![
        case(
            lifecycle(json!({"prefix": "uploads/"})),
            &[
                "spec.bucket.lifecycle",
                "set archiveAfterDays, expireNoncurrentAfterDays or abortIncompleteUploadsAfterDays",
            ],
            lifecycle(json!({"abortIncompleteUploadsAfterDays": 1})),
        ),
        case(
            lifecycle(json!({"archiveAfterDays": 90})),
            &["would move backups: set bucket.lifecycle.prefix to a folder without them"],
            lifecycle(json!({"archiveAfterDays": 90})).set("backup", elsewhere.clone()),
        ),
        case(archive("backups/shop/"), &["would move backups"], archive("uploads/")),
        case(archive("b"), &["would move backups"], archive("b").set("backup", elsewhere)),
        case(
            archive("eu/old/").set("backup", backups("eu/")),
            &["would move backups"],
            archive("backups/").set("backup", backups("eu/")),
        ),
        case(archive("/uploads/ "), &["spec.bucket.lifecycle.prefix", "e.g. `uploads/`"], archive("uploads/a.b")),
        case(
            lifecycle(json!({"expireNoncurrentAfterDays": 0})),
            &["spec.bucket.lifecycle.expireNoncurrentAfterDays"],
            lifecycle(json!({"expireNoncurrentAfterDays": 1})),
        ),
        case(origins(&[]), &["spec.bucket.cors.allowOrigins"], origins(&["https://*.example.com:8443"])),
        case(
            origins(&["https://app.example.com/"]),
            &["write origins without a path and a slash at the end, e.g. `https://app.example.com`"],
            origins(&["http://localhost:3000"]),
        ),
        case(origins(&["*"]), &["write origins"], origins(&["https://app.example.com"])),
        case(
            replication("roleARN", "replication"),
            &["spec.bucket.replication.roleARN", "write the ARN of a role"],
            replication("roleARN", "arn:aws-cn:iam::123456789012:role/path/r+x"),
        ),
        case(
            replication("bucket", "Replica"),
            &["spec.bucket.replication.bucket", "write the name of a bucket"],
            replication("bucket", "replica-2"),
        ),
    ]
}

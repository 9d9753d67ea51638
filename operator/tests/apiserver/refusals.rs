//! What is refused at admission, with the words that tell the way out; and next to each what is accepted.

pub mod aws;
mod cloud_native_pg;
mod edge;
mod monitoring;
mod recovery;
mod release;
mod roles;
mod services;

use serde_json::{Value, json};

use super::{
    server::{Server, Store, definition},
    support::{Fixture, stack},
};

/// A spec that breaks a rule, words of the refusal, and the nearest spec that does not.
struct Case {
    bad: Fixture,
    words: &'static [&'static str],
    good: Fixture,
}

fn case(bad: Fixture, words: &'static [&'static str], good: Fixture) -> Case {
    Case { bad, words, good }
}

pub async fn bad_specs_are_refused_and_good_neighbours_accepted(server: &Server) {
    let namespace = server.namespace("refusals").await;
    let mut wrong = Vec::new();
    let all = rules().into_iter().chain(unions()).chain(values()).chain(edge::cases());
    let all = all.chain(monitoring::cases()).chain(release::cases()).chain(release::smoke_tests());
    let all = all
        .chain(recovery::cases())
        .chain(aws::cases())
        .chain(roles::cases())
        .chain(services::cases())
        .chain(services::of_providers())
        .chain(services::of_certificates())
        .chain(cloud_native_pg::cases());
    for Case { bad, words, good } in all {
        match server.create(&namespace, &bad.0, Store::No).await {
            Ok(_) => wrong.push(format!("accepted: {}", bad.0["spec"])),
            Err(message) => {
                wrong.extend(
                    words
                        .iter()
                        .filter(|word| !message.contains(**word))
                        .map(|word| format!("no {word:?} in: {message}")),
                );
            }
        }
        if let Err(message) = server.create(&namespace, &good.0, Store::No).await {
            wrong.push(format!("refused: {}: {message}", good.0["spec"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const IMAGES: &str =
    "in Production every image needs a tag other than latest, or a digest, e.g. `image: rorun-api:1.8.0`";
const PODS: &str = "set api.autoscaling.minReplicas (or api.replicas) to 2 or more";
const ONE_DATABASE: &str =
    "set exactly one of embedded, external, cloudNativePG and rds, e.g. `embedded: {}` or `external: {";
const ONE_REDIS: &str = "set exactly one of embedded, external and elastiCache, e.g. `embedded: {}` or `external: {";
const ONE_BUCKET: &str = "set exactly one of embedded, external and s3, e.g. `embedded: {}` or `external: {";

/// A Redis that is asked so often.
fn often(interval: &str) -> Value {
    json!({"secretRef": {"name": "r"}, "probeInterval": interval})
}

/// Rules between fields.
#[expect(clippy::too_many_lines, reason = "a table")]
fn rules() -> Vec<Case> {
    let set = |field: &str, value: Value| stack("shop").set(field, value);
    let production = || stack("shop").production();
    vec![
        case(
            stack("shop").staging().without("database"),
            &["database, redis and bucket may be left out only in Development: set each, e.g. `database: {external:"],
            stack("shop").staging(),
        ),
        case(
            stack("shop").staging().without("redis"),
            &["database, redis and bucket may be left out only"],
            stack("shop"),
        ),
        case(production().without("bucket"), &["database, redis and bucket may be left out only"], production()),
        case(
            production().set("database", json!({"embedded": {}})),
            &["embedded data services are not for Production", "use external"],
            stack("shop").staging().set("database", json!({"embedded": {}})),
        ),
        case(
            production().set("redis", json!({"embedded": {}})),
            &["embedded data services are not for Production"],
            stack("shop").staging().set("redis", json!({"embedded": {}})),
        ),
        case(
            production().set("bucket", json!({"embedded": {}})),
            &["embedded data services are not for Production"],
            stack("shop").staging().set("bucket", json!({"embedded": {}})),
        ),
        case(
            production().without("backup"),
            &["backup must be set in Production, e.g. `backup: {schedule:"],
            stack("shop").staging(),
        ),
        case(production().set("api.replicas", json!(1)), &[PODS], production().set("api.replicas", json!(2))),
        case(
            production().set("api.autoscaling.minReplicas", json!(1)),
            &[PODS],
            production().set("api.autoscaling", json!({"maxReplicas": 4})),
        ),
        case(
            production().set("api.image", json!("rorun-api")),
            &[IMAGES],
            production().set("api.image", json!("rorun-api:1")),
        ),
        case(
            production().set("api.image", json!("registry.example.com:5000/rorun-api")),
            &[IMAGES],
            production().set("api.image", json!("registry.example.com:5000/rorun-api:1.8.0")),
        ),
        case(
            production().set("ocr.image", json!("rorun-ai-service:latest")),
            &[IMAGES],
            production().set("ocr.image", json!("rorun-ai-service@sha256:00ff")),
        ),
        case(
            production().set("admin.image", json!("rorun-admin:latest")),
            &[IMAGES],
            production().set("admin.image", json!("rorun-admin:latest@sha256:00ff")),
        ),
        case(
            set("ingress", json!({"host": "a.example.com", "adminHost": "b.example.com"})),
            &[
                "ingress.adminHost needs an admin panel: set admin, e.g. `admin: {image: rorun-admin:1.8.0}`, or leave adminHost out",
            ],
            set("ingress", json!({"host": "a.example.com", "adminHost": "b.example.com"}))
                .set("admin.image", json!("a:1")),
        ),
        case(
            set("ingress", json!({"host": "a.example.com", "ocrHost": "b.example.com"})),
            &[
                "ingress.ocrHost needs an OCR service: set ocr, e.g. `ocr: {image: rorun-ai-service:1.8.0}`, or leave ocrHost out",
            ],
            set("ingress", json!({"host": "a.example.com", "ocrHost": "b.example.com"})).set("ocr.image", json!("a:1")),
        ),
        case(
            stack("shop")
                .with_all_workloads()
                .set("ingress", json!({"host": "a.b", "adminHost": "c.b", "ocrHost": "c.b"})),
            &["spec.ingress", "host, adminHost and ocrHost must differ"],
            stack("shop")
                .with_all_workloads()
                .set("ingress", json!({"host": "a.b", "adminHost": "c.b", "ocrHost": "d.b"})),
        ),
        case(
            set("api.replicas", json!(2)).set("api.autoscaling", json!({})),
            &["spec.api", "set replicas or autoscaling, not both"],
            set("api.autoscaling", json!({})),
        ),
        case(
            stack("shop").with_all_workloads().set("ocr.autoscaling", json!({"minReplicas": 11})),
            &[
                "spec.ocr.autoscaling",
                "minReplicas (2 if left out) must not be greater than maxReplicas (10 if left out)",
            ],
            stack("shop").with_all_workloads().set("ocr.autoscaling", json!({"minReplicas": 10})),
        ),
        case(
            set("api.autoscaling", json!({"maxReplicas": 1})),
            &["minReplicas (2 if left out) must not be greater"],
            set("api.autoscaling", json!({"minReplicas": 1, "maxReplicas": 1})),
        ),
    ]
}

/// Exactly one member.
fn unions() -> Vec<Case> {
    let set = |field: &str, value: Value| stack("shop").set(field, value);
    let database = json!({"secretRef": {"name": "database"}});
    let bucket = json!({"name": "files", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "s3"}});
    vec![
        case(
            set("database", json!({})),
            &["spec.database", ONE_DATABASE, "secretRef: {name: my-database}"],
            set("database", json!({"embedded": {}})),
        ),
        case(
            set("database", json!({"embedded": {}, "external": database})),
            &["spec.database", ONE_DATABASE],
            set("database", json!({"external": database})),
        ),
        case(
            set("redis", json!({})),
            &["spec.redis", ONE_REDIS, "secretRef: {name: my-redis}"],
            set("redis", json!({"embedded": {}})),
        ),
        case(
            set("redis", json!({"embedded": {}, "external": database})),
            &["spec.redis", ONE_REDIS],
            set("redis", json!({"external": database})),
        ),
        case(
            set("bucket", json!({"versioning": true})),
            &["spec.bucket", ONE_BUCKET, "credentialsSecretRef: {name: my-s3}"],
            set("bucket", json!({"embedded": {}, "versioning": true})),
        ),
        case(
            set("bucket", json!({"embedded": {}, "external": bucket})),
            &["spec.bucket", ONE_BUCKET],
            set("bucket", json!({"external": bucket})),
        ),
        case(
            set("backup.destination", json!({})),
            &["spec.backup.destination", "set external, e.g. `external: {name: my-backups", "or leave destination out"],
            set("backup.destination", json!({"external": bucket})),
        ),
    ]
}

/// Single values: the refusal names the field.
#[expect(clippy::too_many_lines, reason = "a table")]
fn values() -> Vec<Case> {
    let field = |name: &'static str, bad: Value, words: &'static [&'static str], good: Value| {
        let set = |value| stack("shop").set(name, value);
        case(set(bad), words, set(good))
    };
    let bucket =
        |endpoint: &str| json!({"name": "files", "endpoint": endpoint, "credentialsSecretRef": {"name": "s3"}});
    let long = |count: usize| "a".repeat(count);
    vec![
        field(
            "environment",
            json!("Test"),
            &["spec.environment", "\"Development\", \"Staging\", \"Production\""],
            json!("Development"),
        ),
        field("environment", json!("development"), &["spec.environment"], json!("Development")),
        field("deletionPolicy", json!("Keep"), &["spec.deletionPolicy", "\"Retain\", \"Delete\""], json!("Retain")),
        field("suspend", json!("yes"), &["spec.suspend"], json!(true)),
        field(
            "image.registry",
            json!("https://ghcr.io"),
            &["spec.image.registry", "without https://"],
            json!("ghcr.io/rorun"),
        ),
        field("image.registry", json!("ghcr.io/rorun/"), &["spec.image.registry"], json!("localhost:5000")),
        field("image.pullPolicy", json!("Sometimes"), &["spec.image.pullPolicy"], json!("Never")),
        field("image.pullSecrets", json!(["ghcr"]), &["spec.image.pullSecrets[0]"], json!([{"name": "ghcr"}])),
        field("api", json!({}), &["spec.api.image: Required value"], json!({"image": "a"})),
        field("api.image", json!(""), &["spec.api.image"], json!("a")),
        field(
            "api.image",
            json!("https://ghcr.io/a:1"),
            &["spec.api.image"],
            json!("ghcr.io:443/A_b/a-b:1.0@sha256:00ff"),
        ),
        field(
            "backup.image",
            json!("postgres 17"),
            &["spec.backup.image", "write the name of an image"],
            json!("postgres:17"),
        ),
        field("api.image", json!(" rorun-api:1"), &["spec.api.image"], json!("rorun-api:1")),
        field("api.port", json!(0), &["spec.api.port", "greater than or equal to 1"], json!(1)),
        field("api.port", json!(65536), &["spec.api.port", "less than or equal to 65535"], json!(65535)),
        field("api.port", json!("http"), &["spec.api.port"], json!(3000)),
        field("api.replicas", json!(-1), &["spec.api.replicas"], json!(0)),
        field("api.replicas", json!(1001), &["spec.api.replicas"], json!(1000)),
        field("api.autoscaling.minReplicas", json!(0), &["spec.api.autoscaling.minReplicas"], json!(1)),
        field(
            "api.autoscaling.targetCPUUtilization",
            json!(0),
            &["spec.api.autoscaling.targetCPUUtilization"],
            json!(100),
        ),
        field("api.health.path", json!("health"), &["spec.api.health.path"], json!("/health")),
        field(
            "api.terminationGracePeriodSeconds",
            json!(9),
            &["spec.api.terminationGracePeriodSeconds"],
            json!(86_400),
        ),
        field("api.health.startupSeconds", json!(0), &["spec.api.health.startupSeconds"], json!(3600)),
        field(
            "api.resources.limits",
            json!({"memory": "512 Mi"}),
            &["spec.api.resources.limits.memory"],
            json!({"memory": "512Mi"}),
        ),
        field(
            "api.resources.requests",
            json!({"cpu": "1,5"}),
            &["spec.api.resources.requests.cpu"],
            json!({"cpu": "1.5"}),
        ),
        field("api.resources.requests", json!({"cpu": "-1"}), &["spec.api.resources.requests.cpu"], json!({"cpu": 1})),
        field(
            "api.resources.requests",
            json!({"cpu": -1}),
            &["spec.api.resources.requests.cpu"],
            json!({"cpu": "100m"}),
        ),
        field(
            "api.resources.requests",
            json!({"cpu": 0.5}),
            &["spec.api.resources.requests.cpu"],
            json!({"cpu": "0.5"}),
        ),
        field(
            "api.resources.requests",
            json!({"memory": "1gb"}),
            &["spec.api.resources.requests.memory"],
            json!({"memory": "1e9"}),
        ),
        field("database.embedded.storage.size", json!("10 GB"), &["spec.database.embedded.storage.size"], json!("10G")),
        field("database.embedded.storage.size", json!(-1), &["spec.database.embedded.storage.size"], json!(10_000_000)),
        field(
            "database.embedded.storage.size",
            json!("0.0Gi"),
            &["spec.database.embedded.storage.size"],
            json!("00.5Gi"),
        ),
        field("database.embedded.storage.size", json!(0), &["spec.database.embedded.storage.size"], json!(1)),
        field("database.embedded.version", json!("12"), &["spec.database.embedded.version"], json!("18")),
        field("database.embedded.version", json!(17), &["spec.database.embedded.version", "string"], json!("17")),
        field("database.embedded.version", json!("17.2"), &["spec.database.embedded.version"], json!("13")),
        field(
            "database.external",
            json!({"secretRef": {"name": "d"}, "tls": {"mode": "strict"}}),
            &["spec.database.external.tls.mode", "\"verify-full\""],
            json!({"secretRef": {"name": "d"}, "tls": {"mode": "verify-ca"}}),
        ),
        field(
            "redis.external",
            json!({"secretRef": {}}),
            &["spec.redis.external.secretRef.name: Required value"],
            json!({"secretRef": {"name": "r"}}),
        ),
        field("redis.external", often("9s"), &["spec.redis.external.probeInterval", "write a duration"], often("10s")),
        field("redis.external", often("25h"), &["spec.redis.external.probeInterval", "write a duration"], often("24h")),
        field(
            "redis.external",
            often("often"),
            &["spec.redis.external.probeInterval", "write a duration"],
            often("1h30m"),
        ),
        field(
            "redis.external",
            often("5m1h"),
            &["spec.redis.external.probeInterval", "write a duration"],
            often("90m"),
        ),
        field(
            "bucket.embedded.server",
            json!("Ceph"),
            &["spec.bucket.embedded.server", "\"SeaweedFS\", \"MinIO\", \"RustFS\""],
            json!("RustFS"),
        ),
        field(
            "bucket.external",
            bucket("s3.example.com"),
            &["spec.bucket.external.endpoint"],
            bucket("http://s3.example.com:9000/"),
        ),
        field(
            "bucket.external",
            bucket("https://s3.example.com/files?x=y"),
            &["spec.bucket.external.endpoint", "write a URL that starts with https://"],
            bucket("https://project.storage.supabase.co/storage/v1/s3"),
        ),
        field(
            "bucket.external",
            bucket("https://s3.example.com/a b"),
            &["spec.bucket.external.endpoint"],
            bucket("http://10.0.0.7:9000/s3/"),
        ),
        field(
            "bucket.external",
            bucket("https://u:p@s3.example.com"),
            &["spec.bucket.external.endpoint", "neither user nor ? nor #"],
            bucket("https://[::1]:9000"),
        ),
        field(
            "bucket.external",
            json!({"name": "My_Bucket", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "s3"}}),
            &["spec.bucket.external.name"],
            bucket("https://s3.example.com"),
        ),
        field("ingress", json!({}), &["spec.ingress.host: Required value"], json!({"host": "localhost"})),
        field("ingress.host", json!("API.example.com"), &["spec.ingress.host"], json!("api.example.com")),
        field(
            "ingress.host",
            json!("https://api.example.com"),
            &["spec.ingress.host", "write a DNS name"],
            json!("api.rorun.localhost"),
        ),
        field("ingress.host", json!("api.example.com:8080"), &["spec.ingress.host"], json!("a-b.example.com")),
        field("ingress.host", json!("*.example.com"), &["spec.ingress.host"], json!("x.example.com")),
        field("ingress.host", json!("api..example.com"), &["spec.ingress.host"], json!("1.example.com")),
        field("ingress.host", json!("-a.example.com"), &["spec.ingress.host"], json!("xn--bcher-kva.example")),
        field("ingress.host", json!("192.168.1.10"), &["spec.ingress.host"], json!("192-168-1-10.nip.io")),
        field(
            "ingress.host",
            json!(format!("{}.example.com", long(64))),
            &["spec.ingress.host"],
            json!(format!("{}.example.com", long(63))),
        ),
        field("backup.destination.prefix", json!("/backups/"), &["destination.prefix", "ends in a slash"], json!("b/")),
        field(
            "backup.destination.prefix",
            json!("backups"),
            &["destination.prefix", "ends in a slash"],
            json!("a/b.c/"),
        ),
        field("backup.destination.prefix", json!("a/../b/"), &["destination.prefix", "without `..`"], json!("a/b=1/")),
        field("backup.schedule", json!("every day"), &["spec.backup.schedule"], json!("@daily")),
        field("backup.schedule", json!("15 2 * *"), &["spec.backup.schedule"], json!("15 2 * * *")),
        field("backup.schedule", json!("0 15 2 * * *"), &["spec.backup.schedule"], json!("*/5 1-3,5 * JAN MON-FRI")),
        field("backup.schedule", json!("TZ=UTC 15 2 * * *"), &["spec.backup.schedule"], json!("@hourly")),
        field("backup.schedule", json!("@reboot"), &["spec.backup.schedule"], json!("@monthly")),
        field(
            "backup.timeZone",
            json!("Africa Lagos"),
            &["spec.backup.timeZone"],
            json!("America/Argentina/Buenos_Aires"),
        ),
        field("backup.timeZone", json!("/etc/passwd"), &["spec.backup.timeZone"], json!("Etc/GMT+1")),
        field("backup.retention.days", json!(0), &["spec.backup.retention.days"], json!(1)),
        field("backup.retention.minimumKept", json!(0), &["spec.backup.retention.minimumKept"], json!(1)),
    ]
}

pub async fn bad_names_are_refused(server: &Server) {
    let namespace = server.namespace("names").await;
    let longest = "s".repeat(40);
    for name in ["s", "shop", "shop-2", &longest] {
        let accepted = server.create(&namespace, &stack(name).0, Store::No).await;
        assert!(accepted.is_ok(), "{name}: {accepted:?}");
    }
    let too_long = "s".repeat(41);
    for name in ["1shop", "shop.example", "9", &too_long] {
        let message = server.create(&namespace, &stack(name).0, Store::No).await.expect_err(name);
        let words = "metadata.name must be at most 40 characters, start with a letter and hold only a-z, 0-9 and '-'";
        assert!(message.contains(words), "{name}: {message}");
    }
    for name in ["Shop", "shop-", "shop_2"] {
        let message = server.create(&namespace, &stack(name).0, Store::No).await.expect_err(name);
        assert!(message.contains("metadata.name"), "{name}: {message}");
    }
}

pub async fn unknown_and_doubled_fields_are_refused(server: &Server) {
    let namespace = server.namespace("unknown").await;
    let twice = |name: &str| json!([{"name": name}, {"name": name}]);
    for (bad, words) in [
        (stack("shop").set("databse", json!({})), "unknown field \"spec.databse\""),
        (stack("shop").set("api.replica", json!(1)), "unknown field \"spec.api.replica\""),
        (stack("shop").set("hibernates", json!(true)), "unknown field \"spec.hibernates\""),
        (stack("shop").set("api.env", twice("LOG_LEVEL")), "spec.api.env[1]: Duplicate value"),
        (stack("shop").set("image.pullSecrets", twice("ghcr")), "spec.image.pullSecrets[1]: Duplicate value"),
    ] {
        let message = server.create(&namespace, &bad.0, Store::No).await.expect_err(words);
        assert!(message.contains(words), "{words}: {message}");
    }
}

/// After all cases: a rule that nothing breaks may be one that nothing can break, or that says something else.
pub fn every_rule_was_broken_once(server: &Server) {
    let mut messages = Vec::new();
    collect(&definition(), &mut messages);
    messages.sort();
    messages.dedup();
    assert!(messages.len() > 15, "{messages:#?}");
    let unbroken: Vec<_> = messages.iter().filter(|message| !server.has_refused_with(message)).collect();
    assert!(unbroken.is_empty(), "rules that no case breaks: {unbroken:#?}");
}

fn collect(value: &Value, messages: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let rules = members.get("x-kubernetes-validations").and_then(Value::as_array);
            messages.extend(
                rules.into_iter().flatten().map(|rule| rule["message"].as_str().expect("a message").to_owned()),
            );
            members.values().for_each(|member| collect(member, messages));
        }
        Value::Array(list) => list.iter().for_each(|item| collect(item, messages)),
        _ => {}
    }
}

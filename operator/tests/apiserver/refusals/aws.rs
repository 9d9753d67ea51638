//! Services in AWS.

use serde_json::{Value, json};

use super::{
    super::support::{Fixture, stack},
    Case, case,
};

/// With a field of the block of RDS, or without one.
pub fn rds(field: &str, value: Value) -> Fixture {
    let block =
        json!({"instanceClass": "db.t4g.medium", "storage": {"size": "50Gi"}, "caSecretRef": {"name": "rds-ca"}});
    let stack = stack("shop").set("database", json!({"rds": block}));
    if field.is_empty() { stack } else { stack.set(&format!("database.rds.{field}"), value) }
}

/// With the block of ElastiCache.
pub fn cache(block: impl Into<Value>) -> Fixture {
    let block: Value = block.into();
    stack("shop").set("redis", json!({"elastiCache": block}))
}

/// With a bucket of this name and region.
pub fn bucket(name: &str, region: &str) -> Fixture {
    let keys = json!({"name": "s3"});
    stack("shop").set("bucket", json!({"s3": {"name": name, "region": region, "credentialsSecretRef": keys}}))
}

pub(super) fn cases() -> Vec<Case> {
    database().into_iter().chain(caches()).chain(buckets()).collect()
}

fn database() -> Vec<Case> {
    let text = |field: &str, value: &str| rds(field, json!(value));
    let size = |size: &str| text("storage.size", size);
    let long = |length| "a".repeat(length);
    vec![
        case(
            text("instanceClass", "t4g.medium"),
            &["instanceClass", "e.g. `db.t4g.medium`"],
            text("instanceClass", "db.x2g.large"),
        ),
        case(text("version", "12"), &["database.rds.version"], text("version", "13")),
        case(text("version", "17.6.1"), &["database.rds.version"], text("version", "17.6")),
        case(size("50GB"), &["storage.size", "write whole gibibytes"], size("50Gi")),
        case(size("19Gi"), &["storage.size", "write whole gibibytes from `20Gi`"], size("20Gi")),
        case(text("storage.maxSize", "50Gi"), &["storage.maxSize must be above size"], text("storage.maxSize", "51Gi")),
        case(text("storage.type", "standard"), &["storage.type"], text("storage.type", "io2")),
        case(rds("readReplicas", json!(6)), &["readReplicas"], rds("readReplicas", json!(5))),
        case(text("identifier", "Shop"), &["identifier", "start with a letter"], text("identifier", "shop")),
        case(text("identifier", "a--b"), &["identifier", "single hyphens"], text("identifier", "a-b")),
        case(text("identifier", &long(51)), &["identifier"], text("identifier", &long(50))),
        case(text("finalSnapshot", "-a"), &["finalSnapshot", "start with a letter"], text("finalSnapshot", "a")),
        case(rds("backupRetentionDays", json!(6)), &["backupRetentionDays"], rds("backupRetentionDays", json!(7))),
        case(rds("backupRetentionDays", json!(36)), &["backupRetentionDays"], rds("backupRetentionDays", json!(35))),
        case(
            text("backupWindow", "2:00-3:00"),
            &["backupWindow", "write a time of the day in UTC"],
            text("backupWindow", "02:00-03:00"),
        ),
        case(
            text("maintenanceWindow", "02:00-03:00"),
            &["maintenanceWindow", "write a time of the week in UTC"],
            text("maintenanceWindow", "sun:02:00-sun:03:00"),
        ),
        case(
            rds("", json!(null)).set("database.embedded", json!({})),
            &["set exactly one of embedded, external, cloudNativePG and rds"],
            rds("", json!(null)),
        ),
    ]
}

fn caches() -> Vec<Case> {
    let nodes = |mut more: Value| {
        more["nodeType"] = json!("cache.t4g.small");
        cache(more)
    };
    let serverless = || cache(json!({"serverless": {}}));
    vec![
        case(cache(json!({})), &["set nodeType or serverless of redis.elastiCache"], serverless()),
        case(nodes(json!({"serverless": {}})), &["set nodeType or serverless"], nodes(json!({}))),
        case(
            cache(json!({"serverless": {}, "replicas": 1})),
            &["a serverless cache has neither clusterMode"],
            nodes(json!({"replicas": 1})),
        ),
        case(
            nodes(json!({"shards": 2})),
            &["shards need cluster mode"],
            nodes(json!({"shards": 2, "clusterMode": true})),
        ),
        case(
            cache(json!({"nodeType": "db.t4g.small"})),
            &["nodeType", "e.g. `cache.t4g.small`"],
            nodes(json!({"replicas": 5})),
        ),
        case(nodes(json!({"version": "5.0"})), &["redis.elastiCache.version"], nodes(json!({"version": "7.2"}))),
        case(nodes(json!({"version": "6.2"})), &["Valkey begins with 7.2"], nodes(json!({"version": "8.0"}))),
        case(nodes(json!({"version": "7.1"})), &["Valkey begins with 7.2"], nodes(json!({"version": "7"}))),
        case(
            nodes(json!({"version": "8.0", "engine": "Redis"})),
            &["Redis ends with 7.1"],
            nodes(json!({"version": "6.2", "engine": "Redis"})),
        ),
        case(nodes(json!({"engine": "Memcached"})), &["redis.elastiCache.engine"], nodes(json!({"engine": "Redis"}))),
        case(
            nodes(json!({"identifier": "a".repeat(41)})),
            &["redis.elastiCache.identifier"],
            nodes(json!({"identifier": "a".repeat(40)})),
        ),
        case(
            nodes(json!({"snapshotWindow": "24:00-25:00"})),
            &["snapshotWindow", "write a time of the day"],
            nodes(json!({"snapshotWindow": "23:00-00:30"})),
        ),
    ]
}

fn buckets() -> Vec<Case> {
    vec![
        case(bucket("shop.files", "eu-west-1"), &["bucket.s3.name"], bucket("shop-files", "eu-west-1")),
        case(bucket("shop", "Ireland"), &["bucket.s3.region", "e.g. `eu-west-1`"], bucket("shop", "us-gov-west-1")),
        case(
            bucket("shop", "eu-west-1").set("bucket.versioning", json!(false)),
            &["a bucket.s3 has versioning always"],
            bucket("shop", "eu-west-1").set("bucket.versioning", json!(true)),
        ),
    ]
}

//! What may change while a stack exists, and what must not.

use serde_json::json;

use super::{
    refusals::aws::{bucket, cache, rds},
    server::{Server, Store},
    support::{Fixture, stack},
};

const DATABASE: &str = "a database cannot change between embedded, external, cloudNativePG and rds while the stack exists: create a new stack";
const REDIS: &str =
    "redis cannot change between embedded, external and elastiCache while the stack exists: create a new stack";
const SEED: &str = "seedFrom can only be set when the stack is created, before its first start: leave it out, and create another stack with it";
const BUCKET: &str =
    "a bucket cannot change between embedded, external and s3 while the stack exists: create a new stack";

pub async fn what_must_not_change_does_not(server: &Server) {
    let mut wrong = Vec::new();
    for (index, (before, after, words)) in refused().into_iter().enumerate() {
        let namespace = server.namespace(&format!("refused-updates-{index}")).await;
        match update(server, &namespace, &before, &after).await {
            Ok(()) => wrong.push(format!("{words}: accepted {} to {}", before.0["spec"], after.0["spec"])),
            Err(message) if !message.contains(words) => wrong.push(format!("no {words:?} in: {message}")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

pub async fn what_may_change_does(server: &Server) {
    let mut wrong = Vec::new();
    for (index, (before, after)) in accepted().into_iter().enumerate() {
        let namespace = server.namespace(&format!("accepted-updates-{index}")).await;
        if let Err(message) = update(server, &namespace, &before, &after).await {
            wrong.push(format!("{} to {}: {message}", before.0["spec"], after.0["spec"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn update(server: &Server, namespace: &str, before: &Fixture, after: &Fixture) -> Result<(), String> {
    let stored = server.create(namespace, &before.0, Store::Yes).await.expect("the stack before the update");
    let mut wanted = after.0.clone();
    wanted["metadata"] = stored["metadata"].clone();
    server.replace(namespace, &wanted, Store::Yes).await.map(|_| ())
}

fn refused() -> Vec<(Fixture, Fixture, &'static str)> {
    let all = || stack("shop").with_external_services();
    let cluster = |block: serde_json::Value| stack("shop").set("database", json!({"cloudNativePG": block}));
    let version = |version: &str| stack("shop").set("database", json!({"embedded": {"version": version}}));
    let server = |server: &str| stack("shop").set("bucket", json!({"embedded": {"server": server}}));
    let environment = "environment cannot change: create a new stack for the other environment";
    let version_words = "database.embedded.version cannot change (17 if left out)";
    let server_words = "bucket.embedded.server cannot change (SeaweedFS if left out)";
    vec![
        (all(), stack("shop").staging(), environment),
        (stack("shop").production(), stack("shop").staging().set("backup", json!({})), environment),
        (stack("shop"), stack("shop").set("database", all().0["spec"]["database"].clone()), DATABASE),
        (all(), all().without("database"), DATABASE),
        (all(), all().set("database", json!({"embedded": {}})), DATABASE),
        (stack("shop"), cluster(json!({})), DATABASE),
        (cluster(json!({})), stack("shop"), DATABASE),
        (all(), all().set("database", json!({"cloudNativePG": {}})), DATABASE),
        (cluster(json!({"walStorage": {}})), cluster(json!({})), "walStorage cannot be taken away"),
        (stack("shop"), stack("shop").set("redis", all().0["spec"]["redis"].clone()), REDIS),
        (all(), all().without("redis"), REDIS),
        (stack("shop"), stack("shop").set("bucket", all().0["spec"]["bucket"].clone()), BUCKET),
        (all(), all().set("bucket", json!({"embedded": {}})), BUCKET),
        // A block that is left out, and one that says the default, mean the same.
        (stack("shop"), version("16"), version_words),
        (version("17"), version("18"), version_words),
        (version("16"), stack("shop"), version_words),
        (version("16"), stack("shop").set("database", json!({"embedded": {}})), version_words),
        (stack("shop"), server("MinIO"), server_words),
        (server("SeaweedFS"), server("RustFS"), server_words),
        (server("MinIO"), stack("shop"), server_words),
        (
            rds("storage.size", json!("50Gi")),
            rds("storage.size", json!("49Gi")),
            "database.rds.storage.size cannot shrink",
        ),
        (
            rds("", json!(null)),
            rds("identifier", json!("other")),
            "identifier, region and kmsKeyID of database.rds cannot change",
        ),
        (
            cache(json!({"nodeType": "cache.t4g.small"})),
            cache(json!({"nodeType": "cache.t4g.small", "clusterMode": true})),
            "nodeType, serverless and clusterMode of redis.elastiCache cannot take each other's place",
        ),
        (
            cache(json!({"nodeType": "cache.t4g.small"})),
            cache(json!({"nodeType": "cache.t4g.small", "engine": "Redis"})),
            "redis.elastiCache.engine cannot change from Valkey to Redis",
        ),
        (
            cache(json!({"serverless": {}})),
            cache(json!({"serverless": {}, "region": "eu-west-1"})),
            "identifier, region and kmsKeyID of redis.elastiCache cannot change",
        ),
        (bucket("shop", "eu-west-1"), bucket("shop", "eu-west-2"), "name and region of bucket.s3 cannot change"),
        (rds("", json!(null)), all(), "a database cannot change between"),
        (stack("shop"), stack("shop").set("seedFrom", point("a")), SEED),
        // Rules of a creation hold for updates as well.
        (stack("shop").production(), stack("shop").production().without("backup"), "backup must be set in Production"),
    ]
}

/// A point that a stack begins with.
fn point(folder: &str) -> serde_json::Value {
    json!({"location": format!("s3://safe/{folder}/20261124T031500Z-q7k2p/"), "endpoint": "https://s3.example.com",
        "credentialsSecretRef": {"name": "reader"}})
}

fn accepted() -> Vec<(Fixture, Fixture)> {
    let all = || stack("shop").with_external_services();
    let embedded = |field: &str| stack("shop").set(field, json!({"embedded": {}}));
    let cluster = |block: serde_json::Value| stack("shop").set("database", json!({"cloudNativePG": block}));
    let version = |version: &str| stack("shop").set("database", json!({"embedded": {"version": version}}));
    let server = |server: &str| stack("shop").set("bucket", json!({"embedded": {"server": server}}));
    let other = json!({"external": {"secretRef": {"name": "another"}}});
    vec![
        // Before it is over a stack may begin with another point, or with none.
        (stack("shop").set("seedFrom", point("a")), stack("shop").set("seedFrom", point("b"))),
        (stack("shop").set("seedFrom", point("a")), stack("shop")),
        (cluster(json!({})), cluster(json!({"instances": 3, "walStorage": {}, "pooler": {}}))),
        (rds("storage.size", json!("50Gi")), rds("storage.size", json!("60Gi"))),
        (rds("", json!(null)), rds("instanceClass", json!("db.m7g.large"))),
        (
            cache(json!({"nodeType": "cache.t4g.small"})),
            cache(json!({"nodeType": "cache.m7g.large", "clusterMode": false})),
        ),
        (stack("shop"), embedded("database")),
        (embedded("redis"), stack("shop")),
        (stack("shop"), embedded("bucket")),
        (stack("shop"), version("17")),
        (version("17"), stack("shop")),
        (version("17"), embedded("database")),
        (
            version("16"),
            stack("shop").set("database", json!({"embedded": {"version": "16", "image": "postgres:16.10"}})),
        ),
        (stack("shop"), server("SeaweedFS")),
        (server("SeaweedFS"), embedded("bucket")),
        (all(), all().set("database", other.clone()).set("redis", other)),
        (stack("shop"), stack("shop").with_all_workloads().set("suspend", json!(true)).set("backup", json!({}))),
        (stack("shop").with_all_workloads(), stack("shop")),
        (stack("shop").set("api.replicas", json!(1)), stack("shop").set("api.autoscaling", json!({}))),
        (stack("shop").set("deletionPolicy", json!("Delete")), stack("shop")),
        (
            stack("shop").set("database", json!({"embedded": {"storage": {"size": "1Gi"}}})),
            stack("shop").set("database", json!({"embedded": {"storage": {"size": "2Gi"}}})),
        ),
        (stack("shop").production(), stack("shop").production().set("api.image", json!("rorun-api:1.9.0"))),
    ]
}

//! A stack whose PostgreSQL, Redis, S3 server and second S3 server for dumps have certificates of four authorities, of which it
//! names three: the database is used with `sslmode=require`, which asks for none. What one service is trusted by must not be
//! asked of another, neither by the prober, nor by the application, nor by the dump.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::external::{
    receipts_are_served, secrets,
    services::{BUCKET, Issuers, KEY_ID, PASSWORD, Services},
};
use super::kit::{Authority, Stack, TestContext};

/// A first roll-out of two pods each on a busy machine.
const READY_WITHIN: Duration = Duration::from_mins(4);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let authority = |name: &str| Authority::create(&format!("Rorun scenario {name}"));
    let (postgres, redis) = (authority("PostgreSQL")?, authority("Redis")?);
    let (s3, dumps) = (authority("S3")?, authority("dumps")?);
    let issuers = Issuers { postgres: &postgres, redis: &redis, s3: &s3, dumps: Some(&dumps), clients: None };
    let services = Services::start(test, &issuers).await?;
    secrets(test, &services, &postgres).await?;
    for (name, authority) in [("redis-ca", &redis), ("bucket-ca", &s3), ("dumps-ca", &dumps)] {
        test.secret(name, json!({"ca.crt": authority.pem()})).await?;
    }
    test.secret("dumps", json!({"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": PASSWORD})).await?;
    let url = services.database_url().replace("sslmode=verify-full", "sslmode=require");
    test.secret("supabase", json!({"DATABASE_URL": url, "DIRECT_URL": url})).await?;
    let stack = test.apply_example("staging.yaml", |stack| lead_to(stack, &services)).await?;
    stack.wait_ready(READY_WITHIN).await?;

    receipts_are_served(test, &stack, &services, &postgres).await?;
    variables(&stack, &[("PGSSLROOTCERT", None), ("NODE_EXTRA_CA_CERTS", Some("ca.crt"))]).await?;
    dumped_elsewhere(test, &stack, &services, &dumps, "without-an-authority").await?;

    // The database gets an authority too: it is the one that counts for it, and for nothing else.
    let trust = json!({"mode": "verify-full", "caSecretRef": {"name": "supabase-ca"}});
    stack.patch_spec(json!({"database": {"external": {"tls": trust}}})).await?;
    stack.wait_ready(READY_WITHIN).await?;
    variables(&stack, &[("PGSSLROOTCERT", Some("database.crt")), ("SSL_CERT_FILE", Some("bundle.crt"))]).await?;
    receipts_are_served(test, &stack, &services, &postgres).await?;
    dumped_elsewhere(test, &stack, &services, &dumps, "with-an-authority").await
}

/// The values of the example that depend on the network of its user: where the buckets are, and which authority signs for them.
fn lead_to(stack: &mut Value, services: &Services) {
    let trust = |secret: &str| json!({"caSecretRef": {"name": secret}});
    let spec = &mut stack["spec"];
    spec["api"]["migrations"]["command"] = json!(["/rorun-fixture", "migrate"]);
    if let Some(database) = spec["database"]["external"].as_object_mut() {
        database.remove("tls");
    }
    spec["redis"]["external"]["tls"] = trust("redis-ca");
    spec["bucket"]["external"]["tls"] = trust("bucket-ca");
    spec["bucket"]["external"]["endpoint"] = json!(services.bucket_endpoint());
    spec["backup"]["destination"] = json!({"prefix": "offsite/", "external": {
        "name": BUCKET, "endpoint": services.dumps_endpoint(), "credentialsSecretRef": {"name": "dumps"},
        "tls": trust("dumps-ca"),
    }});
}

/// The variables of the pods of the application, by the file that each names.
async fn variables(stack: &Stack, expected: &[(&str, Option<&str>)]) -> Result<()> {
    for pod in stack.pods(Some("api")).await?.iter().chain(&stack.pods(Some("ocr")).await?) {
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let env = containers.first().and_then(|container| container.env.clone()).unwrap_or_default();
        for (name, file) in expected {
            let found = env.iter().find(|variable| variable.name == *name).and_then(|variable| variable.value.clone());
            let wanted = file.map(|file| format!("/etc/rorun/ca/{file}"));
            ensure!(found == wanted, "{:?} has {name}={found:?}, not {wanted:?}", pod.metadata.name);
        }
    }
    Ok(())
}

/// A dump reaches the second server, and says whose it is.
async fn dumped_elsewhere(
    test: &TestContext,
    stack: &Stack,
    services: &Services,
    authority: &Authority,
    name: &str,
) -> Result<()> {
    let record = test.run_backup(stack, name).await?;
    let folder = format!("offsite/{}/{}/", test.namespace, stack.name);
    let key = format!("{folder}{}/manifest.json", record.id);
    ensure!(record.location == format!("s3://{BUCKET}/{key}"), "the dump is at {}", record.location);
    let bucket = services.bucket(test, "dumps", authority).await?;
    let manifest: Value = serde_json::from_slice(&bucket.get(&key).await?)?;
    let marker: Value = serde_json::from_slice(&bucket.get(&format!("{folder}owner.json")).await?)?;
    let owner = stack.status().await?.json["backup"]["owner"].clone();
    let owner = owner.as_str().context("the status tells of no owner")?;
    ensure!(manifest["owner"] == owner && marker["owner"] == owner, "{owner} in {manifest} and {marker}");
    let healthy = stack.status().await?.condition("BackupHealthy").context("no condition BackupHealthy")?;
    ensure!(healthy.status == "True" && healthy.reason == "Ready", "BackupHealthy is {healthy:?}");
    Ok(())
}

//! A stack like staging.yaml, whose PostgreSQL, Redis and S3 server the operator did not make: TLS to each under a
//! private authority, a password full of characters that have a meaning in a URL, and a database that asks its clients for a certificate
//! besides.

pub(super) mod services;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use self::services::{Issuers, Services};
use super::kit::{Authority, Stack, TestContext};

/// A first roll-out of two pods each on a busy machine.
const READY_WITHIN: Duration = Duration::from_mins(4);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let authority = Authority::create("Rorun scenario services")?;
    let clients = Authority::create("Rorun scenario clients")?;
    let issuers =
        Issuers { postgres: &authority, redis: &authority, s3: &authority, dumps: None, clients: Some(&clients) };
    let services = Services::start(test, &issuers).await?;
    secrets(test, &services, &authority).await?;
    test.tls_secret(CLIENT, &clients.issue_client(services::USER)?).await?;
    let stack = test
        .apply_example("staging.yaml", |stack| {
            lead_to(stack, &services);
            stack["spec"]["database"]["external"]["tls"]["clientCertificateSecretRef"] = json!({"name": CLIENT});
        })
        .await?;
    stack.wait_ready(READY_WITHIN).await?;

    nothing_is_embedded(&stack).await?;
    the_bucket_is_asked_and_left_as_it_was(test, &stack, (&services, &authority)).await?;
    receipts_are_served(test, &stack, &services, &authority).await?;
    // A dump goes through the same authority and the same password, in programs of their own; and by a renewed certificate, which
    // replaces no pod.
    let before = templates_of_the_api(test, &stack).await?;
    test.tls_secret(CLIENT, &clients.issue_client(services::USER)?).await?;
    test.run_backup(&stack, "by-hand").await?;
    let after = templates_of_the_api(test, &stack).await?;
    ensure!(before == after, "a renewed certificate replaced pods: {before:?}, {after:?}");
    Ok(())
}

/// The Secret with the certificate of the database's clients.
const CLIENT: &str = "database-client";

/// The templates that the pods of the API are made by: the autoscaler may add pods meanwhile.
async fn templates_of_the_api(test: &TestContext, stack: &Stack) -> Result<BTreeSet<String>> {
    let pods = test.list(&stack.namespace, "pods", "app.kubernetes.io/component=api").await?;
    Ok(pods.iter().map(|pod| pod["metadata"]["labels"]["pod-template-hash"].to_string()).collect())
}

/// The Secrets that the example names, as its first lines say.
pub(super) async fn secrets(test: &TestContext, services: &Services, authority: &Authority) -> Result<()> {
    let url = services.database_url();
    test.secret("supabase", json!({"DATABASE_URL": url, "DIRECT_URL": url})).await?;
    test.secret("supabase-ca", json!({"ca.crt": authority.pem()})).await?;
    test.secret("upstash", json!({"REDIS_URL": services.redis_url()})).await?;
    test.secret("s3", json!({"AWS_ACCESS_KEY_ID": services::KEY_ID, "AWS_SECRET_ACCESS_KEY": services::PASSWORD}))
        .await?;
    let hosts = [test.host("api"), test.host("admin")];
    let served = authority.issue(&[&hosts[0], &hosts[1]])?;
    test.tls_secret("rorun-staging-tls", &served).await?;
    let docker = json!({"auths": {"ghcr.io": {"username": "nobody", "password": "none"}}}).to_string();
    test.apply_objects(&json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "ghcr", "namespace": test.namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": docker},
    }))
    .await
}

/// The values of the example that depend on the network of its user: where the bucket is, and which authority signs for it.
pub(super) fn lead_to(stack: &mut Value, services: &Services) {
    let trust = json!({"caSecretRef": {"name": "supabase-ca"}});
    let spec = &mut stack["spec"];
    spec["api"]["migrations"]["command"] = json!(["/rorun-fixture", "migrate"]);
    spec["redis"]["external"]["tls"] = trust.clone();
    spec["bucket"]["external"]["tls"] = trust;
    spec["bucket"]["external"]["endpoint"] = json!(services.bucket_endpoint());
}

async fn nothing_is_embedded(stack: &Stack) -> Result<()> {
    let found = stack.list("statefulsets,persistentvolumeclaims").await?;
    ensure!(found.is_empty(), "the operator made data services beside the external ones: {found:?}");
    Ok(())
}

/// By a Job from the namespace of the stack, whose bucket has versions.
async fn the_bucket_is_asked_and_left_as_it_was(
    test: &TestContext,
    stack: &Stack,
    (services, authority): (&Services, &Authority),
) -> Result<()> {
    stack.wait_condition("PreflightPassed", "True", "Ready", READY_WITHIN).await?;
    let ready = stack.wait_condition("BucketReady", "True", "Ready", READY_WITHIN).await?;
    ensure!(ready.message.is_empty(), "something is told of the bucket: {}", ready.message);
    let jobs = test.list(&stack.namespace, "jobs", "app.kubernetes.io/component=preflight").await?;
    ensure!(jobs.len() == 1, "it is asked {} times", jobs.len());
    let left = services.bucket(test, "s3", authority).await?.keys("").await?;
    let left: Vec<_> = left.into_iter().filter(|key| key.contains("_preflight/")).collect();
    ensure!(left.is_empty(), "the bucket has {left:?}");
    Ok(())
}

/// Through every service, and the Ingress.
pub(super) async fn receipts_are_served(
    test: &TestContext,
    stack: &Stack,
    services: &Services,
    authority: &Authority,
) -> Result<()> {
    let app = test.https_app(stack, authority).await?;
    let receipt = test.first_receipt(&app, "cassava 300").await?;
    app.check(&receipt).await?;
    services.has(test, &receipt).await?;
    test.wait_routed(&test.ingress.over_https(&authority.pem()), &test.host("admin"), "/").await
}

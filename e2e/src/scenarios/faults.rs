//! Mistakes that users make: a condition names the object and the way out, running pods are not affected, and the condition
//! ends as soon as the user mends the mistake, without a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kit::{API, App, Observed, Stack, TestContext};

const REPORTED_WITHIN: Duration = Duration::from_mins(1);
const READY_WITHIN: Duration = Duration::from_mins(3);
/// Part of each password, to search for where no password may be.
const SECRET: &str = "hunter2";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    bad_specs_are_refused(test).await?;
    let stack = test.apply_example("development.yaml", |_| {}).await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    pods_that_cannot_run(test, &stack, &app).await?;
    services_that_cannot_be_used(test, &stack.connection().await?).await
}

/// By the API server, before anything is stored: the field is named, and what to write instead.
async fn bad_specs_are_refused(test: &TestContext) -> Result<()> {
    let cases: [(&str, Value, &[&str]); 4] = [
        ("api", json!({"image": "https://ghcr.io/rorun/api"}), &["spec.api.image", "without https://"]),
        ("api", json!({"image": API, "autoscaling": {"minReplicas": 5, "maxReplicas": 2}}), &["spec.api.autoscaling"]),
        (
            "database",
            json!({"embedded": {}, "external": {"secretRef": {"name": "db"}}}),
            &["spec.database", "exactly one of embedded, external, cloudNativePG and rds"],
        ),
        ("environment", json!("Testing"), &["spec.environment", "\"Development\", \"Staging\", \"Production\""]),
    ];
    for (field, value, words) in cases {
        let refused = test.apply_example("development.yaml", |stack| stack["spec"][field] = value.clone()).await;
        let Err(error) = refused else { anyhow::bail!("{field}: {value} was accepted") };
        let message = format!("{error:#}");
        for word in words {
            ensure!(message.contains(word), "the refusal of {field}: {value} does not say {word}: {message}");
        }
    }
    let left = test.list(&test.namespace, "rorunstacks", "").await?;
    ensure!(left.is_empty(), "something was stored: {left:?}");
    Ok(())
}

/// The pods that ran before go on serving, so a bad change is no outage.
async fn pods_that_cannot_run(test: &TestContext, stack: &Stack, app: &App) -> Result<()> {
    let receipt = test.first_receipt(app, "a bunch of plantain, 2500").await?;
    // At an address where no server listens: the kubelet fails at once instead of after an answer of a registry.
    let missing = "localhost:1/rorun/rorun-api:9.9.9";
    let bad_pods = async {
        stack.patch_spec(json!({"api": {"image": missing}})).await?;
        let words = [missing, "check the image's name and tag"];
        reported(stack, "ApiReady", "ImagePullFailed", &words).await?;
        app.check(&receipt).await?;

        let much = json!({"image": API, "resources": {"requests": {"cpu": "64"}}});
        stack.patch_spec(json!({"api": much})).await?;
        reported(stack, "ApiReady", "Unschedulable", &["Insufficient cpu", "change the resources"]).await?;
        app.check(&receipt).await
    };
    app.unnoticed("pods that cannot start", Box::pin(bad_pods)).await?;

    // Without Redis the API itself answers that it is not healthy.
    embedded_services_recover(stack).await?;
    // A node learns that the pod serves again some time after the API server has.
    let what = format!("{} to reach Redis again", app.host);
    test.wait(&what, REPORTED_WITHIN, async || Ok(Observed::Met(app.check(&receipt).await?))).await?;

    let missing_secret = async {
        let little = json!({"resources": {"requests": {"cpu": "10m"}}, "envFrom": [{"secretRef": {"name": "mail"}}]});
        stack.patch_spec(json!({"api": little})).await?;
        let words = ["secret/mail", "named by api.envFrom", "create it in the stack's namespace"];
        reported(stack, "ApiReady", "ReferenceMissing", &words).await?;
        app.check(&receipt).await?;

        test.secret("mail", json!({"MAIL_TOKEN": SECRET})).await?;
        stack.wait_ready(READY_WITHIN).await?;
        app.check(&receipt).await
    };
    app.unnoticed("a Secret that is missing", Box::pin(missing_secret)).await
}

/// The StatefulSet controller does not replace a pod that is not ready, so the operator does once the user mends the mistake.
async fn embedded_services_recover(stack: &Stack) -> Result<()> {
    let missing = "localhost:1/valkey/valkey:0";
    stack.patch_spec(json!({"redis": {"embedded": {"image": missing}}})).await?;
    reported(stack, "RedisReady", "ImagePullFailed", &[missing]).await?;
    stack.patch_spec(json!({"redis": {"embedded": {"image": null}}})).await?;
    stack.wait_condition("RedisReady", "True", "Ready", READY_WITHIN).await.map(drop)
}

/// Each condition reports on its own service, and all mistakes are reported at once.
async fn services_that_cannot_be_used(test: &TestContext, of: &BTreeMap<String, String>) -> Result<()> {
    let value = |key: &str| of.get(key).cloned().with_context(|| format!("no {key} in the connection Secret"));
    let bucket = value("S3_BUCKET")?;
    let stack = test
        .apply_example("external-services.yaml", |stack| {
            stack["metadata"]["name"] = json!("borrower");
            let spec = &mut stack["spec"];
            for service in ["redis", "bucket"] {
                spec[service]["external"].as_object_mut().map(|external| external.remove("tls"));
            }
            spec["bucket"]["external"]["endpoint"] = json!(of["S3_ENDPOINT"]);
            spec["bucket"]["external"]["name"] = json!("no-such-bucket");
        })
        .await?;
    for kind in ["DatabaseReady", "RedisReady", "BucketReady"] {
        reported(&stack, kind, "ReferenceMissing", &["secret/services", "create it in the stack's namespace"]).await?;
    }
    stack.wait_condition("Stalled", "True", "ReferenceMissing", REPORTED_WITHIN).await?;

    let (id, key) = (value("AWS_ACCESS_KEY_ID")?, value("AWS_SECRET_ACCESS_KEY")?);
    let (database, redis) = (value("DATABASE_URL")?, value("REDIS_URL")?);
    let slash = format!("postgresql://rorun:{SECRET}/x@db.example.com/rorun");
    test.secret("services", json!({"pooled": slash, "direct": database, "id": id, "key": key})).await?;
    reported(&stack, "DatabaseReady", "InvalidValue", &["pooled", "secret/services"]).await?;
    reported(&stack, "RedisReady", "KeyMissing", &["cache", "add it, or name the right key"]).await?;
    // The operator sends keys of other names to no server before the owner of the Secret says that they are meant for S3.
    stack.wait_condition("BucketReady", "Unknown", "NotProbed", REPORTED_WITHIN).await?;
    test.kubectl(&["label", "secret", "services", "rorun.app/s3=true", "--namespace", &test.namespace]).await?;
    reported(&stack, "BucketReady", "NotFound", &["no-such-bucket"]).await?;

    let stranger = database.replacen(&value("PGPASSWORD")?, SECRET, 1);
    let nowhere = format!("redis://:{SECRET}@nowhere.{}.svc:6379", test.namespace);
    let keys = json!({"pooled": stranger, "direct": stranger, "cache": nowhere, "id": id, "key": SECRET});
    test.secret("services", keys).await?;
    reported(&stack, "DatabaseReady", "AuthenticationFailed", &["check the credentials in its Secret"]).await?;
    reported(&stack, "RedisReady", "Unreachable", &["nowhere", "check that it runs"]).await?;
    reported(&stack, "BucketReady", "AuthenticationFailed", &["check the credentials in its Secret"]).await?;
    nothing_is_given_away(test).await?;

    let keys = json!({"pooled": database, "direct": database, "cache": redis, "id": id, "key": key});
    test.secret("services", keys).await?;
    stack.patch_spec(json!({"bucket": {"external": {"name": bucket}}})).await?;
    stack.wait_ready(READY_WITHIN).await.map(drop)
}

/// The condition of the component, with these words. If it is the root cause, `Ready` says the same, and so does an Event.
async fn reported(stack: &Stack, kind: &str, reason: &str, words: &[&str]) -> Result<()> {
    let component = kind.trim_end_matches("Ready").to_lowercase();
    stack.wait_condition(kind, "False", reason, REPORTED_WITHIN).await?;
    let status = stack.status().await?;
    let root = status.condition("Ready").context("no condition Ready")?;
    ensure!(root.status == "False", "{kind} is {reason}, and the stack is Ready");
    let is_root = root.message.starts_with(&format!("{component}: "));
    let message = if is_root { root.message } else { status.condition(kind).unwrap_or_default().message };
    for word in words {
        ensure!(message.contains(word), "{kind} is {reason} and does not say {word}: {message}");
    }
    ensure!(is_root || component != "api", "the API is at fault, and Ready says {}", status.line("Ready"));
    if !is_root {
        return Ok(());
    }
    stack.wait_event(reason, REPORTED_WITHIN).await
}

/// No value of a Secret is in places that users without the right to read Secrets may read.
async fn nothing_is_given_away(test: &TestContext) -> Result<()> {
    let read = ["get", "rorunstacks,events,pods,deployments,configmaps,cronjobs", "--output=json"];
    let observed = test.kubectl(&[&read[..], &["--namespace", &test.namespace]].concat()).await?;
    ensure!(!observed.contains(SECRET), "a password is in an object that is not a Secret");
    for pod in test.ready_operators().await? {
        let log = test.kubectl(&["logs", "--namespace", crate::engine::cluster::OPERATOR_NAMESPACE, &pod]).await?;
        ensure!(!log.contains(SECRET), "a password is in the log of {pod}");
    }
    Ok(())
}

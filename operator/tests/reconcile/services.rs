//! Real services outside of the cluster, and what the operator says of them: once, and not again.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use super::{
    env::{Operator, TestEnv},
    preflights::until_job,
    rules::ends,
    servers::{PASSWORD, Servers},
};

const NAMESPACE: &str = "outside";

/// More connections than the database allows.
fn spec(servers: &Servers) -> Value {
    json!({
        "environment": "Development",
        "api": {"image": "rorun-api:1", "databaseConnections": 500},
        "database": {"external": {"secretRef": {"name": "services"}}},
        "redis": {"external": {"secretRef": {"name": "services"}}},
        "bucket": {"external": {"name": "probe", "endpoint": format!("http://127.0.0.1:{}", servers.s3_port),
            "credentialsSecretRef": {"name": "services"}}},
        "backup": {},
    })
}

/// A new process asks all of them again, which is no news.
pub async fn what_services_say_is_written_once(env: &TestEnv) {
    let servers = Servers::shared().await;
    let operator = env.operator_with(&["--probe-allow-loopback=true"]).await;
    env.namespace(NAMESPACE).await;
    let secret = json!({"metadata": {"name": "services"}, "stringData": {
        "DATABASE_URL": servers.database_url("postgres"),
        "REDIS_URL": format!("redis://:{PASSWORD}@127.0.0.1:{}", servers.redis_port),
        "AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": PASSWORD,
    }});
    let secrets: Api<Secret> = Api::namespaced(env.client.clone(), NAMESPACE);
    let secret = serde_json::from_value(secret).expect("a Secret");
    secrets.create(&PostParams::default(), &secret).await.expect("the Secret is made");
    env.submit(NAMESPACE, spec(&servers)).await;
    let message = env.until_reason(NAMESPACE, "DatabaseReady", "TooFewConnections").await;
    assert!(message.contains("(api 2 pods x 500, dumps, migrations and the operator 4)"), "{message}");
    let asks = until_job(env, NAMESPACE, None).await;
    ends(env, NAMESPACE, &asks, ("Complete", "SuccessCriteriaMet"), &json!({"answers": []})).await;
    env.until_reason(NAMESPACE, "PreflightPassed", "Ready").await;
    env.settled(NAMESPACE).await;
    let before = told(env).await;
    let rows = before["services"].as_array().expect("rows");
    let names: Vec<_> = rows.iter().map(|row| (row["name"].as_str(), row["verdict"].as_str())).collect();
    assert_eq!(names, ["database", "redis", "bucket"].map(|name| (Some(name), Some("ok"))), "{before}");
    assert_eq!(rows[0]["connections"], json!({"needed": 1004, "available": 100, "others": 0}), "{before}");
    assert!(rows[0]["version"].is_string() && rows[1]["version"].is_string(), "{before}");
    assert!(!before.to_string().contains(PASSWORD), "a secret in {before}");
    // By what it says of itself: nobody named an image.
    let major = rows[0]["version"].as_str().and_then(|version| version.split('.').next()).expect("a version");
    let dumps = env.objects("CronJob", NAMESPACE).get("shop-backup").await.expect("the CronJob");
    let image = &dumps.data["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, &format!("postgres:{major}"));
    all_are_asked(env, &operator).await;
    operator.kill();
    let mark = env.mark();
    let operator = env.operator_with(&["--probe-allow-loopback=true", "--resync-period=1s"]).await;
    all_are_asked(env, &operator).await;
    let resynced = operator.reconciles().await + 2;
    env.until("it is reconciled again", async || operator.reconciles().await >= resynced).await;
    assert_eq!(told(env).await, before);
    // A new process has to read the URLs.
    let calls = env.calls(NAMESPACE, mark).into_iter();
    let calls: Vec<_> = calls.map(|call| format!("{} {}/{}", call.verb, call.resource, call.name)).collect();
    assert_eq!(calls, ["get secrets/services"]);
    // What the user mends is told without another change.
    let mut mended = spec(&servers);
    mended["api"]["databaseConnections"] = json!(48);
    env.apply(NAMESPACE, mended).await;
    let (status, reason, message) = env.condition(NAMESPACE, "DatabaseReady").await;
    assert_eq!((status.as_str(), reason.as_str(), message.as_str()), ("True", "Ready", ""));
}

/// As the metrics of this process show it.
async fn all_are_asked(env: &TestEnv, operator: &Operator) {
    env.until("each service has answered", async || {
        let metrics = operator.metrics().await;
        let of = |service: &str| format!("namespace=\"{NAMESPACE}\",service=\"{service}\"}} ");
        ["database", "redis", "bucket"].iter().all(|service| metrics.contains(&of(service)))
    })
    .await;
}

/// The status, whose moments are of no concern here: nothing is written again.
async fn told(env: &TestEnv) -> Value {
    let stack = env.stacks(NAMESPACE).get("shop").await.expect("the stack");
    serde_json::to_value(stack.status).expect("a status")
}

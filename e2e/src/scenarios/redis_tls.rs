//! An embedded Redis that begins to speak TLS: with the queue that it had, by the authority that the operator gives the
//! application, and with a renewed certificate.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::kit::{Authority, Stack, TestContext};

const READY_WITHIN: Duration = Duration::from_mins(3);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = test.apply_example("development.yaml", |_| {}).await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    let receipt = test.first_receipt(&app, "3 tins of milk, 900").await?;
    stack.patch_spec(json!({"redis": {"embedded": {"tlsSecretRef": {"name": "redis-tls"}}}})).await?;
    let missing = stack.wait_condition("RedisReady", "False", "ReferenceMissing", READY_WITHIN).await?;
    ensure!(missing.message.contains("redis.embedded.tlsSecretRef"), "{}", missing.message);
    app.check(&receipt).await?;

    let authority = Authority::create("rorun-e2e")?;
    let host = format!("{}.{}.svc", stack.child("redis"), test.namespace);
    test.server_secret("redis-tls", &authority.issue(&[&host])?, &authority).await?;
    stack.wait_ready(READY_WITHIN).await?;
    test.wait_served(&app, &receipt).await?;
    let queued = ask(test, &stack, "--tls --cacert /run/rorun-tls/ca.crt", "LRANGE receipts 0 -1").await?;
    ensure!(queued.lines().any(|id| *id == receipt.id), "Redis has the queue {queued}");
    let clear = ask(test, &stack, "", "PING").await?;
    ensure!(
        clear.contains("Connection reset by peer") || clear.contains("closed the connection"),
        "without TLS: {clear}"
    );

    // A renewed certificate of the same authority.
    let (redis, api) = (stack.pod_uids(Some("redis")).await?, stack.pod_uids(Some("api")).await?);
    test.server_secret("redis-tls", &authority.issue(&[&host])?, &authority).await?;
    stack.wait_replaced("redis", &redis, READY_WITHIN).await?;
    test.wait_served(&app, &receipt).await?;
    // One of before the switch to TLS may have been about to go.
    let now = stack.pod_uids(Some("api")).await?;
    let stays = now.iter().all(|(name, uid)| api.get(name) == Some(uid));
    ensure!(stays, "the application was replaced for a certificate of the same authority: {now:?} instead of {api:?}");
    Ok(())
}

/// As the user of the application, in the pod of Redis.
async fn ask(test: &TestContext, stack: &Stack, options: &str, command: &str) -> Result<String> {
    let script = format!("redis-cli --user \"$REDIS_USERNAME\" {options} {command} 2>&1 || true");
    test.exec(&test.namespace, &stack.pod("redis").await?, &["sh", "-c", &script]).await
}

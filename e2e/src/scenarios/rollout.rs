//! A new release of the API, and a new value in a Secret of the user: the operator replaces the pods that they reach and no
//! others, and no request fails.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::kit::{API_NEXT, App, Stack, TestContext};
use crate::engine::progress;

const ROLLED_WITHIN: Duration = Duration::from_mins(2);
const OTHERS: [&str; 4] = ["ocr", "database", "redis", "bucket"];

pub(super) async fn run(test: &TestContext) -> Result<()> {
    test.secret("mail", json!({"MAIL_TOKEN": "first"})).await?;
    let stack = test
        .apply_example("development.yaml", |stack| {
            stack["spec"]["api"]["envFrom"] = json!([{"secretRef": {"name": "mail"}}]);
        })
        .await?;
    stack.wait_ready(Duration::from_mins(3)).await?;
    let app = test.app(&stack).await?;
    a_new_release_goes_unnoticed(test, &stack, &app).await?;
    a_rotated_secret_replaces_its_pods_only(test, &stack, &app).await
}

async fn a_new_release_goes_unnoticed(test: &TestContext, stack: &Stack, app: &App) -> Result<()> {
    let api = format!("Deployment/{}", stack.child("api"));
    let (mut before, pods) = (stack.generations().await?, pods_of_others(stack).await?);
    let (mark, old) = (test.mark().await?, stack.pod_uids(Some("api")).await?);
    let rollout = async {
        stack.patch_spec(json!({"api": {"image": API_NEXT}})).await?;
        stack.wait_replaced("api", &old, ROLLED_WITHIN).await
    };
    let ((), asked) = app.asked_while(rollout).await?;
    progress::note(&format!("a rollout of the API: {} requests, {} failed", asked.count(), asked.failed.len()));
    asked.without_failure()?;
    ensure!(app.version().await? == "1.9.0", "{} answers", app.version().await?);
    ensure!(asked.answered.len() == 2, "not both releases answered: {:?}", asked.answered);

    let mut after = stack.generations().await?;
    ensure!(before.remove(&api) != after.remove(&api), "the Deployment was not changed");
    ensure!(before == after, "more was changed than {api}: {before:?}, then {after:?}");
    ensure!(pods_of_others(stack).await? == pods, "pods of other components were replaced");
    let writes = test.operator_writes_since(mark, &test.namespace).await?.to_children();
    // The record of the release: when it is there, and when it serves.
    let (records, children): (Vec<_>, Vec<_>) =
        writes.0.iter().partition(|write| write.resource == "controllerrevisions");
    ensure!(children.len() == 1 && records.len() == 2, "not one write of a child: {:?}", writes.lines());
    Ok(())
}

async fn a_rotated_secret_replaces_its_pods_only(test: &TestContext, stack: &Stack, app: &App) -> Result<()> {
    let (old, pods) = (stack.pod_uids(Some("api")).await?, pods_of_others(stack).await?);
    let rotation = async {
        test.secret("mail", json!({"MAIL_TOKEN": "second"})).await?;
        stack.wait_replaced("api", &old, ROLLED_WITHIN).await
    };
    let ((), asked) = app.asked_while(rotation).await?;
    progress::note(&format!("a rotated Secret: {} requests, {} failed", asked.count(), asked.failed.len()));
    asked.without_failure()?;
    ensure!(pods_of_others(stack).await? == pods, "pods that do not use the Secret were replaced");
    Ok(())
}

async fn pods_of_others(stack: &Stack) -> Result<BTreeSet<String>> {
    let mut uids = BTreeSet::new();
    for component in OTHERS {
        let pods = stack.pod_uids(Some(component)).await?;
        ensure!(pods.len() == 1, "{component} has the pods {:?}", pods.keys());
        uids.extend(pods.into_values());
    }
    Ok(uids)
}

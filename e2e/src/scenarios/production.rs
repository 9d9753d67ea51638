//! A stack of Production: no migration begins without a way back, and no new image meets a user before its candidate was tested. A
//! migration that went well and did the wrong thing is undone by the commands of the runbook.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::external::services::{Issuers, Services};
use super::external::{lead_to, secrets};
use super::kit::{API_NEXT, API_TESTED, App, Authority, Stack, Status, TestContext};
use crate::engine::progress;

/// A first roll-out of two pods each on a busy machine, after a dump and a migration.
const READY_WITHIN: Duration = Duration::from_mins(5);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let authority = Authority::create("Rorun scenario production")?;
    let issuers = Issuers { postgres: &authority, redis: &authority, s3: &authority, dumps: None, clients: None };
    let services = Services::start(test, &issuers).await?;
    secrets(test, &services, &authority).await?;
    let stack = test
        .apply_example("staging.yaml", |stack| {
            lead_to(stack, &services);
            let spec = &mut stack["spec"];
            spec["environment"] = json!("Production");
            spec["backup"]["objectives"] = json!({"rpo": "2h"});
            // The panel has no part in it.
            spec.as_object_mut().map(|spec| spec.remove("admin"));
            spec["ingress"].as_object_mut().map(|ingress| ingress.remove("adminHost"));
        })
        .await?;
    stack.wait_ready(READY_WITHIN).await?;
    let first = recovery_point(&stack.status().await?)?;

    let app = test.https_app(&stack, &authority).await?;
    let ((), asked) = app
        .asked_while(async {
            stack.patch_spec(json!({"api": {"image": API_NEXT}})).await?;
            let serves = |status: &Status| {
                let release = &status.json["release"];
                status.is_current() && release["state"] == "Serving" && release["current"]["api"] == API_NEXT
            };
            stack.wait_status("the next release to serve", READY_WITHIN, serves).await.map(drop)
        })
        .await?;
    asked.without_failure()?;
    let status = stack.wait_ready(READY_WITHIN).await?;
    let current = &status.json["release"]["current"];
    ensure!(current["testedAt"].is_string() && current["migrated"] == true, "{current}");
    let second = recovery_point(&status)?;
    // The first one is of before the first migration, so it is no way back from the second.
    ensure!(first != second, "one backup is the way back from two migrations: {first}");
    progress::note(&format!("a release in Production: {} requests, {} failed", asked.count(), asked.failed.len()));

    let bucket = services.bucket(test, "s3", &authority).await?;
    let prefix = format!("backups/{}/{}/", test.namespace, stack.name);
    let keys = bucket.keys(&prefix).await?;
    for id in [&first, &second] {
        let held = keys.iter().any(|key| key.starts_with(&format!("{prefix}{id}/hold-release-")));
        let whole = keys.contains(&format!("{prefix}{id}/manifest.json"));
        ensure!(held && whole, "the backup {id} is not whole and held: {keys:?}");
    }
    stays(test, &stack).await?;
    bad_migration(test, &stack, &app).await
}

/// A migration deletes every row; the page brings back the image, and the data from before.
async fn bad_migration(test: &TestContext, stack: &Stack, app: &App) -> Result<()> {
    let receipt = test.first_receipt(app, "plantain 700").await?;
    let rows = app.list().await?.len();
    let lose = json!({"env": [{"name": "MIGRATE_MODE", "value": "lose"}]});
    stack.patch_spec(json!({"api": {"image": API_TESTED, "migrations": lose}})).await?;
    let serves = |status: &Status| {
        let release = &status.json["release"];
        status.is_current() && release["state"] == "Serving" && release["current"]["api"] == API_TESTED
    };
    stack.wait_status("the release with the migration to serve", READY_WITHIN, serves).await?;
    ensure!(app.list().await?.is_empty(), "the migration has deleted nothing");
    // An image has its migrations in it; those of the fixture are chosen by a variable, which has to go with the image.
    stack.patch_spec(json!({"api": {"migrations": {"env": null}}})).await?;
    stack.wait_status("the release without the variable to serve", READY_WITHIN, serves).await?;

    test.runbook("bad-migration.md", &test.namespace, &[("STACK", &stack.name), ("IMAGE", API_NEXT)]).await?;
    app.check(&receipt).await?;
    let back = app.list().await?;
    ensure!(back.len() == rows, "of {rows} rows there are {back:?}");
    stack.wait_ready(READY_WITHIN).await.map(drop)
}

/// The backup that the release that serves can go back to.
fn recovery_point(status: &Status) -> Result<String> {
    let point = &status.json["release"]["current"]["recoveryPoint"];
    let id = point["id"].as_str().filter(|id| !id.is_empty());
    Ok(id.with_context(|| format!("no way back: {}", status.json["release"]["current"]))?.to_owned())
}

/// Nothing is left to be written.
async fn stays(test: &TestContext, stack: &Stack) -> Result<()> {
    let mark = test.mark().await?;
    stack.patch(json!({"metadata": {"annotations": {"example.com/look": "once"}}})).await?;
    stack.wait_ready(READY_WITHIN).await?;
    let writes = test.operator_writes_since(mark, &test.namespace).await?.to_children();
    ensure!(writes.0.is_empty(), "a stack that serves is written to: {:?}", writes.lines());
    let left: Vec<Value> = stack.list("deployments").await?;
    let candidates = left.iter().filter_map(|there| there["metadata"]["name"].as_str());
    ensure!(candidates.clone().all(|name| !name.ends_with("-candidate")), "{:?}", candidates.collect::<Vec<_>>());
    Ok(())
}

//! The release of the operator gets other values, is taken away and installed again: the stacks go on as if nothing had been.
//! The scenario `upgrade` installs a new version of the operator.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::kit::{App, CHART, Observed, RELEASE, Receipt, Stack, TestContext, install};
use crate::engine::cluster::OPERATOR_NAMESPACE;
use crate::engine::progress;

const CRD: &str = "rorunstacks.rorun.app";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let played = play(test).await;
    // Whatever happened, those who come next find the operator.
    install(test).await?;
    played
}

async fn play(test: &TestContext) -> Result<()> {
    with_other_values(test).await?;
    let stack = test.apply_example("development.yaml", |_| {}).await?;
    stack.wait_ready(Duration::from_mins(3)).await?;
    let app = test.app(&stack).await?;
    let receipt = test.first_receipt(&app, "4 loaves of bread, 1000 each").await?;
    test.wait_settled_leader().await?;

    untouched(test, &stack, &app, "a change of the release", async {
        install(test).await?;
        test.wait_settled_leader().await.map(drop)
    })
    .await?;
    untouched(test, &stack, &app, "an uninstallation", uninstall(test, &stack)).await?;
    app.check(&receipt).await?;
    app.check(&app.send("1 tin of tomatoes, 700").await?).await?;
    untouched(test, &stack, &app, "an installation beside a stack", async {
        install(test).await?;
        test.wait_settled_leader().await.map(drop)
    })
    .await?;
    stack.wait_ready(Duration::from_secs(30)).await?;
    served_by_a_new_operator(&stack, &app, &receipt).await
}

/// The same operator by a chart of another number, with other values.
async fn with_other_values(test: &TestContext) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CHART).display().to_string();
    let to = folder.path().display().to_string();
    test.helm(&["package", &chart, "--version=0.0.9", "--destination", &to]).await?;
    let packaged = folder.path().join(format!("{RELEASE}-0.0.9.tgz"));
    test.upgrade_operator(&packaged, &["--set=concurrency=2", "--set=logLevel=debug"]).await?;
    let installed = test.helm(&["list", "--namespace", OPERATOR_NAMESPACE]).await?;
    ensure!(installed.contains("0.0.9"), "the release with other values is not installed: {installed}");
    Ok(())
}

/// Does something to the operator, and checks that it wrote nothing, that all pods and children are those of before,
/// and that every request was answered meanwhile.
async fn untouched(
    test: &TestContext,
    stack: &Stack,
    app: &App,
    what: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (pods, children) = (stack.pod_uids(None).await?, stack.generations().await?);
    let mark = test.mark().await?;
    let ((), asked) = app.asked_while(work).await.with_context(|| what.to_owned())?;
    asked.without_failure().with_context(|| what.to_owned())?;
    let writes = test.operator_writes_since(mark, &test.namespace).await?;
    ensure!(writes.0.is_empty(), "{what}: the operator wrote {:#?}", writes.lines());
    ensure!(stack.pod_uids(None).await? == pods, "{what}: pods were replaced");
    ensure!(stack.generations().await? == children, "{what}: children were changed");
    progress::note(&format!("{what}: {} requests, none failed, nothing written", asked.count()));
    Ok(())
}

async fn uninstall(test: &TestContext, stack: &Stack) -> Result<()> {
    test.helm(&["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout=120s"]).await?;
    test.wait("the operator to be gone", Duration::from_mins(1), async || {
        let left = test.operator_pods().await?.len();
        Ok(Observed::when(left == 0, format!("{left} pods are left")))
    })
    .await?;
    let definition = test.kubectl(&["get", "crd", CRD, "--ignore-not-found", "--output=name"]).await?;
    ensure!(definition.contains(CRD), "the CustomResourceDefinition is gone");
    stack.resource().await.context("the stack is gone")?;
    Ok(())
}

/// The operator reconciles the stack again: it carries out a change.
async fn served_by_a_new_operator(stack: &Stack, app: &App, receipt: &Receipt) -> Result<()> {
    stack.patch_spec(serde_json::json!({"api": {"podAnnotations": {"team": "shop"}}})).await?;
    stack.wait_ready(Duration::from_mins(2)).await?;
    app.check(receipt).await
}

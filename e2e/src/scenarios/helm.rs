//! The release of the operator gets other values, is taken away and installed again: the stacks go on as if nothing had been.
//! What a new version of the operator does to them is another scenario, `upgrade`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::kit::{App, CHART, RELEASE, Receipt, Scene, Seen, Stack, install};
use crate::engine::cluster::OPERATOR_NAMESPACE;
use crate::engine::progress;

const CRD: &str = "rorunstacks.rorun.app";

pub(super) async fn run(scene: &Scene) -> Result<()> {
    let played = play(scene).await;
    // Whatever happened, those who come next find the operator.
    install(scene).await?;
    played
}

async fn play(scene: &Scene) -> Result<()> {
    with_other_values(scene).await?;
    let stack = scene.apply_example("development.yaml", |_| {}).await?;
    stack.wait_ready(Duration::from_mins(3)).await?;
    let app = scene.app(&stack).await?;
    let receipt = scene.first_receipt(&app, "4 loaves of bread, 1000 each").await?;
    scene.wait_settled_leader().await?;

    untouched(scene, &stack, &app, "a change of the release", async {
        install(scene).await?;
        scene.wait_settled_leader().await.map(drop)
    })
    .await?;
    untouched(scene, &stack, &app, "an uninstallation", uninstall(scene, &stack)).await?;
    app.check(&receipt).await?;
    app.check(&app.send("1 tin of tomatoes, 700").await?).await?;
    untouched(scene, &stack, &app, "an installation beside a stack", async {
        install(scene).await?;
        scene.wait_settled_leader().await.map(drop)
    })
    .await?;
    stack.wait_ready(Duration::from_secs(30)).await?;
    served_by_a_new_operator(&stack, &app, &receipt).await
}

/// The same operator by a chart of another number, with other values.
async fn with_other_values(scene: &Scene) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CHART).display().to_string();
    let to = folder.path().display().to_string();
    scene.helm(&["package", &chart, "--version=0.0.9", "--destination", &to]).await?;
    let packaged = folder.path().join(format!("{RELEASE}-0.0.9.tgz"));
    scene.upgrade_operator(&packaged, &["--set=concurrency=2", "--set=logLevel=debug"]).await?;
    let installed = scene.helm(&["list", "--namespace", OPERATOR_NAMESPACE]).await?;
    ensure!(installed.contains("0.0.9"), "the release with other values is not installed: {installed}");
    Ok(())
}

/// Does something to the operator, and checks that it wrote nothing, that all pods and children are those of before,
/// and that every request was answered meanwhile.
async fn untouched(
    scene: &Scene,
    stack: &Stack,
    app: &App,
    what: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (pods, children) = (stack.pod_uids(None).await?, stack.generations().await?);
    let mark = scene.mark().await?;
    let ((), asked) = app.asked_while(work).await.with_context(|| what.to_owned())?;
    asked.without_failure().with_context(|| what.to_owned())?;
    let writes = scene.operator_writes_since(mark, &scene.namespace).await?;
    ensure!(writes.0.is_empty(), "{what}: the operator wrote {:#?}", writes.lines());
    ensure!(stack.pod_uids(None).await? == pods, "{what}: pods were replaced");
    ensure!(stack.generations().await? == children, "{what}: children were changed");
    progress::note(&format!("{what}: {} requests, none failed, nothing written", asked.count()));
    Ok(())
}

async fn uninstall(scene: &Scene, stack: &Stack) -> Result<()> {
    scene.helm(&["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout=120s"]).await?;
    scene
        .wait("the operator to be gone", Duration::from_mins(1), async || {
            let left = scene.operator_pods().await?.len();
            Ok(Seen::when(left == 0, format!("{left} pods are left")))
        })
        .await?;
    let definition = scene.kubectl(&["get", "crd", CRD, "--ignore-not-found", "--output=name"]).await?;
    ensure!(definition.contains(CRD), "the CustomResourceDefinition is gone");
    stack.resource().await.context("the stack is gone")?;
    Ok(())
}

/// It looks after the stack again: a change is carried out.
async fn served_by_a_new_operator(stack: &Stack, app: &App, receipt: &Receipt) -> Result<()> {
    stack.patch_spec(serde_json::json!({"api": {"podAnnotations": {"team": "shop"}}})).await?;
    stack.wait_ready(Duration::from_mins(2)).await?;
    app.check(receipt).await
}

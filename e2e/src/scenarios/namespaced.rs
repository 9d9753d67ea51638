//! An operator that watches one namespace, and has no `ClusterRole`: it reconciles the stacks of that namespace, down to the last
//! drift, and cannot read other namespaces.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::kit::{CHART, Observed, RELEASE, TestContext, install, project};
use crate::engine::cluster::OPERATOR_NAMESPACE;

const REPAIRED_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let elsewhere = test.namespace_called("elsewhere").await?;
    let played = play(test, &elsewhere).await;
    // Whatever happened, the next scenarios find the operator as it was.
    install(test).await?;
    played
}

async fn play(test: &TestContext, elsewhere: &str) -> Result<()> {
    let watched = format!("watchNamespaces={{{}}}", test.namespace);
    test.upgrade_operator(&project().join(Path::new(CHART)), &["--set", &watched]).await?;
    test.wait_leader().await?;
    nothing_is_of_the_cluster(test, elsewhere).await?;

    let documents = test.example("minimal.yaml")?;
    let unseen = documents.in_namespace(elsewhere)?.0;
    test.apply_objects(&unseen).await?;
    let stack = test.apply_example("development.yaml", |_| {}).await?;
    stack.wait_ready(Duration::from_mins(3)).await?;
    let app = test.app(&stack).await?;
    app.check(&test.first_receipt(&app, "3 crates of eggs, 4500 each").await?).await?;

    let service = stack.child("api");
    test.kubectl(&["delete", "--namespace", &test.namespace, "service", &service]).await?;
    let what = format!("the Service {service} to be made again");
    test.wait(&what, REPAIRED_WITHIN, async || {
        let found = test.get(&test.namespace, "service", &service).await?;
        Ok(Observed::when(!found.is_null(), "it is not there"))
    })
    .await?;

    let children = test.list(elsewhere, "deployments,statefulsets,secrets,services", "").await?;
    ensure!(children.is_empty(), "something was made in a namespace that is not watched: {children:?}");
    Ok(())
}

/// Neither by name nor by what the API server says to the operator's ServiceAccount.
async fn nothing_is_of_the_cluster(test: &TestContext, elsewhere: &str) -> Result<()> {
    let of_release = format!("app.kubernetes.io/instance={RELEASE}");
    let kinds = "clusterroles,clusterrolebindings";
    let found = test.kubectl(&["get", kinds, "--selector", &of_release, "--output=name"]).await?;
    ensure!(found.trim().is_empty(), "the release has {found}");
    let operator = format!("--as=system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}");
    for (namespace, expected) in [(test.namespace.as_str(), true), (elsewhere, false)] {
        // It ends with an error when the answer is no.
        let may = test.kubectl(&["auth", "can-i", "list", "secrets", "--namespace", namespace, &operator]).await;
        ensure!(may.is_ok() == expected, "the operator may list Secrets in {namespace}: {may:?}");
    }
    Ok(())
}

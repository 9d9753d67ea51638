//! The operator that was released before, out of its own sources and by its own chart, makes stacks and backs one up; this one takes
//! its place by a plain `helm upgrade`. The users of the stacks notice nothing: no pod is replaced, the selectors of
//! workloads and Services stay, the data and the backup exist, and after one reconcile of each stack the operator writes
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::kit::{
    App, BackupRecord, Bucket, Observed, Previous, Receipt, Stack, TestCluster, TestContext, install, load_operator,
};
use crate::engine::progress;

const READY_WITHIN: Duration = Duration::from_mins(3);
/// Workloads and Services.
const SELECTING: &str = "deployments,statefulsets,services";
/// A schedule that does not fire meanwhile.
const NEVER: &str = "0 0 29 2 *";
/// The Secret that the second stack gets its services from.
const SERVICES: &str = "services";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let played = play(test).await;
    // Whatever happened, those who come next find the operator of these sources.
    install(test).await?;
    played
}

/// A stack, and the state that must not change.
struct Before {
    stack: Stack,
    pods: BTreeMap<String, String>,
    selecting: BTreeMap<String, Value>,
}

async fn play(test: &TestContext) -> Result<()> {
    install_previous(test).await?;
    let embedded = test.apply_example("development.yaml", |stack| back_up(&mut stack["spec"])).await?;
    embedded.wait_ready(READY_WITHIN).await?;
    let app = test.app(&embedded).await?;
    let receipt = test.first_receipt(&app, "7 tubers of yam, 1200 each").await?;
    let backup = test.run_backup(&embedded, "before-the-upgrade").await?;
    let external = beside(test, &embedded).await?;
    let external_app = test.app(&external).await?;
    test.first_receipt(&external_app, "1 keg of palm oil, 9000").await?;
    test.wait_settled_leader().await?;

    let rows = app.list().await?;
    let data = retained(test).await?;
    ensure!(data.len() == 6, "not three volumes and three Secrets with credentials: {:?}", data.keys());
    let before = [Before::of(embedded.clone()).await?, Before::of(external).await?];
    upgrade(test, &app).await?;
    for stack in &before {
        stack.is_as_it_was().await?;
    }
    ensure!(retained(test).await? == data, "volumes or credentials are not those of before");
    ensure!(app.list().await? == rows, "there are other rows than before the upgrade");
    app.check(&receipt).await?;
    the_backup_is_kept(test, &embedded, &backup).await?;
    for stack in &before {
        stack.is_as_it_was().await?;
    }
    nothing_is_written_any_more(test).await?;
    looked_after(&before, &app, &receipt).await
}

/// The chart of the release before over this one's: a downgrade, as helm sees it.
async fn install_previous(test: &TestContext) -> Result<()> {
    let cluster = test.cluster.clone();
    let previous = tokio::task::spawn_blocking(move || -> Result<Previous> {
        let previous = Previous::build(cluster.cache())?;
        load_operator(&cluster, &previous.image, &previous.program)?;
        Ok(previous)
    });
    let previous = previous.await.context("building the release before panicked")??;
    let tag = previous.image.rsplit(':').next().unwrap_or_default();
    test.upgrade_operator(&previous.chart, &["--set-string", &format!("image.tag={tag}")]).await?;
    test.wait_leader().await?;
    // A pod of the release after may still be shutting down.
    test.wait("only the release before to run", READY_WITHIN, async || {
        let running = images(test).await?;
        let alone = running.iter().all(|image| *image == previous.image);
        Ok(Observed::when(alone, format!("the operators run {running:?}")))
    })
    .await
}

/// The images that the pods of the operator run.
async fn images(test_cluster: &TestCluster) -> Result<Vec<String>> {
    let pods = test_cluster.operator_pods().await?;
    let containers = pods.into_iter().filter_map(|pod| pod.spec).flat_map(|spec| spec.containers);
    Ok(containers.filter_map(|container| container.image).collect())
}

fn back_up(spec: &mut Value) {
    spec["deletionPolicy"] = json!("Retain");
    spec["backup"] = json!({
        "schedule": NEVER,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    });
}

/// A stack with external services: those of the first stack, by a Secret of the user.
async fn beside(test: &TestContext, embedded: &Stack) -> Result<Stack> {
    let connection = embedded.connection().await?;
    let value = |key: &str| connection.get(key).cloned().with_context(|| format!("the connection has no {key}"));
    test.secret(
        SERVICES,
        json!({
            "DATABASE_URL": value("DATABASE_URL")?,
            "REDIS_URL": value("REDIS_URL")?,
            "AWS_ACCESS_KEY_ID": value("AWS_ACCESS_KEY_ID")?,
            "AWS_SECRET_ACCESS_KEY": value("AWS_SECRET_ACCESS_KEY")?,
        }),
    )
    .await?;
    let (bucket, endpoint) = (value("S3_BUCKET")?, value("S3_ENDPOINT")?);
    let host = test.host("external");
    let stack = test
        .apply_example("development.yaml", |stack| {
            let from = json!({"name": SERVICES});
            stack["metadata"]["name"] = json!("external");
            let spec = &mut stack["spec"];
            spec["database"] = json!({"external": {"secretRef": from}});
            spec["redis"] = json!({"external": {"secretRef": from}});
            spec["bucket"] = json!({"external": {"name": bucket, "endpoint": endpoint, "credentialsSecretRef": from}});
            spec["ingress"]["host"] = json!(host);
        })
        .await?;
    stack.wait_ready(READY_WITHIN).await?;
    Ok(stack)
}

impl Before {
    async fn of(stack: Stack) -> Result<Before> {
        let (pods, selecting) = (serving(&stack).await?, selecting(&stack).await?);
        ensure!(!pods.is_empty() && selecting.len() >= 3, "{} has only {pods:?} and {selecting:?}", stack.name);
        Ok(Before { stack, pods, selecting })
    }

    async fn is_as_it_was(&self) -> Result<()> {
        let name = &self.stack.name;
        let pods = serving(&self.stack).await?;
        ensure!(pods == self.pods, "the pods of {name} are {pods:?}, and were {:?}", self.pods);
        let restarted: Vec<_> = self.stack.restarts().await?.into_iter().filter(|(_, count)| *count > 0).collect();
        ensure!(restarted.is_empty(), "containers of {name} were restarted: {restarted:?}");
        let now = selecting(&self.stack).await?;
        for (what, before) in &self.selecting {
            let now = now.get(what);
            ensure!(now == Some(before), "{what} of {name} is {now:?}, and was {before}");
        }
        Ok(())
    }
}

/// The uid of each pod by its name. Those of Jobs come and go.
async fn serving(stack: &Stack) -> Result<BTreeMap<String, String>> {
    let of_job = |pod: &Pod| pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "Job");
    let pods = stack.pods(None).await?.into_iter().filter(|pod| !of_job(pod)).map(|pod| pod.metadata);
    Ok(pods.map(|pod| (pod.name.unwrap_or_default(), pod.uid.unwrap_or_default())).collect())
}

/// Of each workload and Service: its uid, its selector, and its pod template.
async fn selecting(stack: &Stack) -> Result<BTreeMap<String, Value>> {
    let found = stack.list(SELECTING).await?;
    let entry = |object: Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let kept = json!({
            "uid": object["metadata"]["uid"],
            "selector": object["spec"]["selector"],
            "template": object["spec"]["template"],
            "ports": object["spec"]["ports"],
        });
        (format!("{kind}/{name}"), kept)
    };
    Ok(found.into_iter().map(entry).collect())
}

/// The volumes and the credentials of the test: which object each is, and what it holds.
async fn retained(test: &TestContext) -> Result<BTreeMap<String, Value>> {
    let found = test.list(&test.namespace, "persistentvolumeclaims,secrets", "").await?;
    let entry = |object: Value| {
        let (kind, name) = (object["kind"].as_str()?, object["metadata"]["name"].as_str()?);
        let kept = kind == "PersistentVolumeClaim" || name.ends_with("-credentials");
        let held = json!([object["metadata"]["uid"], object["data"], object["spec"]["volumeName"]]);
        kept.then(|| (format!("{kind}/{name}"), held))
    };
    Ok(found.into_iter().filter_map(entry).collect())
}

/// This operator by its chart, while the stack is used.
async fn upgrade(test: &TestContext, app: &App) -> Result<()> {
    let mark = test.mark().await?;
    let work = async {
        install(test).await?;
        test.wait_settled_leader().await.map(drop)
    };
    let ((), asked) = app.asked_while(work).await.context("the upgrade")?;
    asked.without_failure().context("the upgrade")?;
    let writes = test.operator_writes_since(mark, &test.namespace).await?.done().to_children();
    progress::note(&format!(
        "the upgrade: {} requests, none failed; {} children written: {:?}",
        asked.count(),
        writes.0.len(),
        writes.lines()
    ));
    let deleted: Vec<_> = writes.0.iter().filter(|call| call.verb.starts_with("delete")).collect();
    ensure!(deleted.is_empty(), "the new operator deleted {deleted:?}");
    Ok(())
}

/// The backup of the release before is known and stays, also when this one has made one more.
async fn the_backup_is_kept(test: &TestContext, stack: &Stack, backup: &BackupRecord) -> Result<()> {
    let known = stack.wait_ready(READY_WITHIN).await?.last_backup();
    ensure!(known.as_ref() == Some(backup), "the last backup was {backup:?}, and is {known:?}");
    let bucket = Bucket::of(test, stack).await?;
    let (_, manifest) = backup.location.trim_start_matches("s3://").split_once('/').context("a location has a key")?;
    let before = bucket.get(manifest).await?;
    let next = test.run_backup(stack, "after-the-upgrade").await?;
    ensure!(next.id != backup.id, "the backup after the upgrade is that of before: {next:?}");
    ensure!(bucket.get(manifest).await? == before, "the manifest of the backup of before was changed");
    Ok(())
}

/// One reconcile of each stack is enough: an operator that starts again finds nothing to do.
async fn nothing_is_written_any_more(test: &TestContext) -> Result<()> {
    test.wait_settled_leader().await?;
    let mark = test.mark().await?;
    test.kill_and_replace_operators().await?;
    test.wait_settled_leader().await?;
    let writes = test.operator_writes_since(mark, &test.namespace).await?;
    ensure!(writes.0.is_empty(), "beside stacks that were taken over, a restart wrote: {:#?}", writes.lines());
    Ok(())
}

/// A change of each stack is carried out, and the data outlive it.
async fn looked_after(before: &[Before], app: &App, receipt: &Receipt) -> Result<()> {
    for Before { stack, .. } in before {
        let pods = stack.pod_uids(Some("api")).await?;
        stack.patch_spec(json!({"api": {"podAnnotations": {"team": "shop"}}})).await?;
        stack.wait_replaced("api", &pods, READY_WITHIN).await?;
    }
    app.check(receipt).await
}

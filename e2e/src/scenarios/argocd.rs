//! The real Argo CD brings a stack out of git: it is healthy and shows no diff, a line in git rolls out through a migration, a drift is
//! healed by one of the two and fought over by none, and when the Application is deleted the data stay.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::interval;

use super::kit::{API, API_NEXT, ArgoCd, Observed, Stack, TestContext, project};
use crate::engine::progress;

/// The name of the Application and of the stack. By the labels that Argo CD once tracked by, this is the worst case: all that the
/// operator makes has the name of the stack in the label where Argo CD writes that of the Application.
const NAME: &str = "rorun";
const EXAMPLE: &str = "argocd/application.yaml";
/// The folder of the example is that of staging.
const FILE: &str = "staging/rorun.yaml";
const READY_WITHIN: Duration = Duration::from_mins(3);
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// How long a stack at rest is compared with git, and how often.
const WATCHED: Duration = Duration::from_secs(8);
const EVERY: Duration = Duration::from_millis(500);
/// Nothing of a release goes by itself, as a Job with a time to live would, and that is looked at, too: so a minute says what an
/// hour would.
const WATCHED_AFTER_A_RELEASE: Duration = Duration::from_mins(1);
/// The setting of the health check.
const CHECK: &str = "resource.customizations.health.rorun.app_RorunStack";
/// What Argo CD writes on the objects that it takes for its own.
const TRACKING: &str = "argocd.argoproj.io/tracking-id";
/// What a release leaves, beside what a stack consists of.
const OF_RELEASES: &str = "jobs,controllerrevisions,replicasets,pods";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let argocd = ArgoCd::of(test).await?;
    let played = play(test, &argocd).await;
    if played.is_err() {
        progress::note(&argocd.told(NAME).await);
    }
    // Other scenarios find no kind of Argo CD's.
    played.and(argocd.remove().await)
}

async fn play(test: &TestContext, argocd: &ArgoCd<'_>) -> Result<()> {
    argocd.install(&health_check(test).await?).await?;
    its_health_is_that_of_the_page(argocd).await?;

    let git = Git { test, argocd, stack: test.stack(NAME) };
    let manifest = manifest(test)?;
    let first = argocd.commit(FILE, &manifest).await?;
    argocd.apply_example(EXAMPLE).await?;
    argocd.wait_synced(NAME, &first).await?;
    let app = test.app(&git.stack).await?;
    let receipt = test.first_receipt(&app, "2 baskets of tomatoes, 6000 each").await?;
    git.is_at_rest("at rest", WATCHED).await?;

    let next = argocd.commit(FILE, &manifest.replace(API, API_NEXT)).await?;
    argocd.wait_synced(NAME, &next).await?;
    ensure!(app.version().await? == "1.9.0", "{} answers", app.version().await?);
    git.a_release_left_nothing_to_clean_up().await?;
    git.is_at_rest("after a release", WATCHED_AFTER_A_RELEASE).await?;

    git.a_drift_of_a_child_is_the_operators().await?;
    git.is_at_rest("after a drift of a Deployment", WATCHED).await?;
    git.a_drift_of_the_stack_is_argo_cds().await?;
    git.is_at_rest("after a drift of the stack", WATCHED).await?;

    git.with_other_settings(&next).await?;
    git.is_at_rest("by the API server's own diff, and tracked by labels", WATCHED).await?;
    app.check(&receipt).await?;
    let data = git.stack.data().await?;
    ensure!(data.len() == 6, "not three volumes and three Secrets: {:?}", data.keys());
    git.taken_for_its_own_they_stay(&data).await?;
    git.deletion_leaves_the_data(&data).await?;
    argocd.apply_example(EXAMPLE).await?;
    argocd.wait_synced(NAME, &next).await?;
    ensure!(git.stack.data().await? == data, "the data are not those of before: {:?}", git.stack.data().await?);
    test.app(&git.stack).await?.check(&receipt).await
}

/// The health check, as the chart hands it out.
async fn health_check(test: &TestContext) -> Result<Value> {
    let chart = project().join(super::kit::CHART).display().to_string();
    let only = ["--show-only=templates/argocd.yaml", "--set=argocd.healthCheck=true", "--kube-version=1.33.0"];
    let rendered = test.helm(&[&["template", "rorun-operator", &chart][..], &only].concat()).await?;
    let fragment: Vec<Value> = serde_saphyr::from_multiple(&rendered)?;
    let data = fragment.into_iter().next().context("the chart has no ConfigMap for Argo CD")?["data"].take();
    ensure!(data[CHECK].is_string(), "the chart has no {CHECK}: {data}");
    Ok(data)
}

/// The stack that git has. Each release of it has a migration.
fn manifest(test: &TestContext) -> Result<String> {
    let mut documents = test.small_example("development.yaml")?;
    documents.edit_stack(|stack| {
        stack["spec"]["api"]["migrations"] = json!({"command": ["/rorun-fixture", "migrate"], "timeoutSeconds": 60});
    })?;
    let (list, name) = documents.in_namespace(&test.namespace)?;
    ensure!(name == NAME, "the example is called {name}");
    Ok(serde_saphyr::to_string(&list["items"][0])?)
}

/// The rows of the table in docs/gitops.md: the conditions of a status of the generation 2, and what `argocd` makes of them.
async fn its_health_is_that_of_the_page(argocd: &ArgoCd<'_>) -> Result<()> {
    let rows: [(&[&str], &str); 8] = [
        (&["Ready=True Ready"], "Healthy"),
        (&[], "Progressing"),
        (&["Ready=False Progressing", "Reconciling=True Progressing"], "Progressing"),
        (&["Ready=False Unreachable"], "Progressing"),
        (&["Ready=False AwaitingApproval"], "Suspended"),
        (&["Ready=True Ready", "Suspended=True Suspended"], "Suspended"),
        (&["Ready=True ScaledToZero", "Hibernated=True Hibernated"], "Suspended"),
        (&["Ready=False MigrationFailed", "Stalled=True MigrationFailed"], "Degraded"),
    ];
    for (lines, expected) in rows {
        let condition = |line: &&str| {
            let (kind, rest) = line.split_once('=')?;
            let (status, reason) = rest.split_once(' ')?;
            Some(json!({"type": kind, "status": status, "reason": reason, "message": line}))
        };
        let conditions: Vec<Value> = lines.iter().filter_map(condition).collect();
        let mut stack = json!({
            "apiVersion": "rorun.app/v1alpha1",
            "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "shop", "generation": 2},
            "status": {"observedGeneration": 2, "conditions": conditions},
        });
        let (health, message) = argocd.health(&stack).await?;
        let told = lines.is_empty() || lines.contains(&message.as_str());
        ensure!(health == expected && told, "{lines:?} is {health}: {message}");
        stack["status"]["observedGeneration"] = json!(1);
        let (health, message) = argocd.health(&stack).await?;
        ensure!(health == "Progressing", "{lines:?} of another generation is {health}: {message}");
        if expected == "Degraded" {
            // Argo CD asks no check about an object that is being deleted.
            stack["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            let said = argocd.health(&stack).await?;
            ensure!(said == ("Progressing".to_owned(), "Pending deletion".to_owned()), "deleted, it is {said:?}");
        }
    }
    Ok(())
}

/// The stack that git brings.
struct Git<'a> {
    test: &'a TestContext,
    argocd: &'a ArgoCd<'a>,
    stack: Stack,
}

impl Git<'_> {
    /// For a while every comparison says that git and the cluster are the same, and neither Argo CD nor the operator writes anything.
    async fn is_at_rest(&self, when: &str, watched: Duration) -> Result<()> {
        self.stack.wait_ready(READY_WITHIN).await?;
        let before = self.argocd.compared(NAME).await?;
        let (mark, version) = (self.test.mark().await?, self.version().await?);
        let (began, mut comparisons) = (Instant::now(), 0);
        let mut ticks = interval(EVERY);
        while began.elapsed() < watched {
            ticks.tick().await;
            let now = self.argocd.compared(NAME).await?;
            comparisons += 1;
            let same = (now.sync(), now.health()) == ("Synced", "Healthy")
                && now.resources() == [format!("RorunStack/{NAME}")]
                && now.last_sync() == before.last_sync();
            ensure!(same, "{when}, the comparison {comparisons} found {now}; before: {before}");
        }
        let writes = self.test.operator_writes_since(mark, &self.test.namespace).await?;
        ensure!(writes.0.is_empty(), "{when}, the operator wrote {:#?}", writes.lines());
        let now = self.version().await?;
        ensure!(now == version, "{when}, somebody wrote to the stack: {now:#?}, before: {version:#?}");
        self.only_the_stack_is_marked().await.with_context(|| when.to_owned())?;
        progress::note(&format!("{when}: {comparisons} comparisons in {} s without a diff", watched.as_secs()));
        Ok(())
    }

    /// Which version the stack is of, and who wrote what and when.
    async fn version(&self) -> Result<Value> {
        let get = ["get", "--namespace", &self.test.namespace, "rorunstack", NAME, "--show-managed-fields"];
        let stack: Value = serde_json::from_str(&self.test.kubectl(&[&get[..], &["--output=json"]].concat()).await?)?;
        Ok(json!([stack["metadata"]["resourceVersion"], stack["metadata"]["managedFields"]]))
    }

    /// The operator copies nothing to its children by which Argo CD would take them for objects of git.
    async fn only_the_stack_is_marked(&self) -> Result<()> {
        let mut objects = self.stack.children().await?;
        objects.extend(self.stack.list(OF_RELEASES).await?);
        for object in objects {
            let annotations = object["metadata"]["annotations"].as_object();
            let marks = |key: &str| annotations.is_some_and(|annotations| annotations.contains_key(key));
            let marked = marks(TRACKING) || marks("kubectl.kubernetes.io/last-applied-configuration");
            ensure!(!marked, "a mark of Argo CD's is on {}", object["metadata"]);
        }
        Ok(())
    }

    /// The Job of the migration and the revisions stay: what went by itself would change what Argo CD shows.
    async fn a_release_left_nothing_to_clean_up(&self) -> Result<()> {
        let jobs = self.stack.list("jobs").await?;
        let kept = |job: &Value| job["spec"]["ttlSecondsAfterFinished"].is_null() && job["status"]["succeeded"] == 1;
        ensure!(jobs.len() == 1 && jobs.iter().all(kept), "not one Job that succeeded and stays: {}", json!(jobs));
        let all = self.stack.list("controllerrevisions").await?;
        let of_stack = |revision: &&Value| revision["metadata"]["ownerReferences"][0]["kind"] == "RorunStack";
        let releases = all.iter().filter(of_stack).count();
        ensure!(releases == 2, "{releases} revisions of the stack, not one of each release: {}", json!(all));
        Ok(())
    }

    /// The operator heals it with one write. Argo CD does not even look at it.
    async fn a_drift_of_a_child_is_the_operators(&self) -> Result<()> {
        let (name, namespace) = (self.stack.child("api"), &self.test.namespace);
        let strategy = async || {
            let deployment = self.test.get(namespace, "deployment", &name).await?;
            anyhow::Ok(deployment["spec"]["strategy"].clone())
        };
        let (wanted, mark) = (strategy().await?, self.test.mark().await?);
        let synced = self.argocd.compared(NAME).await?;
        let altered = json!({"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": "100%"}}}}).to_string();
        self.test.kubectl(&["patch", "--namespace", namespace, "deployment", &name, "--patch", &altered]).await?;
        let what = format!("deployment/{name} to be healed");
        let healed = self.test.wait(&what, HEALED_WITHIN, async || {
            let writes = self.test.operator_writes_since(mark, namespace).await?.to_children().done();
            let now = strategy().await?;
            let there = now == wanted && !writes.0.is_empty();
            Ok(if there { Observed::Met(writes) } else { Observed::NotYet(format!("{now}, {:?}", writes.lines())) })
        });
        let writes = healed.await?;
        ensure!(writes.0.len() == 1, "not one write: {:#?}", writes.lines());
        let now = self.argocd.compared(NAME).await?;
        ensure!(now.last_sync() == synced.last_sync(), "Argo CD synced for it: {now}; before: {synced}");
        Ok(())
    }

    /// Argo CD puts the field back with one write, and leaves the annotation alone, of which git says nothing. The operator writes
    /// nothing but the status.
    async fn a_drift_of_the_stack_is_argo_cds(&self) -> Result<()> {
        let before = self.stack.resource().await?;
        let host = &before["spec"]["ingress"]["host"];
        let drift = json!({
            "metadata": {"annotations": {"rorun.app/retry": "1"}},
            "spec": {"ingress": {"host": self.test.host("drift")}},
        });
        self.stack.patch(drift).await?;
        let generation = before["metadata"]["generation"].as_i64().context("no generation")?;
        let healed = self.stack.wait("the host to be that of git", HEALED_WITHIN, async || {
            let now = self.stack.resource().await?;
            let line = format!("{} of generation {}", now["spec"]["ingress"]["host"], now["metadata"]["generation"]);
            Ok(if now["spec"]["ingress"]["host"] == *host { Observed::Met(now) } else { Observed::NotYet(line) })
        });
        let healed = healed.await?;
        let writes = healed["metadata"]["generation"].as_i64().unwrap_or_default() - generation;
        ensure!(writes == 2, "{writes} writes to the spec, not the drift and the one that heals it");
        let retry = &healed["metadata"]["annotations"]["rorun.app/retry"];
        ensure!(retry == "1", "the annotation was taken away: {}", healed["metadata"]["annotations"]);
        self.stack.wait_ready(READY_WITHIN).await?;
        self.test.app(&self.stack).await.map(drop)
    }

    /// Compared and applied by the API server, tracked by labels, and with a project that lets Argo CD prune objects of any kind.
    async fn with_other_settings(&self, commit: &str) -> Result<()> {
        let everything = json!([{"group": "*", "kind": "*"}]);
        let project = json!({"spec": {"namespaceResourceWhitelist": everything}});
        self.argocd.patch("appproject", NAME, &project).await?;
        let application = json!({
            "metadata": {"annotations": {"argocd.argoproj.io/compare-options": "ServerSideDiff=true"}},
            "spec": {"syncPolicy": {"syncOptions": ["CreateNamespace=true", "ServerSideApply=true"]}},
        });
        self.argocd.patch("application", NAME, &application).await?;
        self.argocd.configure(&json!({"application.resourceTrackingMethod": "label"})).await?;
        self.argocd.compared(NAME).await?;
        self.stack
            .wait("Argo CD to track the stack by its label", READY_WITHIN, async || {
                let labels = self.stack.resource().await?["metadata"]["labels"].take();
                Ok(Observed::when(labels["app.kubernetes.io/instance"] == NAME, labels))
            })
            .await?;
        self.argocd.wait_synced(NAME, commit).await.map(drop)
    }

    /// Somebody puts the label on the data by which Argo CD takes them for objects that git no longer has: a sync that prunes leaves
    /// them alone, and they are no diff.
    async fn taken_for_its_own_they_stay(&self, data: &BTreeMap<String, String>) -> Result<()> {
        let (namespace, label) = (&self.test.namespace, format!("app.kubernetes.io/instance={NAME}"));
        let all =
            ["label", "--namespace", namespace, "persistentvolumeclaims,secrets", "--selector=rorun.app/retained"];
        self.test.kubectl(&[&all[..], &[&label]].concat()).await?;
        let taken = self.stack.wait("Argo CD to take the data for its own", READY_WITHIN, async || {
            let now = self.argocd.compared(NAME).await?;
            let all = data.keys().all(|name| now.resources().contains(name));
            Ok(if all { Observed::Met(now) } else { Observed::NotYet(now.to_string()) })
        });
        let taken = taken.await?;
        ensure!(taken.sync() == "Synced", "the data are a diff: {taken}");
        self.argocd.patch("application", NAME, &json!({"operation": {"sync": {"prune": true}}})).await?;
        self.stack
            .wait("the sync that prunes", READY_WITHIN, async || {
                let now = self.argocd.application(NAME).await?;
                let done = now.last_sync() != taken.last_sync() && now.ended_well();
                Ok(Observed::when(done, now))
            })
            .await?;
        let now = self.stack.data().await?;
        ensure!(now == *data, "of {:?} are left {:?}", data.keys(), now.keys());
        Ok(())
    }

    /// The stack goes with its Application, and all that it owns; the data stay.
    async fn deletion_leaves_the_data(&self, data: &BTreeMap<String, String>) -> Result<()> {
        self.argocd.delete(NAME).await?;
        let left = self.test.get(&self.test.namespace, "rorunstack", NAME).await?;
        ensure!(left.is_null(), "the stack outlives its Application: {left}");
        self.stack
            .wait("everything that the stack owns to be gone", READY_WITHIN, async || {
                let left = self.stack.list("deployments,statefulsets,services,ingresses,jobs,pods").await?;
                let left: Vec<_> = left.iter().map(|object| &object["metadata"]["name"]).collect();
                Ok(Observed::when(left.is_empty(), format!("{left:?}")))
            })
            .await?;
        let now = self.stack.data().await?;
        ensure!(now == *data, "of {:?} are left {:?}", data.keys(), now.keys());
        Ok(())
    }
}

//! Pods as their users ask for them: another user, a root that can be written, volumes and a sidecar. What a pod of a stack cannot
//! have is refused with the way out, and what runs stays.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::kit::{OCR, Stack, TestContext};

const REPORTED_WITHIN: Duration = Duration::from_mins(1);
const READY_WITHIN: Duration = Duration::from_mins(3);
/// The users that the example asks for.
const NODE: i64 = 1000;
const NGINX: i64 = 101;

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = test.apply_example("pod-template.yaml", runnable).await?;
    a_missing_source_is_reported(test, &stack).await?;
    stack.wait_ready(READY_WITHIN).await?;
    the_pods_are_as_asked(test, &stack).await?;
    a_refused_patch_changes_nothing(&stack).await?;
    a_changed_patch_rolls_its_pods(test, &stack).await
}

/// The sidecar of the example comes from a registry; here another program stands in for it, and for Prisma.
fn runnable(stack: &mut Value) {
    stack["spec"]["api"]["migrations"]["command"] = json!(["/rorun-fixture", "migrate"]);
    let containers = &mut stack["spec"]["admin"]["podTemplate"]["spec"]["containers"];
    let Some(exporter) = containers.as_array_mut().and_then(|list| list.iter_mut().find(|of| of["name"] == "exporter"))
    else {
        return;
    };
    exporter["image"] = json!(OCR);
    exporter["env"] = json!([{"name": "PORT", "value": "9113"}]);
    exporter.as_object_mut().map(|fields| fields.remove("args"));
}

/// The kubelet would not start the pod, and the pod's status would not say why.
async fn a_missing_source_is_reported(test: &TestContext, stack: &Stack) -> Result<()> {
    let condition = stack.wait_condition("AdminReady", "False", "ReferenceMissing", REPORTED_WITHIN).await?;
    says(&condition.message, &["configmap/branding", "admin.podTemplate.spec.volumes[branding]", "create it"])?;
    let metadata = json!({"name": "branding", "namespace": test.namespace});
    let data = json!({"logo.svg": "<svg xmlns=\"http://www.w3.org/2000/svg\"/>"});
    test.apply_objects(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})).await
}

async fn the_pods_are_as_asked(test: &TestContext, stack: &Stack) -> Result<()> {
    for (component, user) in [("api", NODE), ("admin", NGINX)] {
        let users = users_of(test, &only(stack, component).await?).await?;
        ensure!(users == BTreeSet::from([user]), "the processes of {component} run as {users:?}, not as {user}");
    }
    let admin = only(stack, "admin").await?;
    let statuses = admin.status.and_then(|status| status.container_statuses).unwrap_or_default();
    let ready: BTreeSet<_> = statuses.iter().filter(|of| of.ready).map(|of| of.name.as_str()).collect();
    ensure!(ready == BTreeSet::from(["admin", "exporter"]), "of the admin panel's containers {ready:?} are ready");
    ensure!(stack.restarts().await?.values().all(|&count| count == 0), "pods restarted: {:?}", stack.restarts().await?);
    Ok(())
}

/// Nothing is written for the component; its pods and those of the others stay.
async fn a_refused_patch_changes_nothing(stack: &Stack) -> Result<()> {
    let (pods, children) = (stack.pod_uids(None).await?, stack.generations().await?);
    stack.patch_spec(json!({"api": {"podTemplate": {"spec": {"hostNetwork": true}}}})).await?;
    let condition = stack.wait_condition("ApiReady", "False", "PodTemplateRefused", REPORTED_WITHIN).await?;
    says(&condition.message, &["api.podTemplate.spec.hostNetwork is refused", "take it out"])?;
    stack.wait_condition("Stalled", "True", "PodTemplateRefused", REPORTED_WITHIN).await?;
    stack.wait_condition("Available", "True", "Ready", REPORTED_WITHIN).await?;
    ensure!(stack.pod_uids(None).await? == pods, "pods were replaced for a patch that is refused");
    ensure!(stack.generations().await? == children, "objects were changed for a patch that is refused");

    stack.patch_spec(json!({"api": {"podTemplate": {"spec": {"hostNetwork": null}}}})).await?;
    stack.wait_ready(READY_WITHIN).await?;
    ensure!(stack.pod_uids(None).await? == pods, "pods were replaced though their template is what it was");
    Ok(())
}

async fn a_changed_patch_rolls_its_pods(test: &TestContext, stack: &Stack) -> Result<()> {
    let (api, database) = (stack.pod_uids(Some("api")).await?, stack.pod_uids(Some("database")).await?);
    stack.patch_spec(json!({"api": {"podTemplate": {"spec": {"securityContext": {"runAsUser": NODE + 1}}}}})).await?;
    stack.wait_replaced("api", &api, READY_WITHIN).await?;
    let users = users_of(test, &only(stack, "api").await?).await?;
    ensure!(users == BTreeSet::from([NODE + 1]), "the processes of the new pod run as {users:?}");
    ensure!(stack.pod_uids(Some("database")).await? == database, "the database's pod was replaced as well");
    Ok(())
}

fn says(message: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(message.contains(word), "the condition does not say {word}: {message}");
    }
    Ok(())
}

/// The one pod of a component.
async fn only(stack: &Stack, component: &str) -> Result<Pod> {
    let mut pods = stack.pods(Some(component)).await?;
    ensure!(pods.len() == 1, "{component} has {} pods, not one", pods.len());
    pods.pop().context("a pod")
}

/// As whom the processes of a pod run, by the kernel of the node.
async fn users_of(test: &TestContext, pod: &Pod) -> Result<BTreeSet<i64>> {
    let uid = pod.metadata.uid.as_deref().context("a pod has a uid")?;
    // The names of cgroups have `_` for `-`. The pause process is the runtime's.
    let script = format!(
        "for file in $(grep -l '{}' /proc/[0-9]*/cgroup 2>/dev/null); do folder=${{file%/cgroup}}; \
         grep -q '^Name:.*pause' $folder/status || sed -n 's/^Uid:[[:space:]]*\\([0-9]*\\).*/\\1/p' $folder/status; done",
        uid.replace('-', ".")
    );
    let found = test.on_node(&["sh", "-c", &script]).await?;
    found.split_whitespace().map(|user| Ok(user.parse()?)).collect()
}

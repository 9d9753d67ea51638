//! Commands by annotation: each is obeyed once, also when its Job is gone or the operator is another process.

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    conditions::set_status,
    env::{TestEnv, development},
};

const NAMESPACE: &str = "commands";

async fn annotate(env: &TestEnv, namespace: &str, value: Option<&str>) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/backup": value}}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &patch).await.expect("it is annotated");
}

/// The Jobs that the stack owns, by name.
async fn jobs(env: &TestEnv, namespace: &str) -> Vec<String> {
    let jobs = env.objects("Job", namespace).list(&kube::api::ListParams::default()).await.expect("a list");
    jobs.items.iter().map(ResourceExt::name_any).collect()
}

async fn until_jobs(env: &TestEnv, namespace: &str, count: usize) -> Vec<String> {
    env.until(&format!("there are {count} Jobs"), async || jobs(env, namespace).await.len() == count).await;
    env.settled(namespace).await;
    let jobs = jobs(env, namespace).await;
    assert_eq!(jobs.len(), count, "{jobs:?}");
    jobs
}

async fn records(env: &TestEnv) -> Vec<String> {
    let all = env.children(NAMESPACE).await.into_iter();
    all.map(|child| child.name_any()).filter(|name| name.contains("-commands-")).collect()
}

/// Needs an operator of its own: it is killed.
pub async fn a_command_is_obeyed_once(env: &TestEnv) {
    env.namespace(NAMESPACE).await;
    let operator = env.operator().await;
    env.apply(NAMESPACE, development()).await;
    assert!(records(env).await.is_empty(), "nothing was asked for, so nothing is recorded");
    annotate(env, NAMESPACE, Some("first")).await;
    let first = until_jobs(env, NAMESPACE, 1).await;
    assert_eq!(records(env).await, ["shop-commands-1"]);
    let job = env.objects("Job", NAMESPACE).get(&first[0]).await.expect("the Job");
    assert_eq!(job.owner_references()[0].kind, "RorunStack");

    // Without its Job, and by another process.
    // By default a Job's pods are orphaned, which a controller has to carry out that does not run here.
    let background = DeleteParams::background();
    env.objects("Job", NAMESPACE).delete(&first[0], &background).await.expect("it is deleted");
    env.settled(NAMESPACE).await;
    operator.kill();
    let mark = env.mark();
    let operator = env.operator().await;
    env.pause().await;
    assert!(env.writes(NAMESPACE, mark).is_empty(), "{:?}", env.writes(NAMESPACE, mark));
    assert!(jobs(env, NAMESPACE).await.is_empty(), "a handled command was obeyed again");

    annotate(env, NAMESPACE, None).await;
    annotate(env, NAMESPACE, Some("first")).await;
    env.settled(NAMESPACE).await;
    assert!(jobs(env, NAMESPACE).await.is_empty(), "the value is that of the last handled command");

    annotate(env, NAMESPACE, Some("second")).await;
    until_jobs(env, NAMESPACE, 1).await;
    annotate(env, NAMESPACE, Some("first")).await;
    let both = until_jobs(env, NAMESPACE, 2).await;
    assert_eq!(records(env).await, ["shop-commands-3"], "older records are pruned");

    // What the Job of a step says is never changed, and nothing that others own is pruned.
    let mark = env.mark();
    env.apply(
        NAMESPACE,
        json!({"environment": "Development", "api": {"image": "rorun-api:2"}, "backup": {"image": "postgres:16"}}),
    )
    .await;
    let writes = env.writes(NAMESPACE, mark);
    assert!(
        writes.iter().all(|write| !write.contains("jobs/shop-backup-") || write.contains("cronjobs")),
        "{writes:?}"
    );
    assert_eq!(jobs(env, NAMESPACE).await, both);
    drop(operator);
}

/// A migration or a dump that a write of ours ends half-way may leave the database in neither state.
pub async fn a_job_that_runs_outlives_the_spec_that_asked_for_it(env: &TestEnv) {
    let namespace = "job-runs";
    let without = {
        let mut spec = development();
        spec.as_object_mut().expect("a spec").remove("backup");
        spec
    };
    env.namespace(namespace).await;
    for (value, ended) in [("starts-never", false), ("fails", true)] {
        env.apply(namespace, development()).await;
        annotate(env, namespace, Some(value)).await;
        let name = until_jobs(env, namespace, 1).await.remove(0);
        let job = env.objects("Job", namespace).get(&name).await.expect("the Job");
        let mark = env.mark();
        env.apply(namespace, without.clone()).await;
        let deleted =
            env.writes(namespace, mark).into_iter().filter(|write| write.starts_with("delete")).collect::<Vec<_>>();
        assert!(deleted.is_empty(), "its pod may need them: {deleted:?}");
        assert_eq!(jobs(env, namespace).await, [name.as_str()]);

        if ended {
            let condition = |kind: &str| {
                json!({"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": "2026-11-24T02:20:00Z",
                    "lastProbeTime": "2026-11-24T02:20:00Z", "message": "it failed"})
            };
            let status = json!({"startTime": "2026-11-24T02:15:00Z", "conditions": [condition("FailureTarget"), condition("Failed")]});
            set_status(env, ("Job", namespace, &name), status).await;
        } else {
            let pod = pod_of(&job);
            env.objects("Pod", namespace).create(&PostParams::default(), &pod).await.expect("its pod is made");
            env.pause().await;
            assert_eq!(jobs(env, namespace).await, [name.as_str()], "its pod is about to start");
            let no_room =
                json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"});
            let status = json!({"phase": "Pending", "conditions": [no_room]});
            set_status(env, ("Pod", namespace, &pod.name_any()), status).await;
        }
        env.until("nothing of the backup is left", async || {
            let backup = |object: &kube::api::DynamicObject| {
                object.labels().get("app.kubernetes.io/component").is_some_and(|of| of == "backup")
            };
            !env.children(namespace).await.iter().any(backup)
        })
        .await;
    }
}

/// The garbage collector would end the Job with its stack: the stack stays until the Job has ended.
pub async fn a_stack_is_deleted_once_its_job_has_ended(env: &TestEnv) {
    let namespace = "job-ends";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    let finalizers = async || env.stacks(namespace).get("shop").await.expect("the stack").finalizers().to_vec();
    assert!(finalizers().await.is_empty(), "no Job works on its data");
    annotate(env, namespace, Some("now")).await;
    let name = until_jobs(env, namespace, 1).await.remove(0);
    assert_eq!(finalizers().await, ["rorun.app/delete-data"]);
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    let message = format!("the stack is deleted once job/{name} has ended");
    env.until("its status names the Job", async || {
        let stack = env.stacks(namespace).get("shop").await.expect("it is still there");
        let conditions = stack.status.map(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.message.starts_with(&message))
    })
    .await;
    assert_eq!(jobs(env, namespace).await, [name.as_str()]);
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "CompletionsReached", "lastTransitionTime": "2026-11-24T02:20:00Z",
            "lastProbeTime": "2026-11-24T02:20:00Z", "message": "it is complete"})
    };
    let status = json!({"startTime": "2026-11-24T02:15:00Z", "completionTime": "2026-11-24T02:20:00Z", "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
    set_status(env, ("Job", namespace, &name), status).await;
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
}

/// A pod as the Job's controller makes it.
fn pod_of(job: &kube::api::DynamicObject) -> kube::api::DynamicObject {
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": job.name_any(), "uid": job.uid(), "controller": true});
    let metadata = json!({"name": "of-the-job", "labels": job.labels(), "ownerReferences": [owner]});
    let spec = json!({"serviceAccountName": "shop-backup", "automountServiceAccountToken": false,
        "containers": [{"name": "dump", "image": "postgres:17"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    serde_json::from_value(pod).expect("a pod")
}

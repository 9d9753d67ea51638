//! Commands by annotation: each is obeyed once, also when its Job is gone or the operator is another process.

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use super::env::{TestEnv, development};

const NAMESPACE: &str = "commands";

async fn annotate(env: &TestEnv, value: Option<&str>) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/backup": value}}}));
    env.stacks(NAMESPACE).patch("shop", &PatchParams::default(), &patch).await.expect("it is annotated");
}

/// The Jobs that the stack owns, by name.
async fn jobs(env: &TestEnv) -> Vec<String> {
    let jobs = env.objects("Job", NAMESPACE).list(&kube::api::ListParams::default()).await.expect("a list");
    jobs.items.iter().map(ResourceExt::name_any).collect()
}

async fn until_jobs(env: &TestEnv, count: usize) -> Vec<String> {
    env.until(&format!("there are {count} Jobs"), async || jobs(env).await.len() == count).await;
    env.settled(NAMESPACE).await;
    let jobs = jobs(env).await;
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
    annotate(env, Some("first")).await;
    let first = until_jobs(env, 1).await;
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
    assert!(jobs(env).await.is_empty(), "a handled command was obeyed again");

    annotate(env, None).await;
    annotate(env, Some("first")).await;
    env.settled(NAMESPACE).await;
    assert!(jobs(env).await.is_empty(), "the value is that of the last handled command");

    annotate(env, Some("second")).await;
    until_jobs(env, 1).await;
    annotate(env, Some("first")).await;
    let both = until_jobs(env, 2).await;
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
    assert_eq!(jobs(env).await, both);
    drop(operator);
}

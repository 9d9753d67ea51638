//! Commands by annotation: each is obeyed once, also when its Job is gone or the operator is another process.

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use super::room::{Room, development};

const NAMESPACE: &str = "commands";

async fn annotate(room: &Room, value: Option<&str>) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/backup": value}}}));
    room.stacks(NAMESPACE).patch("shop", &PatchParams::default(), &patch).await.expect("it is annotated");
}

/// The Jobs that the stack owns, by name.
async fn jobs(room: &Room) -> Vec<String> {
    let jobs = room.objects("Job", NAMESPACE).list(&kube::api::ListParams::default()).await.expect("a list");
    jobs.items.iter().map(ResourceExt::name_any).collect()
}

async fn until_jobs(room: &Room, count: usize) -> Vec<String> {
    room.until(&format!("there are {count} Jobs"), async || jobs(room).await.len() == count).await;
    room.settled(NAMESPACE).await;
    let jobs = jobs(room).await;
    assert_eq!(jobs.len(), count, "{jobs:?}");
    jobs
}

async fn records(room: &Room) -> Vec<String> {
    let all = room.children(NAMESPACE).await.into_iter();
    all.map(|child| child.name_any()).filter(|name| name.contains("-commands-")).collect()
}

/// Needs an operator of its own: it is killed.
pub async fn a_command_is_obeyed_once(room: &Room) {
    room.namespace(NAMESPACE).await;
    let operator = room.operator().await;
    room.apply(NAMESPACE, development()).await;
    assert!(records(room).await.is_empty(), "nothing was asked for, so nothing is recorded");
    annotate(room, Some("first")).await;
    let first = until_jobs(room, 1).await;
    assert_eq!(records(room).await, ["shop-commands-1"]);
    let job = room.objects("Job", NAMESPACE).get(&first[0]).await.expect("the Job");
    assert_eq!(job.owner_references()[0].kind, "RorunStack");

    // Without its Job, and by another process.
    // By default a Job's pods are orphaned, which a controller has to carry out that does not run here.
    let background = DeleteParams::background();
    room.objects("Job", NAMESPACE).delete(&first[0], &background).await.expect("it is deleted");
    room.settled(NAMESPACE).await;
    operator.kill();
    let mark = room.mark();
    let operator = room.operator().await;
    room.pause().await;
    assert!(room.writes(NAMESPACE, mark).is_empty(), "{:?}", room.writes(NAMESPACE, mark));
    assert!(jobs(room).await.is_empty(), "a handled command was obeyed again");

    annotate(room, None).await;
    annotate(room, Some("first")).await;
    room.settled(NAMESPACE).await;
    assert!(jobs(room).await.is_empty(), "the value is that of the last handled command");

    annotate(room, Some("second")).await;
    until_jobs(room, 1).await;
    annotate(room, Some("first")).await;
    let both = until_jobs(room, 2).await;
    assert_eq!(records(room).await, ["shop-commands-3"], "older records are pruned");

    // What the Job of a step says is never changed, and nothing that others own is pruned.
    let mark = room.mark();
    room.apply(
        NAMESPACE,
        json!({"environment": "Development", "api": {"image": "rorun-api:2"}, "backup": {"image": "postgres:16"}}),
    )
    .await;
    let writes = room.writes(NAMESPACE, mark);
    assert!(
        writes.iter().all(|write| !write.contains("jobs/shop-backup-") || write.contains("cronjobs")),
        "{writes:?}"
    );
    assert_eq!(jobs(room).await, both);
    drop(operator);
}

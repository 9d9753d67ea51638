//! Every state, and what a tool that waits for resources makes of it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use rorun_operator::{
    api::v1alpha1::RorunStackStatus,
    names::{Component, Waiting, reason},
    objects::{Readiness, pods_refused},
    stack::Probe,
    status,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    argocd,
    cluster::{Cluster, at, condition, line, rolled_out},
    support::{Fixture, nothing_there, stack, valid_with},
};

/// What kstatus says of a custom resource, by its published rules
/// (source: <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kstatus {
    InProgress,
    Failed,
    Current,
}
use Kstatus::{Current, Failed, InProgress};

pub(super) fn kstatus(generation: Option<i64>, status: &RorunStackStatus) -> Kstatus {
    let is = |kind: &str, value: &str| condition(status, kind).is_some_and(|of| of.status == value);
    if status.observed_generation != generation {
        return InProgress;
    }
    if is("Reconciling", "True") {
        return InProgress;
    }
    if is("Stalled", "True") {
        return Failed;
    }
    // Without the condition a resource counts as current.
    if is("Ready", "False") || is("Ready", "Unknown") { InProgress } else { Current }
}

fn scaled() -> Fixture {
    stack("shop").set("api.autoscaling", json!({"minReplicas": 2, "maxReplicas": 10}))
}

fn progressing(reason: &str) -> Value {
    json!([{"type": "Progressing", "status": "True", "reason": reason}])
}

fn refused() -> Value {
    let message = "pods \"shop-api-7d9f-abcde\" is forbidden: exceeded quota: q";
    json!([{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"},
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}])
}

type Change = fn(&mut Cluster);

/// From a stack that is ready: what happens, and then what kstatus, `Available`, `Ready` and `Reconciling` say.
#[rstest]
#[case::nothing(|_: &mut Cluster| {}, Current, "True Ready", "True Ready", false)]
#[case::an_autoscaler_adds_pods(|cluster: &mut Cluster| cluster.deployment(Component::Api, 5, [3, 3, 2], &rolled_out()),
    Current, "True Ready", "True Ready", false)]
#[case::a_pod_beyond_the_fewest_moves(|cluster: &mut Cluster| cluster.deployment(Component::Api, 5, [5, 5, 4], &rolled_out()),
    Current, "True Ready", "True Ready", false)]
#[case::one_of_the_fewest_moves(|cluster: &mut Cluster| cluster.deployment(Component::Api, 2, [2, 2, 1], &rolled_out()),
    InProgress, "False Progressing", "False Progressing", false)]
#[case::a_secret_changed(|cluster: &mut Cluster| cluster.deployment(Component::Api, 2, [3, 1, 2], &progressing("ReplicaSetUpdated")),
    InProgress, "True Ready", "False Progressing", true)]
#[case::a_rollout_is_stuck(|cluster: &mut Cluster| cluster.deployment(Component::Api, 2, [3, 1, 2],
    &json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}])),
    Failed, "True Ready", "False RolloutStuck", false)]
#[case::its_pods_are_refused(|cluster: &mut Cluster| cluster.deployment(Component::Api, 2, [2, 0, 2], &refused()),
    Failed, "True Ready", "False PodsRefused", false)]
#[case::somebody_scales_it_to_zero(|cluster: &mut Cluster| cluster.deployment(Component::Api, 0, [0, 0, 0], &rolled_out()),
    Failed, "False ScaledToZero", "False ScaledToZero", false)]
#[case::an_embedded_service_is_down(|cluster: &mut Cluster| cluster.stateful_set(Component::Redis, 1, 0),
    InProgress, "False Progressing", "False Progressing", false)]
#[case::a_workload_is_deleted_by_hand(|cluster: &mut Cluster| cluster.live.take("Deployment", "shop-api"),
    InProgress, "False Progressing", "False Progressing", true)]
#[case::the_bucket_does_not_answer(|cluster: &mut Cluster| {
        let failed = Probe::Failed(Waiting::new(reason::UNREACHABLE, "bucket at s3 is unreachable"));
        cluster.stack.probes = BTreeMap::from([(Component::Bucket.into(), failed)]);
    }, InProgress, "True Ready", "False Unreachable", false)]
#[case::the_class_of_the_ingress_is_missing(|cluster: &mut Cluster| {
        cluster.edit(scaled().set("ingress", json!({"host": "api.example.com", "className": "nowhere"})));
        cluster.make_the_rest();
        let missing = Waiting::new(reason::INGRESS_CLASS_MISSING, "ingressclass/nowhere does not exist");
        cluster.stack.unresolved.insert(Component::Ingress, missing);
    }, Failed, "True Ready", "False IngressClassMissing", false)]
#[case::a_secret_is_missing(|cluster: &mut Cluster| {
        cluster.edit(scaled().set("api.envFrom", json!([{"secretRef": {"name": "mail"}}])));
        cluster.stack = valid_with(&cluster.cr, &nothing_there(&cluster.cr));
    }, Failed, "True Ready", "False ReferenceMissing", false)]
#[case::no_pods_on_purpose(|cluster: &mut Cluster| {
        cluster.edit(stack("shop").set("api.replicas", json!(0)));
        cluster.deployment(Component::Api, 0, [0, 0, 0], &rolled_out());
    }, Current, "False ScaledToZero", "True ScaledToZero", false)]
fn what_a_tool_reads_after(
    #[case] change: Change,
    #[case] expected: Kstatus,
    #[case] available: &str,
    #[case] ready: &str,
    #[case] reconciling: bool,
) {
    let mut cluster = Cluster::ready(scaled());
    change(&mut cluster);
    let status = cluster.reconcile(1000);
    let lines = (line(&status, "Available"), line(&status, "Ready"), line(&status, "Reconciling"));
    assert_eq!((&*lines.0, &*lines.1, lines.2.is_empty()), (available, ready, !reconciling), "{status:#?}");
    assert_eq!(kstatus(cluster.cr.metadata.generation, &status), expected, "{lines:?}");
    assert_eq!(argocd::health(&cluster.cr, Some(&status)).0, argocd::shown(&expected), "{lines:?}");
    let (stalled, reconciles) = (condition(&status, "Stalled"), condition(&status, "Reconciling"));
    assert!(stalled.is_none() || reconciles.is_none(), "never both");
}

/// Nothing that an autoscaler or a node does changes a condition, or a time of one.
#[test]
fn a_scale_up_and_a_pod_that_moves_turn_no_condition() {
    let mut cluster = Cluster::ready(scaled());
    let before = cluster.old.clone().unwrap().conditions;
    for (wanted, counts) in [(5, [3, 3, 2]), (5, [5, 5, 4]), (8, [8, 8, 2]), (2, [2, 2, 2])] {
        cluster.deployment(Component::Api, wanted, counts, &rolled_out());
        assert_eq!(cluster.reconcile(5000).conditions, before, "{counts:?} of {wanted}");
    }
}

/// From the first reconcile of an edit until its pods serve, tools show it in progress, though the old pods serve all along.
#[test]
fn an_edit_is_in_progress_from_its_first_status_until_it_serves() {
    let mut cluster = Cluster::ready(scaled());
    let generation = |cluster: &Cluster| cluster.cr.metadata.generation;
    cluster.edit(scaled().set("api.image", json!("ghcr.io/rorun/rorun-api:1.9.0")));
    assert_eq!(kstatus(generation(&cluster), cluster.old.as_ref().unwrap()), InProgress, "before the first reconcile");
    let first = cluster.reconcile_that_writes(10, &[Component::Api]);
    assert_eq!(first.observed_generation, generation(&cluster));
    assert_eq!(line(&first, "Reconciling"), "True Progressing", "in the same write");
    let steps = [[3, 1, 2], [3, 1, 3], [3, 2, 3], [2, 2, 2]];
    for (step, counts) in steps.into_iter().enumerate() {
        let reason = if step == 3 { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" };
        cluster.deployment(Component::Api, 2, counts, &progressing(reason));
        let status = cluster.reconcile(20);
        assert_eq!(line(&status, "Available"), "True Ready", "{counts:?}");
        assert_eq!(kstatus(generation(&cluster), &status), if step == 3 { Current } else { InProgress }, "{counts:?}");
    }
    // What is asked for and not there yet is carried out as well, though nothing is replaced.
    cluster.edit(scaled().set("api.autoscaling.minReplicas", json!(4)));
    let status = cluster.reconcile(30);
    assert_eq!((line(&status, "Available"), line(&status, "Reconciling")).0, "False Progressing");
    assert_eq!(kstatus(generation(&cluster), &status), InProgress);
    cluster.deployment(Component::Api, 4, [4, 4, 4], &rolled_out());
    let status = cluster.reconcile(40);
    assert_eq!(kstatus(generation(&cluster), &status), Current);
    assert_eq!(line(&status, "Reconciling"), "");
}

#[test]
fn the_first_status_is_no_success() {
    let mut cluster = Cluster::empty(scaled());
    let status = cluster.reconcile_that_writes(0, &[Component::Database, Component::Redis, Component::Bucket]);
    assert_eq!(kstatus(cluster.cr.metadata.generation, &status), InProgress);
    assert_eq!(line(&status, "Ready"), "Unknown Progressing");
    assert_eq!(line(&status, "Available"), "False Progressing");
}

/// A deletion that is not confirmed is Stalled, and the pods serve all the same.
#[test]
fn a_stack_that_is_kept_from_going_on_is_as_available_as_it_was() {
    let cluster = Cluster::ready(scaled());
    let waiting = Waiting::new(reason::CONFIRMATION_REQUIRED, "set the annotation");
    let status = status::stopped(&cluster.cr, cluster.old.clone(), &waiting, Timestamp::UNIX_EPOCH);
    assert_eq!(kstatus(cluster.cr.metadata.generation, &status), Failed);
    assert_eq!(line(&status, "Available"), "True Ready");
    let status = status::stopped(&cluster.cr, None, &waiting, Timestamp::UNIX_EPOCH);
    assert_eq!(line(&status, "Available"), "False ConfirmationRequired");
}

/// Whatever the destination of backups answers, the application serves.
#[rstest]
#[case(reason::UNREACHABLE)]
#[case(reason::ACCESS_DENIED)]
#[case(reason::NOT_FOUND)]
fn the_destination_of_backups_never_makes_a_stack_unready(#[case] why: reason::Reason) {
    let external = stack("shop").with_external_services();
    let destination = json!({"external": {"name": "dumps", "endpoint": "https://s3.example.com",
        "credentialsSecretRef": {"name": "s3-dumps"}}});
    let mut cluster = Cluster::ready(external.set("backup", json!({"destination": destination})));
    assert_eq!(line(cluster.old.as_ref().unwrap(), "BackupHealthy"), "True Ready");
    let failed = Probe::Failed(Waiting::new(why, "bucket dumps at s3.example.com"));
    cluster.stack.probes.insert(Component::Backup.into(), failed);
    let status = cluster.reconcile(1000);
    assert_eq!(line(&status, "BackupHealthy"), format!("False {why}"));
    assert_eq!(kstatus(cluster.cr.metadata.generation, &status), Current);
    assert!(condition(&status, "Ready").unwrap().message.contains("backup: bucket dumps"), "{status:?}");
}

/// A StatefulSet tells nothing of pods that are refused: what the Events say is put there before it is judged.
#[test]
fn a_refused_pod_of_an_embedded_service_is_reported_with_the_way_out() {
    let mut cluster = Cluster::ready(scaled());
    cluster.stateful_set(Component::Redis, 0, 0);
    let mut set = cluster.live.named("StatefulSet", "shop-redis").unwrap().clone();
    let said = "create Pod shop-redis-0 in StatefulSet shop-redis failed error: pods \"shop-redis-0\" is forbidden: \
                failed quota: q: must specify limits.memory for: redis";
    let waiting = pods_refused(&set.key(), said);
    set.readiness = Readiness::Waiting(waiting);
    cluster.live.put(Arc::new(set));
    let status = cluster.reconcile(1000);
    assert_eq!(kstatus(cluster.cr.metadata.generation, &status), Failed);
    insta::assert_snapshot!(condition(&status, "Ready").unwrap().message, @"redis: the pods of statefulset/shop-redis are refused: failed quota: q: must specify limits.memory for: redis: raise the ResourceQuota, set resources, or change what the message names");
}

/// A stuck rollout without a cause of its own is explained by its pods, and is Stalled all the same.
#[test]
fn a_rollout_past_its_deadline_is_stalled_whatever_its_pods_say() {
    let mut cluster = Cluster::ready(scaled());
    let late = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    cluster.deployment(Component::Api, 2, [3, 1, 2], &late);
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
    let pod = json!({"status": {"containerStatuses": [{"name": "api", "state": waiting, "restartCount": 0}],
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(0)}]}});
    cluster.put(("", "Pod"), Component::Api, pod);
    let status = cluster.reconcile(1000);
    assert_eq!(line(&status, "Stalled"), "True ImagePullFailed");
    assert_eq!(line(&status, "Available"), "True Ready");
}

/// Nothing else of a stack at rest would say so before its next Job.
#[test]
fn a_stack_at_rest_tells_that_the_patch_of_jobs_is_refused() {
    let mut cluster = Cluster::ready(stack("shop"));
    assert!(condition(&cluster.reconcile(1000), "PreflightPassed").is_none());
    cluster.edit(stack("shop").set("jobs", json!({"podTemplate": {"spec": {"hostIPC": true}}})));
    let status = cluster.reconcile(1001);
    let told = condition(&status, "PreflightPassed").unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "PodTemplateRefused"));
    assert!(told.message.contains("jobs.podTemplate.spec.hostIPC"), "{}", told.message);
}

//! The notes on a component that serves.

use rorun_operator::names::Component;
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, at, condition, line, rolled_out},
    support::{Fixture, all_ready, stack},
};

fn message(cluster: &mut Cluster, now: i64, kind: &str) -> String {
    let status = cluster.reconcile(now);
    assert_eq!(line(&status, kind), "True Ready");
    assert_eq!(line(&status, "Ready"), "True Ready");
    condition(&status, kind).unwrap().message.clone()
}

fn autoscaler(status: &str, reason: &str) -> Value {
    let said = "the HPA was unable to compute the replica count: no metrics returned from resource metrics API";
    json!({"status": {"conditions": [{"type": "ScalingActive", "status": status, "reason": reason, "message": said,
        "lastTransitionTime": at(1000)}]}})
}

#[test]
fn an_autoscaler_without_metrics_is_noted_when_it_lasts() {
    let mut cluster = Cluster::ready(stack("shop").set("api.autoscaling", json!({})));
    let kind = ("autoscaling", "HorizontalPodAutoscaler");
    cluster.put(kind, Component::Api, autoscaler("False", "FailedGetResourceMetric"));
    assert_eq!(message(&mut cluster, 1060, "ApiReady"), "");
    assert_eq!(cluster.requeue_after, Some(60));
    let note = message(&mut cluster, 1120, "ApiReady");
    insta::assert_snapshot!(note, @"horizontalpodautoscaler/shop-api does not scale: the HPA was unable to compute the replica count: no metrics returned from resource metrics API");
    cluster.put(kind, Component::Api, autoscaler("True", "ValidMetricFound"));
    assert_eq!(message(&mut cluster, 1200, "ApiReady"), "");
}

#[test]
fn a_scale_up_that_is_refused_is_noted() {
    let mut cluster = Cluster::ready(stack("shop").set("api.autoscaling", json!({})));
    let mut conditions = rolled_out();
    let said = "pods \"shop-api-1-x\" is forbidden: exceeded quota: q";
    conditions.as_array_mut().unwrap().push(json!({"type": "ReplicaFailure", "status": "True", "message": said}));
    cluster.deployment(Component::Api, 5, [3, 3, 3], &conditions);
    let note = message(&mut cluster, 1000, "ApiReady");
    insta::assert_snapshot!(note, @"3 of 5 pods ready: the pods of deployment/shop-api are refused: exceeded quota: q");
}

#[test]
fn an_ingress_without_an_address_is_noted_after_two_minutes() {
    let mut cluster =
        Cluster::ready(stack("shop").set("ingress", json!({"host": "api.example.com", "className": "nginx"})));
    let kind = ("networking.k8s.io", "Ingress");
    let made = |status: Value| json!({"metadata": {"creationTimestamp": at(1000)}, "status": status});
    cluster.put(kind, Component::Ingress, made(json!({})));
    assert_eq!(message(&mut cluster, 1119, "IngressReady"), "");
    assert_eq!(cluster.requeue_after, Some(1));
    let note = message(&mut cluster, 1120, "IngressReady");
    insta::assert_snapshot!(note, @"ingress/shop-ingress has no address yet: check that an ingress controller serves the class nginx; some write no address");
    cluster.put(kind, Component::Ingress, made(json!({"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}})));
    assert_eq!(message(&mut cluster, 1130, "IngressReady"), "");
}

/// Development changes its schema as it likes.
#[test]
fn a_stack_without_migrations_is_ready_and_says_so() {
    let staging = |stack: Fixture| stack.set("environment", json!("Staging"));
    let mut cluster = Cluster::ready(staging(stack("shop")));
    let note = message(&mut cluster, 1000, "ApiReady");
    insta::assert_snapshot!(note, @"api.migrations is left out, so no release changes the schema of the database before it serves");
    for stack in [stack("shop"), staging(stack("shop")).set("api.migrations", json!({"command": ["migrate"]}))] {
        assert_eq!(message(&mut Cluster::ready(stack), 1000, "ApiReady"), "");
    }
}

#[test]
fn no_pods_on_purpose_are_noted() {
    let mut cluster = Cluster::empty(stack("shop").set("api.replicas", json!(0)));
    cluster.live = all_ready(&cluster.stack);
    let status = cluster.reconcile(1000);
    assert_eq!(line(&status, "ApiReady"), "True ScaledToZero");
    let note = &condition(&status, "Ready").unwrap().message;
    insta::assert_snapshot!(note, @"everything that the spec asks for serves; deployment/shop-api has no pods: spec.api.replicas is 0");
}

/// A pooler that keeps no lock makes no backup worse.
#[test]
fn a_dump_without_the_lock_is_good_and_says_so() {
    let mut cluster = Cluster::ready(stack("shop").set("backup", json!({})));
    let record = json!({"id": "20260101T000000Z-aaaaa", "at": at(1020), "sizeBytes": 10, "sha256": "", "removed": 0,
        "location": "s3://b/x", "notLocked": "failed to hold a lock on PostgreSQL at h:1: DIRECT_URL leads to a pooler"});
    let outcome = json!({"complete": record}).to_string();
    let statuses =
        json!([{"name": "dump", "state": {"terminated": {"exitCode": 0, "message": outcome}}, "restartCount": 0}]);
    cluster.put(("", "Pod"), Component::Backup, json!({"status": {"containerStatuses": statuses}}));
    let status = cluster.reconcile(1030);
    assert_eq!(line(&status, "BackupHealthy"), "True PooledConnection");
    assert_eq!(line(&status, "Ready"), "True Ready");
    let told = &condition(&status, "BackupHealthy").unwrap().message;
    insta::assert_snapshot!(told, @"the last backup ran without the lock that excludes migrations: failed to hold a lock on PostgreSQL at h:1: DIRECT_URL leads to a pooler");
}

/// A point that lacks something else than the objects of the bucket says so, and is no point of the database only.
#[test]
fn a_point_with_its_objects_is_none_of_the_database_only() {
    let why = "the point lacks the spec of the stack: it has 300000 bytes, which are too many to tell a pod";
    for (objects, reason) in [(json!(3), "Ready"), (json!(0), "Ready"), (Value::Null, "DatabaseOnly")] {
        let mut cluster = Cluster::ready(stack("shop").set("backup", json!({"includeBucket": true})));
        let record = json!({"id": "20260101T000000Z-aaaaa", "at": at(1020), "sizeBytes": 10, "sha256": "", "removed": 0,
            "location": "s3://b/x", "objects": objects, "notWhole": why});
        let outcome = json!({"complete": record}).to_string();
        let ended = json!({"terminated": {"exitCode": 0, "message": outcome}});
        let statuses = json!([{"name": "dump", "state": ended, "restartCount": 0}]);
        cluster.put(("", "Pod"), Component::Backup, json!({"status": {"containerStatuses": statuses}}));
        let status = cluster.reconcile(1030);
        assert_eq!(line(&status, "BackupHealthy"), format!("True {reason}"));
        assert!(condition(&status, "BackupHealthy").unwrap().message.contains(why));
    }
}

/// The newest Job, and what the agent said in its pod while a container beside it keeps the pod running.
#[test]
fn a_dump_that_is_complete_counts_though_its_pod_runs() {
    let mut cluster = Cluster::empty(stack("shop").set("backup", json!({})));
    cluster.live = all_ready(&cluster.stack);
    cluster.live.take("Job", "shop-backup-1");
    let job =
        |conditions: Value| json!({"metadata": {"creationTimestamp": at(1000)}, "status": {"conditions": conditions}});
    cluster.put(("batch", "Job"), Component::Backup, job(json!([])));
    assert_eq!(line(&cluster.reconcile(1010), "BackupHealthy"), "Unknown NoBackupYet", "one that runs decides nothing");
    let record = json!({"id": "20260101T000000Z-aaaaa", "at": at(1020), "sizeBytes": 10, "sha256": "", "removed": 0,
        "location": "s3://b/x"});
    let outcome = json!({"complete": record}).to_string();
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "shop-backup-0", "controller": true,
        "uid": "uid-of-Job-shop-backup-0"}]);
    let statuses = json!([{"name": "dump", "state": {"terminated": {"exitCode": 0, "message": outcome}}, "restartCount": 0},
        {"name": "mesh", "state": {"running": {"startedAt": at(1001)}}, "restartCount": 0}]);
    let body = json!({"metadata": {"ownerReferences": owner}, "status": {"containerStatuses": statuses}});
    cluster.put(("", "Pod"), Component::Backup, body);
    assert_eq!(line(&cluster.reconcile(1030), "BackupHealthy"), "True Ready");
    // In the end the Job is failed for its deadline, and its pod is gone with what it said.
    cluster.live.take("Pod", "shop-backup-0");
    let failed =
        json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "Job was active longer"}]);
    cluster.put(("batch", "Job"), Component::Backup, job(failed));
    assert_eq!(line(&cluster.reconcile(50000), "BackupHealthy"), "False BackupFailed", "no good one is known");
    cluster.stack.last_backup = Some(1020);
    assert_eq!(line(&cluster.reconcile(50000), "BackupHealthy"), "True Ready");
}

#[test]
fn annotations_without_effect_are_noted() {
    let mut cluster = Cluster::ready(stack("shop"));
    let message = |cluster: &mut Cluster| {
        message(cluster, 1000, "ApiReady") + &condition(&cluster.reconcile(1000), "Ready").unwrap().message
    };
    assert_eq!(message(&mut cluster), "everything that the spec asks for serves");
    let annotations = [("rorun.app/approve", "0c2a41b97e"), ("rorun.app/backup", "1")];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
    cluster.cr.metadata.annotations = Some(annotations.into());
    insta::assert_snapshot!(message(&mut cluster), @"everything that the spec asks for serves; the annotation rorun.app/approve is 0c2a41b97e, which the spec does not ask for, so it starts nothing; the annotation rorun.app/backup asks for a backup, and spec.backup is not set");
}

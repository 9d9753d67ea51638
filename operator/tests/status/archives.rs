//! Until when data can be restored, and how long that takes.

use rorun_operator::names::Component;
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, at},
    support::stack,
};

const CNPG: &str = "postgresql.cnpg.io";
const HOUR: i64 = 3600;

/// A database of CloudNativePG whose archive has a base backup, and goes on or not, since a moment.
fn archiving(cluster: &mut Cluster, goes_on: bool, since: i64) {
    let plugin = json!({"name": "barman-cloud.cloudnative-pg.io", "parameters": {"serverName": "shop-1"}});
    let condition = json!({"type": "ContinuousArchiving", "status": if goes_on { "True" } else { "False" }, "reason": "R",
        "message": "", "lastTransitionTime": at(since)});
    let body = json!({"spec": {"plugins": [plugin]}, "status": {"conditions": [condition]}});
    cluster.put((CNPG, "Cluster"), Component::Database, body);
    let window = json!({"shop-1": {"firstRecoverabilityPoint": at(0)}});
    let body = json!({"status": {"serverRecoveryWindow": window}});
    cluster.put(("barmancloud.cnpg.io", "ObjectStore"), Component::Backup, body);
}

fn until(cluster: &mut Cluster, now: i64) -> Option<i64> {
    cluster.reconcile(now).backup.and_then(|backup| backup.restorable_until).map(|until| until.0.as_second())
}

#[test]
fn an_archive_that_goes_on_is_told_every_hour_and_one_that_ended_as_of_then() {
    let spec =
        stack("shop").set("database", json!({"cloudNativePG": {}})).set("backup", json!({"pointInTime": {"days": 14}}));
    let mut cluster = Cluster::empty(spec);
    archiving(&mut cluster, true, 0);
    assert_eq!(until(&mut cluster, 1000), Some(700), "a segment is archived after 300 s at the latest");
    let backup = |cluster: &Cluster| cluster.old.as_ref().and_then(|status| status.backup.clone());
    let before = backup(&cluster);
    assert_eq!(until(&mut cluster, 1000 + HOUR - 1), Some(700));
    assert_eq!(backup(&cluster), before, "the status does not follow the clock");
    assert_eq!(cluster.requeue_after, Some(1));
    assert_eq!(until(&mut cluster, 1000 + HOUR), Some(700 + HOUR));
    archiving(&mut cluster, false, 6000);
    assert_eq!(until(&mut cluster, 9000), Some(6000));
    assert_eq!(until(&mut cluster, 90_000), Some(6000));
}

/// The newest of both says how long the newest dump takes.
#[test]
fn how_long_a_restore_takes_is_scaled_by_size() {
    let status = |members: Value| -> Option<i64> {
        let status: rorun_operator::api::v1alpha1::BackupStatus = serde_json::from_value(members).unwrap();
        status.restore_takes().map(|(seconds, _)| seconds)
    };
    let last = json!({"id": "x", "at": at(0), "sizeBytes": 400, "location": "s3://b/k"});
    let drill = json!({"id": "x", "at": at(10), "durationSeconds": 60, "sizeBytes": 200, "checks": 0});
    let restore = |moment: i64| json!({"at": at(moment), "durationSeconds": 90, "sizeBytes": 100});
    assert_eq!(status(json!({"lastSuccessful": last})), None, "nobody has tried");
    assert_eq!(status(json!({"lastSuccessful": last, "lastVerified": drill})), Some(120));
    assert_eq!(status(json!({"lastSuccessful": last, "lastVerified": drill, "lastRestored": restore(5)})), Some(120));
    assert_eq!(status(json!({"lastSuccessful": last, "lastVerified": drill, "lastRestored": restore(20)})), Some(360));
    assert_eq!(status(json!({"lastRestored": restore(20)})), Some(90));
}

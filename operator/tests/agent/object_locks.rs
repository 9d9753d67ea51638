//! Object Lock of the buckets of points: what is locked, for how long, and what a run does with what it may not remove.

use std::process::Command;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};
use jiff::{SignedDuration, Timestamp};
use rorun_operator::agent::BackupId;
use rorun_operator::contract::{
    self, CopyTarget, DUMP_FILE, DumpRecord, MANIFEST_FILE, MARKER_FILE, OBJECTS_FILE, PointOrigin, SPEC_FILE,
};
use rorun_operator::services::ServiceError;
use rorun_operator::services::bucket::{BucketClient, BucketTarget, LockMode, Retention, Timeouts, Version};
use serde_json::json;

use crate::gateway::{Gateway, Passed};
use crate::moto::Moto;
use crate::points::target as copy_target;
use crate::prunes::days_ago;
use crate::scenario::Scenario;

const DAY: i64 = 24 * 3600;
/// Where the objects of copies are.
const POOL: &str = "from-eu/_objects/n/s/";

fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the agent under test looks at the same clock")]
    let now = Timestamp::now();
    now.as_second()
}

/// Who makes buckets with what no stack asks for.
fn administrator(target: &BucketTarget) -> Client {
    let keys = target.keys.as_ref().expect("keys");
    let keys = Credentials::new(&keys.id, &keys.secret, None, None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(&target.endpoint)
        .region(Region::new(target.region.clone()))
        .credentials_provider(keys)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .force_path_style(true);
    Client::from_conf(config.http_client(aws_smithy_http_client::Builder::new().build_http()).build())
}

/// A bucket with Object Lock, which may lock by itself for so many days.
async fn locked(target: &BucketTarget, default: Option<(ObjectLockRetentionMode, i32)>) -> BucketClient {
    let client = administrator(target);
    let create = client.create_bucket().bucket(&target.bucket).object_lock_enabled_for_bucket(true);
    create.send().await.expect("a bucket");
    if let Some((mode, days)) = default {
        let retention = DefaultRetention::builder().mode(mode).days(days).build();
        let rule = ObjectLockRule::builder().default_retention(retention).build();
        let enabled = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule);
        let put = client.put_object_lock_configuration().bucket(&target.bucket);
        put.object_lock_configuration(enabled.build()).send().await.expect("a default");
    }
    BucketClient::new(target, Timeouts::CHECK).expect("client")
}

/// A database, and points in a bucket with Object Lock.
async fn scenario(name: &'static str, bucket: &'static str) -> (Scenario, BucketTarget) {
    let mut scenario = Scenario::new(name).await;
    scenario.sql("CREATE TABLE receipts AS SELECT n FROM generate_series(1, 100) n").await;
    let target = scenario.servers.bucket(bucket);
    scenario.bucket = locked(&target, None).await;
    (scenario, target)
}

fn command(scenario: &Scenario, target: &BucketTarget) -> Command {
    let mut command = scenario.command();
    command.env(contract::ENV_S3_BUCKET, &target.bucket).env(contract::ENV_S3_ENDPOINT, &target.endpoint);
    command
}

async fn dump(scenario: &Scenario, target: &BucketTarget, more: &[&str]) -> DumpRecord {
    let mut command = command(scenario, target);
    command.args(more);
    scenario.run(command).await.complete()
}

async fn versions(bucket: &BucketClient, prefix: &str) -> Vec<Version> {
    let versions = bucket.versions(prefix).await.expect("versions");
    versions.into_iter().filter(|version| !version.marker).collect()
}

/// Nobody with the same keys deletes any of these for ever.
async fn refuses(bucket: &BucketClient, versions: &[Version]) {
    for version in versions {
        let refused = bucket.delete_version(version).await;
        assert!(matches!(refused, Err(ServiceError::AccessDenied { .. })), "{version:?}: {refused:?}");
    }
}

#[tokio::test]
async fn a_point_is_locked_for_as_long_as_retention_keeps_it() {
    let (scenario, target) = scenario("lock-points", "lock-points-locked").await;
    let bucket = &scenario.bucket;
    bucket.put("uploads/a", b"a receipt".to_vec()).await.expect("put");
    let objects = [contract::ARG_OBJECTS, contract::ARG_OBJECTS_EXCEPT, "backups/"];
    let mut command = command(&scenario, &target);
    command
        .args(objects)
        .env(contract::ENV_ORIGIN, PointOrigin { stack: Some(json!({})), ..PointOrigin::default() }.text());
    let record = scenario.run(command).await.complete();
    let id: BackupId = record.id.parse().expect("an id");
    assert_eq!(record.locked_until, Some(id.created() + SignedDuration::from_hours(7 * 24)), "{record:?}");
    assert_eq!((record.lock_note, record.not_whole, record.objects), (None, None, Some(1)));
    let folder = format!("{}{id}/", scenario.prefix);
    let all = versions(bucket, &folder).await;
    let mut files: Vec<_> = all.iter().map(|version| version.key.trim_start_matches(&*folder)).collect();
    files.sort_unstable();
    assert_eq!(files, [DUMP_FILE, MANIFEST_FILE, OBJECTS_FILE, SPEC_FILE]);
    refuses(bucket, &all).await;
    let lock = bucket.retention(&format!("{folder}{DUMP_FILE}"), None).await.expect("head").expect("a lock");
    assert_eq!(lock, Retention { mode: LockMode::Governance, until: id.created().as_second() + 7 * DAY });

    // What is replaced is not locked.
    let marker = versions(bucket, &format!("{}{MARKER_FILE}", scenario.prefix)).await;
    assert_eq!(marker.len(), 1);
    bucket.delete_version(&marker[0]).await.expect("delete");
    // Another release takes the same point for its way back: it says how long that is locked.
    let again = [contract::ARG_HOLD, "0123456789", contract::ARG_REUSE_WITHIN_SECONDS, "3600"];
    let reused = dump(&scenario, &target, &again).await;
    assert!(reused.reused && reused.id == record.id);
    assert_eq!(reused.locked_until, record.locked_until);
    let holds = versions(bucket, &format!("{folder}hold-")).await;
    bucket.delete_version(&holds[0]).await.expect("a hold is not locked");

    // Somebody hides it: it is not lost, and is restored.
    bucket.delete(&format!("{folder}{DUMP_FILE}")).await.expect("hide");
    refuses(bucket, &all).await;
    let listed = bucket.versions(&folder).await.expect("versions");
    bucket.delete_version(listed.iter().find(|version| version.marker).expect("a marker")).await.expect("delete");
    let body = bucket.get(&format!("{folder}{DUMP_FILE}")).await.expect("get").expect("a dump");
    let restored = scenario.restore(&body).await;
    assert_eq!(scenario.sql_in(&restored, "SELECT count(*) FROM receipts").await, "100");
}

#[tokio::test]
async fn what_is_locked_longer_than_it_is_kept_is_a_note_and_no_failure() {
    let (scenario, target) = scenario("lock-prunes", "lock-prunes-locked").await;
    let (bucket, owner) = (&scenario.bucket, scenario.owner());
    let ids: Vec<String> = [40, 30, 20, 10].into_iter().map(days_ago).collect();
    for id in &ids {
        scenario.put_backup(id, Some(&owner)).await;
    }
    let until = now() + 2 * DAY;
    let lock = Retention { mode: LockMode::Governance, until };
    let key = |id: &str, file: &str| format!("{}{id}/{file}", scenario.prefix);
    for (id, file) in [(&ids[0], DUMP_FILE), (&ids[2], MANIFEST_FILE)] {
        assert!(bucket.retain(&key(id, file), lock).await.expect("lock"));
    }
    let record = dump(&scenario, &target, &[]).await;
    assert_eq!((record.removed, record.not_removed.clone()), (1, None), "{record:?}");
    let note = record.lock_note.expect("a note");
    let moment = Timestamp::from_second(until).expect("a moment").to_string();
    for words in ["2 old backups are kept", &ids[0], &moment] {
        assert!(note.contains(words), "{words}: {note}");
    }
    let keys = scenario.keys().await;
    for (id, stays) in ids.iter().zip([true, false, true, true]) {
        for file in [DUMP_FILE, MANIFEST_FILE] {
            assert_eq!(keys.contains(&format!("{id}/{file}")), stays, "{id} {file}");
        }
    }
    // Of an embedded bucket the versions go as well, but for those that are locked.
    let hidden = key(&ids[1], DUMP_FILE);
    let gone = versions(bucket, &hidden).await;
    scenario.put_backup(&ids[1], Some(&owner)).await;
    assert!(bucket.retain(&hidden, lock).await.expect("lock"));
    for file in [DUMP_FILE, MANIFEST_FILE] {
        bucket.delete(&key(&ids[1], file)).await.expect("hide");
    }
    let record = dump(&scenario, &target, &[contract::ARG_DELETE_VERSIONS]).await;
    assert_eq!(record.not_removed, None);
    let note = record.lock_note.expect("a note");
    assert!(note.contains("1 objects of removed backups") && note.contains(&moment), "{note}");
    let left = versions(bucket, &key(&ids[1], "")).await;
    assert!(left.len() == 1 && !left.contains(&gone[0]), "only what is locked is left: {left:?}");
    assert!(!scenario.keys().await.contains(&format!("{}/{DUMP_FILE}", ids[1])), "and it stays hidden");
}

/// A bucket that locks by itself, for everybody and for longer.
#[tokio::test]
async fn the_default_of_a_bucket_is_never_cut_short() {
    let scenario = Scenario::new("lock-default").await;
    // More than one part.
    scenario.fill(9).await;
    let moto = Moto::shared().await;
    // Moto locks nothing that is written in parts, and wants a checksum of everything.
    let [seaweed, moto] = [scenario.servers.bucket("lock-default-locked"), moto.bucket("lock-default-locked")];
    for (target, files) in [(seaweed, &[DUMP_FILE, MANIFEST_FILE][..]), (moto, &[MANIFEST_FILE])] {
        let bucket = locked(&target, Some((ObjectLockRetentionMode::Compliance, 30))).await;
        let begun = now();
        let record = dump(&scenario, &target, &[]).await;
        for file in files {
            let key = format!("{}{}/{file}", scenario.prefix, record.id);
            let lock = bucket.retention(&key, None).await.expect("head").expect("a lock");
            refuses(&bucket, &versions(&bucket, &key).await).await;
            assert_eq!(lock.mode, LockMode::Compliance, "{file}");
            assert!(lock.until >= begun + 30 * DAY, "{file}: {lock:?} {begun}");
        }
        let until = record.locked_until.expect("it is told").as_second();
        assert!(until >= begun + 30 * DAY && until <= now() + 30 * DAY, "{until} {begun}");
    }
}

/// Before Object Lock was used these keys were enough, and they still are.
#[tokio::test]
async fn keys_that_may_not_lock_make_points_that_are_not_locked() {
    let (scenario, target) = scenario("lock-rights", "lock-rights-locked").await;
    let gateway = Gateway::start(scenario.servers.s3_port, |asked| {
        if asked.locks { Passed::Answered(403, "AccessDenied") } else { Passed::On }
    })
    .await;
    let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..target };
    let record = dump(&scenario, &through, &[]).await;
    assert_eq!(record.locked_until, None);
    let note = record.lock_note.expect("a note");
    assert!(note.contains("lock-rights-locked") && note.contains("s3:PutObjectRetention"), "{note}");
    assert!(scenario.keys().await.contains(&format!("{}/{MANIFEST_FILE}", record.id)));
}

/// Lists say that everything was written long ago.
fn aged(text: &str) -> String {
    let mut parts = text.split("<LastModified>");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| done + "<LastModified>2020" + part.get(4..).unwrap_or_default())
}

#[tokio::test]
async fn copies_and_their_objects_are_locked_by_a_retention_of_their_own() {
    let scenario = Scenario::new("lock-copies").await;
    scenario.bucket.enable_versioning().await.expect("versioning");
    scenario.sql("CREATE TABLE t (n int)").await;
    for key in ["a", "b"] {
        scenario.bucket.put(&format!("uploads/{key}"), key.into()).await.expect("put");
    }
    let there = locked(&scenario.servers.bucket("lock-copies-there"), None).await;
    let copy = async |endpoint: Option<&str>| {
        let mut target: CopyTarget = copy_target(&scenario, "lock-copies-there", "from-eu/n/s/");
        if let Some(endpoint) = endpoint {
            endpoint.clone_into(&mut target.location.endpoint);
            target.location.ca = None;
        }
        let mut command = scenario.command();
        command.args([contract::ARG_OBJECTS, contract::ARG_OBJECTS_EXCEPT, "backups/"]);
        command.env(contract::ENV_COPIES, serde_json::to_string(&[target]).expect("JSON"));
        let record = scenario.run(command).await.complete();
        assert_eq!((record.not_copied.clone(), record.objects_not_copied.clone()), (None, None));
        assert_eq!((record.locked_until, record.lock_note.clone()), (None, None), "its own bucket has no lock");
        record
    };
    let ends = async || {
        let mut ends = Vec::new();
        for version in versions(&there, POOL).await {
            ends.push(there.retention(&version.key, Some(&version)).await.expect("head").map(|lock| lock.until));
        }
        ends
    };
    // A server that did not lock when the first were copied.
    let before = Gateway::start(scenario.servers.s3_port, |asked| {
        if asked.asks("object-lock") { Passed::Answered(501, "NotImplemented") } else { Passed::On }
    })
    .await;
    copy(Some(&before.endpoint)).await;
    assert_eq!(ends().await, [None, None]);

    scenario.bucket.put("uploads/c", b"c".to_vec()).await.expect("put");
    let old = Gateway::start(scenario.servers.s3_port, |asked| {
        if asked.method == "GET" && asked.asks("list-type") { Passed::Translated(aged) } else { Passed::On }
    })
    .await;
    let begun = now();
    let record = copy(Some(&old.endpoint)).await;
    let id: BackupId = record.id.parse().expect("an id");
    // A retention of three days, and up to a day more.
    let prolonged = ends().await;
    let long = |end: &Option<i64>| end.is_some_and(|end| end >= begun + 3 * DAY && end <= now() + 4 * DAY + 1);
    assert!(prolonged.len() == 3 && prolonged.iter().all(long), "{prolonged:?} {begun}");
    refuses(&there, &versions(&there, POOL).await).await;
    let files = versions(&there, &format!("from-eu/n/s/{id}/")).await;
    assert_eq!(files.len(), 3, "{files:?}");
    refuses(&there, &files).await;
    for file in [DUMP_FILE, OBJECTS_FILE, MANIFEST_FILE] {
        let lock = there.retention(&format!("from-eu/n/s/{id}/{file}"), None).await.expect("head").expect("a lock");
        assert_eq!(lock.until, id.created().as_second() + 3 * DAY, "{file}");
    }
    // In the same term nothing is locked anew.
    copy(Some(&old.endpoint)).await;
    let again = ends().await;
    assert!(again.len() == 3 && again.iter().all(long), "{again:?}");
}

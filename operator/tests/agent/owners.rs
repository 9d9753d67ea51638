//! Whose backups these are: what is another's, nobody's or not understood is never removed.

use std::collections::BTreeSet;

use rorun_operator::contract::{self, DUMP_FILE, DumpRecord, MANIFEST_FILE, MARKER_FILE};
use rorun_operator::services::bucket::Replaced;
use serde_json::Value;

use crate::locked::Lock;
use crate::prunes::days_ago;
use crate::scenario::Scenario;

/// The same namespace and name in another cluster.
fn other(scenario: &Scenario) -> String {
    format!("9b2e7d10-0000-4000-8000-000000000002/{}", scenario.name)
}

async fn scenario(name: &'static str) -> Scenario {
    let scenario = Scenario::new(name).await;
    scenario.sql("CREATE TABLE t (id int)").await;
    scenario
}

async fn dump_with(scenario: &Scenario, arguments: &[&str]) -> DumpRecord {
    let mut command = scenario.command();
    command.args(arguments);
    scenario.run(command).await.complete()
}

/// As the agent of another owner.
async fn dump_as(scenario: &Scenario, owner: &str) -> DumpRecord {
    scenario.run(scenario.command_of(Some(owner))).await.complete()
}

async fn content(scenario: &Scenario, file: &str) -> Value {
    let body = scenario.bucket.get(&format!("{}{file}", scenario.prefix)).await.expect("get").expect("an object");
    serde_json::from_slice(&body).expect("JSON")
}

fn files(id: &str) -> [String; 2] {
    [DUMP_FILE, MANIFEST_FILE].map(|file| format!("{id}/{file}"))
}

#[tokio::test]
async fn two_owners_on_one_prefix_remove_each_their_own() {
    let scenario = scenario("two-owners").await;
    let (own, other) = (scenario.owner(), other(&scenario));
    let mut theirs = BTreeSet::new();
    let mut kept = BTreeSet::from([MARKER_FILE.to_owned()]);
    for days in [20, 30, 40, 50] {
        scenario.put_backup(&days_ago(days), Some(&own)).await;
        theirs.extend(scenario.put_backup(&days_ago(days), Some(&other)).await);
        // Of 0.1.0: perhaps of this cluster, perhaps of another.
        kept.extend(scenario.put_backup(&days_ago(days), None).await);
    }
    let record = scenario.dump().await;
    // The new one and one more: those of others do not count.
    assert_eq!((record.removed, record.without_owner), (3, 4), "{record:?}");
    assert_eq!(record.shared_with.as_deref(), Some(&*other));
    assert_eq!(record.not_removed, None);
    let keys = scenario.keys().await;
    assert!(theirs.is_subset(&keys) && kept.is_subset(&keys), "{keys:?}");
    assert_eq!(content(&scenario, MARKER_FILE).await["owner"], *own);
    // A foreign marker stops nothing: a backup is made, and one's own old ones go.
    let record = dump_as(&scenario, &other).await;
    assert_eq!((record.removed, record.shared_with.as_deref()), (3, Some(&*own)), "{record:?}");
    assert!(kept.is_subset(&scenario.keys().await));
    assert_eq!(content(&scenario, MARKER_FILE).await["owner"], *own, "the marker is not overwritten");
    let again = scenario.dump().await;
    assert_eq!((again.removed, again.shared_with.as_deref()), (1, Some(&*other)));
}

#[tokio::test]
async fn without_an_owner_nothing_is_removed_and_nothing_is_marked() {
    let scenario = scenario("no-owner").await;
    let mut expected = BTreeSet::new();
    for days in [20, 30, 40] {
        expected.extend(scenario.put_backup(&days_ago(days), None).await);
        expected.extend(scenario.put_backup(&days_ago(days), Some(&scenario.owner())).await);
    }
    let record = scenario.run(scenario.command_of(None)).await.complete();
    assert_eq!((record.removed, record.shared_with), (0, None));
    expected.extend(files(&record.id));
    assert_eq!(scenario.keys().await, expected);
}

#[tokio::test]
async fn adoption_obeys_exactly_what_it_is_told() {
    let scenario = scenario("adoption").await;
    let (own, other) = (scenario.owner(), other(&scenario));
    dump_as(&scenario, &other).await;
    let theirs = days_ago(20);
    scenario.put_backup(&theirs, Some(&other)).await;
    let nobodys = days_ago(3);
    scenario.put_backup(&nobodys, None).await;
    let thirds = days_ago(22);
    scenario.put_backup(&thirds, Some("third/adoption")).await;
    let owner_of = async |id: &str| content(&scenario, &format!("{id}/{MANIFEST_FILE}")).await["owner"].clone();

    // A wrong value does nothing, and says so.
    let record = dump_with(&scenario, &[contract::ARG_ADOPT, "9b2e7d10-0000-4000-8000-000000000002/another"]).await;
    let adoption = record.adoption.expect("it is told");
    assert!(adoption.done && adoption.message.contains("nothing was changed"), "{adoption:?}");
    assert_eq!((owner_of(&theirs).await, owner_of(&nobodys).await), (other.clone().into(), Value::Null));
    assert_eq!(content(&scenario, MARKER_FILE).await["owner"], *other);

    let record = dump_with(&scenario, &[contract::ARG_ADOPT, &other]).await;
    let adoption = record.adoption.expect("it is told");
    assert!(adoption.done && adoption.message.contains("2 backups of") && adoption.value == other, "{adoption:?}");
    assert_eq!(content(&scenario, MARKER_FILE).await["owner"], *own);
    assert_eq!(record.shared_with.as_deref(), Some("third/adoption"), "whose are left is told");
    assert_eq!((owner_of(&nobodys).await, owner_of(&thirds).await), (Value::Null, "third/adoption".into()));
    // What was adopted is one's own, and old.
    assert_eq!(record.removed, 1);
    assert!(!scenario.keys().await.contains(&files(&theirs)[0]));

    let record = dump_with(&scenario, &[contract::ARG_ADOPT, contract::ADOPT_NONE]).await;
    assert!(record.adoption.is_some_and(|adoption| adoption.done), "{}", record.id);
    let adopted = content(&scenario, &format!("{nobodys}/{MANIFEST_FILE}")).await;
    assert_eq!((&adopted["owner"], &adopted["stackUID"]), (&own.into(), &"stack-uid".into()));
    assert_eq!(adopted["note"], "of another release", "nothing else of it is changed");
    assert_eq!((record.without_owner, owner_of(&thirds).await), (0, "third/adoption".into()));
}

#[tokio::test]
async fn a_marker_that_is_none_is_left_and_told() {
    let scenario = scenario("odd-marker").await;
    let key = format!("{}{MARKER_FILE}", scenario.prefix);
    scenario.bucket.put(&key, b"mine!".to_vec()).await.expect("put");
    let record = dump_with(&scenario, &[contract::ARG_ADOPT, contract::ADOPT_NONE]).await;
    assert!(record.shared_with.is_some_and(|with| with.contains("unreadable")), "{}", record.id);
    assert_eq!(scenario.bucket.get(&key).await.expect("get"), Some(b"mine!".to_vec()));
}

#[tokio::test]
async fn one_locked_dump_does_not_keep_the_others() {
    let scenario = scenario("locked").await;
    let oldest = days_ago(50);
    for id in [days_ago(20), days_ago(30), days_ago(40), oldest.clone()] {
        scenario.put_backup(&id, Some(&scenario.owner())).await;
    }
    let lock = Lock::new(scenario.servers.s3_port, &format!("{oldest}/")).await;
    let mut command = scenario.command();
    command.env(contract::ENV_S3_ENDPOINT, &lock.endpoint);
    let record = scenario.run(command).await.complete();
    assert_eq!(record.removed, 2, "{record:?}");
    let told = record.not_removed.expect("it is told");
    assert!(
        told.starts_with("1 old backup under ") && told.contains(&oldest) && told.contains("AccessDenied"),
        "{told}"
    );
    let keys = scenario.keys().await;
    assert!(files(&oldest).iter().all(|file| keys.contains(file)), "half of a backup is left: {keys:?}");
    let record = scenario.dump().await;
    assert_eq!((record.removed, record.not_removed), (2, None), "tried again when the lock is gone");
}

#[tokio::test]
async fn a_manifest_counts_only_with_its_dump() {
    let scenario = scenario("wrong-manifests").await;
    let own = scenario.owner();
    let put = async |file: &str, body: &[u8]| {
        scenario.bucket.put(&format!("{}{file}", scenario.prefix), body.to_vec()).await.expect("put");
    };
    let good = [days_ago(10), days_ago(20), days_ago(30)];
    for id in &good {
        scenario.put_backup(id, Some(&own)).await;
    }
    // Newer ones that would push the good ones out, and are not good.
    let cut_off = days_ago(1);
    scenario.put_backup(&cut_off, Some(&own)).await;
    put(&format!("{cut_off}/{DUMP_FILE}"), &[1; 4]).await;
    let garbage = days_ago(2);
    put(&format!("{garbage}/{DUMP_FILE}"), &[1; 5]).await;
    put(&format!("{garbage}/{MANIFEST_FILE}"), b"{").await;
    let without_dump = days_ago(3);
    scenario.put_backup(&without_dump, Some(&own)).await;
    scenario.bucket.delete(&format!("{}{without_dump}/{DUMP_FILE}", scenario.prefix)).await.expect("delete");
    // Old, and nobody's to remove: it cannot be known whose it is.
    let old_garbage = days_ago(300);
    put(&format!("{old_garbage}/{DUMP_FILE}"), &[1; 5]).await;
    put(&format!("{old_garbage}/{MANIFEST_FILE}"), &vec![b'x'; 100_000]).await;
    let record = scenario.dump().await;
    assert_eq!(record.removed, 2, "{record:?}");
    let keys = scenario.keys().await;
    assert!(files(&good[0]).iter().all(|file| keys.contains(file)), "the newest good one but the new one: {keys:?}");
    for id in [&cut_off, &garbage, &old_garbage, &without_dump] {
        assert!(keys.contains(&format!("{id}/{MANIFEST_FILE}")), "{id}: {keys:?}");
    }
}

/// As in the embedded bucket, whose volume the application shares.
#[tokio::test]
async fn old_versions_of_what_was_removed_do_not_stay() {
    let scenario = scenario("versions").await;
    scenario.bucket.enable_versioning().await.expect("versioning");
    let own = scenario.owner();
    let hidden_before = days_ago(60);
    let hidden = scenario.put_backup(&hidden_before, Some(&own)).await;
    for file in &hidden {
        scenario.bucket.delete(&format!("{}{file}", scenario.prefix)).await.expect("delete");
    }
    let (kept, old) = (days_ago(20), days_ago(30));
    scenario.put_backup(&kept, Some(&own)).await;
    scenario.put_backup(&old, Some(&own)).await;
    // The application's own, deleted and not, below and beside the prefix.
    let photo = format!("{}photos/database.dump", scenario.prefix);
    for key in [photo.as_str(), "uploads/receipt.jpg"] {
        scenario.bucket.put(key, vec![1]).await.expect("put");
        scenario.bucket.delete(key).await.expect("delete");
    }
    let record = dump_with(&scenario, &[contract::ARG_DELETE_VERSIONS]).await;
    assert_eq!((record.removed, record.not_removed), (1, None));
    let left = async |prefix: &str| scenario.bucket.versions(prefix).await.expect("versions").len();
    for id in [&hidden_before, &old] {
        assert_eq!(left(&format!("{}{id}/", scenario.prefix)).await, 0, "{id}");
    }
    assert_eq!(left(&format!("{}{kept}/", scenario.prefix)).await, 2);
    assert_eq!((left(&photo).await, left("uploads/").await), (2, 2));
}

/// What adoption stands on: an object that somebody else has written since it was read is not overwritten.
#[tokio::test]
async fn what_was_changed_meanwhile_is_not_replaced() {
    let scenario = scenario("meanwhile").await;
    let (bucket, key) = (&scenario.bucket, "a/manifest.json");
    bucket.put(key, vec![1]).await.expect("put");
    let read = bucket.get_tagged(key, 10).await.expect("get").expect("an object");
    bucket.put(key, vec![2]).await.expect("put");
    assert_eq!(bucket.replace(key, vec![3], &read.tag).await, Ok(Replaced::Changed));
    assert_eq!(bucket.get(key).await, Ok(Some(vec![2])));
    let read = bucket.get_tagged(key, 10).await.expect("get").expect("an object");
    assert_eq!(bucket.replace(key, vec![4; 20], &read.tag).await, Ok(Replaced::Now));
    let long = bucket.get_tagged(key, 10).await.expect("get").expect("an object");
    assert_eq!(long.body, Vec::<u8>::new(), "what is too long is not read");
    bucket.delete(key).await.expect("delete");
    assert_eq!(bucket.replace(key, vec![5], &long.tag).await, Ok(Replaced::Changed));
    assert_eq!(bucket.get(key).await, Ok(None));
    assert!(bucket.replace(key, vec![6], "").await.is_err(), "without a tag there is nothing to compare");
}

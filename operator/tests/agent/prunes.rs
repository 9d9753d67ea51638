//! What a good run removes: exactly the old ones.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rorun_operator::agent::BackupId;
use rorun_operator::contract::{DUMP_FILE, MANIFEST_FILE, MARKER_FILE};
use rorun_operator::services::bucket::Headers;

use crate::scenario::Scenario;

pub(crate) fn days_ago(days: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the agent under test looks at the same clock")]
    let now = Timestamp::now();
    BackupId::new(now - SignedDuration::from_hours(24 * days + 1)).to_string()
}

async fn put(scenario: &Scenario, key: &str) -> String {
    scenario.bucket.put(&format!("{}{key}", scenario.prefix), vec![1]).await.expect("put");
    key.to_owned()
}

async fn backup(scenario: &Scenario, days: i64) -> [String; 2] {
    scenario.put_backup(&days_ago(days), Some(&scenario.owner())).await
}

/// A dump without a manifest that says whose it is, or does not.
async fn leftover(scenario: &Scenario, days: i64, owner: Option<&str>) -> String {
    let file = format!("{}/{DUMP_FILE}", days_ago(days));
    let says: Vec<_> = owner.iter().map(|owner| ("rorun-owner", *owner)).collect();
    let upload =
        scenario.bucket.start_upload_with(&format!("{}{file}", scenario.prefix), &Headers::saying(&says)).await;
    let mut upload = upload.expect("upload");
    upload.send(vec![1; 100]).await.expect("part");
    upload.complete().await.expect("complete");
    file
}

/// Seven days and at least two, as [`Scenario::command`] says.
#[tokio::test]
async fn exactly_the_old_ones_are_removed() {
    let scenario = Scenario::new("exactly").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    for days in [8, 30] {
        backup(&scenario, days).await;
    }
    let left = leftover(&scenario, 3, Some(&scenario.owner())).await;
    let mut expected = BTreeSet::from([MARKER_FILE.to_owned()]);
    expected.insert(leftover(&scenario, 3, None).await);
    expected.insert(leftover(&scenario, 4, Some("another/exactly")).await);
    for days in [1, 6] {
        expected.extend(backup(&scenario, days).await);
    }
    expected.insert(put(&scenario, &format!("{}/{DUMP_FILE}", days_ago(1))).await);
    for stranger in ["notes.txt", "photos/database.dump"] {
        expected.insert(put(&scenario, stranger).await);
    }
    let neighbour = format!("backups/shop/exactly-2/{}/{MANIFEST_FILE}", days_ago(900));
    scenario.bucket.put(&neighbour, vec![1]).await.expect("put");
    let old_upload = format!("{}{}/{DUMP_FILE}", scenario.prefix, days_ago(4));
    let young_upload = format!("{}{}/{DUMP_FILE}", scenario.prefix, days_ago(0));
    for key in [&old_upload, &young_upload] {
        scenario.bucket.start_upload(key).await.expect("upload").send(vec![1; 100]).await.expect("part");
    }
    let record = scenario.dump().await;
    assert_eq!(record.removed, 3);
    expected.extend([DUMP_FILE, MANIFEST_FILE].map(|file| format!("{}/{file}", record.id)));
    let keys = scenario.keys().await;
    assert_eq!(keys, expected);
    assert!(!keys.contains(&left));
    assert_eq!(scenario.bucket.size(&neighbour).await.expect("size"), Some(1));
    let uploads = scenario.bucket.uploads(&scenario.prefix).await.expect("uploads");
    assert_eq!(uploads.into_iter().map(|upload| upload.key).collect::<Vec<_>>(), [young_upload]);
}

#[tokio::test]
async fn the_minimum_stays_however_old() {
    let scenario = Scenario::new("minimum").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    let kept = backup(&scenario, 300).await;
    backup(&scenario, 400).await;
    let record = scenario.dump().await;
    assert_eq!(record.removed, 1);
    let mut expected = BTreeSet::from(kept);
    expected.insert(MARKER_FILE.to_owned());
    expected.extend([DUMP_FILE, MANIFEST_FILE].map(|file| format!("{}/{file}", record.id)));
    assert_eq!(scenario.keys().await, expected);
}

#[tokio::test]
async fn a_run_tells_the_good_points_that_are_left() {
    let scenario = Scenario::new("tells-points").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    let kept = [backup(&scenario, 3).await, backup(&scenario, 1).await];
    backup(&scenario, 300).await;
    scenario.put_backup(&days_ago(2), Some("another/tells-points")).await;
    leftover(&scenario, 1, Some(&scenario.owner())).await;
    let made = scenario.dump().await;
    let ids = kept.iter().map(|[dump, _]| dump.split('/').next().unwrap_or_default().to_owned());
    assert_eq!(made.points, ids.chain([made.id.clone()]).collect::<Vec<_>>());
}

//! What a good run removes: exactly the old ones.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rorun_operator::agent::BackupId;
use rorun_operator::contract::{DUMP_FILE, MANIFEST_FILE};

use crate::scenario::Scenario;

fn days_ago(days: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the agent under test looks at the same clock")]
    let now = Timestamp::now();
    BackupId::new(now - SignedDuration::from_hours(24 * days + 1)).to_string()
}

async fn put(scenario: &Scenario, key: &str) -> String {
    scenario.bucket.put(&format!("{}{key}", scenario.prefix), vec![1]).await.expect("put");
    key.to_owned()
}

async fn backup(scenario: &Scenario, days: i64) -> [String; 2] {
    let id = days_ago(days);
    [put(scenario, &format!("{id}/{DUMP_FILE}")).await, put(scenario, &format!("{id}/{MANIFEST_FILE}")).await]
}

/// Seven days and at least two, as [`Scenario::command`] says.
#[tokio::test]
async fn exactly_the_old_ones_are_removed() {
    let scenario = Scenario::new("exactly").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    for days in [8, 30] {
        backup(&scenario, days).await;
    }
    let leftover = put(&scenario, &format!("{}/{DUMP_FILE}", days_ago(3))).await;
    let mut expected = BTreeSet::new();
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
    assert!(!keys.contains(&leftover));
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
    expected.extend([DUMP_FILE, MANIFEST_FILE].map(|file| format!("{}/{file}", record.id)));
    assert_eq!(scenario.keys().await, expected);
}

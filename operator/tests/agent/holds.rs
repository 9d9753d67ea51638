//! The recovery point of a release: a good backup that is young enough or new, and no retention removes it.

use std::collections::BTreeSet;

use rorun_operator::contract::{self, DumpRecord, MANIFEST_FILE, hold_file};

use crate::prunes::days_ago;
use crate::scenario::Scenario;

const HOUR: &str = "3600";

/// A run that finds or makes the recovery point of a release, while those of others are kept.
async fn hold(scenario: &Scenario, release: &str, held: &[&str]) -> DumpRecord {
    let mut command = scenario.command();
    command.args([contract::ARG_HOLD, release, contract::ARG_REUSE_WITHIN_SECONDS, HOUR]);
    for release in held {
        command.args([contract::ARG_HELD, release]);
    }
    scenario.run(command).await.complete()
}

/// The holds, as `<id>/<file>`.
async fn holds(scenario: &Scenario) -> BTreeSet<String> {
    let keys = scenario.keys().await.into_iter();
    keys.filter(|key| !key.ends_with(MANIFEST_FILE) && key.contains(contract::HOLD)).collect()
}

fn held(record: &DumpRecord, release: &str) -> String {
    format!("{}/{}", record.id, hold_file(release))
}

#[tokio::test]
async fn a_backup_that_is_young_enough_is_held_and_an_older_one_is_not() {
    let scenario = Scenario::new("young").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    let old = days_ago(1);
    scenario.put_backup(&old, Some(&scenario.owner())).await;
    let made = hold(&scenario, "aaaa", &[]).await;
    assert_ne!(made.id, old, "an hour is the limit");
    let again = hold(&scenario, "bbbb", &["aaaa"]).await;
    assert_eq!((&again.id, &again.sha256, &again.location), (&made.id, &made.sha256, &made.location));
    assert_eq!(again.size_bytes, made.size_bytes);
    assert_eq!(holds(&scenario).await, [held(&made, "aaaa"), held(&made, "bbbb")].into());
    // The same once more changes nothing.
    assert_eq!(hold(&scenario, "bbbb", &["aaaa"]).await.id, made.id);
    assert_eq!(holds(&scenario).await.len(), 2);
    assert!(again.reused && !made.reused);
    // A run that makes no backup gives back what others no longer hold, too.
    assert_eq!(hold(&scenario, "cccc", &["bbbb"]).await.id, made.id);
    assert_eq!(holds(&scenario).await, [held(&made, "bbbb"), held(&made, "cccc")].into());
}

#[tokio::test]
async fn what_is_held_is_not_removed_before_its_release_is_forgotten() {
    let scenario = Scenario::new("held").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    let old: Vec<String> = [300, 400, 500].into_iter().map(days_ago).collect();
    for id in &old {
        scenario.put_backup(id, Some(&scenario.owner())).await;
    }
    let hold_of = |id: &str, release: &str| format!("{}{id}/{}", scenario.prefix, hold_file(release));
    scenario.bucket.put(&hold_of(&old[1], "aaaa"), b"{}".to_vec()).await.expect("put");
    scenario.bucket.put(&hold_of(&old[2], "bbbb"), b"{}".to_vec()).await.expect("put");
    let there = async || {
        let keys = scenario.keys().await;
        old.iter().map(|id| keys.contains(&format!("{id}/{MANIFEST_FILE}"))).collect::<Vec<_>>()
    };
    // A run of the schedule knows no release, and leaves every hold. Two are kept in any case, and held ones are none of these.
    scenario.dump().await;
    assert_eq!(there().await, [true, true, true]);
    scenario.dump().await;
    assert_eq!(there().await, [false, true, true]);
    // A release that is no longer in the history holds nothing.
    let mut command = scenario.command();
    command.args([contract::ARG_HOLD, "cccc", contract::ARG_HELD, "aaaa"]);
    let made = scenario.run(command).await.complete();
    assert_eq!(there().await, [false, true, false]);
    assert!(holds(&scenario).await.contains(&held(&made, "cccc")));
}

#[tokio::test]
async fn a_backup_that_a_restore_is_about_to_use_stays_until_it_is_over() {
    let scenario = Scenario::new("spared-by-restore").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    let old = days_ago(500);
    scenario.put_backup(&old, Some(&scenario.owner())).await;
    let there = async || scenario.keys().await.contains(&format!("{old}/{MANIFEST_FILE}"));
    for _ in 0..3 {
        let mut command = scenario.command();
        // Whatever a user wrote as an id ends no backup.
        command.args([format!("{}={old}", contract::ARG_SPARE), format!("{}=-nonsense", contract::ARG_SPARE)]);
        scenario.run(command).await.complete();
        assert!(there().await);
    }
    scenario.dump().await;
    assert!(!there().await, "nobody needs it any more");
}

#[tokio::test]
async fn the_backup_of_another_owner_is_no_way_back() {
    let scenario = Scenario::new("foreign").await;
    scenario.sql("CREATE TABLE t (id int)").await;
    scenario.put_backup(&days_ago(0), Some("another/foreign")).await;
    let made = hold(&scenario, "aaaa", &[]).await;
    assert_eq!(holds(&scenario).await, [held(&made, "aaaa")].into());
    assert_eq!(made.shared_with.as_deref(), Some("another/foreign"));
}

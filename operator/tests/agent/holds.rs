//! The recovery point of a release: a good backup that is young enough or new, and no retention removes it.

use std::collections::BTreeSet;

use rorun_operator::contract::{
    self, DUMP_FILE, DumpRecord, MANIFEST_FILE, RestoreRefusal, RestoreStep, hold_file, use_file,
};
use serde_json::json;

use crate::gateway::{Gateway, Passed};
use crate::prunes::days_ago;
use crate::restores::Restore;
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

impl Scenario {
    /// The same point, as if it had been made long ago.
    async fn aged(&self, id: &str, days: i64) -> String {
        let old = days_ago(days);
        let dump = self.bucket.get(&self.dump_key(id)).await.expect("get").expect("a dump");
        let body =
            self.bucket.get(&format!("{}{id}/{MANIFEST_FILE}", self.prefix)).await.expect("get").expect("manifest");
        let body = String::from_utf8(body).expect("text").replace(id, &old);
        for (file, body) in [(DUMP_FILE, dump), (MANIFEST_FILE, body.into_bytes())] {
            self.bucket.put(&format!("{}{old}/{file}", self.prefix), body).await.expect("put");
        }
        old
    }

    async fn has(&self, id: &str, file: &str) -> bool {
        self.keys().await.contains(&format!("{id}/{file}"))
    }
}

/// The runs know nothing of the restore, as those of another stack whose folder it reads.
#[tokio::test]
async fn a_point_is_held_until_no_step_of_a_restore_reads_it_any_more() {
    let scenario = Scenario::new("held-by-restore").await;
    let old = scenario.aged(&scenario.point(3).await, 500).await;
    let restore = Restore::of(&scenario, &old);
    let held = async || scenario.has(&old, &use_file(&restore.uid)).await;
    assert!(restore.done(RestoreStep::Check).await.warnings.is_empty());
    assert!(held().await);
    for _ in 0..2 {
        scenario.dump().await;
        hold(&scenario, "aaaa", &[]).await;
    }
    assert!(held().await && scenario.has(&old, MANIFEST_FILE).await, "neither a schedule nor a release removes it");
    restore.done(RestoreStep::Copy).await;
    assert!(!held().await, "nothing reads it any more");
    // With Bucket in scope another step does.
    restore.run(RestoreStep::Copy, &[contract::ARG_SCOPE, "database", contract::ARG_SCOPE, "bucket"]).await.done();
    assert!(held().await);
    // The RorunRestore is deleted, and the hold has an end.
    let key = format!("{}{old}/{}", scenario.prefix, use_file(&restore.uid));
    let ended = json!({"restore": restore.uid, "until": "2026-01-01T00:00:00Z"});
    scenario.bucket.put(&key, ended.to_string().into_bytes()).await.expect("put");
    scenario.dump().await;
    assert!(!held().await && !scenario.has(&old, MANIFEST_FILE).await);
}

#[tokio::test]
async fn a_point_that_is_refused_or_cannot_be_written_to_is_not_held() {
    let scenario = Scenario::new("not-held").await;
    let point = scenario.point(3).await;
    let before = scenario.keys().await;
    let restore = Restore::of(&scenario, &point);
    let stranger = Restore::of(&scenario, &point).by("not_held", "").await;
    let (reason, message) = stranger.refused(RestoreStep::Copy, &[]).await;
    assert_eq!(reason, RestoreRefusal::RightsMissing, "{message}");
    let gone = Restore { point: days_ago(3), ..Restore::of(&scenario, &point) };
    assert_eq!(gone.refused(RestoreStep::Check, &[]).await.0, RestoreRefusal::PointNotFound);
    assert_eq!(scenario.keys().await, before);
    // A key that may only read restores all the same.
    let gateway = Gateway::start(scenario.servers.s3_port, |asked| {
        if asked.method == "PUT" { Passed::Answered(403, "AccessDenied") } else { Passed::On }
    })
    .await;
    let mut command = restore.command(RestoreStep::Copy, &[]);
    command.env(contract::ENV_S3_ENDPOINT, &gateway.endpoint);
    let result = restore.run_during(command, async |_| {}).await.done();
    let [warning] = result.warnings.as_slice() else { panic!("{result:?}") };
    assert!(warning.starts_with("not held against retention") && warning.contains("AccessDenied"), "{warning}");
    assert_eq!(result.rows, Some(3));
}

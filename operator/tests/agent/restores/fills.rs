//! A database that is there already and empty.

use rorun_operator::contract::{RestoreRefusal, RestoreStep};

use super::{ROWS, Restore};
use crate::process::{signal, until};
use crate::scenario::Scenario;

impl<'a> Restore<'a> {
    /// Into an empty database beside that of the scenario.
    async fn into_empty(scenario: &'a Scenario, point: &str, database: &str) -> Self {
        scenario.sql_in("postgres", &format!("CREATE DATABASE \"{database}\"")).await;
        let mut restore = Self::of(scenario, point);
        restore.url = scenario.servers.database_url(database);
        database.clone_into(&mut restore.database);
        restore
    }
}

#[tokio::test]
async fn an_empty_database_is_filled_once() {
    let scenario = Scenario::new("fill").await;
    scenario.sql("CREATE ROLE fill_owner; CREATE TABLE mine (a int); ALTER TABLE mine OWNER TO fill_owner").await;
    scenario.sql("GRANT SELECT ON mine TO fill_owner").await;
    let point = scenario.point(9).await;
    scenario.sql("DROP TABLE mine; DROP ROLE fill_owner").await;
    let restore = Restore::into_empty(&scenario, &point, "fill-into").await;
    let result = restore.done(RestoreStep::Fill).await;
    assert_eq!((result.rows, result.tables, result.warnings), (Some(9), Some(2), Vec::new()));
    let again = restore.done(RestoreStep::Fill).await;
    assert_eq!((again.rows, again.tables), (Some(9), Some(2)), "a second run finds it done");
    assert_eq!(scenario.sql_in("fill-into", ROWS).await, "9");
    // Another restore finds data, and so does one of a database that was never empty.
    let mut another = Restore::of(&scenario, &point);
    another.uid = "uid-fill-another".to_owned();
    another.url.clone_from(&restore.url);
    for restore in [another, Restore::of(&scenario, &point)] {
        let (reason, message) = restore.refused(RestoreStep::Fill, &[]).await;
        assert_eq!(reason, RestoreRefusal::DataFound, "{message}");
        assert!(message.contains("public.receipts"), "{message}");
    }
    assert_eq!(scenario.sql(ROWS).await, "9");
    // What was filled is not what a restore made beside: it is never dropped.
    let (reason, message) = restore.discard("fill-into").await.refused();
    assert_eq!(reason, RestoreRefusal::NotOfRestore, "{message}");
}

#[tokio::test]
async fn any_data_of_a_user_refuse_it() {
    let scenario = Scenario::new("fill-found").await;
    let point = scenario.point(1).await;
    let restore = Restore::into_empty(&scenario, &point, "fill-found-into").await;
    for (make, drop, words) in [
        ("CREATE TABLE empty ()", "DROP TABLE empty", "public.empty"),
        ("CREATE VIEW v AS SELECT 1", "DROP VIEW v", "public.v"),
        ("CREATE SEQUENCE s", "DROP SEQUENCE s", "public.s"),
        ("SELECT lo_create(4711)", "SELECT lo_unlink(4711)", "large object 4711"),
    ] {
        scenario.sql_in("fill-found-into", make).await;
        let (reason, message) = restore.refused(RestoreStep::Fill, &[]).await;
        assert!(reason == RestoreRefusal::DataFound && message.contains(words), "{message}");
        scenario.sql_in("fill-found-into", drop).await;
    }
    scenario.sql_in("fill-found-into", "CREATE EXTENSION pg_stat_statements").await;
    restore.done(RestoreStep::Fill).await;
}

#[tokio::test]
async fn a_kill_leaves_it_empty_and_a_second_run_fills_it() {
    let scenario = Scenario::new("fill-killed").await;
    scenario.fill(24).await;
    let point = scenario.dump().await.id;
    let restore = Restore::into_empty(&scenario, &point, "fill-killed-into").await;
    let mut child = restore.spawn(RestoreStep::Fill);
    until("half of the rows", async || {
        scenario.sql_in("postgres", "SELECT pg_database_size('fill-killed-into') > 16000000").await == "t"
    })
    .await;
    signal("KILL", child.id());
    child.wait().expect("killed");
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'fill-killed-into'";
    until("the sessions end", async || scenario.sql_in("postgres", sessions).await == "0").await;
    let tables = "SELECT count(*) FROM pg_class WHERE relname = 'filler'";
    assert_eq!(scenario.sql_in("fill-killed-into", tables).await, "0");
    restore.done(RestoreStep::Fill).await;
    let sum = "SELECT md5(string_agg(md5(data), '' ORDER BY n)) FROM filler";
    assert_eq!(scenario.sql_in("fill-killed-into", sum).await, scenario.sql(sum).await);
}

/// `pg_restore` could end before the checksum is known: the end of the dump is held back from it.
#[tokio::test]
async fn a_dump_with_a_wrong_checksum_leaves_it_empty() {
    let scenario = Scenario::new("fill-corrupt").await;
    scenario.fill(1).await;
    let point = scenario.point(7).await;
    scenario.change_manifest(&point, |manifest| manifest["objects"][0]["sha256"] = "0".repeat(64).into()).await;
    let restore = Restore::into_empty(&scenario, &point, "fill-corrupt-into").await;
    let (reason, message) = restore.refused(RestoreStep::Fill, &[]).await;
    assert_eq!(reason, RestoreRefusal::PointCorrupt, "{message}");
    let tables = "SELECT count(*) FROM pg_class WHERE relname IN ('receipts', 'filler')";
    assert_eq!(scenario.sql_in("fill-corrupt-into", tables).await, "0");
}

#[tokio::test]
async fn a_database_that_differs_from_the_manifest_is_told_each_time() {
    let scenario = Scenario::new("fill-differs").await;
    let point = scenario.point(7).await;
    scenario.change_manifest(&point, |manifest| manifest["contents"]["rows"]["public.receipts"] = 8.into()).await;
    let restore = Restore::into_empty(&scenario, &point, "fill-differs-into").await;
    for _ in 0..2 {
        let (reason, message) = restore.refused(RestoreStep::Fill, &[]).await;
        assert_eq!(reason, RestoreRefusal::CopyDiffers, "{message}");
        assert!(message.contains("public.receipts has 7 rows instead of 8"), "{message}");
    }
}

#[tokio::test]
async fn the_comment_of_an_extension_that_is_anothers_does_not_matter() {
    let scenario = Scenario::new("fill-extension").await;
    scenario.sql("CREATE EXTENSION pg_stat_statements").await;
    let point = scenario.point(8).await;
    let mut restore = Restore::of(&scenario, &point).by("fill_extension", "").await;
    scenario.sql_in("postgres", "CREATE DATABASE \"fill-extension-into\" OWNER fill_extension").await;
    scenario.sql_in("fill-extension-into", "CREATE EXTENSION pg_stat_statements").await;
    restore.url = restore.url.replace("/fill-extension?", "/fill-extension-into?");
    let result = restore.done(RestoreStep::Fill).await;
    assert_eq!(result.rows, Some(8));
    let [warning] = result.warnings.as_slice() else { panic!("{result:?}") };
    assert!(warning.starts_with("comments are not restored:"), "{warning}");
}

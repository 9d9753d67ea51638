//! Whether an archive reaches a moment, and the database of a Cluster that was recovered.

use rorun_operator::contract::{self, RestoreRefusal, RestoreStep};

use super::Restore;
use crate::scenario::Scenario;

const NOW: &str = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
/// Of no archive.
const POINT: &str = "20261124T021500Z-x7k2p";

async fn set(scenario: &Scenario, settings: &[&str]) {
    for setting in settings {
        scenario.sql_in("postgres", &format!("ALTER SYSTEM SET {setting}")).await;
    }
    scenario.sql_in("postgres", "SELECT pg_reload_conf()").await;
}

#[tokio::test]
async fn a_moment_is_reached_once_what_ended_after_it_is_archived() {
    let scenario = Scenario::new("moment").await;
    let owner = Restore::of(&scenario, POINT);
    let moment = scenario.sql(NOW).await;
    // By its own hand, on a database where nobody writes.
    owner.run(RestoreStep::Moment, &[contract::ARG_MOMENT, &moment]).await.done();
    let archived = format!("SELECT last_archived_time > '{moment}' FROM pg_stat_archiver");
    assert_eq!(scenario.sql(&archived).await, "t");
    // What is archived is not waited for, whatever becomes of the archive.
    set(&scenario, &["archive_command = 'false'"]).await;
    owner.run(RestoreStep::Moment, &[contract::ARG_MOMENT, &moment]).await.done();
    let later = [contract::ARG_MOMENT, "2099-01-01T00:00:00Z"];
    let (reason, message) = owner.refused(RestoreStep::Moment, &later).await;
    assert!(reason == RestoreRefusal::MomentOutOfReach && message.contains("still to come"), "{message}");

    // By a role that may not close a segment: nobody does.
    let role = Restore::of(&scenario, POINT).by("moment-role", "").await;
    let moment = scenario.sql(NOW).await;
    let (reason, message) = role.refused(RestoreStep::Moment, &[contract::ARG_MOMENT, &moment]).await;
    assert_eq!(reason, RestoreRefusal::MomentOutOfReach, "{message}");
    assert!(message.contains("is later than what is archived: the archive reaches until 20"), "{message}");
    // The server does, after a while.
    set(&scenario, &["archive_command = 'true'", "archive_timeout = '1s'"]).await;
    role.run(RestoreStep::Moment, &[contract::ARG_MOMENT, &moment]).await.done();
    set(&scenario, &["archive_timeout = 0"]).await;
}

#[tokio::test]
async fn the_database_of_another_cluster_is_read() {
    let scenario = Scenario::new("recovered").await;
    let restore = Restore::of(&scenario, POINT);
    let (reason, message) = restore.refused(RestoreStep::Recovered, &[]).await;
    assert!(reason == RestoreRefusal::CopyMissing && message.contains("is gone"), "{message}");
    let copy = scenario.servers.database_url("recovered-copy");
    scenario.sql_in("postgres", "CREATE DATABASE \"recovered-copy\"").await;
    scenario.sql_in("recovered-copy", "CREATE TABLE t AS SELECT generate_series(1, 7)").await;
    let read = || {
        let mut command = restore.command(RestoreStep::Recovered, &[]);
        command.env(contract::ENV_COPY_URL, &copy);
        command
    };
    let result = restore.run_during(read(), async |_| {}).await.done();
    assert_eq!((result.database.as_deref(), result.rows, result.tables), (Some("recovered-copy"), Some(7), Some(1)));
    scenario
        .sql_in(
            "recovered-copy",
            "CREATE INDEX broken ON t ((1)); UPDATE pg_index SET indisvalid = false WHERE \
         indexrelid = 'broken'::regclass",
        )
        .await;
    let (reason, message) = restore.run_during(read(), async |_| {}).await.refused();
    assert!(reason == RestoreRefusal::CopyDiffers && message.contains("broken"), "{message}");
}
